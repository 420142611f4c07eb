//! The part of a group's state that is being worked on.
//!
//! The core does no IO: whatever it touches has to be here first. A touch of
//! something that is not here answers [`Missing`] with what to load; the owner
//! loads it and tries again. Changes stay here, visible to what follows, until
//! [`WorkingSet::take_writes`] hands them out as records of one commit.
//!
//! Small objects live whole in their header record. One that outgrows
//! [`INLINE_BYTES`] is spilled: its entries become records of their own, and
//! stay so until the object is gone.
//!
//! Pure: no clock, no IO, no randomness.

mod hiding;
mod left;
mod loading;
mod object;
mod undo;

use std::sync::Arc;

use coppice_crdt::{
    ActorId, Cell, CrdtType, Entries, Entry, EntryKey, EntryRange, EtagKey, Header, ObjectDelta,
    Part, VersionVector,
};
use indexmap::IndexMap;

pub(crate) use hiding::behind;
pub use hiding::{EntryPage, RemovalPace};
use left::{LeftCount, Watch};
pub use object::ObjectView;
use object::{Slot, WorkingObject, deadline};
pub use undo::Savepoint;
use undo::{Undo, Undone};

use crate::record::{Position, RANGES, RecordWrite, Totals};
use crate::unit::ObjectKey;

/// Up to this many encoded bytes an object lives inside its header record.
pub const INLINE_BYTES: usize = 1024;

/// Something that has to be loaded before the core can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// An object's header record.
    Object(ObjectKey),
    /// An entry's record.
    Entry(ObjectKey, EntryKey),
    /// A map field's record.
    Field(ObjectKey, Arc<str>),
    /// All of these, each an object, an entry or a field.
    Many(Vec<Read>),
    /// Entry records of one object in a range, all of them.
    Scan(ObjectKey, EntryRange),
    /// The first entry records of one object in a range, as they are stored: up
    /// to so many, for [`crate::Replica::supply_page`].
    Page(ObjectKey, EntryRange, usize),
    /// As [`Read::Page`], but of the store as it was when the removal under way
    /// began ([`crate::Replica::begin_removal`]).
    PageBefore(ObjectKey, EntryRange, usize),
    /// All objects and entries between two places of a range, with their records;
    /// the listing may stop after `limit` entries.
    Listing {
        /// Which range.
        range: u8,
        /// From where on; `None`: from the start of the range.
        from: Option<Position>,
        /// The first place behind; `None`: the end of the range.
        to: Option<Position>,
        /// After how many entries it may stop.
        limit: usize,
    },
}

/// What was touched is not loaded: load it, supply it, try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not loaded: {0:?}")]
pub struct Missing(pub Read);

/// Loaded objects, their changes, and the group's figures.
#[derive(Debug)]
pub struct WorkingSet {
    crdt_type: CrdtType,
    etag_key: EtagKey,
    /// Found by a keyed hash; in the order of loading, so that runs repeat.
    objects: IndexMap<ObjectKey, WorkingObject, EtagKey>,
    dirty: Vec<ObjectKey>,
    undo: Vec<Undo>,
    totals: Totals,
    digests: Box<[u128; RANGES]>,
    touched_ranges: u64,
    counts: Vec<LeftCount>,
    watch: Option<Watch>,
    pub(crate) pace: RemovalPace,
    newly_hidden: Vec<ObjectKey>,
    newly_dead: Vec<(ObjectKey, EntryKey, Cell)>,
    own: Option<ActorId>,
    loaded: usize,
}

impl WorkingSet {
    /// Nothing loaded, of a group with these figures.
    #[must_use]
    pub fn new(
        crdt_type: CrdtType,
        etag_key: EtagKey,
        totals: Totals,
        digests: Box<[u128; RANGES]>,
    ) -> Self {
        Self {
            crdt_type,
            etag_key,
            objects: IndexMap::with_hasher(etag_key),
            dirty: Vec::new(),
            undo: Vec::new(),
            totals,
            digests,
            touched_ranges: 0,
            counts: Vec::new(),
            watch: None,
            pace: RemovalPace::default(),
            newly_hidden: Vec::new(),
            newly_dead: Vec::new(),
            own: None,
            loaded: 0,
        }
    }

    /// The range an object belongs to.
    #[must_use]
    pub fn range_of(&self, key: &str) -> u8 {
        range_of(self.etag_key, key)
    }

    /// The group's figures with all changes made here.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// The digest of each range with all changes made here.
    #[must_use]
    pub fn digests(&self) -> &[u128; RANGES] {
        &self.digests
    }

    /// Whether the object's header record is here.
    #[must_use]
    pub fn has_object(&self, key: &str) -> bool {
        self.objects.contains_key(key)
    }

    /// About how many objects and entries are loaded.
    #[must_use]
    pub const fn loaded(&self) -> usize {
        self.loaded
    }

    /// Forgets what is loaded. There must be no changes left to take.
    pub fn clear(&mut self) {
        debug_assert!(self.dirty.is_empty(), "changes would be lost");
        self.objects.clear();
        self.undo.clear();
        self.loaded = 0;
    }

    /// One object, for reading.
    ///
    /// # Errors
    ///
    /// [`Missing`] if its header is not loaded.
    pub fn object(&self, key: &ObjectKey) -> Result<ObjectView<'_>, Missing> {
        match self.objects.get(key) {
            Some(object) => Ok(ObjectView { object }),
            None => Err(Missing(Read::Object(Arc::clone(key)))),
        }
    }

    /// What stands under one entry's name.
    ///
    /// # Errors
    ///
    /// [`Missing`] if it is not loaded.
    pub fn entry(&self, key: &ObjectKey, name: &EntryKey) -> Result<Option<Entry>, Missing> {
        self.object(key)?.entry(name)
    }

    /// The actor of the version that readers of a register get.
    ///
    /// # Errors
    ///
    /// [`Missing`] if it is not loaded.
    pub fn writer_of(&self, key: &ObjectKey) -> Result<Option<ActorId>, Missing> {
        match self.object(key)?.entry(&EntryKey::of_object(Part::Value))? {
            Some(Entry::Versions(versions)) => {
                Ok(coppice_crdt::picked(&versions).map(|version| version.dot.actor))
            }
            _ => Ok(None),
        }
    }

    /// Whether changes wait to be taken.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Joins a delta into an object, judging each entry by its context.
    ///
    /// `seen` tells, by disjoint ranges that hold every entry, what was seen there.
    ///
    /// # Errors
    ///
    /// [`Missing`]; what was changed before is to be rolled back.
    pub fn join_delta(
        &mut self,
        key: &ObjectKey,
        delta: &ObjectDelta,
        seen: &[(EntryRange, VersionVector)],
    ) -> Result<(), Missing> {
        self.join_removals(key, delta, seen)?;
        for (name, change) in &delta.entries {
            let old = self.object(key)?.entry(name)?;
            let owner = owner_of(name);
            let Some(context) = seen.iter().find(|(range, _)| range.contains(name.as_bytes()))
            else {
                continue;
            };
            let new = change.apply(owner, old.clone(), &context.1);
            self.replace_entry(key, name, old.as_ref(), new)?;
        }
        Ok(())
    }

    /// Puts `new` where `old` stood and keeps header, totals and digest current.
    ///
    /// # Errors
    ///
    /// [`Missing`] if the entry's map field is not loaded.
    pub fn replace_entry(
        &mut self,
        key: &ObjectKey,
        name: &EntryKey,
        old: Option<&Entry>,
        new: Option<Entry>,
    ) -> Result<(), Missing> {
        let new = match (owner_of(name), new) {
            (Some(owner), Some(Entry::Cells(cells))) if Some(owner) == self.own => {
                without_dead(cells, |_| true)
            }
            (_, new) => new,
        };
        if old == new.as_ref() {
            return Ok(());
        }
        let crdt_type = self.crdt_type;
        let etag_key = self.etag_key;
        let Some(object) = self.objects.get_mut(key) else {
            return Err(Missing(Read::Object(Arc::clone(key))));
        };
        let mut field = match name.field() {
            Some(field) => {
                let name: Arc<str> = field.name.as_ref().into();
                let header = object.field(&name)?;
                Some((name, header))
            }
            None => None,
        };
        let was = object.header;
        let (was_dirty, touched_ranges) = (object.dirty, self.touched_ranges);
        let (deadline_ms, dead) = (object.deadline_ms, self.newly_dead.len());
        if let Some(Entry::Cells(cells)) = &new {
            // One that was dead and of which more is removed now counts as well.
            let died = cells.iter().filter(|cell| !cell.is_live() && !holds(old, cell));
            let died = died.map(|cell| (Arc::clone(key), name.clone(), *cell));
            self.newly_dead.extend(died);
        }
        let mut header = was.unwrap_or_else(|| Header::new(crdt_type));
        header.update(
            etag_key,
            (key, name),
            field.as_mut().map(|(_, header)| header),
            (old, new.as_ref()),
        );
        let field = field.map(|(name, header)| {
            let state = (!header.types.is_empty()).then_some(header);
            let old = object.fields.insert(Arc::clone(&name), Slot { state, dirty: true });
            (name, old)
        });
        if name.part() == Part::Value && name.field().is_none() {
            object.deadline_ms = deadline(new.as_ref());
        }
        let kept = !header.is_gone() || !object.hidden.is_empty();
        let slot = Slot { state: new, dirty: true };
        self.count_change(key, name, Some(&slot));
        let Some(object) = self.objects.get_mut(key) else { return Ok(()) };
        let slot = object.entries.insert(name.clone(), slot);
        self.loaded += usize::from(slot.is_none());
        let change = Undone::Entry { name: name.clone(), slot, field, deadline_ms, dead };
        let key_changed = Arc::clone(key);
        self.undo.push(Undo { key: key_changed, header: was, change, was_dirty, touched_ranges });
        self.set_header(key, kept.then_some(header));
        Ok(())
    }

    fn set_header(&mut self, key: &ObjectKey, header: Option<Header>) {
        let Some(object) = self.objects.get_mut(key) else { return };
        let range = usize::from(object.id.range);
        let figures = |header: Option<Header>| {
            header.map_or((0, 0, 0), |header| {
                let entries = header.summary.entries + u64::from(header.summary.existence);
                (u64::from(header.exists()), entries, header.etag)
            })
        };
        let (old, new) = (figures(object.header), figures(header));
        object.header = header;
        if !object.dirty {
            object.dirty = true;
            self.dirty.push(Arc::clone(key));
        }
        self.totals.objects = (self.totals.objects + new.0).saturating_sub(old.0);
        self.totals.entries = (self.totals.entries + new.1).saturating_sub(old.1);
        if old.2 != new.2 {
            self.digests[range] = self.digests[range].wrapping_sub(old.2).wrapping_add(new.2);
            self.touched_ranges |= 1 << range;
        }
    }

    /// Whose cells are dropped as soon as they are dead: this opening's own.
    pub(crate) const fn set_own(&mut self, own: ActorId) {
        self.own = Some(own);
    }

    /// The cells of other actors that died since the last call.
    pub(crate) fn take_newly_dead(&mut self) -> Vec<(ObjectKey, EntryKey, Cell)> {
        std::mem::take(&mut self.newly_dead)
    }

    /// The ranges whose digest changed since the last call, with their digests.
    pub fn take_digests(&mut self) -> Vec<(u8, u128)> {
        let touched = std::mem::take(&mut self.touched_ranges);
        let ranges = (0..64_u8).filter(|range| touched & (1 << range) != 0);
        ranges.map(|range| (range, self.digests[usize::from(range)])).collect()
    }

    /// The records of all changes since the last call. The changes can no longer
    /// be taken back.
    pub fn take_writes(&mut self) -> Vec<RecordWrite> {
        self.undo.clear();
        let mut writes = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            if let Some(object) = self.objects.get_mut(&key) {
                object.take_writes(&mut writes);
            }
        }
        writes
    }
}

/// What is left of cells without the dead ones that `is_droppable` lets go.
pub(crate) fn without_dead(
    cells: Vec<Cell>,
    is_droppable: impl Fn(&Cell) -> bool,
) -> Option<Entry> {
    let kept: Vec<Cell> =
        cells.into_iter().filter(|cell| cell.is_live() || !is_droppable(cell)).collect();
    (!kept.is_empty()).then_some(Entry::Cells(kept))
}

fn holds(old: Option<&Entry>, cell: &Cell) -> bool {
    matches!(old, Some(Entry::Cells(cells)) if cells.contains(cell))
}

/// The range an object belongs to: the first 6 bits of a keyed hash of its key.
#[must_use]
pub fn range_of(etag_key: EtagKey, key: &str) -> u8 {
    u8::try_from(etag_key.hash_key(key) >> 122).unwrap_or(0)
}

/// The actor whose cells an entry holds, if it holds cells.
#[must_use]
pub(crate) fn owner_of(name: &EntryKey) -> Option<ActorId> {
    match name.part() {
        Part::Cell(owner) => Some(owner),
        _ => None,
    }
}
