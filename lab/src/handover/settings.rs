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
    /// The classic way afterwards, on the same hosts (`PEERS=classic`).
    pub classic: bool,
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
        let classic = match get("PEERS").as_deref() {
            None => false,
            Some("classic") => true,
            Some(other) => return Err(format!("PEERS={other}: classic, or nothing")),
        };
        Ok(Self {
            cycles,
            kills: number("KILLS", cycles)?,
            gate_off,
            classic,
        })
    }
}
