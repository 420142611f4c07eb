//! Concurrent histories: replicas that operate, exchange deltas, and join.

use std::collections::BTreeSet;

use super::object::{Object, value_of};
use super::oracle::{Expected, Oracle};
use crate::{
    ActorId, CrdtType, Dot, EntryRange, HybridTimestamp, ObjectDelta, Operation, OperationContext,
    RemovalLimits, VersionVector, apply,
};

/// One step of a history. Replicas are taken modulo their number.
#[derive(Clone, Debug)]
pub enum Step {
    /// A replica runs an operation; `stamp` may lie before earlier ones.
    Operate {
        /// Which replica.
        replica: usize,
        /// What it runs.
        operation: Operation,
        /// Its clock's value.
        stamp: u8,
    },
    /// A replica ships the units that another lacks, in the order they arrived.
    Deliver {
        /// From which replica.
        from: usize,
        /// To which.
        to: usize,
        /// At most so many units.
        limit: usize,
        /// Joined to one delta first.
        grouped: bool,
    },
    /// A replica joins another's whole state.
    Merge {
        /// From which replica.
        from: usize,
        /// To which.
        to: usize,
    },
}

/// What one operation changed, as it is shipped.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its dot.
    pub dot: Dot,
    /// What the replica that ships it had seen before it.
    pub base: VersionVector,
    /// The change.
    pub delta: ObjectDelta,
    event: usize,
}

/// One replica of the object.
#[derive(Clone, Debug)]
pub struct Replica {
    actor: ActorId,
    /// Its state.
    pub object: Object,
    /// The units it can ship.
    pub log: Vec<Unit>,
    seen: BTreeSet<usize>,
}

/// Some replicas of one object, and what should be.
#[derive(Clone, Debug)]
pub struct World {
    crdt_type: CrdtType,
    /// The replicas.
    pub replicas: Vec<Replica>,
    oracle: Oracle,
    now_ms: u64,
}

impl World {
    /// `replicas` replicas (at least one) of an object that nothing happened to.
    #[must_use]
    pub fn new(crdt_type: CrdtType, replicas: u8) -> Self {
        let replica = |number: u8| Replica {
            actor: ActorId::from_bytes([number + 1; 16]),
            object: Object::new(crdt_type),
            log: Vec::new(),
            seen: BTreeSet::new(),
        };
        let replicas = (0..replicas.max(1)).map(replica).collect();
        Self { crdt_type, replicas, oracle: Oracle::new(crdt_type), now_ms: 0 }
    }

    /// Runs one step and checks the replica it touched.
    ///
    /// # Panics
    ///
    /// If anything is not as it should be.
    pub fn run(&mut self, step: &Step) {
        self.now_ms += 1;
        let count = self.replicas.len();
        let touched = match step {
            Step::Operate { replica, operation, stamp } => {
                self.operate(replica % count, operation, *stamp);
                replica % count
            }
            Step::Deliver { from, to, limit, grouped } => {
                self.deliver((from % count, to % count), *limit, *grouped);
                to % count
            }
            Step::Merge { from, to } => {
                self.merge(from % count, to % count);
                to % count
            }
        };
        self.check(touched);
    }

    /// Lets every replica see everything, by whole states, and checks them.
    ///
    /// # Panics
    ///
    /// If the replicas differ, from each other or from what they should be.
    pub fn converge(&mut self) {
        for _ in 0..2 {
            for to in 1..self.replicas.len() {
                self.merge(to - 1, to);
            }
            self.merge(self.replicas.len() - 1, 0);
        }
        for replica in 0..self.replicas.len() {
            self.check(replica);
            assert_eq!(self.replicas[replica].object, self.replicas[0].object, "all converge");
        }
    }

    fn operate(&mut self, at: usize, operation: &Operation, stamp: u8) {
        let replica = &mut self.replicas[at];
        let base = replica.object.context().clone();
        let dot = Dot::new(replica.actor, base.get(&replica.actor) + 1);
        let stamp = HybridTimestamp::new(u64::from(stamp), 0);
        let seen = [(EntryRange::all(), base.clone())];
        let context = OperationContext {
            dot,
            stamp,
            now_ms: self.now_ms,
            seen: &seen,
            value_bytes_limit: 1 << 20,
            is_littered: false,
            removals: RemovalLimits::default(),
        };
        let Ok(applied) = apply(operation, self.crdt_type, &replica.object, &context);
        let expected = self.oracle.expect(operation, &replica.seen, self.now_ms);
        let applied = match applied {
            Ok(applied) => applied,
            Err(refusal) => {
                assert_eq!(
                    Expected::Refused(refusal.status()),
                    expected,
                    "{operation:?}: {refusal}"
                );
                return;
            }
        };
        if applied.delta.is_empty() {
            assert_eq!(Expected::Nothing, expected, "{operation:?} changed nothing");
            return;
        }
        assert_eq!(Expected::Dot, expected, "{operation:?}: {:?}", applied.delta);
        let by = (stamp, *replica.actor.as_bytes());
        let event = self.oracle.record(operation, &replica.seen, by, self.now_ms);
        replica.seen.insert(event);
        let covers = VersionVector::from_iter([(dot.actor, dot.n)]);
        replica.object.apply(&applied.delta, &covers);
        replica.log.push(Unit { dot, base, delta: applied.delta, event });
    }

    fn deliver(&mut self, (from, to): (usize, usize), limit: usize, grouped: bool) {
        if from == to {
            return;
        }
        let log = self.replicas[from].log.clone();
        let to = &mut self.replicas[to];
        let mut group = ObjectDelta::default();
        let mut covers = VersionVector::new();
        let mut singly = to.object.clone();
        let mut shipped = 0;
        for unit in log {
            let mut seen = to.object.context().clone();
            seen.join(&covers);
            if seen.covers(&unit.dot) {
                continue;
            }
            // Without what came before it, a unit has to wait.
            if !unit.base.is_covered_by(&seen) || shipped == limit {
                break;
            }
            shipped += 1;
            let unit = Unit { base: seen, ..unit };
            let dot = VersionVector::from_iter([(unit.dot.actor, unit.dot.n)]);
            singly.apply(&unit.delta, &dot);
            covers.join(&dot);
            group.join(unit.delta.clone());
            to.seen.insert(unit.event);
            to.log.push(unit);
        }
        if grouped {
            to.object.apply(&group, &covers);
            assert_eq!(to.object, singly, "deltas joined first do what they do singly");
        } else {
            to.object = singly;
        }
        // What was seen before is harmless.
        let before = to.object.clone();
        to.object.apply(&group, &covers);
        assert_eq!(to.object, before, "a delta that was applied changes nothing any more");
    }

    fn merge(&mut self, from: usize, to: usize) {
        let source = self.replicas[from].clone();
        let to = &mut self.replicas[to];
        to.object.join(&source.object);
        to.seen.extend(&source.seen);
    }

    fn check(&self, at: usize) {
        let replica = &self.replicas[at];
        assert_eq!(replica.object, replica.object.recounted(), "a header is what its entries make");
        let expected = self.oracle.value(&replica.seen, self.now_ms);
        assert_eq!(value_of(&replica.object, self.now_ms), expected, "at replica {at}");
        for other in &self.replicas {
            if other.object.context() == replica.object.context() {
                assert_eq!(other.object, replica.object, "equal vectors mean equal states");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(replica: usize, json: &str) -> Step {
        let elements = vec![crate::Element::parse(json.as_bytes()).expect("an element")];
        Step::Operate { replica, operation: Operation::Add { elements }, stamp: 1 }
    }

    fn after(steps: &[Step]) -> World {
        let mut world = World::new(CrdtType::ORSet, 3);
        for step in steps {
            world.run(step);
        }
        world
    }

    fn logs(world: &World) -> Vec<usize> {
        world.replicas.iter().map(|replica| replica.log.len()).collect()
    }

    #[test]
    fn a_step_is_taken_where_it_says_and_takes_time() {
        let mut world = after(&[add(5, "1"), add(5, "2")]);
        assert_eq!((logs(&world), world.now_ms), (vec![0, 0, 2], 2));
        world.run(&Step::Deliver { from: 5, to: 3, limit: 1, grouped: false });
        assert_eq!(logs(&world), [1, 0, 2], "one of the two");
        world.run(&Step::Merge { from: 5, to: 7 });
        assert_eq!(world.replicas[1].object, world.replicas[2].object);
        world.run(&Step::Deliver { from: 2, to: 0, limit: 9, grouped: true });
        assert_eq!(world.replicas[0].object, world.replicas[2].object);
    }

    #[test]
    fn a_state_that_is_not_what_was_seen_is_noticed_where_a_step_is_taken() {
        let (from, to) = (1, 5);
        for step in [
            add(to, "2"),
            Step::Deliver { from, to, limit: 1, grouped: false },
            Step::Merge { from, to },
        ] {
            let mut world = after(&[add(5, "1")]);
            world.replicas[2].object = Object::new(CrdtType::ORSet);
            let checked = std::panic::catch_unwind(move || world.run(&step));
            assert!(checked.is_err(), "element 1 is gone");
        }
    }

    #[test]
    #[should_panic(expected = "equal vectors mean equal states")]
    fn two_states_of_one_vector_are_noticed() {
        let mut world = after(&[add(0, "1"), add(0, "2")]);
        world.replicas[1] = after(&[add(0, "1"), add(0, "3")]).replicas[0].clone();
        world.run(&Step::Deliver { from: 2, to: 0, limit: 1, grouped: false });
    }
}
