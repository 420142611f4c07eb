//! Large removals, in constant time where they are made and in small steps
//! everywhere else.
//!
//! A removal of a range is written at once as a *hidden* range of the object:
//! reads leave out what it takes, and a sweep deletes the entries bit by bit.
//! The figures of the object and of its fields must be right at once: they are
//! made of what the removal leaves (`left.rs`). A map has a record per field,
//! too many to write anew: its *generation* is raised instead, and a field's
//! record of an earlier one counts as absent.

use std::collections::BTreeSet;
use std::sync::Arc;

use coppice_crdt::{
    CrdtType, Entries, Entry, EntryDelta, EntryKey, EntryRange, FieldHeader, Header, ObjectDelta,
    Part, RangeRemoval, Reach, RemovalLimits, VersionVector,
};

use super::left::{Left, LeftCount, Watch, survivor};
use super::object::Slot;
use super::undo::{Undo, Undone};
use super::{Missing, WorkingSet};
use crate::record::{ObjectId, RecordKey, RecordWrite, encode_entry};
use crate::unit::ObjectKey;

/// How large removals are carried out: what is few, and how much is done in a
/// step. It is each replica's own affair; none of it shows in what others get but
/// for how many units that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalPace {
    /// What one unit may do.
    pub limits: RemovalLimits,
    /// Entries that a unit before the last one takes, at least 1: so few that
    /// other writes do not wait for long. 2,048 unless set otherwise.
    pub entries_per_part: usize,
    /// Up to so many entries a large removal looks at each of them: that costs
    /// less than to hide them, count what is left and sweep. 1,024 unless set
    /// otherwise.
    pub few_entries: u64,
    /// Entries counted, or swept, in one step, at least 1; 1,024 unless set
    /// otherwise.
    pub entries_per_step: usize,
    /// How many removals may be hidden in one object, at least 1; every read of it
    /// looks at each. One more waits until one is swept. 64 unless set otherwise.
    pub hidden_ranges: usize,
}

impl Default for RemovalPace {
    fn default() -> Self {
        Self {
            limits: RemovalLimits::default(),
            entries_per_part: 2_048,
            few_entries: 1_024,
            entries_per_step: 1_024,
            hidden_ranges: 64,
        }
    }
}

/// Entry records of one object as they are stored, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPage {
    /// The object.
    pub key: ObjectKey,
    /// What was asked for.
    pub range: EntryRange,
    /// The entries.
    pub entries: Vec<(EntryKey, Entry)>,
    /// The fields whose records stand there, with the generation of each.
    pub fields: Vec<(Arc<str>, u64)>,
    /// Whether there may be more behind the last entry.
    pub more: bool,
}

impl WorkingSet {
    /// Joins the large removals of a delta.
    pub(super) fn join_removals(
        &mut self,
        key: &ObjectKey,
        delta: &ObjectDelta,
        seen: &[(EntryRange, VersionVector)],
    ) -> Result<(), Missing> {
        if delta.removals.is_empty() {
            return Ok(());
        }
        self.require(std::iter::once((key, delta.entries.keys())))?;
        if self.are_to_hide(key, &delta.removals)?
            && let Some(left) = self.left(key, delta, seen)?
        {
            return self.hide(key, &delta.removals, &left);
        }
        delta.removals.iter().try_for_each(|removal| self.remove_each(key, removal))
    }

    /// Takes what a large removal takes, by looking at each entry: its range is
    /// loaded whole.
    fn remove_each(&mut self, key: &ObjectKey, removal: &RangeRemoval) -> Result<(), Missing> {
        let names = match self.crdt_type {
            CrdtType::GSet | CrdtType::ORSet | CrdtType::ORMap => {
                let entries = self.object(key)?.scan(&removal.range, None, usize::MAX)?;
                entries.into_iter().map(|(name, _)| name).collect()
            }
            // Else cells are all that is many, and they stay as they are.
            _ => [Part::Existence, Part::Value, Part::Enabled].map(EntryKey::of_object).to_vec(),
        };
        for name in names {
            let Some(entry) = self.entry(key, &name)? else { continue };
            let left = removal.survivors(&name, entry.clone());
            self.replace_entry(key, &name, Some(&entry), left)?;
        }
        Ok(())
    }

    /// Whether removals are to be hidden: one of them ranges over many entries.
    fn are_to_hide(&self, key: &ObjectKey, removals: &[RangeRemoval]) -> Result<bool, Missing> {
        self.object(key)?;
        let Some(object) = self.objects.get(key) else { return Ok(false) };
        let is_collection = self.crdt_type.is_set() || self.crdt_type == CrdtType::ORMap;
        if !object.spilled || !is_collection {
            return Ok(false);
        }
        let known = |removal: &RangeRemoval| Reach::of(&removal.range, self.crdt_type).is_some();
        if !object.hidden.is_empty() && removals.iter().all(known) {
            // Few entries perhaps, among many that are hidden.
            return Ok(true);
        }
        for removal in removals {
            let entries = match Reach::of(&removal.range, self.crdt_type) {
                Some(Reach::Object) => {
                    object.header.map_or(0, |header| header.summary.entries + header.dead)
                }
                Some(Reach::Field(name) | Reach::Elements(name, _)) => {
                    object.field(&name.into())?.totals().entries
                }
                None => return Ok(false),
            };
            if entries > self.pace.few_entries {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the removals of a delta leave, if that is known.
    fn left(
        &self,
        key: &ObjectKey,
        delta: &ObjectDelta,
        seen: &[(EntryRange, VersionVector)],
    ) -> Result<Option<Left>, Missing> {
        let removals = &delta.removals;
        if let Some(watch) = self.watch_of(key, removals) {
            let names: Vec<EntryKey> = watch.changed.iter().cloned().collect();
            return self.left_of(key, removals, names.iter().chain(cells_of(delta)));
        }
        let counted = self.counts.iter().find(|count| count.is_of(key, removals));
        if let Some(counted) = counted {
            return Ok(counted.done().cloned());
        }
        // Who has seen no more than the removal has nothing that it leaves but
        // counter cells, and it names those.
        if has_seen_no_more(removals, seen) {
            return self.left_of(key, removals, cells_of(delta));
        }
        Ok(None)
    }

    /// What is left if, but for what stands beside it, that is among `names`;
    /// `None` if live counter cells are missing from them.
    fn left_of<'a>(
        &self,
        key: &'a ObjectKey,
        removals: &[RangeRemoval],
        names: impl Iterator<Item = &'a EntryKey> + Clone,
    ) -> Result<Option<Left>, Missing> {
        self.require(std::iter::once((key, names.clone())))?;
        let object = self.object(key)?;
        let mut left = Left::nothing(self.crdt_type);
        let mut ranges = Vec::new();
        let mut cells = 0;
        for reach in self.reaches(removals) {
            match &reach {
                Reach::Object => {
                    let header = object.header()?.filter(|of| of.crdt_type == CrdtType::ORMap);
                    cells += header.map_or(0, |header| header.summary.sum);
                }
                Reach::Field(name) => cells += i128::from(object.field(name)?.totals().cells),
                Reach::Elements(name, crdt_type) => {
                    let beside = self.without_elements(key, name, *crdt_type)?;
                    cells += i128::from(beside.totals().cells);
                    if !beside.types.is_empty() {
                        left.fields.insert(name.as_str().into(), beside);
                    }
                    let prefix = EntryKey::field_elements_prefix(name, *crdt_type);
                    ranges.push(EntryRange::with_prefix(&prefix));
                    continue;
                }
            }
            ranges.push(reach.range(self.crdt_type));
        }
        for name in names.collect::<BTreeSet<_>>() {
            if ranges.iter().any(|range| range.contains(name.as_bytes())) {
                let entry = survivor(removals, name, self.entry(key, name)?);
                left.change(self.etag_key, (key, name), (None, entry.as_ref()));
            }
        }
        Ok((i128::from(left.cells()) == cells).then_some(left))
    }

    /// A field without the elements that it has as a set of `crdt_type`.
    fn without_elements(
        &self,
        key: &ObjectKey,
        name: &str,
        crdt_type: CrdtType,
    ) -> Result<FieldHeader, Missing> {
        let mut field = self.object(key)?.field(name)?;
        let existence = EntryKey::of_field(name, crdt_type, Part::Existence);
        let entry = self.entry(key, &existence)?;
        field.types.retain(|of| of.crdt_type != crdt_type);
        let mut left = Left::nothing(self.crdt_type);
        left.fields.insert(name.into(), field);
        left.change(self.etag_key, (key, &existence), (None, entry.as_ref()));
        Ok(left.fields.remove(name).unwrap_or_default())
    }

    /// How far removals reach: one reach for each field, and only the object
    /// where one reaches all of it.
    fn reaches(&self, removals: &[RangeRemoval]) -> Vec<Reach> {
        let of = |removal: &RangeRemoval| Reach::of(&removal.range, self.crdt_type);
        let mut reaches: Vec<Reach> = removals.iter().filter_map(of).collect();
        if reaches.contains(&Reach::Object) {
            return vec![Reach::Object];
        }
        let whole = reaches.clone();
        reaches.retain(|reach| match reach {
            Reach::Elements(name, _) => !whole.contains(&Reach::Field(name.clone())),
            _ => true,
        });
        reaches.sort();
        reaches.dedup();
        reaches
    }

    /// What to read before received removals can be joined; `None` if nothing.
    pub(crate) fn next_count(
        &mut self,
        key: &ObjectKey,
        delta: &ObjectDelta,
        seen: &[(EntryRange, VersionVector)],
    ) -> Result<Option<EntryRange>, Missing> {
        let removals = &delta.removals;
        if !self.are_to_hide(key, removals)? {
            return Ok(None);
        }
        let known = self.counts.iter().position(|count| count.is_of(key, removals));
        if known.is_none() && self.left(key, delta, seen)?.is_some() {
            return Ok(None);
        }
        let at = known.unwrap_or_else(|| {
            self.counts.push(LeftCount::new(key, removals, self.crdt_type));
            self.counts.len() - 1
        });
        Ok(self.counts[at].next())
    }

    /// Counts a page that [`WorkingSet::next_count`] asked for. There must be no
    /// changes that the store does not have.
    pub(crate) fn count_page(&mut self, page: &EntryPage) {
        let Some(object) = self.objects.get(&page.key) else { return };
        let due = |count: &&mut LeftCount| {
            count.key == page.key && count.next().as_ref() == Some(&page.range)
        };
        if let Some(count) = self.counts.iter_mut().find(due) {
            count.add(self.etag_key, object, page);
        }
    }

    /// Forgets counts: the unit they were made for is joined or gone.
    pub(crate) fn drop_counts(&mut self) {
        self.counts.clear();
    }

    /// From now on, until [`Self::unwatch`], what changes under `removal` is
    /// remembered: it is carried out in steps.
    pub(crate) fn watch(&mut self, key: &ObjectKey, removal: RangeRemoval) {
        let changed = BTreeSet::new();
        self.watch = Some(Watch { key: Arc::clone(key), removal, changed });
    }

    pub(crate) fn unwatch(&mut self) {
        self.watch = None;
    }

    fn watch_of(&self, key: &ObjectKey, removals: &[RangeRemoval]) -> Option<&Watch> {
        let [removal] = removals else { return None };
        let is_it = |watch: &&Watch| watch.key == *key && watch.removal == *removal;
        self.watch.as_ref().filter(is_it)
    }

    /// Keeps counts right when an entry changes to what `slot` holds.
    pub(super) fn count_change(
        &mut self,
        key: &ObjectKey,
        name: &EntryKey,
        slot: Option<&Slot<Entry>>,
    ) {
        if self.counts.is_empty() && self.watch.is_none() {
            return;
        }
        let Some(object) = self.objects.get(key) else { return };
        let after = object.visible(name, slot.and_then(|slot| slot.state.clone()));
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.key == *key) {
            watch.change(name, after.as_ref());
        }
        if self.counts.is_empty() {
            return;
        }
        let before = object.entries.get(name).and_then(|slot| slot.state.clone());
        let before = object.visible(name, before);
        for count in self.counts.iter_mut().filter(|count| count.key == *key) {
            count.change(self.etag_key, name, (before.as_ref(), after.as_ref()));
        }
    }

    /// Hides what removals take; `left` is what they leave of what they reach.
    fn hide(
        &mut self,
        key: &ObjectKey,
        removals: &[RangeRemoval],
        left: &Left,
    ) -> Result<(), Missing> {
        let reaches = self.reaches(removals);
        let header = self.header_with(key, removals, (&reaches, left))?;
        let Some(object) = self.objects.get_mut(key) else { return Ok(()) };
        let before = (object.hidden.clone(), object.generation);
        for removal in removals {
            let mut removal = removal.clone();
            if let Some(at) = object.hidden.iter().position(|known| known.range == removal.range) {
                removal.context.join(&object.hidden.remove(at).context);
            }
            object.hidden.push(removal);
        }
        let names: Vec<Arc<str>> = match reaches.first() {
            Some(Reach::Object) => {
                object.generation += 1;
                object.fields.keys().chain(left.fields.keys()).cloned().collect()
            }
            _ => reaches.iter().filter_map(Reach::field).map(Arc::from).collect(),
        };
        let mut fields = Vec::new();
        for name in names {
            let slot = Slot { state: left.fields.get(&name).cloned(), dirty: true };
            fields.push((Arc::clone(&name), object.fields.insert(name, slot)));
        }
        self.undo.push(Undo {
            key: Arc::clone(key),
            header: object.header,
            change: Undone::Hidden { before, fields },
            was_dirty: object.dirty,
            touched_ranges: self.touched_ranges,
        });
        // What others counted may be hidden now; this one's count has served.
        let others = |count: &&mut LeftCount| count.key == *key && !count.is_of(key, removals);
        for count in self.counts.iter_mut().filter(others) {
            count.restart(self.crdt_type);
        }
        self.newly_hidden.push(Arc::clone(key));
        self.set_header(key, Some(header));
        Ok(())
    }

    /// An object's header once removals are hidden.
    fn header_with(
        &self,
        key: &ObjectKey,
        removals: &[RangeRemoval],
        (reaches, left): (&[Reach], &Left),
    ) -> Result<Header, Missing> {
        let object = self.object(key)?;
        let was = object.header()?.unwrap_or_else(|| Header::new(self.crdt_type));
        let mut header = was;
        if reaches.first() == Some(&Reach::Object) {
            header = Header { dead: was.dead, ..left.elements };
            for field in left.fields.values() {
                add_field(&mut header, field);
            }
            let name = EntryKey::of_object(Part::Existence);
            let existence = survivor(removals, &name, self.entry(key, &name)?);
            header.update(self.etag_key, (key, &name), None, (None, existence.as_ref()));
            return Ok(header);
        }
        for name in reaches.iter().filter_map(Reach::field) {
            take_field(&mut header, &object.field(name)?);
            if let Some(field) = left.fields.get(name) {
                add_field(&mut header, field);
            }
        }
        Ok(header)
    }

    /// The objects in which something was hidden since the last call.
    pub(crate) fn take_newly_hidden(&mut self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.newly_hidden)
    }

    /// Whether so much is hidden in an object that the next removal waits.
    ///
    /// # Errors
    ///
    /// [`Missing`] if it is not loaded.
    pub(crate) fn is_full_of_hidden(&self, key: &ObjectKey) -> Result<bool, Missing> {
        Ok(self.object(key)?.object.hidden.len() >= self.pace.hidden_ranges)
    }

    /// What of an object is hidden.
    pub(crate) fn hidden(&self, key: &ObjectKey) -> Result<&[RangeRemoval], Missing> {
        self.object(key)?;
        Ok(self.objects.get(key).map_or(&[], |object| &object.hidden))
    }

    /// Deletes what is hidden among stored entries, and gives the records to
    /// write. There must be no changes that the store does not have.
    pub(crate) fn sweep(&mut self, page: &EntryPage, writes: &mut Vec<RecordWrite>) {
        let Some(object) = self.objects.get_mut(&page.key) else { return };
        for (name, generation) in &page.fields {
            if *generation < object.generation {
                writes.push((RecordKey::Field(object.id.clone(), Arc::clone(name)), None));
            }
        }
        for (name, entry) in &page.entries {
            let left = object.visible(name, Some(entry.clone()));
            if left.as_ref() == Some(entry) {
                continue;
            }
            let key = RecordKey::Entry(object.id.clone(), name.clone());
            writes.push((key, left.as_ref().map(encode_entry)));
            if let Some(slot) = object.entries.get_mut(name) {
                slot.state = left;
            }
        }
    }

    /// Nothing that `removal` hides is stored any more.
    pub(crate) fn swept(&mut self, key: &ObjectKey, removal: &RangeRemoval) {
        let Some(object) = self.objects.get_mut(key) else { return };
        object.hidden.retain(|known| known != removal);
        for (name, slot) in &mut object.entries {
            let state = slot.state.take();
            slot.state = state.and_then(|entry| removal.survivors(name, entry));
        }
        let gone = object.hidden.is_empty();
        let header = object.header.filter(|header| !gone || !header.is_gone());
        self.set_header(key, header);
    }

    /// An object and its range.
    pub(crate) fn id_of(&self, key: &ObjectKey) -> ObjectId {
        ObjectId { range: self.range_of(key), key: Arc::clone(key) }
    }
}

fn cells_of(delta: &ObjectDelta) -> impl Iterator<Item = &EntryKey> + Clone {
    let is_cells = |change: &EntryDelta| matches!(change, EntryDelta::Cells { .. });
    delta.entries.iter().filter(move |(_, change)| is_cells(change)).map(|(name, _)| name)
}

fn add_field(header: &mut Header, field: &FieldHeader) {
    let totals = field.totals();
    header.summary.entries += totals.entries;
    header.summary.sum += i128::from(totals.cells);
    header.fields += u64::from(field.exists());
    header.etag = header.etag.wrapping_add(totals.etag);
}

fn take_field(header: &mut Header, field: &FieldHeader) {
    let totals = field.totals();
    header.summary.entries = header.summary.entries.saturating_sub(totals.entries);
    header.summary.sum -= i128::from(totals.cells);
    header.fields = header.fields.saturating_sub(u64::from(field.exists()));
    header.etag = header.etag.wrapping_sub(totals.etag);
}

/// The first name behind `name`.
pub(crate) fn behind(name: &EntryKey) -> Box<[u8]> {
    [name.as_bytes(), &[0]].concat().into()
}

/// Whether all that was seen is covered by what each removal had seen.
fn has_seen_no_more(removals: &[RangeRemoval], seen: &[(EntryRange, VersionVector)]) -> bool {
    let covers = |removal: &RangeRemoval| {
        seen.iter().all(|(_, context)| context.is_covered_by(&removal.context))
    };
    removals.iter().all(covers)
}
