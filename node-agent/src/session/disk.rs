//! What takes room on this node, as a stream of one message.

use longshore_proto::agent::v1 as pb;
use prost::Message;

use super::relay::{Bulk, forward, words};
use crate::runtime::disk::{DiskUse, Share, VolumeUse};
use crate::runtime::{Channel, Runtime};

/// Asks the engine, and says its answer.
pub(super) async fn told<R: Runtime>(
    runtime: &R,
    asked: &pb::DiskStream,
    id: u64,
    bulk: &Bulk,
) -> Result<Option<i64>, String> {
    let info = runtime.info().await.map_err(words)?;
    let room = tokio::task::spawn_blocking(move || room(&info.root));
    let disk = runtime
        .disk(asked.sizes, &asked.also)
        .await
        .map_err(words)?;
    let room = room.await.unwrap_or_default();
    let encoded = to_pb(disk, room).encode_to_vec();
    let output = futures_util::stream::iter([Ok((Channel::Stdout, encoded))]);
    forward(Box::pin(output), id, bulk).await.map(|()| None)
}

/// Bytes of the file system of a directory, and those that are free for others than root.
fn room(directory: &std::path::Path) -> (u64, u64) {
    let disk = rustix::fs::statvfs(directory);
    disk.map_or((0, 0), |disk| {
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        (bytes(disk.f_blocks), bytes(disk.f_bavail))
    })
}

fn to_pb(disk: DiskUse, (disk_bytes, disk_free_bytes): (u64, u64)) -> pb::DiskUse {
    let share = |share: Option<Share>| {
        share.map(|share| pb::DiskShare {
            count: share.count,
            active: share.active,
            bytes: share.bytes,
            reclaimable_bytes: share.reclaimable_bytes,
        })
    };
    let volume = |volume: VolumeUse| pb::VolumeUse {
        name: volume.name,
        app: volume.app,
        driver: volume.driver,
        created: volume.created,
        used_by: volume.used_by,
    };
    pb::DiskUse {
        disk_bytes,
        disk_free_bytes,
        images: share(disk.images),
        containers: share(disk.containers),
        volumes: share(disk.volumes),
        build_cache: share(disk.build_cache),
        named: disk.named.into_iter().map(volume).collect(),
    }
}
