//! Removals that take steps: what each unit of one takes is foretold when it
//! begins, and noted when it is made.
//!
//! Which removals take steps, and when the next one is due, is the core's to say;
//! what they take is not.

use std::collections::VecDeque;
use std::rc::Rc;

use coppice_agent::engine::RemovalProgress;
use coppice_crdt::Operation;

use super::ledger::{OpNumber, Predicted};
use super::model::{Expected, Pieces};
use super::seen::Seen;
use super::world::World;
use super::wrong::Wrong;

/// A removal that was put off, to be carried out in steps.
#[derive(Debug)]
pub(super) struct LongRemoval {
    ticket: usize,
    object: usize,
    operation: Operation,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    /// What of the object had been seen when it began.
    begun: Seen,
    /// What the units take that are still to come, but for the last one.
    steps: VecDeque<Pieces>,
    made: u64,
    numbers: Vec<OpNumber>,
}

impl World<'_> {
    fn removal_progress(&self, at: usize) -> Option<RemovalProgress> {
        let replica = &self.replicas[at];
        replica.engine.as_ref()?.removal_progress(replica.slot)
    }

    /// Whether the last request takes steps. What it will do is foretold when it
    /// begins.
    pub(super) fn is_put_off(
        &mut self,
        at: usize,
        ticket: usize,
        operations: &[(usize, Operation)],
    ) -> bool {
        let open = self.removal_progress(at).map_or(0, |progress| progress.open);
        let [(object, operation)] = operations else { return false };
        if open == self.replicas[at].removals.len() {
            return false;
        }
        let operation = operation.clone();
        let removal = LongRemoval { ticket, object: *object, operation, under_way: None };
        self.replicas[at].removals.push_back(removal);
        self.note(at, "puts off a removal", (ticket as u64, *object as u64));
        true
    }

    /// Takes notice of what a removal in steps did after the last commit.
    pub(super) fn follow_removal(&mut self, at: usize) -> Result<(), Wrong> {
        let Some(progress) = self.removal_progress(at) else { return Ok(()) };
        let waits = progress.open == self.replicas[at].removals.len();
        let Some(mut removal) = self.replicas[at].removals.pop_front() else { return Ok(()) };
        match (&mut removal.under_way, progress.units) {
            (None, None) if waits => {}
            (None, None) => {
                self.done_at_once(at, &removal);
                return Ok(());
            }
            (None, Some(0)) => removal.under_way = Some(self.begun(at, &removal)?),
            (Some(under_way), Some(units)) if units == under_way.made => {}
            (Some(under_way), Some(units)) if units == under_way.made + 1 => {
                self.step_made(at, removal.object, under_way)?;
            }
            (Some(_), None) if !waits => return self.last_step_made(at, removal),
            (_, units) => {
                return Err(format!("removal {} at {at} made {units:?}", removal.ticket).into());
            }
        }
        self.replicas[at].removals.push_front(removal);
        Ok(())
    }

    /// It had become so small that it took no steps.
    fn done_at_once(&mut self, at: usize, removal: &LongRemoval) {
        let (mut visible, held) = (self.foreseen(at), self.held_somewhere());
        let by = (self.actor_of(at), self.replicas[at].now(self.now_ms).wall_ms);
        let operations = [(removal.object, removal.operation.clone())];
        let foretold = self.ledger.submit(&operations, (&mut visible, &held), by);
        self.foresee(at, removal.ticket, foretold);
    }

    fn begun(&mut self, at: usize, removal: &LongRemoval) -> Result<UnderWay, Wrong> {
        let begun = self.foreseen(at)[removal.object].clone();
        let wall_ms = self.replicas[at].now(self.now_ms).wall_ms;
        let model = self.ledger.model(removal.object);
        let expected = model.expect(&removal.operation, &begun, wall_ms);
        if expected != Expected::Change {
            return Err(format!("removal {} begins: {expected:?}", removal.ticket).into());
        }
        let pace = self.plan.settings.replica.removals;
        let sizes = (pace.limits.cells, pace.entries_per_part);
        let steps: VecDeque<Pieces> = model.steps(&removal.operation, &begun, sizes).into();
        self.note(at, "begins a removal, steps", (removal.ticket as u64, steps.len() as u64));
        Ok(UnderWay { begun, steps, made: 0, numbers: Vec::new() })
    }

    fn step_made(
        &mut self,
        at: usize,
        object: usize,
        under_way: &mut UnderWay,
    ) -> Result<(), Wrong> {
        let Some(taken) = under_way.steps.pop_front() else {
            return Err(format!("replica {at}: a removal takes a step too many").into());
        };
        let issuer = self.actor_of(at);
        let event = self.ledger.model_mut(object).record_step(&taken, issuer);
        under_way.made += 1;
        under_way.numbers.push(self.foresee_step(at, object, event));
        Ok(())
    }

    fn last_step_made(&mut self, at: usize, removal: LongRemoval) -> Result<(), Wrong> {
        let LongRemoval { ticket, object, operation, under_way } = removal;
        let Some(UnderWay { begun, steps, made, mut numbers }) = under_way else { return Ok(()) };
        if !steps.is_empty() {
            return Err(format!("replica {at}: removal {ticket} lacks {}", steps.len()).into());
        }
        let saw = self.foreseen(at)[object].clone();
        let wall_ms = self.replicas[at].now(self.now_ms).wall_ms;
        let issuer = self.actor_of(at);
        let model = self.ledger.model_mut(object);
        // Else others removed all of it meanwhile, and there is no last unit.
        if model.value(&saw, wall_ms) != super::model::Value::Absent {
            let event = model.record_last_step(&operation, (&begun, &saw), issuer);
            numbers.push(self.foresee_step(at, object, event));
        }
        self.note(at, "ends a removal, units", (ticket as u64, numbers.len() as u64));
        self.totals.add("removals in steps", u64::from(made > 0));
        self.totals.add("units of removals in steps", numbers.len() as u64);
        self.totals.add("removals put off", 1);
        self.requests[ticket].operations = numbers;
        Ok(())
    }

    /// Gives a unit its number, and awaits it.
    fn foresee_step(&mut self, at: usize, object: usize, event: usize) -> OpNumber {
        let saw = Rc::new(self.foreseen(at));
        let number = self.ledger.record_event(object, event, saw);
        self.replicas[at].pending.push_back(Predicted { operations: vec![number] });
        self.totals.add("writes", 1);
        number
    }

    /// Whether some of a removal in steps is done, and some not.
    pub(super) fn is_amid_removal(&self, at: usize) -> bool {
        let units = self.removal_progress(at).and_then(|progress| progress.units);
        units.is_some_and(|units| units > 0)
    }

    /// What a crash interrupts.
    pub(super) fn count_removals_cut_short(&mut self, at: usize) {
        let Some(progress) = self.removal_progress(at) else { return };
        let amid = self.is_amid_removal(at);
        self.totals.add("crashes amid a removal in steps", u64::from(amid));
        self.totals.add("crashes amid a sweep", u64::from(progress.sweeping));
    }
}
