//! What leaves an engine once it is committed.

use coppice_replication::{CloseReason, LinkId, Now, Position};

use super::{Engine, EngineError};
use crate::replica_task::{SubmitError, WriteAnswer};
use crate::store::Store;
use crate::store::keys::Slot;

/// One thing for the outside, in order.
#[derive(Debug)]
pub enum Effect<T> {
    /// Answer a request.
    Answer(T, Result<WriteAnswer, SubmitError>),
    /// Send a frame.
    Send(LinkId, Vec<u8>),
    /// Close a link.
    Close(LinkId, CloseReason),
    /// Read for a repair that is served; the engine does that itself.
    Read(ServingStep),
}

/// A step of serving a repair.
#[derive(Debug)]
pub struct ServingStep {
    pub(super) slot: Slot,
    pub(super) link: LinkId,
    pub(super) what: Serve,
}

#[derive(Debug)]
pub(super) enum Serve {
    Open,
    Part { range: u8, from: Option<Position> },
    Drop,
}

impl<S: Store, T> Engine<S, T> {
    /// Queues what replicas send and ask for. Answers are not among it: those that
    /// came up since the commit, of removals in steps, wait for the next one.
    pub(super) fn release(&mut self) {
        let (effects, by_link) = (&mut self.effects, &mut self.by_link);
        for group in self.groups.values_mut() {
            group.queue_outputs(|effect| {
                if let Effect::Close(link, _) = &effect {
                    by_link.remove(link);
                }
                effects.push_back(effect);
            });
        }
    }

    /// The next thing to do for the outside. `has_room` tells whether a link
    /// takes another frame; frames that can be made later wait for room.
    ///
    /// # Errors
    ///
    /// If the store fails: the engine cannot go on.
    pub fn next_effect(
        &mut self,
        has_room: &dyn Fn(LinkId) -> bool,
        now: Now,
    ) -> Result<Option<Effect<T>>, EngineError> {
        loop {
            match self.effects.pop_front() {
                Some(Effect::Read(step)) => self.serve(step)?,
                Some(effect) => return Ok(Some(effect)),
                None => {
                    if !self.pump(has_room, now)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Makes one more frame of deltas for each link that wants and takes one.
    fn pump(&mut self, has_room: &dyn Fn(LinkId) -> bool, now: Now) -> Result<bool, EngineError> {
        let mut progressed = false;
        for group in self.groups.values_mut() {
            for (link, seq) in group.replica.wanted_records() {
                if !has_room(link) {
                    continue;
                }
                let records = group.records(&self.store);
                let read = records.log(seq, group.settings.replica.frame_bytes)?;
                let read: Vec<_> = read.into_iter().map(|(seq, record, _)| (seq, record)).collect();
                if read.is_empty() {
                    continue;
                }
                group.replica.supply_records(link, &read, now);
                progressed = true;
            }
        }
        self.release();
        Ok(progressed)
    }

    /// The tickets whose outcome is unknown after a failed commit; the engine is
    /// to be dropped.
    pub fn abandon(&mut self) -> Vec<T> {
        let answered = self.effects.drain(..).filter_map(|effect| match effect {
            Effect::Answer(ticket, _) => Some(ticket),
            _ => None,
        });
        let mut tickets: Vec<T> = answered.collect();
        tickets.extend(self.answers.drain(..).map(|unreleased| unreleased.ticket));
        tickets.extend(self.removals.drain(..).map(|removal| removal.ticket));
        tickets
    }
}
