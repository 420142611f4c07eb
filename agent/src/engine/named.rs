//! What each group's name stands for in this store.
//!
//! Records are kept by a group's id, and an id that is not configured follows from
//! name and type. A group that is started under another type, or another id, would
//! come up empty beside its own data. So the store remembers the id and the type
//! that a name was last served with, and a group that would leave data behind is
//! refused: nobody is to look for lost objects that are all there.
//!
//! A name whose group never held anything is free, and so is one whose group is
//! served under another name. All groups are therefore judged together, and what is
//! decided is written at once or not at all. A store of an earlier version has no such
//! records; it gets them as its groups are served.
//!
//! Invariant: an id has one name, the one it was last served under.

use std::collections::BTreeMap;
use std::fmt;

use coppice_api::Group;
use coppice_crdt::CrdtType;
use coppice_replication::{DecodeError, Decoder, Encoder};
use uuid::Uuid;

use super::{Engine, EngineError, OpenError};
use crate::records::{GroupRecords, RecordError};
use crate::store::keys::{self, Slot};
use crate::store::{Batch, KeyRange, Limit, Store, StoreError, Table, end_of_prefix};

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

/// A group that the store holds and that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// The name it was last served under, if that is known.
    pub name: Option<String>,
    /// Its id.
    pub id: [u8; 16],
    /// How many objects it has.
    pub objects: u64,
}

// === impl Engine ===

/// What serving some groups takes, before any of it is done.
pub(super) struct Claims {
    /// Where each group's records are, or will be.
    pub(super) slots: Vec<Slot>,
    /// What is to be written: new slots, and what names stand for now.
    pub(super) batch: Batch,
}

/// The store's records of names.
type Names = BTreeMap<Vec<u8>, Result<Named, DecodeError>>;

impl<S: Store, T> Engine<S, T> {
    /// Judges groups that are to be served, by what the store holds under their
    /// names and ids. All of them are looked at together, so that names may be
    /// exchanged. Writes nothing.
    ///
    /// # Errors
    ///
    /// If the store fails or the record of a name is damaged. Refusals are no
    /// error: by index, the groups that would leave data behind.
    pub(super) fn judge(
        &self,
        groups: &[(&str, Named)],
    ) -> Result<Result<Claims, Vec<(usize, OtherGroup)>>, OpenError> {
        let names = self.names()?;
        let mut refused = Vec::new();
        for (index, &(name, configured)) in groups.iter().enumerate() {
            if let Some((stored, objects)) = self.left_behind((name, configured), groups, &names)? {
                let name = name.to_owned();
                refused.push((index, OtherGroup { name, stored, configured, objects }));
            }
        }
        if !refused.is_empty() {
            return Ok(Err(refused));
        }
        let (mut slots, mut batch) = (Vec::new(), Batch::new());
        for (key, named) in &names {
            // The group had another name before.
            let had = |(name, of): &(&str, Named)| {
                *key != keys::name(name) && named.as_ref().is_ok_and(|named| named.id == of.id)
            };
            if groups.iter().any(had) {
                batch.delete(Table::Meta, key);
            }
        }
        let mut free = self.free_slot()?;
        for (name, configured) in groups {
            slots.push(if let Some(slot) = self.slot_of(&configured.id)? {
                slot
            } else {
                batch.put(Table::Meta, &keys::group(&configured.id), &free.to_be_bytes());
                free += 1;
                free - 1
            });
            let key = keys::name(name);
            if names.get(&key) != Some(&Ok(*configured)) {
                batch.put(Table::Meta, &key, &configured.encode());
            }
        }
        Ok(Ok(Claims { slots, batch }))
    }

    /// The group whose data nobody would be served any more if `name` stood for
    /// `configured`, and how many objects it has.
    fn left_behind(
        &self,
        (name, configured): (&str, Named),
        groups: &[(&str, Named)],
        names: &Names,
    ) -> Result<Option<(Named, u64)>, OpenError> {
        if let Some((Some(crdt_type), objects)) = self.held(&configured.id, names)?
            && crdt_type != configured.crdt_type
        {
            return Ok(Some((Named { crdt_type, ..configured }, objects)));
        }
        let stays = |id: &[u8; 16]| groups.iter().any(|(_, group)| group.id == *id);
        let candidates = if let Some(stored) = names.get(&keys::name(name)) {
            let damaged = |error| RecordError::Damaged { table: Table::Meta, error };
            vec![stored.map_err(damaged)?]
        } else {
            // The ids that the name may have been served with, where no other name is
            // known to have them.
            let is_named = |id| names.values().flatten().any(|named| named.id == id);
            let possible = CrdtType::ALL.into_iter().map(|of| Named::by_default(name, of));
            possible.filter(|named| !is_named(named.id)).collect()
        };
        for stored in candidates.into_iter().filter(|stored| !stays(&stored.id)) {
            if let Some((_, objects)) = self.held(&stored.id, names)? {
                return Ok(Some((stored, objects)));
            }
        }
        Ok(None)
    }

    /// What a group's objects are, as far as that is known, and how many there are;
    /// `None` if it never held anything.
    fn held(
        &self,
        id: &[u8; 16],
        names: &Names,
    ) -> Result<Option<(Option<CrdtType>, u64)>, EngineError> {
        let Some(slot) = self.slot_of(id)? else { return Ok(None) };
        let records = GroupRecords { store: &self.store, slot };
        let Some(totals) = records.totals()? else { return Ok(None) };
        // A young group may have no head yet.
        let named = names.values().flatten().find(|named| named.id == *id);
        let head = records.head()?.map(|head| head.crdt_type);
        Ok(Some((head.or(named.map(|named| named.crdt_type)), totals.objects)))
    }

    /// The groups with objects that the store holds and that are not served.
    ///
    /// # Errors
    ///
    /// If the store fails or a record is damaged.
    pub fn unserved(&self) -> Result<Vec<Unserved>, EngineError> {
        let names = self.names()?;
        let mut unserved = Vec::new();
        for (key, bytes) in self.meta(keys::GROUPS)? {
            let Some(id) = keys::group_id(&key).filter(|id| *id != keys::RESTORING) else {
                continue;
            };
            if as_slot(&bytes).is_none_or(|slot| self.groups.contains_key(&slot)) {
                continue;
            }
            let Some((_, objects)) = self.held(&id, &names)?.filter(|(_, objects)| *objects > 0)
            else {
                continue;
            };
            let name =
                names.iter().find(|(_, named)| named.as_ref().is_ok_and(|named| named.id == id));
            let name = name.and_then(|(key, _)| key.strip_prefix(keys::NAMES));
            let name = name.map(|name| String::from_utf8_lossy(name).into_owned());
            unserved.push(Unserved { name, id, objects });
        }
        Ok(unserved)
    }

    fn names(&self) -> Result<Names, StoreError> {
        let found = self.meta(keys::NAMES)?.into_iter();
        Ok(found.map(|(key, bytes)| (key.to_vec(), Named::decode(&bytes))).collect())
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
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.fixed128(u128::from_be_bytes(self.id));
        out.byte(self.crdt_type.byte());
        let mut bytes = vec![VERSION];
        out.finish_into(&mut bytes);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend(checksum.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
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

    /// What a name stands for if no id is configured.
    fn by_default(name: &str, crdt_type: CrdtType) -> Self {
        let id = *Group::new(name, crdt_type).effective_id().as_bytes();
        Self { id, crdt_type }
    }

    fn has_default_id(&self, name: &str) -> bool {
        *self == Self::by_default(name, self.crdt_type)
    }
}

// === impl OtherGroup ===

impl OtherGroup {
    /// The field of the group that is not as it was.
    pub(super) fn field(&self) -> &'static str {
        if self.stored.crdt_type == self.configured.crdt_type { "id" } else { "crdt.type" }
    }

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
