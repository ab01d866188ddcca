//! What is asked for.

/// Which cases, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Numbers of cases (`CASES=5,8`); empty: all.
    pub cases: Vec<u8>,
    /// All of them so many times (`ROUNDS`, default 1).
    pub rounds: usize,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// In words.
    pub fn from_env() -> Result<Self, String> {
        let get = |name: &str| std::env::var(name).unwrap_or_default();
        Self::read(&get("CASES"), &get("ROUNDS"))
    }

    pub(super) fn read(cases: &str, rounds: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let number: Option<u8> = text.trim().parse().ok();
            let known = |number: &u8| super::cases::ALL.iter().any(|case| case.number == *number);
            number.filter(known).ok_or_else(|| {
                let all = super::cases::ALL.iter().map(|case| case.number.to_string());
                let all: Vec<String> = all.collect();
                format!("CASES={cases}: numbers with commas, of {}", all.join(", "))
            })
        };
        let cases_of = cases.split(',').filter(|text| !text.trim().is_empty());
        let rounds = match rounds {
            "" => 1,
            text => match text.parse() {
                Ok(count @ 1..=100) => count,
                _ => return Err(format!("ROUNDS={text}: a number from 1 to 100")),
            },
        };
        Ok(Self {
            cases: cases_of.map(number).collect::<Result<_, _>>()?,
            rounds,
        })
    }

    pub(super) fn has(&self, case: u8) -> bool {
        self.cases.is_empty() || self.cases.contains(&case)
    }
}
