//! What each group's name stands for in this store.
//!
//! Records are kept by a group's id, and an id that is not configured follows from
//! name and type. A group that is started under another type, or another id, would
//! come up empty beside its own data. So the store remembers the id and the type
//! that a name was last served with, and a group that would leave data behind is
//! refused: nobody is to look for lost objects that are all there.
//!
//! A name whose group never held anything is free. A store of an earlier version
//! has no such records; it gets them as its groups are served.
//!
//! Invariant: an id has one name, the one it was last served under.

use std::fmt;

use coppice_api::Group;
use coppice_crdt::CrdtType;
use coppice_replication::{DecodeError, Decoder, Encoder};
use uuid::Uuid;

use super::{Engine, EngineError, OpenError};
use crate::records::{GroupRecords, RecordError};
use crate::store::keys::{self, Slot};
use crate::store::{Batch, Durability, KeyRange, Limit, Store, StoreError, Table, end_of_prefix};

const VERSION: u8 = 1;

/// What a group's name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The group's id.
    pub id: [u8; 16],
    /// What its objects are.
    pub crdt_type: CrdtType,
}

/// The store holds a group of this name, and it is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherGroup {
    /// The name of both.
    pub name: String,
    /// What the store holds.
    pub stored: Named,
    /// What is configured.
    pub configured: Named,
    /// How many objects the stored one has.
    pub objects: u64,
}

// === impl Engine ===

impl<S: Store, T> Engine<S, T> {
    /// The slot of the group that `name` is configured as; a new one if the store
    /// has none of that id.
    ///
    /// # Errors
    ///
    /// [`OpenError::OtherGroup`] if the name stands for another group that holds
    /// something; nothing was changed.
    pub(super) fn claim(&mut self, name: &str, configured: Named) -> Result<Slot, OpenError> {
        let slot = self.slot_of(&configured.id)?;
        let stored = self.named(name)?;
        if let (Some(slot), true) = (slot, stored == Some(configured)) {
            return Ok(slot);
        }
        if let Some(stored) = stored
            && let Some(stored_slot) = self.slot_of(&stored.id)?
            && let Some(totals) =
                (GroupRecords { store: &self.store, slot: stored_slot }).totals()?
        {
            let (name, objects) = (name.to_owned(), totals.objects);
            return Err(OtherGroup { name, stored, configured, objects }.into());
        }
        let mut batch = Batch::new();
        let slot = if let Some(slot) = slot {
            slot
        } else {
            let slot = self.free_slot()?;
            batch.put(Table::Meta, &keys::group(&configured.id), &slot.to_be_bytes());
            slot
        };
        for (key, named) in self.meta(keys::NAMES)? {
            // The group had another name before.
            if Named::decode(&named).is_ok_and(|named| named.id == configured.id) {
                batch.delete(Table::Meta, &key);
            }
        }
        batch.put(Table::Meta, &keys::name(name), &configured.encode());
        self.store.commit(&batch, Durability::Sync)?;
        Ok(slot)
    }

    fn named(&self, name: &str) -> Result<Option<Named>, EngineError> {
        let found = self.store.get(Table::Meta, &keys::name(name))?;
        let damaged = |error| RecordError::Damaged { table: Table::Meta, error };
        Ok(found.map(|bytes| Named::decode(&bytes).map_err(damaged)).transpose()?)
    }

    fn slot_of(&self, id: &[u8; 16]) -> Result<Option<Slot>, StoreError> {
        let found = self.store.get(Table::Meta, &keys::group(id))?;
        Ok(found.and_then(|bytes| as_slot(&bytes)))
    }

    fn free_slot(&self) -> Result<Slot, StoreError> {
        let known = self.meta(keys::GROUPS)?;
        let slots = known.iter().filter_map(|(_, bytes)| as_slot(bytes));
        Ok(slots.max().map_or(0, |last| last + 1))
    }

    fn meta(&self, prefix: &[u8]) -> Result<Vec<crate::store::Item>, StoreError> {
        let end = end_of_prefix(prefix);
        let range = KeyRange { from: prefix, to: end.as_deref() };
        Ok(self.store.scan(Table::Meta, range, Limit::NONE)?.items)
    }
}

fn as_slot(bytes: &[u8]) -> Option<Slot> {
    bytes.try_into().map(Slot::from_be_bytes).ok()
}

// === impl Named ===

impl Named {
    /// Version, body and checksum, as other records.
    fn encode(self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.fixed128(u128::from_be_bytes(self.id));
        out.byte(self.crdt_type.byte());
        let mut bytes = vec![VERSION];
        out.finish_into(&mut bytes);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend(checksum.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(DecodeError::Truncated)?;
        if crc32c::crc32c(content) != u32::from_be_bytes(*checksum) {
            return Err(DecodeError::Checksum);
        }
        match content.split_first().ok_or(DecodeError::Truncated)? {
            (&VERSION, body) => {
                let mut body = Decoder::new(body)?;
                let id = body.array()?;
                let crdt_type = CrdtType::from_byte(body.byte()?);
                let crdt_type = crdt_type.ok_or(DecodeError::Malformed("a type"))?;
                body.end()?;
                Ok(Self { id, crdt_type })
            }
            (&version, _) => Err(DecodeError::UnsupportedVersion(version)),
        }
    }

    /// Whether the id is the one that a group has if none is configured.
    fn has_default_id(&self, name: &str) -> bool {
        Group::new(name, self.crdt_type).effective_id().as_bytes() == &self.id
    }
}

// === impl OtherGroup ===

impl OtherGroup {
    /// What to write to be served what the store holds.
    fn mend(&self) -> String {
        let Self { name, stored, configured, .. } = self;
        let mut fields = Vec::new();
        if stored.crdt_type != configured.crdt_type {
            fields.push(format!("set its `crdt.type` to {}", stored.crdt_type));
        }
        if !stored.has_default_id(name) {
            fields.push(format!("set its `id` to {}", Uuid::from_bytes(stored.id)));
        } else if !configured.has_default_id(name) {
            fields.push("leave its `id` out".to_owned());
        }
        fields.join(" and ")
    }
}

impl fmt::Display for OtherGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, stored, configured, objects } = self;
        let (stored_id, id) = (Uuid::from_bytes(stored.id), Uuid::from_bytes(configured.id));
        let (stored_type, crdt_type) = (stored.crdt_type, configured.crdt_type);
        write!(f, "group {name}: ")?;
        if stored_type == crdt_type {
            write!(f, "its `id` is {id}, but the data folder holds it as {stored_id}")?;
        } else {
            write!(
                f,
                "its `crdt.type` is {crdt_type}, but the data folder holds it as {}",
                stored_type.with_article()
            )?;
        }
        write!(
            f,
            " with {objects} object(s), and a group's type and id never change: {}, or give the new, \
             empty group another name; what the folder holds is as it was",
            self.mend()
        )
    }
}

#[cfg(test)]
mod tests;
