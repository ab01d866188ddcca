//! Streams that go on after the controller was away: what was read is said when asking again, so
//! that nothing is lost and nothing comes twice.

use tokio_stream::StreamExt;
use tonic::{Code, Status, Streaming};

use crate::client::{Client, Patience};
use crate::failure::{Exit, Failure};
use crate::output::note;

/// Something that is read message by message.
pub(super) trait Reading {
    /// What comes.
    type Message;
    /// What is tried, in words: `read events`.
    const ATTEMPT: &'static str;

    /// Asks for all that was not read yet.
    async fn open(&mut self, client: &mut Client) -> Result<Streaming<Self::Message>, Failure>;

    /// Takes a message and remembers how far that is.
    fn take(&mut self, message: Self::Message) -> Result<(), Failure>;
}

/// Reads to the end; with `follow`, until the user ends it or the controller stays away.
pub(super) async fn read<R: Reading>(
    client: &mut Client,
    reading: &mut R,
    follow: bool,
) -> Result<Exit, Failure> {
    tokio::select! {
        done = go_on(client, reading, follow) => done,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

async fn go_on<R: Reading>(
    client: &mut Client,
    reading: &mut R,
    follow: bool,
) -> Result<Exit, Failure> {
    let mut patience = Patience::default();
    // A first call that fails is the user's to know at once.
    let mut begun = false;
    loop {
        let failure = match reading.open(client).await {
            Ok(stream) => {
                begun = true;
                match drain(stream, reading, &mut patience).await {
                    Ok(None) if !follow => return Ok(Exit::Done),
                    Ok(None) => Failure::new("the controller went away")
                        .exit(Exit::Unreachable)
                        .transient(),
                    Ok(Some(status)) => broken(R::ATTEMPT, status),
                    Err(failure) => return Err(failure),
                }
            }
            Err(failure) => failure,
        };
        if !(follow && begun) {
            return Err(failure);
        }
        if patience.is_fresh() {
            note("-- the controller is away; going on once it is back --");
        }
        patience.wait(failure).await?;
    }
}

/// Hands on what comes; none: the stream ended in good order.
async fn drain<R: Reading>(
    mut stream: Streaming<R::Message>,
    reading: &mut R,
    patience: &mut Patience,
) -> Result<Option<Status>, Failure> {
    while let Some(next) = stream.next().await {
        match next {
            Ok(message) => reading.take(message)?,
            Err(status) => return Ok(Some(status)),
        }
        patience.reset();
    }
    Ok(None)
}

/// A stream that was cut in the middle: a dying connection has many codes.
fn broken(attempt: &str, status: Status) -> Failure {
    let cut = matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
    );
    let failure = Failure::call(attempt, status);
    if cut { failure.transient() } else { failure }
}
