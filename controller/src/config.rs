//! `controller.toml`: everything optional, unknown keys refused.

use std::path::{Path, PathBuf};

use longshore_model::ServiceSpec;
use longshore_model::spec::{EngineRules, Mount};
use longshore_planner::PlannerConfig;
use serde::Deserialize;

use crate::backups::BackupsConfig;
use crate::history::HistoryConfig;
use crate::images::ImagesConfig;
use crate::prometheus::PrometheusConfig;
use crate::shared::EtcdConfig;

/// Settings of `controller run`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `address:port` to listen on instead of the one given to `init`.
    pub listen: Option<String>,
    /// Names and addresses that agents and operators use, instead of those given to `init`. The
    /// server certificate is made anew for them.
    pub advertise: Option<Vec<String>>,
    /// Filter of the log, as `info` or `controller=debug,info`.
    pub log: String,
    /// Settings of the planner.
    pub planner: PlannerConfig,
    /// Options of containers that open their host and are let through.
    pub policy: Policy,
    /// How much of the history of decisions is kept.
    pub history: HistoryConfig,
    /// How the state is kept.
    pub store: StoreConfig,
    /// Copies of the cluster that the controller makes by itself.
    pub backup: BackupsConfig,
    /// How many images are kept.
    pub images: ImagesConfig,
    /// Where numbers from outside come from.
    pub prometheus: PrometheusConfig,
    /// Serve gRPC reflection (to operators). Meant for labs.
    pub reflection: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            advertise: None,
            log: "info".into(),
            planner: PlannerConfig::default(),
            policy: Policy::default(),
            history: HistoryConfig::default(),
            store: StoreConfig::default(),
            backup: BackupsConfig::default(),
            images: ImagesConfig::default(),
            prometheus: PrometheusConfig::default(),
            reflection: false,
        }
    }
}

/// How the state is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Room on its disk that is set aside for cleaning up a full one, in MiB; 0: none.
    pub ballast_mib: u64,
    /// File of the key that secrets are sealed with (32 bytes in base64), instead of the service's
    /// credential `longshore-seal-key` and of `seal.key` in the data directory.
    pub seal_key: Option<PathBuf>,
    /// The etcd that several controllers share, instead of a file here.
    pub etcd: Option<EtcdConfig>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            ballast_mib: 64,
            seal_key: None,
            etcd: None,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A value that cannot be meant.
    #[error("{path}{line}: {key} {detail}")]
    Invalid {
        /// Which file.
        path: String,
        /// `:LINE`, if the key is found in it.
        line: String,
        /// Which key.
        key: &'static str,
        /// What is wrong with it, and the way out.
        detail: String,
    },
    /// It is no TOML, or a key is unknown or has a wrong value.
    #[error("{path}: {detail}")]
    Parse {
        /// Which.
        path: String,
        /// The parser's words, with line and column.
        detail: String,
    },
}

impl Config {
    /// Reads `path`; a missing file means the defaults, unless it was `asked` for.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, and the line of a mistake.
    pub fn read(path: &Path, asked: bool) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, name),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read { path: name, source }),
        }
    }

    fn parse(text: &str, path: String) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.clone(),
            detail: error.to_string(),
        })?;
        match config.nonsense() {
            None => Ok(config),
            Some((key, detail)) => Err(ConfigError::Invalid {
                path,
                line: line_of(text, key),
                key,
                detail,
            }),
        }
    }

    /// The first value that cannot be meant, and why.
    fn nonsense(&self) -> Option<(&'static str, String)> {
        let planner = &self.planner;
        if planner.port_min == 0 {
            return Some(("port_min", "is 0; give a host port from 1".into()));
        }
        if planner.port_min > planner.port_max {
            let max = planner.port_max;
            let said = format!(
                "is {}, more than port_max, {max}: no replica would have a port; exchange them",
                planner.port_min
            );
            return Some(("port_min", said));
        }
        let zero = [
            ("outage_numerator", u64::from(planner.outage_numerator)),
            ("outage_denominator", u64::from(planner.outage_denominator)),
            ("session_timeout_ms", planner.session_timeout_ms),
            ("sample_stale_ms", planner.sample_stale_ms),
            ("backoff_base_ms", planner.backoff_base_ms),
            ("records_per_service", self.history.records_per_service),
            ("records_total", self.history.records_total),
            ("keep_days", self.history.keep_days),
            ("uploads_max", self.images.uploads_max as u64),
            ("keep", self.backup.keep as u64),
            ("mib_max", self.backup.mib_max),
        ];
        let zero = zero.into_iter().find(|(_, value)| *value == 0);
        if let Some((key, _)) = zero {
            let said = "is 0; give at least 1, or leave it away for the default";
            return Some((key, said.into()));
        }
        if planner.outage_numerator > planner.outage_denominator {
            let said = "is more than outage_denominator: the share of lost nodes is at most 1";
            return Some(("outage_numerator", said.into()));
        }
        if planner.backoff_base_ms > planner.backoff_cap_ms {
            let said = "is more than backoff_cap_ms, the longest pause";
            return Some(("backoff_base_ms", said.into()));
        }
        None
    }
}

/// `:LINE` of the first line that sets the key; nothing where another form sets it.
fn line_of(text: &str, key: &str) -> String {
    let sets = |line: &str| {
        let rest = line.trim_start().strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let found = text.lines().position(sets);
    found.map_or_else(String::new, |at| format!(":{}", at + 1))
}

/// Options of containers that open their host. The default lets nothing through; each node's own
/// policy file decides again, and no controller can override that.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Let `privileged: true` through.
    pub privileged: bool,
    /// Let `network_mode: host` through.
    pub host_network: bool,
    /// Let `pid: host` through.
    pub host_pid: bool,
    /// Let `ipc: host` through.
    pub host_ipc: bool,
    /// Capabilities that may be added.
    pub cap_add: Vec<String>,
    /// Devices that may be given (`/dev/fuse`).
    pub devices: Vec<String>,
    /// Security options that may be set.
    pub security_opt: Vec<String>,
    /// Sysctls that may be set, by name.
    pub sysctls: Vec<String>,
    /// Directories of hosts that may be mounted, and everything below them.
    pub bind_mounts: Vec<String>,
    /// What else containers may ask of the engine.
    pub engine: EngineRules,
}

impl Policy {
    /// The first option of `spec` that is not let through, with the line that would allow it;
    /// empty where none would.
    #[must_use]
    pub fn refusal(&self, spec: &ServiceSpec) -> Option<(String, String)> {
        let asked = &spec.container.privileges;
        let flags = [
            (
                asked.privileged,
                self.privileged,
                "privileged: true",
                "privileged = true",
            ),
            (
                asked.host_network,
                self.host_network,
                "network_mode: host",
                "host_network = true",
            ),
            (
                asked.host_pid,
                self.host_pid,
                "pid: host",
                "host_pid = true",
            ),
            (
                asked.host_ipc,
                self.host_ipc,
                "ipc: host",
                "host_ipc = true",
            ),
        ];
        let flag = flags
            .into_iter()
            .find(|(asked, allowed, ..)| *asked && !*allowed);
        if let Some((_, _, option, key)) = flag {
            return Some((option.into(), key.into()));
        }
        let device = |given: &String| given.split(':').next().unwrap_or_default().to_owned();
        let devices: Vec<String> = asked.devices.iter().map(device).collect();
        let sysctls: Vec<String> = asked.sysctls.keys().cloned().collect();
        let lists = [
            ("cap_add", &asked.cap_add, &self.cap_add),
            ("devices", &devices, &self.devices),
            ("security_opt", &asked.security_opt, &self.security_opt),
            ("sysctls", &sysctls, &self.sysctls),
        ];
        for (name, asked, allowed) in lists {
            if let Some(value) = asked.iter().find(|value| !allowed.contains(value)) {
                return Some((format!("{name}: {value}"), format!("{name} = [{value:?}]")));
            }
        }
        if let Err(refused) = self.engine.check(&spec.container) {
            return Some(refused);
        }
        let mut binds = spec.container.mounts.iter().filter_map(Mount::bound_path);
        let source = binds.find(|path| !self.allows_bind(path))?;
        Some((
            format!("bind mount of {source}"),
            format!("bind_mounts = [{source:?}]"),
        ))
    }

    fn allows_bind(&self, source: &str) -> bool {
        let source = Path::new(source);
        let plain = source.is_absolute()
            && source
                .components()
                .all(|part| part != std::path::Component::ParentDir);
        plain
            && self
                .bind_mounts
                .iter()
                .any(|allowed| source.starts_with(allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &str) -> ServiceSpec {
        let mut spec: ServiceSpec = crate::testing::service_spec();
        spec.container.mounts = vec![Mount {
            source: source.into(),
            target: "/x".into(),
            read_only: false,
            bind: true,
            ..Mount::default()
        }];
        spec
    }

    #[test]
    fn an_empty_file_is_the_default_and_unknown_keys_are_named() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        let error = toml::from_str::<Config>("[policy]\nprivilegd = true").unwrap_err();
        assert!(error.to_string().contains("privilegd"), "{error}");
    }

    #[test]
    fn values_that_cannot_be_meant_are_named_with_their_line() {
        for (text, wanted) in [
            (
                "log = \"info\"\n[planner]\nport_min=30000\nport_max = 20000\n",
                "c.toml:3: port_min is 30000, more than port_max, 20000",
            ),
            ("[planner]\nport_min = 0\n", "c.toml:2: port_min is 0"),
            (
                "[planner]\n outage_denominator = 0\n",
                "c.toml:2: outage_denominator is 0",
            ),
            (
                "history = { records_per_service = 0 }\n",
                "c.toml: records_per_service is 0",
            ),
            (
                "[planner]\nbackoff_base_ms = 999999999\n",
                "c.toml:2: backoff_base_ms is more than backoff_cap_ms",
            ),
        ] {
            let error = Config::parse(text, "c.toml".into()).unwrap_err();
            assert!(error.to_string().starts_with(wanted), "{error}");
        }
        assert_eq!(Config::default().nonsense(), None);
    }

    #[test]
    fn dangerous_options_are_refused_with_the_way_out() {
        let none = Policy::default();
        let mut spec = crate::testing::service_spec();
        assert_eq!(none.refusal(&spec), None);
        spec.container.privileges.cap_add = vec!["SYS_ADMIN".into()];
        let (option, key) = none.refusal(&spec).unwrap();
        assert_eq!(
            (option.as_str(), key.as_str()),
            ("cap_add: SYS_ADMIN", r#"cap_add = ["SYS_ADMIN"]"#)
        );
        let some = Policy {
            cap_add: vec!["SYS_ADMIN".into()],
            ..Policy::default()
        };
        assert_eq!(some.refusal(&spec), None);
        spec.container.privileges.privileged = true;
        assert_eq!(some.refusal(&spec).unwrap().0, "privileged: true");
    }

    #[test]
    fn binds_stay_below_the_directories_that_are_allowed() {
        let policy = Policy {
            bind_mounts: vec!["/srv/data".into()],
            ..Policy::default()
        };
        assert_eq!(policy.refusal(&bind("/srv/data/shop")), None);
        for bad in [
            "/",
            "/srv",
            "/srv/database",
            "/srv/data/../../etc",
            "/var/run/docker.sock",
        ] {
            assert!(
                policy.refusal(&bind(bad)).is_some(),
                "{bad} was let through"
            );
        }
    }

    #[test]
    fn engine_options_and_volumes_that_show_the_node_are_judged_too() {
        let mut spec = crate::testing::service_spec();
        spec.container.engine.runtime = Some("runsc".into());
        let (_, line) = Policy::default().refusal(&spec).unwrap();
        let config: Config = toml::from_str(&format!("[policy]\n{line}")).unwrap();
        assert_eq!(config.policy.refusal(&spec), None, "{line}");

        let mut spec = bind("data");
        let mount = &mut spec.container.mounts[0];
        mount.bind = false;
        let opts = [("o", "bind"), ("device", "/srv/data")];
        let opts = opts.map(|(key, value)| (key.to_owned(), value.to_owned()));
        mount.options.driver_opts = opts.into();
        let (_, line) = Policy::default().refusal(&spec).unwrap();
        assert_eq!(line, "bind_mounts = [\"/srv/data\"]");
    }
}
