//! What the history of revisions promises.

use std::sync::Arc;

use longshore_model::plan::Plan;
use longshore_model::rollout::{PauseCause, Said, Trouble};
use longshore_model::{NodeId, ReplicaId};

use super::super::{HistoryBatch, MemStore, Meta};
use super::*;
use crate::testing::service_spec;

fn open() -> (Arc<MemStore>, Repository) {
    let store = Arc::new(MemStore::default());
    let meta = Meta::new("c".into(), "a:1".into(), Vec::new());
    Repository::create(&*store, &meta).unwrap();
    let (repository, _) = Repository::open(store.clone()).unwrap();
    (store, repository)
}

fn app(name: &str, revision: u64) -> App {
    let mut spec = service_spec();
    spec.container.image = format!("web:{revision}");
    App {
        name: name.parse().unwrap(),
        revision,
        services: [("web".parse().unwrap(), Arc::new(spec))].into(),
        applied_ms: revision,
        applied_by: "ana".into(),
        numbers: Default::default(),
    }
}

fn finished() -> RolloutNews {
    RolloutNews::Finished {
        after_ms: 5,
        refused_by: Default::default(),
    }
}

fn event(revision: u64, news: RolloutNews) -> Event {
    let service = "shop/web".parse().unwrap();
    let kind = EventKind::Rollout {
        service,
        revision,
        news,
    };
    Event { at_ms: 9, kind }
}

fn trouble() -> Trouble {
    Trouble::Replicas {
        failed: 2,
        tolerated: 1,
        replica: ReplicaId(7),
        slot: 1,
        node: NodeId::new("node1").unwrap(),
        last: longshore_model::reason::FailReason::Exited {
            code: 3,
            oom: false,
            last_line: "no database".into(),
        },
    }
}

#[test]
fn the_last_twenty_revisions_of_an_app_are_kept_and_leave_with_it() {
    let (store, mut repository) = open();
    for revision in 1..=25 {
        repository.put_app(&app("shop", revision), &[]).unwrap();
    }
    // A name that begins with the other's.
    repository.put_app(&app("shop-b", 1), &[]).unwrap();
    let shop = "shop".parse().unwrap();
    let kept = revisions(&*store, &shop).unwrap();
    let numbers: Vec<u64> = kept.iter().map(|r| r.app.revision).collect();
    assert_eq!(numbers, (6..=25).collect::<Vec<u64>>());
    assert_eq!(kept[0].app, app("shop", 6), "whole, as it was applied");
    repository.remove_app(&shop, &[], &[]).unwrap();
    assert!(revisions(&*store, &shop).unwrap().is_empty());
    let other = revisions(&*store, &"shop-b".parse().unwrap()).unwrap();
    assert_eq!(other.len(), 1);
}

#[test]
fn a_revision_remembers_how_it_ended_and_why() {
    let (store, mut repository) = open();
    let undone = Origin::Undone {
        service: "web".parse().unwrap(),
        to_revision: 1,
    };
    repository.put_app(&app("shop", 1), &[]).unwrap();
    let second = app("shop", 2);
    repository.put_app_as(&second, undone.clone(), &[]).unwrap();
    let (plan, none) = (Plan::default(), HistoryBatch::default());
    let mut commit = |events: &[Event]| {
        repository.commit_plan(&plan, &plan, events, &none).unwrap();
        revisions(&*store, &"shop".parse().unwrap()).unwrap()
    };
    let rows = commit(&[
        event(1, finished()),
        event(
            2,
            RolloutNews::RollsBack {
                to_revision: 1,
                why: trouble(),
            },
        ),
        // Before the history began.
        event(77, finished()),
    ]);
    let of = |row: &RevisionRecord| row.outcomes[&"web".parse::<ServiceName>().unwrap()].clone();
    assert_eq!(of(&rows[0]).state, "finished");
    assert_eq!(of(&rows[1]).state, "rolling_back");
    assert_eq!(rows[1].origin, undone);
    let rows = commit(&[event(2, RolloutNews::RolledBack { to_revision: 1 })]);
    let outcome = of(&rows[1]);
    assert_eq!((outcome.state.as_str(), outcome.at_ms), ("rolled_back", 9));
    assert!(outcome.why.contains("no database"), "{}", outcome.why);
    let paused = RolloutNews::Paused {
        why: trouble(),
        cause: PauseCause::NothingWorked,
    };
    let superseded = RolloutNews::Superseded { by_revision: 3 };
    let rows = commit(&[event(1, paused), event(2, superseded)]);
    let why = of(&rows[0]).why;
    assert!(
        why.starts_with("there is no earlier revision that worked"),
        "{why}"
    );
    let outcome = of(&rows[1]);
    assert_eq!(outcome.state, "superseded");
    assert!(outcome.why.contains("no database"), "{}", outcome.why);
}

#[test]
fn what_operators_said_of_rollouts_survives_a_restart_but_not_its_app() {
    let (store, mut repository) = open();
    repository.put_app(&app("shop", 1), &[]).unwrap();
    let key: ServiceKey = "shop/web".parse().unwrap();
    let control = RolloutControl {
        held: Some(Said {
            at_ms: 4,
            by: "ana".into(),
        }),
        resumed: None,
    };
    put_rollout(&mut repository, &key, &control).unwrap();
    let (mut repository, loaded) = Repository::open(store.clone()).unwrap();
    assert_eq!(loaded.desired.rollout, BTreeMap::from([(key, control)]));
    repository
        .remove_app(&"shop".parse().unwrap(), &[], &[])
        .unwrap();
    let (_, loaded) = Repository::open(store).unwrap();
    assert!(loaded.desired.rollout.is_empty());
}
