//! Standard input that is read slowly, and the size of terminals.

use longshore_proto::spec::v1::TerminalSize;

use super::runs::{order, until_none};
use super::*;
use crate::runtime::ErrorKind;
use crate::runtime::terminal::{Size, Terminal};

/// More than an agent keeps.
const PIECES: usize = 200;
const PIECE: &[u8] = &[7; 1_024];

#[tokio::test]
async fn input_is_granted_as_the_command_reads_it() {
    let (agent, mut peer, _dir, _cluster) = rig(FakeRuntime::with_images(&["hello:1"])).await;
    let (mut room, mut sent, mut echoed) = (super::super::streams::STDIN_PIECES as usize, 0, 0);
    peer.run(1, order("ab", "hello:1", true)).await;
    let all = b"ready\n".len() + PIECES * PIECE.len();
    // Nobody grants what would be read once it is written: output goes on meanwhile.
    while echoed < all {
        while room > 0 && sent < PIECES {
            peer.types(1, PIECE).await;
            (room, sent) = (room - 1, sent + 1);
        }
        let next = peer.until("an echo or a grant", |message| match message {
            FromAgent::StreamData(data) => Some((data.data.len(), 0)),
            FromAgent::StreamCredit(credit) if credit.stream_id == 1 => {
                Some((0, credit.pieces as usize))
            }
            FromAgent::StreamEnd(end) => panic!("{end:?}"),
            _ => None,
        });
        let (bytes, pieces) = next.await;
        (echoed, room) = (echoed + bytes, room + pieces);
    }
    assert_eq!((sent, echoed), (PIECES, all));
    peer.types(1, b"").await;
    until_none(&agent).await;
}

fn size(rows: u32, columns: u32) -> Option<TerminalSize> {
    Some(TerminalSize { rows, columns })
}

#[tokio::test]
async fn a_terminal_has_the_size_that_it_is_seen_in() {
    let (agent, mut peer, _dir, _cluster) = rig(FakeRuntime::with_images(&["hello:1"])).await;
    // As one that has not started yet.
    agent
        .runtime
        .state()
        .resize_errors
        .push_back(ErrorKind::Refused);
    let mut terminal = order("ab", "hello:1", true);
    (terminal.tty, terminal.size) = (true, size(40, 100));
    peer.run(1, terminal).await;
    let mut plain = order("cd", "hello:1", true);
    plain.size = size(9, 9);
    peer.run(2, plain).await;
    let until = async |count: usize| {
        let seen = async {
            while agent.runtime.state().resizes.len() < count {
                tokio::task::yield_now().await;
            }
        };
        let waited = timeout(SOON, seen).await;
        assert!(waited.is_ok(), "{:?}", agent.runtime.state().resizes);
    };
    until(1).await;
    for (stream_id, size) in [
        (2, size(8, 8)),
        (1, size(0, 100)),
        (1, size(70_000, 100)),
        (1, None),
        (1, size(50, 120)),
    ] {
        let resize = pb::StreamResize { stream_id, size };
        peer.send(ToAgent::StreamResize(resize)).await;
    }
    until(2).await;
    let of = |rows, columns| Size { rows, columns };
    let resizes = agent.runtime.state().resizes.clone();
    let sizes: Vec<Size> = resizes.iter().map(|(_, size)| *size).collect();
    assert_eq!(sizes, [of(40, 100), of(50, 120)]);
    assert!(matches!(&resizes[0].0, Terminal::Container(_)));
    peer.types(1, b"").await;
    peer.types(2, b"").await;
    peer.until("an end", |message| match message {
        FromAgent::StreamEnd(end) => Some(end),
        _ => None,
    })
    .await;
}
