//! How links reach the replica task: one bounded mailbox, and a budget in
//! bytes for the frames in it.

use tokio::sync::OwnedSemaphorePermit;

/// A received frame's place in the agent's budget for received frames.
///
/// Links stop reading while the budget is used up, so a frame that waits long,
/// for the frame before it say, must not wait with its permit.
#[derive(Debug)]
pub struct FramePermit {
    _bytes: Option<OwnedSemaphorePermit>,
}

impl FramePermit {
    /// A permit that counts for nothing: for tests, and frames not received.
    pub fn unmetered() -> Self {
        Self { _bytes: None }
    }
}
