//! What the engine is told as it is, and mounts.

use longshore_model::spec::{EngineOptions, LogSpec, Mount, MountOptions, Ulimit};
use longshore_proto::spec::v1 as pb;

use crate::error::{WireError, bounded, invalid, map_bounded};

/// Most entries of one list or map.
const ENTRIES_MAX: usize = 256;
const MOUNT_ENTRIES_MAX: usize = 64;

/// None where nothing is said: agents of before get the message that they know.
pub(super) fn options_to(e: &EngineOptions) -> Option<pb::EngineOptions> {
    (*e != EngineOptions::default()).then(|| pb::EngineOptions {
        ulimits: e
            .ulimits
            .iter()
            .map(|(name, Ulimit { soft, hard })| {
                let (soft, hard) = (*soft, *hard);
                (name.clone(), pb::Ulimit { soft, hard })
            })
            .collect(),
        log: e.log.as_ref().map(|log| pb::LogSpec {
            driver: log.driver.clone(),
            options: log.options.clone().into_iter().collect(),
        }),
        extra_hosts: e.extra_hosts.clone(),
        dns: e.dns.clone(),
        dns_search: e.dns_search.clone(),
        dns_options: e.dns_options.clone(),
        shm_bytes: e.shm_bytes,
        group_add: e.group_add.clone(),
        stdin_open: e.stdin_open,
        tty: e.tty,
        oom_score_adj: e.oom_score_adj,
        pids_max: e.pids_max,
        cpuset: e.cpuset.clone(),
        annotations: e.annotations.clone().into_iter().collect(),
        host_userns: e.host_userns,
        ipc: e.ipc.clone(),
        runtime: e.runtime.clone(),
        domainname: e.domainname.clone(),
        storage_opt: e.storage_opt.clone().into_iter().collect(),
        memory_swap_bytes: e.memory_swap_bytes,
    })
}

pub(super) fn options_from(e: pb::EngineOptions) -> Result<EngineOptions, WireError> {
    if !(-1000..=1000).contains(&e.oom_score_adj) {
        return Err(invalid("engine.oom_score_adj", "must be -1000 to 1000"));
    }
    if !(-1..=EngineOptions::PIDS_MOST).contains(&e.pids_max) {
        let rule = format!("must be -1 to {}", EngineOptions::PIDS_MOST);
        return Err(invalid("engine.pids_max", rule));
    }
    if e.memory_swap_bytes < -1 {
        return Err(invalid("engine.memory_swap_bytes", "must be -1 or more"));
    }
    // Others name containers or are the host's, which is one of the privileges.
    let ipc = e.ipc.as_deref();
    if ipc.is_some_and(|ipc| !matches!(ipc, "private" | "shareable" | "none")) {
        let rule = "must be private, shareable or none";
        return Err(invalid("engine.ipc", rule));
    }
    if e.ulimits.len() > MOUNT_ENTRIES_MAX {
        let (field, length, max) = ("engine.ulimits", e.ulimits.len(), MOUNT_ENTRIES_MAX);
        return Err(WireError::TooMany { field, length, max });
    }
    let ulimits = e.ulimits.into_iter().map(|(name, limit)| {
        let (soft, hard) = (limit.soft, limit.hard);
        match soft >= -1 && hard >= -1 {
            true => Ok((name, Ulimit { soft, hard })),
            false => Err(invalid("engine.ulimits", "must be -1 or more")),
        }
    });
    Ok(EngineOptions {
        ulimits: ulimits.collect::<Result<_, _>>()?,
        log: e.log.map(log_from).transpose()?,
        extra_hosts: bounded("engine.extra_hosts", ENTRIES_MAX, e.extra_hosts)?,
        dns: bounded("engine.dns", ENTRIES_MAX, e.dns)?,
        dns_search: bounded("engine.dns_search", ENTRIES_MAX, e.dns_search)?,
        dns_options: bounded("engine.dns_options", ENTRIES_MAX, e.dns_options)?,
        shm_bytes: e.shm_bytes,
        group_add: bounded("engine.group_add", ENTRIES_MAX, e.group_add)?,
        stdin_open: e.stdin_open,
        tty: e.tty,
        oom_score_adj: e.oom_score_adj,
        pids_max: e.pids_max,
        cpuset: e.cpuset,
        annotations: map_bounded("engine.annotations", ENTRIES_MAX, e.annotations)?,
        host_userns: e.host_userns,
        ipc: e.ipc,
        runtime: e.runtime,
        domainname: e.domainname,
        storage_opt: map_bounded("engine.storage_opt", ENTRIES_MAX, e.storage_opt)?,
        memory_swap_bytes: e.memory_swap_bytes,
    })
}

fn log_from(log: pb::LogSpec) -> Result<LogSpec, WireError> {
    if log.driver.is_empty() {
        return Err(invalid("engine.log.driver", "is missing"));
    }
    Ok(LogSpec {
        driver: log.driver,
        options: map_bounded("engine.log.options", ENTRIES_MAX, log.options)?,
    })
}

pub(super) fn mount_to(mount: &Mount) -> pb::Mount {
    let o = &mount.options;
    let options = (*o != MountOptions::default()).then(|| pb::MountOptions {
        propagation: o.propagation.clone(),
        create_host_path: o.create_host_path,
        no_copy: o.no_copy,
        driver: o.driver.clone(),
        driver_opts: o.driver_opts.clone().into_iter().collect(),
        labels: o.labels.clone().into_iter().collect(),
        shared: o.shared,
        external: o.external,
    });
    pb::Mount {
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        bind: mount.bind,
        options,
    }
}

pub(super) fn mount_from(mount: pb::Mount) -> Result<Mount, WireError> {
    Ok(Mount {
        source: mount.source,
        target: mount.target,
        read_only: mount.read_only,
        bind: mount.bind,
        options: mount
            .options
            .map(mount_options_from)
            .transpose()?
            .unwrap_or_default(),
    })
}

fn mount_options_from(o: pb::MountOptions) -> Result<MountOptions, WireError> {
    let modes = [
        "private", "rprivate", "shared", "rshared", "slave", "rslave",
    ];
    let mode = o.propagation.as_deref();
    if mode.is_some_and(|mode| !modes.contains(&mode)) {
        let rule = format!("must be one of {}", modes.join(", "));
        return Err(invalid("mounts.propagation", rule));
    }
    Ok(MountOptions {
        propagation: o.propagation,
        create_host_path: o.create_host_path,
        no_copy: o.no_copy,
        driver: o.driver,
        driver_opts: map_bounded("mounts.driver_opts", MOUNT_ENTRIES_MAX, o.driver_opts)?,
        labels: map_bounded("mounts.labels", MOUNT_ENTRIES_MAX, o.labels)?,
        shared: o.shared,
        external: o.external,
    })
}
