//! Which of a container's engine options weaken the fence around it, and who may have them.

use serde::Deserialize;

use super::{ContainerSpec, EngineOptions, Mount};

/// Limits of processes that let one take the CPU from the others on its node.
const HEAVY_ULIMITS: [&str; 3] = ["nice", "rtprio", "rttime"];
/// Drivers that write to the node itself or nowhere; the others send from its network.
const HOME_LOG_DRIVERS: [&str; 4] = ["journald", "json-file", "local", "none"];
/// Words of a volume in memory that say no more than how large it is and whose.
const TMPFS_WORDS: [&str; 9] = [
    "async",
    "exec",
    "nodev",
    "noexec",
    "nosuid",
    "ro",
    "rw",
    "strictatime",
    "noatime",
];
const TMPFS_KEYS: [&str; 5] = ["size", "mode", "uid", "gid", "nr_inodes"];

/// What an administrator lets containers ask of the engine. The default lets nothing through that
/// reaches beyond the container. Both policies, the controller's and each node's, have these rules
/// as their `engine`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineRules {
    /// `userns_mode: host`
    pub host_userns: bool,
    /// Container runtimes that may be named.
    pub runtimes: Vec<String>,
    /// Annotations that may be set, by name: runtimes obey some of them.
    pub annotations: Vec<String>,
    /// Drivers of `logging` that send the output elsewhere.
    pub log_drivers: Vec<String>,
    /// `ulimits` that weigh on others: `nice`, `rtprio`, `rttime`.
    pub ulimits: Vec<String>,
    /// Least `oom_score_adj`: below 0 others die first.
    pub oom_score_adj_min: i32,
    /// Most processes of one container; 0: [`EngineOptions::PIDS_MAX`], -1: any number.
    pub pids_max: i64,
    /// Drivers of volumes beside the engine's own.
    pub volume_drivers: Vec<String>,
    /// File systems that the engine may mount for a volume: `nfs`.
    pub volume_types: Vec<String>,
    /// `bind.propagation` beside `private` and `rprivate`.
    pub mount_propagation: Vec<String>,
}

/// An option, and the line of a policy that lets it through; empty where none does.
type Refusal = (String, String);

impl EngineRules {
    /// The first option that is not let through, and the line that would let it through (empty:
    /// none would). Whether a directory may be bound is not judged here.
    ///
    /// # Errors
    /// The two of them.
    pub fn check(&self, spec: &ContainerSpec) -> Result<(), Refusal> {
        self.options(&spec.engine)?;
        spec.tmpfs.iter().try_for_each(|entry| tmpfs(entry))?;
        spec.mounts.iter().try_for_each(|mount| self.mount(mount))
    }

    fn options(&self, asked: &EngineOptions) -> Result<(), Refusal> {
        if asked.host_userns && !self.host_userns {
            return Err((
                "userns_mode: host".into(),
                "engine.host_userns = true".into(),
            ));
        }
        if let Some(name) = &asked.runtime {
            listed("runtime", "runtimes", name, &self.runtimes)?;
        }
        for name in asked.annotations.keys() {
            listed("annotations", "annotations", name, &self.annotations)?;
        }
        if let Some(log) = &asked.log
            && !HOME_LOG_DRIVERS.contains(&log.driver.as_str())
        {
            let allowed = &self.log_drivers;
            listed("logging.driver", "log_drivers", &log.driver, allowed)?;
        }
        for name in asked.ulimits.keys() {
            if HEAVY_ULIMITS.contains(&name.as_str()) {
                listed("ulimits", "ulimits", name, &self.ulimits)?;
            }
        }
        let score = asked.oom_score_adj;
        if score < self.oom_score_adj_min.min(0) {
            return Err((
                format!("oom_score_adj: {score}"),
                format!("engine.oom_score_adj_min = {score}"),
            ));
        }
        let most = match self.pids_max {
            0 => EngineOptions::PIDS_MAX,
            most => most,
        };
        let wanted = asked.pids_max;
        if most > 0 && (wanted < 0 || wanted > most) {
            return Err((
                format!("pids_limit: {wanted}"),
                format!("engine.pids_max = {wanted}"),
            ));
        }
        Ok(())
    }

    fn mount(&self, mount: &Mount) -> Result<(), Refusal> {
        let options = &mount.options;
        if let Some(mode) = &options.propagation
            && !matches!(mode.as_str(), "private" | "rprivate")
        {
            let (key, allowed) = ("mount_propagation", &self.mount_propagation);
            listed("bind.propagation", key, mode, allowed)?;
        }
        if mount.bind {
            return Ok(());
        }
        let name = &mount.source;
        if !options.is_local() {
            let driver = options.driver.as_deref().unwrap_or_default();
            return listed(
                "volumes driver",
                "volume_drivers",
                driver,
                &self.volume_drivers,
            );
        }
        if options.words().any(|word| word.starts_with("remount")) {
            return Err((format!("volume {name}: o with remount"), String::new()));
        }
        // Which directory is judged as any bind's is.
        let kind = options.kind();
        if options.is_bind() || (kind.is_empty() && options.device().is_empty()) {
            return Ok(());
        }
        match kind {
            "tmpfs" if options.words().all(tmpfs_word) => Ok(()),
            _ => listed("volumes type", "volume_types", kind, &self.volume_types),
        }
    }
}

/// Options of a file system in memory that are none: they would make another mount of it.
fn tmpfs(entry: &str) -> Result<(), Refusal> {
    let (_, words) = entry.split_once(':').unwrap_or((entry, ""));
    let mut words = words.split(',').filter(|word| !word.is_empty());
    match words.find(|word| !tmpfs_word(word)) {
        Some(word) => Err((format!("tmpfs with {word}"), String::new())),
        None => Ok(()),
    }
}

/// Says this option of a file system in memory only how large it is, whose, and what runs there?
pub(super) fn tmpfs_word(word: &str) -> bool {
    match word.split_once('=') {
        Some((key, _)) => TMPFS_KEYS.contains(&key),
        None => TMPFS_WORDS.contains(&word),
    }
}

fn listed(option: &str, key: &str, item: &str, allowed: &[String]) -> Result<(), Refusal> {
    match allowed.iter().any(|allowed| allowed == item) {
        true => Ok(()),
        false => Err((
            format!("{option}: {item}"),
            format!("engine.{key} = [{item:?}]"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::LogSpec;

    fn engine(change: impl FnOnce(&mut EngineOptions)) -> ContainerSpec {
        let mut spec = ContainerSpec::default();
        change(&mut spec.engine);
        spec
    }

    fn volume(opts: &[(&str, &str)]) -> ContainerSpec {
        let mut mount = Mount {
            source: "data".into(),
            target: "/data".into(),
            ..Mount::default()
        };
        let pairs = opts.iter();
        let pairs = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        mount.options.driver_opts = pairs.collect();
        ContainerSpec {
            mounts: vec![mount],
            ..ContainerSpec::default()
        }
    }

    fn log(driver: &str) -> ContainerSpec {
        let options = std::collections::BTreeMap::new();
        let driver = driver.to_owned();
        engine(|e| e.log = Some(LogSpec { driver, options }))
    }

    fn mounts(change: impl FnOnce(&mut Mount)) -> ContainerSpec {
        let mut spec = volume(&[]);
        change(&mut spec.mounts[0]);
        spec
    }

    #[test]
    fn what_reaches_beyond_the_container_needs_the_line_that_is_named() {
        let ulimit = crate::spec::Ulimit { soft: 1, hard: 1 };
        let table = [
            engine(|e| e.host_userns = true),
            engine(|e| e.runtime = Some("runsc".into())),
            engine(|e| drop(e.annotations.insert("run.oci.x".into(), "1".into()))),
            engine(|e| e.ulimits.extend([("rtprio".into(), ulimit)])),
            engine(|e| e.oom_score_adj = -1),
            engine(|e| e.pids_max = -1),
            engine(|e| e.pids_max = 4097),
            log("syslog"),
            volume(&[("type", "nfs"), ("device", ":/x"), ("o", "addr=10.0.0.1")]),
            volume(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "shared")]),
            mounts(|m| m.options.driver = Some("rexray".into())),
            mounts(|m| m.options.propagation = Some("rshared".into())),
        ];
        for spec in table {
            let (option, line) = EngineRules::default().check(&spec).unwrap_err();
            let line = line.strip_prefix("engine.").unwrap();
            let rules: EngineRules = toml_of(line);
            assert_eq!(rules.check(&spec), Ok(()), "{option}: {line}");
        }
    }

    /// The lines are TOML of one key; this crate reads JSON.
    fn toml_of(line: &str) -> EngineRules {
        let (key, value) = line.split_once(" = ").unwrap();
        serde_json::from_str(&format!("{{{key:?}: {value}}}")).unwrap()
    }

    #[test]
    fn what_stays_inside_needs_none() {
        let ulimit = crate::spec::Ulimit { soft: 1, hard: -1 };
        let table = [
            engine(|e| e.ulimits.extend([("nofile".into(), ulimit)])),
            engine(|e| (e.tty, e.shm_bytes, e.pids_max) = (true, 1 << 30, 4096)),
            engine(|e| e.oom_score_adj = 500),
            log("none"),
            log("json-file"),
            volume(&[
                ("type", "tmpfs"),
                ("device", "tmpfs"),
                ("o", "size=1m,uid=3"),
            ]),
            mounts(|m| (m.bind, m.options.propagation) = (true, Some("rprivate".into()))),
            ContainerSpec {
                tmpfs: vec!["/x:size=1m,mode=1777,noexec".into(), "/y".into()],
                ..ContainerSpec::default()
            },
        ];
        for spec in table {
            assert_eq!(EngineRules::default().check(&spec), Ok(()), "{spec:?}");
        }
    }

    #[test]
    fn a_volume_that_shows_the_node_is_judged_by_its_path() {
        type Opts<'a> = &'a [(&'a str, &'a str)];
        let shown = |opts: Opts<'_>| {
            let spec = volume(opts);
            spec.mounts[0].bound_path().map(str::to_owned)
        };
        let facts: [(Opts<'_>, Option<&str>); 7] = [
            (&[], None),
            (
                &[("type", "none"), ("o", "bind"), ("device", "/srv")],
                Some("/srv"),
            ),
            // The kernel heeds the word, not the type.
            (
                &[("type", "tmpfs"), ("o", "rw,rbind"), ("device", "/etc")],
                Some("/etc"),
            ),
            (
                &[("type", "nfs"), ("o", "bind"), ("device", "/etc")],
                Some("/etc"),
            ),
            (
                &[("type", "ext4"), ("device", "/dev/sda1")],
                Some("/dev/sda1"),
            ),
            (&[("type", "nfs"), ("device", ":/export")], None),
            (&[("type", "tmpfs"), ("device", "tmpfs")], None),
        ];
        for (opts, path) in facts {
            assert_eq!(shown(opts).as_deref(), path, "{opts:?}");
        }
        let no_lines = [
            volume(&[("type", "none"), ("o", "remount,bind"), ("device", "/srv")]),
            ContainerSpec {
                tmpfs: vec!["/x:bind".into()],
                ..ContainerSpec::default()
            },
        ];
        for spec in no_lines {
            let (_, line) = EngineRules::default().check(&spec).unwrap_err();
            assert_eq!(line, "");
        }
    }
}
