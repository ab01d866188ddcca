//! What the engines do with what they are asked, and how containers end.

use std::net::SocketAddr;

use node_agent::reconcile::action::Done;
use node_agent::runtime::{Condition, ErrorKind, RuntimeError};

use crate::engine::{Image, Mood, refusal};
use crate::event::{AgentEvent, Effect, End, Event, HostNo};
use crate::world::World;

/// Deadline of a call to an engine.
const DEADLINE_MS: u64 = 5_000;

impl World {
    pub(crate) fn ask_engine(&mut self, host: HostNo, after_ms: u64, effect: Effect) {
        let at = &self.hosts[host];
        let at_ms = self.now + at.engine.takes(after_ms);
        let event = Event::Engine(host, at.boot, at.agent.epoch, effect);
        self.queue.push(at_ms, event);
    }

    pub(crate) fn engine(&mut self, host: HostNo, boot: u32, epoch: u32, effect: Effect) {
        let at = &self.hosts[host];
        if at.boot != boot || !at.power {
            return;
        }
        match at.engine.mood {
            Mood::Well => self.perform(host, epoch, effect, 0),
            Mood::Down => {
                let done = failed(effect, ErrorKind::Down);
                self.answer(host, epoch, 1, done);
            }
            Mood::Stuck => {
                let done = failed(effect.clone(), ErrorKind::Stuck);
                self.answer(host, epoch, DEADLINE_MS, done);
                if self.dice.one_in(2) {
                    // Nobody hears what came of it.
                    self.perform(host, 0, effect, 0);
                }
            }
        }
    }

    /// An answer for the process that asked; another one has asked for nothing.
    fn answer(&mut self, host: HostNo, epoch: u32, after_ms: u64, event: AgentEvent) {
        let at_ms = self.now + after_ms;
        self.queue.push(at_ms, Event::Agent(host, epoch, event));
    }

    fn perform(&mut self, host: HostNo, epoch: u32, effect: Effect, after_ms: u64) {
        let now = self.now;
        let made_ms = self.scenario.wall_ms + now;
        let engine = &mut self.hosts[host].engine;
        let done = match effect {
            Effect::List(began) => AgentEvent::Listed(began, Ok(engine.list())),
            Effect::Create(launch) => {
                let replica = launch.replica.id;
                match engine.create(&launch, made_ms) {
                    Ok(id) => {
                        let start_ms = self.dice.between(40, 200);
                        let at = &self.hosts[host];
                        let at_ms = now + at.engine.takes(start_ms);
                        let start = Effect::Start(replica, id);
                        let start = Event::Engine(host, at.boot, epoch, start);
                        return self.queue.push(at_ms, start);
                    }
                    Err(error) => launch_failed(replica, None, error),
                }
            }
            Effect::Start(replica, id) => match engine.start(&id, now) {
                Ok(run) => {
                    self.started(host, &id, run);
                    step(Done::Launched {
                        replica,
                        container: id,
                    })
                }
                Err(error) => launch_failed(replica, Some(id), error),
            },
            Effect::Stop(replica, id, grace_ms) => {
                return self.stop(host, epoch, replica, id, grace_ms);
            }
            Effect::Remove(replica, id) => {
                let ended = engine.inspect(&id, now).ok();
                let ended = ended.filter(|ended| ended.ended_ago_ms.is_some());
                engine
                    .ended
                    .extend(ended.as_ref().map(|ended| (replica, ended.exit_code)));
                let result = match engine.containers.remove(&id) {
                    Some(_) => Ok(ended),
                    None => Err(refusal(ErrorKind::NotFound, "remove")),
                };
                step(Done::Stopped { replica, result })
            }
            Effect::Pause(replica, id) => {
                let result = engine.turn(&id, Condition::Running, Condition::Paused);
                step(Done::Paused { replica, result })
            }
            Effect::Unpause(replica, id) => {
                let result = engine.turn(&id, Condition::Paused, Condition::Running);
                step(Done::Unpaused { replica, result })
            }
            Effect::Inspect(replica, id) => {
                let result = engine.inspect(&id, now);
                step(Done::Inspected { replica, result })
            }
            Effect::Pull(image) => {
                let result = match engine.registry_away || image.name.starts_with("missing") {
                    true => Err(refusal(ErrorKind::Refused, "pull")),
                    false => {
                        engine.images.insert(image.name.clone());
                        Ok(())
                    }
                };
                step(Done::Pulled { image, result })
            }
        };
        self.answer(host, epoch, after_ms, done);
    }

    fn started(&mut self, host: HostNo, id: &str, run: u32) {
        let now = self.now;
        let Some(container) = self.hosts[host].engine.containers.get(id) else {
            return;
        };
        let (image, replica) = (container.image, container.replica);
        say!(self, "{} starts {replica} (run {run})", self.hosts[host].id);
        let end = match image {
            Image::Crashes(after_ms) => Some((after_ms, End::Crash)),
            Image::Ends(after_ms) => Some((after_ms, End::Done)),
            _ => None,
        };
        if let Some((after_ms, end)) = end {
            let exit = Event::Exit(host, id.to_owned(), run, end);
            self.queue.push(now + after_ms, exit);
        }
        self.judge_start(replica);
        self.judge_writers(host, id);
        self.engine_says(host);
    }

    fn stop(
        &mut self,
        host: HostNo,
        epoch: u32,
        replica: longshore_model::ReplicaId,
        id: String,
        grace_ms: Option<u64>,
    ) {
        self.judge_stop(host, replica, &id);
        let at_boot = self.hosts[host].boot;
        let quick_ms = self.dice.between(5, 300);
        let now = self.now;
        let engine = &mut self.hosts[host].engine;
        let mut wait_ms = 1;
        match engine.containers.get_mut(&id) {
            None => {
                let result = Err(refusal(ErrorKind::NotFound, "stop"));
                let done = step(Done::Stopped { replica, result });
                return self.answer(host, epoch, 1, done);
            }
            Some(container) if container.runs() => {
                container.told = true;
                let grace_ms = grace_ms.unwrap_or(container.grace_ms).max(1);
                wait_ms = quick_ms.min(grace_ms);
                container.code = if quick_ms < grace_ms { 0 } else { 137 };
                let exit = Event::Exit(host, id.clone(), container.run, End::Told);
                self.queue.push(now + wait_ms, exit);
                say!(self, "{} stops {replica}", self.hosts[host].id);
            }
            Some(_) => say!(self, "{} removes {replica}", self.hosts[host].id),
        }
        let remove = Effect::Remove(replica, id);
        let remove = Event::Engine(host, at_boot, epoch, remove);
        self.queue.push(now + wait_ms + 2, remove);
    }

    /// A container's run is over.
    pub(crate) fn exit(&mut self, host: HostNo, id: &str, run: u32, end: End) {
        let now = self.now;
        let Some(container) = self.hosts[host].engine.containers.get_mut(id) else {
            return;
        };
        if !container.runs() || container.run != run {
            return;
        }
        container.condition = Condition::Exited;
        container.ran_ms = now - container.started_at;
        container.ended_at = now;
        container.end = end;
        let (replica, ports) = (container.replica, container.ports.clone());
        if end == End::Done {
            self.truth.done(replica);
        }
        say!(self, "{} {replica} ends ({end:?})", self.hosts[host].id);
        let address = self.hosts[host].address;
        for port in ports {
            self.cut_sessions(SocketAddr::new(address, port), replica, end);
        }
        self.engine_says(host);
    }

    /// The engine tells its agent that something happened.
    pub(crate) fn engine_says(&mut self, host: HostNo) {
        if self.hosts[host].engine.mood == Mood::Well {
            self.agent_later(host, 3, AgentEvent::Look);
        }
    }

    /// Does something answer at an address, seen from an edge?
    #[must_use]
    pub fn answers(&self, from: HostNo, address: SocketAddr) -> bool {
        let Some(to) = self.host_at(address) else {
            return false;
        };
        let at = &self.hosts[to];
        let way = !self.cuts.contains_key(&(from, to)) && at.power;
        way && at
            .engine
            .at_port(address.port())
            .is_some_and(|c| c.listens(self.now) && c.image != Image::Shy)
    }

    /// The host with that address.
    #[must_use]
    pub fn host_at(&self, address: SocketAddr) -> Option<HostNo> {
        self.hosts
            .iter()
            .position(|host| host.address == address.ip())
    }
}

fn step(done: Done) -> AgentEvent {
    AgentEvent::Done(Box::new(done))
}

fn launch_failed(
    replica: longshore_model::ReplicaId,
    container: Option<String>,
    error: RuntimeError,
) -> AgentEvent {
    step(Done::LaunchFailed {
        replica,
        container,
        error,
    })
}

/// What an engine that does not do it leaves its agent with.
fn failed(effect: Effect, kind: ErrorKind) -> AgentEvent {
    let error = refusal(kind, "asking the engine");
    match effect {
        Effect::List(began) => AgentEvent::Listed(began, Err(error)),
        Effect::Create(launch) => launch_failed(launch.replica.id, None, error),
        Effect::Start(replica, id) => launch_failed(replica, Some(id), error),
        Effect::Stop(replica, ..) | Effect::Remove(replica, _) => step(Done::Stopped {
            replica,
            result: Err(error),
        }),
        Effect::Pause(replica, _) => step(Done::Paused {
            replica,
            result: Err(error),
        }),
        Effect::Unpause(replica, _) => step(Done::Unpaused {
            replica,
            result: Err(error),
        }),
        Effect::Inspect(replica, _) => step(Done::Inspected {
            replica,
            result: Err(error),
        }),
        Effect::Pull(image) => step(Done::Pulled {
            image,
            result: Err(error),
        }),
    }
}
