//! What takes room, on the Docker Engine.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{
    ContainerSummary, ContainerSummaryStateEnum, SystemDataUsageResponse, Volume,
};
use bollard::query_parameters::{
    DataUsageOptions, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveVolumeOptions,
};

use longshore_model::node::VOLUMES_TOLD_MAX;

use super::create::LABEL_CLUSTER;
use super::disk::{Disk, DiskUse, Share, USERS_MAX, VOLUMES_MAX, VolumeUse};
use super::docker::{CHANGE_DEADLINE, DockerRuntime, LOOK_DEADLINE};
use super::runs::LABEL_RUN;
use super::{ErrorKind, RuntimeError};

/// The engine walks through all of its data.
const SIZES_DEADLINE: Duration = Duration::from_secs(12);
/// Names that the engine gives to volumes without one.
const ANONYMOUS_DIGITS: usize = 64;

impl Disk for DockerRuntime {
    async fn disk(&self, sizes: bool, also: &[String]) -> Result<DiskUse, RuntimeError> {
        let filters = HashMap::from([(
            "label".to_owned(),
            vec![format!("{LABEL_CLUSTER}={}", self.cluster())],
        )]);
        let volumes = ListVolumesOptionsBuilder::new().build();
        let containers = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let list = |docker: Docker| async move {
            let volumes = docker.list_volumes(Some(volumes)).await?;
            Ok((volumes, docker.list_containers(Some(containers)).await?))
        };
        let (volumes, containers) = self.call("listing volumes", LOOK_DEADLINE, list).await?;
        let ours = |volume: &Volume| {
            let cluster = volume.labels.get(LABEL_CLUSTER).map(String::as_str);
            cluster == Some(self.cluster()) || also.contains(&volume.name)
        };
        let mut volumes = volumes.volumes.unwrap_or_default();
        volumes.retain(ours);
        let mut disk = DiskUse {
            named: named(volumes, &containers),
            ..DiskUse::default()
        };
        if sizes {
            let ask = |docker: Docker| async move { docker.df(None::<DataUsageOptions>).await };
            let told = self.call("asking what takes room", SIZES_DEADLINE, ask);
            shares(&mut disk, &told.await?);
            if disk.images.is_none() {
                self.count(&mut disk).await?;
            }
        }
        Ok(disk)
    }

    async fn has_volume(&self, name: &str) -> Result<bool, RuntimeError> {
        let look = |docker: Docker| async move { docker.inspect_volume(name).await.map(drop) };
        let attempted = format!("looking for volume {name:.128}");
        match self.call(attempted, LOOK_DEADLINE, look).await {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }

    async fn volumes(&self) -> Result<Option<BTreeMap<String, u64>>, RuntimeError> {
        let options = ListVolumesOptionsBuilder::new().build();
        let list = |docker: Docker| async move { docker.list_volumes(Some(options)).await };
        let listed = self.call("listing volumes", LOOK_DEADLINE, list).await?;
        let volumes = listed.volumes.unwrap_or_default().into_iter();
        let made = volumes
            .filter(|volume| is_named(&volume.name))
            .map(|volume| {
                let made = volume.created_at.map(|at| at.to_string());
                (volume.name, made.map_or(0, |at| made_ms(&at)))
            });
        let made: BTreeMap<String, u64> = made.collect();
        Ok((made.len() <= VOLUMES_TOLD_MAX).then_some(made))
    }

    async fn remove_volume(&self, name: &str, named: bool) -> Result<(), RuntimeError> {
        let attempted = format!("removing volume {name:.128}");
        let refused = |detail: String| RuntimeError {
            kind: ErrorKind::Refused,
            attempted: attempted.clone(),
            detail,
        };
        // Only what is an app's: other data on this host is nobody's business here.
        let also = named.then(|| name.to_owned());
        let disk = self.disk(false, also.as_slice()).await?;
        let found = disk.named.iter().find(|volume| volume.name == name);
        let found = found.ok_or_else(|| refused("no app of this cluster has it here".into()))?;
        if !found.used_by.is_empty() {
            return Err(refused(format!("in use by {}", found.used_by.join(", "))));
        }
        let remove = |docker: Docker| async move {
            docker
                .remove_volume(&found.name, None::<RemoveVolumeOptions>)
                .await
        };
        self.call(attempted.clone(), CHANGE_DEADLINE, remove).await
    }
}

impl DockerRuntime {
    /// Engines before 29 tell sizes in a form that is not read: how many there are, at least.
    async fn count(&self, disk: &mut DiskUse) -> Result<(), RuntimeError> {
        let images = ListImagesOptionsBuilder::new().build();
        let containers = ListContainersOptionsBuilder::new()
            .all(true)
            .size(true)
            .build();
        let volumes = ListVolumesOptionsBuilder::new().build();
        let list = |docker: Docker| async move {
            Ok((
                docker.list_images(Some(images)).await?,
                docker.list_containers(Some(containers)).await?,
                docker.list_volumes(Some(volumes)).await?,
            ))
        };
        let (images, containers, volumes) = self
            .call("counting what takes room", SIZES_DEADLINE, list)
            .await?;
        let volumes = volumes.volumes.unwrap_or_default();
        let in_use = |name: &str| containers.iter().any(|c| mounted(c).any(|m| m == name));
        let image_used = |id: &String| {
            let mut ids = containers.iter().filter_map(|c| c.image_id.as_ref());
            ids.any(|used| used == id)
        };
        let running = |c: &&ContainerSummary| c.state == Some(ContainerSummaryStateEnum::RUNNING);
        let share = |count: usize, active: usize| {
            Some(Share {
                count: small(count),
                active: small(active),
                ..Share::default()
            })
        };
        let used = images.iter().filter(|image| image_used(&image.id)).count();
        disk.images = share(images.len(), used);
        disk.containers = share(containers.len(), containers.iter().filter(running).count());
        let wrote = containers
            .iter()
            .filter_map(|c| u64::try_from(c.size_rw?).ok());
        if let Some(containers) = &mut disk.containers {
            containers.bytes = Some(wrote.sum());
        }
        let used = volumes.iter().filter(|volume| in_use(&volume.name));
        disk.volumes = share(volumes.len(), used.count());
        Ok(())
    }
}

/// Did somebody name it?
fn is_named(name: &str) -> bool {
    let digits = name.bytes().all(|b| b.is_ascii_hexdigit());
    !(digits && name.len() == ANONYMOUS_DIGITS)
}

/// `2026-11-23T20:10:03+01:00`, as engines say it; 0: it is no such time.
fn made_ms(at: &str) -> u64 {
    let time = at.parse::<jiff::Timestamp>();
    time.map_or(0, |time| u64::try_from(time.as_millisecond()).unwrap_or(0))
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Names of its volumes.
fn mounted(container: &ContainerSummary) -> impl Iterator<Item = &str> {
    let mounts = container.mounts.iter().flatten();
    let volumes = mounts.filter(|mount| mount.typ.as_deref() == Some("volume"));
    volumes.filter_map(|mount| mount.name.as_deref())
}

/// What a container of ours is called.
fn user(container: &ContainerSummary) -> Option<String> {
    let labels = container.labels.as_ref()?;
    let label = |name: &str| labels.get(name).map(String::as_str);
    let service = format!(
        "{}/{}",
        label("longshore.app")?,
        label("longshore.service")?
    );
    Some(match (label("longshore.slot"), label(LABEL_RUN)) {
        (Some(slot), _) => format!("{service}.{slot}"),
        (None, Some(run)) => format!("{service} (run {run})"),
        (None, None) => service,
    })
}

/// Volumes that were made for apps, and those that apps' containers have by name.
fn named(volumes: Vec<Volume>, containers: &[ContainerSummary]) -> Vec<VolumeUse> {
    let mut all: BTreeMap<String, VolumeUse> = BTreeMap::new();
    for volume in volumes {
        let app = volume.labels.get("longshore.app").cloned();
        let listed = VolumeUse {
            name: volume.name.clone(),
            app: app.unwrap_or_default(),
            driver: volume.driver,
            created: volume
                .created_at
                .map(|at| at.to_string())
                .unwrap_or_default(),
            used_by: Vec::new(),
        };
        all.insert(volume.name, listed);
    }
    for container in containers {
        let Some(user) = user(container) else {
            continue;
        };
        for name in mounted(container) {
            let volume = all.entry(name.to_owned()).or_insert_with(|| VolumeUse {
                name: name.to_owned(),
                ..VolumeUse::default()
            });
            if volume.used_by.len() < USERS_MAX {
                volume.used_by.push(user.clone());
            }
        }
    }
    let all = all.into_values().filter(|volume| is_named(&volume.name));
    all.take(VOLUMES_MAX).collect()
}

fn shares(disk: &mut DiskUse, told: &SystemDataUsageResponse) {
    macro_rules! share {
        ($usage:expr) => {
            $usage.as_ref().map(|usage| {
                let count = |count: Option<i64>| u32::try_from(count.unwrap_or(0)).unwrap_or(0);
                let bytes = |bytes: Option<i64>| bytes.and_then(|b| u64::try_from(b).ok());
                Share {
                    count: count(usage.total_count),
                    active: count(usage.active_count),
                    bytes: bytes(usage.total_size),
                    reclaimable_bytes: bytes(usage.reclaimable),
                }
            })
        };
    }
    disk.images = share!(told.image_usage);
    disk.containers = share!(told.container_usage);
    disk.volumes = share!(told.volume_usage);
    disk.build_cache = share!(told.build_cache_usage);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(labels: &str, volume: &str) -> ContainerSummary {
        let listed = format!(
            r#"{{"Id": "c", "Labels": {{"longshore.app": "shop", "longshore.service": "db",
                {labels}}}, "Mounts": [{{"Type": "volume", "Name": "{volume}"}},
                {{"Type": "bind", "Source": "/etc"}}]}}"#
        );
        serde_json::from_str(&listed).unwrap()
    }

    #[test]
    fn engines_say_with_their_own_clock_when_a_volume_was_made() {
        let same = ["2026-11-23T20:10:03+01:00", "2026-11-23T19:10:03Z"].map(made_ms);
        assert_eq!(same, [1_795_461_003_000; 2]);
        assert_eq!(made_ms("yesterday"), 0);
    }

    #[test]
    fn volumes_are_listed_with_those_who_have_them() {
        let made = r#"{"Name": "shop_data", "Driver": "local", "Mountpoint": "/m",
            "Labels": {"longshore.app": "shop"}, "Scope": "local", "Options": {}}"#;
        let made: Volume = serde_json::from_str(made).unwrap();
        let anonymous = "a".repeat(64);
        let containers = [
            container(r#""longshore.slot": "2""#, "shop_data"),
            container(r#""longshore.run": "ab12""#, "before"),
            container(r#""longshore.slot": "1""#, &anonymous),
        ];
        let named = named(vec![made], &containers);
        let shown: Vec<_> = named
            .iter()
            .map(|v| (v.name.as_str(), v.app.as_str(), v.used_by.as_slice()))
            .collect();
        let (run, slot) = (["shop/db (run ab12)".into()], ["shop/db.2".into()]);
        let expected: [(&str, &str, &[String]); 2] =
            [("before", "", &run), ("shop_data", "shop", &slot)];
        assert_eq!(shown, expected);
    }
}
