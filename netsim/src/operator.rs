//! An operator: lets nodes in, applies an app, and sets counts as the seed says, remembering what was acknowledged.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longshore_identity::tls::{CertHolder, ServerTrust, connect};
use longshore_identity::{Identity, OperatorRole};
use longshore_proto::control::v1 as pb;
use longshore_proto::control::v1::control_service_client::ControlServiceClient;
use longshore_proto::spec::v1 as spec;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::world::{APP, IMAGE, SERVICES, World, lock, say};

const PATIENCE: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(86_400);
/// Most replicas of a service.
const COUNT_MAX: u32 = 5;

type Failed = Box<dyn std::error::Error>;

/// Goes on until the simulation ends.
pub async fn run(world: Arc<World>) -> Result<(), Failed> {
    let mut random = StdRng::seed_from_u64(world.seed ^ 0x6f70_6572);
    let identity = Identity::Operator {
        name: "admin".into(),
        role: OperatorRole::Admin,
    };
    let issued = world
        .ca()
        .issue_new(&identity, &[], DAY, SystemTime::now())?;
    let certs = CertHolder::from_pem(&issued.0, &issued.1)?;
    let mut is_applied = false;
    loop {
        let step = turn(&world, &certs, &mut random, &mut is_applied);
        // Whatever failed is tried again.
        if let Ok(Err(error)) = timeout(PATIENCE * 3, step).await {
            say(&*error);
        }
        sleep(Duration::from_millis(random.random_range(200..3_000))).await;
    }
}

async fn turn(
    world: &World,
    certs: &Arc<CertHolder>,
    random: &mut StdRng,
    is_applied: &mut bool,
) -> Result<(), Failed> {
    let trust = ServerTrust::Ca(world.ca_cert.clone());
    let channel = connect(&World::url(), Some(Arc::clone(certs)), trust).await?;
    let mut client = ControlServiceClient::new(channel);
    for host in &world.hosts {
        if !lock(&world.tokens).contains_key(&host.name) {
            let request = pb::CreateTokenRequest {
                worker: true,
                node_name: host.name.clone(),
                ..Default::default()
            };
            let token = client.create_token(request).await?.into_inner().token;
            lock(&world.tokens).insert(host.name.clone(), token);
        }
    }
    if !*is_applied {
        let request = pb::ApplyAppRequest {
            app: Some(app()),
            ..Default::default()
        };
        client.apply_app(request).await?;
        *is_applied = true;
    }
    if *lock(&world.quiet) {
        return Ok(());
    }
    scale(world, &mut client, random).await
}

async fn scale(
    world: &World,
    client: &mut ControlServiceClient<Channel>,
    random: &mut StdRng,
) -> Result<(), Failed> {
    let service = SERVICES[random.random_range(0..SERVICES.len())];
    let count = random.random_range(1..=COUNT_MAX);
    {
        let mut told = lock(&world.told);
        told.unanswered
            .entry(service.to_owned())
            .or_default()
            .push(count);
        let asked = told.counts.entry(service.to_owned());
        asked.or_default().push(count);
    }
    let request = pb::ScaleRequest {
        service: format!("{APP}/{service}"),
        count,
        hold_ms: 0,
    };
    timeout(PATIENCE, client.scale(request)).await??;
    let mut told = lock(&world.told);
    told.acknowledged.insert(service.to_owned(), count);
    told.unanswered.remove(service);
    told.changes += 1;
    Ok(())
}

fn app() -> pb::App {
    let service = |name: &&str| ((*name).to_owned(), service());
    pb::App {
        name: APP.to_owned(),
        services: SERVICES.iter().map(service).collect(),
    }
}

/// Two containers, without ways in: what is on the way between controller and nodes is looked at here.
fn service() -> spec::ServiceSpec {
    let container = spec::ContainerSpec {
        image: IMAGE.to_owned(),
        pull_policy: spec::PullPolicy::Missing.into(),
        stop_grace_ms: 1_000,
        resources: Some(spec::Resources::default()),
        privileges: Some(spec::Privileges::default()),
        ..Default::default()
    };
    let placement = spec::PlacementSpec {
        policy: spec::PlacementPolicy::Spread.into(),
        ..Default::default()
    };
    let update = spec::UpdateSpec {
        parallelism: 1,
        order: spec::UpdateOrder::StartFirst.into(),
        ..Default::default()
    };
    spec::ServiceSpec {
        container: Some(container),
        replicas: 2,
        placement: Some(placement),
        update: Some(update),
        drain_ms: 500,
        ..Default::default()
    }
}
