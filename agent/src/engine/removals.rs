//! Removals that take many steps: a step after each commit, so that other
//! writes come between, and the answer after the last.
//!
//! One at a time; the others wait in the order in which they came. The
//! precondition of a removal is checked when it begins, and it takes what was
//! there then: what is written meanwhile survives.

use std::collections::VecDeque;

use coppice_crdt::Refusal;
use coppice_replication::{Missing, Now};

use super::{Engine, EngineError, Unreleased};
use crate::replica_task::{SubmitError, WriteAnswer, WriteRequest};
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

/// How far a group's removals are that take many steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalProgress {
    /// Removals not done yet, over all groups; the one under way is among them.
    pub open: usize,
    /// Units that the one under way made so far; `None`: none has begun.
    pub units: Option<u64>,
    /// Whether something removed is still to be deleted from the store.
    pub sweeping: bool,
}

impl<T> LongRemoval<T> {
    fn told(self, answer: Result<WriteAnswer, SubmitError>) -> Unreleased<T> {
        Unreleased { slot: self.slot, ticket: self.ticket, answer }
    }
}

impl<S: Store, T> Engine<S, T> {
    /// How far a group's removals are that take many steps.
    pub fn removal_progress(&self, slot: Slot) -> Option<RemovalProgress> {
        self.groups.get(&slot).map(|group| RemovalProgress {
            open: self.removals.len(),
            units: group.replica.removal_units(),
            sweeping: group.replica.has_sweeps(),
        })
    }

    /// Keeps a removal to be carried out in steps.
    pub(super) fn put_off(&mut self, slot: Slot, request: &WriteRequest, ticket: T) {
        let waiting = self.removals.len();
        if waiting >= WAITING_REMOVALS {
            let answer = Err(SubmitError::Overloaded { waiting });
            return self.answers.push(Unreleased { slot, ticket, answer });
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
            self.answers.push(removal.told(Err(error)));
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
            self.answers.push(removal.told(Err(SubmitError::GroupGone)));
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
                self.answers.push(removal.told(answer));
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
            self.answers.push(removal.told(Err(SubmitError::OutcomeUnknown)));
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
        self.answers.push(removal.told(Ok(answer)));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use coppice_crdt::{CrdtType, Operation, RemovalLimits};
    use coppice_replication::{Now, ObjectKey, RemovalPace, range_of};

    use crate::engine::{Effect, Engine, GroupSettings, Named};
    use crate::records::GroupRecords;
    use crate::replica_task::{SubmitError, WriteRequest};
    use crate::store::keys::Slot;
    use crate::store::memory::MemoryStore;

    const NOW: Now = Now { wall_ms: 1_790_000_000_000, steady_ms: 0 };
    const GROUP: [u8; 16] = [1; 16];

    /// An engine with a group of maps, in which one unit takes one counter cell.
    fn engine() -> (Engine<MemoryStore, u8>, Slot) {
        let limits = RemovalLimits { cells: 1, ..RemovalLimits::default() };
        let mut settings = GroupSettings::small();
        settings.replica.removals =
            RemovalPace { limits, entries_per_part: 1, ..RemovalPace::default() };
        let mut engine = Engine::open(MemoryStore::new(), "a".into(), [7; 32]).expect("it opens");
        let maps = Named { id: GROUP, crdt_type: CrdtType::ORMap };
        let slots = engine.add_groups(&[("maps", maps, settings)], NOW).expect("it is served");
        (engine, slots[0])
    }

    fn submit(engine: &mut Engine<MemoryStore, u8>, slot: Slot, ticket: u8, of: &[Operation]) {
        let operations = of.iter().map(|of| ("map".into(), of.clone())).collect();
        let request = WriteRequest { operations, precondition: None, allow_incomplete: true };
        engine.submit(slot, &request, ticket, NOW).expect("the store works");
    }

    fn increment(field: &str) -> Operation {
        let operation = Box::new(Operation::Increment { by: 3 });
        Operation::Update { field: field.into(), crdt_type: CrdtType::PNCounter, operation }
    }

    /// Who is answered now, asking twice as the writer may.
    fn answered(engine: &mut Engine<MemoryStore, u8>) -> Vec<u8> {
        let mut tickets = Vec::new();
        for _ in 0..2 {
            while let Some(effect) = engine.next_effect(&|_| true, NOW).expect("the store works") {
                if let Effect::Answer(ticket, answer) = effect {
                    answer.expect("it is not refused");
                    tickets.push(ticket);
                }
            }
        }
        tickets
    }

    fn is_stored(engine: &Engine<MemoryStore, u8>, slot: Slot) -> bool {
        let key: ObjectKey = "map".into();
        let records = GroupRecords { store: engine.store(), slot };
        let range = range_of(coppice_crdt::EtagKey::new(GROUP), &key);
        let record = records.object(range, &key).expect("the store works");
        record.is_some_and(|record| record.header.exists())
    }

    #[test]
    fn a_removal_in_steps_is_answered_when_its_last_unit_is_committed() {
        let (mut engine, slot) = engine();
        submit(&mut engine, slot, 1, &["a", "b", "c"].map(increment));
        engine.commit(NOW).expect("the store works");
        assert_eq!(answered(&mut engine), [1]);

        submit(&mut engine, slot, 2, &[Operation::Delete]);
        let mut tickets = Vec::new();
        // No tick, no other input: it goes on by itself.
        while engine.has_work() {
            assert!(tickets.is_empty(), "there was nothing left to do");
            engine.commit(NOW).expect("the store works");
            tickets = answered(&mut engine);
            assert_eq!(tickets.is_empty(), is_stored(&engine, slot), "answered before its commit");
        }
        assert_eq!(tickets, [2]);
        let vector = engine.figures(slot, NOW).expect("it is served").vector;
        // A cell and an existence of each field, and the rest.
        assert_eq!(vector.get(&engine.opening().actor), 3 + 6 + 1);
    }

    #[test]
    fn a_removal_that_became_small_is_answered_when_it_is_committed() {
        let (mut engine, slot) = engine();
        submit(&mut engine, slot, 1, &["a", "b"].map(increment));
        submit(&mut engine, slot, 2, &[Operation::Delete]);
        submit(&mut engine, slot, 3, &[Operation::RemoveField { field: "a".into() }]);
        engine.commit(NOW).expect("the store works");
        assert_eq!(answered(&mut engine), [1, 3]);
        assert!(engine.has_work() && is_stored(&engine, slot));
        engine.commit(NOW).expect("the store works");
        assert_eq!(answered(&mut engine), [2]);
        assert!(!engine.has_work() && !is_stored(&engine, slot));
    }

    #[test]
    fn what_goes_with_its_group_is_not_told_to_be_done() {
        let (mut engine, slot) = engine();
        submit(&mut engine, slot, 1, &["a", "b", "c"].map(increment));
        engine.commit(NOW).expect("the store works");
        assert_eq!(answered(&mut engine), [1]);
        submit(&mut engine, slot, 2, &[Operation::Delete]);
        while engine.answers.is_empty() {
            engine.commit(NOW).expect("the store works");
        }
        submit(&mut engine, slot, 3, &[increment("d")]);
        engine.remove_group(slot);
        engine.commit(NOW).expect("the store works");
        let mut told = Vec::new();
        while let Some(effect) = engine.next_effect(&|_| true, NOW).expect("the store works") {
            if let Effect::Answer(ticket, answer) = effect {
                told.push((ticket, matches!(answer, Err(SubmitError::OutcomeUnknown))));
            }
        }
        assert_eq!(told, [(2, true), (3, true)]);
        assert!(is_stored(&engine, slot));
    }
}
