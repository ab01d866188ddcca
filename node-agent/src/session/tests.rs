//! Enrolment and session against a controller in this process, over real TLS on loopback.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use longshore_identity::ca::ClusterCa;
use longshore_identity::tls::{
    AcceptLimits, CertHolder, PeerInfo, RENEW_FIRST, TrustHolder, accept, server_config,
};
use longshore_identity::{Identity, Token, TokenKind};
use longshore_model::plan::AssignedReplica;
use longshore_model::{Names, NodeId, ReplicaId, ReplicaState, node::Roles};
use longshore_proto::agent::v1 as pb;
use longshore_proto::agent::v1::agent_service_server::{AgentService, AgentServiceServer};
use longshore_proto::agent::v1::enrollment_service_server::{
    EnrollmentService, EnrollmentServiceServer,
};
use longshore_proto::agent::v1::session_request::Message as FromAgent;
use longshore_proto::agent::v1::session_response::Message as ToAgent;
use longshore_wire::{
    Fence, NodeReport, assignment_to_pb, certificates_to_pb, node_report_from_pb,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

mod commands;
mod contents;
mod joining;
mod late;
mod names;
mod runs;
mod said;
mod terminals;

use super::*;
use crate::identity::IdentityDir;
use crate::join::{JoinOptions, join, renew};
use crate::policy::Policy;
use crate::reconcile::{Core, Place, Reconciler};
use crate::runtime::fake::FakeRuntime;
use crate::sampler::Roots;
use crate::testing::{assignment, replica};

/// Longest wait for anything that must happen.
const SOON: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);

/// One session, seen from the controller.
struct Peer {
    requests: Streaming<pb::SessionRequest>,
    responses: mpsc::Sender<Result<pb::SessionResponse, Status>>,
}

struct FakeController {
    ca: Arc<ClusterCa>,
    secret: String,
    sessions: mpsc::Sender<Peer>,
    lates: Arc<Lates>,
}

/// What a controller makes of time.
#[derive(Default)]
struct Lates {
    /// Certificates that were renewed.
    renewed: AtomicUsize,
    /// Every certificate is over here until it is renewed.
    is_ahead: AtomicBool,
    /// It signs as if it were two days ago.
    is_behind: AtomicBool,
}

struct Cluster {
    endpoint: String,
    token: String,
    ca: Arc<ClusterCa>,
    trust: Arc<TrustHolder>,
    sessions: mpsc::Receiver<Peer>,
    lates: Arc<Lates>,
}

#[tonic::async_trait]
impl EnrollmentService for FakeController {
    async fn who_leads(
        &self,
        _: Request<pb::WhoLeadsRequest>,
    ) -> Result<Response<pb::WhoLeadsResponse>, Status> {
        Err(Status::unimplemented("as a controller of before"))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let request = request.into_inner();
        if request.token != self.secret {
            return Err(Status::unauthenticated(
                "the token is unknown, used or expired",
            ));
        }
        let node = NodeId::new(request.node_name).unwrap();
        let leaf = self.leaf(&request.csr_der, &node);
        Ok(Response::new(pb::JoinResponse {
            certificate_chain_der: vec![leaf],
            ca_der: vec![self.ca.cert_der().to_vec()],
            node_id: node.to_string(),
            cluster: "test".into(),
        }))
    }

    async fn join_operator(
        &self,
        _: Request<pb::JoinOperatorRequest>,
    ) -> Result<Response<pb::JoinOperatorResponse>, Status> {
        Err(Status::unimplemented("no agent asks for this"))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        let leaf = self.leaf(&request.into_inner().csr_der, &NodeId::new("w1").unwrap());
        self.lates.renewed.fetch_add(1, Ordering::SeqCst);
        self.lates.is_ahead.store(false, Ordering::SeqCst);
        let ca_der = vec![self.ca.cert_der().to_vec()];
        Ok(Response::new(pb::RenewResponse {
            certificate_chain_der: vec![leaf],
            ca_der,
        }))
    }
}

impl FakeController {
    fn leaf(&self, csr: &[u8], node: &NodeId) -> Vec<u8> {
        let behind = self.lates.is_behind.load(Ordering::SeqCst);
        let now = SystemTime::now() - if behind { 2 * DAY } else { Duration::ZERO };
        let (identity, roles) = (Identity::Node(node.clone()), Roles::default());
        let leaf = self.ca.issue_from_csr(csr, &identity, roles, &[], DAY, now);
        leaf.unwrap()
    }
}

#[tonic::async_trait]
impl AgentService for FakeController {
    type SessionStream = ReceiverStream<Result<pb::SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let late = request.extensions().get::<PeerInfo>().unwrap().late;
        if late.is_some() || self.lates.is_ahead.load(Ordering::SeqCst) {
            let mut status = Status::unauthenticated("it is over");
            let one = MetadataValue::from_static("1");
            status.metadata_mut().insert(RENEW_FIRST, one);
            return Err(status);
        }
        let (responses, receiver) = mpsc::channel(64);
        let peer = Peer {
            requests: request.into_inner(),
            responses,
        };
        self.sessions
            .send(peer)
            .await
            .map_err(|_| Status::permission_denied("go away"))?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

async fn cluster() -> Cluster {
    let ca = Arc::new(ClusterCa::create("test", SystemTime::now()).unwrap());
    let controller = Identity::Controller("c1".into());
    let names = ["127.0.0.1".to_owned()];
    let (cert, key) = ca
        .issue_new(&controller, &names, DAY, SystemTime::now())
        .unwrap();
    let certs = CertHolder::from_pem(&format!("{cert}{}", ca.cert_pem()), &key).unwrap();
    let trust = TrustHolder::new(ca.cert_pem(), HashSet::new()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let config = server_config(certs, Arc::clone(&trust)).unwrap();
    let incoming = accept(
        listener,
        config,
        Arc::clone(&trust),
        AcceptLimits::default(),
    );
    let token = Token::generate(TokenKind::Join, ca.digest()).unwrap();
    let (sender, sessions) = mpsc::channel(4);
    let lates = Arc::new(Lates::default());
    let fake = Arc::new(FakeController {
        ca: Arc::clone(&ca),
        secret: token.secret.to_string(),
        sessions: sender,
        lates: Arc::clone(&lates),
    });
    let server = tonic::transport::Server::builder()
        .add_service(EnrollmentServiceServer::from_arc(Arc::clone(&fake)))
        .add_service(AgentServiceServer::from_arc(fake));
    tokio::spawn(server.serve_with_incoming(incoming));
    Cluster {
        endpoint,
        token: token.to_string(),
        ca,
        trust,
        sessions,
        lates,
    }
}

fn options(cluster: &Cluster, dir: &Path) -> JoinOptions {
    JoinOptions {
        controller: cluster.endpoint.clone(),
        token: cluster.token.clone(),
        name: "w1".into(),
        address: "127.0.0.1".parse().unwrap(),
        roles: Roles {
            worker: true,
            edge: false,
        },
        labels: BTreeMap::new(),
        data_dir: dir.to_owned(),
    }
}

impl Cluster {
    async fn session(&mut self) -> Peer {
        timeout(SOON, self.sessions.recv())
            .await
            .expect("no session came")
            .unwrap()
    }
}

impl Peer {
    async fn send(&self, message: ToAgent) {
        let response = pb::SessionResponse {
            message: Some(message),
        };
        self.responses.send(Ok(response)).await.unwrap();
    }

    /// Hands over no certificates, as a leader of this term.
    async fn certify(&self, term: u64) {
        let fence = Fence {
            cluster_generation: 1,
            term,
        };
        let next = certificates_to_pb(&BTreeMap::new(), fence);
        let message = Some(ToAgent::Certificates(next));
        let message = Ok(pb::SessionResponse { message });
        self.responses.send(message).await.unwrap();
    }

    async fn assign(&self, term: u64, generation: u64, replicas: &[AssignedReplica]) {
        let fence = Fence {
            cluster_generation: 1,
            term,
        };
        let next = assignment_to_pb(&assignment(generation, replicas), fence);
        self.send(ToAgent::Assignment(next)).await;
    }

    /// The first message that `pick` takes.
    async fn until<T>(&mut self, what: &str, pick: impl Fn(FromAgent) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let message = self
                    .requests
                    .message()
                    .await
                    .unwrap()
                    .unwrap()
                    .message
                    .unwrap();
                seen.push(format!("{message:?}"));
                if let Some(value) = pick(message) {
                    return value;
                }
            }
        };
        let found = timeout(SOON, wait).await;
        found.unwrap_or_else(|_| panic!("no {what}; last: {:?}", seen.last()))
    }

    async fn welcome(&mut self) -> pb::Hello {
        let hello = self
            .until("hello", |message| match message {
                FromAgent::Hello(hello) => Some(hello),
                _ => None,
            })
            .await;
        let welcome = pb::Welcome {
            report_interval_ms: 200,
            ..pb::Welcome::default()
        };
        self.send(ToAgent::Welcome(welcome)).await;
        hello
    }

    async fn report(&mut self, what: &str, says: impl Fn(&NodeReport) -> bool) -> NodeReport {
        self.until(what, |message| match message {
            FromAgent::NodeReport(report) => node_report_from_pb(report).ok().filter(|r| says(r)),
            _ => None,
        })
        .await
    }
}

/// An agent with an engine in memory.
struct Agent {
    stop: CancellationToken,
    renewed: Arc<Notify>,
    runtime: Arc<FakeRuntime>,
    mesh: Arc<mesh::Mesh>,
    names: watch::Receiver<Arc<Names>>,
    contents: watch::Receiver<Arc<ContentMap>>,
    said: Said,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn start(dir: &Path, runtime: FakeRuntime) -> Agent {
    let identity = IdentityDir::new(dir).load().unwrap();
    let (ledger, damage) = Ledger::open(&dir.join("ledger.json")).unwrap();
    assert!(damage.is_none());
    let (ledger, runtime) = (Arc::new(ledger), Arc::new(runtime));
    let (clock, stop) = (AgentClock::start(), CancellationToken::new());
    let (assignments, receiver) = watch::channel(ledger.book().assignment);
    let (snapshots_out, snapshots) = watch::channel(Snapshot::default());
    let handle = names::handle(&identity);
    handle.tell(&ledger.book().names.unwrap_or_default());
    let mesh = Arc::clone(&handle.mesh);
    let names = handle.names.subscribe();
    let place = Place {
        cluster: "test".into(),
        node: identity.file.node.clone(),
        address: identity.file.address,
        policy: Policy::default(),
    };
    let (holds, held) = watch::channel(Arc::default());
    let contents = held.clone();
    let reconciler = Reconciler {
        runtime: Arc::clone(&runtime),
        core: Core::new(place, ledger.book().failed),
        clock,
        ledger: Arc::clone(&ledger),
        assignments: receiver,
        snapshots: snapshots_out,
        doors: Arc::default(),
        names: names.clone(),
        contents: held,
    };
    tokio::spawn(reconciler.run(stop.clone()));
    let renewed = Arc::new(Notify::new());
    let runner = Arc::new(Runner::new("test".into(), Policy::default()));
    let sweep = Arc::clone(&runner).sweep(Arc::clone(&runtime), stop.clone());
    tokio::spawn(sweep);
    let said = Said::new();
    let parts = SessionParts {
        identity,
        identity_dir: IdentityDir::new(dir),
        ledger,
        assignments: Some(assignments),
        routes: None,
        certificates: Some(watch::channel(Arc::default()).0),
        contents: Some(holds),
        names: Some(handle),
        runner: Some(Arc::clone(&runner)),
        snapshots,
        ahead: watch::channel(Vec::new()).1,
        edge_reports: watch::channel(EdgeReading::default()).1,
        proxy: Some(ProxyView::new(dir.join("haproxy.cfg")).0),
        runtime: Arc::clone(&runtime),
        engine: watch::channel(EngineInfo::default()).1,
        clock,
        renewed: Arc::clone(&renewed),
        said: said.clone(),
        sampler: Sampler::new(Roots::default()),
    };
    tokio::spawn(run(parts, stop.clone()));
    Agent {
        stop,
        renewed,
        runtime,
        mesh,
        names,
        contents,
        said,
    }
}

/// An agent in its session, of a node that has just joined.
async fn rig(runtime: FakeRuntime) -> (Agent, Peer, tempfile::TempDir, Cluster) {
    let (mut cluster, dir) = (cluster().await, tempfile::tempdir().unwrap());
    join(&options(&cluster, dir.path())).await.unwrap();
    let agent = start(dir.path(), runtime);
    let mut peer = cluster.session().await;
    peer.welcome().await;
    (agent, peer, dir, cluster)
}

/// The same, with one container that runs.
async fn with_container() -> (Agent, Peer, tempfile::TempDir, Cluster) {
    let (agent, mut peer, dir, cluster) = rig(FakeRuntime::with_images(&["hello:1"])).await;
    peer.assign(1, 1, &[portless(1)]).await;
    peer.report("container", |r| {
        r.replicas.iter().any(|r| r.container_id.is_some())
    })
    .await;
    (agent, peer, dir, cluster)
}

fn portless(id: u64) -> AssignedReplica {
    AssignedReplica {
        ports: Vec::new(),
        ..replica(id)
    }
}

#[tokio::test]
async fn an_assignment_becomes_containers_and_a_report() {
    let (mut cluster, dir) = (cluster().await, tempfile::tempdir().unwrap());
    join(&options(&cluster, dir.path())).await.unwrap();
    let _agent = start(dir.path(), FakeRuntime::with_images(&["hello:1"]));
    let mut peer = cluster.session().await;
    let hello = peer.welcome().await;
    assert_eq!(hello.fence, Some(pb::Fence::default()));
    peer.send(ToAgent::Ping(pb::Ping { nonce: 42 })).await;
    let echo = |message| match message {
        FromAgent::Echo(echo) => Some(echo.nonce),
        _ => None,
    };
    assert_eq!(peer.until("echo", echo).await, 42);
    peer.assign(3, 7, &[portless(1), portless(2)]).await;
    let report = peer
        .report("two healthy", |report| {
            let healthy = report
                .replicas
                .iter()
                .filter(|r| r.state == ReplicaState::Healthy);
            report.assignment_generation == 7 && healthy.count() == 2
        })
        .await;
    assert!(report.replicas[0].started_ago_ms.is_some() && report.capacity.cpu_milli > 0);
    peer.report("CPU of the host", |report| report.cpu_ratio.is_some())
        .await;
}

#[tokio::test]
async fn older_commands_are_refused_with_what_the_node_has() {
    let (_agent, mut peer, _dir, _cluster) = rig(FakeRuntime::with_images(&["hello:1"])).await;
    peer.assign(3, 7, &[portless(1)]).await;
    peer.report("healthy", |report| report.assignment_generation == 7)
        .await;
    let refused = |message| match message {
        FromAgent::Refused(refused) => Some(refused),
        _ => None,
    };
    for (term, generation, replicas) in [(2, 9, vec![]), (3, 6, vec![]), (3, 7, vec![])] {
        peer.assign(term, generation, &replicas).await;
        let refused = peer.until("refusal", refused).await;
        assert_eq!(
            refused.have,
            Some(pb::Fence {
                cluster_generation: 1,
                term: 3
            })
        );
        assert_eq!(refused.have_generation, 7, "{}", refused.why);
    }
    for term in [3, 2] {
        peer.certify(term).await;
    }
    // The second only.
    let refused = peer.until("refusal", refused).await;
    assert_eq!(refused.what, "certificates of term 2");
    peer.report("still there", |report| report.replicas.len() == 1)
        .await;
}

#[tokio::test]
async fn a_lost_session_is_dialled_again_and_the_ledger_speaks_after_a_restart() {
    let (agent, mut peer, dir, mut cluster) = rig(FakeRuntime::with_images(&["hello:1"])).await;
    peer.assign(3, 7, &[portless(1)]).await;
    peer.report("healthy", |report| report.assignment_generation == 7)
        .await;
    drop(peer);
    let mut peer = cluster.session().await;
    assert_eq!(peer.welcome().await.assignment_generation, 7);
    drop(agent);
    // Another process on the same disk, with the container still there.
    let runtime = FakeRuntime::with_images(&["hello:1"]);
    let container = runtime.put(1, crate::runtime::Condition::Running);
    let _agent = start(dir.path(), runtime);
    let mut peer = cluster.session().await;
    let hello = peer.welcome().await;
    assert_eq!(
        hello.fence,
        Some(pb::Fence {
            cluster_generation: 1,
            term: 3
        })
    );
    let report = peer.report("any", |_| true).await;
    assert_eq!(report.replicas[0].container_id, Some(container));
    assert_eq!(
        report.replicas[0].state,
        ReplicaState::Healthy,
        "adopted, never shown as starting"
    );
}

#[tokio::test]
async fn renewal_swaps_the_certificate_and_opens_the_new_session_first() {
    let (agent, old, dir, mut cluster) = rig(FakeRuntime::default()).await;
    let store = IdentityDir::new(dir.path());
    let identity = store.load().unwrap();
    let before = identity.certs.leaf_der();
    renew(&store, &identity).await.unwrap();
    assert_ne!(identity.certs.leaf_der(), before);
    assert_eq!(
        store.load().unwrap().certs.leaf_der(),
        identity.certs.leaf_der()
    );
    agent.renewed.notify_one();
    let mut new = cluster.session().await;
    old.send(ToAgent::Ping(pb::Ping { nonce: 1 })).await;
    new.welcome().await;
    new.report("the new session works", |_| true).await;
}

#[tokio::test]
async fn logs_and_commands_come_in_bounded_pieces_and_say_how_they_ended() {
    let (_agent, mut peer, _dir, _cluster) = with_container().await;
    let open = |stream_id, kind| {
        ToAgent::OpenStream(pb::OpenStream {
            stream_id,
            kind: Some(kind),
        })
    };
    let logs = |replica_id| {
        pb::open_stream::Kind::Logs(pb::LogStream {
            replica_id,
            ..pb::LogStream::default()
        })
    };
    let data = |message| match message {
        FromAgent::StreamData(data) => Some(data),
        _ => None,
    };
    let end = |message| match message {
        FromAgent::StreamEnd(end) => Some(end),
        _ => None,
    };
    peer.send(open(1, logs(1))).await;
    assert_eq!(
        peer.until("log", data).await.data,
        b"hello from the container\n"
    );
    assert_eq!(
        peer.until("end", end).await,
        pb::StreamEnd {
            stream_id: 1,
            ..Default::default()
        }
    );
    peer.send(open(2, logs(99))).await;
    assert!(
        peer.until("end", end)
            .await
            .error
            .contains(&ReplicaId(99).to_string())
    );
    let exec = pb::ExecStream {
        replica_id: 1,
        command: vec!["x".into()],
        ..Default::default()
    };
    peer.send(open(3, pb::open_stream::Kind::Exec(exec))).await;
    let mut bytes = 0;
    while bytes < 100_000 {
        let piece = peer.until("output", data).await;
        assert!(piece.data.len() <= 32 << 10 && piece.channel == pb::Channel::Stderr as i32);
        bytes += piece.data.len();
    }
    assert_eq!(peer.until("end", end).await.exit_code, Some(7));
}
