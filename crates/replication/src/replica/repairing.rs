//! Repair by state: what the log of no peer can bring any more.
//!
//! The receiver pulls, all from one snapshot of one source: range after range,
//! each in key order, in parts. A part joins in one commit with what the source
//! had seen there as the context of its interval; only there does absence prove
//! removal. A source that is under repair itself has seen more in some intervals
//! than in others, and says so part by part.
//! Contexts of intervals are joined, never replaced or taken back: what was
//! removed here meanwhile leaves nothing but the context.
//!
//! The log holds the repair, with the source's vector, before what it brings: a
//! peer takes what was written after it only once it has all that this replica
//! may have seen. `tests/model_repair.rs` checks these rules and what breaks
//! without them.

use coppice_crdt::mutant::{self, Mutant};
use coppice_crdt::{Entry, EntryKey, EntryRange, VersionVector};

use super::{Now, Replica};
use crate::effect::{CloseReason, LinkId, Output};
use crate::message::{Message, RepairPart, RepairRequest};
use crate::record::{Intervals, LogItem, Position, RANGES, RecordKey};
use crate::unit::{ObjectKey, name_fits};
use crate::working_set::{Missing, Read, owner_of};

/// A part that does not come for so long is asked of somebody else, in milliseconds.
const PART_WAIT_MS: u64 = 10_000;

/// At most so many local entries are judged in one commit.
const ENTRIES_PER_COMMIT: usize = 4_096;

/// Where the pulling of a repair stands. Lost when the replica is closed: what
/// is committed of it stays.
#[derive(Debug, Default)]
pub(super) struct Repairing {
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    source: LinkId,
    /// What is being pulled.
    range: u8,
    from: Option<Position>,
    asked_ms: u64,
    /// What the source had seen in every part that came so far.
    everywhere: Option<VersionVector>,
    /// What it had seen in any of them: the log has it.
    anywhere: VersionVector,
    part: Option<RepairPart>,
    local: Option<LocalListing>,
}

/// What this replica holds in an interval that a part speaks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalListing {
    /// Objects and their entries, in order.
    pub objects: Vec<(ObjectKey, Vec<EntryKey>)>,
    /// The first place not listed; `None` if the whole interval is.
    pub reached: Option<Position>,
}

/// What a state has seen, by interval: the contexts of the parts that are
/// served from a snapshot of it.
///
/// Who is under repair serves all the same. Otherwise two replicas, each half
/// repaired of what only the other has whole, would wait for each other for ever.
#[derive(Clone, Debug)]
pub struct Contexts {
    everywhere: VersionVector,
    ranges: Vec<(u8, Intervals)>,
}

impl Contexts {
    /// What was seen at a place of a range (`None`: its start), and where that
    /// ends.
    #[must_use]
    pub fn at(&self, range: u8, from: Option<&Position>) -> (VersionVector, Option<Position>) {
        let mut seen = self.everywhere.clone();
        let intervals = self.ranges.iter().find(|(known, _)| *known == range);
        let behind = |end: &Position| from.is_none_or(|from| from < end);
        let found = intervals.into_iter().flat_map(|(_, intervals)| intervals);
        match found.into_iter().find(|(end, _)| end.as_ref().is_none_or(behind)) {
            Some((end, context)) => {
                seen.join(context);
                (seen, end.clone())
            }
            None => (seen, None),
        }
    }
}

impl Replica {
    /// What the state as of the last commit has seen, by interval.
    #[must_use]
    pub fn contexts(&self) -> Contexts {
        Contexts { everywhere: self.visible.clone(), ranges: self.repair.ranges.clone() }
    }

    /// Whether some of the state is not what the group's vector says.
    #[must_use]
    pub fn is_under_repair(&self) -> bool {
        !self.repair.merged.is_empty() || self.repairing.session.is_some()
    }

    /// What was seen where each entry of an object stands, by entry range.
    pub(super) fn seen_of(&self, key: &ObjectKey) -> Vec<(EntryRange, VersionVector)> {
        let range = self.set.range_of(key);
        let intervals = self.repair.ranges.iter().find(|(known, _)| *known == range);
        contexts_of(intervals.map_or(&[], |(_, intervals)| intervals), key, self.seen())
    }

    /// Begins a repair if a peer said that only that helps, and none runs.
    pub(super) fn consider_repair(&mut self, now: Now) {
        self.drop_finished_repair();
        if let Some(session) = &self.repairing.session {
            let stalled = session.part.is_none()
                && now.steady_ms.saturating_sub(session.asked_ms) >= PART_WAIT_MS;
            if !stalled {
                return;
            }
            let source = session.source;
            self.repair_refused(source, now);
            return;
        }
        let offers = self.members.iter().filter_map(|(_, member)| {
            let id = member.link?;
            let offered = self.links.get(&id).is_some_and(|link| link.peer_says_too_old);
            let more = member.seen.count_beyond(self.seen());
            (offered && more > 0).then_some((more, id))
        });
        let Some((_, source)) = offers.max() else { return };
        self.repairing.session = Some(Session {
            source,
            range: 0,
            from: None,
            asked_ms: now.steady_ms,
            everywhere: None,
            anywhere: VersionVector::new(),
            part: None,
            local: None,
        });
        let request = RepairRequest { begin: true, range: 0, from: None };
        self.send(source, &Message::RepairRequest(request));
    }

    /// The source of the repair is gone; what it brought stays.
    pub(super) fn source_lost(&mut self, link: LinkId) {
        if self.repairing.session.as_ref().is_some_and(|session| session.source == link) {
            self.repairing.session = None;
        }
    }

    pub(super) fn repair_refused(&mut self, link: LinkId, now: Now) {
        self.source_lost(link);
        if let Some(link) = self.links.get_mut(&link) {
            link.peer_says_too_old = false; // It will say so again.
        }
        let _ = now;
    }

    pub(super) fn serve_repair(&mut self, link: LinkId, request: RepairRequest) {
        if request.begin {
            self.counters.repairs_served += 1;
            self.pins.insert(link, self.log.next_seq());
            self.outputs.push(Output::OpenSnapshot(link));
        } else if !self.pins.contains_key(&link) {
            return self.send(link, &Message::RepairRefused);
        }
        let RepairRequest { range, from, .. } = request;
        self.outputs.push(Output::ReadPart { link, range, from });
    }

    /// A served repair's last part was sent: the snapshot can go.
    pub fn repair_served(&mut self, link: LinkId) {
        if self.pins.remove(&link).is_some() {
            self.outputs.push(Output::DropSnapshot(link));
        }
    }

    pub(super) fn take_part(&mut self, link: LinkId, part: RepairPart) {
        let crdt_type = self.identity.crdt_type;
        let fits = part.objects.iter().all(|(key, entries)| {
            self.set.range_of(key) == part.range
                && entries.is_sorted_by(|a, b| a.0 < b.0)
                && entries.iter().all(|(name, _)| name_fits(crdt_type, name))
        });
        let own = self.identity.opening;
        let claims_own_writes = part.vector.get(&own) > self.seen().get(&own);
        let goes_on = part.to.is_none() || part.from < part.to;
        let Some(session) = &mut self.repairing.session else { return };
        if session.source != link {
            return;
        }
        let asked =
            session.part.is_none() && session.range == part.range && session.from == part.from;
        if !fits || !asked || !goes_on || claims_own_writes {
            return self.close(link, CloseReason::DamagedUnit);
        }
        let everywhere = session.everywhere.take();
        let is_news = everywhere.is_none() || !part.vector.is_covered_by(&session.anywhere);
        session.everywhere = Some(match everywhere {
            Some(everywhere) => everywhere.meet(&part.vector),
            None => part.vector.clone(),
        });
        session.anywhere.join(&part.vector);
        session.part = Some(part);
        if is_news {
            // Before the part: what is written from now on may have seen
            // anything that it brings.
            let anywhere = session.anywhere.clone();
            self.repair.merged.join(&anywhere);
            self.repair.target = anywhere.clone();
            self.pending.push(LogItem::Repair(anywhere));
            self.save_repair();
        }
    }

    pub(super) fn has_part_to_merge(&self) -> bool {
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
    pub(super) fn forget_listing(&mut self) {
        if let Some(session) = &mut self.repairing.session {
            session.local = None;
        }
    }

    /// Joins a piece of the part at hand. Waits until earlier changes are sealed.
    pub(super) fn merge_part(&mut self, now: Now) -> Result<bool, Missing> {
        let Some(session) = &self.repairing.session else { return Ok(false) };
        let Some(part) = &session.part else { return Ok(false) };
        if self.set.is_dirty() || !self.pending.is_empty() {
            // The listing is of what is committed: what is changed meanwhile
            // may not be in it.
            self.forget_listing();
            return Ok(false);
        }
        let Some(local) = &session.local else {
            let (range, from, to) = (part.range, part.from.clone(), part.to.clone());
            return Err(Missing(Read::Listing { range, from, to, limit: ENTRIES_PER_COMMIT }));
        };
        let (part, local) = (part.clone(), local.clone());
        let savepoint = self.set.savepoint();
        if let Err(missing) = self.join_part(&part, &local) {
            self.set.rollback(savepoint);
            return Err(missing);
        }
        let end = local.reached.clone().or_else(|| part.to.clone());
        self.credit(part.range, (part.from.as_ref(), end.as_ref()), &part.vector);
        if mutant::is(Mutant::AbsenceOutsideRange) {
            self.seen[0].1.join(&part.vector);
        }
        self.save_repair();
        if let Some(session) = &mut self.repairing.session {
            session.local = None;
            match local.reached {
                Some(reached) => {
                    if let Some(part) = &mut session.part {
                        part.from = Some(reached);
                    }
                }
                None => session.part = None,
            }
        }
        if !self.has_part_to_merge() {
            self.ask_next_part(part, now);
        }
        Ok(true)
    }

    fn join_part(&mut self, part: &RepairPart, local: &LocalListing) -> Result<(), Missing> {
        let wanted = part.objects.iter();
        let wanted = wanted.map(|(key, entries)| (key, entries.iter().map(|(name, _)| name)));
        self.set.require(wanted)?;
        let end = local.reached.as_ref().or(part.to.as_ref());
        let within = |key: &ObjectKey, name: &EntryKey| {
            let place = (&**key, name.as_bytes());
            let from = part.from.as_ref().is_none_or(|from| (&*from.key, &*from.entry) <= place);
            let to = end.is_none_or(|end| place < (&*end.key, &*end.entry));
            from && to
        };
        let mut theirs: std::collections::BTreeMap<(&ObjectKey, &EntryKey), Option<&Entry>> = local
            .objects
            .iter()
            .flat_map(|(key, names)| names.iter().map(move |name| ((key, name), None)))
            .filter(|_| !mutant::is(Mutant::RemovalLostWhileAway))
            .collect();
        for (key, entries) in &part.objects {
            for (name, entry) in entries {
                theirs.insert((key, name), Some(entry));
            }
        }
        let mut seen: Option<(&ObjectKey, Vec<(EntryRange, VersionVector)>)> = None;
        for ((key, name), theirs) in theirs {
            if !within(key, name) {
                continue;
            }
            if seen.as_ref().is_none_or(|(known, _)| *known != key) {
                seen = Some((key, self.seen_of(key)));
            }
            let contexts = seen.as_ref().map_or(&[][..], |(_, contexts)| contexts);
            let found = contexts.iter().find(|(range, _)| range.contains(name.as_bytes()));
            let Some((_, context)) = found else { continue };
            let context =
                if mutant::is(Mutant::LocalRemovalComesBack) { self.seen() } else { context };
            let ours = self.set.entry(key, name)?;
            let joined =
                Entry::join(owner_of(name), (ours.as_ref(), context), (theirs, &part.vector));
            self.set.replace_entry(key, name, ours.as_ref(), joined)?;
        }
        Ok(())
    }

    /// Joins `vector` to the context of an interval.
    fn credit(
        &mut self,
        range: u8,
        (from, to): (Option<&Position>, Option<&Position>),
        vector: &VersionVector,
    ) {
        let at = match self.repair.ranges.binary_search_by_key(&range, |(known, _)| *known) {
            Ok(at) => at,
            Err(at) => {
                self.repair.ranges.insert(at, (range, vec![(None, VersionVector::new())]));
                at
            }
        };
        credit_interval(&mut self.repair.ranges[at].1, (from, to), vector);
    }

    fn ask_next_part(&mut self, merged: RepairPart, now: Now) {
        let Some(session) = &mut self.repairing.session else { return };
        session.asked_ms = now.steady_ms;
        session.from = merged.to;
        if session.from.is_none() {
            session.range += 1;
        }
        let (source, range, from) = (session.source, session.range, session.from.clone());
        if usize::from(range) < RANGES {
            let request = RepairRequest { begin: false, range, from };
            return self.send(source, &Message::RepairRequest(request));
        }
        // Every range is complete: the group has seen what the source had seen
        // everywhere.
        let everywhere = session.everywhere.take().unwrap_or_default();
        self.repairing.session = None;
        self.seen[0].1.join(&everywhere);
        self.counters.repairs_completed += 1;
        for link in self.links.values_mut() {
            link.peer_says_too_old = false;
        }
        self.head_due = true;
        self.drop_finished_repair();
        if !self.repair.merged.is_empty() {
            self.save_repair();
        }
        self.retry_waiting();
    }

    /// Once the group's vector covers all that repairs brought, nothing is to
    /// be told apart by interval any more.
    fn drop_finished_repair(&mut self) {
        if self.repairing.session.is_none()
            && !self.repair.merged.is_empty()
            && self.repair.merged.is_covered_by(self.seen())
        {
            self.repair = crate::record::RepairRecord::default();
            self.extra_writes.push((RecordKey::Repair, None));
        }
    }

    fn save_repair(&mut self) {
        self.extra_writes.push((RecordKey::Repair, Some(self.repair.encode())));
    }
}

/// Makes `place` a border between two intervals.
fn split_at(intervals: &mut Intervals, place: Option<&Position>) {
    let Some(place) = place else { return };
    let inside = |end: &Option<Position>| end.as_ref().is_none_or(|end| end > place);
    let Some(at) = intervals.iter().position(|(end, _)| inside(end)) else { return };
    let starts_here = at > 0 && intervals[at - 1].0.as_ref() == Some(place);
    if !starts_here {
        let context = intervals[at].1.clone();
        intervals.insert(at, (Some(place.clone()), context));
    }
}

/// Joins `vector` to the context of what lies between two places.
fn credit_interval(
    intervals: &mut Intervals,
    (from, to): (Option<&Position>, Option<&Position>),
    vector: &VersionVector,
) {
    split_at(intervals, from);
    split_at(intervals, to);
    let mut start: Option<Position> = None;
    for (end, context) in intervals.iter_mut() {
        let begins = from.is_none_or(|from| start.as_ref().is_some_and(|start| start >= from));
        let ends = match (to, end.as_ref()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(to), Some(end)) => end <= to,
        };
        if begins && ends {
            context.join(vector);
        }
        start.clone_from(end);
    }
    intervals.dedup_by(|next, kept| {
        let same = next.1 == kept.1;
        if same {
            kept.0 = next.0.take();
        }
        same
    });
}

/// What was seen where each entry of `key` stands: `group`, and what intervals add.
fn contexts_of(
    intervals: &[(Option<Position>, VersionVector)],
    key: &ObjectKey,
    group: &VersionVector,
) -> Vec<(EntryRange, VersionVector)> {
    let mut seen = Vec::new();
    let mut from: Box<[u8]> = Box::default();
    for (end, context) in intervals {
        let to = match end {
            Some(end) if end.key < *key => continue,
            Some(end) if end.key == *key => Some(end.entry.clone()),
            _ => None,
        };
        if to.as_ref().is_some_and(|to| *to <= from) {
            continue;
        }
        let mut joined = group.clone();
        joined.join(context);
        seen.push((EntryRange { from, to: to.clone() }, joined));
        match to {
            Some(to) => from = to,
            None => return seen,
        }
    }
    seen.push((EntryRange { from, to: None }, group.clone()));
    seen
}

#[cfg(test)]
mod tests;
