//! A copy of a cluster, and the cluster out of it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use controller::backup::{Restore, restore};
use controller::backups;
use controller::config::{Config, StoreConfig};
use controller::init::DataDir;
use controller::run::Controller;
use controller::seal::SealKey;
use controller::store::RedbStore;
use longshore_proto::control::v1 as pb;
use longshore_proto::secrets::v1 as secrets;
use longshore_proto::secrets::v1::secret_service_client::SecretServiceClient;

use crate::support::{FakeAgent, Lab, app, patient};

async fn copy(lab: &Lab) -> Vec<u8> {
    let stream = lab.admin.clone().backup(pb::BackupRequest {}).await;
    let mut stream = stream.unwrap().into_inner();
    let (mut whole, mut digest) = (Vec::new(), String::new());
    while let Some(piece) = stream.message().await.unwrap() {
        assert!(!format!("{piece:?}").contains("PRIVATE"));
        whole.extend(piece.data);
        digest = piece.digest;
    }
    let found = longshore_model::spec::ContentDigest::of(&whole);
    assert_eq!(found.to_string(), digest);
    whole
}

async fn scale(lab: &Lab, count: u32) {
    let request = pb::ScaleRequest {
        service: "web".into(),
        count,
        ..Default::default()
    };
    lab.admin.clone().scale(request).await.unwrap();
    lab.until_serving("web", count).await;
}

async fn apply(lab: &Lab, app: pb::App) {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        ..Default::default()
    };
    lab.admin.clone().apply_app(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_goes_on_from_its_copy_with_the_agents_of_before() {
    let lab = Lab::start().await;
    let agent = lab.node("a", true, false).await;
    let edge = lab.node("edge", false, true).await;
    apply(&lab, app("shop", "web", 80, 1)).await;
    lab.until_serving("web", 1).await;
    let file = lab.dir.path().join("copy.tar");
    std::fs::write(&file, copy(&lab).await).unwrap();
    let before = lab.controller.view().plan.clone();
    // What happens later is forgotten: an app, and two replicas.
    scale(&lab, 3).await;
    apply(&lab, app("other", "api", 81, 2)).await;
    lab.until_serving("api", 2).await;
    let told = agent.told.borrow().assignment.clone().unwrap();
    let last = told.replicas.iter().map(|r| r.replica_id).max().unwrap();
    let wanted = |replace| Restore {
        data_dir: lab.data_dir(),
        file: file.clone(),
        replace,
        seal_key: None,
    };
    let refused = restore(&wanted(true)).unwrap_err();
    let refused = controller::chain(&refused);
    assert!(refused.contains("another controller uses"), "{refused}");
    let (certs, edge_certs) = (agent.kill().await, edge.kill().await);

    let (dir, file) = lab.stop().await;
    let data_dir = dir.path().join("data");
    let wanted = |replace| Restore {
        data_dir: data_dir.clone(),
        file: file.join("copy.tar"),
        replace,
        seal_key: None,
    };
    let refused = restore(&wanted(false)).unwrap_err().to_string();
    assert!(
        refused.contains("has a store already; --replace"),
        "{refused}"
    );
    let said = restore(&wanted(true)).unwrap();
    assert!(said.contains("cluster generation 2"), "{said}");
    let lab = Lab::run(dir).await;
    assert_eq!(lab.controller.fence.cluster_generation, 2);
    let plan = lab.controller.view().plan.clone();
    assert!(plan.services.keys().eq(before.services.keys()));
    // The agents hold what they were told last, of a time that is forgotten.
    let agent = FakeAgent::resume(&lab, "a", certs, false, &told).await;
    let edge = FakeAgent::start(&lab, "edge", edge_certs, true).await;
    lab.until_serving("web", 1).await;
    scale(&lab, 2).await;
    let status = lab.admin.clone().get_status(pb::GetStatusRequest {}).await;
    let problems = status.unwrap().into_inner().problems;
    assert!(problems.is_empty(), "{problems:?}");
    let now = agent.told.borrow().clone();
    assert_eq!(now.fence.unwrap().cluster_generation, 2);
    let assignment = now.assignment.unwrap();
    assert!(assignment.generation > told.generation);
    let fresh = assignment.replicas.iter().filter(|r| r.slot == 2);
    assert!(fresh.clone().count() == 1 && fresh.clone().all(|r| r.replica_id > last));
    assert!(edge.told.borrow().routes.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_machine_is_replaced_by_a_copy_and_another_cluster_is_left_alone() {
    let lab = Lab::start().await;
    apply(&lab, app("shop", "web", 80, 1)).await;
    let whole = copy(&lab).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("copy.tar");
    std::fs::write(&file, &whole).unwrap();
    let into = |name: &str| Restore {
        data_dir: elsewhere.path().join(name),
        file: file.clone(),
        replace: false,
        seal_key: None,
    };
    restore(&into("data")).unwrap();
    // A cluster of its own is there.
    let other = Lab::start().await;
    let (dir, _) = other.stop().await;
    let wanted = Restore {
        data_dir: dir.path().join("data"),
        file: file.clone(),
        replace: true,
        seal_key: None,
    };
    let refused = restore(&wanted).unwrap_err().to_string();
    assert!(refused.contains("belongs to another cluster"), "{refused}");
    // Operators of before are let in, by the same CA.
    let context = lab.dir.path().join("context.toml");
    std::fs::copy(context, elsewhere.path().join("context.toml")).unwrap();
    let (_kept, _) = lab.stop().await;
    let lab = Lab::run(elsewhere).await;
    let services = lab
        .admin
        .clone()
        .list_services(pb::ListServicesRequest {})
        .await;
    assert_eq!(services.unwrap().into_inner().services[0].key, "shop/web");
    let mut cut = whole;
    cut.truncate(700);
    let file = lab.dir.path().join("cut.tar");
    std::fs::write(&file, cut).unwrap();
    let data_dir = lab.dir.path().join("third");
    let wanted = Restore {
        data_dir: data_dir.clone(),
        file,
        replace: false,
        seal_key: None,
    };
    let refused = controller::chain(&restore(&wanted).unwrap_err());
    assert!(refused.contains("no good copy"), "{refused}");
    assert!(!data_dir.exists(), "nothing was begun");
}

/// Files of a folder that hold this text.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let mut places = bytes.windows(text.len());
        if places.any(|place| place == text.as_bytes()) {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_on_no_disk_without_their_key() {
    const PLANTED: &str = "hunter2-and-more";
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key");
    let text = SealKey::random().unwrap().to_text();
    std::fs::write(&key, text).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = Config {
        store: StoreConfig {
            seal_key: Some(key.clone()),
            ..StoreConfig::default()
        },
        ..patient()
    };
    let lab = Lab::run_with(Lab::init(), config.clone()).await;
    let mut client = SecretServiceClient::new(lab.channel.clone());
    let put = secrets::PutRegistryRequest {
        server: "r.example.com".into(),
        user: "ana".into(),
        password: PLANTED.into(),
    };
    client.put_registry(put).await.unwrap();
    let file = lab.dir.path().join("copy.tar");
    std::fs::write(&file, copy(&lab).await).unwrap();
    let (dir, path) = lab.stop().await;
    assert_eq!(files_with(&path, PLANTED), Vec::<PathBuf>::new());
    assert_eq!(
        files_with(&path, "r.example.com").len(),
        2,
        "store and copy"
    );

    let wanted = |seal_key| Restore {
        data_dir: path.join("other"),
        file: file.clone(),
        replace: false,
        seal_key,
    };
    let refused = controller::chain(&restore(&wanted(None)).unwrap_err());
    assert!(
        refused.contains("name the file of the key with --seal-key"),
        "{refused}"
    );
    restore(&wanted(Some(key))).unwrap();
    std::fs::remove_dir_all(path.join("data")).unwrap();
    std::fs::rename(path.join("other"), path.join("data")).unwrap();
    assert_eq!(files_with(&path, PLANTED), Vec::<PathBuf>::new());
    let lab = Lab::run_with(dir, config).await;
    let apart = lab.controller.apart.load();
    let login = apart.logins.values().next().unwrap();
    assert_eq!(login.password.expose(), PLANTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_restored_by_the_command_that_is_named() {
    let lab = Lab::start().await;
    apply(&lab, app("shop", "web", 80, 1)).await;
    let data = DataDir::new(&lab.data_dir());
    let good = backups::make(&lab.controller).unwrap();
    let newer = backups::make(&lab.controller).unwrap();
    std::fs::write(&newer.path, "no copy").unwrap();
    let mut admin = lab.admin.clone();
    let listed = admin.list_backups(pb::ListBackupsRequest {}).await;
    let listed = listed.unwrap().into_inner();
    let files = listed.backups.iter().map(|backup| Path::new(&backup.file));
    assert!(files.eq([&*newer.path, &good.path]), "{listed:?}");
    let (dir, _) = lab.stop().await;
    until_free(&data.store()).await;
    // What is no page of its file any more.
    let mut store = std::fs::read(data.store()).unwrap();
    let length = store.len();
    store[length / 4..].fill(0x5a);
    std::fs::write(data.store(), store).unwrap();

    let refused = Controller::open(data.path(), patient())
        .await
        .err()
        .unwrap();
    let said = refused.to_string();
    assert!(said.contains("store.redb is damaged"), "{said}");
    let command = said
        .lines()
        .find(|line| line.contains("controller restore"));
    let words: Vec<&str> = command.unwrap().split_whitespace().collect();
    let (path, copy) = (data.path().to_str().unwrap(), good.path.to_str().unwrap());
    let wanted = [
        "controller",
        "restore",
        "--data-dir",
        path,
        "--replace",
        copy,
    ];
    assert_eq!(words, wanted);
    let wanted = Restore {
        data_dir: words[3].into(),
        file: words[5].into(),
        replace: true,
        seal_key: None,
    };
    restore(&wanted).unwrap();
    let lab = Lab::run(dir).await;
    let mut admin = lab.admin.clone();
    let services = admin.list_services(pb::ListServicesRequest {}).await;
    assert_eq!(services.unwrap().into_inner().services[0].key, "shop/web");
}

/// In one process the last calls of a stopped controller must end before the file is free.
async fn until_free(store: &Path) {
    let opening = async {
        while let Err(error) = RedbStore::open(store) {
            let said = controller::chain(&error);
            assert!(said.contains("already open"), "{said}");
            tokio::task::yield_now().await;
        }
    };
    let opened = tokio::time::timeout(crate::support::BOUND, opening).await;
    opened.expect("the store stays in use");
}
