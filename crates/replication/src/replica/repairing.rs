//! Repair by state: what the log of no peer can bring any more.
//!
//! The receiver pulls, from one snapshot of one source at a time: from the first
//! place where it lacks something on, in order, in parts. A part joins in one
//! commit with what the source had seen there as the context of its interval;
//! only there does absence prove removal. A source that is under repair itself
//! has seen more in some intervals than in others, and says so part by part.
//! Contexts of intervals are joined, never replaced or taken back: what was
//! removed here meanwhile leaves nothing but the context.
//!
//! What is committed of a repair stays, whatever becomes of its source: the next
//! session goes on where it ended, with any source that has what the repair is
//! to bring. So a large state gets here over links that drop, and few intervals
//! arise (`intervals` bounds them).
//!
//! The log holds the repair, with what the source had seen, before what it
//! brings: a peer takes what was written after it only once it has all that this
//! replica may have seen. `tests/model_repair.rs` and
//! `tests/model_mutual_repair.rs` check these rules and what breaks without them.

mod intervals;
mod joining;
mod serving;

use std::collections::BTreeMap;

use coppice_crdt::{EntryRange, VersionVector};

pub use serving::Contexts;
pub(super) use serving::Served;

use super::{Now, Replica};
use crate::effect::{CloseReason, LinkId};
use crate::message::{Message, RepairPart, RepairRequest};
use crate::record::{Intervals, Position, RANGES, RecordKey, RepairRecord};
use crate::unit::{ObjectKey, name_fits};
use intervals::{contexts_of, first_lacking};
pub use joining::LocalListing;

/// A part that does not come for so long is asked of somebody else, in milliseconds.
const PART_WAIT_MS: u64 = 30_000;

/// A source that brought nothing is not asked for so long, in milliseconds; twice
/// as long each time it happens again.
const FIRST_PAUSE_MS: u64 = 1_000;
const LONGEST_PAUSE_MS: u64 = 300_000;

/// A range and a place in it; `None`: its start.
type Place = (u8, Option<Position>);

/// Where all ranges begin.
const START: Place = (0, None);

/// Where the pulling of a repair stands. Lost when the replica is closed: what
/// is committed of it stays.
#[derive(Debug, Default)]
pub(super) struct Repairing {
    session: Option<Session>,
    /// Sources of sessions that are over, to be told after the next commit.
    ended: Vec<LinkId>,
    pauses: BTreeMap<LinkId, Pause>,
}

/// One source, one snapshot.
#[derive(Debug)]
struct Session {
    source: LinkId,
    /// What is to be seen everywhere before this session ends.
    wanted: VersionVector,
    /// What is being pulled.
    range: u8,
    from: Option<Position>,
    asked_ms: u64,
    /// All that the source said to have seen, in any part.
    anywhere: VersionVector,
    /// Whether a part brought something: ever, and since the start of all ranges.
    helped: bool,
    helped_in_lap: bool,
    part: Option<RepairPart>,
    local: Option<LocalListing>,
}

/// How long a source is left alone that could not help.
#[derive(Clone, Copy, Debug)]
struct Pause {
    times: u32,
    until_ms: u64,
}

impl Replica {
    /// Whether some of the state is not what the group's vector says.
    #[must_use]
    pub fn is_under_repair(&self) -> bool {
        !self.repair.merged.is_empty() || self.is_pulling()
    }

    /// Whether a source is being asked for parts.
    pub(super) const fn is_pulling(&self) -> bool {
        self.repairing.session.is_some()
    }

    /// What was seen where each entry of an object stands, by entry range.
    pub(super) fn seen_of(&self, key: &ObjectKey) -> Vec<(EntryRange, VersionVector)> {
        contexts_of(self.intervals_of(self.set.range_of(key)), key, self.seen())
    }

    /// The intervals of a range; none if no repair has reached it.
    fn intervals_of(&self, range: u8) -> &[(Option<Position>, VersionVector)] {
        let found = self.repair.ranges.binary_search_by_key(&range, |(known, _)| *known);
        found.ok().and_then(|at| self.repair.ranges.get(at)).map_or(&[], |(_, list)| list)
    }

    /// The first place from there on where less than `wanted` was seen.
    fn next_place(&self, (range, from): &Place, wanted: &VersionVector) -> Option<Place> {
        let group = self.seen();
        if wanted.is_covered_by(group) {
            return None;
        }
        let untouched = intervals::untouched();
        (*range..).take_while(|&at| usize::from(at) < RANGES).find_map(|at| {
            let from = from.as_ref().filter(|_| at == *range);
            let list = self.intervals_of(at);
            let list = if list.is_empty() { &untouched } else { list };
            first_lacking(list, (at, from), (wanted, group))
        })
    }

    /// Begins a repair if a peer said that only that helps, and none runs.
    pub(super) fn consider_repair(&mut self, now: Now) {
        self.drop_finished_repair();
        if let Some(session) = &self.repairing.session {
            let waited_ms = now.steady_ms.saturating_sub(session.asked_ms);
            if session.part.is_none() && waited_ms >= PART_WAIT_MS {
                self.end_session(now);
            }
            return;
        }
        let Some((source, offered)) = self.best_source(now) else { return };
        let Some((wanted, (range, from))) = self.plan(&offered) else {
            // It was right when it said so, and is not any more.
            return self.forget_offer(source);
        };
        self.repairing.session = Some(Session {
            source,
            wanted,
            range,
            from: from.clone(),
            asked_ms: now.steady_ms,
            anywhere: VersionVector::new(),
            helped: false,
            helped_in_lap: false,
            part: None,
            local: None,
        });
        let request = RepairRequest { begin: true, range, from };
        self.send(source, &Message::RepairRequest(request));
    }

    /// Of the peers that offered themselves: one that has all that was merged
    /// here, and then the one that has most that is not here.
    fn best_source(&self, now: Now) -> Option<(LinkId, VersionVector)> {
        let offers = self.members.iter().filter_map(|(_, member)| {
            let id = member.link?;
            let offers = self.links.get(&id).is_some_and(|link| link.peer_says_too_old);
            let paused = self.repairing.pauses.get(&id);
            let paused = paused.is_some_and(|pause| now.steady_ms < pause.until_ms);
            let finishes = self.repair.merged.is_covered_by(&member.seen);
            let more = member.seen.count_beyond(self.seen());
            (offers && !paused).then_some(((finishes, more, id), &member.seen))
        });
        let ((_, _, source), seen) = offers.max_by_key(|(rank, _)| *rank)?;
        Some((source, seen.clone()))
    }

    /// What a session with a source that has `offered` is to bring everywhere,
    /// and where it begins.
    ///
    /// That is what the last one was to bring, if the source has it: places that
    /// have it already are passed by. Else it is what the source has; or, if that
    /// is everywhere here, what was merged somewhere, of which a source under
    /// repair may have seen other places.
    fn plan(&self, offered: &VersionVector) -> Option<(VersionVector, Place)> {
        let target = Some(&self.repair.target).filter(|target| target.is_covered_by(offered));
        let wanted = target.into_iter().chain([offered, &self.repair.merged]);
        wanted
            .into_iter()
            .find_map(|wanted| Some((wanted.clone(), self.next_place(&START, wanted)?)))
    }

    fn forget_offer(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.peer_says_too_old = false; // It will say so again.
        }
    }

    /// The source of the repair is gone; what it brought stays.
    pub(super) fn source_lost(&mut self, link: LinkId) {
        self.repairing.pauses.remove(&link);
        self.repairing.ended.retain(|ended| *ended != link);
        if self.repairing.session.as_ref().is_some_and(|session| session.source == link) {
            self.repairing.session = None;
        }
    }

    /// The source serves no more.
    pub(super) fn repair_refused(&mut self, link: LinkId, now: Now) {
        if self.repairing.session.as_ref().is_some_and(|session| session.source == link) {
            self.end_session(now);
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
        if !fits || !goes_on || claims_own_writes {
            return self.close(link, CloseReason::DamagedUnit);
        }
        let Some(session) = &mut self.repairing.session else { return };
        let asked = session.source == link
            && session.part.is_none()
            && session.range == part.range
            && session.from == part.from;
        // What was asked for in a session that was given up may come late.
        if asked {
            session.anywhere.join(&part.vector);
            session.part = Some(part);
        }
    }

    /// Asks for what comes at `place` or behind it; where all ranges are through,
    /// begins anew with what could not be taken, or ends.
    fn ask_from(&mut self, place: &Place, now: Now) {
        let Some(session) = &self.repairing.session else { return };
        let next = self.next_place(place, &session.wanted).or_else(|| {
            // Not all that is wanted may be had from this source.
            let to_be_had = session.wanted.meet(&session.anywhere);
            let again = session.helped_in_lap.then(|| self.next_place(&START, &to_be_had));
            again.flatten()
        });
        let begins_anew = next.as_ref().is_some_and(|next| next < place);
        let Some(session) = &mut self.repairing.session else { return };
        let Some((range, from)) = next else { return self.end_session(now) };
        if begins_anew {
            session.helped_in_lap = false;
            session.wanted = session.wanted.meet(&session.anywhere);
        }
        session.asked_ms = now.steady_ms;
        session.range = range;
        session.from.clone_from(&from);
        let request = RepairRequest { begin: false, range, from };
        let source = session.source;
        self.send(source, &Message::RepairRequest(request));
    }

    /// No more is asked of the source. What is here everywhere by now, the group
    /// has seen.
    fn end_session(&mut self, now: Now) {
        self.raise_to_minimum();
        let Some(session) = self.repairing.session.take() else { return };
        let Session { source, wanted, anywhere, helped, .. } = session;
        self.repairing.ended.push(source);
        self.forget_offer(source);
        if helped && wanted.meet(&anywhere).is_covered_by(self.seen()) {
            self.counters.repairs_completed += 1;
            for link in self.links.values_mut() {
                link.peer_says_too_old = false;
            }
        }
        if helped {
            self.repairing.pauses.remove(&source);
        } else {
            let pause = Pause { times: 0, until_ms: 0 };
            let pause = self.repairing.pauses.entry(source).or_insert(pause);
            let pause_ms = FIRST_PAUSE_MS << pause.times.min(16);
            pause.until_ms = now.steady_ms.saturating_add(pause_ms.min(LONGEST_PAUSE_MS));
            pause.times += 1;
        }
        self.drop_finished_repair();
        self.retry_waiting();
    }

    /// Tells sources that they are asked for no more, and before that what is
    /// here now: their logs go on from there.
    pub(super) fn tell_ended(&mut self, now: Now) {
        for link in std::mem::take(&mut self.repairing.ended) {
            self.answer(link, now);
            self.send(link, &Message::RepairEnd);
        }
    }

    /// Joins what was seen in every interval to the group's vector.
    fn raise_to_minimum(&mut self) {
        if self.repair.ranges.len() < RANGES {
            return;
        }
        let contexts = self.repair.ranges.iter().flat_map(|(_, list)| list.iter());
        let least = contexts.map(|(_, context)| context.clone()).reduce(|a, b| a.meet(&b));
        if let Some(least) = least.filter(|least| !least.is_covered_by(self.seen())) {
            self.seen[0].1.join(&least);
            self.head_due = true;
        }
    }

    /// Once the group's vector covers all that repairs brought, nothing is to
    /// be told apart by interval any more.
    fn drop_finished_repair(&mut self) {
        if !self.is_pulling()
            && !self.repair.merged.is_empty()
            && self.repair.merged.is_covered_by(self.seen())
        {
            self.repair = RepairRecord::default();
            self.extra_writes.push((RecordKey::Repair, None));
        }
    }

    fn save_repair(&mut self) {
        self.extra_writes.push((RecordKey::Repair, Some(self.repair.encode())));
    }

    /// The intervals of a range, to be replaced.
    fn set_intervals(&mut self, range: u8, list: Intervals) {
        match self.repair.ranges.binary_search_by_key(&range, |(known, _)| *known) {
            Ok(at) => self.repair.ranges[at].1 = list,
            Err(at) => self.repair.ranges.insert(at, (range, list)),
        }
    }
}
