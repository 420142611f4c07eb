//! A body in pieces, read back as frames; and the bodies that are refused.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;

use super::*;

/// Yields its pieces, then ends, or stays open for ever.
struct Pieces {
    pieces: VecDeque<Bytes>,
    ends: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

fn reader(bytes: &[u8], piece: usize, ends: bool) -> FrameReader<Pieces> {
    let pieces = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
    let received = IntCounter::new("received", "bytes").unwrap();
    FrameReader::new(Pieces { pieces, ends }, Arc::new(Semaphore::new(LARGE_FRAMES)), received)
}

fn framed(frames: &[&[u8]]) -> Vec<u8> {
    let length = |frame: &[u8]| u32::try_from(frame.len()).unwrap().to_be_bytes();
    frames.iter().flat_map(|frame| [length(frame).to_vec(), frame.to_vec()].concat()).collect()
}

#[tokio::test]
async fn frames_come_back_however_the_body_is_cut() {
    let long = vec![7; 100_000];
    let bytes = framed(&[b"a", &long, b"bcd"]);
    for piece in [1, 2, 3, 5, 1000, bytes.len()] {
        let mut reader = reader(&bytes, piece, true);
        for expected in [b"a".as_slice(), &long, b"bcd"] {
            let Read::Frame { frame, .. } = reader.next().await.unwrap() else {
                panic!("the body holds three frames")
            };
            assert_eq!(frame, expected, "cut into pieces of {piece}");
        }
        assert!(matches!(reader.next().await, Ok(Read::End { farewell: None })));
    }
}

#[tokio::test]
async fn a_length_above_the_limit_is_refused_before_anything_is_allocated() {
    let mut reader = reader(&u32::MAX.to_be_bytes(), 4, false);
    assert!(matches!(reader.next().await, Err(ReadError::Oversized(u32::MAX))));
    assert!(reader.partial.is_none(), "no buffer was made");
}

#[tokio::test]
async fn the_longest_frame_takes_memory_only_as_it_arrives() {
    let length = u32::try_from(MAX_FRAME_BYTES).unwrap().to_be_bytes();
    let mut reader = reader(&length, 4, false);
    let waits = tokio::time::timeout(Duration::ZERO, reader.next()).await;
    assert!(waits.is_err(), "the frame is not refused");
    let partial = reader.partial.as_ref().unwrap();
    assert!(partial.buffer.capacity() <= 2 * FIRST_ALLOCATION_BYTES);
    assert!(partial.large.is_some(), "it takes a place for large frames");
}

#[tokio::test]
async fn an_empty_frame_and_a_cut_one_are_malformed() {
    let refused = [framed(&[b""]), b"\0\0".to_vec(), b"\0\0\0\x05abc".to_vec()];
    for bytes in refused {
        let error = reader(&bytes, 3, true).next().await.unwrap_err();
        assert_eq!(error.reason(), CloseReason::MalformedFrame, "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_never_finished_times_out() {
    let error = reader(b"\0\0\0\x05abc", 7, false).next().await.unwrap_err();
    assert_eq!(error.reason(), CloseReason::Timeout);
}
