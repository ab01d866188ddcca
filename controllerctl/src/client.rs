//! The controller's API as this program uses it: every call bounded, every refusal explained.

mod credentials;
mod images;
mod operators;
mod secrets;
mod way;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use longshore_proto::control::v1 as pb;
use longshore_proto::images::v1::image_service_client::ImageServiceClient;
use longshore_proto::operators::v1::operator_service_client::OperatorServiceClient;
use longshore_proto::secrets::v1::secret_service_client::SecretServiceClient;
use pb::control_service_client::ControlServiceClient;
use tonic::{Code, Request, Status, Streaming};

use self::credentials::Credentials;
use self::way::Way;
use crate::context;
use crate::failure::{Exit, Failure};

/// A call that answers at once.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer: ten thousand replicas with room.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Even without a change, look again: ages move, and a stream can be silently dead.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Tries to come back to a controller that went away while we watch.
const RECONNECTS_MAX: usize = 12;

/// A connection.
#[derive(Clone)]
pub struct Client {
    inner: ControlServiceClient<Way>,
    images: ImageServiceClient<Way>,
    secrets: SecretServiceClient<Way>,
    operators: OperatorServiceClient<Way>,
    way: Way,
    /// Name of the context.
    pub context: String,
    /// Where the controller is that led when it was reached.
    pub server: String,
    /// Where all are, as it said; empty: there is but one.
    pub controllers: Vec<String>,
}

/// Connects as the context says. `server` overrides its address.
///
/// # Errors
/// A [`Failure`] that says why, after all servers of the context were tried.
pub async fn connect(name: Option<&str>, server: Option<&str>) -> Result<Client, Failure> {
    let path = context::path();
    context::close_to_others(&path);
    let contexts = context::read_or_empty(&path)?;
    let (context, picked) = credentials::pick(&contexts, name, server)?;
    let credentials = Credentials::of(&context, &picked).await?;
    let servers = match server {
        Some(server) => vec![server.to_owned()],
        None => picked.servers,
    };
    if servers.is_empty() {
        return Err(Failure::new(format!("context {context:?} names no server")).exit(Exit::Usage));
    }
    let (way, reached) = Way::find(servers, credentials).await?;
    if server.is_none() {
        context::learn(&path, &context, &reached.controllers);
    }
    let images = ImageServiceClient::new(way.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
    let secrets = SecretServiceClient::new(way.clone());
    let operators = OperatorServiceClient::new(way.clone());
    let inner = ControlServiceClient::new(way.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
    Ok(Client {
        inner,
        images,
        secrets,
        operators,
        way,
        context,
        server: reached.server,
        controllers: reached.controllers,
    })
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $rpc:ident($request:ident) -> $answer:ty, $attempt:literal;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// The refusal or the failed connection, in words.
                pub async fn $name(&mut self, message: pb::$request) -> Result<$answer, Failure> {
                    let mut request = Request::new(message);
                    request.set_timeout(CALL_TIMEOUT);
                    let call = self.inner.$rpc(request);
                    let answer = bounded(call).await.map_err(|s| Failure::call($attempt, s))?;
                    Ok(answer.into_inner())
                }
            )*
        }
    };
}

/// Is it the answer of a controller that does not know the call?
fn is_unknown(status: &Status) -> bool {
    status.code() == Code::Unimplemented
        || status.code() == Code::PermissionDenied
            && status.message().ends_with("nobody may call this")
}

async fn bounded<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::unavailable(format!(
            "no answer within {} s",
            CALL_TIMEOUT.as_secs()
        ))),
    }
}

calls! {
    /// The cluster at a glance.
    status = get_status(GetStatusRequest) -> pb::GetStatusResponse, "read the status";
    /// Replicas of some or all services.
    replicas = list_replicas(ListReplicasRequest) -> pb::ListReplicasResponse, "list replicas";
    /// The recorded reasoning.
    why = why(WhyRequest) -> pb::WhyResponse, "explain";
    /// What an apply would change.
    plan_app = plan_app(PlanAppRequest) -> pb::PlanAppResponse, "plan";
    /// Applies an app.
    apply_app = apply_app(ApplyAppRequest) -> pb::ApplyAppResponse, "apply";
    /// Takes an app down.
    down_app = down_app(DownAppRequest) -> pb::DownAppResponse, "take down";
    /// Sets a count.
    scale = scale(ScaleRequest) -> pb::ScaleResponse, "scale";
    /// Rollouts of some or all services.
    list_rollouts = list_rollouts(ListRolloutsRequest) -> pb::ListRolloutsResponse, "list rollouts";
    /// Past revisions of a service.
    rollout_history = rollout_history(RolloutHistoryRequest) -> pb::RolloutHistoryResponse, "read the history";
    /// Back to an older revision.
    undo_rollout = undo_rollout(UndoRolloutRequest) -> pb::UndoRolloutResponse, "undo";
    /// No further batch.
    pause_rollout = pause_rollout(PauseRolloutRequest) -> pb::PauseRolloutResponse, "pause the rollout";
    /// Goes on.
    resume_rollout = resume_rollout(ResumeRolloutRequest) -> pb::ResumeRolloutResponse, "resume the rollout";
    /// The same again.
    restart_services = restart_services(RestartServicesRequest) -> pb::RestartServicesResponse, "restart";
    /// Cordons, drains, takes back.
    set_availability = set_node_availability(SetNodeAvailabilityRequest) -> pb::SetNodeAvailabilityResponse, "change the node";
    /// Keeps replicas out of the routes, or lets them back.
    set_replica_traffic = set_replica_traffic(SetReplicaTrafficRequest) -> pb::SetReplicaTrafficResponse, "change the routes";
    /// Sets and removes labels.
    set_labels = set_node_labels(SetNodeLabelsRequest) -> pb::SetNodeLabelsResponse, "label the node";
    /// Removes a node.
    remove_node = remove_node(RemoveNodeRequest) -> pb::RemoveNodeResponse, "remove the node";
    /// Makes a join token.
    create_token = create_token(CreateTokenRequest) -> pb::CreateTokenResponse, "create a token";
    /// Join tokens, without their secrets.
    list_tokens = list_tokens(ListTokensRequest) -> pb::ListTokensResponse, "list tokens";
    /// Secrets, configs and certificates, without their contents.
    list_secrets = list_secrets(ListSecretsRequest) -> pb::ListSecretsResponse, "list secrets";
    /// What takes room, and volumes.
    disk_use = disk_use(DiskUseRequest) -> pb::DiskUseResponse, "ask what takes room";
    /// Removes a volume on a node.
    remove_volume = remove_volume(RemoveVolumeRequest) -> pb::RemoveVolumeResponse, "remove the volume";
    /// Takes a join token back.
    revoke_token = revoke_token(RevokeTokenRequest) -> pb::RevokeTokenResponse, "revoke the token";
    /// Recorded decisions.
    list_decisions = list_decisions(ListDecisionsRequest) -> pb::ListDecisionsResponse, "read decisions";
    /// How services scale.
    list_autoscale = list_autoscale(ListAutoscaleRequest) -> pb::ListAutoscaleResponse, "read autoscalers";
    /// Replays a recorded load.
    simulate_autoscale = simulate_autoscale(SimulateAutoscaleRequest) -> pb::SimulateAutoscaleResponse, "simulate the autoscaler";
    /// Tells an autoscaler something.
    set_autoscale = set_autoscale(SetAutoscaleRequest) -> pb::SetAutoscaleResponse, "tell the autoscaler";
    /// Logs; ends by itself unless it follows.
    logs = logs(LogsRequest) -> Streaming<pb::LogsResponse>, "read logs";
    /// What a node's agent said; ends by itself unless it follows.
    node_logs = node_logs(NodeLogsRequest) -> Streaming<pb::NodeLogsResponse>, "read the node's log";
    /// What an edge's HAProxy is loaded with.
    proxy_config = proxy_config(ProxyConfigRequest) -> Streaming<pb::ProxyConfigResponse>, "read the edge's configuration";
    /// A copy of the whole cluster.
    backup = backup(BackupRequest) -> Streaming<pb::BackupResponse>, "copy the cluster";
    /// Backups that the controller made by itself.
    list_backups = list_backups(ListBackupsRequest) -> pb::ListBackupsResponse, "list backups";
    /// Events; ends by itself unless it follows.
    events = events(EventsRequest) -> Streaming<pb::EventsResponse>, "read events";
}

impl Client {
    /// All nodes, by name.
    ///
    /// # Errors
    /// The refusal or the failed connection, in words.
    pub async fn nodes(&mut self) -> Result<Vec<pb::Node>, Failure> {
        let call = self.inner.list_nodes(pb::ListNodesRequest {});
        let answer = bounded(call)
            .await
            .map_err(|s| Failure::call("list nodes", s))?;
        Ok(answer.into_inner().nodes)
    }

    /// All services, by app and name.
    ///
    /// # Errors
    /// The refusal or the failed connection, in words.
    pub async fn services(&mut self) -> Result<Vec<pb::Service>, Failure> {
        let call = self.inner.list_services(pb::ListServicesRequest {});
        let answer = bounded(call)
            .await
            .map_err(|s| Failure::call("list services", s))?;
        Ok(answer.into_inner().services)
    }

    /// What counts and restarts would come to; none: the controller is an older one.
    ///
    /// # Errors
    /// The refusal or the failed connection, in words.
    pub async fn plan_services(
        &mut self,
        request: pb::PlanServicesRequest,
    ) -> Result<Option<Vec<pb::AppPlan>>, Failure> {
        match bounded(self.inner.plan_services(request)).await {
            Ok(answer) => Ok(Some(answer.into_inner().apps)),
            Err(status) if is_unknown(&status) => Ok(None),
            Err(status) => Err(Failure::call("plan", status)),
        }
    }

    /// Runs a command in a replica. Only its beginning is bounded in time.
    ///
    /// # Errors
    /// The refusal or the failed connection, in words.
    pub async fn exec(
        &mut self,
        input: impl tokio_stream::Stream<Item = pb::ExecRequest> + Send + 'static,
    ) -> Result<Streaming<pb::ExecResponse>, Failure> {
        let call = self.inner.exec(Request::new(input));
        let answer = bounded(call)
            .await
            .map_err(|s| Failure::call("run the command", s))?;
        Ok(answer.into_inner())
    }

    /// Starts to watch.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes {
            client: self.clone(),
            stream: None,
            patience: Patience::default(),
        }
    }
}

/// Tells when to look again. Survives a controller that restarts.
pub struct Changes {
    client: Client,
    stream: Option<Streaming<pb::WatchResponse>>,
    patience: Patience,
}

impl Changes {
    /// Ends when something changed, or some seconds went by.
    ///
    /// # Errors
    /// If the controller stays away for about a minute.
    pub async fn next(&mut self) -> Result<(), Failure> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let call = self.client.inner.watch(pb::WatchRequest {});
                match bounded(call).await {
                    Ok(answer) => self.stream.insert(answer.into_inner()),
                    Err(status) => return self.pause(Failure::call("watch", status)).await,
                }
            }
        };
        match tokio::time::timeout(LOOK_AGAIN, stream.message()).await {
            Err(_) => Ok(()),
            Ok(Ok(Some(_))) => {
                self.patience.reset();
                Ok(())
            }
            Ok(Ok(None)) => {
                self.pause(
                    Failure::new("the controller went away")
                        .exit(Exit::Unreachable)
                        .transient(),
                )
                .await
            }
            Ok(Err(status)) => self.pause(Failure::call("watch", status)).await,
        }
    }

    /// Waits a little before the next try, or gives up. For calls between two changes, too.
    ///
    /// # Errors
    /// `failure`, once too often or if no later try can help.
    pub async fn pause(&mut self, failure: Failure) -> Result<(), Failure> {
        self.stream = None;
        self.patience.wait(failure).await?;
        self.client.way.find_again().await;
        Ok(())
    }
}

/// Waits between tries to come back to a controller that is away.
#[derive(Default)]
pub struct Patience(Option<backon::ExponentialBackoff>);

impl Patience {
    /// Nothing failed since it was last well.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.0.is_none()
    }

    /// It answers again.
    pub fn reset(&mut self) {
        self.0 = None;
    }

    /// Waits a little before the next try, or gives up after about a minute.
    ///
    /// # Errors
    /// `failure`, once too often or if no later try can help.
    pub async fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        if !failure.transient {
            return Err(failure);
        }
        let backoff = self.0.get_or_insert_with(|| {
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(200))
                .with_max_delay(Duration::from_secs(5))
                .with_max_times(RECONNECTS_MAX)
                .with_jitter()
                .build()
        });
        match backoff.next() {
            Some(delay) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            None => Err(failure),
        }
    }
}
