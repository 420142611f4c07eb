//! What clients ask of replicas, what is foretold of it, and what they are answered.

use coppice_agent::engine::GroupDurability;
use coppice_agent::replica_task::{SubmitError, WriteAnswer, WriteRequest};
use coppice_crdt::{ActorId, Operation};

use super::ledger::{OpNumber, Predicted};
use super::operations;
use super::recorded::Visible;
use super::replica::Promise;
use super::world::{Event, TICK_MS, World};
use super::wrong::Wrong;

/// A request, by its number the ticket of its answer.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) operations: Vec<OpNumber>,
    pub(super) expected: Result<(), u16>,
}

impl World<'_> {
    /// Clients write to one replica and read from it what they should.
    pub(super) fn request(&mut self) -> Result<(), Wrong> {
        if self.submitted >= self.plan.operations {
            return Ok(());
        }
        let pace_ms = (self.plan.busy_ms / self.plan.operations).max(1);
        let delay_ms = if self.rng.percent(25) { 0 } else { self.rng.between(1, 2 * pace_ms) };
        let up: Vec<usize> =
            self.order.iter().copied().filter(|&at| self.replicas[at].is_up()).collect();
        if up.is_empty() {
            self.after(delay_ms, Event::Request);
            return Ok(());
        }
        let at = self.rng.pick(&up);
        let before = self.submitted;
        self.write(at)?;
        // Where conflicts are too few, others write before they hear of this.
        for &other in up.iter().filter(|&&other| other != at) {
            if self.lacks_conflicts() && self.replicas[other].is_up() {
                self.write(other)?;
            }
        }
        let delay_ms = delay_ms * (self.submitted - before).max(1);
        self.after(delay_ms, Event::Request);
        let object = self.rng.index(self.ledger.keys.len());
        if self.replicas[at].is_up() && self.rng.percent(40) {
            let wall_ms = self.replicas[at].now(self.now_ms).wall_ms;
            return self.check_value(at, object, wall_ms);
        }
        Ok(())
    }

    /// Mostly one operation, sometimes several that share a commit, sometimes a
    /// batch.
    fn write(&mut self, at: usize) -> Result<(), Wrong> {
        let requests = if self.rng.percent(15) { self.rng.between(2, 4) } else { 1 };
        let mut visible = self.foreseen(at);
        let held = self.held_somewhere();
        for _ in 0..requests {
            let size = if self.rng.percent(10) { self.rng.between(2, 4) } else { 1 };
            let operations = self.random_operations(size, &visible, &held);
            self.submitted += size;
            self.totals.add("operations", size);
            let ticket = self.requests.len();
            self.requests.push(Request { operations: Vec::new(), expected: Ok(()) });
            let now = self.replicas[at].now(self.now_ms);
            let key = |object: usize| self.ledger.keys[object].as_ref().into();
            let keyed = operations.iter().map(|(object, of)| (key(*object), of.clone()));
            let keyed = keyed.collect();
            let request =
                WriteRequest { operations: keyed, precondition: None, allow_incomplete: true };
            let replica = &mut self.replicas[at];
            let Some(engine) = &mut replica.engine else { return Ok(()) };
            if engine.submit(replica.slot, &request, ticket, now).is_err() {
                return self.store_failed(at);
            }
            if !self.is_put_off(at, ticket, &operations) {
                let by = (self.actor_of(at), now.wall_ms);
                let foretold = self.ledger.submit(&operations, (&mut visible, &held), by);
                self.foresee(at, ticket, foretold);
            }
        }
        self.round(at)
    }

    /// What a replica has seen once what it has in hand is committed.
    pub(super) fn foreseen(&self, at: usize) -> Visible {
        let replica = &self.replicas[at];
        let mut visible = replica.visible().clone();
        for &number in replica.pending.iter().flat_map(|predicted| &predicted.operations) {
            self.ledger.see(number, &mut visible);
        }
        visible
    }

    pub(super) fn actor_of(&self, at: usize) -> ActorId {
        let nobody = ActorId::from_bytes([0; 16]);
        self.replicas[at].engine.as_ref().map_or(nobody, |engine| engine.opening().actor)
    }

    /// Keeps what a request should do, for when it is committed and answered.
    pub(super) fn foresee(&mut self, at: usize, ticket: usize, foretold: Result<Predicted, u16>) {
        let (operations, expected) = match foretold {
            Ok(predicted) => {
                let numbers = predicted.operations.clone();
                if !numbers.is_empty() {
                    self.replicas[at].pending.push_back(predicted);
                }
                (numbers, Ok(()))
            }
            Err(status) => (Vec::new(), Err(status)),
        };
        self.totals.add("writes", operations.len() as u64);
        let first = operations.first().map_or(0, |&first| first as u64);
        self.note(at, "takes a request, first write", (ticket as u64, first));
        self.requests[ticket] = Request { operations, expected };
    }

    fn random_operations(
        &mut self,
        size: u64,
        seen: &Visible,
        held: &Visible,
    ) -> Vec<(usize, Operation)> {
        let mut operations = Vec::new();
        while (operations.len() as u64) < size {
            let one = self.random_operation(seen, held);
            // Whether a removal takes steps is the core's to say, and in a batch it
            // would be refused.
            if size == 1 || !self.plan.few || !operations::may_take_steps(&one.1) {
                operations.push(one);
            }
        }
        operations
    }

    fn lacks_conflicts(&self) -> bool {
        5 * self.ledger.conflicts < 2 * self.submitted
    }

    /// By chance, or, where conflicts are too few, the first of many by chance
    /// that conflicts.
    fn random_operation(&mut self, seen: &Visible, held: &Visible) -> (usize, Operation) {
        const TRIES: usize = 60;
        let first = self.draw();
        // What takes all away conflicts with anything: it is to stay as rare.
        if !self.lacks_conflicts() || operations::takes_all(&first.1) {
            return first;
        }
        let mut drawn = first.clone();
        for _ in 0..TRIES {
            let (object, operation) = &drawn;
            let fits = !operations::takes_all(operation);
            if fits && self.ledger.would_conflict(*object, operation, (seen, held)) {
                return drawn;
            }
            drawn = self.draw();
        }
        first
    }

    fn draw(&mut self) -> (usize, Operation) {
        let object = if self.rng.percent(45) { 0 } else { self.rng.index(self.ledger.keys.len()) };
        let mut operation = operations::random(&mut self.rng, self.plan.crdt_type);
        if self.plan.few {
            operations::enlarge(&mut operation);
        }
        (object, operation)
    }

    pub(super) fn answered(
        &mut self,
        at: usize,
        ticket: usize,
        answer: Result<WriteAnswer, SubmitError>,
    ) -> Result<(), Wrong> {
        let request = &self.requests[ticket];
        let got = match answer {
            Ok(_) => Ok(()),
            Err(SubmitError::Refused { refusal, .. }) => Err(refusal.status()),
            Err(error) => {
                return Err(Wrong::core(format!("request {ticket} at replica {at}: {error}")));
            }
        };
        if got != request.expected {
            let expected = request.expected;
            return Err(format!("request {ticket} at {at}: {got:?} instead of {expected:?}").into());
        }
        for &number in &request.operations {
            let replica = &mut self.replicas[at];
            if !self.ledger.is_seen(number, replica.visible()) {
                return Err(format!("replica {at} answers {number} before its commit").into());
            }
            self.ledger.recordings[number].acknowledged = true;
            let unsynced_since_ms = Some(self.now_ms);
            replica.promised.push(Promise { number, unsynced_since_ms });
            self.totals.add("writes acknowledged", 1);
        }
        Ok(())
    }

    /// Whether a power loss now, or in a moment, may take what was answered then.
    pub(super) fn may_be_lost(&self, answered_ms: u64) -> bool {
        match self.plan.settings.durability {
            GroupDurability::Always => false,
            GroupDurability::Interval { milliseconds } => {
                answered_ms + milliseconds + 2 * TICK_MS >= self.now_ms
            }
            GroupDurability::None => true,
        }
    }
}
