//! The configuration of an edge's HAProxy, as its file and as it would be written now.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::relay::{Bulk, forward};
use crate::edge::ProxyView;
use crate::runtime::Channel;

/// Longest configuration that is shown.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// What comes before the only secret of a configuration.
const SECRET: &str = "dynamic-cookie-key ";
/// A reload may be under way.
const ANSWER: Duration = Duration::from_secs(10);

/// The file as it is.
pub(super) async fn file(view: &ProxyView, id: u64, bulk: &Bulk) -> Result<Option<i64>, String> {
    let path = &view.file;
    let shown = path.display();
    let cannot = |why: String| format!("{shown} cannot be read: {why}");
    let file = tokio::fs::File::open(path).await;
    let file = file.map_err(|error| cannot(error.to_string()))?;
    let mut text = String::new();
    let mut bounded = file.take(CONFIG_BYTES_MAX);
    let read = bounded.read_to_string(&mut text).await;
    read.map_err(|error| cannot(error.to_string()))?;
    if bounded.limit() == 0 {
        return Err(cannot(format!("it has {CONFIG_BYTES_MAX} bytes or more")));
    }
    show(&text, id, bulk).await
}

/// The file as it would be written now.
pub(super) async fn wanted(view: &ProxyView, id: u64, bulk: &Bulk) -> Result<Option<i64>, String> {
    let (ask, told) = oneshot::channel();
    let asking = async {
        view.asks.send(ask).await.ok()?;
        told.await.ok()
    };
    let told = timeout(ANSWER, asking).await;
    let told = told.map_err(|_| "the edge's HAProxy driver is busy; try again".to_owned())?;
    let told = told.ok_or("the edge's HAProxy driver has ended")?;
    let wanted = told.ok_or("this edge was told no routes yet")?;
    let text = tokio::task::spawn_blocking(move || wanted.text()).await;
    let text = text.map_err(|error| error.to_string())?;
    show(&text, id, bulk).await
}

/// But for the one secret: with the key of the cookies anybody could choose the replica that answers
/// him.
async fn show(text: &str, id: u64, bulk: &Bulk) -> Result<Option<i64>, String> {
    let lines = text
        .split_inclusive('\n')
        .map(|line| match line.split_once(SECRET) {
            Some((before, _)) => format!("{before}{SECRET}(hidden)\n"),
            None => line.to_owned(),
        });
    let text: String = lines.collect();
    let output = futures_util::stream::iter([Ok((Channel::Stdout, text.into_bytes()))]);
    forward(Box::pin(output), id, bulk).await.map(|()| None)
}
