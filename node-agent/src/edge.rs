//! The edge role: keeps HAProxy in step with the routes and tells what it really runs. The last
//! routes come from the ledger, so that an edge serves them after a restart without a controller.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use longshore_haproxy_driver::{
    Certificate, Certificates, Edge, EdgeError, EdgeSnapshot, WantedConfig,
};
use longshore_identity::site::SiteCertificate;
use longshore_model::certificate::{CertificateServed, CertificatesObserved};
use longshore_model::repair::Repair;
use longshore_model::{Routes, SecretKey, SecretText, ServiceKey};
use longshore_wire::EdgeReport;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::reconcile::Chain;

/// Between two looks while a server joins or drains: the last session ends at any moment.
const BUSY: Duration = Duration::from_millis(100);
/// Between two looks otherwise.
const IDLE: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(2);

/// Who wants to know what would be written now; none before the first routes.
pub type Ask = oneshot::Sender<Option<WantedConfig>>;

/// The configuration of this edge's HAProxy, for those who look at it.
#[derive(Debug, Clone)]
pub struct ProxyView {
    /// The file that it was last loaded with.
    pub file: PathBuf,
    /// To whoever drives it.
    pub asks: mpsc::Sender<Ask>,
}

/// Those who wait to be told at one time.
const ASKS_MAX: usize = 8;

impl ProxyView {
    /// Of this file; with what its driver is asked by.
    #[must_use]
    pub fn new(file: PathBuf) -> (Self, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        (Self { file, asks }, asked)
    }
}

/// What an edge is told: routes, certificates, and who wants to know what follows from them.
pub type Told = (
    watch::Receiver<Option<Arc<Routes>>>,
    watch::Receiver<Arc<Certificates>>,
    mpsc::Receiver<Ask>,
);

/// The last report of this edge, and when its counters were read: they must not pass for fresh
/// when HAProxy has stopped answering.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EdgeReading {
    /// The report, without ages and repairs.
    pub report: EdgeReport,
    /// What was mended last, and when.
    pub repairs: Vec<(Instant, Repair)>,
    /// When the counters were read.
    pub read_at: Option<Instant>,
}

impl EdgeReading {
    /// The report as it goes out at `now`, with the age of its counters. Never read ones are left
    /// out.
    #[must_use]
    pub fn to_send(&self, now: Instant) -> EdgeReport {
        let age_ms = |at: Instant| {
            let age = now.saturating_duration_since(at).as_millis();
            u64::try_from(age).unwrap_or(u64::MAX)
        };
        let repairs = self.repairs.iter();
        EdgeReport {
            stats_ago_ms: self.read_at.map(age_ms),
            repairs: repairs
                .map(|(at, repair)| (age_ms(*at), repair.clone()))
                .collect(),
            ..self.report.clone()
        }
    }
}

/// Runs until `stop`. HAProxy goes on by itself then.
pub async fn run(
    mut edge: Edge,
    (mut routes, mut certificates, mut asks): Told,
    reports: watch::Sender<EdgeReading>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_CAP);
    let mut applied: Option<Arc<Routes>> = None;
    loop {
        let wanted = routes.borrow_and_update().clone();
        edge.set_certificates(Arc::clone(&certificates.borrow_and_update()));
        let wait = match step(&mut edge, wanted.as_ref(), &mut applied).await {
            Ok((snapshot, busy)) => {
                note_repairs(&edge, &reports);
                publish(&reports, report(snapshot), Some(Instant::now()));
                backoff.reset();
                if busy { BUSY } else { IDLE }
            }
            Err(error) => {
                // It may be another process with another content when it is back.
                applied = None;
                note_repairs(&edge, &reports);
                publish_failure(&mut edge, &reports, &error).await;
                backoff.next_wait().max(RETRY_FIRST)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = routes.changed() => {}
            Ok(()) = certificates.changed() => {}
            Some(ask) = asks.recv() => {
                // Who asked may be gone.
                let _ = ask.send(edge.wanted_config());
            }
            () = sleep(wait) => {}
        }
    }
}

/// Certificates as the driver takes them. One that is not whole is left out: whoever needs it says
/// so by its service.
#[must_use]
pub fn certificates(secrets: &BTreeMap<SecretKey, SecretText>) -> Certificates {
    let read = |(key, text): (&SecretKey, &SecretText)| match SiteCertificate::read(
        text.expose().as_bytes(),
    ) {
        Ok(site) => Some((key.clone(), certificate(site))),
        Err(problem) => {
            tracing::warn!(secret = %key, %problem, "a certificate cannot be used");
            None
        }
    };
    secrets.iter().filter_map(read).collect()
}

fn certificate(site: SiteCertificate) -> Certificate {
    let (_, until) = site.times();
    let until = until.duration_since(UNIX_EPOCH).unwrap_or_default();
    Certificate {
        pem: site.pem,
        fingerprint: site.fingerprint,
        shown: CertificateServed {
            mark: site.mark,
            until_ms: u64::try_from(until.as_millis()).unwrap_or(u64::MAX),
        },
        doubt: site.weakness.map(|weakness| weakness.to_string()),
    }
}

/// Applies what is new, advances what is on its way, reads what is there.
async fn step(
    edge: &mut Edge,
    wanted: Option<&Arc<Routes>>,
    applied: &mut Option<Arc<Routes>>,
) -> Result<(EdgeSnapshot, bool), EdgeError> {
    let Some(wanted) = wanted else {
        // Never told anything: HAProxy is left as it is.
        return Ok((edge.read().await?, false));
    };
    let mut problems = Vec::new();
    if applied.as_ref() != Some(wanted) {
        let done = edge.apply(wanted).await?;
        tracing::info!(
            generation = done.generation,
            steps = done.steps,
            reloaded = done.reloaded,
            "routes applied"
        );
        problems = done.problems;
        *applied = Some(Arc::clone(wanted));
    }
    let ticked = edge.tick().await?;
    for repaired in &ticked.repaired {
        tracing::warn!(%repaired, "HAProxy had drifted");
    }
    let mut snapshot = edge.report().await?;
    for problem in problems {
        if !snapshot.problems.contains(&problem) {
            snapshot.problems.push(problem);
        }
    }
    Ok((snapshot, ticked.pending > 0))
}

fn report(snapshot: EdgeSnapshot) -> EdgeReport {
    EdgeReport {
        routes_generation: snapshot.routes_generation,
        servers: snapshot.servers,
        backends: snapshot.backends,
        stats_ago_ms: None,
        problem: (!snapshot.problems.is_empty()).then(|| snapshot.problems.join("; ")),
        haproxy_version: snapshot.haproxy_version,
        refused: snapshot.refused,
        sharers: snapshot.sharers,
        certificates: Some(snapshot.certificates),
        repairs: Vec::new(),
    }
}

/// What the driver mended goes with the next report, whatever that says else.
fn note_repairs(edge: &Edge, reports: &watch::Sender<EdgeReading>) {
    let repairs = edge.repairs();
    reports.send_if_modified(|reading| {
        let differs = reading.repairs != repairs;
        reading.repairs = repairs;
        differs
    });
}

fn publish(reports: &watch::Sender<EdgeReading>, next: EdgeReport, read_at: Option<Instant>) {
    reports.send_if_modified(|reading| {
        reading.read_at = read_at.or(reading.read_at);
        let last = &mut reading.report;
        if last.problem != next.problem {
            match &next.problem {
                Some(problem) => tracing::warn!(problem, "HAProxy has a problem"),
                None => tracing::info!("HAProxy is well again"),
            }
        }
        log_refused(&last.refused, &next.refused);
        let differs = *last != next;
        *last = next;
        differs
    });
}

/// Services that can no longer be served here as wanted, and those that can again.
fn log_refused(last: &BTreeMap<ServiceKey, String>, next: &BTreeMap<ServiceKey, String>) {
    for (service, why) in next {
        if last.get(service) != Some(why) {
            tracing::warn!(%service, why, "a service cannot be served here as wanted");
        }
    }
    for service in last.keys().filter(|service| !next.contains_key(*service)) {
        tracing::info!(%service, "nothing stands in the way of serving it here any more");
    }
}

/// What could not be done is said beside what HAProxy really runs. Where that cannot be read
/// either, nothing is known of its servers.
async fn publish_failure(edge: &mut Edge, reports: &watch::Sender<EdgeReading>, error: &EdgeError) {
    match edge.read().await {
        Ok(snapshot) => {
            let mut next = report(snapshot);
            next.problem = Some(Chain(error).to_string());
            publish(reports, next, Some(Instant::now()));
        }
        Err(_) => publish_problem(reports, error, &edge.refused(), edge.certificates()),
    }
}

/// What was read last stays, with the reason why it is old.
fn publish_problem(
    reports: &watch::Sender<EdgeReading>,
    error: &EdgeError,
    refused: &BTreeMap<ServiceKey, String>,
    certificates: CertificatesObserved,
) {
    let mut next = reports.borrow().report.clone();
    next.problem = Some(Chain(error).to_string());
    next.refused.clone_from(refused);
    next.certificates = Some(certificates);
    // Servers that nobody could look at are not known to be there.
    next.servers.clear();
    publish(reports, next, None);
}

fn last_repair(report: &EdgeReport) -> Option<u64> {
    report.repairs.last().map(|(_, repair)| repair.number)
}

/// Is the difference one that the controller waits for? Counters alone can wait for the interval.
#[must_use]
pub fn is_urgent(last: &EdgeReport, next: &EdgeReport) -> bool {
    if last.routes_generation != next.routes_generation
        || last.problem != next.problem
        || last.refused != next.refused
        || last.sharers != next.sharers
        || last.certificates != next.certificates
        || last_repair(last) != last_repair(next)
    {
        return true;
    }
    let count = |report: &EdgeReport| report.servers.values().map(BTreeMap::len).sum::<usize>();
    if count(last) != count(next) {
        return true;
    }
    let servers = next.servers.iter();
    let mut servers = servers.flat_map(|(key, servers)| servers.iter().map(move |s| (key, s)));
    servers.any(|(key, (id, now))| {
        let was = last.servers.get(key).and_then(|servers| servers.get(id));
        was.is_none_or(|was| {
            let idle = |s: &longshore_model::observe::ServerObserved| s.sessions + s.queued == 0;
            was.check != now.check || was.admin != now.admin || idle(was) != idle(now)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_model::ReplicaId;
    use longshore_model::observe::{CheckState, ServerAdmin, ServerAnswers, ServerObserved};

    fn with(sessions: u32, check: CheckState) -> EdgeReport {
        let server = ServerObserved {
            check,
            admin: ServerAdmin::Drain,
            sessions,
            queued: 0,
            answers: ServerAnswers::default(),
        };
        EdgeReport {
            servers: [("shop/web".parse().unwrap(), [(ReplicaId(1), server)].into())].into(),
            ..EdgeReport::default()
        }
    }

    #[test]
    fn counters_that_were_not_read_again_grow_old() {
        let (reports, _) = watch::channel(EdgeReading::default());
        let read = Instant::now();
        assert_eq!(reports.borrow().to_send(read).stats_ago_ms, None);
        publish(&reports, with(3, CheckState::Up), Some(read));
        let silent = EdgeError::Setting {
            field: "socket",
            rule: "it answers".into(),
        };
        publish_problem(&reports, &silent, &BTreeMap::new(), BTreeMap::new());
        let sent = reports.borrow().to_send(read + Duration::from_secs(7));
        assert_eq!(sent.stats_ago_ms, Some(7_000));
        assert!(sent.problem.is_some() && sent.servers.is_empty());
    }

    #[test]
    fn the_last_session_and_a_check_are_urgent_but_counters_are_not() {
        let busy = with(3, CheckState::Up);
        assert!(!is_urgent(&busy, &with(2, CheckState::Up)));
        assert!(is_urgent(&busy, &with(0, CheckState::Up)));
        assert!(is_urgent(&busy, &with(3, CheckState::Down)));
        assert!(is_urgent(
            &busy,
            &EdgeReport {
                routes_generation: 1,
                ..busy.clone()
            }
        ));
        assert!(is_urgent(&busy, &EdgeReport::default()));
        let certificates = [("shop/cert".parse().unwrap(), Default::default())];
        let told = EdgeReport {
            certificates: Some(certificates.into()),
            ..busy.clone()
        };
        assert!(is_urgent(&busy, &told));
    }

    #[test]
    fn repairs_go_with_their_age_and_a_new_one_is_urgent() {
        let mut reading = EdgeReading::default();
        let at = Instant::now();
        let repair = |number| Repair {
            number,
            kind: longshore_model::repair::RepairKind::File,
            what: "haproxy.cfg".into(),
            more: 0,
            away_ms: None,
        };
        reading.repairs = vec![(at, repair(7))];
        let sent = reading.to_send(at + Duration::from_secs(7));
        assert_eq!(sent.repairs, [(7_000, repair(7))]);
        assert!(!is_urgent(
            &sent,
            &reading.to_send(at + Duration::from_secs(8))
        ));
        reading.repairs.push((at, repair(8)));
        assert!(is_urgent(&sent, &reading.to_send(at)));
    }
}
