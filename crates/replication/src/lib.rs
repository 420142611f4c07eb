//! The replication protocol of Coppice: inputs in, effects out.
//!
//! This crate never learns about clocks, randomness, storage or networks: its
//! owner passes time in, loads what is missing, writes what is sealed, and sends
//! what is put out. `docs/protocol.md` describes frames and records byte by byte
//! and the rules they follow.

mod arrival_log;
mod codec;
mod effect;
mod membership;
mod message;
mod peer_progress;
mod record;
mod replica;
mod state_codec;
mod unit;
mod working_set;

pub use arrival_log::{ArrivalLog, Checkpoint};
pub use codec::{DecodeError, Decoder, Encoder};
pub use effect::{CloseReason, LinkId, Output};
pub use membership::{Member, Membership};
pub use message::{
    Ack, Base, Delta, Exchange, Hello, ListedEntries, MAX_FRAME_BYTES, MemberReport, Message,
    OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, RepairPart, RepairRequest, Want,
};
pub use peer_progress::{FRAME_BYTES, PeerProgress, RelayRule, Serving};
pub use record::{
    DeadCell, FieldRecord, HeadRecord, Intervals, LogItem, LogRecord, MAX_INTERVALS, ObjectId,
    ObjectRecord, Position, RANGES, RecordKey, RecordWrite, RepairRecord, Totals, decode_entry,
    encode_entry,
};
pub use replica::{
    Contexts, Counters, Identity, LinkStatus, LocalListing, MemberView, Now, Recovered,
    RecoveryError, Replica, ReplicaSettings, Submission, SubmitRefusal, Traffic, WriteLimits,
};
pub use unit::{Cover, DamagedUnit, MAX_KEY_BYTES, MAX_UNIT_BYTES, ObjectKey, Unit, name_fits};
pub use working_set::{
    EntryPage, INLINE_BYTES, Missing, ObjectView, Read, RemovalPace, Savepoint, WorkingSet,
    range_of,
};
