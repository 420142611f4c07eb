//! What waits to be sent on one link: a queue bounded in bytes, filled by the
//! replica task, emptied by the stream's body as fast as the peer reads.
//!
//! Nobody waits here for a slow peer: a frame that does not fit is refused,
//! and a `Room` event tells when it would fit. So the core builds frames at
//! the peer's speed, and a slow peer costs at most one queue.
//!
//! Invariant: `bytes` is the length, prefixes included, of what `frames` still
//! has to send. `push` and `fill` keep it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::Notify;

use super::{CloseReason, MAX_FRAME_BYTES};

/// The length prefix: u32, big-endian, of what follows it.
pub(super) const PREFIX_BYTES: usize = 4;

/// Sends frames to one peer and closes its link; the replica task holds it.
///
/// Dropping it closes the link with [`CloseReason::Shutdown`].
pub struct Outbound {
    queue: Arc<Queue>,
}

/// Why a frame was not taken. The frame was dropped; nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The queue has no room for it now. A `Room` event follows when it has.
    #[error("the peer reads more slowly than this link is written to")]
    Full,
    /// The link is closing or gone; its `Down` follows, or has come.
    #[error("the link is closed")]
    Closed,
    /// No frame may be empty or longer than [`MAX_FRAME_BYTES`]: a bug of the
    /// caller, which no later attempt mends.
    #[error("a frame of {0} bytes can not be sent")]
    Length(usize),
}

/// The queue behind an [`Outbound`], shared with the link's task and body.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Wakes the link's task, the only one that waits for it.
    changed: Notify,
    capacity_bytes: usize,
}

struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// How much of the first frame, with its prefix, was handed out.
    head_sent: usize,
    /// The length that the owner waits to have room for.
    wanted: Option<usize>,
    phase: Phase,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Frames are taken.
    Open,
    /// What is queued is sent, then the stream ends with this reason.
    Closing(CloseReason),
    /// The reason was handed to the stream: only its end is left.
    Said(CloseReason),
    /// Nothing is sent any more, whether or not all was: with the reason for
    /// which it was closed before, if it was.
    Ended(Option<CloseReason>),
}

/// What the link's task must act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// The length that was asked for fits.
    Room,
    /// The owner closed the link.
    Closed(CloseReason),
    /// The stream's sending half broke: nothing can be sent any more.
    Lost,
}

/// What the stream's body does next.
pub(super) enum Chunk {
    /// Sends these bytes.
    Data(Bytes),
    /// Says why the stream ends.
    Farewell(CloseReason),
    /// Ends the stream in order.
    End,
    /// Resets the stream.
    Abort,
    /// Waits: the waker was kept.
    Wait,
}

// === impl Outbound ===

impl Outbound {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    /// An outbound without a link, and a way to take out what was sent: for
    /// tests of the replica task. The taker returns whole frames, oldest first.
    pub fn detached(capacity_bytes: usize) -> (Self, impl FnMut() -> Option<Bytes> + Send) {
        let queue = Queue::new(capacity_bytes);
        let taker = Arc::clone(&queue);
        (Self::new(queue), move || taker.take_frame())
    }

    /// Queues one frame, without its length prefix; never waits.
    ///
    /// A frame longer than the queue's capacity is taken when the queue is
    /// empty, so every legal frame can be sent at some time.
    ///
    /// # Errors
    ///
    /// [`SendError`] says whether to wait for `Room`, for `Down`, or not to
    /// try again; in each case the frame was not queued.
    pub fn try_send(&self, frame: Bytes) -> Result<(), SendError> {
        self.queue.push(frame)
    }

    /// How long a frame may be to be taken now; 0 when the link is closed.
    pub fn free_bytes(&self) -> usize {
        self.queue.free_bytes()
    }

    /// How many bytes, prefixes included, wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// Asks for one `Room` event when a frame of `length` bytes will be taken
    /// and half of the queue is free; at once, if that is so now. A later call,
    /// or a `Full`, replaces an earlier one.
    pub fn request_room(&self, length: usize) {
        let mut state = self.queue.lock();
        state.wanted = Some(length);
        self.queue.announce_room(&state);
    }

    /// Ends the link for `reason`: what is queued is sent first, within the
    /// transport's closing deadline. `Down` follows with the first reason given.
    pub fn close(&self, reason: CloseReason) {
        self.queue.close(reason);
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.queue.close(CloseReason::Shutdown);
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("queued_bytes", &self.queued_bytes())
            .finish_non_exhaustive()
    }
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(capacity_bytes: usize) -> Arc<Self> {
        let state = State {
            frames: VecDeque::new(),
            bytes: 0,
            head_sent: 0,
            wanted: None,
            phase: Phase::Open,
            waker: None,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), capacity_bytes })
    }

    fn push(&self, frame: Bytes) -> Result<(), SendError> {
        if frame.is_empty() || frame.len() > MAX_FRAME_BYTES {
            return Err(SendError::Length(frame.len()));
        }
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        if frame.len() > self.free_in(&state) {
            state.wanted = Some(frame.len());
            return Err(SendError::Full);
        }
        state.bytes += PREFIX_BYTES + frame.len();
        state.frames.push_back(frame);
        wake(state);
        Ok(())
    }

    fn free_bytes(&self) -> usize {
        let state = self.lock();
        if state.phase == Phase::Open { self.free_in(&state) } else { 0 }
    }

    fn free_in(&self, state: &State) -> usize {
        if state.bytes == 0 {
            return MAX_FRAME_BYTES;
        }
        self.capacity_bytes.saturating_sub(state.bytes + PREFIX_BYTES)
    }

    /// Tells the link's task if the wanted length fits; half of the queue must
    /// be free too, so that small frames do not cost an event each.
    fn announce_room(&self, state: &State) {
        if self.has_wanted_room(state) {
            self.changed.notify_one();
        }
    }

    fn has_wanted_room(&self, state: &State) -> bool {
        let Some(length) = state.wanted else { return false };
        let is_half_free = state.bytes <= self.capacity_bytes / 2;
        is_half_free && length <= self.free_in(state)
    }

    /// Ends the queue; the first reason given stays.
    pub(super) fn close(&self, reason: CloseReason) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing(reason);
            self.changed.notify_one();
            wake(state);
        }
    }

    /// Takes the queue out of use, and what is left in it: the stream is reset
    /// if it has not ended yet.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.phase = Phase::Ended(state.phase.reason());
        state.frames.clear();
        state.bytes = 0;
        state.head_sent = 0;
        self.changed.notify_one();
        wake(state);
    }

    /// Waits until there is something for the link's task to do. Only `Room`
    /// is told once; the others stay true.
    ///
    /// Cancel-safe: what happened before a cancelled call is found by the next.
    pub(super) async fn signal(&self) -> Signal {
        loop {
            if let Some(signal) = self.pending_signal() {
                return signal;
            }
            self.changed.notified().await;
        }
    }

    fn pending_signal(&self) -> Option<Signal> {
        let mut state = self.lock();
        match state.phase {
            Phase::Open if self.has_wanted_room(&state) => {
                state.wanted = None;
                Some(Signal::Room)
            }
            Phase::Open => None,
            Phase::Ended(None) => Some(Signal::Lost),
            Phase::Closing(reason) | Phase::Said(reason) | Phase::Ended(Some(reason)) => {
                Some(Signal::Closed(reason))
            }
        }
    }

    /// Waits until the owner closes the link. Cancel-safe, as `signal` is.
    pub(super) async fn closed(&self) -> CloseReason {
        loop {
            if let Some(reason) = self.lock().phase.reason() {
                return reason;
            }
            self.changed.notified().await;
        }
    }

    /// Waits until all is sent or given up. Cancel-safe, as `signal` is.
    pub(super) async fn ended(&self) {
        while !matches!(self.lock().phase, Phase::Ended(_)) {
            self.changed.notified().await;
        }
    }

    /// Takes up to `limit` bytes to send; keeps `waker` if there are none.
    pub(super) fn next_chunk(&self, limit: usize, waker: &Waker) -> Chunk {
        let mut state = self.lock();
        if state.bytes > 0 {
            let data = state.fill(limit);
            self.announce_room(&state);
            return Chunk::Data(data);
        }
        match state.phase {
            Phase::Open => {
                state.waker = Some(waker.clone());
                Chunk::Wait
            }
            Phase::Closing(reason) => {
                state.phase = Phase::Said(reason);
                Chunk::Farewell(reason)
            }
            Phase::Said(_) => Chunk::End,
            Phase::Ended(_) => Chunk::Abort,
        }
    }

    fn take_frame(&self) -> Option<Bytes> {
        let mut state = self.lock();
        let frame = state.frames.pop_front()?;
        state.bytes -= PREFIX_BYTES + frame.len();
        Some(frame)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No holder can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the body after the lock is released, so that it does not wait for it.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

// === impl State ===

impl State {
    /// Copies the next `limit` bytes at most into one chunk: small frames share
    /// it, a long one is cut over many. Copying costs less than a write each.
    fn fill(&mut self, limit: usize) -> Bytes {
        let mut chunk = BytesMut::with_capacity(limit.min(self.bytes));
        while chunk.len() < limit
            && let Some(frame) = self.frames.front()
        {
            let room = limit - chunk.len();
            if self.head_sent < PREFIX_BYTES {
                let prefix = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
                let rest = &prefix[self.head_sent..];
                let taken = rest.len().min(room);
                chunk.put_slice(&rest[..taken]);
                self.head_sent += taken;
                continue;
            }
            let rest = &frame[self.head_sent - PREFIX_BYTES..];
            let taken = rest.len().min(room);
            chunk.put_slice(&rest[..taken]);
            self.head_sent += taken;
            if taken == rest.len() {
                self.head_sent = 0;
                self.frames.pop_front();
            }
        }
        self.bytes -= chunk.len();
        chunk.freeze()
    }
}

// === impl Phase ===

impl Phase {
    fn reason(self) -> Option<CloseReason> {
        match self {
            Self::Open => None,
            Self::Closing(reason) | Self::Said(reason) => Some(reason),
            Self::Ended(reason) => reason,
        }
    }
}

#[cfg(test)]
mod tests;
