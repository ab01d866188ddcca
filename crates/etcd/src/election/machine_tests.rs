use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const TTL_MS: u64 = 3000;
const TICK_MS: u64 = 5;
const CALM_AT_MS: u64 = 25_000;
const END_MS: u64 = 40_000;

/// An etcd that never errs, behind a network that does.
#[derive(Default)]
struct Etcd {
    revision: u64,
    key: Option<Holder>,
    /// When each lease ends.
    leases: BTreeMap<i64, u64>,
}

impl Etcd {
    fn expire(&mut self, now: u64) {
        self.leases.retain(|_, ends| *ends > now);
        let alive = |holder: &Holder| self.leases.contains_key(&holder.lease.unwrap().0);
        if self.key.as_ref().is_some_and(|holder| !alive(holder)) {
            self.key = None;
            self.revision += 1;
        }
    }

    fn apply(&mut self, now: u64, ask: Ask) -> Answer {
        let ttl = Duration::from_millis(TTL_MS);
        match ask {
            Ask::Look => Answer::Seen(self.key.clone()),
            Ask::Grant => {
                self.revision += 1;
                let id = i64::try_from(self.revision).unwrap();
                self.leases.insert(id, now + TTL_MS);
                Answer::Granted(LeaseId(id), ttl)
            }
            Ask::Campaign(lease) if !self.leases.contains_key(&lease.0) => Answer::LeaseGone,
            Ask::Campaign(lease) if self.key.is_none() => {
                self.revision += 1;
                let (term, value) = (self.revision, Vec::new());
                let lease = Some(lease);
                self.key = Some(Holder { term, lease, value });
                Answer::Won { term }
            }
            Ask::Campaign(_) => Answer::Seen(self.key.clone()),
            Ask::KeepAlive(lease) => match self.leases.get_mut(&lease.0) {
                Some(ends) => {
                    *ends = now + TTL_MS;
                    Answer::Kept(ttl)
                }
                None => Answer::LeaseGone,
            },
            Ask::Revoke(lease) => {
                self.leases.remove(&lease.0);
                self.expire(now);
                Answer::Revoked
            }
        }
    }
}

struct Candidate {
    machine: Machine,
    /// Of its clock against the true one, in percent.
    speed: u64,
    offset_ms: u64,
    stalled_until: u64,
    /// Nothing reaches it, and nothing of it arrives.
    cut_until: u64,
    /// Number and local time at which its driver gives up on it.
    waits: Option<(u64, Moment)>,
}

impl Candidate {
    fn clock(&self, now: u64) -> Moment {
        Duration::from_millis(self.offset_ms + now * self.speed / 100)
    }
}

/// A message under way: to etcd, or back.
enum Post {
    Ask(usize, u64, Ask),
    Answer(usize, u64, Answer),
}

struct World {
    rng: StdRng,
    etcd: Etcd,
    candidates: Vec<Candidate>,
    post: Vec<(u64, Post)>,
    terms: Vec<u64>,
    calm: bool,
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let candidates = (0..count).map(|_| Candidate {
            machine: Machine::new(Duration::from_millis(TTL_MS)),
            speed: rng.random_range(70..=140),
            offset_ms: rng.random_range(0..1_000_000),
            stalled_until: 0,
            cut_until: 0,
            waits: None,
        });
        Self {
            candidates: candidates.collect(),
            rng,
            etcd: Etcd::default(),
            post: Vec::new(),
            terms: Vec::new(),
            calm: false,
        }
    }

    /// Puts a message under way: lost, quick, or slow.
    fn put(&mut self, now: u64, post: Post) {
        let (Post::Ask(who, ..) | Post::Answer(who, ..)) = post;
        if now < self.candidates[who].cut_until && !self.calm {
            return;
        }
        let delay = match self.rng.random_range(0..100) {
            0..5 if !self.calm => return,
            5..25 if !self.calm => self.rng.random_range(100..3000),
            _ => self.rng.random_range(1..20),
        };
        self.post.push((now + delay, post));
    }

    fn deliver(&mut self, now: u64) {
        let post = std::mem::take(&mut self.post).into_iter();
        let (due, later): (Vec<_>, Vec<_>) = post.partition(|(at, _)| *at <= now);
        self.post = later;
        for (_, post) in due {
            match post {
                Post::Ask(who, number, ask) => {
                    let answer = self.etcd.apply(now, ask);
                    self.put(now, Post::Answer(who, number, answer));
                }
                Post::Answer(who, number, answer) => {
                    let candidate = &mut self.candidates[who];
                    if now < candidate.stalled_until {
                        self.post
                            .push((candidate.stalled_until, Post::Answer(who, number, answer)));
                        continue;
                    }
                    let clock = candidate.clock(now);
                    candidate.machine.answer(clock, number, answer);
                }
            }
        }
    }

    fn act(&mut self, now: u64, who: usize) {
        if !self.calm && self.rng.random_range(0..2000) == 0 {
            self.candidates[who].stalled_until = now + self.rng.random_range(100..8000);
        }
        if !self.calm && self.rng.random_range(0..1000) == 0 {
            self.candidates[who].cut_until = now + self.rng.random_range(100..8000);
        }
        if self.rng.random_range(0..100) == 0 {
            self.candidates[who].machine.hint();
        }
        let candidate = &mut self.candidates[who];
        if now < candidate.stalled_until && !self.calm {
            return;
        }
        let clock = candidate.clock(now);
        if let Some((number, _)) = candidate.waits.take_if(|(_, until)| clock >= *until) {
            candidate.machine.answer(clock, number, Answer::Failed);
        }
        match candidate.machine.poll(clock) {
            Step::Send(number, ask) => {
                let patience = Machine::deadline(Duration::from_millis(TTL_MS));
                candidate.waits = Some((number, clock + patience));
                self.put(now, Post::Ask(who, number, ask));
            }
            // Its process ends, and starts again; answers to the old one are not the new one's.
            Step::Ended(_) => {
                let asked = candidate.machine.asked;
                candidate.machine = Machine::new(Duration::from_millis(TTL_MS));
                candidate.machine.asked = asked;
                candidate.waits = None;
            }
            Step::Wait(_) => {}
        }
    }

    fn leading(&self, now: u64) -> Vec<(usize, u64)> {
        let of = |(who, candidate): (usize, &Candidate)| {
            let lead = candidate.machine.leads(candidate.clock(now))?;
            Some((who, lead.term))
        };
        self.candidates.iter().enumerate().filter_map(of).collect()
    }

    fn run(&mut self) -> Result<(), TestCaseError> {
        for now in (0..END_MS).step_by(usize::try_from(TICK_MS).unwrap()) {
            self.calm = now >= CALM_AT_MS;
            self.etcd.expire(now);
            self.deliver(now);
            for who in 0..self.candidates.len() {
                self.act(now, who);
            }
            let leading = self.leading(now);
            prop_assert!(leading.len() <= 1, "at {now} ms: {leading:?}");
            for (_, term) in leading {
                let last = self.terms.last().copied().unwrap_or(0);
                prop_assert!(term >= last, "at {now} ms: term {term} after {last}");
                if term > last {
                    self.terms.push(term);
                }
            }
        }
        let (now, terms) = (END_MS - TICK_MS, &self.terms);
        prop_assert_eq!(
            self.leading(now).len(),
            1,
            "nobody leads in the end: {:?}",
            terms
        );
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_two_lead_at_once_and_one_does_in_the_end(seed: u64, count in 1_usize..=4) {
        World::new(seed, count).run()?;
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn sent(machine: &mut Machine, now: u64) -> (u64, Ask) {
    match machine.poll(ms(now)) {
        Step::Send(number, ask) => (number, ask),
        other => panic!("{other:?}"),
    }
}

/// Leads term 9 until 2000 ms, by a lease that was asked for at 0.
fn leader() -> Machine {
    let mut machine = Machine::new(ms(TTL_MS));
    let (number, _) = sent(&mut machine, 0);
    machine.answer(ms(0), number, Answer::Seen(None));
    let (number, _) = sent(&mut machine, 0);
    machine.answer(ms(100), number, Answer::Granted(LeaseId(1), ms(TTL_MS)));
    let (number, ask) = sent(&mut machine, 100);
    assert_eq!(ask, Ask::Campaign(LeaseId(1)));
    machine.answer(ms(200), number, Answer::Won { term: 9 });
    assert_eq!(machine.leads(ms(1999)).unwrap().term, 9);
    assert!(machine.leads(ms(2000)).is_none());
    machine
}

#[test]
fn a_keep_alive_counts_from_when_it_was_sent_and_not_once_it_is_too_late() {
    let mut machine = leader();
    let (number, ask) = sent(&mut machine, 1000);
    assert_eq!(ask, Ask::KeepAlive(LeaseId(1)));
    machine.answer(ms(1900), number, Answer::Kept(ms(TTL_MS)));
    assert!(machine.leads(ms(2999)).is_some() && machine.leads(ms(3000)).is_none());
    let (number, _) = sent(&mut machine, 2500);
    machine.answer(ms(3000), number, Answer::Kept(ms(TTL_MS)));
    assert!(machine.leads(ms(3000)).is_none());
    assert_eq!(machine.poll(ms(3000)), Step::Ended(End::Lapsed));
}

#[test]
fn a_lost_answer_of_a_won_campaign_is_made_up_for() {
    let mut machine = Machine::new(ms(TTL_MS));
    let (number, _) = sent(&mut machine, 0);
    machine.answer(ms(0), number, Answer::Seen(None));
    let (number, _) = sent(&mut machine, 0);
    machine.answer(ms(0), number, Answer::Granted(LeaseId(1), ms(TTL_MS)));
    let (number, _) = sent(&mut machine, 0);
    machine.answer(ms(500), number, Answer::Failed);
    let (number, ask) = sent(&mut machine, 800);
    assert_eq!(ask, Ask::Campaign(LeaseId(1)));
    let (term, lease, value) = (5, Some(LeaseId(1)), Vec::new());
    let holder = Holder { term, lease, value };
    machine.answer(ms(900), number, Answer::Seen(Some(holder)));
    assert_eq!(machine.leads(ms(1999)).unwrap().term, 5);
    assert!(machine.leads(ms(2000)).is_none());
}

#[test]
fn a_key_that_is_anothers_ends_a_leadership() {
    let mut machine = leader();
    let (number, _) = sent(&mut machine, 300);
    machine.answer(ms(301), number, Answer::Kept(ms(TTL_MS)));
    machine.hint();
    let (number, ask) = sent(&mut machine, 302);
    assert_eq!(ask, Ask::Look);
    machine.answer(ms(303), number, Answer::Seen(None));
    assert_eq!(machine.poll(ms(303)), Step::Ended(End::KeyGone));
    assert!(machine.leads(ms(303)).is_none());
}

#[test]
fn whoever_gives_up_leads_no_more_and_names_the_lease_to_end() {
    let mut machine = leader();
    assert_eq!(machine.resign(), Some(LeaseId(1)));
    assert!(machine.leads(ms(300)).is_none());
    assert_eq!(machine.poll(ms(300)), Step::Ended(End::Resigned));
}

#[test]
fn an_answer_to_an_earlier_question_changes_nothing() {
    let mut machine = leader();
    let (first, _) = sent(&mut machine, 1000);
    machine.answer(ms(1500), first, Answer::Failed);
    let (second, ask) = sent(&mut machine, 1750);
    assert_eq!(ask, Ask::KeepAlive(LeaseId(1)));
    machine.answer(ms(1800), first, Answer::Kept(ms(TTL_MS)));
    assert!(machine.leads(ms(1999)).is_some() && machine.leads(ms(2000)).is_none());
    machine.answer(ms(1900), second, Answer::Kept(ms(TTL_MS)));
    assert!(machine.leads(ms(3749)).is_some() && machine.leads(ms(3750)).is_none());
}

#[test]
fn a_campaign_that_was_won_too_late_is_given_up() {
    let mut machine = Machine::new(ms(TTL_MS));
    let (number, _) = sent(&mut machine, 0);
    machine.answer(ms(0), number, Answer::Seen(None));
    let (number, _) = sent(&mut machine, 0);
    machine.answer(ms(0), number, Answer::Granted(LeaseId(1), ms(TTL_MS)));
    let (number, _) = sent(&mut machine, 0);
    machine.answer(ms(2000), number, Answer::Won { term: 9 });
    assert!(machine.leads(ms(2000)).is_none());
    assert_eq!(sent(&mut machine, 2000).1, Ask::Revoke(LeaseId(1)));
}
