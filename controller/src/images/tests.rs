//! Blobs are whole or not there; images go when nothing needs them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use longshore_model::spec::Platform;
use longshore_model::{ImageDigest, ImageName};

use super::*;

const MIB: u64 = 1 << 20;

fn limits() -> ImagesConfig {
    ImagesConfig {
        blob_bytes_max: 4 * MIB,
        stored_bytes_max: 6 * MIB,
        ..ImagesConfig::default()
    }
}

struct Place {
    dir: tempfile::TempDir,
    blobs: Arc<Blobs>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let room = || Ok((1000 * MIB, 1000 * MIB));
        let blobs = Blobs::with_room(dir.path(), limits(), Box::new(room)).unwrap();
        let blobs = Arc::new(blobs);
        Self { dir, blobs }
    }

    fn files(&self) -> usize {
        let count = |name: &str| {
            std::fs::read_dir(self.dir.path().join(name))
                .unwrap()
                .count()
        };
        count("blobs/sha256") + count("uploads")
    }

    fn put(&self, content: &[u8]) -> ImageDigest {
        let digest = ImageDigest::of(content);
        let bytes = content.len() as u64;
        let upload = self.blobs.begin(digest.clone(), bytes, Encoding::Identity);
        let mut upload = upload.unwrap();
        upload.write(content).unwrap();
        upload.finish().unwrap();
        digest
    }
}

#[test]
fn a_blob_is_read_back_as_it_was_whatever_its_encoding() {
    let place = Place::new();
    let content = b"layer".repeat(100_000);
    let digest = ImageDigest::of(&content);
    let bytes = content.len() as u64;
    let packed = zstd::encode_all(&content[..], 3).unwrap();
    let mut upload = place
        .blobs
        .begin(digest.clone(), bytes, Encoding::Zstd)
        .unwrap();
    for piece in packed.chunks(7) {
        upload.write(piece).unwrap();
    }
    assert_eq!(place.blobs.bytes_of(&digest), None, "not before its end");
    upload.finish().unwrap();
    assert_eq!(place.blobs.bytes_of(&digest), Some(bytes));
    assert_eq!(place.blobs.read(&digest, bytes).unwrap(), content);
    assert!(place.blobs.read(&digest, bytes - 1).is_err());
    // The next process finds it, and what an upload left does not stay.
    let left = place.dir.path().join("uploads/7");
    std::fs::write(left, "half").unwrap();
    let again = Blobs::open(place.dir.path(), limits()).unwrap();
    assert_eq!(again.bytes_of(&digest), Some(bytes));
    assert_eq!((place.files(), again.usage().bytes), (1, bytes));
}

#[test]
fn what_is_not_as_announced_is_not_kept() {
    let place = Place::new();
    let good = b"good".to_vec();
    let digest = ImageDigest::of(&good);
    let send = |bytes: u64, encoding, pieces: &[&[u8]]| -> BlobError {
        let mut upload = place.blobs.begin(digest.clone(), bytes, encoding).unwrap();
        for piece in pieces {
            if let Err(error) = upload.write(piece) {
                return error;
            }
        }
        upload.finish().unwrap_err()
    };
    let wrong = send(4, Encoding::Identity, &[b"evil"]);
    assert!(matches!(wrong, BlobError::Digest { .. }), "{wrong}");
    let long = send(4, Encoding::Identity, &[b"good", b"!"]);
    assert!(matches!(long, BlobError::Size { .. }), "{long}");
    let short = send(5, Encoding::Identity, &[&good]);
    assert!(matches!(short, BlobError::Size { found: 4, .. }), "{short}");
    let none = send(4, Encoding::Zstd, &[b"no zstd at all"]);
    assert!(matches!(none, BlobError::Encoding { .. }), "{none}");
    // A bomb ends where its announced size does.
    let bomb = zstd::encode_all(std::io::repeat(0).take(64 << 20), 3).unwrap();
    let bomb = send(4, Encoding::Zstd, &[&bomb]);
    assert!(matches!(bomb, BlobError::Size { .. }), "{bomb}");
    let cut = zstd::encode_all(&good[..], 3).unwrap();
    let cut = send(4, Encoding::Zstd, &[&cut[..cut.len() - 1]]);
    let cut_is_found = matches!(cut, BlobError::Encoding { .. } | BlobError::Size { .. });
    assert!(cut_is_found, "{cut}");
    // One whose window would cost more memory than allowed.
    let mut wide = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    wide.window_log(27).unwrap();
    wide.write_all(&vec![1; 64 << 10]).unwrap();
    let wide = send(64 << 10, Encoding::Zstd, &[&wide.finish().unwrap()]);
    assert!(matches!(wide, BlobError::Encoding { .. }), "{wide}");
    assert_eq!((place.files(), place.blobs.usage().bytes), (0, 0));
}

#[test]
fn limits_refuse_before_anything_is_written() {
    let place = Place::new();
    let digest = ImageDigest::of(b"x");
    let begin = |bytes| place.blobs.begin(digest.clone(), bytes, Encoding::Identity);
    let refused = |bytes| begin(bytes).map(drop).unwrap_err();
    let large = refused(4 * MIB + 1);
    assert!(matches!(large, BlobError::TooLarge { .. }), "{large}");
    // What is on its way counts.
    let first = begin(4 * MIB).unwrap();
    let full = refused(2 * MIB + 1);
    assert!(matches!(full, BlobError::Full { .. }), "{full}");
    assert!(begin(2 * MIB).is_ok());
    drop(first);
    assert!(begin(4 * MIB).is_ok(), "its place was given back");
    let room = || Ok((101 * MIB, 1000 * MIB));
    let tight = Blobs::with_room(place.dir.path(), limits(), Box::new(room)).unwrap();
    let tight = Arc::new(tight);
    let low = tight.begin(digest.clone(), 2 * MIB, Encoding::Identity);
    let low = low.map(drop).unwrap_err();
    assert!(matches!(low, BlobError::Disk { .. }), "{low}");
    assert!(low.to_string().contains("image prune"), "{low}");
    assert!(tight.begin(digest, MIB / 2, Encoding::Identity).is_ok());
}

#[test]
fn what_a_push_names_is_not_collected_before_its_hour_is_over() {
    let place = Place::new();
    let (a, b, c) = (place.put(b"a"), place.put(b"b"), place.put(b"c"));
    let absent = ImageDigest::of(b"absent");
    let asked = [a.clone(), absent.clone(), absent.clone()];
    let missing = place.blobs.lease(&asked, 1_000).unwrap();
    assert_eq!(missing, [absent]);
    let needed = BTreeSet::from([&b]);
    assert_eq!(place.blobs.unneeded(&needed, 2_000), (1, 1));
    assert_eq!(place.blobs.collect(&needed, 2_000).unwrap(), (1, 1));
    assert_eq!(place.blobs.bytes_of(&c), None);
    assert!(place.blobs.bytes_of(&a).is_some());
    let later = 1_000 + 3_600_000;
    assert_eq!(place.blobs.collect(&needed, later).unwrap(), (1, 1));
    assert_eq!(place.blobs.usage().blobs, 1);
    assert!(place.blobs.open_blob(&a).is_err());
}

fn image(number: u64) -> (ImageDigest, Arc<ImageRecord>) {
    let blob = |text: String| BlobRef {
        digest: ImageDigest::of(text.as_bytes()),
        bytes: 10,
    };
    let config = blob(format!("config {number}"));
    let layers = vec![blob("base".into()), blob(format!("top {number}"))];
    let manifest = build(&config, &layers).unwrap();
    let record = ImageRecord {
        repository: "shop/web".into(),
        manifest,
        config,
        layers,
        platform: Platform::parse("linux/amd64").unwrap(),
        pushed_ms: number,
        pushed_by: "ana".into(),
    };
    let digest = ImageDigest::of(record.manifest.as_bytes());
    (digest, Arc::new(record))
}

/// Tags 1 to `count`, pushed in that order.
fn catalog(count: u64) -> (Catalog, Vec<ImageDigest>) {
    let mut catalog = Catalog::default();
    let mut digests = Vec::new();
    for number in 1..=count {
        let (digest, record) = image(number);
        let name: ImageName = format!("shop/web:{number}").parse().unwrap();
        let tag = Tag {
            digest: digest.clone(),
            at_ms: number,
        };
        catalog.images.insert(digest.clone(), record);
        catalog.tags.insert(name, tag);
        digests.push(digest);
    }
    (catalog, digests)
}

#[test]
fn only_what_nothing_needs_goes_and_each_reason_is_said() {
    let (mut catalog, digests) = catalog(12);
    let mut needs = Needs::default();
    needs.add(&digests[0], KeptKind::Revision, "shop/web@3".into());
    needs.add(&digests[1], KeptKind::Running, "shop/web".into());
    let sending = BTreeSet::from([catalog.images[&digests[2]].config.digest.clone()]);
    let verdicts = judge(&catalog, &needs, &sending, 2);
    let kinds = |at: usize| -> Vec<KeptKind> {
        let kept = verdicts.kept.get(&digests[at]);
        kept.into_iter().flatten().map(|kept| kept.kind).collect()
    };
    assert_eq!(kinds(0), [KeptKind::Revision]);
    assert_eq!(kinds(1), [KeptKind::Running]);
    assert_eq!(kinds(2), [KeptKind::Upload]);
    assert_eq!(
        (kinds(10), kinds(11)),
        (vec![KeptKind::Newest], vec![KeptKind::Newest])
    );
    let gone: BTreeSet<_> = digests[3..10].iter().cloned().collect();
    assert_eq!(verdicts.removed, gone);
    let names: Vec<String> = verdicts.names.iter().map(ToString::to_string).collect();
    let expected = ["10", "4", "5", "6", "7", "8", "9"].map(|tag| format!("shop/web:{tag}"));
    assert_eq!(names, expected);
    // One whose tag has moved on goes as well.
    let name: ImageName = "shop/web:12".parse().unwrap();
    let moved = Tag {
        digest: digests[0].clone(),
        at_ms: 13,
    };
    catalog.tags.insert(name, moved);
    let verdicts = judge(&catalog, &Needs::default(), &BTreeSet::new(), 1);
    assert!(verdicts.removed.contains(&digests[11]));
    assert_eq!(verdicts.kept.len(), 1);
}

#[test]
fn a_manifest_is_of_uncompressed_layers_and_always_the_same() {
    let (digest, record) = image(1);
    assert_eq!(image(1).0, digest);
    let json: serde_json::Value = serde_json::from_str(&record.manifest).unwrap();
    assert_eq!(json["mediaType"], MANIFEST_TYPE);
    assert_eq!(json["schemaVersion"], 2);
    let layer = &json["layers"][1];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(layer["digest"], record.layers[1].digest.as_str());
    assert_eq!(layer["size"], 10);
    assert_eq!(record.bytes(), 30);
}

#[test]
fn a_configuration_says_layers_and_platform_or_what_is_wrong_with_it() {
    let layer = ImageDigest::of(b"x");
    let read = |diff_ids: &str, arch: &str| {
        let config = format!(
            r#"{{"os":"linux","architecture":"{arch}","config":{{"Cmd":["sh"]}},
                "rootfs":{{"type":"layers","diff_ids":[{diff_ids}]}}}}"#
        );
        read_config(config.as_bytes()).map_err(|error| error.to_string())
    };
    let (layers, platform) = read(&format!("\"{layer}\""), "amd64").unwrap();
    assert_eq!(
        (layers, platform.to_string()),
        (vec![layer], "linux/amd64".to_owned())
    );
    assert!(
        read("\"sha256:../../x\"", "amd64")
            .unwrap_err()
            .contains("no sha256 digest")
    );
    assert!(read("", "").unwrap_err().contains("platform"));
    assert!(read_config(b"[]").is_err());
}
