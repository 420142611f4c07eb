//! Exchanges that somebody waits for: a round of sending in both directions, now,
//! and knowing when each peer's part of it is here.
//!
//! The asking side sends all it has and an [`Exchange`] with a number. The asked
//! side answers with what it has by then (an [`Ack`](crate::message::Ack)), the
//! number, and all that the other lacks. An exchange is over with a peer once the
//! vector of its answer is covered here.

use coppice_crdt::VersionVector;

use crate::effect::LinkId;
use crate::message::{Exchange, Message};
use crate::replica::{Now, Replica};

/// What passed over the live link with a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Writes in the frames sent to it.
    pub sent: u64,
    /// Writes in the frames taken from it, known ones included.
    pub received: u64,
    /// The latest exchange whose answer is here, with all that it announced.
    pub exchanged: Option<u64>,
}

/// The exchanges over one link.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// The number of the last answer, and what the peer had then.
    answered: Option<(u64, VersionVector)>,
}

impl Exchanges {
    pub(super) fn traffic(&self, here: &VersionVector) -> Traffic {
        let over = self.answered.as_ref().filter(|(_, theirs)| theirs.is_covered_by(here));
        Traffic {
            sent: self.sent,
            received: self.received,
            exchanged: over.map(|(number, _)| *number),
        }
    }
}

impl Replica {
    /// Sends all that is in the log to every linked peer, and asks each for what
    /// is missing here. It is over with a peer once its [`Traffic`] says so of
    /// the number returned.
    pub fn exchange_now(&mut self) -> u64 {
        self.last_exchange += 1;
        let number = self.last_exchange;
        let greeted = self.links.iter().filter(|(_, link)| link.opening.is_some());
        for link in greeted.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.send_all(link);
            self.send(link, &Message::Exchange(Exchange { number, answers: false }));
        }
        number
    }

    pub(super) fn take_exchange(&mut self, id: LinkId, exchange: Exchange, now: Now) {
        let Exchange { number, answers } = exchange;
        if !answers {
            self.answer(id, now);
            self.send(id, &Message::Exchange(Exchange { number, answers: true }));
            return self.send_all(id);
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        // The Ack before the answer told what the peer has.
        let Some(progress) = &link.progress else { return };
        link.exchanges.answered = Some((number, progress.seen().clone()));
    }

    /// Sends all that is in the log, relayed units too that are held back.
    fn send_all(&mut self, id: LinkId) {
        if let Some((progress, log)) = self.progress(id) {
            progress.hold_nothing(log);
        }
        self.wake(id);
    }
}
