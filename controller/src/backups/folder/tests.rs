use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::backup::testing::copy;

const KEEP: Keep = Keep {
    count: 3,
    bytes_max: u64::MAX,
};

fn folder() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path().join("backups"));
    (dir, folder)
}

fn times(folder: &Folder) -> Vec<TimeMs> {
    let entries = folder.entries().unwrap().into_iter();
    entries.map(|entry| entry.time_ms).collect()
}

#[test]
fn the_newest_are_kept_and_other_files_left_alone() {
    let (_dir, folder) = folder();
    assert_eq!(times(&folder), [0; 0]);
    folder.prepare().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.path()), 0o700);
    for other in ["mine.tar", "backup-.tar", "backup-20261124T125300Z.tar"] {
        fs::write(folder.path().join(other), "x").unwrap();
    }
    for time_ms in [5, 1_795_524_780_123, 7, 6] {
        let entry = folder.add(&copy(), time_ms, None, KEEP).unwrap();
        assert_eq!(mode(&entry.path), 0o600);
    }
    assert_eq!(times(&folder), [6, 7, 1_795_524_780_123]);
    assert!(
        folder
            .path()
            .join("backup-20261124T125300.123Z.tar")
            .exists()
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
    // Too large together, and still two.
    let small = Keep {
        count: 9,
        bytes_max: 1,
    };
    folder.add(&copy(), 8, None, small).unwrap();
    assert_eq!(times(&folder), [8, 1_795_524_780_123]);
}

#[test]
fn what_is_half_written_goes_and_what_is_no_copy_never_counts() {
    let (_dir, folder) = folder();
    folder.prepare().unwrap();
    let half = folder.path().join(name_of(9) + UNFINISHED);
    fs::write(&half, "half").unwrap();
    folder.prepare().unwrap();
    assert!(!half.exists());
    for time_ms in [1, 2, 3] {
        folder.add(&copy(), time_ms, None, KEEP).unwrap();
    }
    let refused = folder.add(b"no copy", 4, None, KEEP).unwrap_err();
    let refused = crate::chain(&refused);
    assert!(refused.contains("no good copy"), "{refused}");
    assert_eq!(times(&folder), [1, 2, 3], "an older one left for it");
    // The newest one is damaged where it lies.
    let mut entries = folder.entries().unwrap();
    let newest = entries.pop().unwrap();
    let mut bytes = fs::read(&newest.path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0xff;
    fs::write(&newest.path, &bytes[..at + 1]).unwrap();
    let (good, about) = folder.newest_good(None).unwrap().unwrap();
    assert_eq!((Some(good), about.cluster.as_str()), (entries.pop(), "lab"));
}

#[test]
fn a_disk_without_room_is_said_before_it_is_written_to() {
    let (_dir, folder) = folder();
    folder.prepare().unwrap();
    assert!(folder.check_room(1).is_ok());
    let error = folder.check_room(u64::MAX).unwrap_err();
    assert!(matches!(error, FolderError::NoRoom { .. }), "{error}");
}
