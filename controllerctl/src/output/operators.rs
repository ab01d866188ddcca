//! Operators as rows and as the JSON contract.

use longshore_proto::operators::v1 as pb;
use serde::Serialize;

use super::views::time;
use super::{Row, Shown, Tone};

/// `operator ls`
#[derive(Debug, Serialize)]
pub struct Operator {
    /// Their name.
    pub name: String,
    /// viewer, deployer, admin
    pub role: String,
    /// certificate, token, invite, none
    pub shows: String,
    /// When that ends.
    pub expires: Option<String>,
    /// A new certificate can be fetched until then.
    pub invited_until: Option<String>,
    /// When they were let in.
    pub since: Option<String>,
    /// Who let them in; none: they made the cluster.
    pub by: Option<String>,
    /// It is who asks.
    pub you: bool,
    #[serde(skip)]
    expires_ms: u64,
}

impl From<&pb::Operator> for Operator {
    fn from(o: &pb::Operator) -> Self {
        Self {
            name: o.name.clone(),
            role: o.role.clone(),
            shows: o.shows.clone(),
            expires: time(o.expires_ms),
            invited_until: time(o.invited_until_ms),
            since: time(o.since_ms),
            by: (!o.by.is_empty()).then(|| o.by.clone()),
            you: o.you,
            expires_ms: match o.shows.as_str() {
                "invite" => o.invited_until_ms,
                _ => o.expires_ms,
            },
        }
    }
}

const DAY_MS: u64 = 86_400_000;
/// What ends so soon is shown in another colour.
const SOON_MS: u64 = 14 * DAY_MS;

impl Row for Operator {
    fn titles(_: bool) -> Vec<&'static str> {
        vec!["NAME", "ROLE", "SHOWS", "ENDS", "BY", "YOU"]
    }

    fn cells(&self, _: bool, now_ms: u64) -> Vec<Shown> {
        let left_ms = self.expires_ms.saturating_sub(now_ms);
        let ends = match (self.expires_ms, left_ms) {
            (0, _) => String::new(),
            (_, left_ms) if left_ms < DAY_MS => format!("in {}m", left_ms.div_ceil(60_000)),
            (_, left_ms) => format!("in {}d", left_ms / DAY_MS),
        };
        let tone = match self.shows.as_str() {
            "certificate" | "token" if self.expires_ms == 0 || left_ms > SOON_MS => Tone::Good,
            _ => Tone::Busy,
        };
        vec![
            Shown::from(&self.name),
            Shown::from(&self.role),
            Shown::new(&self.shows, tone),
            ends.into(),
            self.by.clone().unwrap_or_default().into(),
            (if self.you { "*" } else { "" }).into(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}
