//! `ControlService`: each call is checked, asks the cluster, and is converted once.

mod apply;
mod aside;
mod asked;
mod autoscale;
mod backup;
mod beforehand;
mod certificates;
mod comings;
mod decisions;
mod differences;
mod disk;
mod events;
mod exec;
pub(super) mod external;
mod files;
mod find;
mod forecast;
mod held;
mod images;
mod jobs;
mod leavers;
mod lists;
mod logs;
mod metrics;
mod node_logs;
mod nodes;
mod parts;
mod proxy;
mod rollout;
mod run;
mod scale;
mod secrets;
mod secrets_listed;
mod tokens;
mod why;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use longshore_model::spec::LABEL_BYTES_MAX;
use longshore_proto::control::v1 as pb;
use longshore_proto::control::v1::control_service_server::ControlService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{auth, blocking, quoted};
use crate::cluster::Cluster;

/// Least time between two messages of `Watch`.
const WATCH_GAP: Duration = Duration::from_millis(100);

pub(super) use self::find::offer;
pub(super) use self::tokens::in_words;

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// See the module.
pub(super) struct Control {
    cluster: Arc<Cluster>,
}

impl Control {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }
}

/// Labels of nodes: bounded, and of bytes that constraints can name.
pub(super) fn check_labels(labels: &BTreeMap<String, String>, max: usize) -> Result<(), Status> {
    if labels.len() > max {
        return Err(Status::invalid_argument(format!(
            "at most {max} labels are allowed"
        )));
    }
    for (key, value) in labels {
        let word = |text: &str| {
            text.len() <= LABEL_BYTES_MAX
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-/:".contains(&b))
        };
        if key.is_empty() || !word(key) || !word(value) {
            return Err(Status::invalid_argument(format!(
                "label {}={}: letters, digits and ._-/: only, at most {LABEL_BYTES_MAX} bytes each",
                quoted(key),
                quoted(value)
            )));
        }
        if key.starts_with("longshore.") {
            return Err(Status::invalid_argument(format!(
                "label {}: longshore.* is kept for the system; choose another prefix",
                quoted(key)
            )));
        }
    }
    Ok(())
}

#[tonic::async_trait]
impl ControlService for Control {
    async fn get_status(
        &self,
        _: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        Ok(Response::new(lists::status(&self.cluster)))
    }

    async fn list_nodes(
        &self,
        _: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        Ok(Response::new(pb::ListNodesResponse {
            nodes: lists::nodes(&self.cluster),
        }))
    }

    async fn list_services(
        &self,
        _: Request<pb::ListServicesRequest>,
    ) -> Result<Response<pb::ListServicesResponse>, Status> {
        Ok(Response::new(pb::ListServicesResponse {
            services: lists::services(&self.cluster),
        }))
    }

    async fn list_replicas(
        &self,
        request: Request<pb::ListReplicasRequest>,
    ) -> Result<Response<pb::ListReplicasResponse>, Status> {
        let services = request.into_inner().services;
        Ok(Response::new(pb::ListReplicasResponse {
            replicas: lists::replicas(&self.cluster, &services)?,
        }))
    }

    type WatchStream = Out<pb::WatchResponse>;

    async fn watch(
        &self,
        _: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let cluster = Arc::clone(&self.cluster);
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut last = None;
            while !sender.is_closed() && !cluster.stopping.is_cancelled() {
                let view = cluster.view();
                let now = (
                    view.plan.version,
                    cluster.fleet.changes(),
                    view.problem.clone(),
                );
                if last.as_ref() != Some(&now) {
                    let (plan_version, time_ms) = (view.plan.version, cluster.now_ms());
                    if sender
                        .send(Ok(pb::WatchResponse {
                            plan_version,
                            time_ms,
                        }))
                        .await
                        .is_err()
                    {
                        return;
                    }
                    last = Some(now);
                }
                tokio::time::sleep(WATCH_GAP).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type EventsStream = Out<pb::EventsResponse>;

    async fn events(
        &self,
        request: Request<pb::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let stream = events::events(Arc::clone(&self.cluster), request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn why(
        &self,
        request: Request<pb::WhyRequest>,
    ) -> Result<Response<pb::WhyResponse>, Status> {
        let (cluster, request) = (Arc::clone(&self.cluster), request.into_inner());
        blocking(move || why::why(&cluster, &request))
            .await
            .map(Response::new)
    }

    async fn list_decisions(
        &self,
        request: Request<pb::ListDecisionsRequest>,
    ) -> Result<Response<pb::ListDecisionsResponse>, Status> {
        let (cluster, request) = (Arc::clone(&self.cluster), request.into_inner());
        blocking(move || decisions::list(&cluster, &request))
            .await
            .map(Response::new)
    }

    async fn list_autoscale(
        &self,
        request: Request<pb::ListAutoscaleRequest>,
    ) -> Result<Response<pb::ListAutoscaleResponse>, Status> {
        autoscale::list(&self.cluster, &request.into_inner().services).map(Response::new)
    }

    async fn set_autoscale(
        &self,
        request: Request<pb::SetAutoscaleRequest>,
    ) -> Result<Response<pb::SetAutoscaleResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let key = blocking(move || autoscale::set(&cluster, &request, &by)).await?;
        self.cluster.planned().await;
        Ok(Response::new(autoscale::after(&self.cluster, &key)))
    }

    type LogsStream = Out<pb::LogsResponse>;

    async fn logs(
        &self,
        request: Request<pb::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let stream = logs::logs(Arc::clone(&self.cluster), request.into_inner())?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn plan_app(
        &self,
        request: Request<pb::PlanAppRequest>,
    ) -> Result<Response<pb::PlanAppResponse>, Status> {
        let (cluster, request) = (Arc::clone(&self.cluster), request.into_inner());
        // The planner computes: that may not stall a session.
        let planned = blocking(move || apply::plan_app(&cluster, request).map_err(super::Refusal));
        planned.await.map(Response::new)
    }

    async fn plan_services(
        &self,
        request: Request<pb::PlanServicesRequest>,
    ) -> Result<Response<pb::PlanServicesResponse>, Status> {
        let (cluster, request) = (Arc::clone(&self.cluster), request.into_inner());
        let planned = blocking(move || asked::plan(&cluster, &request).map_err(super::Refusal));
        planned.await.map(Response::new)
    }

    async fn apply_app(
        &self,
        request: Request<pb::ApplyAppRequest>,
    ) -> Result<Response<pb::ApplyAppResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let done = blocking(move || apply::apply_app(&cluster, request, &by)).await?;
        self.cluster.sweep.notify_one();
        self.cluster.planned().await;
        Ok(Response::new(done))
    }

    async fn down_app(
        &self,
        request: Request<pb::DownAppRequest>,
    ) -> Result<Response<pb::DownAppResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let app = request.into_inner().app;
        let done = blocking(move || apply::down_app(&cluster, &app, &by)).await?;
        self.cluster.sweep.notify_one();
        self.cluster.planned().await;
        Ok(Response::new(done))
    }

    async fn scale(
        &self,
        request: Request<pb::ScaleRequest>,
    ) -> Result<Response<pb::ScaleResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let done = blocking(move || scale::scale(&cluster, &request, &by)).await?;
        self.cluster.planned().await;
        Ok(Response::new(done))
    }

    async fn list_rollouts(
        &self,
        request: Request<pb::ListRolloutsRequest>,
    ) -> Result<Response<pb::ListRolloutsResponse>, Status> {
        let rollouts = rollout::list(&self.cluster, &request.into_inner().services)?;
        Ok(Response::new(pb::ListRolloutsResponse { rollouts }))
    }

    async fn rollout_history(
        &self,
        request: Request<pb::RolloutHistoryRequest>,
    ) -> Result<Response<pb::RolloutHistoryResponse>, Status> {
        let (cluster, service) = (Arc::clone(&self.cluster), request.into_inner().service);
        blocking(move || rollout::history(&cluster, &service))
            .await
            .map(Response::new)
    }

    async fn undo_rollout(
        &self,
        request: Request<pb::UndoRolloutRequest>,
    ) -> Result<Response<pb::UndoRolloutResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let done = blocking(move || rollout::undo(&cluster, &request, &by)).await?;
        self.cluster.planned().await;
        Ok(Response::new(done))
    }

    async fn pause_rollout(
        &self,
        request: Request<pb::PauseRolloutRequest>,
    ) -> Result<Response<pb::PauseRolloutResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let service = request.into_inner().service;
        let done = blocking(move || rollout::pause(&cluster, &service, &by)).await?;
        self.cluster.planned().await;
        Ok(Response::new(done))
    }

    async fn resume_rollout(
        &self,
        request: Request<pb::ResumeRolloutRequest>,
    ) -> Result<Response<pb::ResumeRolloutResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let service = request.into_inner().service;
        let done = blocking(move || rollout::resume(&cluster, &service, &by)).await?;
        self.cluster.planned().await;
        Ok(Response::new(done))
    }

    async fn restart_services(
        &self,
        request: Request<pb::RestartServicesRequest>,
    ) -> Result<Response<pb::RestartServicesResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let done = blocking(move || rollout::restart(&cluster, &request, &by)).await?;
        self.cluster.planned().await;
        Ok(Response::new(done))
    }

    async fn set_node_availability(
        &self,
        request: Request<pb::SetNodeAvailabilityRequest>,
    ) -> Result<Response<pb::SetNodeAvailabilityResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        blocking(move || nodes::set_availability(&cluster, &request, &by)).await?;
        self.cluster.planned().await;
        Ok(Response::new(pb::SetNodeAvailabilityResponse {}))
    }

    async fn set_node_labels(
        &self,
        request: Request<pb::SetNodeLabelsRequest>,
    ) -> Result<Response<pb::SetNodeLabelsResponse>, Status> {
        auth::operator(&request)?;
        let cluster = Arc::clone(&self.cluster);
        let request = request.into_inner();
        blocking(move || nodes::set_labels(&cluster, request)).await?;
        self.cluster.planned().await;
        Ok(Response::new(pb::SetNodeLabelsResponse {}))
    }

    async fn remove_node(
        &self,
        request: Request<pb::RemoveNodeRequest>,
    ) -> Result<Response<pb::RemoveNodeResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let given_up = blocking(move || nodes::remove(&cluster, &request, &by)).await?;
        self.cluster.planned().await;
        Ok(Response::new(pb::RemoveNodeResponse { given_up }))
    }

    async fn set_replica_traffic(
        &self,
        request: Request<pb::SetReplicaTrafficRequest>,
    ) -> Result<Response<pb::SetReplicaTrafficResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let done = blocking(move || aside::set(&cluster, &request, &by)).await?;
        self.cluster.planned().await;
        Ok(Response::new(done))
    }

    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Result<Response<pb::CreateTokenResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        blocking(move || tokens::create(&cluster, request, by))
            .await
            .map(Response::new)
    }

    async fn list_tokens(
        &self,
        _: Request<pb::ListTokensRequest>,
    ) -> Result<Response<pb::ListTokensResponse>, Status> {
        let tokens = tokens::list(&self.cluster);
        Ok(Response::new(pb::ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<pb::RevokeTokenRequest>,
    ) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let id = request.into_inner().id;
        blocking(move || tokens::revoke(&cluster, &id, &by))
            .await
            .map(Response::new)
    }

    async fn list_secrets(
        &self,
        request: Request<pb::ListSecretsRequest>,
    ) -> Result<Response<pb::ListSecretsResponse>, Status> {
        let secrets = secrets_listed::list(&self.cluster, &request.into_inner().apps)?;
        Ok(Response::new(pb::ListSecretsResponse { secrets }))
    }

    type ProxyConfigStream = Out<pb::ProxyConfigResponse>;

    async fn proxy_config(
        &self,
        request: Request<pb::ProxyConfigRequest>,
    ) -> Result<Response<Self::ProxyConfigStream>, Status> {
        let stream = proxy::config(&self.cluster, &request.into_inner())?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_metrics(
        &self,
        request: Request<pb::ListMetricsRequest>,
    ) -> Result<Response<pb::ListMetricsResponse>, Status> {
        metrics::list(&self.cluster, &request.into_inner()).map(Response::new)
    }

    async fn simulate_autoscale(
        &self,
        request: Request<pb::SimulateAutoscaleRequest>,
    ) -> Result<Response<pb::SimulateAutoscaleResponse>, Status> {
        let cluster = Arc::clone(&self.cluster);
        let simulated = metrics::simulate(cluster, request.into_inner()).await?;
        Ok(Response::new(simulated))
    }

    type NodeLogsStream = Out<pb::NodeLogsResponse>;

    async fn node_logs(
        &self,
        request: Request<pb::NodeLogsRequest>,
    ) -> Result<Response<Self::NodeLogsStream>, Status> {
        let stream = node_logs::follow(Arc::clone(&self.cluster), request.into_inner())?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn disk_use(
        &self,
        request: Request<pb::DiskUseRequest>,
    ) -> Result<Response<pb::DiskUseResponse>, Status> {
        let told = disk::disk_use(&self.cluster, request.into_inner()).await?;
        Ok(Response::new(told))
    }

    async fn remove_volume(
        &self,
        request: Request<pb::RemoveVolumeRequest>,
    ) -> Result<Response<pb::RemoveVolumeResponse>, Status> {
        let by = auth::operator(&request)?;
        let done = disk::remove_volume(&self.cluster, request.into_inner(), &by).await?;
        Ok(Response::new(done))
    }

    type BackupStream = Out<pb::BackupResponse>;

    async fn backup(
        &self,
        request: Request<pb::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let pieces = blocking(move || backup::backup(&cluster, &by)).await?;
        let pieces = tokio_stream::iter(pieces.into_iter().map(Ok));
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn list_backups(
        &self,
        _: Request<pb::ListBackupsRequest>,
    ) -> Result<Response<pb::ListBackupsResponse>, Status> {
        let cluster = Arc::clone(&self.cluster);
        let listed = blocking(move || backup::list(&cluster)).await?;
        Ok(Response::new(listed))
    }

    type ExecStream = Out<pb::ExecResponse>;

    async fn exec(
        &self,
        request: Request<Streaming<pb::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let (by, slot) = auth::streaming(&request)?;
        let stream = exec::exec(&self.cluster, request.into_inner(), &by, &slot).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}
