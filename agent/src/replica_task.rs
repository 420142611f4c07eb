//! The writer: one thread that owns every replica and writes the store.

mod error;
mod handle;

pub use error::SubmitError;
pub use handle::{
    GroupHandle, GroupStatus, KeyedOperation, MemberStatus, Precondition, SyncResult, WriteAnswer,
    WriteRequest, Written,
};
