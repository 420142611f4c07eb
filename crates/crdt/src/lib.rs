//! The algebra of Coppice: what each data type is and how its states join.
//!
//! State is kept by entry, never as a whole object; a mutation yields a delta;
//! deltas join with state and with each other, in any order, any number of times:
//!
//! ```text
//! a ⊔ b = b ⊔ a      a ⊔ (b ⊔ c) = (a ⊔ b) ⊔ c      a ⊔ a = a      a ≤ a ⊔ b
//! state ⊔ (delta ⊔ delta') = (state ⊔ delta) ⊔ delta'
//! ```
//!
//! An operation goes through [`apply`], which reads single entries and yields an
//! [`ObjectDelta`]; whoever keeps the state applies that entry by entry and keeps
//! the [`Header`] current. [`query`] reads.
//!
//! | type | state under its entries | concurrent operations |
//! |---|---|---|
//! | `GCounter`, `PNCounter` | per actor, cells with floors | all count |
//! | `GSet`, `ORSet` | per element, dots | add wins over remove |
//! | `EWFlag` | dots | enable wins over disable |
//! | `LWWRegister` | versions | readers get the greatest (stamp, actor) |
//! | `ORMap` | its fields' entries, by field and type | an update wins over a removal |
//!
//! This crate never learns about clocks, randomness, storage or networks.

mod actor;
mod counter_cells;
mod crdt_type;
mod delta;
mod dot;
mod element;
mod entries;
mod entry;
mod entry_key;
mod ew_flag;
mod g_counter;
mod g_set;
mod header;
mod hybrid_timestamp;
mod json;
mod lww_register;
pub mod mutant;
mod operation;
mod or_map;
mod or_set;
mod pn_counter;
pub mod query;
mod reach;
mod removal;
#[cfg(feature = "testing")]
pub mod testing;
mod version_vector;

pub use actor::ActorId;
pub use crdt_type::{CrdtType, UnknownCrdtType};
pub use delta::{EntryDelta, EntryRange, Floor, ObjectDelta, Raise, RangeRemoval};
pub use dot::Dot;
pub use element::{Element, ElementError};
pub use entries::Entries;
pub use entry::{Amounts, Cell, Entry, Version, picked};
pub use entry_key::{EntryKey, Field, MalformedEntryKey, Part};
pub use header::{EtagKey, FieldHeader, FieldTotals, Header, Summary, TypeSummary};
pub use hybrid_timestamp::{HybridClock, HybridTimestamp};
pub use json::{Json, JsonError};
pub use operation::{
    Applied, Operation, OperationContext, OperationError, Outcome, Refusal, RegisterWrite, apply,
    parse_ttl,
};
pub use reach::Reach;
pub use removal::{RemovalExtent, RemovalLimits, removal_extent, taking, with_existence};
pub use version_vector::VersionVector;
