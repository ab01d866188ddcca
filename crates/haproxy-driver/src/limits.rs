//! How many files HAProxy's worker may open.
//!
//! It needs two for each connection, one for each server that it checks and a few for itself, and
//! works that out when it starts: from the file, not from what `haproxy -c` sees, which runs under
//! the agent's limit. A worker that may open fewer starts all the same (`no strict-limits` in the
//! base: a reload or a restart must not fail for it), but would run dry in the middle of its
//! traffic: connections to servers fail then, and health checks with them. So it is told to take
//! fewer clients at once; the others wait in the kernel's queue until one has left.

use crate::converge::Outcome;
use crate::edge::Edge;
use crate::readout::Info;

/// A worker that may open fewer files than it may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Short {
    /// Files that it may open, and would need.
    may: u32,
    needs: u32,
    /// Connections that it was started for, and that there are files for.
    wanted: u32,
    fits: u32,
}

/// None: it has enough, or does not say.
fn short(info: &Info) -> Option<Short> {
    let (may, needs, wanted) = (info.files_max, info.files_needed, info.connections_limit);
    if may == 0 || wanted == 0 || needs <= may {
        return None;
    }
    let fits = wanted.saturating_sub((needs - may).div_ceil(2)).max(1);
    Some(Short {
        may,
        needs,
        wanted,
        fits,
    })
}

/// Connections that the worker should take: what it was started for, as far as its files last. 0
/// where it does not say.
pub(crate) fn connections_that_fit(info: &Info) -> u32 {
    short(info).map_or(info.connections_limit, |short| short.fits)
}

impl Short {
    fn says(self) -> String {
        let Self {
            may,
            needs,
            wanted,
            fits,
        } = self;
        format!(
            "HAProxy may open {may} files and would need {needs} for {wanted} connections: it \
             takes {fits} at once, more wait; raise its limit (LimitNOFILE of its unit) or lower \
             connections_max"
        )
    }
}

impl Edge {
    /// Keeps a worker within its files. What goes wrong here holds up nothing else.
    pub(crate) async fn keep_within_files(&self, info: &Info, outcome: &mut Outcome) {
        let Some(short) = short(info) else {
            return;
        };
        if info.connections_max > short.fits {
            let command = format!("set maxconn global {}", short.fits);
            match self.admin.talk(&[command]).await {
                Ok(_) => outcome.steps += 1,
                Err(error) => outcome.problems.push(error.chain()),
            }
        }
        outcome.problems.push(short.says());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_what_files_are_there_for() {
        let info = |may, needs| Info {
            files_max: may,
            files_needed: needs,
            connections_limit: 20_000,
            ..Info::default()
        };
        assert_eq!(short(&info(40_240, 40_240)), None);
        assert_eq!(short(&info(0, 40_240)), None);
        let fits = |may| short(&info(may, 40_240)).map(|short| short.fits);
        assert_eq!(fits(40_239), Some(19_999));
        assert_eq!(fits(20_000), Some(9_880));
        assert_eq!(fits(100), Some(1));
    }
}
