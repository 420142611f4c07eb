//! The conversation with each peer: handshake, deltas in and out, answers.

mod exchanging;
mod gossip;
mod receiving;
mod sending;

use std::sync::Arc;

use coppice_crdt::{ActorId, VersionVector};

pub use exchanging::Traffic;
pub(super) use receiving::Waiting;

use super::{Now, Replica};
use crate::arrival_log::ArrivalLog;
use crate::effect::{CloseReason, LinkId, Output};
use crate::membership::{Member, steady};
use crate::message::{Hello, Message, OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION};
use crate::peer_progress::PeerProgress;
use exchanging::Exchanges;

/// How long a replica's news are kept for one answer to an idle link, in milliseconds.
const IDLE_ACK_MS: u64 = 100;

/// A link carries something at least so often, in milliseconds.
const HEARTBEAT_MS: u64 = 1_000;

/// One connection to a peer.
#[derive(Debug)]
pub(super) struct Link {
    dialled: bool,
    /// The peer's opening, once it said hello.
    pub(super) opening: Option<ActorId>,
    /// The version that frames are sent in: the highest that both sides speak.
    pub(super) version: u8,
    progress: Option<PeerProgress>,
    /// Records before this are to be sent now; those behind wait for the interval.
    send_before: u64,
    /// When all was last sent whatever `eager` says; `None`: not yet.
    last_round_ms: Option<u64>,
    // The receiving half.
    frames_taken: u64,
    frame_end: VersionVector,
    epoch: u32,
    /// Since when a unit of this link is missing because there was no room to keep it.
    dropped_since_ms: Option<u64>,
    // What the peer was last told.
    told_frames: u64,
    told_seen: VersionVector,
    told_durable: VersionVector,
    told_links: Option<Vec<ActorId>>,
    told_ms: u64,
    told_too_old_ms: Option<u64>,
    told_members: gossip::Told,
    /// The peer said that its log does not reach back to us.
    pub(super) peer_says_too_old: bool,
    exchanges: Exchanges,
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
    /// What passed over the link with it, if there is one.
    pub traffic: Traffic,
}

impl Replica {
    /// A connection to a peer is up; `dialled` by this side or not.
    pub fn link_up(&mut self, link: LinkId, dialled: bool, now: Now) {
        let state = Link {
            dialled,
            opening: None,
            version: PROTOCOL_VERSION,
            progress: None,
            send_before: 0,
            last_round_ms: None,
            frames_taken: 0,
            frame_end: VersionVector::new(),
            epoch: 0,
            dropped_since_ms: None,
            told_frames: 0,
            told_seen: self.visible.clone(),
            told_durable: self.durable.clone(),
            told_links: None,
            told_ms: now.steady_ms,
            told_too_old_ms: None,
            told_members: gossip::Told::default(),
            peer_says_too_old: false,
            exchanges: Exchanges::default(),
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
        self.stop_serving(link);
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
            Message::RepairRequest(request) if greeted => self.serve_repair(link, request, now),
            Message::RepairPart(part) if greeted => self.take_part(link, part),
            Message::RepairRefused if greeted => self.repair_refused(link, now),
            Message::Exchange(exchange) if greeted => self.take_exchange(link, exchange, now),
            Message::Members(reports) if greeted => self.take_members(link, &reports, now),
            Message::RepairEnd if greeted => self.repair_ended(link, now),
            _ => self.close(link, CloseReason::UnexpectedMessage),
        }
    }

    fn progress(&mut self, link: LinkId) -> Option<(&mut PeerProgress, &ArrivalLog)> {
        Some((self.links.get_mut(&link)?.progress.as_mut()?, &self.log))
    }

    fn greeted(&mut self, link: LinkId, hello: Hello, now: Now) {
        if hello.protocol < OLDEST_PROTOCOL_VERSION {
            return self.close(link, CloseReason::UnsupportedVersion);
        }
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
                return self.close(link, CloseReason::Duplicate { kept: other });
            }
            self.close(other, CloseReason::Duplicate { kept: link });
        }
        self.start.heard_anyone = true;
        let hello = self.members.reported(hello);
        let member = Member {
            store: hello.store,
            opening_number: hello.opening_number,
            name: hello.name,
            seen: hello.vector.clone(),
            durable: hello.durable.clone(),
            report: self.members.get(&hello.opening).map_or(0, |known| known.report),
            said_hello: true,
            link: Some(link),
            heard_ms: steady(now.steady_ms),
            skew_ms: skew_ms(hello.clock_ms, now.wall_ms),
        };
        self.members.connected(hello.opening, member);
        let progress = PeerProgress::new(hello.opening, (hello.vector, hello.durable), &self.log);
        if let Some(state) = self.links.get_mut(&link) {
            state.opening = Some(hello.opening);
            state.version = hello.protocol.min(PROTOCOL_VERSION);
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
        let mut greeted = self.members.iter().filter(|(_, member)| member.said_hello);
        self.start.reached_peer |= greeted.any(|(_, member)| member.seen.is_covered_by(here));
    }

    /// Lets time pass: rounds of sending, answers, gaps, trims, repairs. To be
    /// called every 50 ms or so; a late call does no harm.
    pub fn tick(&mut self, now: Now) {
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.tick_link(id, now);
        }
        self.members.forget_silent(now.steady_ms);
        self.settle_floors();
        self.expire_served(now);
        self.trim(now);
        self.consider_repair(now);
    }

    fn tick_link(&mut self, id: LinkId, now: Now) {
        let (next_seq, interval_ms) = (self.log.next_seq(), self.settings.interval_ms);
        let Some(link) = self.links.get_mut(&id) else { return };
        let since_round_ms = link.last_round_ms.map(|last| now.steady_ms.saturating_sub(last));
        if since_round_ms.is_none_or(|since| since >= interval_ms) {
            link.last_round_ms = Some(now.steady_ms);
            link.send_before = next_seq;
        }
        if let Some(progress) = &mut link.progress {
            progress.release_held(now.steady_ms);
        }
        let idle_ms = now.steady_ms.saturating_sub(link.told_ms);
        let news = link.told_seen != self.visible
            || link.told_durable != self.durable
            || link.told_frames != link.frames_taken;
        let greeted = link.opening.is_some();
        if greeted && (idle_ms >= HEARTBEAT_MS || (news && idle_ms >= IDLE_ACK_MS)) {
            self.answer(id, now);
            self.tell_too_old(id, now);
        }
        self.tell_members(id, now);
        self.mend_gap(id, now);
    }

    /// The members as this replica sees them.
    #[must_use]
    pub fn members(&self) -> Vec<MemberView> {
        let view = |(&opening, member): (&ActorId, &Member)| MemberView {
            opening,
            lag_deltas: self.visible.count_beyond(&member.seen),
            traffic: self.traffic(member.link),
            member: member.clone(),
        };
        self.members.iter().map(view).collect()
    }

    fn traffic(&self, link: Option<LinkId>) -> Traffic {
        let link = link.and_then(|link| self.links.get(&link));
        link.map_or_else(Traffic::default, |link| link.exchanges.traffic(&self.visible))
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
