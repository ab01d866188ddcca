use std::path::Path;
use std::time::Duration;

use super::*;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Two cores, 1 GiB, a quarter of it in use.
fn machine() -> (tempfile::TempDir, Roots) {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "proc/stat",
        "cpu 100 0 100 500 50 0 0 0 0 0\ncpu0 1\ncpu1 1\nintr 5\n",
    );
    write(
        dir.path(),
        "proc/meminfo",
        "MemTotal: 1048576 kB\nMemAvailable: 786432 kB\n",
    );
    std::fs::create_dir(dir.path().join("cg")).unwrap();
    let roots = Roots {
        cgroup: dir.path().join("cg"),
        proc: dir.path().join("proc"),
    };
    (dir, roots)
}

fn near(value: Option<f64>, expected: f64) {
    let value = value.unwrap();
    assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
}

#[test]
fn without_groups_the_machine_itself_is_read() {
    let (dir, roots) = machine();
    let mut sampler = Sampler::new(roots);
    let capacity = sampler.capacity(&EngineInfo::default());
    assert_eq!(
        (capacity.cpu_milli, capacity.memory_bytes),
        (2_000, 1 << 30)
    );
    let start = Instant::now();
    assert_eq!(
        sampler.sample([].into_iter(), start).cpu_ratio,
        None,
        "nothing to compare with"
    );
    // 100 ticks of 10 ms more on two cores in one second: half.
    write(
        dir.path(),
        "proc/stat",
        "cpu 160 0 140 600 50 0 0 0 0 0\ncpu0 1\ncpu1 1\n",
    );
    let sample = sampler.sample([].into_iter(), start + Duration::from_secs(1));
    near(sample.cpu_ratio, 0.5);
    assert_eq!(sample.memory_used_bytes, 256 << 20);
}

#[test]
fn version_1_with_a_quota_measures_against_the_quota() {
    let (dir, roots) = machine();
    write(dir.path(), "cg/cpuacct/cpuacct.usage", "1000000000\n");
    write(dir.path(), "cg/cpu/cpu.cfs_quota_us", "50000\n");
    write(dir.path(), "cg/cpu/cpu.cfs_period_us", "100000\n");
    write(dir.path(), "cg/memory/memory.limit_in_bytes", "268435456\n");
    write(dir.path(), "cg/memory/memory.usage_in_bytes", "1048576\n");
    let mut sampler = Sampler::new(roots);
    let capacity = sampler.capacity(&EngineInfo::default());
    assert_eq!(
        (capacity.cpu_milli, capacity.memory_bytes),
        (500, 256 << 20)
    );
    let start = Instant::now();
    sampler.sample([].into_iter(), start);
    write(dir.path(), "cg/cpuacct/cpuacct.usage", "1400000000\n");
    let sample = sampler.sample([].into_iter(), start + Duration::from_secs(1));
    near(sample.cpu_ratio, 0.8);
    assert_eq!(sample.memory_used_bytes, 1 << 20);
}

#[test]
fn version_1_without_a_quota_measures_against_the_cores() {
    let (dir, roots) = machine();
    write(dir.path(), "cg/cpuacct/cpuacct.usage", "0\n");
    write(dir.path(), "cg/cpu/cpu.cfs_quota_us", "-1\n");
    write(dir.path(), "cg/cpu/cpu.cfs_period_us", "100000\n");
    write(
        dir.path(),
        "cg/memory/memory.limit_in_bytes",
        "9223372036854771712\n",
    );
    let sampler = Sampler::new(roots);
    assert_eq!(sampler.capacity(&EngineInfo::default()).cpu_milli, 2_000);
    assert_eq!(
        sampler.capacity(&EngineInfo::default()).memory_bytes,
        1 << 30
    );
}

#[test]
fn version_2_reads_its_own_files() {
    let (dir, roots) = machine();
    write(
        dir.path(),
        "cg/cpu.stat",
        "usage_usec 1000000\nuser_usec 5\n",
    );
    write(dir.path(), "cg/cpu.max", "150000 100000\n");
    write(dir.path(), "cg/memory.max", "max\n");
    let id = "ab12";
    write(
        dir.path(),
        "cg/system.slice/docker-ab12.scope/cpu.stat",
        "usage_usec 10\n",
    );
    write(
        dir.path(),
        "cg/system.slice/docker-ab12.scope/memory.current",
        "4096\n",
    );
    write(
        dir.path(),
        "cg/system.slice/docker-ab12.scope/memory.stat",
        "anon 1024\nfile 3072\ninactive_file 3000\nactive_file 72\n",
    );
    let mut sampler = Sampler::new(roots);
    assert_eq!(sampler.capacity(&EngineInfo::default()).cpu_milli, 1_500);
    let start = Instant::now();
    let first = sampler.sample([id].into_iter(), start);
    assert_eq!(
        first.containers[id],
        Use {
            cpu_milli: None,
            memory_bytes: Some(1096)
        }
    );
    write(dir.path(), "cg/cpu.stat", "usage_usec 1750000\n");
    write(
        dir.path(),
        "cg/system.slice/docker-ab12.scope/cpu.stat",
        "usage_usec 250010\n",
    );
    let sample = sampler.sample([id].into_iter(), start + Duration::from_secs(1));
    near(sample.cpu_ratio, 0.5);
    near(sample.containers[id].cpu_milli, 250.0);
}

#[test]
fn version_1_containers_are_found_and_forgotten() {
    let (dir, roots) = machine();
    write(dir.path(), "cg/cpuacct/docker/cd34/cpuacct.usage", "0\n");
    write(
        dir.path(),
        "cg/memory/docker/cd34/memory.usage_in_bytes",
        "8192\n",
    );
    write(
        dir.path(),
        "cg/memory/docker/cd34/memory.stat",
        "inactive_file 1\ntotal_inactive_file 192\n",
    );
    write(dir.path(), "cg/cpuacct/docker/ef56/cpuacct.usage", "0\n");
    let mut sampler = Sampler::new(roots);
    let sample = sampler.sample(
        ["cd34", "ef56", "none", "../../etc"].into_iter(),
        Instant::now(),
    );
    assert_eq!(sample.containers.len(), 2);
    assert_eq!(sample.containers["cd34"].memory_bytes, Some(8000));
    assert_eq!(
        sample.containers["ef56"].memory_bytes, None,
        "what cannot be read is not zero"
    );
    sampler.sample([].into_iter(), Instant::now());
    assert!(
        sampler.containers.is_empty(),
        "descriptors of gone containers are closed"
    );
}
