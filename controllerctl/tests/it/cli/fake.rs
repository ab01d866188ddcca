//! A controller as small as the CLI can be tested with: real mTLS, made-up answers.

mod certificates;
mod cluster;
mod explain;
pub(crate) mod images;
mod node_logs;
pub(crate) mod operators;
pub(crate) mod secrets;
mod simulate;
mod stores;
mod world;

use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use longshore_identity::ca::ClusterCa;
use longshore_identity::tls::{AcceptLimits, CertHolder, TrustHolder, accept, server_config};
use longshore_identity::{Identity, OperatorRole};
use longshore_proto::control::v1 as pb;
use pb::control_service_server::{ControlService, ControlServiceServer};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// Fixed, so that output can be compared.
pub(crate) const NOW_MS: u64 = 1_795_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) use world::{Cluster, Fake, World, service};
use world::{backoff, problem};

type Answer<T> = Result<Response<T>, Status>;
type Many<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn many<T: Send + 'static>(items: Vec<T>) -> Many<T> {
    Box::pin(tokio_stream::iter(items.into_iter().map(Ok)))
}

#[tonic::async_trait]
impl ControlService for Fake {
    type WatchStream = Many<pb::WatchResponse>;
    type EventsStream = Many<pb::EventsResponse>;
    type LogsStream = Many<pb::LogsResponse>;
    type BackupStream = Many<pb::BackupResponse>;
    type ExecStream = Many<pb::ExecResponse>;
    type ProxyConfigStream = Many<pb::ProxyConfigResponse>;

    async fn get_status(&self, _: Request<pb::GetStatusRequest>) -> Answer<pb::GetStatusResponse> {
        Ok(Response::new(pb::GetStatusResponse {
            cluster: "lab".into(),
            controller_version: "0.1.0".into(),
            term: 1,
            plan_version: 7,
            time_ms: NOW_MS,
            started_ms: NOW_MS - 60_000,
            nodes_ready: 1,
            nodes_total: 1,
            problems: self.world().problems.clone(),
            ..Default::default()
        }))
    }

    async fn list_nodes(&self, _: Request<pb::ListNodesRequest>) -> Answer<pb::ListNodesResponse> {
        let mut world = self.world();
        let is_late = world.late_reports > 0;
        world.late_reports = world.late_reports.saturating_sub(1);
        drop(world);
        let node = pb::Node {
            engine_version: if is_late { "" } else { "29.1.0" }.into(),
            id: "node1".into(),
            state: "ready".into(),
            availability: "active".into(),
            roles: vec!["worker".into()],
            images_ahead: self.world().images.steps(),
            ..Default::default()
        };
        let others = self.world().nodes.clone();
        let nodes = std::iter::once(node).chain(others).collect();
        Ok(Response::new(pb::ListNodesResponse { nodes }))
    }

    async fn list_services(
        &self,
        _: Request<pb::ListServicesRequest>,
    ) -> Answer<pb::ListServicesResponse> {
        let mut world = self.world();
        let left = world.lingering.saturating_sub(1);
        world.lingering = left;
        if left == 0 {
            world.services.retain(|s| s.leaving == 0);
        }
        let services = world.services.clone();
        Ok(Response::new(pb::ListServicesResponse { services }))
    }

    async fn list_replicas(
        &self,
        request: Request<pb::ListReplicasRequest>,
    ) -> Answer<pb::ListReplicasResponse> {
        let asked = request.into_inner().services;
        let mut world = self.world();
        world.sessions = world.sessions.saturating_sub(1);
        let services = world
            .services
            .iter()
            .filter(|s| asked.is_empty() || world::is_asked(s, &asked));
        let replicas: Vec<pb::Replica> = services
            .flat_map(|s| {
                (1..=s.wanted.min(3)).map(|slot| pb::Replica {
                    id: u64::from(slot),
                    service: s.key.clone(),
                    slot,
                    name: format!("{}.{slot}", s.name),
                    node: "node1".into(),
                    state: if s.serving >= slot {
                        "healthy"
                    } else {
                        "starting"
                    }
                    .into(),
                    traffic: if s.serving >= slot { "serve" } else { "out" }.into(),
                    ..Default::default()
                })
            })
            .filter(|replica| asked.is_empty() || world::is_meant(replica, &asked))
            .map(|replica| explain::kept_out(&world, replica))
            .collect();
        Ok(Response::new(pb::ListReplicasResponse { replicas }))
    }

    async fn watch(&self, _: Request<pb::WatchRequest>) -> Answer<Self::WatchStream> {
        let first = pb::WatchResponse {
            plan_version: 7,
            time_ms: NOW_MS,
        };
        let stream = tokio_stream::iter([Ok(first)]).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn events(&self, request: Request<pb::EventsRequest>) -> Answer<Self::EventsStream> {
        let request = request.into_inner();
        Ok(Response::new(explain::events(&mut self.world(), &request)))
    }

    async fn why(&self, request: Request<pb::WhyRequest>) -> Answer<pb::WhyResponse> {
        let request = request.into_inner();
        if request.at_ms > 0 {
            self.call(&format!("why at {}", request.at_ms));
        }
        let target = request.target;
        let lines = vec![format!("{target} runs 2, wants 2")];
        Ok(Response::new(pb::WhyResponse {
            target,
            lines,
            decisions: explain::decisions().decisions,
            ..Default::default()
        }))
    }

    async fn list_decisions(
        &self,
        _: Request<pb::ListDecisionsRequest>,
    ) -> Answer<pb::ListDecisionsResponse> {
        Ok(Response::new(explain::decisions()))
    }

    async fn list_autoscale(
        &self,
        request: Request<pb::ListAutoscaleRequest>,
    ) -> Answer<pb::ListAutoscaleResponse> {
        let words = request.into_inner().services;
        if let Some(word) = words.iter().find(|word| *word != "hello") {
            let message = format!("there is no service {word:?}; did you mean hello?");
            return Err(Status::not_found(message));
        }
        if self.world().no_autoscale {
            return Err(Status::internal("no"));
        }
        Ok(Response::new(pb::ListAutoscaleResponse {
            services: vec![self.world().autoscale.clone()],
        }))
    }

    async fn set_autoscale(
        &self,
        request: Request<pb::SetAutoscaleRequest>,
    ) -> Answer<pb::SetAutoscaleResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        let action = request.into_inner().action.unwrap();
        self.call(&format!("{action:?}"));
        let mut world = self.world();
        let state = &mut world.autoscale;
        explain::say(state, action)?;
        Ok(Response::new(pb::SetAutoscaleResponse {
            state: Some(state.clone()),
        }))
    }

    async fn logs(&self, request: Request<pb::LogsRequest>) -> Answer<Self::LogsStream> {
        let request = request.into_inner();
        Ok(Response::new(explain::logs(&mut self.world(), &request)))
    }

    async fn plan_app(&self, request: Request<pb::PlanAppRequest>) -> Answer<pb::PlanAppResponse> {
        let app = request.into_inner().app.unwrap();
        let world = self.world();
        let change = |(name, spec): (&String, &longshore_proto::spec::v1::ServiceSpec)| {
            let image = spec.container.as_ref().unwrap().image.clone();
            let there = world
                .services
                .iter()
                .any(|s| s.name == *name && s.image == image);
            let wanted = spec.replicas;
            let nodes = vec![pb::NodeShare {
                node: "node1".into(),
                replicas: wanted,
            }];
            pb::Change {
                action: if there { "same" } else { "add" }.into(),
                service: name.clone(),
                details: match there {
                    true => Vec::new(),
                    false => vec![format!("image {image}")],
                },
                forecast: (!there).then(|| pb::ServiceForecast {
                    wanted,
                    created: wanted,
                    nodes,
                    ..Default::default()
                }),
            }
        };
        let mut changes: Vec<pb::Change> = app.services.iter().map(change).collect();
        changes.sort_by(|a, b| a.service.cmp(&b.service));
        let new = changes.iter().filter_map(|c| c.forecast.as_ref());
        let created = new.map(|forecast| forecast.created).sum();
        Ok(Response::new(pb::PlanAppResponse {
            revision: world.revision,
            changes,
            placement: Some(pb::PlanPlacement {
                created,
                ..Default::default()
            }),
            ..Default::default()
        }))
    }

    async fn plan_services(
        &self,
        request: Request<pb::PlanServicesRequest>,
    ) -> Answer<pb::PlanServicesResponse> {
        world::planned(&self.world(), &request.into_inner()).map(Response::new)
    }

    async fn apply_app(
        &self,
        request: Request<pb::ApplyAppRequest>,
    ) -> Answer<pb::ApplyAppResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        self.call("apply");
        let request = request.into_inner();
        if request.partial || !request.recreate.is_empty() {
            let partial = if request.partial { "partial" } else { "whole" };
            self.call(&format!("{partial}, anew: {}", request.recreate.join(" ")));
        }
        let mut world = self.world();
        if request.check_revision.is_some_and(|r| r != world.revision) {
            return Err(Status::failed_precondition(
                "the present revision is another",
            ));
        }
        world.revision += 1;
        let revision = world.revision;
        let app = request.app.unwrap();
        for (name, spec) in app.services {
            let mut service = service(&app.name, &name, spec.replicas);
            service.image = spec.container.unwrap().image;
            service.revision = revision;
            service.certificates = certificates::of(&service.image);
            let reason = explain::trouble(&service.image);
            if reason.is_some() || service.image == "slow" {
                (service.healthy, service.serving) = (0, 0);
            }
            let new = reason.map(|reason| problem(&service.key, &reason));
            world.problems.extend(new);
            world.services.push(service);
        }
        let certificates = world.services.iter().flat_map(|s| &s.certificates);
        let renew = certificates.take(1).map(|c| pb::SecretChange {
            action: "renew".into(),
            name: c.name.clone(),
        });
        let secrets = renew.collect();
        drop(world);
        self.somebody_else();
        Ok(Response::new(pb::ApplyAppResponse {
            revision,
            changed: true,
            secrets,
        }))
    }

    async fn down_app(&self, request: Request<pb::DownAppRequest>) -> Answer<pb::DownAppResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        self.call("down");
        let app = request.into_inner().app;
        for service in &mut self.world().services {
            if service.app == app {
                (service.wanted, service.leaving, service.revision) = (0, 2, 0);
            }
        }
        self.somebody_else();
        Ok(Response::new(pb::DownAppResponse { replicas: 2 }))
    }

    async fn scale(&self, request: Request<pb::ScaleRequest>) -> Answer<pb::ScaleResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        let pb::ScaleRequest { service, count, .. } = request.into_inner();
        let mut world = self.world();
        let overrules = world.overrules.clone();
        let is_it = |s: &&mut pb::Service| s.name == service || s.key == service;
        let Some(found) = world.services.iter_mut().find(is_it) else {
            let message = format!("there is no service {service:?}; did you mean hello?");
            return Err(Status::not_found(message));
        };
        let from = found.wanted;
        (found.wanted, found.healthy, found.serving) = (count, count, count);
        if let Some((wanted, why)) = overrules {
            (found.wanted, found.scale_reasons) = (wanted, vec![why]);
            found.signals = vec![pb::SignalValue {
                signal: "requests".into(),
                recommendation: Some(wanted),
                ..pb::SignalValue::default()
            }];
        }
        let service = found.key.clone();
        drop(world);
        self.somebody_else();
        Ok(Response::new(pb::ScaleResponse {
            service,
            from,
            to: count,
        }))
    }

    async fn list_rollouts(
        &self,
        request: Request<pb::ListRolloutsRequest>,
    ) -> Answer<pb::ListRolloutsResponse> {
        let asked = request.into_inner().services;
        let world = self.world();
        let of = |s: &&pb::Service| asked.is_empty() || asked.contains(&s.name);
        let services = world.services.iter().filter(of);
        let rollouts = services.filter_map(|s| s.rollout.clone()).collect();
        Ok(Response::new(pb::ListRolloutsResponse { rollouts }))
    }

    async fn rollout_history(
        &self,
        request: Request<pb::RolloutHistoryRequest>,
    ) -> Answer<pb::RolloutHistoryResponse> {
        let revision = |revision, outcome: &str| pb::Revision {
            revision,
            applied_ms: NOW_MS,
            applied_by: "ana".into(),
            origin: "applied".into(),
            image: format!("hello:{revision}"),
            outcome: outcome.into(),
            current: revision == 2,
            good: revision == 1,
            ..pb::Revision::default()
        };
        Ok(Response::new(pb::RolloutHistoryResponse {
            service: request.into_inner().service,
            revisions: vec![revision(2, "rolled_back"), revision(1, "finished")],
        }))
    }

    async fn undo_rollout(
        &self,
        request: Request<pb::UndoRolloutRequest>,
    ) -> Answer<pb::UndoRolloutResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        let request = request.into_inner();
        let to_revision = request.to_revision.unwrap_or(1);
        self.call(&format!("undo {} {to_revision}", request.service));
        Ok(Response::new(pb::UndoRolloutResponse {
            service: format!("hello/{}", request.service),
            revision: 1,
            to_revision,
        }))
    }

    async fn pause_rollout(
        &self,
        request: Request<pb::PauseRolloutRequest>,
    ) -> Answer<pb::PauseRolloutResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        let service = request.into_inner().service;
        self.call(&format!("pause {service}"));
        Ok(Response::new(pb::PauseRolloutResponse { service }))
    }

    async fn resume_rollout(
        &self,
        request: Request<pb::ResumeRolloutRequest>,
    ) -> Answer<pb::ResumeRolloutResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        let service = request.into_inner().service;
        self.call(&format!("resume {service}"));
        Ok(Response::new(pb::ResumeRolloutResponse { service }))
    }

    async fn restart_services(
        &self,
        request: Request<pb::RestartServicesRequest>,
    ) -> Answer<pb::RestartServicesResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        let named = request.into_inner().services;
        self.call(&format!("restart {}", named.join(" ")));
        self.somebody_else();
        // As the controller does: keys.
        let services = named.iter().map(|word| match word.contains('/') {
            true => word.clone(),
            false => format!("hello/{word}"),
        });
        Ok(Response::new(pb::RestartServicesResponse {
            services: services.collect(),
            revision: 1,
        }))
    }

    async fn set_node_availability(
        &self,
        request: Request<pb::SetNodeAvailabilityRequest>,
    ) -> Answer<pb::SetNodeAvailabilityResponse> {
        Self::needs(&request, OperatorRole::Admin)?;
        self.call("availability");
        Ok(Response::new(pb::SetNodeAvailabilityResponse {}))
    }

    async fn set_replica_traffic(
        &self,
        request: Request<pb::SetReplicaTrafficRequest>,
    ) -> Answer<pb::SetReplicaTrafficResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        let request = request.into_inner();
        explain::set_traffic(&mut self.world(), &request).map(Response::new)
    }

    async fn set_node_labels(
        &self,
        _: Request<pb::SetNodeLabelsRequest>,
    ) -> Answer<pb::SetNodeLabelsResponse> {
        Ok(Response::new(pb::SetNodeLabelsResponse {}))
    }

    async fn remove_node(
        &self,
        request: Request<pb::RemoveNodeRequest>,
    ) -> Answer<pb::RemoveNodeResponse> {
        self.call("remove_node");
        let node = request.into_inner().node;
        let nodes = self.world().nodes.clone();
        let removed = nodes.into_iter().find(|known| known.id == node);
        let given_up = removed.map(|node| node.volumes).unwrap_or_default();
        Ok(Response::new(pb::RemoveNodeResponse { given_up }))
    }

    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Answer<pb::CreateTokenResponse> {
        let role = if request.into_inner().edge {
            "edge"
        } else {
            "worker"
        };
        Ok(Response::new(pb::CreateTokenResponse {
            token: "lsj1.a.b.c".into(),
            expires_ms: NOW_MS,
            join_command: format!("node-agent join --token lsj1.a.b.c --role {role}"),
        }))
    }

    async fn list_tokens(
        &self,
        _: Request<pb::ListTokensRequest>,
    ) -> Answer<pb::ListTokensResponse> {
        let tokens = self.world().tokens.clone();
        Ok(Response::new(pb::ListTokensResponse { tokens }))
    }

    async fn list_secrets(
        &self,
        request: Request<pb::ListSecretsRequest>,
    ) -> Answer<pb::ListSecretsResponse> {
        stores::secrets(&self.world(), &request.into_inner()).map(Response::new)
    }

    async fn revoke_token(
        &self,
        request: Request<pb::RevokeTokenRequest>,
    ) -> Answer<pb::RevokeTokenResponse> {
        Self::needs(&request, OperatorRole::Admin)?;
        let id = request.into_inner().id;
        let mut world = self.world();
        let Some(at) = world.tokens.iter().position(|token| token.id == id) else {
            return Err(Status::not_found(format!("there is no join token {id:?}")));
        };
        let token = Some(world.tokens.remove(at));
        Ok(Response::new(pb::RevokeTokenResponse { token }))
    }

    async fn proxy_config(
        &self,
        request: Request<pb::ProxyConfigRequest>,
    ) -> Answer<Self::ProxyConfigStream> {
        Ok(Response::new(explain::proxy_config(&request.into_inner())?))
    }

    async fn list_metrics(
        &self,
        _: Request<pb::ListMetricsRequest>,
    ) -> Answer<pb::ListMetricsResponse> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn simulate_autoscale(
        &self,
        request: Request<pb::SimulateAutoscaleRequest>,
    ) -> Answer<pb::SimulateAutoscaleResponse> {
        simulate::told(&request.into_inner()).map(Response::new)
    }

    type NodeLogsStream = Many<pb::NodeLogsResponse>;

    async fn node_logs(
        &self,
        request: Request<pb::NodeLogsRequest>,
    ) -> Answer<Self::NodeLogsStream> {
        let request = request.into_inner();
        Ok(Response::new(node_logs::said(&mut self.world(), &request)?))
    }

    async fn disk_use(&self, request: Request<pb::DiskUseRequest>) -> Answer<pb::DiskUseResponse> {
        let request = request.into_inner();
        Ok(Response::new(stores::disk_use(&self.world(), &request)))
    }

    async fn remove_volume(
        &self,
        request: Request<pb::RemoveVolumeRequest>,
    ) -> Answer<pb::RemoveVolumeResponse> {
        Self::needs(&request, OperatorRole::Admin)?;
        let pb::RemoveVolumeRequest { node, name } = request.into_inner();
        if self.world().kept_volume.as_ref() == Some(&name) {
            return Err(Status::failed_precondition(format!("{name} is in use")));
        }
        self.call(&format!("rm {name} on {node}"));
        Ok(Response::new(pb::RemoveVolumeResponse {}))
    }

    async fn backup(&self, request: Request<pb::BackupRequest>) -> Answer<Self::BackupStream> {
        Self::needs(&request, OperatorRole::Admin)?;
        Ok(Response::new(stores::backup(&self.world())))
    }

    async fn list_backups(
        &self,
        _: Request<pb::ListBackupsRequest>,
    ) -> Answer<pb::ListBackupsResponse> {
        Ok(Response::new(stores::backups(&self.world())))
    }

    async fn exec(&self, request: Request<Streaming<pb::ExecRequest>>) -> Answer<Self::ExecStream> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap();
        if let Some(sizes) = stores::sizes(&first) {
            return Ok(Response::new(stores::follow_sizes(sizes, requests)));
        }
        Ok(Response::new(stores::exec(first)?))
    }
}
