//! What containers may ask of this host: a local file that no controller can change. Everything
//! dangerous is refused unless the file names it.

use std::path::{Component, Path, PathBuf};

use longshore_model::ContainerSpec;
use longshore_model::reason::FailReason;
use longshore_model::spec::{EngineRules, Mount};
use serde::Deserialize;

use crate::files::{FileError, read_optional};

/// Sockets that give whoever holds them the whole host. Binding one of them, or a directory that
/// holds one, needs `allow_engine_socket`.
const ENGINE_SOCKETS: [&str; 6] = [
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/var/run/containerd/containerd.sock",
    "/run/containerd/containerd.sock",
    "/var/run/podman/podman.sock",
    "/run/podman/podman.sock",
];

/// The policy file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// `privileged: true`
    pub privileged: bool,
    /// `network_mode: host`
    pub host_network: bool,
    /// `pid: host`
    pub host_pid: bool,
    /// `ipc: host`
    pub host_ipc: bool,
    /// Capabilities that may be added, with or without `CAP_`.
    pub cap_add: Vec<String>,
    /// Host devices that may be passed on.
    pub devices: Vec<String>,
    /// Host directories under which paths may be bound.
    pub bind_paths: Vec<PathBuf>,
    /// Security options, as Compose writes them.
    pub security_opt: Vec<String>,
    /// Names of kernel parameters that may be set.
    pub sysctls: Vec<String>,
    /// The engine's socket and directories that hold it.
    pub allow_engine_socket: bool,
    /// What else containers may ask of the engine.
    pub engine: EngineRules,
}

/// The rules and where they come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    rules: Rules,
    path: PathBuf,
}

/// Why the policy cannot be used. The agent does not start then: guessing would be worse.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file is there but cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It says something that is not understood.
    #[error("{} is not valid: {detail}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, key and rule.
        detail: String,
    },
}

impl Policy {
    /// Reads `path`; where there is no such file everything dangerous is refused.
    ///
    /// # Errors
    /// [`PolicyError`] names the file, and the line and key that is wrong.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let rules = match read_optional(path)? {
            None => Rules::default(),
            Some(text) => toml::from_str(&text).map_err(|error| PolicyError::Invalid {
                path: path.to_owned(),
                detail: error.to_string(),
            })?,
        };
        Ok(Self {
            rules,
            path: path.to_owned(),
        })
    }

    /// May this run here?
    ///
    /// # Errors
    /// [`FailReason::PolicyRefused`] with the first option that may not, and the line to add.
    pub fn check(&self, spec: &ContainerSpec) -> Result<(), FailReason> {
        let (asked, rules) = (&spec.privileges, &self.rules);
        let flags = [
            (
                asked.privileged,
                rules.privileged,
                "privileged: true",
                "privileged",
            ),
            (
                asked.host_network,
                rules.host_network,
                "network_mode: host",
                "host_network",
            ),
            (asked.host_pid, rules.host_pid, "pid: host", "host_pid"),
            (asked.host_ipc, rules.host_ipc, "ipc: host", "host_ipc"),
        ];
        for (asked, allowed, option, key) in flags {
            if asked && !allowed {
                return Err(self.refuse(option.to_owned(), &format!("{key} = true")));
            }
        }
        for cap in &asked.cap_add {
            if !rules
                .cap_add
                .iter()
                .any(|allowed| cap_name(allowed) == cap_name(cap))
            {
                return Err(self.refuse_item("cap_add", cap));
            }
        }
        for device in &asked.devices {
            let host = device.split(':').next().unwrap_or_default();
            if !rules.devices.iter().any(|allowed| allowed == host) {
                return Err(self.refuse_item("devices", host));
            }
        }
        for option in &asked.security_opt {
            let harmless = matches!(
                option.as_str(),
                "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true"
            );
            if !harmless && !rules.security_opt.contains(option) {
                return Err(self.refuse_item("security_opt", option));
            }
        }
        for name in asked.sysctls.keys() {
            if !rules.sysctls.contains(name) {
                return Err(self.refuse_item("sysctls", name));
            }
        }
        rules
            .engine
            .check(spec)
            .map_err(|(option, line)| match line.is_empty() {
                false => self.refuse(option, &line),
                true => FailReason::PolicyRefused {
                    option,
                    hint: "no policy allows it".into(),
                },
            })?;
        spec.mounts
            .iter()
            .try_for_each(|mount| self.check_mount(mount))
    }

    fn check_mount(&self, mount: &Mount) -> Result<(), FailReason> {
        if !mount.bind {
            // A volume's name with a slash would be taken as a host path by the engine.
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            if !mount.source.bytes().all(plain) {
                return Err(FailReason::PolicyRefused {
                    option: format!("volume {:?}", mount.source),
                    hint: "a volume's name holds only letters, digits, '_', '.' and '-'".into(),
                });
            }
        }
        mount
            .bound_path()
            .map_or(Ok(()), |path| self.check_path(path))
    }

    fn check_path(&self, source: &str) -> Result<(), FailReason> {
        let written = PathBuf::from(source);
        let climbs = written
            .components()
            .any(|part| part == Component::ParentDir);
        if !written.is_absolute() || climbs {
            return Err(FailReason::PolicyRefused {
                option: format!("bind of {source:?}"),
                hint: "a bind's host path is absolute and without '..'".into(),
            });
        }
        // A link must not lead out of what is allowed; a missing path leads nowhere.
        let real = std::fs::canonicalize(&written).unwrap_or_else(|_| written.clone());
        for path in [&written, &real] {
            let holds_socket = ENGINE_SOCKETS.iter().any(|socket| {
                let socket = Path::new(socket);
                socket.starts_with(path)
            });
            if holds_socket && !self.rules.allow_engine_socket {
                let option = format!("bind of {source}");
                return Err(self.refuse(option, "allow_engine_socket = true"));
            }
            if !self
                .rules
                .bind_paths
                .iter()
                .any(|allowed| path.starts_with(allowed))
            {
                return Err(self.refuse_item("bind_paths", &path.display().to_string()));
            }
        }
        Ok(())
    }

    fn refuse_item(&self, key: &str, item: &str) -> FailReason {
        let option = match key {
            "bind_paths" => format!("bind of {item}"),
            _ => format!("{key}: {item}"),
        };
        self.refuse(option, &format!("{key} = [{item:?}]"))
    }

    fn refuse(&self, option: String, line: &str) -> FailReason {
        let hint = format!(
            "an administrator of the node allows it with `{line}` in {} and a restart of node-agent",
            self.path.display()
        );
        FailReason::PolicyRefused { option, hint }
    }
}

fn cap_name(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_model::spec::Privileges;

    fn bind(source: &str) -> ContainerSpec {
        let mount = Mount {
            source: source.into(),
            target: "/x".into(),
            read_only: true,
            bind: true,
            ..Mount::default()
        };
        ContainerSpec {
            mounts: vec![mount],
            ..ContainerSpec::default()
        }
    }

    /// A volume that is a directory of the node.
    fn bind_volume(path: &str) -> ContainerSpec {
        let mut mount = Mount {
            source: "data".into(),
            target: "/x".into(),
            ..Mount::default()
        };
        let opts = [("type", "none"), ("o", "bind"), ("device", path)];
        let opts = opts.map(|(key, value)| (key.to_owned(), value.to_owned()));
        mount.options.driver_opts = opts.into();
        ContainerSpec {
            mounts: vec![mount],
            ..ContainerSpec::default()
        }
    }

    fn runtime(name: &str) -> ContainerSpec {
        let mut spec = ContainerSpec::default();
        spec.engine.runtime = Some(name.into());
        spec
    }

    fn asks(change: impl FnOnce(&mut Privileges)) -> ContainerSpec {
        let mut spec = ContainerSpec::default();
        change(&mut spec.privileges);
        spec
    }

    fn policy(text: &str) -> Policy {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        Policy::load(&path).unwrap()
    }

    #[test]
    fn every_dangerous_option_is_refused_by_default_and_allowed_by_the_line_it_names() {
        let table = [
            (asks(|p| p.privileged = true), "privileged = true"),
            (asks(|p| p.host_network = true), "host_network = true"),
            (asks(|p| p.host_pid = true), "host_pid = true"),
            (asks(|p| p.host_ipc = true), "host_ipc = true"),
            (
                asks(|p| p.cap_add = vec!["cap_net_admin".into()]),
                "cap_add = [\"cap_net_admin\"]",
            ),
            (
                asks(|p| p.devices = vec!["/dev/fuse:/dev/f".into()]),
                "devices = [\"/dev/fuse\"]",
            ),
            (
                asks(|p| p.security_opt = vec!["seccomp=unconfined".into()]),
                "security_opt = [\"seccomp=unconfined\"]",
            ),
            (
                asks(|p| drop(p.sysctls.insert("net.core.somaxconn".into(), "1".into()))),
                "sysctls = [\"net.core.somaxconn\"]",
            ),
            (bind("/srv/data"), "bind_paths = [\"/srv/data\"]"),
            (bind_volume("/srv/data"), "bind_paths = [\"/srv/data\"]"),
            (runtime("runsc"), "engine.runtimes = [\"runsc\"]"),
        ];
        for (spec, line) in table {
            let refused = Policy::default().check(&spec).unwrap_err().to_string();
            assert!(refused.contains(line), "{refused} does not name {line}");
            assert_eq!(policy(line).check(&spec), Ok(()), "{line}");
        }
        assert_eq!(Policy::default().check(&ContainerSpec::default()), Ok(()));
    }

    #[test]
    fn the_engines_socket_and_its_parents_need_their_own_permission() {
        let all = policy("bind_paths = [\"/\"]");
        for path in [
            "/",
            "/var",
            "/var/run",
            "/run",
            "/run/",
            "//run",
            "/run/docker.sock",
        ] {
            let refused = all.check(&bind(path)).unwrap_err().to_string();
            assert!(refused.contains("allow_engine_socket"), "{path}: {refused}");
            assert!(all.check(&bind_volume(path)).is_err(), "{path} as a volume");
        }
        let really = policy("bind_paths = [\"/\"]\nallow_engine_socket = true");
        assert_eq!(really.check(&bind("/run")), Ok(()));
    }

    #[test]
    fn links_and_climbing_paths_do_not_get_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("/etc", root.join("way-out")).unwrap();
        let policy = policy(&format!("bind_paths = [{:?}]", root.display().to_string()));
        assert_eq!(
            policy.check(&bind(&root.join("x").display().to_string())),
            Ok(())
        );
        for bad in ["way-out", "../etc", "x/../../etc"] {
            let path = format!("{}/{bad}", root.display());
            assert!(policy.check(&bind(&path)).is_err(), "{path} was allowed");
        }
        assert!(policy.check(&bind("relative")).is_err());
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, "privilegd = true\n").unwrap();
        assert!(
            Policy::load(&path)
                .unwrap_err()
                .to_string()
                .contains("privilegd")
        );
    }
}
