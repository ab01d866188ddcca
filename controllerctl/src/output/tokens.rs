//! Join tokens as rows and as the JSON contract.

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::views::time;
use super::{Row, Shown, Tone};

/// `token ls`
#[derive(Debug, Serialize)]
pub struct Token {
    /// The part that is no secret.
    pub id: String,
    /// open, used, expired
    pub state: String,
    /// worker, edge
    pub roles: Vec<String>,
    /// Only this name may join with it.
    pub node: Option<String>,
    /// Only machines of this network may join with it.
    pub from: Option<String>,
    /// Not after this time.
    pub expires: Option<String>,
    /// Who made it.
    pub by: String,
    /// The node that joined with it.
    pub used_by: Option<String>,
    #[serde(skip)]
    expires_ms: u64,
}

impl From<&pb::TokenInfo> for Token {
    fn from(t: &pb::TokenInfo) -> Self {
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            id: t.id.clone(),
            state: t.state.clone(),
            roles: t.roles.clone(),
            node: filled(&t.node_name),
            from: filled(&t.from),
            expires: time(t.expires_ms),
            by: t.by.clone(),
            used_by: filled(&t.used_by),
            expires_ms: t.expires_ms,
        }
    }
}

impl Row for Token {
    fn titles(_: bool) -> Vec<&'static str> {
        vec![
            "ID", "STATE", "ROLES", "NODE", "FROM", "EXPIRES", "BY", "USED BY",
        ]
    }

    fn cells(&self, _: bool, now_ms: u64) -> Vec<Shown> {
        let tone = match self.state.as_str() {
            "open" => Tone::Good,
            _ => Tone::Plain,
        };
        let minutes = |ms: u64| ms.div_ceil(60_000);
        let expires = match self.expires_ms.checked_sub(now_ms) {
            Some(left) => format!("in {}m", minutes(left)),
            None => format!("{}m ago", minutes(now_ms - self.expires_ms)),
        };
        vec![
            Shown::from(&self.id),
            Shown::new(&self.state, tone),
            self.roles.join(",").into(),
            self.node.clone().unwrap_or_default().into(),
            self.from.clone().unwrap_or_default().into(),
            expires.into(),
            Shown::from(&self.by),
            self.used_by.clone().unwrap_or_default().into(),
        ]
    }

    fn name(&self) -> String {
        self.id.clone()
    }
}
