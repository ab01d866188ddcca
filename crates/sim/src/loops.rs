//! Services that can never come to rest, by what their image really does and what their users ask
//! for. They are tried on for ever, as `docs/rollouts.md` says; each try must wait longer.

use longshore_model::spec::FailureAction;
use longshore_model::{Plan, Replica, ServiceKey};

use crate::adapter::{self, Wish};
use crate::world::World;

impl World {
    /// Is what the file asks for tried on for ever? What crashes or cannot be pulled is, where
    /// every replica that stays is of it and it was not given up for the last good one: elsewhere a
    /// stopped rollout goes back to the others, and the plan must come to rest. What is told to go on in spite of failures is, whatever it
    /// fails of and whatever else stays.
    pub(crate) fn crash_loops(&self, plan: &Plan, key: &ServiceKey) -> bool {
        let wish = self.users.of(key).and_then(|service| service.wish.as_ref());
        let bad = |wish: &&Wish| !wish.image.starts_with("good-") && !wish.impossible;
        let Some(wish) = wish.filter(bad) else {
            return false;
        };
        let fails = match self.is_global(key) {
            // Each node tries at its own times: no minute passes without one that fails.
            true => &["crash-", "missing", "deaf"][..],
            false => &["crash-", "missing"],
        };
        let fails = fails.iter().any(|word| wish.image.starts_with(word));
        let alone = || {
            adapter::of_service(plan, key)
                .filter(|replica| replica.leaving.is_none())
                .all(|replica| adapter::image(plan, replica) == wish.image)
        };
        let tried = || fails && !adapter::rolled_back(plan, key) && alone();
        wish.failure_action == FailureAction::Continue || tried()
    }

    /// Is nothing else planned than before, but for new tries of what crash-loops? Generations of
    /// nodes and routes follow from the services and are not compared.
    pub(crate) fn rests(&self, before: &Plan, after: &Plan) -> bool {
        if before.version == after.version {
            return true;
        }
        let others = |plan: &Plan| {
            let services = plan.services.iter();
            let others = services.filter(|(key, _)| {
                !(self.crash_loops(before, key) && self.crash_loops(after, key))
            });
            let others = others.map(|(key, service)| (key.clone(), service.clone()));
            others.collect::<Vec<_>>()
        };
        // Without a service that crash-loops, not even a number may change.
        let excused = others(after).len() < after.services.len();
        excused && before.lost == after.lost && others(before) == others(after)
    }

    /// 9: in the calm phase, what crash-loops is tried again only after its back-off, and the
    /// back-off doubles up to its cap with each failed round: it counts from the failure. That it
    /// may run healthily for a moment is no excuse; what failed for a fault that is over is
    /// forgiven once all of it has run for the time that proves it.
    pub(crate) fn judge_loops(&self, before: &Plan, after: &Plan, now_ms: u64) -> Vec<String> {
        let mut found = Vec::new();
        let keys = after.services.keys().filter(|_| self.put_right);
        for key in keys.filter(|key| self.crash_loops(before, key) && self.crash_loops(after, key))
        {
            let Some(was) = adapter::failures(before, key) else {
                continue;
            };
            // A pause that is longer than the cap was begun before the clock was put back: it ends.
            if was.retry_at_ms > now_ms + self.scenario.planner.backoff_cap_ms {
                continue;
            }
            let early = adapter::of_service(after, key).any(|replica| {
                replica.template == was.template
                    && adapter::replica(before, replica.id).is_none()
                    && self.pauses(replica, now_ms)
            });
            if early && now_ms < was.retry_at_ms {
                found.push(format!("{key}: crash-loops and starts within its back-off"));
            }
            let Some(is) = adapter::failures(after, key) else {
                if !self.runs_well(after, key) {
                    found.push(format!("{key}: crash-loops and is forgiven"));
                }
                continue;
            };
            let planner = &self.scenario.planner;
            let doubled = planner.backoff_base_ms << was.rounds.min(20);
            let least = now_ms + doubled.min(planner.backoff_cap_ms);
            if is.template == was.template
                && is.retry_at_ms != was.retry_at_ms
                && (is.rounds != was.rounds + 1 || is.retry_at_ms < least)
            {
                found.push(format!("{key}: crash-loops and its back-off does not grow"));
            }
        }
        found
    }

    /// Is the back-off of its service that of a new replica as well? Of one on each node, a node
    /// pauses by what failed there, for no longer than the longest back-off: on another one the
    /// template may be good (its image may be there, its port free), and waiting there for this
    /// one's pause would leave it without.
    fn pauses(&self, fresh: &Replica, now_ms: u64) -> bool {
        let cap_ms = self.scenario.planner.backoff_cap_ms;
        let mut lives = self.truth.lives.values();
        !self.is_global(&fresh.service)
            || lives.any(|life| {
                let lately = |failed_ms| now_ms.saturating_sub(failed_ms) < cap_ms;
                (&life.service, &life.node, &life.template)
                    == (&fresh.service, &fresh.node, &fresh.template)
                    && life.failed_ms.is_some_and(lately)
            })
    }

    /// Has each replica that stays answered on its host for as long as proves it?
    fn runs_well(&self, plan: &Plan, key: &ServiceKey) -> bool {
        let proven = |replica: &Replica| {
            let host = self.hosts.iter().find(|host| host.id == replica.node);
            let mut there = host.into_iter().flat_map(|h| h.engine.containers.values());
            there.any(|container| {
                let since = container.started_at + self.scenario.planner.backoff_reset_ms;
                container.replica == replica.id && container.listens(self.now) && since <= self.now
            })
        };
        let mut stay = adapter::of_service(plan, key)
            .filter(|replica| replica.leaving.is_none() && !replica.paused)
            .peekable();
        stay.peek().is_some() && stay.all(proven)
    }
}
