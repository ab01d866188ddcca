//! Several controllers, and the etcd that they share (`CONTROLLERS=3 make lab`).

use std::time::Duration;

use super::super::app::{self, LIMIT, REPLICAS};
use super::super::strike::Strike;
use crate::{controllers, ctl, leader, on, until};

/// How long there is no leader.
const WITHOUT: Duration = Duration::from_secs(20);

/// Who leads now.
fn leads() -> String {
    until("a controller leads", LIMIT, || leader().ok_or("nobody")).0
}

/// Another one than `old` leads and takes changes.
fn taken_over(old: &str) -> String {
    let (new, _) = until("another controller leads", LIMIT, || match leader() {
        Some(new) if new != old => Ok(new),
        other => Err(other),
    });
    takes_changes();
    new
}

fn takes_changes() {
    until("a change is taken", LIMIT, || {
        let said = ctl(&["scale", &format!("bench={REPLICAS}"), "-d", "-y"]);
        match said.code {
            Some(0) => Ok(()),
            _ => Err(said),
        }
    });
}

pub(super) fn leader_dies(strike: &mut Strike) {
    let old = leads();
    // Not to be the first again by being started at once.
    strike.fault(&["kill9", &old, "controller"], &["run", &old, "controller"]);
    on(&old, &["sv", "down", "controller"]);
    let new = taken_over(&old);
    strike.is_well();
    strike.note(format!("{old} -> {new}"));
    strike.undo();
    app::full(REPLICAS, |_| true);
}

/// When it wakes up, it finds out, and stands by.
pub(super) fn leader_freezes(strike: &mut Strike) {
    let old = leads();
    strike.fault(&["halt", &old, "controller"], &["go", &old, "controller"]);
    let new = taken_over(&old);
    strike.is_well();
    strike.note(format!("{old} -> {new}"));
    let before = on(&old, &["sh", "-c", "pgrep -x controller"]);
    strike.undo();
    until("the old one ended and stands by", LIMIT, || {
        let now = on(&old, &["sh", "-c", "pgrep -x controller || true"]);
        match !now.is_empty() && now != before {
            true => Ok(()),
            false => Err(now),
        }
    });
    app::full(REPLICAS, |_| true);
    assert_eq!(leads(), new, "the leadership went back");
}

/// The host of etcd's own leader.
fn etcd_leader() -> String {
    // The member of each host is asked for itself.
    let own = ". /etc/longshore/etcd/ctl && . /etc/longshore/etcd/env && \
               ETCDCTL_ENDPOINTS=$ETCD_ADVERTISE_CLIENT_URLS etcdctl endpoint status -w fields";
    let mut hosts = controllers().into_iter();
    let leads = |host: &String| {
        let said = on(host, &["bash", "-c", own]);
        let field = |name: &str| {
            let line = said.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split(':').nth(1))
                .map(|id| id.trim().to_owned())
        };
        field("\"MemberID\"").is_some() && field("\"MemberID\"") == field("\"Leader\"")
    };
    hosts.find(leads).expect("etcd has no leader")
}

pub(super) fn etcd_leader_dies(strike: &mut Strike) {
    let host = etcd_leader();
    strike.fault(&["kill9", &host, "etcd"], &["run", &host, "etcd"]);
    on(&host, &["sv", "down", "etcd"]);
    takes_changes();
    strike.is_well();
    strike.note(format!("etcd of {host}"));
    strike.undo();
    app::full(REPLICAS, |_| true);
}

/// The one that is nearest to the leader, which it holds on to.
pub(super) fn etcd_freezes(strike: &mut Strike) {
    let host = leads();
    strike.fault(&["halt", &host, "etcd"], &["go", &host, "etcd"]);
    takes_changes();
    strike.is_well();
    strike.note(format!("etcd of {host}"));
    std::thread::sleep(WITHOUT);
    takes_changes();
    strike.undo();
    app::full(REPLICAS, |_| true);
}

/// Nobody leads, nothing changes, and everything serves.
pub(super) fn no_quorum(strike: &mut Strike) {
    let hosts = controllers();
    for host in hosts.iter().skip(1) {
        strike.fault(&["stop", host, "etcd"], &["run", host, "etcd"]);
    }
    until("nobody leads", LIMIT, || match leader() {
        None => Ok(()),
        other => Err(other),
    });
    std::thread::sleep(WITHOUT);
    assert_eq!(leader(), None, "without a majority");
    strike.undo();
    strike.is_over();
    takes_changes();
    strike.is_well();
    app::full(REPLICAS, |_| true);
}
