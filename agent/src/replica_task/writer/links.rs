//! The links to peers: frames out, frames in, and why a link is closed.
//!
//! The writer knows every link that is up by its queue. What a frame means is the
//! replica's business.

use std::collections::BTreeMap;

use bytes::Bytes;
use coppice_replication::{CloseReason as CoreReason, LinkId as CoreLink, Now};
use tracing::{debug, warn};

use super::{Answer, Writer};
use crate::engine::Engine;
use crate::peer::{CloseReason, LinkEvent, LinkId, Outbound, SendError};
use crate::store::Store;
use crate::store::keys::Slot;

/// A link is given another frame while so many bytes are free in its queue.
const ROOM_BYTES: usize = 512 << 10;

/// A link that is up.
pub(super) struct Link {
    /// Whose replica speaks on it.
    pub(super) slot: Slot,
    /// Its queue.
    pub(super) outbound: Outbound,
    /// The peer's address.
    pub(super) remote: String,
}

impl Link {
    /// Whether it takes another frame of deltas.
    pub(super) fn has_room(&self) -> bool {
        self.outbound.free_bytes() >= ROOM_BYTES || self.outbound.queued_bytes() == 0
    }

    /// Asks to be told when it takes one again.
    pub(super) fn ask_for_room(&self) {
        if !self.has_room() {
            self.outbound.request_room(ROOM_BYTES);
        }
    }
}

/// The links that are up.
pub(super) type Links = BTreeMap<CoreLink, Link>;

impl<S: Store> Writer<S> {
    pub(super) fn send(&mut self, engine: &mut Engine<S, Answer>, link: CoreLink, frame: Vec<u8>) {
        let Some(Link { outbound, remote, .. }) = self.links.get(&link) else { return };
        match outbound.try_send(Bytes::from(frame)) {
            Ok(()) | Err(SendError::Closed) => {}
            Err(_) => {
                // Answers cannot be left out, and this peer takes nothing: it
                // begins again with a new link.
                warn!(%remote, "a peer does not read: closing the link");
                outbound.close(CloseReason::Timeout);
                self.links.remove(&link);
                engine.link_down(link);
            }
        }
    }

    pub(super) fn close_link(&mut self, link: CoreLink, reason: CoreReason) {
        if let Some(Link { outbound, remote, .. }) = self.links.remove(&link) {
            let reason = transport_reason(reason);
            debug!(%remote, %reason, "closing a link");
            outbound.close(reason);
        }
    }

    pub(super) fn link_event(
        &mut self,
        engine: &mut Engine<S, Answer>,
        event: LinkEvent,
        now: Now,
    ) {
        match event {
            LinkEvent::Up(up) => {
                let served =
                    self.served.iter().find(|(_, served)| *served.spec.name == *up.group.as_str());
                let Some((&slot, served)) = served else {
                    return up.outbound.close(CloseReason::UnknownGroup);
                };
                if !up.identity.speaks_for(uuid::Uuid::from_bytes(served.spec.id)) {
                    return up.outbound.close(CloseReason::Unauthorised);
                }
                let link = CoreLink(up.link.0);
                let outbound = up.outbound;
                self.links.insert(link, Link { slot, outbound, remote: up.remote });
                engine.link_up(slot, link, up.dialled, now);
            }
            LinkEvent::Frame { link: LinkId(link), frame, permit } => {
                self.metrics.frames_received.inc();
                engine.receive(CoreLink(link), &frame, now);
                drop(permit);
            }
            LinkEvent::Room { .. } => {} // The round that follows looks at every link.
            LinkEvent::Down { link: LinkId(link), .. } => {
                self.links.remove(&CoreLink(link));
                engine.link_down(CoreLink(link));
            }
        }
    }
}

fn transport_reason(reason: CoreReason) -> CloseReason {
    match reason {
        CoreReason::GroupMismatch => CloseReason::GroupMismatch,
        CoreReason::TypeMismatch => CloseReason::TypeMismatch,
        CoreReason::Duplicate { kept } => CloseReason::Duplicate { kept: LinkId(kept.0) },
        CoreReason::SelfLink => CloseReason::SelfLink,
        CoreReason::UnsupportedVersion => CloseReason::UnsupportedVersion,
        CoreReason::OversizedFrame => CloseReason::OversizedFrame,
        CoreReason::MalformedFrame => CloseReason::MalformedFrame,
        CoreReason::UnexpectedMessage => CloseReason::UnexpectedMessage,
        CoreReason::DamagedUnit => CloseReason::DamagedUnit,
    }
}
