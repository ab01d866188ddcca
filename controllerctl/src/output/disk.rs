//! What takes room, and volumes, as rows and as the JSON contract.

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::{Row, Shown, Tone, size};

/// Less of a disk than one part in so many is little.
const LITTLE: u64 = 10;

/// `system df`
#[derive(Debug, Serialize)]
pub struct Room {
    /// Node, or `controller`.
    pub name: String,
    /// node, store
    pub kind: &'static str,
    /// Of the file system that the engine keeps its data on.
    pub disk_bytes: Option<u64>,
    /// Free of it.
    pub disk_free_bytes: Option<u64>,
    /// Images.
    pub images: Option<Share>,
    /// What containers wrote.
    pub containers: Option<Share>,
    /// Volumes.
    pub volumes: Option<Share>,
    /// Of builds.
    pub build_cache: Option<Share>,
    /// Of the controller's store.
    pub store_bytes: Option<u64>,
    /// Why nothing is known.
    pub problem: Option<String>,
}

/// How much of one kind there is.
#[derive(Debug, Serialize)]
pub struct Share {
    /// How many.
    pub count: u32,
    /// In use.
    pub active: u32,
    /// Together; none: the engine does not say.
    pub bytes: Option<u64>,
    /// That a prune would give back.
    pub reclaimable_bytes: Option<u64>,
}

impl From<&pb::DiskShare> for Share {
    fn from(s: &pb::DiskShare) -> Self {
        Self {
            count: s.count,
            active: s.active,
            bytes: s.bytes,
            reclaimable_bytes: s.reclaimable_bytes,
        }
    }
}

impl From<&pb::NodeDisk> for Room {
    fn from(n: &pb::NodeDisk) -> Self {
        let share = |share: &Option<pb::DiskShare>| share.as_ref().map(Share::from);
        let known = |bytes: u64| (n.disk_bytes > 0).then_some(bytes);
        Self {
            name: n.node.clone(),
            kind: "node",
            disk_bytes: known(n.disk_bytes),
            disk_free_bytes: known(n.disk_free_bytes),
            images: share(&n.images),
            containers: share(&n.containers),
            volumes: share(&n.volumes),
            build_cache: share(&n.build_cache),
            store_bytes: None,
            problem: (!n.problem.is_empty()).then(|| n.problem.clone()),
        }
    }
}

impl Room {
    /// The controller's own.
    #[must_use]
    pub fn of_store(bytes: u64) -> Self {
        Self {
            name: "controller".into(),
            kind: "store",
            disk_bytes: None,
            disk_free_bytes: None,
            images: None,
            containers: None,
            volumes: None,
            build_cache: None,
            store_bytes: (bytes > 0).then_some(bytes),
            problem: None,
        }
    }
}

/// `3 of 5, 812 MiB`
fn told(share: Option<&Share>) -> String {
    let Some(share) = share else {
        return String::new();
    };
    let many = format!("{} of {}", share.active, share.count);
    match share.bytes {
        Some(bytes) => format!("{many}, {}", size(bytes)),
        None => many,
    }
}

impl Row for Room {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec![
            "NAME",
            "FREE",
            "IMAGES",
            "CONTAINERS",
            "VOLUMES",
            "RECLAIMABLE",
            "STORE",
        ];
        titles.extend(wide.then_some("BUILD CACHE"));
        titles
    }

    fn cells(&self, wide: bool, _: u64) -> Vec<Shown> {
        let free = self.disk_bytes.zip(self.disk_free_bytes);
        let free = free.map_or_else(Shown::default, |(whole, free)| {
            let tone = match free < whole / LITTLE {
                true => Tone::Bad,
                false => Tone::Plain,
            };
            Shown::new(format!("{} of {}", size(free), size(whole)), tone)
        });
        let shares = [
            &self.images,
            &self.containers,
            &self.volumes,
            &self.build_cache,
        ];
        let reclaimable = shares.iter().filter_map(|s| s.as_ref()?.reclaimable_bytes);
        let reclaimable = reclaimable.reduce(u64::saturating_add);
        let sized = |bytes: Option<u64>| bytes.map(size).unwrap_or_default();
        let mut cells = vec![
            Shown::from(&self.name),
            free,
            told(self.images.as_ref()).into(),
            told(self.containers.as_ref()).into(),
            told(self.volumes.as_ref()).into(),
            sized(reclaimable).into(),
            sized(self.store_bytes).into(),
        ];
        cells.extend(wide.then(|| told(self.build_cache.as_ref()).into()));
        cells
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// `volume ls`
#[derive(Debug, Serialize)]
pub struct Volume {
    /// Its name on the engine.
    pub name: String,
    /// Where it is.
    pub node: String,
    /// The app that it was made for; none: it was there before.
    pub app: Option<String>,
    /// What keeps it.
    pub driver: Option<String>,
    /// When it was made.
    pub created: Option<String>,
    /// Replicas and runs that have it.
    pub used_by: Vec<String>,
    /// Services whose file names it.
    pub services: Vec<String>,
    /// Of these, those to whose file it is external.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external_to: Vec<String>,
    /// Its services are held here.
    pub home: bool,
}

impl Volume {
    /// From the API.
    #[must_use]
    pub fn new(node: &str, v: &pb::Volume) -> Self {
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            name: v.name.clone(),
            node: node.to_owned(),
            app: filled(&v.app),
            driver: filled(&v.driver),
            created: filled(&v.created),
            used_by: v.used_by.clone(),
            services: v.services.clone(),
            external_to: v.external_to.clone(),
            home: v.home,
        }
    }

    /// Does a file of the app say that somebody else makes and removes it?
    #[must_use]
    pub fn is_external_to(&self, app: &str) -> bool {
        let of = |key: &String| key.split_once('/').is_some_and(|(of, _)| of == app);
        self.external_to.iter().any(of)
    }

    /// Was it made for the app, or does the app name or use it?
    #[must_use]
    pub fn is_of(&self, app: &str) -> bool {
        let of = |key: &String| key.split_once('/').is_some_and(|(of, _)| of == app);
        self.app.as_deref() == Some(app)
            || self.services.iter().any(of)
            || self.used_by.iter().any(of)
    }
}

impl Row for Volume {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec!["NAME", "NODE", "APP", "USED BY"];
        titles.extend(
            wide.then_some(["HOME", "DRIVER", "CREATED", "SERVICES"])
                .into_iter()
                .flatten(),
        );
        titles
    }

    fn cells(&self, wide: bool, _: u64) -> Vec<Shown> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default().into();
        let mut cells = vec![
            Shown::from(&self.name),
            Shown::from(&self.node),
            text(&self.app),
            self.used_by.join(",").into(),
        ];
        if wide {
            let home = if self.home { "yes" } else { "" };
            cells.extend([home.into(), text(&self.driver), text(&self.created)]);
            cells.push(self.services.join(",").into());
        }
        cells
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}
