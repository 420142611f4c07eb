//! Why a write or a read was not answered.

use std::time::Duration;

use coppice_crdt::Refusal;

use crate::engine::{AddError, OpenError};

/// Why a local write was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// An operation was refused; none of its batch was applied.
    #[error("{refusal}")]
    Refused {
        /// Which operation of the batch, from 0.
        index: usize,
        /// Why.
        refusal: Refusal,
    },
    /// `If-Match` or `If-None-Match` did not hold. Nothing was written.
    #[error("the precondition did not hold: {}", is_now(.etag.as_deref()))]
    PreconditionFailed {
        /// The object's etag at that moment; `None` if it is absent.
        etag: Option<String>,
    },
    /// A limit of the group is reached. Nothing was written.
    #[error("the group is at its limit of {limit} {what}; remove some or raise `limits.{setting}`")]
    LimitReached {
        /// What is limited, in words.
        what: &'static str,
        /// The field of `limits`.
        setting: &'static str,
        /// Its value.
        limit: u64,
    },
    /// The unit would be larger than the protocol can carry. Nothing was written.
    #[error("the operations make a unit of {bytes} bytes, over the protocol's 16 MiB; split them")]
    UnitTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The replica is repairing itself, and a conditional write needs all of its state.
    #[error("this replica is still being filled by its peers; retry, or add ?stale=true")]
    Bootstrapping,
    /// Too many writes are waiting. Nothing was written.
    #[error("{waiting} writes are already waiting; retry after a moment")]
    Overloaded {
        /// How many.
        waiting: usize,
    },
    /// The store is as large as local writes may make it. Nothing was written.
    #[error(
        "the store is at its limit of {limit} bytes: remove data, which is still taken, or raise \
         `dataLimit` (in a cluster: the groups' `storage.size`, for new pods)"
    )]
    DataLimit {
        /// In bytes.
        limit: u64,
    },
    /// The disk is full. Nothing was written.
    #[error("the disk is full; free space or grow the volume: writing resumes by itself")]
    DiskFull,
    /// The store failed and is being opened again. Nothing was written.
    #[error("the store failed and is being opened again; retry after a moment")]
    WriterStopped,
    /// The agent is stopping. Nothing was written.
    #[error("this agent is stopping; write to another one")]
    ShuttingDown,
    /// The group is not served here any more. Nothing was written.
    #[error("the group is not served here any more")]
    GroupGone,
    /// The commit failed half-way or the writer stopped before it answered. The
    /// write may still appear.
    #[error("the commit failed; the write may or may not appear: read before writing again")]
    OutcomeUnknown,
}

impl SubmitError {
    /// When a repeat may succeed by itself, and after how long to try.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { .. } | Self::ShuttingDown | Self::Bootstrapping => {
                Some(Duration::from_secs(1))
            }
            Self::DiskFull
            | Self::DataLimit { .. }
            | Self::WriterStopped
            | Self::OutcomeUnknown => Some(Duration::from_secs(5)),
            Self::Refused { .. }
            | Self::PreconditionFailed { .. }
            | Self::LimitReached { .. }
            | Self::UnitTooLarge { .. }
            | Self::GroupGone => None,
        }
    }
}

/// Why groups are not served as asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Because of these; the others can be served without them.
    #[error("{}", .0.iter().map(|of| of.message.clone()).collect::<Vec<_>>().join("; "))]
    Groups(Vec<GroupRefusal>),
    /// Because of none of them. It may succeed later.
    #[error("{0}")]
    Store(String),
}

/// Why one group cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRefusal {
    /// Which of those that were to be served.
    pub index: usize,
    /// The field of it that is to be changed, where one is.
    pub field: Option<&'static str>,
    /// The id of what the store holds by its name, if that is why.
    pub held: Option<[u8; 16]>,
    /// In words for its owner, with its name.
    pub message: String,
}

impl From<AddError> for ServeError {
    fn from(error: AddError) -> Self {
        match error {
            AddError::Store(error) => Self::Store(error.with_mend()),
            AddError::Groups(refused) => {
                let refusal = |(index, error): (usize, OpenError)| GroupRefusal {
                    index,
                    field: error.field(),
                    held: error.held(),
                    message: error.with_mend(),
                };
                Self::Groups(refused.into_iter().map(refusal).collect())
            }
        }
    }
}

/// What is there in place of what was expected.
fn is_now(etag: Option<&str>) -> String {
    match etag {
        Some(etag) => format!("the object's etag is {etag}"),
        None => "the object does not exist".to_owned(),
    }
}
