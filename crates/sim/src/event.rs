//! What may happen, and what goes over the wire.

use std::sync::Arc;

use longshore_model::{Assignment, ImageRef, ReplicaId, Routes};
use longshore_wire::{EdgeReport, Fence, NodeReport};
use node_agent::reconcile::action::Done;
use node_agent::runtime::{Container, Launch, RuntimeError};

use crate::scenario::Fault;

/// Number of a host.
pub type HostNo = usize;
/// Number of a connection between an agent and the controller; never used again.
pub type Conn = u64;

/// From an agent to the controller.
#[derive(Debug, Clone)]
pub enum Up {
    /// The first message.
    Hello,
    /// Answer to a ping.
    Echo(u64),
    /// What runs.
    Node(Box<NodeReport>),
    /// What HAProxy runs, and when it said so.
    Edge(Box<EdgeReport>, u64),
    /// A command could not be taken: routes or an assignment; what it keeps.
    Refused(bool, Fence, u64),
    /// The agent's end of the connection is gone.
    Close,
}

/// From the controller to an agent.
#[derive(Debug, Clone)]
pub enum Down {
    /// The session is on.
    Welcome,
    /// To be echoed.
    Ping(u64),
    /// An assignment.
    Assign(Fence, Arc<Assignment>),
    /// Routes.
    Route(Fence, Arc<Routes>),
    /// The controller's end of the connection is gone.
    Close,
}

/// Something that the controller's process does.
#[derive(Debug)]
pub enum ControllerEvent {
    /// A planning run, if it is still the one that is due then.
    Run(u64),
    /// A ping on a session.
    Ping(Conn),
}

/// Something that an agent's process does.
#[derive(Debug)]
pub enum AgentEvent {
    /// The reconciler looks, if this is still its next look.
    Wake(u64),
    /// The engine says that something happened.
    Look,
    /// A step is over.
    Done(Box<Done>),
    /// A listing is over.
    Listed(u64, Result<Vec<Container>, RuntimeError>),
    /// Time for a report, if this is still the next one.
    Report(u64),
    /// Dials the controller.
    Dial,
    /// Has it been silent for too long?
    Silence(Conn),
    /// The edge role looks, if this is still its next look.
    Edge(u64),
}

/// Something that an engine does for the process `epoch` of its agent.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Make a container.
    Create(Box<Launch>),
    /// Start it.
    Start(ReplicaId, String),
    /// Signal it.
    Stop(ReplicaId, String, Option<u64>),
    /// Freeze it.
    Pause(ReplicaId, String),
    /// Let it go on.
    Unpause(ReplicaId, String),
    /// Remove it.
    Remove(ReplicaId, String),
    /// Say what is there.
    List(u64),
    /// Say how one is.
    Inspect(ReplicaId, String),
    /// Fetch an image.
    Pull(ImageRef),
}

/// How a container ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself or by somebody's hand.
    Crash,
    /// For its memory.
    Oom,
    /// By itself: it is done.
    Done,
    /// Its agent told the engine to stop it.
    Told,
    /// With its host or its engine.
    Host,
}

/// Something that happens.
#[derive(Debug)]
pub enum Event {
    /// The controller's process starts.
    ControllerUp,
    /// Of the controller's process with that number.
    Controller(u32, ControllerEvent),
    /// A message reaches the controller's host.
    ToController(Conn, Up),
    /// A message reaches the agent's host.
    ToAgent(Conn, Down),
    /// An agent's process starts.
    AgentUp(HostNo),
    /// Of the agent's process with that number.
    Agent(HostNo, u32, AgentEvent),
    /// A host has power again.
    HostUp(HostNo),
    /// Of the engine, in that boot of its host, for the agent's process with that number.
    Engine(HostNo, u32, u32, Effect),
    /// A container's run ends.
    Exit(HostNo, String, u32, End),
    /// HAProxy asks its servers; its worker must be this one.
    Checks(HostNo, u32),
    /// HAProxy's supervisor starts it.
    HaproxyUp(HostNo),
    /// A client asks.
    Request,
    /// A client has its answer.
    Answered(u64),
    /// Somebody injects a fault.
    Inject,
    /// A host that comes and goes loses its power again; so many times more.
    Flap(HostNo, u32),
    /// A fault is over.
    Heal(Fault, HostNo, HostNo),
    /// A user does something.
    User,
    /// The load changes.
    Load,
    /// The controller asks the Prometheus server.
    Ask,
    /// Faults and users are over.
    Calm,
    /// Is it calm?
    Watch,
}
