//! Secrets and configs: what is taken, and that their contents are not shown.

use longshore_model::ContainerSpec;
use longshore_model::spec::{ContentDigest, FileContents, FileKind, FileSpec};
use longshore_proto::{agent, control, spec::v1 as pb};
use longshore_wire::{
    Fence, container_spec_from_pb, container_spec_to_pb, contents_from_pb, contents_to_pb,
};

fn spec() -> ContainerSpec {
    let file = |kind, target: &str| FileSpec {
        kind,
        name: "db_password".into(),
        target: target.into(),
        uid: 1_000,
        gid: 65_534,
        mode: 0o440,
        bytes: 7,
        digest: ContentDigest::of(b"hunter2"),
        external: (kind == FileKind::Secret).then(|| "shop.db".into()),
    };
    let files = vec![
        file(FileKind::Secret, "/run/secrets/db_password"),
        file(FileKind::Config, "/etc/app.conf"),
    ];
    ContainerSpec {
        image: "app:1".into(),
        files,
        ..ContainerSpec::default()
    }
}

#[test]
fn files_go_there_and_back() {
    let spec = spec();
    let back = container_spec_from_pb(container_spec_to_pb(&spec)).unwrap();
    assert_eq!(back, spec);
    assert_eq!(back.template_id(), spec.template_id());
}

type Change = fn(&mut pb::ContainerSpec);

#[test]
fn hostile_files_are_refused_with_the_field_and_the_rule() {
    let cases: [(Change, &str); 8] = [
        (
            |s| s.files[0].target = "/run/../etc/shadow".into(),
            "files: target",
        ),
        (|s| s.files[0].target = "etc/shadow".into(), "files: target"),
        (|s| s.files[0].target = "/etc/a\0b".into(), "files: target"),
        (
            |s| s.files[1].target = "/run/secrets/db_password".into(),
            "is the target of",
        ),
        (
            |s| s.files[0].bytes = u64::MAX,
            "at most 512000 are allowed",
        ),
        (
            |s| s.files[0].digest = "ABC".into(),
            "files.digest: must be 64",
        ),
        (|s| s.files[0].kind = 0, "files.kind: is not said"),
        (
            |s| s.read_only = true,
            "read_only: the engine can write no file",
        ),
    ];
    for (change, words) in cases {
        let mut message = container_spec_to_pb(&spec());
        change(&mut message);
        let refused = container_spec_from_pb(message).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    let mut many = container_spec_to_pb(&spec());
    many.files = vec![many.files[0].clone(); 65];
    let refused = container_spec_from_pb(many).unwrap_err().to_string();
    assert!(refused.contains("at most 64 are allowed"), "{refused}");
}

#[test]
fn contents_are_what_their_digest_says_and_are_not_shown() {
    let contents = FileContents::new(*b"hunter2");
    let digest = ContentDigest::of(b"hunter2");
    let message = contents_to_pb(&digest, &contents, Fence::default());
    let shown = format!("{message:?}");
    assert!(
        shown.contains("7 bytes") && !shown.contains("hunter"),
        "{shown}"
    );
    let (_, found, back) = contents_from_pb(message.clone()).unwrap();
    assert_eq!((found, back), (digest.clone(), contents));
    let other = agent::v1::Contents {
        contents: b"hunter3".to_vec(),
        ..message.clone()
    };
    let refused = contents_from_pb(other).unwrap_err().to_string();
    assert!(refused.contains("are not those of") && !refused.contains("hunter"));
    let long = agent::v1::Contents {
        contents: vec![0; (1 << 20) + 1],
        ..message
    };
    assert!(contents_from_pb(long).is_err());
    let brought = control::v1::FileContents {
        digest: digest.to_string(),
        contents: b"hunter2".to_vec(),
    };
    assert!(!format!("{brought:?}").contains("104, 117"));
}
