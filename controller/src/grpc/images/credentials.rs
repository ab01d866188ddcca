//! With what a node pulls: only images that it is to run, or may be asked to.

use longshore_identity::Identity;
use longshore_model::{NodeId, RegistryHost, SharedMap};
use longshore_proto::images::v1 as pb;
use tonic::{Request, Response, Status};

use super::super::{auth, quoted};
use super::{Images, fetch};
use crate::cluster::Cluster;

impl Images {
    pub(super) fn credentials(
        &self,
        request: Request<pb::GetCredentialsRequest>,
    ) -> Result<Response<pb::GetCredentialsResponse>, Status> {
        let Some(Identity::Node(node)) = auth::peer(&request)?.identity else {
            return Err(Status::permission_denied("only nodes may ask"));
        };
        let image = request.into_inner().image;
        let nothing = || Status::not_found(format!("nothing for {}", quoted(&image)));
        let host = RegistryHost::of_image(&image).ok_or_else(nothing)?;
        let apart = self.cluster.apart.load();
        let login = apart.logins.get(&host).ok_or_else(nothing)?;
        let mut ahead = fetch::wanted(&self.cluster, &node).into_iter();
        if !(runs(&self.cluster, &node, &image) || ahead.any(|ahead| ahead.image.name == image)) {
            tracing::warn!(%node, image = quoted(&image), "it has no business with this image");
            return Err(nothing());
        }
        Ok(Response::new(pb::GetCredentialsResponse {
            server: host.to_string(),
            user: login.user.clone(),
            password: login.password.expose().to_owned(),
        }))
    }
}

/// Does the plan have a replica of this image there, or does somebody run one once?
fn runs(cluster: &Cluster, node: &NodeId, image: &str) -> bool {
    let view = cluster.view();
    let mut replicas = view.plan.replicas().filter(|replica| replica.node == *node);
    let is_it = replicas.any(|replica| {
        let service = view.plan.services.get(&replica.service);
        let template = service.and_then(|service| service.templates.get(&replica.template));
        template.is_some_and(|spec| spec.image == *image)
    });
    let guests = cluster.guests.apps();
    let apps = guests.get(node);
    let desired = cluster.desired();
    let mut runs = apps.into_iter().flatten();
    is_it
        || runs.any(|app| {
            let services = desired.apps.get(app).map(|app| &app.services);
            let mut specs = services.into_iter().flat_map(SharedMap::values);
            specs.any(|spec| spec.container.image == *image)
        })
}
