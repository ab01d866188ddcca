use longshore_identity::ca::ClusterCa;

use super::*;
use crate::backup::testing::store;
use crate::clock::Clock;
use crate::cluster::Parts;
use crate::config::Config;

const MINUTE: Duration = Duration::from_secs(60);

fn cluster(folder: &Folder) -> Arc<Cluster> {
    let parts = Parts {
        config: Config::default(),
        ca: ClusterCa::create("lab", std::time::SystemTime::now()).unwrap(),
        seal: None,
        term: None,
        backups: folder.clone(),
        clock: Clock::start(),
        port: 1,
    };
    Cluster::open(Arc::new(store()), parts).unwrap()
}

async fn until(what: &str, holds: impl Fn() -> bool) -> Duration {
    let since = tokio::time::Instant::now();
    while !holds() {
        assert!(since.elapsed() < 200 * MINUTE, "{what}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    since.elapsed()
}

#[tokio::test(start_paused = true)]
async fn one_is_made_soon_after_the_start_and_then_each_hour() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path().join("backups"));
    let cluster = cluster(&folder);
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(Arc::clone(&cluster), stop.clone()));
    let count = |wanted| folder.entries().unwrap().len() == wanted;
    let first = until("no first one", || count(1)).await;
    assert!(first < MINUTE, "{first:?}");
    let second = until("no second one", || count(2)).await;
    assert!((59 * MINUTE..=61 * MINUTE).contains(&second), "{second:?}");
    stop.cancel();
    running.await.unwrap();
    // The next process goes on from there.
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(Arc::clone(&cluster), stop.clone()));
    let third = until("no third one", || count(3)).await;
    assert!(third > 50 * MINUTE, "{third:?}");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backups");
    std::fs::write(&path, "no folder").unwrap();
    let folder = Folder::new(path.clone());
    let cluster = cluster(&folder);
    let said = || {
        let config = &cluster.config.backup;
        cluster.backups.problem(config, cluster.now_ms())
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(Arc::clone(&cluster), stop.clone()));
    until("nothing is said", || said().is_some()).await;
    let text = said().unwrap();
    let wanted = "no backup of the cluster can be made, and there is none: cannot make directory";
    assert!(text.starts_with(wanted), "{text}");
    std::fs::remove_file(&path).unwrap();
    let after = until("it is not tried again", || said().is_none()).await;
    assert!(after < 10 * MINUTE, "{after:?}");
    assert_eq!(folder.entries().unwrap().len(), 1);
    stop.cancel();
    running.await.unwrap();
}
