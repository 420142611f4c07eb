//! Removals that take many steps: a step after each commit, so that other
//! writes come between, and the answer after the last.
//!
//! One at a time; the others wait in the order in which they came. The
//! precondition of a removal is checked when it begins, and it takes what was
//! there then: what is written meanwhile survives.

use std::collections::VecDeque;

use coppice_crdt::Refusal;
use coppice_replication::{Missing, Now};

use super::{Engine, EngineError};
use crate::replica_task::{SubmitError, WriteRequest};
use crate::store::keys::Slot;
use crate::store::{Reader, Store};

/// How many removals may wait.
const WAITING_REMOVALS: usize = 256;

/// A removal that is under way, or waits to begin.
#[derive(Debug)]
pub(super) struct LongRemoval<T> {
    slot: Slot,
    request: WriteRequest,
    pub(super) ticket: T,
    /// Whether the replica was bootstrapping when it began; `None`: it has not.
    begun: Option<bool>,
}

impl<S: Store, T> Engine<S, T> {
    /// Keeps a removal to be carried out in steps.
    pub(super) fn put_off(&mut self, slot: Slot, request: &WriteRequest, ticket: T) {
        let waiting = self.removals.len();
        if waiting >= WAITING_REMOVALS {
            return self.answers.push((ticket, Err(SubmitError::Overloaded { waiting })));
        }
        let request = request.clone();
        self.removals.push_back(LongRemoval { slot, request, ticket, begun: None });
    }

    /// Answers the removals of a group that is served no more.
    pub(super) fn drop_removals(&mut self, slot: Slot) {
        let (gone, kept): (VecDeque<_>, VecDeque<_>) =
            self.removals.drain(..).partition(|removal| removal.slot == slot);
        self.removals = kept;
        for removal in gone {
            let error = match removal.begun {
                None => SubmitError::GroupGone,
                // Some of it may be done.
                Some(_) => SubmitError::OutcomeUnknown,
            };
            self.answers.push((removal.ticket, Err(error)));
        }
    }

    /// One step of the removal at the head. Everything must be committed.
    pub(super) fn go_on_removing(&mut self, now: Now) -> Result<(), EngineError> {
        let Some(removal) = self.removals.pop_front() else { return Ok(()) };
        let answer = match removal.begun {
            None => self.begin_removal(removal, now)?,
            Some(incomplete) => self.step_of_removal(removal, incomplete)?,
        };
        if let Some(unfinished) = answer {
            self.removals.push_front(unfinished);
        }
        Ok(())
    }

    /// Begins a removal; gives it back if it is not done with.
    fn begin_removal(
        &mut self,
        mut removal: LongRemoval<T>,
        now: Now,
    ) -> Result<Option<LongRemoval<T>>, EngineError> {
        let LongRemoval { slot, request, .. } = &removal;
        let Some(group) = self.groups.get_mut(slot) else {
            self.answers.push((removal.ticket, Err(SubmitError::GroupGone)));
            return Ok(None);
        };
        // By now it may be small enough, or its precondition may not hold.
        let answer = loop {
            match group.write(request, now) {
                Ok(answer) => break answer,
                Err(Missing(read)) => group.load(&self.store, &read)?,
            }
        };
        let [(key, operation)] = &request.operations[..] else { return Ok(None) };
        match answer {
            Err(SubmitError::Refused { refusal: Refusal::NeedsSteps { .. }, .. }) => {}
            answer => {
                self.answers.push((removal.ticket, answer));
                return Ok(None);
            }
        }
        let begun = loop {
            match group.replica.begin_removal(key, operation) {
                Ok(begun) => break begun,
                Err(Missing(read)) => group.load(&self.store, &read)?,
            }
        };
        if begun {
            group.before = Some(self.store.reader().snapshot()?);
            removal.begun = Some(group.replica.is_bootstrapping(now));
        }
        Ok(Some(removal))
    }

    fn step_of_removal(
        &mut self,
        removal: LongRemoval<T>,
        incomplete: bool,
    ) -> Result<Option<LongRemoval<T>>, EngineError> {
        let Some(group) = self.groups.get_mut(&removal.slot) else {
            self.answers.push((removal.ticket, Err(SubmitError::OutcomeUnknown)));
            return Ok(None);
        };
        let outcome = loop {
            match group.replica.go_on_removing() {
                Ok(Some(outcome)) => break outcome,
                Ok(None) => return Ok(Some(removal)),
                Err(Missing(read)) => group.load(&self.store, &read)?,
            }
        };
        group.before = None;
        let answer = loop {
            let operations = &removal.request.operations;
            match group.answer(operations, vec![outcome.clone()], incomplete) {
                Ok(answer) => break answer,
                Err(Missing(read)) => group.load(&self.store, &read)?,
            }
        };
        self.answers.push((removal.ticket, Ok(answer)));
        Ok(None)
    }
}
