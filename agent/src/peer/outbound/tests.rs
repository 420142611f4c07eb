//! Bounds, room, chunks and ends of the queue, without a socket.

use std::time::Duration;

use tokio::time::timeout;

use super::*;

fn chunk(queue: &Queue, limit: usize) -> Option<Bytes> {
    match queue.next_chunk(limit, Waker::noop()) {
        Chunk::Data(data) => Some(data),
        _ => None,
    }
}

async fn signal_now(queue: &Queue) -> Option<Signal> {
    timeout(Duration::ZERO, queue.signal()).await.ok()
}

#[test]
fn small_frames_share_a_chunk_and_long_ones_are_cut() {
    let queue = Queue::new(1000);
    queue.push("ab".into()).unwrap();
    queue.push("cdefgh".into()).unwrap();
    let chunks: Vec<_> = std::iter::from_fn(|| chunk(&queue, 9)).collect();
    assert_eq!(chunks, [&b"\0\0\0\x02ab\0\0\0"[..], &b"\x06cdefgh"[..]]);
    assert_eq!(queue.lock().bytes, 0);
}

#[tokio::test]
async fn a_refused_length_is_announced_once_it_fits() {
    let queue = Queue::new(100);
    queue.push(vec![1; 60].into()).unwrap();
    assert_eq!(queue.push(vec![2; 60].into()), Err(SendError::Full));
    assert_eq!(signal_now(&queue).await, None, "nothing was sent yet");

    chunk(&queue, 40).unwrap();
    assert_eq!(signal_now(&queue).await, Some(Signal::Room));
    assert_eq!(signal_now(&queue).await, None, "room is told once");
    queue.push(vec![2; 60].into()).unwrap();
}

#[tokio::test]
async fn asking_for_room_that_is_there_is_answered_at_once() {
    let (outbound, _take) = Outbound::detached(100);
    outbound.request_room(50);
    assert_eq!(signal_now(&outbound.queue).await, Some(Signal::Room));
}

#[test]
fn an_empty_queue_takes_a_frame_above_its_capacity() {
    let (outbound, mut take) = Outbound::detached(100);
    assert_eq!(outbound.free_bytes(), MAX_FRAME_BYTES);
    outbound.try_send(vec![1; 5000].into()).unwrap();
    assert_eq!(outbound.free_bytes(), 0);
    assert_eq!(outbound.try_send("x".into()), Err(SendError::Full));
    assert_eq!(take().map(|frame| frame.len()), Some(5000));
}

#[tokio::test]
async fn the_first_reason_stays_and_what_is_queued_goes_first() {
    let queue = Queue::new(100);
    let outbound = Outbound::new(Arc::clone(&queue));
    outbound.try_send("x".into()).unwrap();
    outbound.close(CloseReason::GroupMismatch);
    drop(outbound);

    assert_eq!(signal_now(&queue).await, Some(Signal::Closed(CloseReason::GroupMismatch)));
    assert!(chunk(&queue, 100).is_some(), "queued before the close");
    let farewell = queue.next_chunk(100, Waker::noop());
    assert!(matches!(farewell, Chunk::Farewell(CloseReason::GroupMismatch)));
    assert!(matches!(queue.next_chunk(100, Waker::noop()), Chunk::End));
}

#[tokio::test]
async fn a_dropped_outbound_closes_and_a_lost_stream_is_told() {
    let queue = Queue::new(100);
    drop(Outbound::new(Arc::clone(&queue)));
    assert_eq!(signal_now(&queue).await, Some(Signal::Closed(CloseReason::Shutdown)));

    let queue = Queue::new(100);
    queue.end();
    assert_eq!(signal_now(&queue).await, Some(Signal::Lost));
    assert_eq!(queue.push("x".into()), Err(SendError::Closed));
}
