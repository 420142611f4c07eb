//! Removal of what was seen: of a whole object, a field, everything in a set.
//!
//! A removal takes the dots it saw and no others. Up to
//! [`MAX_NAMED_ENTRIES`] entries it names them. Above that it says "everything in
//! this range of entries that this context covers", which stays small however
//! much it takes, and is sound because its receiver holds all that the context
//! covers. Counter cells cannot be taken so: only the amounts seen tell what of a
//! cell is removed, so a floor is recorded for each live cell.
//!
//! Source: Almeida, Shoker, Baquero, arXiv:1603.01529, section 7 (the delta of a
//! removal is a context without dots).

use crate::operation::{Applied, Outcome, Place, Step, Stop, Work};
use crate::{
    Cell, CrdtType, Entries, Entry, EntryDelta, EntryKey, EntryRange, Floor, ObjectDelta,
    RangeRemoval, Refusal, Summary, lww_register,
};

/// Up to how many live entries a removal names one by one.
const MAX_NAMED_ENTRIES: u64 = 64;

/// The most counter cells that one removal takes, for each needs its floor.
const MAX_CELLS: u64 = 10_000;

/// Entries read at a time.
const PAGE: usize = 1024;

/// The most pages a removal reads in search of counter cells: dead ones, and
/// other fields of a map, stand between the live ones.
const MAX_PAGES: usize = 64;

/// How much is live in a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    /// Entries, counter cells and existences included.
    pub(crate) entries: u64,
    /// Counter cells among them.
    pub(crate) cells: u64,
}

impl Live {
    /// What is live in an object or field of type `crdt_type`.
    pub(crate) fn of(crdt_type: CrdtType, summary: &Summary) -> Self {
        let cells = match crdt_type {
            CrdtType::GCounter | CrdtType::PNCounter => summary.entries,
            CrdtType::ORMap => u64::try_from(summary.sum).unwrap_or(0),
            CrdtType::GSet | CrdtType::ORSet | CrdtType::EWFlag | CrdtType::LWWRegister => 0,
        };
        Self { entries: summary.entries.saturating_add(u64::from(summary.existence)), cells }
    }

    const fn is_small(self) -> bool {
        self.entries.saturating_sub(self.cells) <= MAX_NAMED_ENTRIES
    }
}

/// Removes the whole object, of any type. It has to exist.
pub(crate) fn delete<E: Entries + ?Sized>(
    crdt_type: CrdtType,
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    if crdt_type == CrdtType::LWWRegister {
        return lww_register::delete(work);
    }
    let summary = work.summary(Place::Object)?;
    if !summary.exists() {
        return Err(Stop::Refused(Refusal::Absent));
    }
    let mut delta = ObjectDelta::default();
    take_all(&mut delta, &EntryRange::all(), Live::of(crdt_type, &summary), work)?;
    Ok(Applied { delta, outcome: Outcome::Deleted })
}

/// Adds to `delta` the removal of everything in `range`, where `live` is live.
pub(crate) fn take_all<E: Entries + ?Sized>(
    delta: &mut ObjectDelta,
    range: &EntryRange,
    live: Live,
    work: &Work<'_, E>,
) -> Step<(), E> {
    if live.cells > MAX_CELLS {
        return Err(Stop::Refused(Refusal::TooManyCells { limit: MAX_CELLS }));
    }
    if live.is_small() {
        return take_named(delta, range, live.entries, work);
    }
    for (judged, context) in work.context.seen {
        if let Some(range) = range.intersection(judged) {
            delta.removals.push(RangeRemoval { range, context: context.clone() });
        }
    }
    delta.removals.sort_by(|a, b| a.range.cmp(&b.range));
    take_cells(delta, range, live.cells, work)
}

/// Names what is live in `range`, `wanted` entries.
fn take_named<E: Entries + ?Sized>(
    delta: &mut ObjectDelta,
    range: &EntryRange,
    mut wanted: u64,
    work: &Work<'_, E>,
) -> Step<(), E> {
    let mut after = None;
    for _ in 0..MAX_PAGES {
        let page = work.scan(range, after.as_ref(), PAGE)?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|(key, _)| key.clone());
        for (key, entry) in page {
            if let Some(change) = taking(&entry) {
                wanted = wanted.saturating_sub(1);
                delta.entries.insert(key, change);
            }
        }
        if is_last || wanted == 0 {
            return Ok(());
        }
    }
    Err(Stop::Refused(Refusal::TooManyCells { limit: MAX_CELLS }))
}

/// Records the floors of the counter cells that are live in `range`, `wanted` entries.
fn take_cells<E: Entries + ?Sized>(
    delta: &mut ObjectDelta,
    range: &EntryRange,
    mut wanted: u64,
    work: &Work<'_, E>,
) -> Step<(), E> {
    let mut rest = range.clone();
    let mut after = None;
    for _ in 0..MAX_PAGES {
        if wanted == 0 {
            return Ok(());
        }
        let page = work.scan(&rest, after.as_ref(), PAGE)?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|(key, _)| key.clone());
        for (key, entry) in page {
            if let Some(change @ EntryDelta::Cells { .. }) = taking(&entry) {
                wanted = wanted.saturating_sub(1);
                delta.entries.insert(key, change);
            }
        }
        if is_last {
            return Ok(());
        }
        // The types of counters sort before the others of a field's name: once
        // past them, the rest of that name holds no cell.
        let behind = after.as_ref().and_then(EntryKey::field);
        if let Some(field) = behind.filter(|field| !field.crdt_type.is_counter()) {
            let name = EntryRange::with_prefix(&EntryKey::field_name_prefix(&field.name));
            let Some(from) = name.to else { return Ok(()) };
            rest.from = from;
            after = None;
        }
    }
    Err(Stop::Refused(Refusal::TooManyCells { limit: MAX_CELLS }))
}

/// The removal of all that is live of `entry`; `None` if nothing is.
fn taking(entry: &Entry) -> Option<EntryDelta> {
    if !entry.is_live() {
        return None;
    }
    Some(match entry {
        Entry::Dots(dots) => EntryDelta::Dots { added: Vec::new(), removed: dots.clone() },
        Entry::Versions(versions) => EntryDelta::Versions {
            written: Vec::new(),
            removed: versions.iter().map(|version| version.dot).collect(),
        },
        Entry::Cells(cells) => {
            let live = cells.iter().filter(|cell| Cell::is_live(cell));
            let floors = live.map(|cell| Floor { birth: cell.birth, amounts: cell.amounts });
            EntryDelta::Cells { raised: Vec::new(), floors: floors.collect() }
        }
    })
}
