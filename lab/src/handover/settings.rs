//! Settings of the bench, from the environment.

/// How much of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Cycles of planned changes (`CYCLES`, default 20).
    pub cycles: usize,
    /// Workers killed (`KILLS`, default as many as cycles).
    pub kills: usize,
    /// The controller has a seeded mistake: replicas stop before they have drained (`GATE=off`).
    pub gate_off: bool,
    /// Other ways afterwards, on the same hosts (`PEERS=classic,swarm`).
    pub peers: Vec<Peer>,
}

/// Another way of running the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Containers by hand.
    Classic,
    /// Docker Swarm.
    Swarm,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// In words.
    pub fn from_env() -> Result<Self, String> {
        let get = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let number = |name: &str, default: usize| match get(name) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(number @ 0..=1_000) => Ok(number),
                _ => Err(format!("{name}={text}: a number, 1000 at most")),
            },
        };
        let cycles = number("CYCLES", 20)?;
        let gate_off = match get("GATE").as_deref() {
            None | Some("on") => false,
            Some("off") => true,
            Some(other) => return Err(format!("GATE={other}: on or off")),
        };
        let peers = match get("PEERS") {
            None => Vec::new(),
            Some(text) => text.split(',').map(peer).collect::<Result<_, _>>()?,
        };
        Ok(Self {
            cycles,
            kills: number("KILLS", cycles)?,
            gate_off,
            peers,
        })
    }
}

fn peer(name: &str) -> Result<Peer, String> {
    match name {
        "classic" => Ok(Peer::Classic),
        "swarm" => Ok(Peer::Swarm),
        other => Err(format!(
            "PEERS={other}: classic, swarm, or both (classic,swarm)"
        )),
    }
}
