//! Keys of a service.

use super::{Word, named, over, word};

const BY_HOST: &str = "Handed to the engine; each node's policy must allow it.";

/// Keys of `services.NAME`, but for our own and those that are not supported.
pub(super) const SERVICE: &[Word] = &[
    word("annotations", "OCI annotations for the runtime."),
    word(
        "attach",
        "Ignored: `up` follows the rollout, `logs` shows the output.",
    ),
    over(
        "build",
        "The image is built by the engine where the command runs, and sent to the controller (up --build).",
        BUILD,
    ),
    word("cap_add", BY_HOST),
    word(
        "cap_drop",
        "Linux capabilities that are taken away; NET_RAW always is unless cap_add names it.",
    ),
    word(
        "command",
        "Replaces the image's command; run without a shell. A text is split as a shell would.",
    ),
    over(
        "configs",
        "Configs that its containers are given as files, at /NAME unless target says otherwise.",
        GRANT,
    ),
    word(
        "container_name",
        "Taken for one replica with a warning: containers keep names of their own.",
    ),
    word(
        "cpu_period",
        "With cpu_quota: a limit of CPU. cpus says the same.",
    ),
    word(
        "cpu_quota",
        "With cpu_period: a limit of CPU. cpus says the same.",
    ),
    word(
        "cpu_shares",
        "Ignored or refused as config --check says; deploy.resources.reservations.cpus sets the weight.",
    ),
    word(
        "cpus",
        "Limit of CPU in cores; as deploy.resources.limits.cpus.",
    ),
    word("cpuset", "CPUs by number: 0-3 or 0,2."),
    named(
        "depends_on",
        "Its first start waits until the others run or are healthy; later starts wait for nobody.",
        &[
            word(
                "condition",
                "service_started, service_healthy or service_completed_successfully.",
            ),
            word("required", "false: it is not waited for."),
            word(
                "restart",
                "true is taken with a warning: the name leads to whatever runs then.",
            ),
        ],
    ),
    over(
        "deploy",
        "How many replicas, where they may be, and how one revision follows another.",
        DEPLOY,
    ),
    over(
        "devices",
        BY_HOST,
        &[
            word("source", "Path of the device on the node."),
            word("target", "Path inside; the same by default."),
            word("permissions", "Some of r, w and m; all by default."),
        ],
    ),
    word("dns", "Name servers instead of the node's."),
    word("dns_opt", "Options of the resolver."),
    word("dns_search", "Search domains."),
    word("domainname", "Domain of the container's host name."),
    word("entrypoint", "Replaces the image's entry point."),
    over(
        "env_file",
        "Files with variables; environment wins over them, a later one over an earlier one.",
        &[
            word("path", "The file."),
            word("required", "false: it may be missing."),
            word(
                "format",
                "raw: values as they are, without quotes or variables.",
            ),
        ],
    ),
    word(
        "environment",
        "Variables of the container. A name without a value takes it from where the command runs.",
    ),
    word(
        "expose",
        "Container ports that are published on the node, for other services; not on the edges.",
    ),
    over(
        "extends",
        "The service begins as another one, of this file or of file.",
        &[
            word("service", "The other one."),
            word("file", "The file that has it; else this one."),
        ],
    ),
    word(
        "extra_hosts",
        "Further names: NAME:ADDRESS, or host-gateway for the node.",
    ),
    word("group_add", "Further groups of the process."),
    over(
        "healthcheck",
        "A command that the engine runs inside; without a test, the image's own one. Replicas get traffic once they are healthy.",
        HEALTH,
    ),
    word(
        "hostname",
        "The container's host name; SERVICE.SLOT by default.",
    ),
    word(
        "image",
        "The image. A tag is pinned to its digest with each `up`. What the controller holds comes from it, everything else from its registry.",
    ),
    word("init", "Runs an init process that reaps zombies."),
    word(
        "ipc",
        "host, private, shareable or none; host if the node's policy allows it.",
    ),
    word("label_file", "Files with labels; labels wins over them."),
    word("labels", "Labels of the container; longshore.* are ours."),
    word(
        "links",
        "A name for another service that this one alone sees: SERVICE or SERVICE:NAME.",
    ),
    over(
        "logging",
        "The log driver. `logs` reads json-file, local and journald; local by default.",
        &[
            word("driver", "A driver of the nodes' engines."),
            word("options", "Options of the driver: max-size, max-file."),
        ],
    ),
    word(
        "mem_limit",
        "Limit of memory; as deploy.resources.limits.memory.",
    ),
    word(
        "mem_reservation",
        "Memory that is kept for it; as deploy.resources.reservations.memory.",
    ),
    word(
        "mem_swappiness",
        "As config --check says: engines with cgroup v2 ignore it.",
    ),
    word(
        "memswap_limit",
        "Memory and swap together; needs a limit of memory.",
    ),
    word(
        "network_mode",
        "host if the node's policy allows it; bridge is as without it.",
    ),
    named(
        "networks",
        "Networks that it is on: it sees the services that share one. Without any: default.",
        &[
            word("aliases", "Further names of it there."),
            word(
                "priority",
                "Taken with a warning: there is one network device.",
            ),
            word(
                "gw_priority",
                "Taken with a warning: there is one network device.",
            ),
        ],
    ),
    word(
        "oom_kill_disable",
        "true is refused: engines with cgroup v2 ignore it.",
    ),
    word(
        "oom_score_adj",
        "-1000 to 1000: the higher, the sooner the kernel ends it for want of memory.",
    ),
    word("pid", "host if the node's policy allows it."),
    word(
        "pids_limit",
        "Most processes; as deploy.resources.limits.pids.",
    ),
    word("platform", "OS/ARCH: only nodes of it are taken."),
    over(
        "ports",
        "Ways in: the edges (HAProxy) listen on the published port, on all addresses, and balance over the replicas, wherever they are. TCP only.",
        PORT,
    ),
    word("privileged", BY_HOST),
    word(
        "profiles",
        "It is there only with --profile of one of these.",
    ),
    word("pull_policy", "missing, always, never or build."),
    word(
        "read_only",
        "The container's file system cannot be written to.",
    ),
    word(
        "restart",
        "Checked, and nothing follows from it: what ends is started again, with a back-off.",
    ),
    word("runtime", "A runtime that the nodes' engines know: runsc."),
    word("scale", "As deploy.replicas."),
    over(
        "secrets",
        "Secrets that its containers are given as files, at /run/secrets/NAME unless target says otherwise.",
        GRANT,
    ),
    word(
        "security_opt",
        "Handed to the engine if the node's policy allows it; no-new-privileges is always set.",
    ),
    word("shm_size", "Size of /dev/shm."),
    word("stdin_open", "Keeps standard input open."),
    word(
        "stop_grace_period",
        "Time from the stop signal to the end by force, after the replica was drained; 10s by default.",
    ),
    word("stop_signal", "What it is stopped by, SIGTERM by default."),
    word(
        "storage_opt",
        "size: limit of the container's own layer, where the engine can.",
    ),
    word("sysctls", BY_HOST),
    word("tmpfs", "Paths in memory: /run or /run:size=64m."),
    word("tty", "Gives it a terminal."),
    word(
        "ulimits",
        "Limits of the kernel: nofile: 1024, or {soft, hard}.",
    ),
    word("user", "USER[:GROUP] inside the container."),
    word("userns_mode", BY_HOST),
    over(
        "volumes",
        "NAME:/path for a named volume, /path:/path for what is on the node, ./file:/path:ro for a small file that is sent.",
        VOLUME,
    ),
    word("working_dir", "Directory that the command starts in."),
];

const BUILD: &[Word] = &[
    word("context", "The directory that is sent to the engine."),
    word("dockerfile", "Its file, Dockerfile by default."),
    word("dockerfile_inline", "The file's text itself."),
    word("args", "Variables of the build."),
    word("labels", "Labels of the image."),
    word("target", "The stage that is built."),
    word("network", "Network of the build's steps."),
    word("no_cache", "Builds every step anew."),
    word("pull", "Fetches the base images anew."),
    word("extra_hosts", "One further name."),
    word("shm_size", "Size of /dev/shm in the build."),
    word("platforms", "One platform."),
    word("tags", "Further names of the image."),
    word(
        "cache_from",
        "Images whose layers are taken where they fit.",
    ),
];

const DEPLOY: &[Word] = &[
    word(
        "mode",
        "How replicas are counted: replicated by default, which is as many as replicas says. docs/compose.md",
    ),
    word(
        "replicas",
        "How many. With x-autoscale, how many at first; `controllerctl scale` changes it while it runs.",
    ),
    over(
        "placement",
        "Which nodes are taken.",
        &[
            word(
                "constraints",
                "node.labels.disk == ssd, node.hostname != web1: node.id, .hostname, .role, .platform.os, .platform.arch, .labels.NAME and engine.labels.NAME.",
            ),
            word(
                "preferences",
                "spread: node.labels.zone: evenly over the values of a label.",
            ),
            word("max_replicas_per_node", "Most replicas of it on one node."),
            word("x-policy", "spread or binpack: over many nodes, or on few."),
            word(
                "x-rebalance",
                "false: replicas stay where they are when nodes come.",
            ),
        ],
    ),
    over(
        "resources",
        "CPU and memory of each replica.",
        &[
            over("limits", "What it can have at most.", RESOURCES),
            over(
                "reservations",
                "What a node must have left for it.",
                RESOURCES,
            ),
        ],
    ),
    over(
        "update_config",
        "How a new revision replaces the old one.",
        UPDATE,
    ),
    over("rollback_config", "The same for the way back.", UPDATE),
    over(
        "restart_policy",
        "Checked, and nothing follows from it: what ends is started again, with a back-off from 1 s to 5 min.",
        &[
            word(
                "condition",
                "any, on-failure or none; the last with a warning.",
            ),
            word("delay", "Checked."),
            word("max_attempts", "Checked."),
            word("window", "Checked."),
        ],
    ),
    word(
        "endpoint_mode",
        "vip; every service is balanced by HAProxy.",
    ),
    word("labels", "Taken with a warning: nothing reads them."),
];

const RESOURCES: &[Word] = &[
    word("cpus", "Cores: 0.5."),
    word("memory", "Bytes: 512m."),
    word("pids", "Most processes."),
];

const UPDATE: &[Word] = &[
    word("parallelism", "Replicas at a time; 0 is all."),
    word(
        "order",
        "start-first or stop-first; by default whichever loses nobody.",
    ),
    word("delay", "Time between two batches."),
    word(
        "monitor",
        "Time after a batch in which a failure counts; 5s by default.",
    ),
    word("failure_action", "pause, continue or rollback."),
    word("max_failure_ratio", "Share of replicas that may fail."),
];

const HEALTH: &[Word] = &[
    word(
        "test",
        "[CMD, curl, -f, http://localhost/], [CMD-SHELL, TEXT], or a text for the shell; [NONE] for none. Left away: the image's own, if it has one.",
    ),
    word(
        "interval",
        "Time between two runs; 30s by default, with the image's own test as the image says.",
    ),
    word(
        "timeout",
        "Time after which a run has failed; 30s by default.",
    ),
    word(
        "retries",
        "Failures in a row that make it unhealthy; 3 by default.",
    ),
    word(
        "start_period",
        "Time after the start in which failures do not count.",
    ),
    word(
        "start_interval",
        "Time between two runs within start_period.",
    ),
    word("disable", "true: no check, the image's own neither."),
];

const PORT: &[Word] = &[
    word("target", "The port inside."),
    word(
        "published",
        "The port that the edges listen on; the same as target by default.",
    ),
    word("protocol", "tcp."),
    word(
        "mode",
        "ingress: through the edges. host: on the node itself.",
    ),
    word(
        "app_protocol",
        "http, https or tcp: how the edges treat it.",
    ),
    word("host_ip", "Only all addresses: 0.0.0.0 or ::."),
    word("name", "Read and not used."),
];

const GRANT: &[Word] = &[
    word("source", "Its name at the top of the file."),
    word("target", "The path inside."),
    word("uid", "Owner; root by default."),
    word("gid", "Group; root's by default."),
    word("mode", "Permissions, octal; 0444 by default."),
];

const VOLUME: &[Word] = &[
    word("type", "volume, bind or tmpfs."),
    word("source", "Name of a volume, or a path."),
    word("target", "The path inside."),
    word("read_only", "It cannot be written to there."),
    over(
        "bind",
        "Options of a bind.",
        &[
            word("propagation", "rprivate and so on."),
            word(
                "create_host_path",
                "The engine makes the path where it is missing.",
            ),
            word("selinux", "Taken with a warning: labels are not set."),
        ],
    ),
    over(
        "volume",
        "Options of a volume.",
        &[word(
            "nocopy",
            "What the image has at the path is not copied into it.",
        )],
    ),
    over(
        "tmpfs",
        "Options of a tmpfs.",
        &[word("size", "Bytes: 64m."), word("mode", "Octal: 1777.")],
    ),
    word("consistency", "Ignored: it has no meaning on Linux."),
];
