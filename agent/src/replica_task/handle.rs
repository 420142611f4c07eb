//! How the rest of the agent speaks with the writer thread.
//!
//! The writer owns every replica and is the only one that writes the store. A
//! handle is cheap to clone; its channel stays private. Each request gets a
//! ticket that resolves once the batch holding it is committed, and in any case:
//! if the writer stops first, the ticket says so.

use std::sync::Arc;
use std::time::Duration;

use coppice_crdt::{CrdtType, Header, Operation, Outcome, VersionVector};
use coppice_replication::ObjectKey;
use tokio::sync::{mpsc, oneshot, watch};

use super::SubmitError;

/// One operation, and the key of its object: checked, 1 to 512 bytes of UTF-8.
pub type KeyedOperation = (ObjectKey, Operation);

/// A condition on the object of a single write, checked atomically with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// `If-Match`: one of these etags (strings with quotes); empty: `*`, the object exists.
    Matches(Vec<String>),
    /// `If-None-Match`: none of these; empty: `*`, the object is absent.
    MatchesNone(Vec<String>),
}

/// A write: one operation, or a batch that is applied whole or not at all.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// In the order they are applied; later ones see earlier ones.
    pub operations: Vec<KeyedOperation>,
    /// On the first operation's object.
    pub precondition: Option<Precondition>,
    /// Whether a conditional write goes ahead while the replica is bootstrapping.
    pub allow_incomplete: bool,
}

impl WriteRequest {
    /// Whether it leaves nothing behind that was not there.
    #[must_use]
    pub fn only_removes(&self) -> bool {
        self.operations.iter().all(|(_, operation)| {
            matches!(
                operation,
                Operation::Remove { .. }
                    | Operation::RemoveField { .. }
                    | Operation::Clear
                    | Operation::Delete
            )
        })
    }
}

/// What one operation did.
#[derive(Clone, Debug)]
pub struct Written {
    /// The result by type.
    pub outcome: Outcome,
    /// The object's header after the whole batch; `None` if it is gone.
    pub header: Option<Header>,
}

/// The answer to a committed write.
#[derive(Clone, Debug)]
pub struct WriteAnswer {
    /// One per operation.
    pub results: Vec<Written>,
    /// Whether the replica was bootstrapping when it wrote.
    pub incomplete: bool,
}

/// A peer of a group, as this agent sees it.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    /// The replica's name, as it calls itself.
    pub name: String,
    /// The opening of its store, in hexadecimal.
    pub opening: String,
    /// Where it was reached, if this agent has a link to it.
    pub address: Option<String>,
    /// Whether a link to it is up.
    pub connected: bool,
    /// Whether it ever had a link here; else others tell of it.
    pub direct: bool,
    /// Whether another one has its name now: it lost its disk, most likely.
    pub former: bool,
    /// Writes that are here and that it has not reported to have.
    pub lag_deltas: u64,
    /// How long ago it was heard, in milliseconds; `None`: never.
    pub heard_ms_ago: Option<u64>,
    /// What it has seen, as far as it is known here.
    pub acknowledged: VersionVector,
}

/// What a group looks like from outside the writer; refreshed after commits and ticks.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// The group's name.
    pub name: Arc<str>,
    /// What its objects are.
    pub crdt_type: CrdtType,
    /// The group's id, 128 bits.
    pub id: [u8; 16],
    /// This replica's vector.
    pub vector: VersionVector,
    /// Whether the replica is still being filled by its peers.
    pub bootstrapping: bool,
    /// Whether the first exchange with a peer reached that peer's vector, or there is none to have.
    pub started: bool,
    /// Objects that exist here (an expired register counts until it is purged).
    pub objects: u64,
    /// Live entries over all objects.
    pub entries: u64,
    /// Bytes of the arrival log.
    pub log_bytes: u64,
    /// The other members.
    pub members: Vec<MemberStatus>,
}

/// What happened with one peer on `sync`.
#[derive(Clone, Debug)]
pub struct SyncResult {
    /// The peer's name.
    pub name: String,
    /// The opening of its store, in hexadecimal.
    pub opening: String,
    /// Where it was reached, if this agent has a link to it.
    pub address: Option<String>,
    /// How it ended.
    pub outcome: SyncOutcome,
    /// Writes sent to it meanwhile.
    pub sent: u64,
    /// Writes received from it meanwhile, known ones included.
    pub received: u64,
    /// Writes that were here when `sync` began and that it has not reported.
    pub lag_deltas: u64,
}

/// How `sync` ended with one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncOutcome {
    /// Both have what either had when it began.
    Exchanged,
    /// The wait was over before that; it goes on by itself.
    TimedOut,
    /// There is no link to it.
    Unreachable,
}

impl SyncOutcome {
    /// The word for it in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exchanged => "exchanged",
            Self::TimedOut => "timed-out",
            Self::Unreachable => "unreachable",
        }
    }
}

/// How the hand-over before the end went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandedOver {
    /// Of each group that has peers, one has everything on disk.
    Everything,
    /// Not of these, when the wait was over.
    Not(Vec<NotHandedOver>),
    /// The store had failed: nothing could be handed over.
    StoreFailed,
}

/// A group that no peer has everything of on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHandedOver {
    /// The group.
    pub group: Arc<str>,
    /// The linked peers, and how many writes each has not reported to have on disk.
    pub peers: Vec<(String, u64)>,
    /// Writes that no other member at all has reported to have on disk.
    pub only_here: u64,
}

pub(crate) type Ticket<T> = oneshot::Sender<T>;

/// A request to the writer, of one group.
#[derive(Debug)]
pub(crate) enum GroupRequest {
    Write(WriteRequest, Ticket<Result<WriteAnswer, SubmitError>>),
    Sync(Duration, Ticket<Result<Vec<SyncResult>, SubmitError>>),
}

/// One group of this agent.
#[derive(Clone, Debug)]
pub struct GroupHandle {
    pub(crate) index: u32,
    pub(crate) requests: mpsc::Sender<(u32, GroupRequest)>,
    pub(crate) status: watch::Receiver<Arc<GroupStatus>>,
}

impl GroupHandle {
    /// Commits a write and answers what it did.
    ///
    /// Dropping the future does not take the write back.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]; all but [`SubmitError::OutcomeUnknown`] mean that nothing was written.
    pub async fn write(&self, request: WriteRequest) -> Result<WriteAnswer, SubmitError> {
        let (ticket, answer) = oneshot::channel();
        match self.requests.try_send((self.index, GroupRequest::Write(request, ticket))) {
            Ok(()) => answer.await.unwrap_or(Err(SubmitError::OutcomeUnknown)),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(SubmitError::Overloaded { waiting: self.requests.max_capacity() })
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SubmitError::ShuttingDown),
        }
    }

    /// Exchanges with every connected peer now, in both directions; answers per
    /// member once it is over with each, or after `wait`.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]: nothing is known of the peers.
    pub async fn sync(&self, wait: Duration) -> Result<Vec<SyncResult>, SubmitError> {
        let (ticket, answer) = oneshot::channel();
        if self.requests.send((self.index, GroupRequest::Sync(wait, ticket))).await.is_err() {
            return Err(SubmitError::ShuttingDown);
        }
        answer.await.unwrap_or(Err(SubmitError::ShuttingDown))
    }

    /// Whether the replica is still being filled by its peers, as of the last tick.
    #[must_use]
    pub fn is_bootstrapping(&self) -> bool {
        self.status.borrow().bootstrapping
    }

    /// The group as of the last commit or tick.
    #[must_use]
    pub fn status(&self) -> Arc<GroupStatus> {
        self.status.borrow().clone()
    }
}
