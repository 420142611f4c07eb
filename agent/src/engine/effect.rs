//! What leaves an engine once it is committed.

use coppice_replication::{CloseReason, LinkId, Position};

use crate::replica_task::{SubmitError, WriteAnswer};
use crate::store::keys::Slot;

/// One thing for the outside, in order.
#[derive(Debug)]
pub enum Effect<T> {
    /// Answer a request.
    Answer(T, Result<WriteAnswer, SubmitError>),
    /// Send a frame.
    Send(LinkId, Vec<u8>),
    /// Close a link.
    Close(LinkId, CloseReason),
    /// Read for a repair that is served; the engine does that itself.
    Read(ServingStep),
}

/// A step of serving a repair.
#[derive(Debug)]
pub struct ServingStep {
    pub(super) slot: Slot,
    pub(super) link: LinkId,
    pub(super) what: Serve,
}

#[derive(Debug)]
pub(super) enum Serve {
    Open,
    Part { range: u8, from: Option<Position> },
    Drop,
}
