//! What is known of an object without reading its entries.
//!
//! An object's header is kept with it and updated by every change of an entry,
//! so that existence, size, a counter's value and the `ETag` cost one read
//! however large the object is. Headers are derived: replicas that hold the same
//! live entries have equal headers, whatever order the changes came in.
//!
//! Pure: no clock, no IO, no randomness.

use std::hash::{BuildHasher, Hasher};

use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::{Cell, CrdtType, Entry, EntryKey, Part};

/// Figures over the live entries of an object or of one map field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whether an existence dot is live.
    pub existence: bool,
    /// Live entries besides the existence: elements of a set, cells, the one
    /// entry of a flag or register; of a map all entries of its fields.
    pub entries: u64,
    /// A counter's value: the sum of its cells' amounts above their floors. Of a
    /// map: how many of its live entries are counter cells, so that a removal
    /// knows without a scan whether it has floors to record.
    pub sum: i128,
}

/// The derived figures of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub crdt_type: CrdtType,
    /// Over all live entries.
    pub summary: Summary,
    /// A map's visible fields, each name once.
    pub fields: u64,
    /// Entries with nothing live: dead counter cells whose floor is kept.
    pub dead: u64,
    /// Sum modulo 2^128 of a keyed hash of each live entry.
    pub etag: u128,
}

/// The summaries of one map field, one per type it was updated with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldHeader {
    /// Ascending by type; types with neither entries nor existence are absent.
    pub types: Vec<TypeSummary>,
}

/// The figures of a map field as one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeSummary {
    /// The type.
    pub crdt_type: CrdtType,
    /// Over its live entries.
    pub summary: Summary,
    /// What these add to the object's etag, so that a removal of them all need
    /// not look at each.
    pub etag: u128,
}

/// What a map's field adds to the figures of its map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldTotals {
    /// Live entries, existences included.
    pub entries: u64,
    /// Live counter cells among them.
    pub cells: u64,
    /// What they add to the etag.
    pub etag: u128,
}

/// Hashes live entries under a group's id, so that etags of two groups, or of
/// two keys, with the same content differ.
#[derive(Clone, Copy, Debug)]
pub struct EtagKey([u8; 16]);

impl EtagKey {
    /// The key made of a group's id.
    #[must_use]
    pub const fn new(group_id: [u8; 16]) -> Self {
        Self(group_id)
    }

    /// A keyed hash of an object's key, for what must spread evenly whatever
    /// keys the app chooses.
    #[must_use]
    pub fn hash_key(&self, object_key: &str) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(object_key.as_bytes());
        hasher.finish128().as_u128()
    }

    /// What `entry` adds to its object's etag; 0 if nothing of it is live.
    #[must_use]
    pub fn contribution(&self, object_key: &str, name: &EntryKey, entry: &Entry) -> u128 {
        if !entry.is_live() {
            return 0;
        }
        let mut hasher = SipHasher24::new_with_key(&self.0);
        write_bytes(&mut hasher, object_key.as_bytes());
        write_bytes(&mut hasher, name.as_bytes());
        match entry {
            Entry::Dots(dots) => {
                for dot in dots {
                    hasher.write(dot.actor.as_bytes());
                    hasher.write(&dot.n.to_be_bytes());
                }
            }
            Entry::Versions(versions) => {
                for version in versions {
                    hasher.write(version.dot.actor.as_bytes());
                    hasher.write(&version.dot.n.to_be_bytes());
                }
            }
            Entry::Cells(cells) => {
                for cell in cells.iter().filter(|cell| cell.is_live()) {
                    for figure in [
                        cell.birth,
                        cell.amounts.up,
                        cell.amounts.down,
                        cell.floor.up,
                        cell.floor.down,
                    ] {
                        hasher.write(&figure.to_be_bytes());
                    }
                }
            }
        }
        hasher.finish128().as_u128()
    }
}

/// For tables in memory that an app must not be able to fill with colliding keys.
impl BuildHasher for EtagKey {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

fn write_bytes(hasher: &mut SipHasher24, bytes: &[u8]) {
    hasher.write(&(bytes.len() as u64).to_be_bytes());
    hasher.write(bytes);
}

impl Summary {
    /// Whether the object or field exists.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.existence || self.entries > 0
    }

    /// Takes notice that the entry `part` went from `old` to `new`.
    pub fn update(&mut self, part: Part<'_>, old: Option<&Entry>, new: Option<&Entry>) {
        let was_live = old.is_some_and(Entry::is_live);
        let is_live = new.is_some_and(Entry::is_live);
        if part == Part::Existence {
            self.existence = is_live;
            return;
        }
        self.entries = (self.entries + u64::from(is_live)).saturating_sub(u64::from(was_live));
        self.sum += cell_sum(new) - cell_sum(old);
    }
}

fn cell_sum(entry: Option<&Entry>) -> i128 {
    match entry {
        Some(Entry::Cells(cells)) => cells.iter().map(Cell::value).sum(),
        _ => 0,
    }
}

impl Header {
    /// The header of an object without entries.
    #[must_use]
    pub fn new(crdt_type: CrdtType) -> Self {
        Self { crdt_type, summary: Summary::default(), fields: 0, dead: 0, etag: 0 }
    }

    /// Whether readers see the object (a register's expiry apart).
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.summary.exists()
    }

    /// Whether neither something live nor a dead cell's floor is left, so that
    /// nothing of the object needs to be kept.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        !self.exists() && self.dead == 0
    }

    /// Takes notice that the entry `name` of `object_key` went from `old` to
    /// `new`; `field` is the header of the entry's map field, if it has one, and
    /// is updated too.
    pub fn update(
        &mut self,
        etag_key: EtagKey,
        (object_key, name): (&str, &EntryKey),
        field: Option<&mut FieldHeader>,
        (old, new): (Option<&Entry>, Option<&Entry>),
    ) {
        let hash = |entry: Option<&Entry>| {
            entry.map_or(0, |entry| etag_key.contribution(object_key, name, entry))
        };
        let risen = hash(new).wrapping_sub(hash(old));
        self.etag = self.etag.wrapping_add(risen);
        let is_dead =
            |entry: Option<&Entry>| u64::from(entry.is_some_and(|entry| !entry.is_live()));
        self.dead = (self.dead + is_dead(new)).saturating_sub(is_dead(old));
        let Some(of) = name.field() else {
            self.summary.update(name.part(), old, new);
            return;
        };
        if let Some(header) = field {
            let was_visible = header.exists();
            header.update(of.crdt_type, name.part(), (old, new), risen);
            self.fields =
                (self.fields + u64::from(header.exists())).saturating_sub(u64::from(was_visible));
        }
        // A field's existence is an entry of the map like any other.
        let live = |entry: Option<&Entry>| u64::from(entry.is_some_and(Entry::is_live));
        self.summary.entries = (self.summary.entries + live(new)).saturating_sub(live(old));
        if matches!(name.part(), Part::Cell(_)) {
            self.summary.sum += i128::from(live(new)) - i128::from(live(old));
        }
    }
}

impl FieldHeader {
    /// Whether the field is visible with some type.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.types.iter().any(|of| of.summary.exists())
    }

    /// The type readers see: of those that exist, the one whose name sorts first.
    #[must_use]
    pub fn visible(&self) -> Option<(CrdtType, Summary)> {
        let existing = self.types.iter().filter(|of| of.summary.exists());
        let first = existing.min_by_key(|of| of.crdt_type.name());
        first.map(|of| (of.crdt_type, of.summary))
    }

    /// The summary of the field as a `crdt_type`.
    #[must_use]
    pub fn summary(&self, crdt_type: CrdtType) -> Summary {
        let found = self.types.iter().find(|known| known.crdt_type == crdt_type);
        found.map_or_else(Summary::default, |known| known.summary)
    }

    /// What the field adds to its map's header: live entries, the existences
    /// among them; live counter cells; etag.
    #[must_use]
    pub fn totals(&self) -> FieldTotals {
        let mut totals = FieldTotals::default();
        for of in &self.types {
            totals.entries += of.summary.entries + u64::from(of.summary.existence);
            totals.cells += if of.crdt_type.is_counter() { of.summary.entries } else { 0 };
            totals.etag = totals.etag.wrapping_add(of.etag);
        }
        totals
    }

    fn update(
        &mut self,
        crdt_type: CrdtType,
        part: Part<'_>,
        (old, new): (Option<&Entry>, Option<&Entry>),
        risen: u128,
    ) {
        let at = match self.types.binary_search_by_key(&crdt_type, |known| known.crdt_type) {
            Ok(at) => at,
            Err(at) => {
                let summary = Summary::default();
                self.types.insert(at, TypeSummary { crdt_type, summary, etag: 0 });
                at
            }
        };
        let of = &mut self.types[at];
        of.summary.update(part, old, new);
        of.etag = of.etag.wrapping_add(risen);
        if !of.summary.exists() {
            self.types.remove(at);
        }
    }
}

#[cfg(test)]
mod tests;
