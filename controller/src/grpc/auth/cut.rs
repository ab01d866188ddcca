//! Answers that end when their reader may read them no longer: a token that was revoked or is over, an operator
//! who was removed or has a lesser role now.

use std::future::pending;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::body::{Body as _, Bytes, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::gate::Doors;
use super::{Caller, allow};
use crate::operators::Shown;

/// An answer to an operator, which ends once they may have it no longer.
pub(super) fn guarded(
    body: Body,
    doors: Doors,
    path: String,
    shown: Shown,
    late: Option<Duration>,
) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::new(Guarded {
        body,
        denied: Box::pin(until_denied(doors, path, shown, late)),
        over: false,
    })
}

/// Ends with the reason once the call would be refused.
async fn until_denied(
    mut doors: Doors,
    path: String,
    shown: Shown,
    late: Option<Duration>,
) -> Status {
    loop {
        doors.operators.mark_unchanged();
        let who = doors.who(&shown);
        let may = who.and_then(|who| allow(&path, Caller::Operator(&who), late).map(|()| who));
        let until_ms = match may {
            Ok(operator) => operator.token_until_ms,
            Err(status) => return status,
        };
        let left = until_ms.map(|until| until.saturating_sub((doors.now_ms)()).saturating_add(1));
        tokio::select! {
            changed = doors.operators.changed() => if changed.is_err() {
                // Nobody can change them any more.
                pending::<()>().await;
            },
            () = over(left) => {}
        }
    }
}

async fn over(left_ms: Option<u64>) {
    match left_ms {
        Some(left_ms) => tokio::time::sleep(Duration::from_millis(left_ms)).await,
        None => pending().await,
    }
}

struct Guarded {
    body: Body,
    denied: BoxFuture<'static, Status>,
    over: bool,
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = self.denied.as_mut().poll(cx) {
            self.over = true;
            self.body = Body::empty();
            let mut trailers = http::HeaderMap::new();
            return Poll::Ready(Some(
                status
                    .add_header(&mut trailers)
                    .map(|()| Frame::trailers(trailers)),
            ));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
