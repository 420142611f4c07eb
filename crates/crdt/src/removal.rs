//! Removal of what was seen: of a whole object, a field, everything in a set.
//!
//! A removal takes the dots it saw and no others. Up to
//! [`RemovalLimits::named_entries`] entries it names them. Above that it says "everything in
//! this range of entries that this context covers", which stays small however
//! much it takes, and is sound because its receiver holds all that the context
//! covers. Counter cells cannot be taken so: only the amounts seen tell what of a
//! cell is removed, so a floor is recorded for each live cell.
//!
//! A removal that has to look at more than it may at once is refused with
//! [`Refusal::NeedsSteps`]; its caller carries it out bit by bit, from
//! [`removal_extent`], [`taking`] and [`with_existence`].
//!
//! Source: Almeida, Shoker, Baquero, arXiv:1603.01529, section 7 (the delta of a
//! removal is a context without dots).

use crate::operation::{Applied, Outcome, Place, Step, Stop, Work};
use crate::{
    Cell, CrdtType, Dot, Entries, Entry, EntryDelta, EntryKey, EntryRange, FieldHeader, Floor,
    Header, ObjectDelta, Operation, RangeRemoval, Refusal, lww_register,
};

/// How much a removal does at once. It matters to who makes one only: whoever
/// receives it takes it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalLimits {
    /// Up to how many live entries it names one by one; 64 unless set otherwise.
    pub named_entries: u64,
    /// The most counter cells that one unit takes, for each needs its floor;
    /// 10,000 unless set otherwise.
    pub cells: u64,
    /// The most entries it looks at, live ones and dead cells between them; 16,384
    /// unless set otherwise.
    pub scanned_entries: u64,
}

impl Default for RemovalLimits {
    fn default() -> Self {
        Self { named_entries: 64, cells: 10_000, scanned_entries: 16_384 }
    }
}

/// Entries read at a time.
const PAGE: usize = 1024;

/// How much is in a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    /// Live entries, counter cells and existences included.
    pub(crate) entries: u64,
    /// Live counter cells among them.
    pub(crate) cells: u64,
    /// Dead cells that may stand between them.
    pub(crate) dead: u64,
}

/// What an operation removes as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalExtent {
    /// Where.
    pub range: EntryRange,
    /// Live counter cells there.
    pub cells: u64,
}

impl Live {
    /// What is in an object.
    pub(crate) fn of(header: &Header) -> Self {
        let summary = header.summary;
        let cells = match header.crdt_type {
            CrdtType::GCounter | CrdtType::PNCounter => summary.entries,
            CrdtType::ORMap => u64::try_from(summary.sum).unwrap_or(0),
            CrdtType::GSet | CrdtType::ORSet | CrdtType::EWFlag | CrdtType::LWWRegister => 0,
        };
        let entries = summary.entries.saturating_add(u64::from(summary.existence));
        Self { entries, cells, dead: header.dead }
    }

    /// What is in a map's field. Its dead cells are as many as its writers at
    /// most, and are not counted.
    pub(crate) fn of_field(field: &FieldHeader) -> Self {
        let totals = field.totals();
        Self { entries: totals.entries, cells: totals.cells, dead: 0 }
    }

    const fn is_small(self, limits: RemovalLimits) -> bool {
        self.entries.saturating_sub(self.cells) <= limits.named_entries
    }

    const fn can_be_scanned(self, limits: RemovalLimits) -> bool {
        self.entries.saturating_add(self.dead) <= limits.scanned_entries
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
    let header = work.header(crdt_type)?;
    if !header.exists() {
        return Err(Stop::Refused(Refusal::Absent));
    }
    let mut delta = ObjectDelta::default();
    take_all(&mut delta, &EntryRange::all(), Live::of(&header), work)?;
    Ok(Applied { delta, outcome: Outcome::Deleted })
}

/// Adds to `delta` the removal of everything in `range`, where `live` is.
pub(crate) fn take_all<E: Entries + ?Sized>(
    delta: &mut ObjectDelta,
    range: &EntryRange,
    live: Live,
    work: &Work<'_, E>,
) -> Step<(), E> {
    let limits = work.context.removals;
    let needs_steps = || Err(Stop::Refused(Refusal::NeedsSteps { cells: limits.cells }));
    if live.cells > limits.cells {
        return needs_steps();
    }
    // Where parts of the object are judged by different contexts (a repair is
    // half-way through it) no one context tells what was seen.
    let can_be_scanned = live.can_be_scanned(limits) && !work.context.is_littered;
    let one_context = match work.context.seen {
        [(_, context)] => Some(context),
        _ => None,
    };
    if (live.is_small(limits) || one_context.is_none()) && can_be_scanned {
        return take_named(delta, range, work, |_| true);
    }
    let Some(context) = one_context else { return needs_steps() };
    delta.removals.push(RangeRemoval { range: range.clone(), context: context.clone() });
    match live.cells {
        0 => Ok(()),
        _ if can_be_scanned => {
            take_named(delta, range, work, |change| matches!(change, EntryDelta::Cells { .. }))
        }
        _ => needs_steps(),
    }
}

/// Names what is live in `range`, as far as it is `wanted`.
fn take_named<E: Entries + ?Sized>(
    delta: &mut ObjectDelta,
    range: &EntryRange,
    work: &Work<'_, E>,
    wanted: impl Fn(&EntryDelta) -> bool,
) -> Step<(), E> {
    let mut after = None;
    loop {
        let page = work.scan(range, after.as_ref(), PAGE)?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|(key, _)| key.clone());
        for (key, entry) in page {
            if let Some(change) = taking(&entry).filter(&wanted) {
                delta.entries.insert(key, change);
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// What `operation` removes as a whole; `None` if it is no such removal.
///
/// # Errors
///
/// What reading `entries` met.
pub fn removal_extent<E: Entries + ?Sized>(
    operation: &Operation,
    crdt_type: CrdtType,
    entries: &E,
) -> Result<Option<RemovalExtent>, E::Error> {
    let header = entries.header()?;
    let of_object = header.map_or(0, |header| Live::of(&header).cells);
    Ok(match (operation, crdt_type) {
        (Operation::Delete, _) => Some((EntryRange::all(), of_object)),
        (Operation::Clear, CrdtType::ORMap) => Some((EntryRange::fields(), of_object)),
        (Operation::Clear, CrdtType::ORSet) => Some((EntryRange::elements(), 0)),
        (Operation::RemoveField { field }, CrdtType::ORMap) => {
            let cells = entries.field(field)?.totals().cells;
            Some((EntryRange::with_prefix(&EntryKey::field_name_prefix(field)), cells))
        }
        (Operation::Update { field, crdt_type, operation }, CrdtType::ORMap) => {
            let prefix = EntryKey::field_elements_prefix(field, *crdt_type);
            (**operation == Operation::Clear).then(|| (EntryRange::with_prefix(&prefix), 0))
        }
        _ => None,
    }
    .map(|(range, cells)| RemovalExtent { range, cells }))
}

/// Completes the last delta of a removal that was carried out in steps: what
/// `operation` leaves goes on existing.
///
/// # Errors
///
/// What reading `entries` met.
pub fn with_existence<E: Entries + ?Sized>(
    mut delta: ObjectDelta,
    operation: &Operation,
    entries: &E,
    dot: Dot,
) -> Result<ObjectDelta, E::Error> {
    if *operation == Operation::Delete {
        return Ok(delta);
    }
    if entries.header()?.is_none_or(|header| !header.summary.existence) {
        delta.put_existence(Place::Object, dot);
    }
    if let Operation::Update { field, crdt_type, .. } = operation
        && !entries.field(field)?.summary(*crdt_type).existence
    {
        delta.put_existence(Place::Field { name: field, crdt_type: *crdt_type }, dot);
    }
    Ok(delta)
}

/// The removal of all that is live of `entry`; `None` if nothing is.
#[must_use]
pub fn taking(entry: &Entry) -> Option<EntryDelta> {
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
