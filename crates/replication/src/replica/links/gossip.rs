//! What is told of members that a peer has no link with.
//!
//! Each link carries at most one frame of it per round, of bounded size: only
//! members of whom there is news, in turns. Where everybody is linked with
//! everybody there is nothing to tell.
//!
//! What is told decides how long the log is kept, when floors of counters go
//! and what people are shown. It never decides what is joined, what is sent to a
//! peer, or who is dialled: about those a peer speaks for itself.

use std::collections::BTreeMap;

use coppice_crdt::{ActorId, VersionVector};

use crate::effect::{CloseReason, LinkId};
use crate::membership::{Member, Membership};
use crate::message::{MemberReport, Message};
use crate::replica::{Now, Replica};

/// A round takes the sync interval, but no less and no more than these.
const ROUND_MS: std::ops::RangeInclusive<u64> = 100..=1_000;

/// A member of whom there is nothing new but that it lives is told of again
/// after so long.
const ALIVE_AGAIN_MS: u64 = 10_000;

/// A frame is full once it holds so many bytes.
const FRAME_BYTES: usize = 16 << 10;

/// At most so many entries of one vector stand in one frame.
const VECTOR_ENTRIES: usize = 512;

/// What a peer was told of members, or told itself, on this connection.
#[derive(Debug, Default)]
pub(super) struct Told {
    of: BTreeMap<ActorId, ToldOf>,
    /// The last member that the last frame had room for, if it was full.
    after: Option<ActorId>,
    next_round_ms: u64,
}

#[derive(Debug, Default)]
struct ToldOf {
    report: u64,
    issued: u64,
    durable: VersionVector,
    at_ms: u64,
}

impl Told {
    /// Takes notice of what the peer says itself.
    fn heard(&mut self, report: &MemberReport, now_ms: u64) {
        let of = self.of.entry(report.opening).or_default();
        of.report = of.report.max(report.report);
        of.issued = of.issued.max(report.issued);
        of.durable.join(&report.durable);
        of.at_ms = now_ms;
    }

    /// What to tell now of one member, if there is news.
    fn news(&mut self, opening: ActorId, member: &Member, now_ms: u64) -> Option<MemberReport> {
        let issued = member.seen.get(&opening);
        let is_new = !self.of.contains_key(&opening);
        let of = self.of.entry(opening).or_default();
        let alive = member.report > of.report && now_ms >= of.at_ms.saturating_add(ALIVE_AGAIN_MS);
        let news = issued > of.issued || !member.durable.is_covered_by(&of.durable);
        if !(is_new || alive || news) {
            return None;
        }
        let risen = member.durable.iter().filter(|(actor, n)| *n > of.durable.get(actor));
        let durable: VersionVector = risen.take(VECTOR_ENTRIES).collect();
        of.durable.join(&durable);
        (of.report, of.issued, of.at_ms) = (member.report, issued, now_ms);
        Some(MemberReport {
            opening,
            store: member.store,
            opening_number: member.opening_number,
            name: member.name.clone(),
            report: member.report,
            age_ms: member.silent_ms(now_ms),
            issued,
            durable,
        })
    }

    /// The next frame's content, about members that `is_wanted`.
    fn next(
        &mut self,
        members: &Membership,
        is_wanted: impl Fn(&ActorId) -> bool,
        now_ms: u64,
    ) -> Vec<MemberReport> {
        self.of.retain(|opening, _| members.get(opening).is_some());
        let mut reports = Vec::new();
        let mut bytes = 0;
        for (&opening, member) in members.to_tell(self.after.take(), now_ms) {
            let Some(report) = Some(opening)
                .filter(&is_wanted)
                .and_then(|opening| self.news(opening, member, now_ms))
            else {
                continue;
            };
            // An actor in the table, numbers that take little, and a store.
            bytes += 48 + report.name.len() + 24 * report.durable.len();
            reports.push(report);
            if bytes >= FRAME_BYTES {
                self.after = Some(opening);
                break;
            }
        }
        reports
    }
}

impl Replica {
    pub(super) fn take_members(&mut self, link: LinkId, reports: &[MemberReport], now: Now) {
        let own = self.identity.opening;
        let made = self.seen().get(&own);
        if reports.iter().any(|report| report.durable.get(&own) > made) {
            // Nobody can have what was never made.
            return self.close(link, CloseReason::DamagedUnit);
        }
        for report in reports.iter().filter(|report| report.opening != own) {
            if let Some(link) = self.links.get_mut(&link) {
                link.told_members.heard(report, now.steady_ms);
            }
            self.members.told(report, now.steady_ms);
        }
        // What the peer speaks of and is not kept here is not to be remembered.
        if let Some(link) = self.links.get_mut(&link) {
            link.told_members.of.retain(|opening, _| self.members.get(opening).is_some());
        }
    }

    /// Tells the peer what is new about members that it has no link with.
    pub(super) fn tell_members(&mut self, id: LinkId, now: Now) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (Some(peer), Some(progress)) = (link.opening, &link.progress) else { return };
        let told = &mut link.told_members;
        if now.steady_ms < told.next_round_ms || !progress.has_reported_links() {
            return;
        }
        let round_ms = self.settings.interval_ms.clamp(*ROUND_MS.start(), *ROUND_MS.end());
        told.next_round_ms = now.steady_ms.saturating_add(round_ms);
        let is_wanted = |of: &ActorId| *of != peer && !progress.is_linked_with(of);
        let reports = told.next(&self.members, is_wanted, now.steady_ms);
        if !reports.is_empty() {
            self.send(id, &Message::Members(reports));
        }
    }
}

#[cfg(test)]
mod tests;
