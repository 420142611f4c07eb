//! What goes out over a link: log records as deltas, answers, and that the log
//! does not reach back.

use coppice_crdt::{ActorId, VersionVector};

use super::{Link, skew_ms};
use crate::effect::LinkId;
use crate::membership::steady;
use crate::message::{Ack, Message};
use crate::peer_progress::{RelayRule, Serving};
use crate::record::{LogRecord, RecordKey};
use crate::replica::{Now, Replica};

/// How often a peer is told again that the log does not reach back to it.
const TOO_OLD_AGAIN_MS: u64 = 2_000;

impl Replica {
    pub(super) fn take_ack(&mut self, link: LinkId, ack: Ack, now: Now) {
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
            member.report = member.report.max(ack.report);
            member.heard_ms = steady(now.steady_ms);
            member.skew_ms = skew_ms(ack.clock_ms, now.wall_ms);
        }
        self.tell_too_old(link, now);
        self.note_started();
    }

    /// Says that the log does not reach back to the peer, if so.
    pub(super) fn tell_too_old(&mut self, link: LinkId, now: Now) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(progress) = &state.progress else { return };
        if progress.serving(now.steady_ms) == Serving::FromLog {
            state.told_too_old_ms = None;
            return;
        }
        let again = state
            .told_too_old_ms
            .is_none_or(|told| now.steady_ms.saturating_sub(told) >= TOO_OLD_AGAIN_MS);
        if again {
            state.told_too_old_ms = Some(now.steady_ms);
            self.send(link, &Message::TooOld);
        }
    }

    pub(super) fn wake(&mut self, link: LinkId) {
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

    pub(in crate::replica) fn wake_links(&mut self, now: Now) {
        if self.settings.eager {
            self.sync_now();
        }
        self.note_started();
        self.answer_frames(now);
    }

    /// Links that were not told what is on disk by now are.
    pub(in crate::replica) fn tell_durable(&mut self, now: Now) {
        let due = self
            .links
            .iter()
            .filter(|(_, link)| link.opening.is_some() && link.told_durable != self.durable);
        for link in due.map(|(&link, _)| link).collect::<Vec<_>>() {
            self.answer(link, now);
        }
    }

    /// Links that took frames since their last answer get one.
    fn answer_frames(&mut self, now: Now) {
        let due = self.links.iter().filter(|(_, link)| link.frames_taken > link.told_frames);
        for link in due.map(|(&link, _)| link).collect::<Vec<_>>() {
            self.answer(link, now);
        }
    }

    pub(in crate::replica) fn answer(&mut self, id: LinkId, now: Now) {
        let digest =
            (!self.is_under_repair() && self.visible == *self.seen()).then(|| self.digest());
        let linked: Vec<ActorId> = self.members.linked().collect();
        let Some(link) = self.links.get_mut(&id) else { return };
        let risen = |now: &VersionVector, told: &VersionVector| {
            now.iter().filter(|(actor, n)| *n > told.get(actor)).collect::<VersionVector>()
        };
        self.reports += 1;
        let ack = Ack {
            report: self.reports,
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
    /// [`crate::ReplicaSettings::frame_bytes`], at least one) and calls [`Replica::supply_records`];
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
        let rule = RelayRule {
            own,
            now_ms: now.steady_ms,
            hold_ms: self.settings.interval_ms,
            frame_bytes: self.settings.frame_bytes,
        };
        let Some((progress, _)) = self.progress(id) else { return };
        let frame = progress.next_frame(records, rule);
        match frame {
            Some(delta) => {
                self.counters.deltas_sent += delta.unit.writes();
                if let Some(link) = self.links.get_mut(&id) {
                    link.exchanges.sent += delta.unit.writes();
                }
                self.send(id, &Message::Delta(delta));
            }
            None => self.tell_too_old(id, now),
        }
    }

    pub(super) fn trim(&mut self, now: Now) {
        let pinned = self.pinned().unwrap_or(u64::MAX);
        let first = self.log.first_seq();
        let mut trimmed = None;
        if let Some(everywhere) = self.members.durable_everywhere() {
            let here = everywhere.meet(&self.durable);
            trimmed = self.log.trim_covered(&here, pinned);
        }
        let room = if pinned == u64::MAX { 1 } else { 2 };
        let oldest_ms = now.wall_ms.saturating_sub(self.settings.log_age_ms.saturating_mul(room));
        let capped = self.log.trim_to_caps(self.settings.log_bytes.saturating_mul(room), oldest_ms);
        let Some(new_first) = capped.or(trimmed) else { return };
        self.counters.trims += 1;
        let gone = (first..new_first).map(|seq| (RecordKey::Log(seq), None));
        self.extra_writes.extend(gone);
        self.head_due = true;
        for link in self.links.values_mut() {
            if let Some(progress) = &mut link.progress {
                progress.log_was_trimmed(&self.log);
            }
        }
    }
}
