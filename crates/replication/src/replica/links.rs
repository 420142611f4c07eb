//! The conversation with each peer: handshake, deltas in and out, answers.

use std::sync::Arc;

use coppice_crdt::{ActorId, EntryDelta, VersionVector};

use super::{Now, Replica};
use crate::effect::{CloseReason, LinkId, Output};
use crate::membership::Member;
use crate::message::{Ack, Base, Delta, Hello, Message, PROTOCOL_VERSION, Want};
use crate::peer_progress::{PeerProgress, RelayRule, Serving};
use crate::record::{LogItem, LogRecord};
use crate::unit::Unit;
use crate::working_set::Missing;

/// Units that wait for what is before them: at most so many, of so many bytes.
const WAITING_UNITS: usize = 256;
const WAITING_BYTES: usize = 32 << 20;

/// A unit that waits this long makes its sender begin again, in milliseconds.
const GAP_MS: u64 = 100;

/// How long a replica's news are kept for one answer to an idle link, in milliseconds.
const IDLE_ACK_MS: u64 = 100;

/// A link carries something at least so often, in milliseconds.
const HEARTBEAT_MS: u64 = 1_000;

/// How often a peer is told again that the log does not reach back to it.
const TOO_OLD_AGAIN_MS: u64 = 2_000;

/// One connection to a peer.
#[derive(Debug)]
pub(super) struct Link {
    dialled: bool,
    /// The peer's opening, once it said hello.
    pub(super) opening: Option<ActorId>,
    progress: Option<PeerProgress>,
    /// Records before this are to be sent now; those behind wait for the interval.
    send_before: u64,
    next_round_ms: u64,
    // The receiving half.
    frames_taken: u64,
    frame_end: VersionVector,
    epoch: u32,
    /// A unit of this link was dropped, or waits, since then.
    gap_since_ms: Option<u64>,
    // What the peer was last told.
    told_frames: u64,
    told_seen: VersionVector,
    told_durable: VersionVector,
    told_links: Option<Vec<ActorId>>,
    told_ms: u64,
    told_too_old_ms: Option<u64>,
    /// The peer said that its log does not reach back to us.
    pub(super) peer_says_too_old: bool,
}

/// A unit whose base is not covered yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) link: LinkId,
    pub(super) base: VersionVector,
    pub(super) unit: Unit,
    pub(super) bytes: usize,
}

/// What the owner may want to know of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The peer's opening, once it said hello.
    pub opening: Option<ActorId>,
    /// Whether this side dialled.
    pub dialled: bool,
}

/// A member as this replica sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its opening.
    pub opening: ActorId,
    /// What is known of it.
    pub member: Member,
    /// Writes that are committed here and that it has not reported to have.
    pub lag_deltas: u64,
}

impl Replica {
    /// A connection to a peer is up; `dialled` by this side or not.
    pub fn link_up(&mut self, link: LinkId, dialled: bool, now: Now) {
        let state = Link {
            dialled,
            opening: None,
            progress: None,
            send_before: 0,
            next_round_ms: now.steady_ms,
            frames_taken: 0,
            frame_end: VersionVector::new(),
            epoch: 0,
            gap_since_ms: None,
            told_frames: 0,
            told_seen: self.visible.clone(),
            told_durable: self.durable.clone(),
            told_links: None,
            told_ms: now.steady_ms,
            told_too_old_ms: None,
            peer_says_too_old: false,
        };
        self.links.insert(link, state);
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            group_id: self.identity.group_id,
            crdt_type: self.identity.crdt_type,
            store: self.identity.store,
            opening: self.identity.opening,
            opening_number: self.identity.opening_number,
            name: Arc::clone(&self.identity.name),
            vector: self.visible.clone(),
            durable: self.durable.clone(),
            clock_ms: now.wall_ms,
        };
        self.send(link, &Message::Hello(hello));
    }

    /// A connection is down.
    pub fn link_down(&mut self, link: LinkId) {
        if self.links.remove(&link).is_none() {
            return;
        }
        self.members.disconnected(link);
        self.waiting.retain(|waiting| waiting.link != link);
        self.waiting_bytes = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        if self.pins.remove(&link).is_some() {
            self.outputs.push(Output::DropSnapshot(link));
        }
        self.source_lost(link);
    }

    pub(super) fn close(&mut self, link: LinkId, reason: CloseReason) {
        self.link_down(link);
        self.outputs.push(Output::Close(link, reason));
    }

    /// Takes a frame from a link. Deltas wait for [`Replica::step`].
    pub fn receive(&mut self, link: LinkId, frame: &[u8], now: Now) {
        if !self.links.contains_key(&link) {
            return;
        }
        let message = match Message::decode(frame) {
            Ok(message) => message,
            Err(error) => return self.close_damaged(link, error),
        };
        let greeted = self.links.get(&link).is_some_and(|link| link.opening.is_some());
        match message {
            Message::Hello(hello) if !greeted => self.greeted(link, hello, now),
            Message::Delta(delta) if greeted => self.take_delta(link, delta, frame.len(), now),
            Message::Ack(ack) if greeted => self.take_ack(link, ack, now),
            Message::Want(want) if greeted => {
                if let Some((progress, log)) = self.progress(link) {
                    progress.restart(want.epoch, want.vector, log);
                }
                self.wake(link);
            }
            Message::TooOld if greeted => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.peer_says_too_old = true;
                }
                self.consider_repair(now);
            }
            Message::RepairRequest(request) if greeted => self.serve_repair(link, request),
            Message::RepairPart(part) if greeted => self.take_part(link, part),
            Message::RepairRefused if greeted => self.repair_refused(link, now),
            _ => self.close(link, CloseReason::UnexpectedMessage),
        }
    }

    fn progress(
        &mut self,
        link: LinkId,
    ) -> Option<(&mut PeerProgress, &crate::arrival_log::ArrivalLog)> {
        Some((self.links.get_mut(&link)?.progress.as_mut()?, &self.log))
    }

    fn greeted(&mut self, link: LinkId, hello: Hello, now: Now) {
        if hello.group_id != self.identity.group_id {
            return self.close(link, CloseReason::GroupMismatch);
        }
        if hello.crdt_type != self.identity.crdt_type {
            return self.close(link, CloseReason::TypeMismatch);
        }
        if hello.opening == self.identity.opening {
            return self.close(link, CloseReason::SelfLink);
        }
        if let Some(other) = self.link_to(hello.opening) {
            // Both sides keep the link that the lower opening dialled; of two
            // by the same side, the newer.
            let keep_dialled = self.identity.opening < hello.opening;
            let dialled = |id| self.links.get(&id).map(|link: &Link| link.dialled);
            let keeps_other =
                dialled(other) == Some(keep_dialled) && dialled(link) != Some(keep_dialled);
            if keeps_other {
                return self.close(link, CloseReason::Duplicate);
            }
            self.close(other, CloseReason::Duplicate);
        }
        self.heard_anyone = true;
        let member = Member {
            store: hello.store,
            opening_number: hello.opening_number,
            name: hello.name,
            seen: hello.vector.clone(),
            durable: hello.durable.clone(),
            link: Some(link),
            heard_ms: now.steady_ms,
            skew_ms: skew_ms(hello.clock_ms, now.wall_ms),
        };
        self.members.connected(hello.opening, member);
        let progress = PeerProgress::new(hello.vector, hello.durable, &self.log);
        if let Some(state) = self.links.get_mut(&link) {
            state.opening = Some(hello.opening);
            state.progress = Some(progress);
        }
        self.wake(link);
        self.tell_too_old(link, now);
        self.note_started();
    }

    fn link_to(&self, opening: ActorId) -> Option<LinkId> {
        let linked = self.links.iter().find(|(_, link)| link.opening == Some(opening));
        linked.map(|(&link, _)| link)
    }

    pub(super) fn note_started(&mut self) {
        let here = &self.visible;
        self.started |= self.members.iter().any(|(_, member)| member.seen.is_covered_by(here));
    }

    fn take_delta(&mut self, link: LinkId, delta: Delta, bytes: usize, now: Now) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.frames_taken += 1;
        if delta.epoch != state.epoch {
            return; // Sent before the peer knew that it is to begin again.
        }
        let base = match delta.base {
            Base::Continued(risen) => {
                let mut base = std::mem::take(&mut state.frame_end);
                base.join(&risen);
                base
            }
            Base::Exact(base) => base,
        };
        state.frame_end = base.clone();
        delta.unit.raise(&mut state.frame_end);
        state.peer_says_too_old = false;
        let runs_follow_base =
            delta.unit.covers.iter().all(|cover| cover.after <= base.get(&cover.actor));
        if !runs_follow_base || delta.unit.check(self.identity.crdt_type).is_err() {
            return self.close(link, CloseReason::DamagedUnit);
        }
        self.counters.deltas_received += delta.unit.writes();
        if base.is_covered_by(self.seen()) {
            self.inbox.push_back((link, delta.unit, base));
        } else {
            self.keep_waiting(Waiting { link, base, unit: delta.unit, bytes }, now);
        }
    }

    fn keep_waiting(&mut self, waiting: Waiting, now: Now) {
        if let Some(state) = self.links.get_mut(&waiting.link) {
            state.gap_since_ms.get_or_insert(now.steady_ms);
        }
        let full = self.waiting.len() >= WAITING_UNITS
            || self.waiting_bytes + waiting.bytes > WAITING_BYTES;
        if !full {
            self.waiting_bytes += waiting.bytes;
            self.waiting.push_back(waiting);
        }
    }

    /// Whether [`Replica::step`] has something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.inbox.is_empty() || self.has_part_to_merge()
    }

    /// Joins one received unit, or a piece of a repair part, into the state.
    /// Returns whether it did something; a piece of a repair waits until all
    /// earlier changes are sealed.
    ///
    /// # Errors
    ///
    /// [`Missing`]: supply it and call again; nothing was changed.
    pub fn step(&mut self, now: Now) -> Result<bool, Missing> {
        let Some((link, unit, base)) = self.inbox.pop_front() else {
            return self.merge_part(now);
        };
        if !base.is_covered_by(self.seen()) {
            let bytes = 64 * unit.objects.len();
            self.keep_waiting(Waiting { link, base, unit, bytes }, now);
            return Ok(true);
        }
        if unit.is_covered_by(self.seen()) {
            return Ok(true);
        }
        let savepoint = self.set.savepoint();
        if let Err(missing) = self.join_unit(&unit) {
            self.set.rollback(savepoint);
            self.inbox.push_front((link, unit, base));
            return Err(missing);
        }
        self.observe_stamps(&unit, now);
        let before = self.seen().clone();
        self.raise_seen(&unit);
        self.counters.deltas_merged += self.seen().count_beyond(&before);
        self.pending.push(LogItem::Unit(unit));
        self.retry_waiting();
        Ok(true)
    }

    fn join_unit(&mut self, unit: &Unit) -> Result<(), Missing> {
        for (key, delta) in &unit.objects {
            if self.is_under_repair() {
                let seen = self.seen_of(key);
                self.set.join_delta(key, delta, &seen)?;
            } else {
                self.set.join_delta(key, delta, &self.seen)?;
            }
        }
        Ok(())
    }

    fn observe_stamps(&mut self, unit: &Unit, now: Now) {
        let changes = unit.objects.values().flat_map(|delta| delta.entries.values());
        for change in changes {
            if let EntryDelta::Versions { written, .. } = change {
                for version in written {
                    self.clock.observe(version.stamp, now.wall_ms);
                }
            }
        }
    }

    /// Moves units whose base is covered by now to the inbox.
    pub(super) fn retry_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut still = std::collections::VecDeque::new();
        while let Some(waiting) = self.waiting.pop_front() {
            if waiting.base.is_covered_by(&self.seen[0].1) {
                self.waiting_bytes -= waiting.bytes;
                self.inbox.push_back((waiting.link, waiting.unit, waiting.base));
            } else {
                still.push_back(waiting);
            }
        }
        self.waiting = still;
    }

    fn take_ack(&mut self, link: LinkId, ack: Ack, now: Now) {
        let Some((progress, log)) = self.progress(link) else { return };
        progress.acknowledged((&ack.seen, &ack.durable), ack.frames, log);
        if let Some(links) = ack.links {
            progress.peer_links(links);
        }
        let seen = progress.seen().clone();
        let durable = progress.durable().clone();
        if seen == self.visible && self.visible == *self.seen() && !self.is_under_repair() {
            let differs = ack.digest.is_some_and(|digest| digest != self.digest());
            self.counters.digest_mismatches += u64::from(differs);
        }
        let opening = self.links.get(&link).and_then(|link| link.opening);
        if let Some(member) = opening.and_then(|opening| self.members.get_mut(&opening)) {
            member.seen = seen;
            member.durable = durable;
            member.heard_ms = now.steady_ms;
            member.skew_ms = skew_ms(ack.clock_ms, now.wall_ms);
        }
        self.tell_too_old(link, now);
        self.note_started();
    }

    /// Says that the log does not reach back to the peer, if so.
    fn tell_too_old(&mut self, link: LinkId, now: Now) {
        let repairing = self.is_under_repair();
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(progress) = &state.progress else { return };
        if progress.serving() == Serving::FromLog {
            state.told_too_old_ms = None;
            return;
        }
        let again = state
            .told_too_old_ms
            .is_none_or(|told| now.steady_ms.saturating_sub(told) >= TOO_OLD_AGAIN_MS);
        // Who is under repair itself is no source.
        if again && !repairing {
            state.told_too_old_ms = Some(now.steady_ms);
            self.send(link, &Message::TooOld);
        }
    }

    fn wake(&mut self, link: LinkId) {
        let next_seq = self.log.next_seq();
        if let Some(link) = self.links.get_mut(&link) {
            link.send_before = next_seq;
        }
    }

    /// All that is in the log is to be sent now.
    pub fn sync_now(&mut self) {
        let next_seq = self.log.next_seq();
        for link in self.links.values_mut() {
            link.send_before = next_seq;
        }
    }

    pub(super) fn wake_links(&mut self, now: Now) {
        if self.settings.eager {
            self.sync_now();
        }
        self.note_started();
        self.answer_frames(now);
    }

    pub(super) fn note_durable(&mut self, _now: Now) {}

    /// Links that took frames since their last answer get one.
    fn answer_frames(&mut self, now: Now) {
        let due = self.links.iter().filter(|(_, link)| link.frames_taken > link.told_frames);
        for link in due.map(|(&link, _)| link).collect::<Vec<_>>() {
            self.answer(link, now);
        }
    }

    fn answer(&mut self, id: LinkId, now: Now) {
        let digest =
            (!self.is_under_repair() && self.visible == *self.seen()).then(|| self.digest());
        let linked: Vec<ActorId> = self.members.linked().collect();
        let Some(link) = self.links.get_mut(&id) else { return };
        let risen = |now: &VersionVector, told: &VersionVector| {
            now.iter().filter(|(actor, n)| *n > told.get(actor)).collect::<VersionVector>()
        };
        let ack = Ack {
            frames: link.frames_taken,
            seen: risen(&self.visible, &link.told_seen),
            durable: risen(&self.durable, &link.told_durable),
            digest,
            links: (link.told_links.as_ref() != Some(&linked)).then(|| linked.clone()),
            clock_ms: now.wall_ms,
        };
        link.told_frames = link.frames_taken;
        link.told_seen.clone_from(&self.visible);
        link.told_durable.clone_from(&self.durable);
        link.told_links = Some(linked);
        link.told_ms = now.steady_ms;
        self.send(id, &Message::Ack(ack));
    }

    /// Links that have something to send, and the log record each wants next.
    /// For each, the owner reads records from there on (at most about
    /// [`crate::FRAME_BYTES`], at least one) and calls [`Replica::supply_records`];
    /// it asks again until nothing is wanted. A link whose queue is full is left out.
    #[must_use]
    pub fn wanted_records(&self) -> Vec<(LinkId, u64)> {
        let wants = |link: &Link| {
            let seq = link.progress.as_ref()?.wants_records_from(&self.log)?;
            (seq < link.send_before).then_some(seq)
        };
        self.links.iter().filter_map(|(&id, link)| Some((id, wants(link)?))).collect()
    }

    /// The records a link wanted, in order.
    pub fn supply_records(&mut self, id: LinkId, records: &[(u64, LogRecord)], now: Now) {
        let own = self.identity.opening;
        let rule = RelayRule { own, now_ms: now.steady_ms, hold_ms: self.settings.interval_ms };
        let Some((progress, _)) = self.progress(id) else { return };
        let frame = progress.next_frame(records, rule);
        match frame {
            Some(delta) => {
                self.counters.deltas_sent += delta.unit.writes();
                self.send(id, &Message::Delta(delta));
            }
            None => self.tell_too_old(id, now),
        }
    }

    /// Lets time pass: rounds of sending, answers, gaps, trims, repairs. To be
    /// called every 50 ms or so; a late call does no harm.
    pub fn tick(&mut self, now: Now) {
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.tick_link(id, now);
        }
        self.trim(now);
        self.consider_repair(now);
    }

    fn tick_link(&mut self, id: LinkId, now: Now) {
        let (next_seq, interval_ms) = (self.log.next_seq(), self.settings.interval_ms);
        let Some(link) = self.links.get_mut(&id) else { return };
        if now.steady_ms >= link.next_round_ms {
            link.next_round_ms = now.steady_ms + interval_ms;
            link.send_before = next_seq;
        }
        if let Some(progress) = &mut link.progress {
            progress.release_held(now.steady_ms);
        }
        let idle_ms = now.steady_ms.saturating_sub(link.told_ms);
        let news = link.told_seen != self.visible || link.told_durable != self.durable;
        let greeted = link.opening.is_some();
        if greeted && (idle_ms >= HEARTBEAT_MS || (news && idle_ms >= IDLE_ACK_MS)) {
            self.answer(id, now);
            self.tell_too_old(id, now);
        }
        self.mend_gap(id, now);
    }

    /// A unit that waits too long, or had to be dropped, makes its sender begin again.
    fn mend_gap(&mut self, id: LinkId, now: Now) {
        let waits = self.waiting.iter().any(|waiting| waiting.link == id);
        let visible = self.visible.clone();
        let under_repair = self.is_under_repair();
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(since) = link.gap_since_ms else { return };
        if now.steady_ms.saturating_sub(since) < GAP_MS || under_repair {
            return;
        }
        link.gap_since_ms = None;
        let covered = link.frame_end.is_covered_by(&visible);
        if !waits && covered {
            return;
        }
        link.epoch += 1;
        link.frame_end = VersionVector::new();
        let want = Want { epoch: link.epoch, vector: visible };
        self.waiting.retain(|waiting| waiting.link != id);
        self.waiting_bytes = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        self.send(id, &Message::Want(want));
    }

    fn trim(&mut self, now: Now) {
        let pinned = self.pins.values().copied().min().unwrap_or(u64::MAX);
        let first = self.log.first_seq();
        let mut trimmed = None;
        if let Some(everywhere) = self.members.durable_everywhere() {
            let here = everywhere.meet(&self.durable);
            trimmed = self.log.trim_covered(&here, pinned);
        }
        let room = if pinned == u64::MAX { 1 } else { 2 };
        let oldest_ms = now.wall_ms.saturating_sub(self.settings.log_age_ms * room);
        let capped = self.log.trim_to_caps(self.settings.log_bytes * room, oldest_ms);
        let Some(new_first) = capped.or(trimmed) else { return };
        self.counters.trims += 1;
        let gone = (first..new_first).map(|seq| (crate::record::RecordKey::Log(seq), None));
        self.extra_writes.extend(gone);
        self.head_due = true;
        for link in self.links.values_mut() {
            if let Some(progress) = &mut link.progress {
                progress.log_was_trimmed(&self.log);
            }
        }
    }

    /// The members as this replica sees them.
    #[must_use]
    pub fn members(&self) -> Vec<MemberView> {
        let view = |(&opening, member): (&ActorId, &Member)| MemberView {
            opening,
            lag_deltas: self.visible.count_beyond(&member.seen),
            member: member.clone(),
        };
        self.members.iter().map(view).collect()
    }

    /// One link.
    #[must_use]
    pub fn link_status(&self, link: LinkId) -> Option<LinkStatus> {
        let link = self.links.get(&link)?;
        Some(LinkStatus { opening: link.opening, dialled: link.dialled })
    }
}

fn skew_ms(theirs: u64, ours: u64) -> i64 {
    i64::try_from(i128::from(theirs) - i128::from(ours)).unwrap_or(i64::MAX)
}
