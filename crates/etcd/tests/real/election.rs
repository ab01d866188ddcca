//! Who leads, with real members.

use std::time::{Duration, Instant};

use longshore_etcd::{
    Candidate, Client, Election, End, Leadership, Op, Range, Settings, Span, Standing, Txn,
};

use longshore_etcd_host::{Cluster, Way, patient, until};

const KEY: &str = "longshore/leader";
/// Long enough that a machine that stands still for a moment ends no leadership.
const TTL: Duration = Duration::from_secs(6);

fn stand(client: &Client, name: &str) -> Election {
    let candidate = Candidate {
        key: KEY.into(),
        name: name.into(),
        url: format!("https://{name}:7443"),
        ttl: TTL,
    };
    client.campaign(candidate).unwrap()
}

fn held(election: &Election) -> Option<Leadership> {
    match election.standing() {
        Standing::Leading(leadership) if leadership.is_valid(Instant::now()) => Some(leadership),
        _ => None,
    }
}

async fn leads(election: &Election) -> Leadership {
    until("it leads", async || {
        held(election).ok_or_else(|| format!("{:?}", election.standing()))
    })
    .await
}

/// A write that only the leader may make.
fn write(leadership: &Leadership) -> Txn {
    let term = leadership.term().to_string();
    Txn::new()
        .when(leadership.guard())
        .then(Op::put("longshore/row", term))
}

#[tokio::test]
async fn of_three_one_leads_and_the_others_know_who() {
    let cluster = Cluster::start(3).await;
    let clients = [cluster.client(), cluster.client(), cluster.client()];
    let first = stand(&clients[0], "one");
    let leadership = leads(&first).await;
    assert!(clients[0].txn(write(&leadership)).await.unwrap().succeeded);
    let (second, third) = (stand(&clients[1], "two"), stand(&clients[2], "three"));
    for other in [&second, &third] {
        let leader = until("the leader is known", async || match other.standing() {
            Standing::Following(Some(leader)) => Ok(leader),
            standing => Err(format!("{standing:?}")),
        })
        .await;
        assert_eq!((&*leader.name, leader.term), ("one", leadership.term()));
        assert_eq!(leader.url, "https://one:7443");
    }
    let until_then = leadership.leading_until() + TTL / 3;
    until("it is prolonged", async || {
        match leadership.leading_until() > until_then {
            true => Ok(()),
            false => Err(format!("{:?}", first.standing())),
        }
    })
    .await;
    // Given up, it is the next one's at once.
    let begun = Instant::now();
    first.resign().await;
    assert!(!leadership.is_valid(Instant::now()));
    assert_eq!(leadership.ended().await, End::Resigned);
    let next = until("another leads", async || {
        held(&second)
            .or(held(&third))
            .ok_or_else(|| format!("{:?}", second.standing()))
    })
    .await;
    println!("given up, another leads: {:?}", begun.elapsed());
    assert!(next.term() > leadership.term());
    assert!(!clients[0].txn(write(&leadership)).await.unwrap().succeeded);
    assert!(clients[1].txn(write(&next)).await.unwrap().succeeded);
}

#[tokio::test]
async fn whoever_is_cut_off_stops_before_another_leads() {
    let cluster = Cluster::start(1).await;
    let way = Way::to(&cluster.members[0].url).await;
    let alone = Client::new(Settings::new(&[&way.url], None).unwrap());
    let other = cluster.client();
    let first = stand(&alone, "one");
    let leadership = leads(&first).await;
    let second = stand(&other, "two");
    until("the other knows", async || match second.standing() {
        Standing::Following(Some(_)) => Ok(()),
        standing => Err(format!("{standing:?}")),
    })
    .await;
    let begun = Instant::now();
    way.cut();
    let next = until("another leads", async || {
        let next = held(&second);
        // In this order: whoever is valid now was so a moment ago.
        let both = next.is_some() && leadership.is_valid(Instant::now());
        assert!(!both, "two lead: {leadership:?} {next:?}");
        next.ok_or_else(|| format!("{:?}", second.standing()))
    })
    .await;
    println!("cut off, another leads: {:?}", begun.elapsed());
    assert_eq!(leadership.ended().await, End::Lapsed);
    assert!(matches!(first.standing(), Standing::Ended(End::Lapsed)));
    assert!(next.term() > leadership.term());
    // It woke and still believes that it leads: its writes change nothing.
    assert!(!other.txn(write(&leadership)).await.unwrap().succeeded);
    let rows = other
        .range(Range::of(Span::key("longshore/row")))
        .await
        .unwrap();
    assert_eq!(rows.count, 0);
}

#[tokio::test]
async fn a_frozen_endpoint_does_not_cost_the_leadership() {
    let cluster = Cluster::start(3).await;
    let followers: Vec<&str> = {
        let leader = cluster.leader().await;
        let all = cluster.members.iter().enumerate();
        all.filter(|(n, _)| *n != leader)
            .map(|(_, member)| &*member.url)
            .collect()
    };
    let ways = [Way::to(followers[0]).await, Way::to(followers[1]).await];
    let urls = [&*ways[0].url, &*ways[1].url];
    let client = Client::new(Settings::new(&urls, None).unwrap());
    let election = stand(&client, "one");
    let leadership = leads(&election).await;
    let endpoint = client.status().await.unwrap().endpoint;
    ways[usize::from(ways[1].url == endpoint)].cut();
    let later = leadership.leading_until() + TTL / 3;
    until("it is prolonged by the other endpoint", async || {
        match leadership.leading_until() > later {
            true => Ok(()),
            false => Err(format!("{:?}", election.standing())),
        }
    })
    .await;
    assert!(leadership.is_valid(Instant::now()));
}

#[tokio::test]
async fn a_key_that_somebody_deletes_ends_the_leadership() {
    let cluster = Cluster::start(1).await;
    let client = patient(&cluster.urls());
    let election = stand(&client, "one");
    let leadership = leads(&election).await;
    let delete = Txn::new().then(Op::Delete(Span::key(KEY)));
    client.txn(delete).await.unwrap();
    assert_eq!(leadership.ended().await, End::KeyGone);
    assert!(!client.txn(write(&leadership)).await.unwrap().succeeded);
}

#[tokio::test]
async fn bad_candidates_are_refused() {
    let client = patient(&["http://127.0.0.1:1"]);
    let candidate = |ttl_ms, name: &str, key: &str| {
        let (ttl, url) = (Duration::from_millis(ttl_ms), String::new());
        let (name, key) = (name.to_owned(), key.to_owned());
        let stands = client.campaign(Candidate {
            key,
            name,
            url,
            ttl,
        });
        stands.map(drop).map_err(|error| error.to_string())
    };
    for ttl_ms in [1999, 2500, 61_000] {
        let why = candidate(ttl_ms, "one", KEY).unwrap_err();
        assert!(why.contains("whole seconds"), "{why}");
    }
    assert!(
        candidate(3000, &"n".repeat(256), KEY)
            .unwrap_err()
            .contains("too long")
    );
    assert!(candidate(3000, "one", "").unwrap_err().contains("no key"));
    assert!(candidate(3000, "one", KEY).is_ok());
}
