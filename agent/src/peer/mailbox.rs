//! How links reach the replica task: one bounded mailbox for events, and a
//! budget in bytes for the frames in it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{LinkEvent, LinkId, MAX_FRAME_BYTES};

/// A received frame's place in the agent's budget for received frames.
///
/// Links stop reading while the budget is used up, so a frame that waits long,
/// for the frame before it say, must not wait with its permit.
#[derive(Debug)]
pub struct FramePermit {
    _bytes: Option<OwnedSemaphorePermit>,
}

/// The sending side, shared by all links.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    events: mpsc::Sender<LinkEvent>,
    budget: Arc<Semaphore>,
}

/// The replica task is gone: nobody reads events any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MailboxClosed;

// === impl FramePermit ===

impl FramePermit {
    /// A permit that counts for nothing: for tests, and frames not received.
    pub fn unmetered() -> Self {
        Self { _bytes: None }
    }
}

// === impl Mailbox ===

impl Mailbox {
    /// `inbound_bytes` is raised to one whole frame where it is less.
    pub(super) fn new(events: mpsc::Sender<LinkEvent>, inbound_bytes: usize) -> Self {
        let budget = Arc::new(Semaphore::new(inbound_bytes.max(MAX_FRAME_BYTES)));
        Self { events, budget }
    }

    /// Waits for room and delivers. Cancelled while it waits, it has delivered
    /// nothing.
    pub(super) async fn send(&self, event: LinkEvent) -> Result<(), MailboxClosed> {
        self.events.send(event).await.map_err(|_| MailboxClosed)
    }

    /// Waits for a place in the budget and in the mailbox, and delivers.
    /// Cancelled while it waits, it has delivered nothing.
    pub(super) async fn send_frame(&self, link: LinkId, frame: Bytes) -> Result<(), MailboxClosed> {
        // A frame is at most MAX_FRAME_BYTES, which is far below u32::MAX.
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.budget).acquire_many_owned(bytes).await;
        let permit = FramePermit { _bytes: Some(permit.map_err(|_| MailboxClosed)?) };
        self.send(LinkEvent::Frame { link, frame, permit }).await
    }
}
