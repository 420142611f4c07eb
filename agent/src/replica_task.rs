//! The writer: one thread that owns every replica and writes the store.
//!
//! [`start`] spawns it; [`WriterHandle`] controls it and gives [`GroupHandle`]s.
//! Its channels are private: requests of clients, events of links, and control.
//! Each is bounded, and a full one is an answer ("overloaded") or holds the
//! sender back.

mod error;
mod former;
mod handle;
mod metrics;
mod neighbours;
mod writer;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

pub use error::{GroupRefusal, ServeError, SubmitError};
#[cfg(test)]
pub(crate) use handle::GroupRequest;
pub use handle::{
    GroupHandle, GroupStatus, HandedOver, KeyedOperation, MemberStatus, NotHandedOver,
    Precondition, SyncOutcome, SyncResult, WriteAnswer, WriteRequest, Written,
};
pub use metrics::WriterMetrics;
pub use writer::GroupSpec;

use crate::clock::Clock;
use crate::disk_limit::DiskLimit;
use crate::engine::OpenError;
use crate::peer::LinkEvent;
use crate::store::Store;
use crate::store::keys::Slot;
use writer::{Control, Inputs, Writer, WriterParts};

/// Requests that may wait for the writer.
const WAITING_REQUESTS: usize = 8_192;

/// Link events that may wait for the writer; frames are bounded in bytes too.
const WAITING_EVENTS: usize = 1_024;

/// What a writer needs to start.
pub struct WriterStart<S> {
    /// The opened store, which the writer owns from now on.
    pub store: S,
    /// The replica's name.
    pub name: Arc<str>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where it counts.
    pub metrics: WriterMetrics,
    /// Whether the store is larger than local writes may make it.
    pub disk: Arc<DiskLimit>,
    /// Fresh random bits for each opening of the store.
    pub random: fn() -> [u8; 32],
}

impl<S> std::fmt::Debug for WriterStart<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterStart").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Controls the writer thread.
#[derive(Debug)]
pub struct WriterHandle {
    requests: mpsc::Sender<(Slot, handle::GroupRequest)>,
    control: mpsc::Sender<Control>,
    links: mpsc::Sender<LinkEvent>,
}

/// Starts the writer thread on an opened store.
///
/// # Errors
///
/// If the store's own record is damaged or cannot be written, or no thread can
/// be had.
pub fn start<S: Store>(start: WriterStart<S>) -> Result<WriterHandle, OpenError> {
    let (requests, requests_inbox) = mpsc::channel(WAITING_REQUESTS);
    let (links, links_inbox) = mpsc::channel(WAITING_EVENTS);
    let (control, control_inbox) = mpsc::channel(16);
    let WriterStart { store, name, clock, metrics, disk, random } = start;
    let parts = WriterParts { store, name, clock, metrics, disk, random };
    let inputs = Inputs { requests: requests_inbox, links: links_inbox, control: control_inbox };
    let writer = Writer::open(parts, inputs)?;
    let io = |source| {
        OpenError::Store(crate::store::StoreError::Io { attempt: "start the writer", source })
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(io)?;
    // A thread of its own: commits and fsyncs block, and must hold up no client.
    // It ends with its channels, which tell when it has ended.
    std::thread::Builder::new()
        .name("writer".to_owned())
        .spawn(move || runtime.block_on(writer.run()))
        .map_err(io)?;
    Ok(WriterHandle { requests, control, links })
}

impl WriterHandle {
    /// Where the transport delivers the events of links.
    #[must_use]
    pub fn links(&self) -> mpsc::Sender<LinkEvent> {
        self.links.clone()
    }

    /// Serves these groups with these settings and no others, or goes on as before.
    /// What was served and is no more keeps its data. The slots, in order.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; nothing was changed.
    pub async fn serve(
        &self,
        groups: Vec<GroupSpec>,
    ) -> Result<Vec<(Slot, GroupHandle)>, ServeError> {
        let (done, answer) = oneshot::channel();
        let gone = || ServeError::Store("the writer has stopped".to_owned());
        self.control.send(Control::Serve(groups, done)).await.map_err(|_| gone())?;
        let served = answer.await.map_err(|_| gone())??;
        let handle = |(index, status)| {
            (index, GroupHandle { index, requests: self.requests.clone(), status })
        };
        Ok(served.into_iter().map(handle).collect())
    }

    /// Waits until the thread ends: by itself, which is a failure, or after
    /// [`WriterHandle::stop`].
    pub async fn ended(&self) {
        self.control.closed().await;
    }

    /// Waits until a linked peer has everything on disk, 2 s at most, or for as long
    /// as the store takes to answer: the caller has a limit of its own. What was
    /// left is the answer.
    pub async fn hand_over(&self) -> HandedOver {
        let (done, handed_over) = oneshot::channel();
        if self.control.send(Control::HandOver(done)).await.is_err() {
            return HandedOver::StoreFailed;
        }
        handed_over.await.unwrap_or(HandedOver::StoreFailed)
    }

    /// Puts everything on disk, closes the store, and ends the thread. The disk
    /// may never answer: the caller has a limit.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.control.send(Control::Stop(done)).await.is_ok() {
            let _ = stopped.await;
        }
    }
}

#[cfg(test)]
mod tests;
