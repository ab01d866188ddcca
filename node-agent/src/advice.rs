//! What works on this node and will hurt: said by `doctor`, each with the way out.

use std::path::Path;

use crate::runtime::EngineInfo;

/// Less of the engine's disk than this is said.
const FREE_PERCENT_MIN: u8 = 10;

/// All of it; nothing, while nothing is known of the engine.
#[must_use]
pub fn advice(engine: &EngineInfo) -> Vec<String> {
    if engine.version.is_empty() {
        return Vec::new();
    }
    let restore = (!engine.live_restore).then(|| {
        "its engine's live-restore is off, so a restart of dockerd kills every container: set \
         \"live-restore\": true in /etc/docker/daemon.json, then: systemctl reload docker"
            .to_owned()
    });
    let free = engine
        .disk_free_percent
        .filter(|free| *free < FREE_PERCENT_MIN);
    let disk = free.map(|free| {
        let root = engine.root.display();
        format!(
            "{free} % of the disk below {root} is free: docker system prune there, or a larger disk"
        )
    });
    let images = engine.loads_images.as_ref().map(|why| {
        format!("its engine loads images of the controller whole instead of by layers: {why}")
    });
    restore.into_iter().chain(disk).chain(images).collect()
}

/// How much of the disk of a directory is free for others than root; none: it cannot be told.
#[must_use]
pub fn free_percent(directory: &Path) -> Option<u8> {
    let disk = rustix::fs::statvfs(directory).ok()?;
    let percent = disk
        .f_bavail
        .saturating_mul(100)
        .checked_div(disk.f_blocks)?;
    u8::try_from(percent.min(100)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_well_is_not_spoken_of() {
        let well = EngineInfo {
            version: "29.1.0".into(),
            root: "/var/lib/docker".into(),
            live_restore: true,
            disk_free_percent: Some(10),
            ..EngineInfo::default()
        };
        assert!(advice(&well).is_empty());
        assert!(
            advice(&EngineInfo::default()).is_empty(),
            "nothing is known"
        );
        let ill = EngineInfo {
            live_restore: false,
            disk_free_percent: Some(9),
            loads_images: Some("port 5071 is taken".into()),
            ..well
        };
        let said = advice(&ill);
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains("\"live-restore\": true"), "{said:?}");
        assert!(
            said[1].starts_with("9 % of the disk below /var/lib/docker"),
            "{said:?}"
        );
    }

    #[test]
    fn a_directory_has_a_disk_and_what_is_not_there_has_none() {
        let free = free_percent(Path::new("/")).unwrap();
        assert!(free <= 100, "{free}");
        assert_eq!(free_percent(Path::new("/not/there")), None);
    }
}
