//! `image push`, `push`: an image of the engine here becomes one of the controller's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longshore_model::spec::Platform;
use longshore_proto::images::v1 as pb;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{Run, fetched, platform};
use crate::cli::PushArgs;
use crate::client::Client;
use crate::engine::archive::{self, ArchiveError, Layer};
use crate::engine::{Engine, EngineError, Image};
use crate::failure::{Exit, Failure};
use crate::output::{note, print, size};
use crate::progress::{Reporter, Stage};
use crate::text::printable;

/// How often a bar moves.
const TICK: Duration = Duration::from_millis(100);

/// What became of one push.
#[derive(Debug, Serialize)]
pub(super) struct Pushed {
    /// The name, complete.
    pub(super) image: String,
    /// What nodes are told to run.
    pub(super) digest: String,
    /// How many layers it has.
    pub(super) layers: usize,
    /// How many of them were sent.
    pub(super) layers_sent: usize,
    /// What went over the wire, configuration included.
    pub(super) bytes_sent: u64,
    /// The name meant something else before, or nothing.
    pub(super) changed: bool,
    /// Nodes that have fetched it at once.
    pub(super) nodes: Vec<String>,
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            ArchiveError::Read(source) | ArchiveError::Spool { source, .. } => {
                failure.because(source)
            }
            ArchiveError::Lacks(_) | ArchiveError::Gone => failure,
        }
    }
}

pub(super) async fn push(run: &Run, args: &PushArgs) -> Result<Exit, Failure> {
    let platform = args.platform.as_deref().map(platform::parse).transpose()?;
    let engine = Engine::connect().await?;
    let mut client = run.connect(None).await?;
    let mut done = Vec::new();
    let mut reporter = Reporter::new(run.out.progress, "Pushing");
    for name in &args.images {
        let what = (name.as_str(), platform.as_ref());
        let mut pushed = one(&mut client, &engine, what, &mut reporter).await?;
        pushed.nodes = fetched::on_nodes(&mut client, &pushed, &args.nodes, &mut reporter).await?;
        done.push(pushed);
    }
    reporter.finish();
    print(&run.out.list(&done, 0))?;
    Ok(Exit::Done)
}

impl crate::output::Row for Pushed {
    fn titles(_: bool) -> Vec<&'static str> {
        vec!["IMAGE", "DIGEST", "LAYERS SENT", "BYTES SENT"]
    }

    fn cells(&self, wide: bool, _: u64) -> Vec<crate::output::Shown> {
        vec![
            crate::output::Shown::from(&self.image),
            crate::output::images::short(&self.digest, wide).into(),
            format!("{} of {}", self.layers_sent, self.layers).into(),
            size(self.bytes_sent).into(),
        ]
    }

    fn name(&self) -> String {
        self.image.clone()
    }
}

/// Pushes one image, of one of its platforms, and says so.
pub(super) async fn one(
    client: &mut Client,
    engine: &Engine,
    (name, platform): (&str, Option<&Platform>),
    reporter: &mut Reporter,
) -> Result<Pushed, Failure> {
    let image = engine.image(name).await?;
    let image = image.ok_or_else(|| EngineError::NoImage(name.to_owned()))?;
    let image = match platform {
        Some(platform) => platform::of(engine, (name, image), platform, reporter).await?,
        None => image,
    };
    let result = send(client, engine, name, &image, reporter).await;
    if let Err(failure) = &result {
        reporter.say(name, None, Stage::Error, &failure.message);
        reporter.finish();
    }
    let pushed = result?;
    let text = match pushed.layers_sent {
        0 => format!("Pushed: all {} layers were there", pushed.layers),
        sent => format!(
            "Pushed: {sent} of {} layers, {}",
            pushed.layers,
            size(pushed.bytes_sent)
        ),
    };
    reporter.say(name, None, Stage::Done, &text);
    Ok(pushed)
}

async fn send(
    client: &mut Client,
    engine: &Engine,
    name: &str,
    image: &Image,
    reporter: &mut Reporter,
) -> Result<Pushed, Failure> {
    reporter.say(name, None, Stage::Working, "Asking for missing layers");
    // With the classic store an image is known by the digest of its configuration.
    let mut asked = image.diff_ids.clone();
    asked.push(image.id.clone());
    let missing: BTreeSet<String> = client.missing_blobs(&asked).await?.into_iter().collect();
    let (mut config, mut sent) = (image.id.clone(), Sent::default());
    if !missing.is_empty() {
        let text = layers(client, engine, (name, image), missing, reporter, &mut sent).await?;
        config = archive::digest(&text);
        if !client
            .missing_blobs(std::slice::from_ref(&config))
            .await?
            .is_empty()
        {
            sent.bytes += text.len() as u64;
            client.upload_config(config.clone(), text).await?;
        }
    }
    let recorded = client
        .record_image(pb::RecordImageRequest {
            name: name.to_owned(),
            config_digest: config,
            diff_ids: image.diff_ids.clone(),
            platform: image.platform.clone(),
        })
        .await?;
    Ok(Pushed {
        image: recorded.name,
        digest: recorded.manifest_digest,
        layers: image.diff_ids.len(),
        layers_sent: sent.layers,
        bytes_sent: sent.bytes,
        changed: recorded.changed,
        nodes: Vec::new(),
    })
}

#[derive(Default)]
struct Sent {
    layers: usize,
    bytes: u64,
}

/// Reads the image from the engine and sends what is missing; gives its configuration. One layer
/// is sent while the next is read.
async fn layers(
    client: &mut Client,
    engine: &Engine,
    (name, image): (&str, &Image),
    mut missing: BTreeSet<String>,
    reporter: &mut Reporter,
    sent: &mut Sent,
) -> Result<Vec<u8>, Failure> {
    missing.remove(&image.id);
    let text = format!(
        "Reading: {} of {} layers are missing",
        missing.len(),
        image.diff_ids.len()
    );
    reporter.say(name, None, Stage::Working, &text);
    let (found, mut ready) = mpsc::channel::<Layer>(1);
    let stream = StreamReader::new(Box::pin(engine.export(name)));
    let input = SyncIoBridge::new(stream);
    let (diff_ids, platform) = (image.diff_ids.clone(), image.platform.clone());
    let reader = tokio::task::spawn_blocking(move || {
        let hand_over = |layer| found.blocking_send(layer).map_err(|_| ArchiveError::Gone);
        archive::read(
            input,
            (diff_ids.as_slice(), platform.as_str()),
            missing,
            &std::env::temp_dir(),
            hand_over,
        )
    });
    while let Some(layer) = ready.recv().await {
        sent.layers += 1;
        sent.bytes += layer.wire_bytes;
        upload(client, layer, name, reporter).await?;
    }
    match reader.await {
        Ok(text) => Ok(text?),
        Err(error) => Err(Failure::new("cannot read the image").because(error)),
    }
}

async fn upload(
    client: &mut Client,
    layer: Layer,
    name: &str,
    reporter: &mut Reporter,
) -> Result<(), Failure> {
    let id = format!(
        "layer {}",
        crate::output::images::short(&layer.digest, false)
    );
    let all = layer.wire_bytes;
    let gone = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&gone);
    let call = client.upload_layer(layer, move |bytes| {
        count.fetch_add(bytes, Ordering::Relaxed);
    });
    let mut call = std::pin::pin!(call);
    reporter.say(
        &id,
        Some(name),
        Stage::Working,
        &format!("Pushing {}", size(all)),
    );
    loop {
        tokio::select! {
            done = &mut call => {
                done?;
                reporter.say(&id, Some(name), Stage::Done, &format!("Pushed {}", size(all)));
                return Ok(());
            }
            () = tokio::time::sleep(TICK) => {
                let now = gone.load(Ordering::Relaxed);
                reporter.moved(&id, &format!("Pushing {}/{}", size(now), size(all)));
            }
        }
    }
}

/// One line for what was pushed on the way to something else.
pub(super) fn said(pushed: &Pushed) {
    note(&printable(&format!(
        "{}: {} of {} layers sent, {}",
        pushed.image,
        pushed.layers_sent,
        pushed.layers,
        size(pushed.bytes_sent)
    )));
}
