//! Drives the HAProxy of one host: routes in, what HAProxy really runs out.
//!
//! ```text
//! Routes ──intent──► Intent ──┐
//!            slots ───────────┼─decide──► Steps ──socket──► HAProxy
//! HAProxy ──readout─► Running ┘               └──render──► haproxy.cfg
//! ```
//!
//! `intent`, `decide`, `step`, `render` and `readout` are pure. `edge` joins them to the sockets
//! and files. Membership changes are commands; only a change of structure (a new service, port,
//! host name or check) is a reload; certificates come and go by commands, too. What HAProxy does not take is held back (`quarantine`, `admit`),
//! and membership goes on meanwhile (`structure`).
//!
//! Deliberately absent: `del server` (it ends the whole process on releases that distributions
//! ship), a TCP statistics socket (its TLS options are ignored in silence), quoting (see `name`).

mod admit;
mod blocking;
pub mod certificates;
mod compile;
mod converge;
pub mod decide;
mod disk;
pub mod edge;
pub mod error;
mod files;
mod guard;
mod held;
pub mod intent;
mod limits;
mod look;
pub mod name;
mod old_workers;
mod pending;
mod probe;
mod quarantine;
pub mod readout;
mod reload;
pub mod render;
pub mod repairs;
mod rescue;
mod restore;
mod seal;
pub mod settings;
mod sharers;
pub mod slots;
pub mod snapshot;
mod socket;
pub mod step;
mod stranded;
mod structure;
pub mod versions;
mod wanted;

pub use certificates::{Certificate, Certificates};
pub use edge::{Applied, Edge, EdgeSnapshot, Ticked};
pub use error::EdgeError;
pub use intent::{Intent, RouteError};
pub use repairs::Repaired;
pub use settings::{CheckSettings, ProcessSettings, Settings, StatsPage};
pub use slots::SlotMap;
pub use step::{Action, Step};
pub use wanted::WantedConfig;
