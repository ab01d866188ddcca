//! What the screen shows, and what keys do to it.

use std::collections::{BTreeMap, VecDeque};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::output::inspected::World;

/// Looks that are kept of each line.
const HISTORY_MAX: usize = 60;
/// Longest filter.
const FILTER_CHARS_MAX: usize = 40;
const PAGE: usize = 10;

/// What a key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Show,
    Quit,
}

/// What services and replicas are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    Cpu,
    Memory,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Name => Self::Cpu,
            Self::Cpu => Self::Memory,
            Self::Memory => Self::Name,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// CPU and memory together of all replicas of a service.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Use {
    pub(super) cpu_milli: u64,
    pub(super) memory_bytes: u64,
    pub(super) sessions: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) context: String,
    pub(super) colour: bool,
    pub(super) world: Option<World>,
    pub(super) looked_ms: u64,
    /// Why the last look failed.
    pub(super) away: Option<String>,
    pub(super) filter: String,
    /// Keys go to the filter.
    pub(super) edits: bool,
    pub(super) sort: Sort,
    /// Replicas that are scrolled past.
    pub(super) offset: usize,
    /// CPU by `node/NAME` in percent and `service/KEY` in thousandths of a core.
    history: BTreeMap<String, VecDeque<u64>>,
}

impl State {
    pub(super) fn new(context: &str, colour: bool) -> Self {
        Self {
            context: context.to_owned(),
            colour,
            world: None,
            looked_ms: 0,
            away: None,
            filter: String::new(),
            edits: false,
            sort: Sort::Name,
            offset: 0,
            history: BTreeMap::new(),
        }
    }

    /// A look succeeded.
    pub(super) fn take(&mut self, world: World, now_ms: u64) {
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for node in &world.nodes {
            let percent = node.cpu_ratio.filter(|r| r.is_finite()).unwrap_or(0.0) * 100.0;
            seen.insert(format!("node/{}", node.id), whole(percent));
        }
        self.world = Some(world);
        for (key, used) in self.uses() {
            seen.insert(format!("service/{key}"), used.cpu_milli);
        }
        self.history.retain(|key, _| seen.contains_key(key));
        for (key, value) in seen {
            let values = self.history.entry(key).or_default();
            values.push_back(value);
            if values.len() > HISTORY_MAX {
                values.pop_front();
            }
        }
        self.looked_ms = now_ms;
        self.away = None;
    }

    /// A look failed, and a later one may not.
    pub(super) fn away(&mut self, why: &str) {
        self.away = Some(why.to_owned());
    }

    /// What each service uses.
    pub(super) fn uses(&self) -> BTreeMap<String, Use> {
        let mut uses: BTreeMap<String, Use> = BTreeMap::new();
        for replica in self.world.iter().flat_map(|world| &world.replicas) {
            let used = uses.entry(replica.service.clone()).or_default();
            let cpu = replica.cpu_milli.filter(|milli| milli.is_finite());
            used.cpu_milli = used.cpu_milli.saturating_add(whole(cpu.unwrap_or(0.0)));
            used.memory_bytes = used.memory_bytes.saturating_add(replica.memory_bytes);
            used.sessions = used.sessions.saturating_add(u64::from(replica.sessions));
        }
        uses
    }

    /// The last `width` looks as bars; `full` is the highest bar at least.
    pub(super) fn bars(&self, key: &str, width: usize, full: u64) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let Some(values) = self.history.get(key) else {
            return String::new();
        };
        let top = values.iter().copied().max().unwrap_or(0).max(full).max(1);
        let from = values.len().saturating_sub(width);
        let bar = |value: &u64| {
            let at = value.saturating_mul(7).div_ceil(top).min(7);
            BARS[usize::try_from(at).unwrap_or(7)]
        };
        values.iter().skip(from).map(bar).collect()
    }

    /// Does a line with this name stay?
    pub(super) fn shows(&self, name: &str) -> bool {
        self.filter.is_empty() || name.contains(&self.filter)
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Next {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Next::Quit,
                _ => Next::Show,
            };
        }
        if self.edits {
            self.edit(key.code);
            return Next::Show;
        }
        match key.code {
            KeyCode::Char('q') => return Next::Quit,
            // Back to all lines first, then out.
            KeyCode::Esc if self.filter.is_empty() => return Next::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => {
                self.filter.clear();
                self.edits = true;
            }
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('j') | KeyCode::Down => self.scroll(1, true),
            KeyCode::Char('k') | KeyCode::Up => self.scroll(1, false),
            KeyCode::PageDown => self.scroll(PAGE, true),
            KeyCode::PageUp => self.scroll(PAGE, false),
            _ => {}
        }
        Next::Show
    }

    fn edit(&mut self, code: KeyCode) {
        self.offset = 0;
        match code {
            KeyCode::Enter => self.edits = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.edits = false;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push(c);
            }
            _ => {}
        }
    }

    fn scroll(&mut self, lines: usize, down: bool) {
        let all = self.world.as_ref().map_or(0, |world| world.replicas.len());
        self.offset = match down {
            true => (self.offset + lines).min(all.saturating_sub(1)),
            false => self.offset.saturating_sub(lines),
        };
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(value: f64) -> u64 {
    value.max(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_proto::control::v1 as pb;

    fn world(cpu_milli: f64) -> World {
        let replica = |slot| pb::Replica {
            service: "shop/web".into(),
            name: format!("web.{slot}"),
            slot,
            cpu_milli: Some(cpu_milli),
            memory_bytes: 1 << 20,
            ..pb::Replica::default()
        };
        let node = pb::Node {
            id: "node1".into(),
            cpu_ratio: Some(0.5),
            ..pb::Node::default()
        };
        World {
            status: pb::GetStatusResponse::default(),
            nodes: vec![node],
            services: vec![],
            replicas: vec![replica(1), replica(2)],
        }
    }

    fn press(state: &mut State, code: KeyCode) -> Next {
        state.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn bars_grow_with_use_and_forget_the_oldest() {
        let mut state = State::new("lab", false);
        for cpu in [0.0, 100.0, 200.0, f64::NAN] {
            state.take(world(cpu), 1);
        }
        assert_eq!(state.bars("service/shop/web", 10, 0), "▁▅█▁");
        assert_eq!(state.bars("service/shop/web", 2, 0), "█▁");
        assert_eq!(state.bars("node/node1", 4, 100), "▅▅▅▅");
        for _ in 0..2 * HISTORY_MAX {
            state.take(world(1.0), 1);
        }
        assert_eq!(
            state.bars("node/node1", 1_000, 100).chars().count(),
            HISTORY_MAX
        );
        assert_eq!(state.bars("service/other", 10, 0), "");
    }

    #[test]
    fn keys_filter_sort_scroll_and_leave() {
        let mut state = State::new("lab", false);
        state.take(world(1.0), 1);
        for code in [KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Char('x')] {
            assert_eq!(press(&mut state, code), Next::Show);
        }
        assert!(state.edits && state.filter == "qx" && !state.shows("web"));
        press(&mut state, KeyCode::Backspace);
        press(&mut state, KeyCode::Enter);
        assert!(!state.edits && state.filter == "q");
        assert_eq!(press(&mut state, KeyCode::Esc), Next::Show);
        assert!(state.shows("web"));
        press(&mut state, KeyCode::Char('s'));
        assert_eq!(state.sort, Sort::Cpu);
        for _ in 0..5 {
            press(&mut state, KeyCode::Down);
        }
        assert_eq!(state.offset, 1, "the last line stays");
        press(&mut state, KeyCode::PageUp);
        assert_eq!(state.offset, 0);
        assert_eq!(press(&mut state, KeyCode::Esc), Next::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.key(interrupt), Next::Quit);
    }
}
