//! Power cuts (C2, G5 of the reliability goals): what was not synced is lost, or there in part, in pieces of a sector. What was
//! acknowledged is there once; what was under way is there whole, or not at all.
//!
//! `LONGSHORE_CUTS=8000` has more of them (`make durability`); `LONGSHORE_SEED=7` only that seed, with what it did.

use super::*;

/// Pieces in which a disk writes or loses.
const SECTOR_BYTES: usize = 512;
/// Cuts of one seed, each upon what the one before left.
const CUTS_PER_SEED: u64 = 4;
/// Operations of the disk before the next cut, at most.
const OPERATIONS_MAX: u64 = 120;

/// A small generator (splitmix64, public domain, <https://prng.di.unimi.it/splitmix64.c>).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

enum Done {
    Length(usize),
    Written(usize, Vec<u8>),
}

/// A disk until its power goes.
struct Platter {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync.
    pending: Vec<Done>,
    operations_left: u64,
    dice: Dice,
    /// Some syncs do nothing.
    lies: bool,
}

#[derive(Clone)]
struct Cuttable(Arc<Mutex<Platter>>);

impl std::fmt::Debug for Cuttable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a disk")
    }
}

impl Cuttable {
    fn new(image: Vec<u8>, mut dice: Dice, lies: bool) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            live: image.clone(),
            durable: image,
            pending: Vec::new(),
            operations_left: 1 + dice.below(OPERATIONS_MAX),
            dice,
            lies,
        })))
    }

    fn operate<T>(&self, work: impl FnOnce(&mut Platter) -> io::Result<T>) -> io::Result<T> {
        let mut platter = self.0.lock().unwrap();
        match platter.operations_left.checked_sub(1) {
            None => Err(io::Error::other("the power is gone")),
            Some(left) => {
                platter.operations_left = left;
                work(&mut platter)
            }
        }
    }

    /// What is on it after the cut, and the dice.
    fn cut(&self) -> (Vec<u8>, Dice) {
        let mut platter = self.0.lock().unwrap();
        let (mut image, pending) = (
            platter.durable.clone(),
            std::mem::take(&mut platter.pending),
        );
        let mut dice = Dice(platter.dice.next());
        for done in pending {
            match done {
                Done::Length(length) if dice.below(2) == 0 => image.resize(length, 0),
                Done::Length(_) => {}
                Done::Written(at, data) => {
                    let mut from = 0;
                    while from < data.len() {
                        let next = SECTOR_BYTES - (at + from) % SECTOR_BYTES;
                        let to = data.len().min(from + next);
                        if dice.below(2) == 0 {
                            let length = image.len().max(at + to);
                            image.resize(length, 0);
                            image[at + from..at + to].copy_from_slice(&data[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
        (image, dice)
    }
}

impl StorageBackend for Cuttable {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        let bytes = platter.live.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate(|platter| {
            let len = usize::try_from(len).unwrap();
            platter.live.resize(len, 0);
            platter.pending.push(Done::Length(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(|platter| {
            if platter.lies && platter.dice.below(3) == 0 {
                return Ok(());
            }
            platter.durable = platter.live.clone();
            platter.pending.clear();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operate(|platter| {
            let from = usize::try_from(offset).unwrap();
            let bytes = platter.live.get_mut(from..from + data.len());
            bytes
                .ok_or(io::ErrorKind::UnexpectedEof)?
                .copy_from_slice(data);
            platter.pending.push(Done::Written(from, data.to_vec()));
            Ok(())
        })
    }
}

/// What clients know.
#[derive(Default)]
struct Known {
    /// Whether the cluster was made.
    created: bool,
    /// It was cut off while it was made, and is made anew.
    half_made: bool,
    counts: BTreeMap<ServiceKey, ManualScale>,
    /// Times of events that were acknowledged, each of its own.
    events: Vec<u64>,
    /// Count that was under way at the cut.
    open_count: Option<(ServiceKey, ManualScale)>,
    open_event: Option<u64>,
    next: u64,
}

impl Known {
    fn count(&mut self, repository: &mut Repository, dice: &mut Dice) -> Result<(), StoreError> {
        self.next += 1;
        let at = key(u32::try_from(dice.below(40)).unwrap());
        let scale = manual(u32::try_from(self.next).unwrap());
        self.open_count = Some((at.clone(), scale.clone()));
        repository.put_manual(&at, &scale)?;
        self.open_count = None;
        self.counts.insert(at, scale);
        Ok(())
    }

    fn event(&mut self, repository: &mut Repository) -> Result<(), StoreError> {
        self.next += 1;
        self.open_event = Some(self.next);
        repository.record(&[started(self.next)])?;
        self.open_event = None;
        self.events.push(self.next);
        Ok(())
    }

    /// What is there after a cut is what was acknowledged, with what was under way or without.
    fn judge(&mut self, store: &dyn Store, loaded: &Loaded) -> Result<(), String> {
        let mut with = self.counts.clone();
        with.extend(self.open_count.take());
        let found = &loaded.desired.manual;
        if *found != self.counts && *found != with {
            return Err("counts are not those that were acknowledged".into());
        }
        self.counts.clone_from(found);
        let stored = Repository::events(store, 0, usize::MAX).map_err(|e| e.to_string())?;
        let found: Vec<u64> = stored.iter().map(|stored| stored.event.at_ms).collect();
        let mut with = self.events.clone();
        with.extend(self.open_event.take());
        if found != self.events && found != with {
            return Err(format!("events {found:?}, acknowledged {:?}", self.events));
        }
        self.events = found;
        Ok(())
    }

    /// Works until the power goes.
    fn work(&mut self, disk: &Cuttable, dice: &mut Dice) -> Result<(), String> {
        let backend = disk.clone();
        let open = move || Database::builder().create_with_backend(backend.clone());
        let room = || Ok(u64::MAX);
        let gone = || disk.0.lock().unwrap().operations_left == 0;
        let opened = RedbStore::with_opener(Box::new(open), Box::new(room), "disk".into());
        let store: Arc<dyn Store> = match opened {
            Ok(store) => Arc::new(store),
            Err(_) if gone() => return Ok(()),
            // Nobody was told that there is a cluster; `controller init` says by its marker that it is half made.
            Err(_) if !self.created => {
                self.half_made = true;
                return Ok(());
            }
            Err(error) => return Err(format!("it does not open: {}", crate::chain(&error))),
        };
        if !self.created {
            let meta = Meta::new("lab".into(), "x".into(), Vec::new());
            match Repository::create(&*store, &meta) {
                Ok(()) | Err(StoreError::Conflict { .. }) => self.created = true,
                Err(_) if gone() => return Ok(()),
                Err(error) => return Err(format!("it cannot be made: {}", crate::chain(&error))),
            }
        }
        let (mut repository, loaded) = match Repository::open(Arc::clone(&store)) {
            Ok(opened) => opened,
            Err(_) if gone() => return Ok(()),
            Err(error) => return Err(format!("it cannot be read: {}", crate::chain(&error))),
        };
        self.judge(&*store, &loaded)?;
        loop {
            let done = match dice.below(3) {
                0 => self.event(&mut repository),
                _ => self.count(&mut repository, dice),
            };
            if done.is_err() {
                return match gone() {
                    true => Ok(()),
                    false => Err("a write failed with the power on".into()),
                };
            }
        }
    }
}

/// One seed: what was wrong.
fn seed(seed: u64, lies: bool) -> Result<(), String> {
    let (mut known, mut dice) = (Known::default(), Dice(seed));
    let mut image = Vec::new();
    for _ in 0..CUTS_PER_SEED {
        let disk = Cuttable::new(image, Dice(dice.next()), lies);
        known.work(&disk, &mut dice)?;
        image = match std::mem::take(&mut known.half_made) {
            true => Vec::new(),
            false => disk.cut().0,
        };
    }
    // The last cut is looked at, too, with all the power that it takes.
    let disk = Cuttable::new(image, Dice(dice.next()), false);
    disk.0.lock().unwrap().operations_left = 2_000;
    known.work(&disk, &mut dice)
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if let Some(only) = setting("LONGSHORE_SEED") {
        return seed(only, false).unwrap();
    }
    let cuts = setting("LONGSHORE_CUTS").unwrap_or(200);
    let wrong: Vec<String> = (1..=cuts.div_ceil(CUTS_PER_SEED))
        .filter_map(|number| Some(format!("seed {number}: {}", seed(number, false).err()?)))
        .collect();
    println!("{cuts} power cuts: {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What shows that the judge can see: with syncs that lie, something acknowledged is lost.
#[test]
fn a_disk_whose_syncs_lie_is_found_out() {
    let seeds = setting("LONGSHORE_CUTS").unwrap_or(200) / CUTS_PER_SEED;
    let caught = (1..=seeds).filter(|number| seed(*number, true).is_err());
    let caught = caught.count();
    println!("{seeds} seeds with a disk that lies: {caught} caught");
    assert!(caught > 0);
}
