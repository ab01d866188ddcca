//! Several controllers of one cluster in etcd: real processes, a real etcd.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use longshore_etcd_host::{Cluster as Etcd, free_port, until};
use longshore_identity::tls::{CertHolder, ServerTrust};
use longshore_proto::agent::v1 as agent;
use longshore_proto::agent::v1::enrollment_service_client::EnrollmentServiceClient;
use longshore_proto::control::v1 as pb;
use longshore_proto::control::v1::control_service_client::ControlServiceClient;
use longshore_reach::{Reached, reach};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::app;

const PROGRAM: &str = env!("CARGO_BIN_EXE_controller");

/// Controllers of one cluster, each with a directory and a port of its own.
struct Site {
    dir: tempfile::TempDir,
    etcd: Etcd,
}

/// One of them.
struct One {
    name: String,
    url: String,
    data: PathBuf,
    config: PathBuf,
    process: Option<Child>,
}

impl Drop for One {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _gone = process.kill();
            let _ended = process.wait();
        }
    }
}

impl One {
    fn pid(&self) -> Pid {
        Pid::from_child(self.process.as_ref().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.data.with_extension("log")).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("run").arg("--data-dir").arg(&self.data);
        command.arg("--config").arg(&self.config);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    async fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        until("it ends", async || {
            process
                .try_wait()
                .unwrap()
                .ok_or_else(|| "it runs".to_owned())
        })
        .await
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{failed}");
    said
}

impl Site {
    async fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            etcd: Etcd::with(1, &[]).await,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// With settings of its own; nothing is made yet.
    fn one(&self, name: &str, in_etcd: bool) -> One {
        let listen = format!("127.0.0.1:{}", free_port());
        let mut text = format!("listen = \"{listen}\"\nadvertise = [\"127.0.0.1\"]\n");
        text += "[backup]\nevery_minutes = 0\n[store]\nballast_mib = 0\n";
        if in_etcd {
            text += &format!(
                "[store.etcd]\nendpoints = {:?}\nlease_s = 2\nname = \"{name}\"\n",
                self.etcd.urls()
            );
        }
        let config = self.path(&format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        One {
            name: name.into(),
            url: format!("https://{listen}"),
            data: self.path(name),
            config,
            process: None,
        }
    }

    fn init(&self, one: &One) {
        let listen = one.url.trim_start_matches("https://");
        run(Command::new(PROGRAM)
            .args(["init", "--cluster", "lab", "--advertise", "127.0.0.1"])
            .args(["--listen", listen])
            .arg("--data-dir")
            .arg(&one.data)
            .arg("--config")
            .arg(&one.config)
            .arg("--context-out")
            .arg(self.path("context.toml")));
    }

    /// A further controller, out of a copy.
    async fn join(&self, one: &One, leader: &One) {
        let mut admin = ControlServiceClient::new(self.reach(&[leader]).await.unwrap().channel);
        let mut pieces = admin
            .backup(pb::BackupRequest {})
            .await
            .unwrap()
            .into_inner();
        let mut copy = Vec::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            copy.extend(piece.data);
        }
        let file = self.path("copy.tar");
        std::fs::write(&file, copy).unwrap();
        run(Command::new(PROGRAM)
            .arg("join")
            .arg(&file)
            .arg("--data-dir")
            .arg(&one.data));
    }

    /// The leader, from the addresses of these.
    async fn reach(&self, from: &[&One]) -> Result<Reached, String> {
        let text = std::fs::read_to_string(self.path("context.toml")).unwrap();
        let file: toml::Table = text.parse().unwrap();
        let part = |key: &str| file["context"]["lab"][key].as_str().unwrap().to_owned();
        let certs = CertHolder::from_pem(&part("cert"), &part("key")).unwrap();
        let servers: Vec<String> = from.iter().map(|one| one.url.clone()).collect();
        let reached = reach(&servers, Some(&certs), &ServerTrust::Ca(part("ca"))).await;
        reached.map_err(|error| error.to_string())
    }

    /// Waits until `one` leads, whoever is asked.
    async fn until_leads(&self, one: &One, from: &[&One]) -> Reached {
        until(&format!("{} leads", one.name), async || {
            let reached = self.reach(from).await?;
            match reached.server == one.url {
                true => Ok(reached),
                false => Err(format!("{} leads; {}", reached.server, one.log())),
            }
        })
        .await
    }
}

async fn status(reached: &Reached) -> pb::GetStatusResponse {
    let mut admin = ControlServiceClient::new(reached.channel.clone());
    let status = admin.get_status(pb::GetStatusRequest {}).await;
    status.unwrap().into_inner()
}

async fn apply(reached: &Reached, name: &str, port: u32) {
    let request = pb::ApplyAppRequest {
        app: Some(app(name, "web", port, 1)),
        ..Default::default()
    };
    let mut admin = ControlServiceClient::new(reached.channel.clone());
    admin.apply_app(request).await.unwrap();
}

async fn services(reached: &Reached) -> Vec<String> {
    let mut admin = ControlServiceClient::new(reached.channel.clone());
    let listed = admin.list_services(pb::ListServicesRequest {}).await;
    let services = listed.unwrap().into_inner().services.into_iter();
    services.map(|service| service.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_controller_takes_over_from_one_that_is_killed_stopped_or_frozen() {
    let site = Site::new().await;
    let (mut one, mut two) = (site.one("one", true), site.one("two", true));
    site.init(&one);
    one.start();
    let led = site.until_leads(&one, &[&one]).await;
    let first = status(&led).await.term;
    apply(&led, "shop", 80).await;
    site.join(&two, &one).await;
    two.start();

    // Who stands by says who leads, and nothing else.
    let led = site.until_leads(&one, &[&two]).await;
    let (a, b) = (one.url.clone(), two.url.clone());
    until("both are known", async || {
        let known = site.reach(&[&two]).await?.controllers;
        let all = known.len() == 2 && known.contains(&a) && known.contains(&b);
        all.then_some(()).ok_or(format!("{known:?}"))
    })
    .await;
    drop(led);

    one.signal(Signal::KILL);
    one.ended().await;
    let led = site.until_leads(&two, &[&one, &two]).await;
    let second = status(&led).await.term;
    assert!(second > first, "term {second} after {first}");
    assert_eq!(services(&led).await, ["shop/web"]);
    apply(&led, "other", 81).await;

    // It stands by once it is back; a leader that is told to stop hands over.
    one.start();
    site.until_leads(&two, &[&one]).await;
    two.signal(Signal::TERM);
    assert_eq!(two.ended().await.code(), Some(0), "{}", two.log());
    let led = site.until_leads(&one, &[&two, &one]).await;
    assert_eq!(services(&led).await, ["other/web", "shop/web"]);

    // One that stood still finds out that it leads no more, and ends to be started again.
    two.start();
    site.until_leads(&one, &[&two]).await;
    one.signal(Signal::STOP);
    let led = site.until_leads(&two, &[&one, &two]).await;
    let third = status(&led).await.term;
    assert!(third > second);
    one.signal(Signal::CONT);
    assert_eq!(one.ended().await.code(), Some(70), "{}", one.log());
    assert!(one.log().contains("leads no more"), "{}", one.log());
    one.start();
    let led = site.until_leads(&two, &[&one]).await;
    assert_eq!(status(&led).await.term, third, "it goes on leading");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_by_refuses_calls_and_names_the_leader() {
    let site = Site::new().await;
    let (mut one, mut two) = (site.one("one", true), site.one("two", true));
    site.init(&one);
    one.start();
    site.until_leads(&one, &[&one]).await;
    site.join(&two, &one).await;
    two.start();
    site.until_leads(&one, &[&two]).await;
    let text = std::fs::read_to_string(site.path("context.toml")).unwrap();
    let file: toml::Table = text.parse().unwrap();
    let ca = file["context"]["lab"]["ca"].as_str().unwrap().to_owned();
    let trust = ServerTrust::Ca(ca);
    let channel = longshore_identity::tls::connect(&two.url, None, trust)
        .await
        .unwrap();
    let mut enroll = EnrollmentServiceClient::new(channel.clone());
    let refused = enroll
        .join(agent::JoinRequest::default())
        .await
        .unwrap_err();
    let wanted = format!("this controller stands by; {} leads", one.url);
    assert_eq!(refused.message(), wanted);
    let mut admin = ControlServiceClient::new(channel);
    let refused = admin.get_status(pb::GetStatusRequest {}).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::Unavailable, wanted.as_str())
    );
    // A second cluster has no room there.
    let third = site.one("third", true);
    let refused = Command::new(PROGRAM)
        .args(["init", "--advertise", "127.0.0.1", "--data-dir"])
        .arg(&third.data)
        .arg("--config")
        .arg(&third.config)
        .arg("--context-out")
        .arg(site.path("third.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("stop all controllers first"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_etcd_somebody_says_that_nobody_leads() {
    let site = Site::new().await;
    let mut one = site.one("one", true);
    site.init(&one);
    one.start();
    site.until_leads(&one, &[&one]).await;
    one.signal(Signal::TERM);
    one.ended().await;
    site.etcd.members[0].freeze();
    one.start();
    let said = until("it says so", async || match site.reach(&[&one]).await {
        Err(said) if said.contains("stands by") => Ok(said),
        other => Err(format!("{:?}; {}", other.map(|r| r.server), one.log())),
    })
    .await;
    assert!(said.ends_with("no controller leads just now"), "{said}");
    site.etcd.members[0].thaw();
    site.until_leads(&one, &[&one]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_moves_into_etcd_and_back() {
    let site = Site::new().await;
    let mut here = site.one("one", false);
    site.init(&here);
    here.start();
    let led = site.until_leads(&here, &[&here]).await;
    apply(&led, "shop", 80).await;
    let before = status(&led).await;
    here.signal(Signal::TERM);
    here.ended().await;
    // The same directory and port, with etcd in its settings.
    let plain = std::fs::read_to_string(&here.config).unwrap();
    let etcd = format!(
        "{plain}[store.etcd]\nendpoints = {:?}\nlease_s = 2\n",
        site.etcd.urls()
    );
    std::fs::write(&here.config, &etcd).unwrap();
    let migrate = |to: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(["migrate-store", "--to", to, "--data-dir"]);
        command.arg(&here.data).arg("--config").arg(&here.config);
        command
    };
    let said = run(&mut migrate("etcd"));
    assert!(said.contains("cluster generation 2"), "{said}");
    assert!(
        !here.data.join("store.redb").exists(),
        "it could be led by it"
    );
    let twice = migrate("etcd").output().unwrap();
    assert!(!twice.status.success());
    let config = here.config.clone();
    here.start();
    let led = site.until_leads(&here, &[&here]).await;
    assert_eq!(services(&led).await, ["shop/web"]);
    apply(&led, "other", 81).await;
    here.signal(Signal::TERM);
    here.ended().await;
    let mut command = Command::new(PROGRAM);
    command.args(["migrate-store", "--to", "embedded", "--data-dir"]);
    let said = run(command.arg(&here.data).arg("--config").arg(&config));
    assert!(said.contains("cluster generation 3"), "{said}");
    // Nobody leads by etcd any more.
    here.start();
    assert_ne!(here.ended().await.code(), Some(0));
    assert!(here.log().contains("holds no cluster"), "{}", here.log());
    std::fs::write(&here.config, plain).unwrap();
    here.start();
    let led = site.until_leads(&here, &[&here]).await;
    assert_eq!(services(&led).await, ["other/web", "shop/web"]);
    assert_eq!(status(&led).await.cluster, before.cluster);
}
