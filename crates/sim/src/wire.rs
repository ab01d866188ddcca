//! The wires between agents and the controller. As TCP: in order and whole, or broken. A cut way
//! holds what was sent until it is whole again, unless an end gave up before.

use crate::event::{Conn, Down, Event, HostNo, Up};
use crate::world::World;

/// One connection.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    /// The agent's host.
    pub host: HostNo,
    up_last: u64,
    down_last: u64,
}

/// What a cut way holds back.
#[derive(Debug)]
pub enum Held {
    /// For the controller.
    Up(Conn, Up),
    /// For an agent.
    Down(Conn, Down),
}

impl World {
    /// A new connection.
    pub(crate) fn dial(&mut self, host: HostNo) -> Conn {
        self.conns += 1;
        let wire = Wire {
            host,
            up_last: self.now,
            down_last: self.now,
        };
        self.wires.insert(self.conns, wire);
        self.conns
    }

    fn travel_ms(&mut self, conn: Conn) -> u64 {
        let slow_ms = self.hosts[self.wires[&conn].host].way.slow_ms;
        let jitter_ms = self.dice.between(0, slow_ms.max(3));
        1 + jitter_ms
    }

    pub(crate) fn send_up(&mut self, conn: Conn, message: Up) {
        let at_ms = self.now + self.travel_ms(conn);
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.up_last = wire.up_last.max(at_ms);
            let at_ms = wire.up_last;
            self.queue.push(at_ms, Event::ToController(conn, message));
        }
    }

    pub(crate) fn send_down(&mut self, conn: Conn, message: Down) {
        let at_ms = self.now + self.travel_ms(conn);
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.down_last = wire.down_last.max(at_ms);
            let at_ms = wire.down_last;
            self.queue.push(at_ms, Event::ToAgent(conn, message));
        }
    }

    pub(crate) fn arrive_up(&mut self, conn: Conn, message: Up) {
        let host = self.wires[&conn].host;
        if self.hosts[host].way.up_cut {
            return self.held.push(Held::Up(conn, message));
        }
        self.hear(conn, message);
    }

    pub(crate) fn arrive_down(&mut self, conn: Conn, message: Down) {
        let host = self.wires[&conn].host;
        if self.hosts[host].way.down_cut {
            return self.held.push(Held::Down(conn, message));
        }
        self.told(conn, message);
    }

    /// What the ways of a host held back goes on.
    pub(crate) fn release(&mut self, host: HostNo) {
        for held in std::mem::take(&mut self.held) {
            let (conn, up) = match &held {
                Held::Up(conn, _) => (*conn, true),
                Held::Down(conn, _) => (*conn, false),
            };
            let (at, way) = (self.wires[&conn].host, self.hosts[host].way);
            let cut = if up { way.up_cut } else { way.down_cut };
            match held {
                held if at != host || cut => self.held.push(held),
                Held::Up(conn, message) => {
                    self.queue
                        .push(self.now, Event::ToController(conn, message));
                }
                Held::Down(conn, message) => {
                    self.queue.push(self.now, Event::ToAgent(conn, message));
                }
            }
        }
    }
}
