//! The screen: nodes, services, replicas, keys.

use longshore_proto::control::v1 as pb;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table};

use super::state::{Sort, State, Use};
use crate::output::bytes;
use crate::output::inspected::World;
use crate::text::printable;

/// Looks that a line of bars shows.
const BARS: u16 = 20;

pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let Some(world) = &state.world else { return };
    let nodes = lines(world.nodes.iter().filter(|n| state.shows(&n.id)).count());
    let services = lines(
        world
            .services
            .iter()
            .filter(|s| shows_service(state, world, s))
            .count(),
    );
    let third = (frame.area().height / 3).max(2);
    let [head, node_area, service_area, replica_area, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(nodes.min(third)),
        Constraint::Length(services.min(third)),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(header(state, world), head);
    frame.render_widget(node_table(state, world), node_area);
    frame.render_widget(service_table(state, world), service_area);
    frame.render_widget(replica_table(state, world, replica_area), replica_area);
    frame.render_widget(footer(state), foot);
}

/// With its title and a free line below.
fn lines(rows: usize) -> u16 {
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(2)
}

/// A service stays with the replicas and nodes that the filter leaves.
fn shows_service(state: &State, world: &World, service: &pb::Service) -> bool {
    state.shows(&service.key)
        || world
            .replicas
            .iter()
            .any(|r| r.service == service.key && shows_replica(state, r))
}

fn shows_replica(state: &State, replica: &pb::Replica) -> bool {
    state.shows(&format!("{}.{}", replica.service, replica.slot)) || state.shows(&replica.node)
}

fn header(state: &State, world: &World) -> Line<'static> {
    let s = &world.status;
    let text = format!(
        "{}  context {}  nodes {} of {} ready  replicas {} of {} serving",
        s.cluster,
        state.context,
        s.nodes_ready,
        s.nodes_total,
        s.replicas_serving,
        s.replicas_wanted
    );
    let mut spans = vec![Span::styled(printable(&text), bold())];
    let said = match (&state.away, s.problems.first()) {
        (Some(away), _) => Some((format!("  {away}"), Color::Red)),
        (None, Some(p)) => Some((format!("  ! {}: {}", p.about, p.message), Color::Yellow)),
        (None, None) => None,
    };
    if let Some((text, colour)) = said {
        spans.push(Span::styled(printable(&text), tone(state, colour)));
    }
    Line::from(spans)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn tone(state: &State, colour: Color) -> Style {
    match state.colour {
        true => Style::new().fg(colour),
        false => Style::new(),
    }
}

fn titles(words: &[&'static str]) -> Row<'static> {
    Row::new(words.to_vec()).style(bold())
}

fn cell(text: impl Into<String>) -> Cell<'static> {
    Cell::from(printable(&text.into()))
}

fn toned(state: &State, text: &str, colour: Color) -> Cell<'static> {
    cell(text).style(tone(state, colour))
}

fn node_table(state: &State, world: &World) -> Table<'static> {
    let nodes = world.nodes.iter().filter(|n| state.shows(&n.id));
    let rows = nodes.map(|n| {
        let colour = if n.state == "ready" {
            Color::Green
        } else {
            Color::Red
        };
        let status = match n.availability.as_str() {
            "" | "active" => n.state.clone(),
            availability => format!("{} {availability}", n.state),
        };
        let cpu = n.cpu_ratio.filter(|r| r.is_finite());
        let cpu = cpu.map_or_else(|| "-".into(), |r| format!("{:.0}%", r * 100.0));
        Row::new(vec![
            cell(&n.id),
            toned(state, &status, colour),
            cell(n.replicas.to_string()),
            cell(cpu),
            Cell::from(state.bars(&format!("node/{}", n.id), usize::from(BARS), 100)),
            cell(format!(
                "{} of {}",
                bytes(n.memory_used_bytes),
                bytes(n.memory_bytes)
            )),
        ])
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Length(BARS),
        Constraint::Length(20),
    ];
    let header = titles(&["NODE", "STATUS", "REPLICAS", "CPU", "", "MEMORY"]);
    Table::new(rows, widths).header(header)
}

fn service_table(state: &State, world: &World) -> Table<'static> {
    let uses = state.uses();
    let used = |s: &pb::Service| uses.get(&s.key).copied().unwrap_or_default();
    let mut services: Vec<&pb::Service> = world
        .services
        .iter()
        .filter(|s| shows_service(state, world, s))
        .collect();
    services.sort_by(|a, b| by(state.sort, &used(a), &used(b)).then(a.key.cmp(&b.key)));
    let rows = services.into_iter().map(|s| {
        let ready = if s.routes.is_empty() {
            s.healthy
        } else {
            s.serving
        };
        let colour = match ready {
            n if n == s.wanted => Color::Green,
            0 => Color::Red,
            _ => Color::Yellow,
        };
        let used = used(s);
        Row::new(vec![
            cell(&s.key),
            toned(state, &format!("{ready}/{}", s.wanted), colour),
            cell(used.sessions.to_string()),
            cell(format!("{}m", used.cpu_milli)),
            Cell::from(state.bars(&format!("service/{}", s.key), usize::from(BARS), 0)),
            cell(bytes(used.memory_bytes)),
        ])
    });
    let widths = [
        Constraint::Fill(4),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(BARS),
        Constraint::Length(20),
    ];
    let header = titles(&["SERVICE", "SERVING", "SESSIONS", "CPU", "", "MEMORY"]);
    Table::new(rows, widths).header(header)
}

fn by(sort: Sort, a: &Use, b: &Use) -> std::cmp::Ordering {
    match sort {
        Sort::Name => std::cmp::Ordering::Equal,
        Sort::Cpu => b.cpu_milli.cmp(&a.cpu_milli),
        Sort::Memory => b.memory_bytes.cmp(&a.memory_bytes),
    }
}

fn replica_table(state: &State, world: &World, area: Rect) -> Table<'static> {
    let used = |r: &pb::Replica| Use {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        cpu_milli: r
            .cpu_milli
            .filter(|c| c.is_finite())
            .unwrap_or(0.0)
            .max(0.0) as u64,
        memory_bytes: r.memory_bytes,
        sessions: u64::from(r.sessions),
    };
    let mut replicas: Vec<&pb::Replica> = world
        .replicas
        .iter()
        .filter(|r| shows_replica(state, r))
        .collect();
    replicas.sort_by(|a, b| {
        let names = (&a.service, a.slot, a.id).cmp(&(&b.service, b.slot, b.id));
        by(state.sort, &used(a), &used(b)).then(names)
    });
    let offset = state.offset.min(replicas.len().saturating_sub(1));
    let rows = replicas
        .into_iter()
        .skip(offset)
        .take(usize::from(area.height));
    let rows = rows.map(|r| {
        let colour = match r.state.as_str() {
            "healthy" => Color::Green,
            "failed" | "unhealthy" => Color::Red,
            _ => Color::Yellow,
        };
        Row::new(vec![
            cell(format!("{}.{}", r.service, r.slot)),
            cell(&r.node),
            toned(state, &r.state, colour),
            cell(&r.traffic),
            cell(r.sessions.to_string()),
            cell(format!("{}m", used(r).cpu_milli)),
            cell(bytes(r.memory_bytes)),
        ])
    });
    let widths = [
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(20),
    ];
    let header = titles(&[
        "REPLICA", "NODE", "STATE", "TRAFFIC", "SESSIONS", "CPU", "MEMORY",
    ]);
    Table::new(rows, widths).header(header)
}

fn footer(state: &State) -> Line<'static> {
    if state.edits {
        return Line::from(printable(&format!(
            "filter: {}_  Enter keeps it, Esc drops it",
            state.filter
        )));
    }
    let filter = match state.filter.as_str() {
        "" => String::new(),
        filter => format!("  filter {filter}, Esc shows all"),
    };
    let text = format!(
        "q quit  / filter  s sort: {}  j k scroll{filter}",
        state.sort.word()
    );
    Line::from(printable(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn world() -> World {
        let replica = |slot: u32, node: &str| pb::Replica {
            service: "shop/web".into(),
            name: format!("web.{slot}"),
            slot,
            node: node.into(),
            state: "healthy".into(),
            traffic: "serve".into(),
            cpu_milli: Some(100.0 * f64::from(slot)),
            memory_bytes: 25 << 20,
            sessions: 3,
            ..pb::Replica::default()
        };
        let node = |id: &str| pb::Node {
            id: id.into(),
            state: "ready".into(),
            cpu_ratio: Some(0.23),
            memory_bytes: 4 << 30,
            memory_used_bytes: 1 << 30,
            ..pb::Node::default()
        };
        World {
            status: pb::GetStatusResponse {
                cluster: "lab".into(),
                nodes_ready: 2,
                nodes_total: 2,
                ..pb::GetStatusResponse::default()
            },
            nodes: vec![node("node1"), node("node2")],
            services: vec![pb::Service {
                key: "shop/web".into(),
                wanted: 2,
                healthy: 2,
                ..pb::Service::default()
            }],
            replicas: vec![replica(1, "node1"), replica(2, "node2")],
        }
    }

    fn shown(state: &State, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| {
            (0..width)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
        };
        (0..height).map(line).collect()
    }

    #[test]
    fn nodes_services_and_replicas_are_there_and_the_filter_holds_for_all() {
        let mut state = State::new("prod", false);
        state.take(world(), 1);
        let text = shown(&state, 100, 20).join("\n");
        for part in [
            "context prod",
            "node2",
            "23%",
            "shop/web ",
            "2/2",
            "300m",
            "shop/web.2",
            "50 MiB",
            "q quit",
        ] {
            assert!(text.contains(part), "no {part}: {text}");
        }
        state.filter = "node2".into();
        let text = shown(&state, 100, 20).join("\n");
        assert!(
            !text.contains("node1") && text.contains("shop/web.2"),
            "{text}"
        );
        state.filter.clear();
        state.sort = Sort::Cpu;
        let lines = shown(&state, 100, 20);
        let at = |part: &str| lines.iter().position(|line| line.contains(part)).unwrap();
        assert!(
            at("shop/web.2") < at("shop/web.1"),
            "the busiest first: {lines:?}"
        );
    }

    #[test]
    fn no_screen_is_too_small_and_no_name_is_a_command() {
        let mut state = State::new("prod", true);
        let mut world = world();
        world.nodes[0].id = "\u{1b}[2Jnode".into();
        state.take(world, 1);
        state.away("cannot list nodes: the connection broke");
        for (width, height) in [(1, 1), (3, 2), (20, 5), (200, 3)] {
            let text = shown(&state, width, height).join("");
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
        assert!(shown(&state, 120, 10)[0].contains("the connection broke"));
    }
}
