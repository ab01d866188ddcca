//! What a hand on the socket changed beside the servers: ports that take nobody, and limits of
//! ports and of the whole process. It is put back to what the file says.

use std::sync::Arc;

use longshore_model::repair::RepairKind;

use crate::converge::Outcome;
use crate::decide::UNCHECKED;
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::limits::connections_that_fit;
use crate::look::Seen;
use crate::readout::{Info, StatLine, is_plain};
use crate::repairs::Repaired;
use crate::slots::SlotMap;

/// Rate limits of the process in the words of the command, in the order of `Info::rate_limits`.
const RATES: [&str; 3] = ["connections", "sessions", "ssl-sessions"];

/// One thing that is not as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Amiss {
    what: String,
    /// Puts it back.
    command: String,
}

/// What a command can put back.
fn amiss(info: &Info, stat: &[StatLine]) -> Vec<Amiss> {
    let mut found = Vec::new();
    let mut note = |what: String, command: String| found.push(Amiss { what, command });
    for line in frontends(stat) {
        let name = &line.proxy;
        if line.status == "PAUSED" {
            note(
                format!("{name} was disabled"),
                format!("enable frontend {name}"),
            );
        }
        // The file says none, so each has that of the process as it was started.
        let limit = info.connections_limit;
        if limit > 0 && line.limit.is_some_and(|now| now != limit) {
            note(
                format!("{name} had another limit"),
                format!("set maxconn frontend {name} {limit}"),
            );
        }
    }
    let fits = connections_that_fit(info);
    if info.connections_max < fits {
        note(
            "HAProxy had another limit of connections".to_owned(),
            format!("set maxconn global {fits}"),
        );
    }
    for (rate, now) in RATES.iter().zip(info.rate_limits) {
        if now > 0 {
            note(
                format!("HAProxy had a limit of {rate} a second"),
                format!("set rate-limit {rate} global 0"),
            );
        }
    }
    found
}

fn frontends(stat: &[StatLine]) -> impl Iterator<Item = &StatLine> {
    let frontends = stat.iter().filter(|line| line.server == "FRONTEND");
    frontends.filter(|line| is_plain(&line.proxy))
}

/// What only a reload from the file puts back, in words.
fn lost(seen: &Seen, outcome: &Outcome) -> Vec<Repaired> {
    let stat = seen.stat.as_deref().unwrap_or_default();
    let shut = frontends(stat).filter(|line| line.status == "STOP");
    let mut lost: Vec<String> = shut
        .map(|line| format!("{} was shut down", line.proxy))
        .collect();
    let reasons = outcome.decision.reload.iter();
    let unchecked = reasons.filter(|(_, why)| **why == UNCHECKED);
    lost.extend(unchecked.map(|(name, why)| format!("{name} {why} that somebody else added")));
    let changed = |what| Repaired::new(RepairKind::Changed, what);
    lost.into_iter().map(changed).collect()
}

impl Edge {
    /// Puts back what is not as the file has it, where the statistics were looked at. What HAProxy
    /// does not take is a problem and holds up nothing else.
    pub(crate) async fn restore(
        &mut self,
        seen: Arc<Seen>,
        outcome: &mut Outcome,
    ) -> Result<Arc<Seen>, EdgeError> {
        let find = |seen: &Seen| match &seen.stat {
            Some(stat) => amiss(&seen.info, stat),
            None => Vec::new(),
        };
        let found = find(&seen);
        if found.is_empty() {
            self.owe_reload_for_lost(&seen, outcome).await?;
            return Ok(seen);
        }
        let commands: Vec<String> = found.iter().map(|amiss| amiss.command.clone()).collect();
        let (_, answers) = self.admin.talk(&commands).await?;
        outcome.steps += commands.len();
        let seen = Arc::new(self.look(outcome.depth).await?);
        let left = find(&seen);
        for (i, amiss) in found.into_iter().enumerate() {
            if left.contains(&amiss) {
                let answer = answers.get(i).map_or("", |answer| answer.trim());
                let command = amiss.command;
                outcome
                    .problems
                    .push(format!("HAProxy does not take: {command} ({answer})"));
            } else {
                let changed = Repaired::new(RepairKind::Changed, amiss.what);
                outcome.repaired.push(changed);
            }
        }
        self.owe_reload_for_lost(&seen, outcome).await?;
        Ok(seen)
    }

    /// For what only a reload puts back, that reload is owed from now on.
    async fn owe_reload_for_lost(
        &mut self,
        seen: &Seen,
        outcome: &mut Outcome,
    ) -> Result<(), EdgeError> {
        outcome.lost = lost(seen, outcome);
        if !outcome.lost.is_empty() && !self.slots.reload_owed {
            let slots = self.slots.clone();
            self.save_slots(SlotMap {
                reload_owed: true,
                ..slots
            })
            .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readout;

    const INFO: &str = "Maxconn: 500\nHard_maxconn: 500\nUlimit-n: 1100\nMaxsock: 1050\n";
    const STAT: &str = "# pxname,svname,slim,status,\n";

    fn commands(info: &str, lines: &str) -> Vec<String> {
        let stat = readout::stat(&format!("{STAT}{lines}"));
        let found = amiss(&readout::info(info), &stat).into_iter();
        found.map(|amiss| amiss.command).collect()
    }

    #[test]
    fn what_is_as_the_file_has_it_is_left_alone() {
        let lines = "fe_80,FRONTEND,500,OPEN,\nbe_a,slot1,9,UP,\nbe_a,BACKEND,200,UP,\n";
        assert!(commands(INFO, lines).is_empty());
        // A release that does not say what it can.
        assert!(commands("", lines).is_empty());
        // Fewer files than it may need: `limits` lets it take fewer clients.
        let short = INFO.replace("1100", "1000");
        assert!(commands(&short, lines).is_empty());
        assert!(commands(&short.replace("Maxconn: 500\nH", "Maxconn: 475\nH"), lines).is_empty());
    }

    #[test]
    fn ports_and_limits_are_put_back() {
        let lines = "fe_80,FRONTEND,500,PAUSED,\nfe_81,FRONTEND,7,OPEN,\nfe;82,FRONTEND,7,OPEN,\n";
        let info = INFO.replace("Maxconn: 500\nH", "Maxconn: 100\nSessRateLimit: 3\nH");
        assert_eq!(
            commands(&info, lines),
            [
                "enable frontend fe_80",
                "set maxconn frontend fe_81 500",
                "set maxconn global 500",
                "set rate-limit sessions global 0",
            ]
        );
    }
}
