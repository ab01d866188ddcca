//! A real controller in this process, and agents that only pretend to run containers.

mod streams;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use controller::config::Config;
use controller::init::{Init, init};
use controller::run::{Controller, RunError};
use longshore_identity::key::KeyPair;
use longshore_identity::tls::{CertHolder, ServerTrust, connect};
use longshore_identity::{Token, TokenKind, tls};
use longshore_proto::agent::v1 as agent;
use longshore_proto::agent::v1::agent_service_client::AgentServiceClient;
use longshore_proto::agent::v1::enrollment_service_client::EnrollmentServiceClient;
use longshore_proto::control::v1 as pb;
use longshore_proto::control::v1::control_service_client::ControlServiceClient;
use longshore_proto::images::v1::image_service_client::ImageServiceClient;
use longshore_proto::spec::v1 as spec;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Longest wait for anything.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ca: String,
    pub(crate) url: String,
    pub(crate) controller: Arc<controller::cluster::Cluster>,
    pub(crate) channel: Channel,
    pub(crate) admin: ControlServiceClient<Channel>,
    pub(crate) images: ImageServiceClient<Channel>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), RunError>>,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::run(Self::init()).await
    }

    /// A cluster that nobody runs yet.
    pub(crate) fn init() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        init(&Init {
            data_dir: dir.path().join("data"),
            cluster: "lab".into(),
            listen: "127.0.0.1:0".into(),
            advertise: vec!["127.0.0.1".into()],
            context_out: dir.path().join("context.toml"),
            etcd: None,
        })
        .unwrap();
        dir
    }

    pub(crate) async fn run(dir: tempfile::TempDir) -> Self {
        Self::run_with(dir, patient()).await
    }

    pub(crate) async fn run_with(dir: tempfile::TempDir, config: Config) -> Self {
        let data = dir.path().join("data");
        // In one process the last calls of a stopped controller must end before the file is free.
        let opening = async {
            loop {
                match Controller::open(&data, config.clone()).await {
                    Err(error) if controller::chain(&error).contains("already open") => {
                        tokio::task::yield_now().await;
                    }
                    other => return other.unwrap(),
                }
            }
        };
        let opened = tokio::time::timeout(BOUND, opening)
            .await
            .expect("the store stays in use");
        let url = format!("https://127.0.0.1:{}", opened.address.port());
        let controller = Arc::clone(&opened.cluster);
        let stop = CancellationToken::new();
        let running = tokio::spawn(opened.run(stop.clone()));
        let file: toml::Table = std::fs::read_to_string(dir.path().join("context.toml"))
            .unwrap()
            .parse()
            .unwrap();
        let context = &file["context"]["lab"];
        let text = |key: &str| context[key].as_str().unwrap().to_owned();
        let certs = CertHolder::from_pem(&text("cert"), &text("key")).unwrap();
        let ca = text("ca");
        let channel = reach(&url, Some(certs), ServerTrust::Ca(ca.clone())).await;
        Self {
            dir,
            ca,
            url,
            controller,
            admin: ControlServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel.clone()),
            channel,
            stop,
            running,
        }
    }

    /// Stops in good order: the directory, and where it is.
    pub(crate) async fn stop(self) -> (tempfile::TempDir, PathBuf) {
        let Self {
            dir,
            stop,
            running,
            controller,
            admin,
            ..
        } = self;
        stop.cancel();
        running.await.unwrap().unwrap();
        drop((controller, admin));
        let path = dir.path().to_owned();
        (dir, path)
    }

    /// Stops in good order and starts again on the same directory.
    pub(crate) async fn restart(self) -> Self {
        Self::run(self.stop().await.0).await
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) async fn token(&self, worker: bool, edge: bool) -> String {
        let request = pb::CreateTokenRequest {
            worker,
            edge,
            ..Default::default()
        };
        self.admin
            .clone()
            .create_token(request)
            .await
            .unwrap()
            .into_inner()
            .token
    }

    /// Joins as the real agent does: trusting the token's digest only.
    pub(crate) async fn join(
        &self,
        token: &str,
        name: &str,
        worker: bool,
        edge: bool,
    ) -> Result<Arc<CertHolder>, Status> {
        let key = KeyPair::generate().unwrap();
        let csr = key.csr_der(name).unwrap();
        let chain = self.join_with(token, name, worker, edge, csr).await?;
        Ok(holder(&chain, &key))
    }

    pub(crate) async fn join_with(
        &self,
        token: &str,
        name: &str,
        worker: bool,
        edge: bool,
        csr_der: Vec<u8>,
    ) -> Result<agent::JoinResponse, Status> {
        let parsed = Token::parse(TokenKind::Join, token).unwrap();
        let channel = connect(&self.url, None, ServerTrust::Digest(parsed.ca))
            .await
            .map_err(|error| Status::new(Code::Unavailable, error.to_string()))?;
        let request = agent::JoinRequest {
            token: parsed.secret.to_string(),
            csr_der,
            node_name: name.into(),
            address: "127.0.0.1".into(),
            worker,
            edge,
            labels: Default::default(),
        };
        let joined = EnrollmentServiceClient::new(channel).join(request).await?;
        Ok(joined.into_inner())
    }

    pub(crate) async fn node(&self, name: &str, worker: bool, edge: bool) -> FakeAgent {
        let token = self.token(worker, edge).await;
        let certs = self.join(&token, name, worker, edge).await.unwrap();
        FakeAgent::start(self, name, certs, edge).await
    }

    /// Waits until `check` gives something, looking again whenever the controller says that
    /// something changed.
    pub(crate) async fn until<T, F: Future<Output = Result<T, String>>>(
        &self,
        what: &str,
        check: impl Fn(ControlServiceClient<Channel>) -> F,
    ) -> T {
        let mut watch = self
            .admin
            .clone()
            .watch(pb::WatchRequest {})
            .await
            .unwrap()
            .into_inner();
        let mut last = String::new();
        let waiting = async {
            loop {
                match check(self.admin.clone()).await {
                    Ok(value) => return value,
                    Err(state) => last = state,
                }
                watch.message().await.unwrap();
            }
        };
        let done = tokio::time::timeout(BOUND, waiting).await;
        done.unwrap_or_else(|_| panic!("{what}: not within {BOUND:?}; last: {last}"))
    }

    /// Waits until a service has this many serving replicas, and no others.
    pub(crate) async fn until_serving(&self, service: &'static str, count: u32) {
        self.until(&format!("{service} serving {count}"), async |mut admin| {
            let list = admin
                .list_services(pb::ListServicesRequest {})
                .await
                .unwrap()
                .into_inner();
            let found = list.services.into_iter().find(|s| s.name == service);
            let found = found.ok_or("no such service")?;
            let right = found.serving == count && found.planned == count && found.leaving == 0;
            if right {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
    }
}

/// A machine that stands still for seconds, as busy ones do, has not lost its nodes: what is
/// tested here is not when somebody is away.
pub(crate) fn patient() -> Config {
    let mut config = Config::default();
    let planner = &mut config.planner;
    planner.session_timeout_ms = 60_000;
    planner.edge_lease_ms = 60_000;
    planner.sample_stale_ms = 60_000;
    planner.edge_report_stale_ms = 60_000;
    // Nor how full its disk is.
    config.images.disk_free_percent_min = 0;
    config.store.ballast_mib = 0;
    config
}

/// Connects; a handshake that the machine was too busy for is tried again.
async fn reach(url: &str, certs: Option<Arc<CertHolder>>, trust: ServerTrust) -> Channel {
    let reaching = async {
        loop {
            match connect(url, certs.clone(), trust.clone()).await {
                Ok(channel) => return channel,
                Err(error) => eprintln!("{}", controller::chain(&error)),
            }
        }
    };
    let reached = tokio::time::timeout(BOUND, reaching).await;
    reached.unwrap_or_else(|_| panic!("{url}: not reached within {BOUND:?}"))
}

pub(crate) fn holder(joined: &agent::JoinResponse, key: &KeyPair) -> Arc<CertHolder> {
    let pem = joined
        .certificate_chain_der
        .iter()
        .map(|der| pem(der))
        .collect::<String>();
    CertHolder::from_pem(&pem, &key.pem()).unwrap()
}

pub(crate) fn pem(der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// What a fake agent was told last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) fence: Option<agent::Fence>,
    pub(crate) assignment: Option<agent::Assignment>,
    pub(crate) routes: Option<agent::Routes>,
    pub(crate) certificates: Option<agent::Certificates>,
    pub(crate) names: Option<agent::Names>,
    /// All of them, in their order; and how many there were before the last assignment.
    pub(crate) contents: Vec<agent::Contents>,
    pub(crate) contents_before: usize,
    /// Containers that it shall run once, each with the names that it knew then.
    pub(crate) runs: Vec<(agent::RunStream, Option<agent::Names>)>,
    pub(crate) streams_ended: usize,
    pub(crate) ended: Option<String>,
}

type Ails = Arc<std::sync::Mutex<Vec<String>>>;
type Says = Arc<std::sync::Mutex<Option<agent::CertificatesSeen>>>;

pub(crate) struct FakeAgent {
    pub(crate) certs: Arc<CertHolder>,
    pub(crate) told: watch::Receiver<Told>,
    /// What it says of certificates, as an edge, with its next reports.
    pub(crate) says: Says,
    /// What does not work on it, by its next reports.
    pub(crate) ails: Ails,
    task: tokio::task::JoinHandle<()>,
}

impl FakeAgent {
    pub(crate) async fn start(lab: &Lab, name: &str, certs: Arc<CertHolder>, edge: bool) -> Self {
        Self::resume(lab, name, certs, edge, &agent::Assignment::default()).await
    }

    /// One that was told this before, and runs it.
    pub(crate) async fn resume(
        lab: &Lab,
        name: &str,
        certs: Arc<CertHolder>,
        edge: bool,
        holds: &agent::Assignment,
    ) -> Self {
        let trust = ServerTrust::Ca(lab.ca.clone());
        let channel = reach(&lab.url, Some(Arc::clone(&certs)), trust).await;
        let (sender, told) = watch::channel(Told::default());
        let (says, ails) = (Says::default(), Ails::default());
        let heard = (Arc::clone(&says), Arc::clone(&ails));
        let hello = (name.to_owned(), holds.clone());
        let fake = serve(channel, sender, edge, hello, heard);
        let task = tokio::spawn(fake);
        Self {
            certs,
            told,
            says,
            ails,
            task,
        }
    }

    /// Cuts the connection.
    pub(crate) async fn kill(self) -> Arc<CertHolder> {
        self.task.abort();
        let _cancelled = self.task.await;
        self.certs
    }

    pub(crate) async fn until_told(
        &mut self,
        what: &str,
        check: impl FnMut(&Told) -> bool,
    ) -> Told {
        let waiting = async { self.told.wait_for(check).await.unwrap().clone() };
        if let Ok(told) = tokio::time::timeout(BOUND, waiting).await {
            return told;
        }
        panic!(
            "{what}: not told within {BOUND:?}; last: {:?}",
            self.told.borrow()
        );
    }
}

fn say(message: agent::session_request::Message) -> agent::SessionRequest {
    agent::SessionRequest {
        message: Some(message),
    }
}

struct Fake {
    told: watch::Sender<Told>,
    edge: bool,
    node: agent::NodeReport,
    routes: agent::EdgeReport,
    heard: (Says, Ails),
}

type Up = agent::session_request::Message;

async fn serve(
    channel: Channel,
    told: watch::Sender<Told>,
    edge: bool,
    (name, holds): (String, agent::Assignment),
    heard: (Says, Ails),
) {
    let (sender, requests) = mpsc::channel(64);
    let capacity = Some(agent::Capacity {
        cpu_milli: 4_000,
        memory_bytes: 8 << 30,
        os: "linux".into(),
        arch: "amd64".into(),
        volumes: Some(agent::VolumesHere {
            made_ms: [("left_data".to_owned(), 5)].into(),
        }),
        ..Default::default()
    });
    let hello = agent::Hello {
        capacity: capacity.clone(),
        boot_id: name,
        assignment_generation: holds.generation,
        peer_port: 7447,
        ..Default::default()
    };
    let engine = agent::EngineState::Ok.into();
    let node = agent::NodeReport {
        engine,
        capacity,
        assignment_generation: holds.generation,
        replicas: holds.replicas.iter().map(healthy).collect(),
        cpu_ratio: Some(0.1),
        advice: vec!["little disk".into()],
        // 1970, for doctor to find.
        time_ms: Some(1),
        ..Default::default()
    };
    sender.send(say(Up::Hello(hello))).await.unwrap();
    sender
        .send(say(Up::NodeReport(node.clone())))
        .await
        .unwrap();
    let mut client = AgentServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let mut fake = Fake {
        told,
        edge,
        node,
        routes: agent::EdgeReport::default(),
        heard,
    };
    let ended = async {
        let mut stream = client
            .session(ReceiverStream::new(requests))
            .await?
            .into_inner();
        while let Some(message) = stream.message().await? {
            for answer in message.message.map(|m| fake.react(m)).unwrap_or_default() {
                // If nobody listens any more, the session is over: its last word comes next.
                let _heard = sender.send(say(answer)).await;
            }
        }
        Ok::<(), Status>(())
    }
    .await;
    let why = match ended {
        Ok(()) => "ended".to_owned(),
        Err(status) => tls::explain(&status).unwrap_or_else(|| status.message().to_owned()),
    };
    fake.told.send_modify(|told| told.ended = Some(why));
}

impl Fake {
    fn react(&mut self, message: agent::session_response::Message) -> Vec<Up> {
        use agent::session_response::Message as Down;
        match message {
            Down::Welcome(welcome) => {
                self.told.send_modify(|told| told.fence = welcome.fence);
                Vec::new()
            }
            Down::Ping(ping) => {
                let echo = Up::Echo(agent::Echo { nonce: ping.nonce });
                self.routes.certificates = self.heard.0.lock().unwrap().clone();
                self.node.problems = self.heard.1.lock().unwrap().clone();
                let mut answers = vec![echo, Up::NodeReport(self.node.clone())];
                answers.extend(self.edge.then(|| Up::EdgeReport(self.routes.clone())));
                answers
            }
            Down::Assignment(assignment) => {
                self.node.assignment_generation = assignment.generation;
                let running = assignment.replicas.iter().filter(|r| !r.stop);
                self.node.replicas = running.map(healthy).collect();
                self.told.send_modify(|told| {
                    told.assignment = Some(assignment);
                    told.contents_before = told.contents.len();
                });
                vec![Up::NodeReport(self.node.clone())]
            }
            Down::Routes(routes) => {
                self.routes.routes_generation = routes.generation;
                self.routes.servers = servers(&routes);
                self.told.send_modify(|told| told.routes = Some(routes));
                vec![Up::EdgeReport(self.routes.clone())]
            }
            Down::Certificates(certificates) => {
                self.told
                    .send_modify(|told| told.certificates = Some(certificates));
                Vec::new()
            }
            Down::Contents(contents) => {
                self.told.send_modify(|told| told.contents.push(contents));
                Vec::new()
            }
            Down::OpenStream(open) => {
                if let Some(agent::open_stream::Kind::Run(run)) = &open.kind {
                    let names = self.told.borrow().names.clone();
                    let run = (agent::RunStream::clone(run), names);
                    self.told.send_modify(|told| told.runs.push(run));
                }
                streams::answer(&open)
            }
            Down::Names(names) => {
                self.told.send_modify(|told| told.names = Some(names));
                Vec::new()
            }
            Down::StreamEnd(_) => {
                self.told.send_modify(|told| told.streams_ended += 1);
                Vec::new()
            }
            Down::StreamData(_) | Down::StreamResize(_) => Vec::new(),
        }
    }
}

/// What a node says of a replica; those of services with these names are jobs that end at once.
fn healthy(replica: &agent::AssignedReplica) -> agent::ReplicaStatus {
    let (_, service) = replica.service.split_once('/').unwrap_or_default();
    let state = match service {
        "migrate" => agent::ReplicaState::Completed,
        "broken" => agent::ReplicaState::Failed,
        _ => agent::ReplicaState::Healthy,
    };
    agent::ReplicaStatus {
        replica_id: replica.replica_id,
        state: state.into(),
        container_id: format!("c{}", replica.replica_id),
        started_ago_ms: Some(10),
        healthy_ago_ms: Some(5),
        cpu_milli: Some(100.0),
        exposed_ports: vec![6379],
        ..Default::default()
    }
}

fn servers(routes: &agent::Routes) -> Vec<agent::ServerStatus> {
    let servers = routes.backends.iter().flat_map(|backend| {
        let servers = backend.servers.iter();
        servers.map(|s| (s.replica_id, (&backend.service, s)))
    });
    let unique: BTreeMap<u64, (&String, &agent::Server)> = servers.collect();
    let status = |(service, server): (&String, &agent::Server)| agent::ServerStatus {
        service: service.clone(),
        replica_id: server.replica_id,
        check: agent::CheckState::Up.into(),
        admin: match server.mode() {
            agent::ServerMode::Drain => agent::ServerAdmin::Drain,
            _ => agent::ServerAdmin::Ready,
        }
        .into(),
        ..Default::default()
    };
    unique.into_values().map(status).collect()
}

/// An app of one service with one route.
pub(crate) fn app(name: &str, service: &str, listen_port: u32, replicas: u32) -> pb::App {
    let container = spec::ContainerSpec {
        image: "hello:1".into(),
        pull_policy: spec::PullPolicy::Missing.into(),
        stop_grace_ms: 1_000,
        ports: vec![8080],
        resources: Some(spec::Resources::default()),
        privileges: Some(spec::Privileges::default()),
        ..Default::default()
    };
    let route = spec::RouteSpec {
        listen_port,
        container_port: 8080,
        mode: spec::RouteMode::Http.into(),
        balance: spec::Balance::Roundrobin.into(),
        ..Default::default()
    };
    let placement = spec::PlacementSpec {
        policy: spec::PlacementPolicy::Spread.into(),
        ..Default::default()
    };
    let update = spec::UpdateSpec {
        parallelism: 1,
        order: spec::UpdateOrder::StartFirst.into(),
        ..Default::default()
    };
    let service_spec = spec::ServiceSpec {
        container: Some(container),
        replicas,
        placement: Some(placement),
        update: Some(update),
        routes: vec![route],
        drain_ms: 1_000,
        ..Default::default()
    };
    pb::App {
        name: name.into(),
        services: [(service.to_owned(), service_spec)].into(),
    }
}
