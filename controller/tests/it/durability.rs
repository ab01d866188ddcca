//! The controller is killed while clients change things (C1, G5 of the reliability goals): what was acknowledged is there, once; what
//! was not is there whole, or not at all. `LONGSHORE_KILLS=1000` kills more often (`make durability`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use longshore_etcd_host::free_port;
use longshore_identity::tls::{CertHolder, ServerTrust, connect};
use longshore_proto::control::v1 as pb;
use longshore_proto::control::v1::control_service_client::ControlServiceClient;
use longshore_proto::secrets::v1 as secrets;
use longshore_proto::secrets::v1::secret_service_client::SecretServiceClient;
use tonic::transport::Channel;

use crate::support::BOUND;

const PROGRAM: &str = env!("CARGO_BIN_EXE_controller");
/// Clients that change things at the same time.
const CLIENTS: u64 = 3;
/// The kill comes within so long after the first change, chosen anew each time.
const KILL_WITHIN_MS: u64 = 120;

/// A data directory, and whoever runs it.
struct Site {
    dir: tempfile::TempDir,
    url: String,
    process: Option<Child>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        std::fs::write(dir.path().join("c.toml"), "[backup]\nevery_minutes = 0\n").unwrap();
        let made = Command::new(PROGRAM)
            .args([
                "init",
                "--cluster",
                "lab",
                "--advertise",
                "127.0.0.1",
                "--listen",
                &listen,
            ])
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .arg("--context-out")
            .arg(dir.path().join("context.toml"))
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        Self {
            dir,
            url: format!("https://{listen}"),
            process: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _gone = process.kill();
            let _ended = process.wait();
        }
    }

    /// Starts it; how long until it answered.
    async fn start(&mut self) -> (Channel, Duration) {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let began = Instant::now();
        let process = Command::new(PROGRAM)
            .arg("run")
            .arg("--data-dir")
            .arg(self.path("data"))
            .arg("--config")
            .arg(self.path("c.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(process.unwrap());
        let (certs, trust) = credentials(&self.path("context.toml"));
        let answered = tokio::time::timeout(BOUND, async {
            loop {
                let connected = connect(&self.url, Some(certs.clone()), trust.clone()).await;
                if let Ok(channel) = connected {
                    let mut admin = ControlServiceClient::new(channel.clone());
                    let status = admin.get_status(pb::GetStatusRequest {}).await;
                    if status.is_ok() {
                        return channel;
                    }
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let Ok(channel) = answered.await else {
            panic!("it does not come up: {}", log());
        };
        (channel, began.elapsed())
    }
}

fn credentials(context: &Path) -> (std::sync::Arc<CertHolder>, ServerTrust) {
    let file: toml::Table = std::fs::read_to_string(context).unwrap().parse().unwrap();
    let part = |key: &str| file["context"]["lab"][key].as_str().unwrap().to_owned();
    let certs = CertHolder::from_pem(&part("cert"), &part("key")).unwrap();
    (certs, ServerTrust::Ca(part("ca")))
}

/// What became of the changes of a round.
#[derive(Default)]
struct Ledger {
    acked: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

/// Keeps secrets of names that nobody used before, until the connection breaks.
async fn change(channel: Channel, prefix: String) -> Ledger {
    let mut client = SecretServiceClient::new(channel);
    let mut ledger = Ledger::default();
    for number in 0..100 {
        let name = format!("{prefix}-{number}");
        let request = secrets::PutSecretRequest {
            contents: name.clone().into_bytes(),
            name: name.clone(),
            replace: false,
        };
        if client.put_secret(request).await.is_err() {
            ledger.unknown.insert(name);
            break;
        }
        ledger.acked.insert(name);
    }
    ledger
}

/// Compares, and removes what is there.
async fn judge(channel: Channel, ledger: &Ledger, wrong: &mut Vec<String>) {
    let mut admin = ControlServiceClient::new(channel.clone());
    let listed = admin.list_secrets(pb::ListSecretsRequest::default()).await;
    let listed = listed.unwrap().into_inner().secrets.into_iter();
    let there: BTreeSet<String> = listed.map(|secret| secret.name).collect();
    let lost = ledger.acked.difference(&there);
    wrong.extend(lost.map(|name| format!("{name} was acknowledged and is lost")));
    let known: BTreeSet<_> = ledger.acked.union(&ledger.unknown).cloned().collect();
    let strange = there.difference(&known);
    wrong.extend(strange.map(|name| format!("{name} was made by nobody")));
    let request = pb::EventsRequest {
        types: vec!["secret_kept".into()],
        tail: 2_000,
        ..Default::default()
    };
    let mut events = admin.events(request).await.unwrap().into_inner();
    let mut made: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(event) = events.message().await.unwrap() {
        let detail = event.detail.unwrap_or_default().fields;
        let text = |key: &str| match detail.get(key).and_then(|value| value.kind.clone()) {
            Some(prost_types::value::Kind::StringValue(text)) => text,
            _ => String::new(),
        };
        if text("act") == "created" {
            *made.entry(text("name")).or_default() += 1;
        }
    }
    for name in &known {
        let (times, is_there) = (made.get(name).copied().unwrap_or(0), there.contains(name));
        if times != usize::from(is_there) {
            wrong.push(format!(
                "{name}: there {is_there}, by the events made {times} times"
            ));
        }
    }
    let mut client = SecretServiceClient::new(channel);
    for name in there {
        let request = secrets::RemoveSecretRequest { name };
        client.remove_secret(request).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_controller_loses_nothing_that_it_acknowledged() {
    let kills: u64 = std::env::var("LONGSHORE_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4);
    let mut site = Site::new();
    let (mut ups, mut wrong, mut acked) = (Vec::new(), Vec::new(), 0);
    let (mut channel, _) = site.start().await;
    for round in 0..kills {
        let clients = (0..CLIENTS)
            .map(|client| tokio::spawn(change(channel.clone(), format!("r{round}-{client}"))));
        let clients: Vec<_> = clients.collect();
        let pause = getrandom::u64().unwrap() % KILL_WITHIN_MS;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        site.kill();
        let mut ledger = Ledger::default();
        for client in clients {
            let done = client.await.unwrap();
            ledger.acked.extend(done.acked);
            ledger.unknown.extend(done.unknown);
        }
        let (next, up) = site.start().await;
        channel = next;
        acked += ledger.acked.len();
        ups.push(up);
        judge(channel.clone(), &ledger, &mut wrong).await;
    }
    ups.sort();
    let at = |part: f64| ups[((ups.len() - 1) as f64 * part) as usize].as_millis();
    println!(
        "{kills} kills, {acked} changes acknowledged: {} wrong; up again after {} ms (median), {} ms (99 of 100), {} ms",
        wrong.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}
