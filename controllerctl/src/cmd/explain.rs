//! `explain`: the documentation of a key of Compose files.

use super::Run;
use crate::cli::ExplainArgs;
use crate::failure::{Exit, Failure};
use crate::output::print;
use crate::schema;

pub(super) fn explain(run: &Run, args: &ExplainArgs) -> Result<Exit, Failure> {
    let page = schema::explain(&args.key).map_err(|error| {
        let hint = match &error.near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "for example: controllerctl explain services.x-autoscale, services.ports or \
                     secrets"
                .to_owned(),
        };
        Failure::new(error.to_string()).hint(hint)
    })?;
    print(&run.out.document(&page, || page.to_string()))?;
    Ok(Exit::Done)
}
