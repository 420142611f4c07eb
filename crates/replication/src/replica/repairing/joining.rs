//! Joining a part of a repair to what is here, piece by piece.
//!
//! A piece lies within one interval, so that one context judges all of it, and is
//! bounded by the part and by what of the own state one commit can take.

use std::borrow::Cow;
use std::collections::BTreeMap;

use coppice_crdt::mutant::{self, Mutant};
use coppice_crdt::{Entry, EntryKey, VersionVector};

use super::super::{Now, Replica};
use super::Place;
use super::intervals::{Bounds, credit, seen_at, untouched};
use crate::message::RepairPart;
use crate::record::{LogItem, Position};
use crate::unit::ObjectKey;
use crate::working_set::{Missing, Read, owner_of};

/// At most so many local entries are judged in one commit.
const ENTRIES_PER_COMMIT: usize = 4_096;

/// What this replica holds in an interval that a part speaks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalListing {
    /// Objects and their entries, in order.
    pub objects: Vec<(ObjectKey, Vec<EntryKey>)>,
    /// The first place not listed; `None` if the whole interval is.
    pub reached: Option<Position>,
}

/// How the two sides of a piece are judged.
struct Judging<'a> {
    bounds: Bounds<'a>,
    /// What was seen here.
    ours: &'a VersionVector,
    /// What the source had seen.
    theirs: &'a VersionVector,
    /// What of it is joined: the source's dots beyond it are left out.
    joined: &'a VersionVector,
}

impl Replica {
    pub(in crate::replica) fn has_part_to_merge(&self) -> bool {
        self.repairing.session.as_ref().is_some_and(|session| session.part.is_some())
    }

    /// Supplies what this replica holds in the interval of the part at hand;
    /// its records are in the working set.
    pub fn supply_listing(&mut self, listing: LocalListing) {
        if let Some(session) = &mut self.repairing.session {
            session.local = Some(listing);
        }
    }

    /// The state may have changed since the listing was made.
    pub(in crate::replica) fn forget_listing(&mut self) {
        if let Some(session) = &mut self.repairing.session {
            session.local = None;
        }
    }

    /// Joins a piece of the part at hand. Waits until earlier changes are sealed.
    pub(in crate::replica) fn merge_part(&mut self, now: Now) -> Result<bool, Missing> {
        if !self.has_part_to_merge() {
            return Ok(false);
        }
        if self.is_unsealed() {
            // The listing is of what is committed: what is changed meanwhile
            // may not be in it.
            self.forget_listing();
            return Ok(false);
        }
        let Some(session) = &self.repairing.session else { return Ok(false) };
        let (Some(part), local) = (session.part.clone(), session.local.clone()) else {
            return Ok(false);
        };
        let from = part.from.as_ref();
        let (here, end) = seen_at(self.intervals_of(part.range), from, self.seen());
        if part.vector.is_covered_by(&here) {
            // Nothing in this interval is news.
            let to = earlier(end.as_ref(), part.to.as_ref()).cloned();
            self.go_on(&part, (part.range, to), now);
            return Ok(true);
        }
        let to = earlier(end.as_ref(), part.to.as_ref());
        let Some(local) = local else {
            let (range, from, to) = (part.range, part.from.clone(), to.cloned());
            return Err(Missing(Read::Listing { range, from, to, limit: ENTRIES_PER_COMMIT }));
        };
        let to = local.reached.as_ref().or(to);
        let mut list = self.intervals_of(part.range).to_vec();
        if list.is_empty() {
            list = untouched();
        }
        let Some(joined) = credit(&mut list, (from, to), &part.vector, self.seen()) else {
            self.go_on(&part, (part.range, end), now);
            return Ok(true);
        };
        if !joined.is_covered_by(self.log.end()) {
            // In the log before it is in the state: what is written from now on
            // may have seen anything that it brings.
            self.repair.merged.join(&joined);
            self.save_repair();
            self.pending.push(LogItem::Repair(joined));
            return Ok(false);
        }
        let ours =
            if mutant::is(Mutant::LocalRemovalComesBack) { self.seen().clone() } else { here };
        let judging =
            Judging { bounds: (from, to), ours: &ours, theirs: &part.vector, joined: &joined };
        let savepoint = self.set.savepoint();
        if let Err(missing) = self.join_piece(&part, &local, &judging) {
            self.set.rollback(savepoint);
            return Err(missing);
        }
        self.set_intervals(part.range, list);
        self.repair.merged.join(&joined);
        if mutant::is(Mutant::AbsenceOutsideRange) {
            self.seen[0].1.join(&part.vector);
        }
        if let Some(session) = &mut self.repairing.session {
            session.helped = true;
            session.helped_in_lap = true;
            self.repair.target.clone_from(&session.wanted);
        }
        self.save_repair();
        self.go_on(&part, (part.range, to.cloned()), now);
        Ok(true)
    }

    /// The part at hand is done up to `reached`; `None`: to the end of its range.
    fn go_on(&mut self, part: &RepairPart, reached: Place, now: Now) {
        let Some(session) = &mut self.repairing.session else { return };
        session.local = None;
        let (range, to) = reached;
        let is_inside = match (&to, &part.to) {
            (Some(to), Some(end)) => to < end,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if let Some(part) = session.part.as_mut().filter(|_| is_inside) {
            part.from = to;
            return;
        }
        session.part = None;
        let place = if to.is_some() { (range, to) } else { (range + 1, None) };
        self.ask_from(&place, now);
    }

    fn join_piece(
        &mut self,
        part: &RepairPart,
        local: &LocalListing,
        judging: &Judging<'_>,
    ) -> Result<(), Missing> {
        let within = |key: &ObjectKey, name: &EntryKey| {
            let place = (&**key, name.as_bytes());
            let (from, to) = judging.bounds;
            let behind = from.is_none_or(|from| (&*from.key, &*from.entry) <= place);
            behind && to.is_none_or(|to| place < (&*to.key, &*to.entry))
        };
        let mut theirs: BTreeMap<(&ObjectKey, &EntryKey), Option<&Entry>> = local
            .objects
            .iter()
            .flat_map(|(key, names)| names.iter().map(move |name| ((key, name), None)))
            .filter(|_| !mutant::is(Mutant::RemovalLostWhileAway))
            .collect();
        for (key, entries) in &part.objects {
            let inside = entries.iter().filter(|(name, _)| within(key, name));
            theirs.extend(inside.map(|(name, entry)| ((key, name), Some(entry))));
        }
        // What is here was loaded with its listing.
        let wanted = part.objects.iter().map(|(key, entries)| {
            (key, entries.iter().map(|(name, _)| name).filter(move |name| within(key, name)))
        });
        self.set.require(wanted)?;
        for ((key, name), entry) in theirs {
            let ours = self.set.entry(key, name)?;
            let entry = entry.and_then(|entry| up_to(entry, judging.joined));
            let ours_judged = (ours.as_ref(), judging.ours);
            let theirs_judged = (entry.as_deref(), judging.theirs);
            let joined = Entry::join(owner_of(name), ours_judged, theirs_judged);
            self.set.replace_entry(key, name, ours.as_ref(), joined)?;
        }
        Ok(())
    }
}

/// The earlier of two places where something ends; `None`: at the end of the range.
fn earlier<'a>(a: Option<&'a Position>, b: Option<&'a Position>) -> Option<&'a Position> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// What of an entry `vector` covers.
///
/// Cells are taken whole: amounts and floors join by maximum, so that it does no
/// harm to have them early, and a floor that were left out would be missed.
fn up_to<'a>(entry: &'a Entry, vector: &VersionVector) -> Option<Cow<'a, Entry>> {
    let covered = match entry {
        Entry::Dots(dots) => dots.iter().all(|dot| vector.covers(dot)),
        Entry::Versions(versions) => versions.iter().all(|version| vector.covers(&version.dot)),
        Entry::Cells(_) => true,
    };
    if covered {
        return Some(Cow::Borrowed(entry));
    }
    let mut left = entry.clone();
    let is_empty = match &mut left {
        Entry::Dots(dots) => {
            dots.retain(|dot| vector.covers(dot));
            dots.is_empty()
        }
        Entry::Versions(versions) => {
            versions.retain(|version| vector.covers(&version.dot));
            versions.is_empty()
        }
        Entry::Cells(cells) => cells.is_empty(),
    };
    (!is_empty).then_some(Cow::Owned(left))
}
