//! The audit trail: who asked for which change, and what became of it.
//!
//! Calls that change something are noted once they are answered, and those that are refused, whatever they are.
//! Reading is not, nor are the pieces of an image that is pushed.

mod targets;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_identity::OperatorRole;
use longshore_model::EventKind;
use longshore_model::event::CallOutcome;
use longshore_proto::Method;
use tonic::Status;

use super::rules::{Rule, rule};
use crate::cluster::Cluster;
use crate::operators::Operator;
use crate::waiting::beside;

pub(super) use self::targets::Audited;

/// Longest target and reason that are kept.
const WORDS_CHARS_MAX: usize = 200;

/// Where a handler leaves what its call is about.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<OnceLock<String>>);

impl Slot {
    pub(super) fn set(&self, target: String) {
        // The first word of a call counts.
        let _ = self.0.set(target);
    }
}

/// Writes an entry.
pub(super) type Note = Arc<dyn Fn(EventKind) -> BoxFuture<'static, ()> + Send + Sync>;

/// A call that is not answered yet.
pub(super) struct Pending(Option<Open>);

struct Open {
    operator: Operator,
    from: IpAddr,
    call: String,
    slot: Slot,
    note: Note,
}

impl Pending {
    pub(super) fn new(
        path: &str,
        refused: bool,
        operator: &Operator,
        from: IpAddr,
        slot: Slot,
        note: Note,
    ) -> Self {
        if !refused && !is_audited(path) {
            return Self(None);
        }
        Self(Some(Open {
            operator: operator.clone(),
            from: from.to_canonical(),
            call: short(path),
            slot,
            note,
        }))
    }

    /// It is answered, maybe with a failure.
    pub(super) async fn end(mut self, failed: Option<&Status>) {
        let outcome = match failed {
            None => CallOutcome::Done,
            Some(status) => CallOutcome::Refused {
                why: cut(status.message()),
            },
        };
        if let Some(open) = self.0.take() {
            open.tell(outcome).await;
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(open) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(open.tell(CallOutcome::Left));
        }
    }
}

impl Open {
    fn tell(self, outcome: CallOutcome) -> BoxFuture<'static, ()> {
        let target = self.slot.0.get().map(|target| cut(target));
        let kind = EventKind::OperatorCalled {
            by: self.operator.name,
            role: self.operator.role.as_str().into(),
            by_token: self.operator.token_until_ms.is_some(),
            from: self.from,
            call: self.call,
            target: target.unwrap_or_default(),
            outcome,
        };
        (self.note)(kind)
    }
}

/// Is the call noted though it is done?
fn is_audited(path: &str) -> bool {
    use Method::{ImageMissingBlobs, ImageUploadBlob};
    match Method::from_path(path) {
        Some(ImageMissingBlobs | ImageUploadBlob) | None => false,
        Some(Method::ControlListTokens) => false,
        Some(method) => matches!(
            rule(method),
            Rule::Operator(OperatorRole::Deployer | OperatorRole::Admin)
        ),
    }
}

/// `Control.Scale` of `/longshore.control.v1.ControlService/Scale`.
fn short(path: &str) -> String {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let service = parts.next().unwrap_or_default();
    let service = service.rsplit('.').next().unwrap_or_default();
    let service = service.strip_suffix("Service").unwrap_or(service);
    cut(&format!("{service}.{}", parts.next().unwrap_or_default()))
}

fn cut(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let short: String = chars.by_ref().take(WORDS_CHARS_MAX).collect();
    match chars.next() {
        None => short,
        Some(_) => format!("{short}…"),
    }
}

/// Writes an entry into the events. What the store does not take is said by the log and in `status`.
pub(super) fn record(
    cluster: &Arc<Cluster>,
    refusals: &Refusals,
    kind: EventKind,
) -> BoxFuture<'static, ()> {
    if refusals.is_too_much(&kind, cluster.now_ms()) {
        return async {}.boxed();
    }
    let cluster = Arc::clone(cluster);
    async move {
        tracing::info!(target: "audit", "{kind}");
        let written = beside(move || cluster.record(vec![kind])).await;
        if let Err(error) = written {
            tracing::error!(%error, "an entry of the audit trail was lost");
        }
    }
    .boxed()
}

/// Refusals of one operator that are written per [`PERIOD_MS`]: a program that goes on and on must not push all
/// else out of the events.
const REFUSALS_MAX: u32 = 20;
const PERIOD_MS: u64 = 60_000;

/// Which refusals are too many to be written.
#[derive(Default)]
pub(super) struct Refusals(Mutex<BTreeMap<String, (u64, u32)>>);

impl Refusals {
    /// Is this entry one too many? Operators are few, and known ones only come here.
    pub(super) fn is_too_much(&self, kind: &EventKind, now_ms: u64) -> bool {
        let EventKind::OperatorCalled {
            by,
            outcome: CallOutcome::Refused { .. },
            ..
        } = kind
        else {
            return false;
        };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since_ms, count) = seen.entry(by.clone()).or_default();
        if now_ms.saturating_sub(*since_ms) >= PERIOD_MS {
            (*since_ms, *count) = (now_ms, 0);
        }
        *count += 1;
        *count > REFUSALS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_noted_and_reading_is_not() {
        let path = |method: Method| method.path();
        for noted in [
            Method::ControlScale,
            Method::ControlExec,
            Method::SecretPutSecret,
            Method::OperatorAddOperator,
            Method::ControlBackup,
        ] {
            assert!(is_audited(path(noted)), "{noted:?}");
        }
        for not in [
            Method::ControlListNodes,
            Method::ImageUploadBlob,
            Method::AgentSession,
        ] {
            assert!(!is_audited(path(not)), "{not:?}");
        }
        assert_eq!(short(path(Method::ControlScale)), "Control.Scale");
        assert_eq!(short("/x"), "x.");
    }

    #[test]
    fn refusals_without_end_are_written_for_a_while() {
        let refusals = Refusals::default();
        let kind = |why: Option<&str>| EventKind::OperatorCalled {
            by: "ci".into(),
            role: "viewer".into(),
            by_token: true,
            from: [127, 0, 0, 1].into(),
            call: "Control.Scale".into(),
            target: String::new(),
            outcome: why.map_or(CallOutcome::Done, |why| CallOutcome::Refused {
                why: why.into(),
            }),
        };
        let (refused, done) = (kind(Some("no")), kind(None));
        let written = (0..100).filter(|_| !refusals.is_too_much(&refused, 70_000));
        assert_eq!(written.count(), 20);
        assert!(!refusals.is_too_much(&done, 70_000));
        assert!(!refusals.is_too_much(&refused, 130_000), "a minute later");
    }

    #[test]
    fn words_are_cut_and_have_no_control_characters() {
        assert_eq!(cut("a\u{1b}b"), "a b");
        assert_eq!(cut(&"x".repeat(500)).chars().count(), WORDS_CHARS_MAX + 1);
    }
}
