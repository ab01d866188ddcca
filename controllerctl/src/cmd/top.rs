//! `top`: the cluster on one screen, again and again.

mod screen;
mod state;

use std::io::IsTerminal;
use std::time::Duration;

use crossterm::event::{self, Event, KeyEventKind};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tokio::sync::mpsc;

use self::state::{Next, State};
use super::{Run, inspect};
use crate::cli::{Format, TopArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::inspected::World;
use crate::output::{now_ms, print};

/// How often the thread that reads keys looks whether somebody still wants them.
const KEY_PATIENCE: Duration = Duration::from_millis(200);
/// The screen where there is none.
const PLAIN_SIZE: (u16, u16) = (110, 60);
/// Looks and keys that wait to be taken.
const WAITING_MAX: usize = 64;

pub(super) async fn top(run: &Run, args: &TopArgs) -> Result<Exit, Failure> {
    if !matches!(run.out.format, Format::Table | Format::Wide) {
        return Err(Failure::new("top is a screen, not data")
            .exit(Exit::Usage)
            .hint("for data: controllerctl stats --no-stream -o json"));
    }
    let mut client = run.connect(None).await?;
    let mut state = State::new(&client.context, run.out.colour);
    state.take(inspect::look(&mut client).await?, now_ms());
    let has_screen = run.out.terminal && std::io::stdin().is_terminal();
    if args.once || !has_screen {
        print(&plain(&state)?)?;
        return Ok(Exit::Done);
    }
    let looks = look_again(client, args.interval);
    let mut terminal = ratatui::try_init()
        .map_err(|error| Failure::new("cannot take the screen").because(error))?;
    let ended = show(&mut terminal, state, looks).await;
    ratatui::restore();
    ended
}

/// The screen as text.
fn plain(state: &State) -> Result<String, Failure> {
    let failed = |_| Failure::new("cannot draw the screen");
    let (width, height) = PLAIN_SIZE;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).map_err(failed)?;
    terminal
        .draw(|frame| screen::draw(frame, state))
        .map_err(failed)?;
    let buffer = terminal.backend().buffer();
    let mut lines: Vec<String> = (0..height)
        .map(|y| {
            let cells = (0..width).filter_map(|x| buffer.cell((x, y)));
            let line: String = cells.map(ratatui::buffer::Cell::symbol).collect();
            line.trim_end().to_owned()
        })
        .collect();
    // Keys are of no use here, and neither is the space above them.
    lines.pop();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    Ok(lines.join("\n") + "\n")
}

async fn show(
    terminal: &mut ratatui::DefaultTerminal,
    mut state: State,
    mut looks: mpsc::Receiver<Result<World, Failure>>,
) -> Result<Exit, Failure> {
    let mut keys = keys();
    loop {
        let drawn = terminal.draw(|frame| screen::draw(frame, &state));
        drawn.map_err(|error| Failure::new("cannot draw the screen").because(error))?;
        tokio::select! {
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if state.key(key) == Next::Quit {
                        return Ok(Exit::Done);
                    }
                }
                Some(_) => {}
                None => return Ok(Exit::Done),
            },
            look = looks.recv() => match look {
                Some(Ok(world)) => state.take(world, now_ms()),
                Some(Err(failure)) if failure.transient => state.away(&failure.message),
                Some(Err(failure)) => return Err(failure),
                None => return Ok(Exit::Done),
            },
        }
    }
}

/// Asks the controller again and again; ends when nobody takes the answers.
fn look_again(mut client: Client, interval: Duration) -> mpsc::Receiver<Result<World, Failure>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let look = inspect::look(&mut client).await;
            if sender.send(look).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Keys, read by a thread of their own: such a read cannot be taken back.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(KEY_PATIENCE) {
                Ok(false) => {}
                Ok(true) => match event::read() {
                    // Keys that come faster than they are drawn are lost.
                    Ok(event) => drop(sender.try_send(event)),
                    Err(_) => return,
                },
                Err(_) => return,
            }
        }
    });
    receiver
}
