//! Where the controllers of a cluster are: each says so in etcd, all read it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_etcd::{Client, EtcdError, Op, Range, Span, Txn};
use longshore_reach::CONTROLLERS_MAX;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Looks between two times that one says where it is.
const LOOKS_PER_WORD: u32 = 720;
/// Who has said nothing for so long is no controller any more.
const FORGOTTEN_AFTER_S: u64 = 86_400;
/// Longest address.
const URL_BYTES_MAX: usize = 512;

/// What one says.
#[derive(Serialize, Deserialize)]
struct Word {
    url: String,
    /// When, in seconds since 1970, by its clock.
    at_s: u64,
}

/// Says where this one is (`name`, `url`) and keeps `known` up to date, until `stop`. What etcd does not take or
/// tell is tried again.
pub(super) async fn run(
    client: Client,
    prefix: String,
    (name, url): (String, String),
    known: watch::Sender<Vec<String>>,
    stop: CancellationToken,
) {
    let mut looks = 0;
    loop {
        if looks % LOOKS_PER_WORD == 0 {
            match say(&client, &prefix, &name, &url).await {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "etcd does not know this controller yet"),
            }
        }
        match look(&client, &prefix, now_s()).await {
            Ok(urls) => {
                looks += 1;
                known.send_if_modified(|known| std::mem::replace(known, urls.clone()) != urls);
            }
            Err(error) => tracing::debug!(%error, "etcd does not tell the controllers"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

async fn say(client: &Client, prefix: &str, name: &str, url: &str) -> Result<(), EtcdError> {
    let word = Word {
        url: url.to_owned(),
        at_s: now_s(),
    };
    // A string and a number: there is nothing in it that JSON cannot say.
    let value = serde_json::to_vec(&word).unwrap_or_default();
    let key = format!("{prefix}{name}");
    client.txn(Txn::new().then(Op::put(key, value))).await?;
    Ok(())
}

async fn look(client: &Client, prefix: &str, now_s: u64) -> Result<Vec<String>, EtcdError> {
    // More than can be kept in mind, so that old ones leave room.
    let most = u32::try_from(4 * CONTROLLERS_MAX).unwrap_or(u32::MAX);
    let rows = client
        .range(Range::of(Span::prefix(prefix)).limit(most))
        .await?;
    let words = rows.rows.iter();
    let words = words.filter_map(|row| serde_json::from_slice::<Word>(&row.value).ok());
    let mut urls: Vec<String> = words
        .filter(|word| word.at_s.saturating_add(FORGOTTEN_AFTER_S) > now_s)
        .map(|word| word.url)
        .filter(|url| url.len() <= URL_BYTES_MAX)
        .collect();
    urls.sort();
    urls.dedup();
    urls.truncate(CONTROLLERS_MAX);
    Ok(urls)
}
