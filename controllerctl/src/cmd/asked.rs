//! What counts and restarts come to, before somebody is asked.

use longshore_proto::control::v1 as pb;

use super::planned::services_text;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::note;
use crate::output::planned::Plan;

/// Shows what becomes of the services, app by app, and gives the same for the document. Nothing is
/// said by an older controller.
///
/// # Errors
/// What would be refused is refused here, and the failed connection.
pub(super) async fn show(
    client: &mut Client,
    request: pb::PlanServicesRequest,
) -> Result<Vec<Plan>, Failure> {
    let apps = client.plan_services(request).await?.unwrap_or_default();
    let mut plans = Vec::new();
    for app in apps {
        let plan = Plan::new(&app.app, &app.plan.unwrap_or_default());
        note(services_text(&plan, &client.context).trim_end());
        plans.push(plan);
    }
    Ok(plans)
}
