//! Who a replica is.

use std::sync::Arc;

use coppice_crdt::{ActorId, CrdtType, EtagKey};

/// Who a replica is, for as long as its store stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The group's id.
    pub group_id: [u8; 16],
    /// What the group's objects are.
    pub crdt_type: CrdtType,
    /// The store, drawn at random when it was made. A copy has the same.
    pub store: [u8; 16],
    /// This opening of the store, drawn at random when it was opened: the actor
    /// of all that is written until it is closed.
    pub opening: ActorId,
    /// How often the store had been opened, this time included.
    pub opening_number: u64,
    /// The replica's name, for people.
    pub name: Arc<str>,
}

impl Identity {
    /// The key of the group's etags and ranges.
    #[must_use]
    pub const fn etag_key(&self) -> EtagKey {
        EtagKey::new(self.group_id)
    }
}
