//! Operators of the fake controller, and invites for certificates of its CA.

use agent::enrollment_service_server::EnrollmentService;
use longshore_identity::{Token, TokenKind};
use longshore_model::Roles;
use longshore_proto::agent::v1 as agent;
use longshore_proto::operators::v1 as pb;
use pb::operator_service_server::OperatorService;

use super::*;

/// What it holds.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) operators: Vec<pb::Operator>,
    /// The `authorization` of the last list.
    pub(crate) shown: Option<String>,
    /// Certificate and key of its CA.
    pub(crate) ca: Option<(String, String)>,
    /// Its own address.
    pub(crate) server: String,
}

impl Known {
    fn ca(&self) -> ClusterCa {
        let (cert, key) = self.ca.as_ref().unwrap();
        ClusterCa::load("lab", cert, key).unwrap()
    }

    pub(crate) fn secret(&self, token: bool) -> pb::Secret {
        let kind = match token {
            true => TokenKind::Bearer,
            false => TokenKind::Invite,
        };
        pb::Secret {
            text: Token::generate(kind, self.ca().digest())
                .unwrap()
                .to_string(),
            token,
            expires_ms: NOW_MS,
            server: self.server.clone(),
        }
    }
}

#[tonic::async_trait]
impl OperatorService for Fake {
    async fn add_operator(
        &self,
        request: Request<pb::AddOperatorRequest>,
    ) -> Answer<pb::AddOperatorResponse> {
        Self::needs(&request, OperatorRole::Admin)?;
        let request = request.into_inner();
        let known = &mut self.world().known;
        known.operators.push(pb::Operator {
            name: request.name,
            role: request.role,
            shows: if request.token { "token" } else { "invite" }.into(),
            by: "ana".into(),
            ..Default::default()
        });
        let secret = Some(known.secret(request.token));
        Ok(Response::new(pb::AddOperatorResponse { secret }))
    }

    async fn list_operators(
        &self,
        request: Request<pb::ListOperatorsRequest>,
    ) -> Answer<pb::ListOperatorsResponse> {
        let shown = request.metadata().get("authorization");
        let shown = shown.map(|value| value.to_str().unwrap().to_owned());
        let known = &mut self.world().known;
        known.shown = shown;
        let operators = known.operators.clone();
        Ok(Response::new(pb::ListOperatorsResponse { operators }))
    }

    async fn set_operator_role(
        &self,
        request: Request<pb::SetOperatorRoleRequest>,
    ) -> Answer<pb::SetOperatorRoleResponse> {
        let request = request.into_inner();
        let mut world = self.world();
        let mut all = world.known.operators.iter_mut();
        let Some(operator) = all.find(|operator| operator.name == request.name) else {
            return Err(Status::not_found("there is no such operator"));
        };
        let before = std::mem::replace(&mut operator.role, request.role);
        Ok(Response::new(pb::SetOperatorRoleResponse { before }))
    }

    async fn rotate_operator(
        &self,
        _: Request<pb::RotateOperatorRequest>,
    ) -> Answer<pb::RotateOperatorResponse> {
        let secret = Some(self.world().known.secret(false));
        Ok(Response::new(pb::RotateOperatorResponse { secret }))
    }

    async fn remove_operator(
        &self,
        request: Request<pb::RemoveOperatorRequest>,
    ) -> Answer<pb::RemoveOperatorResponse> {
        let name = request.into_inner().name;
        let known = &mut self.world().known;
        known.operators.retain(|operator| operator.name != name);
        Ok(Response::new(pb::RemoveOperatorResponse {}))
    }
}

#[tonic::async_trait]
impl EnrollmentService for Fake {
    async fn join(&self, _: Request<agent::JoinRequest>) -> Answer<agent::JoinResponse> {
        Err(Status::unimplemented("nodes do not join here"))
    }

    async fn join_operator(
        &self,
        request: Request<agent::JoinOperatorRequest>,
    ) -> Answer<agent::JoinOperatorResponse> {
        let ca = self.world().known.ca();
        let identity = Identity::Operator {
            name: "bob".into(),
            role: OperatorRole::Deployer,
        };
        let csr_der = request.into_inner().csr_der;
        let (roles, now) = (Roles::default(), SystemTime::now());
        let der = ca.issue_from_csr(&csr_der, &identity, roles, &[], DAY, now);
        Ok(Response::new(agent::JoinOperatorResponse {
            certificate_chain_der: vec![der.unwrap()],
            ca_der: vec![ca.cert_der().to_vec()],
            name: "bob".into(),
            role: "deployer".into(),
            cluster: "lab".into(),
        }))
    }

    async fn renew(&self, _: Request<agent::RenewRequest>) -> Answer<agent::RenewResponse> {
        Err(Status::unimplemented("nodes do not renew here"))
    }

    async fn who_leads(
        &self,
        _: Request<agent::WhoLeadsRequest>,
    ) -> Answer<agent::WhoLeadsResponse> {
        Ok(Response::new(agent::WhoLeadsResponse {
            leads: true,
            ..Default::default()
        }))
    }
}
