//! What stands beside a store, and beside what is on its way.
//!
//! It rolls back and is copied with its store. What a replica has seen is known
//! from it alone: see [`super::ledger`].

use std::collections::BTreeMap;
use std::rc::Rc;

use coppice_crdt::{ActorId, Dot, VersionVector};
use coppice_replication::{RepairRecord, Unit};

use super::ledger::OpNumber;
use super::seen::Seen;

/// What somebody has seen, by object.
pub(super) type Visible = Vec<Seen>;

/// What a store holds, as of one of its commits.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorded {
    pub(super) visible: Visible,
    pub(super) next_seq: u64,
    pub(super) repair: Option<RepairRecord>,
    /// What the repair under way will have brought.
    pub(super) brought: Visible,
    /// What its records say of what it has seen: tells which parts were joined.
    pub(super) vector: VersionVector,
    /// What stands at the log's last position.
    last: Option<Rc<Logged>>,
}

/// The operations beside one position of a log. A dot says which of a unit's
/// writes a number belongs to, and nothing more.
#[derive(Debug)]
struct Logged {
    numbers: Numbers,
    before: Option<Rc<Logged>>,
}

pub(super) type Numbers = Rc<[(Dot, OpNumber)]>;

/// A unit on its way, and the operations of the positions it was made from.
#[derive(Debug)]
pub(super) struct Shipped {
    unit: Unit,
    pub(super) numbers: Numbers,
}

/// What came over links in this life of a replica, by its first run.
#[derive(Debug, Default)]
pub(super) struct Arrivals(BTreeMap<(ActorId, u64), Vec<Rc<Shipped>>>);

impl Recorded {
    /// Nothing, of so many objects.
    pub(super) fn of_objects(count: usize) -> Self {
        let visible = vec![Seen::default(); count];
        Self { brought: visible.clone(), visible, ..Self::default() }
    }

    /// Puts the operations of the next position of the log beside it.
    pub(super) fn log(&mut self, numbers: Numbers) {
        self.last = Some(Rc::new(Logged { numbers, before: self.last.take() }));
    }

    /// What the repair under way will have brought, if there is one.
    pub(super) fn brought(&self) -> Option<&Visible> {
        self.repair.is_some().then_some(&self.brought)
    }

    /// Whether this is complete, and all of `visible` is in it.
    pub(super) fn has_whole(&self, visible: &Visible) -> bool {
        let mut pairs = visible.iter().zip(&self.visible);
        self.repair.is_none() && pairs.all(|(theirs, seen)| theirs.is_within(seen))
    }

    /// What a frame takes along: the operations of the positions of this log that
    /// hold its writes.
    pub(super) fn ship(&self, unit: Unit) -> Shipped {
        let wanted = unit.writes();
        // A log may hold a write twice: alone, and in a frame with others.
        let mut numbers: BTreeMap<Dot, OpNumber> = BTreeMap::new();
        let mut position = self.last.as_deref();
        while let Some(logged) = position.filter(|_| (numbers.len() as u64) < wanted) {
            numbers.extend(logged.numbers.iter().copied().filter(|(dot, _)| holds(&unit, dot)));
            position = logged.before.as_deref();
        }
        Shipped { unit, numbers: numbers.into_iter().collect() }
    }
}

impl Arrivals {
    pub(super) fn add(&mut self, shipped: Rc<Shipped>) {
        self.0.entry(first_run(&shipped.unit)).or_default().push(shipped);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn find(&self, unit: &Unit) -> Option<&Shipped> {
        let known = self.0.get(&first_run(unit))?;
        known.iter().find(|shipped| shipped.unit == *unit).map(|shipped| &**shipped)
    }
}

fn first_run(unit: &Unit) -> (ActorId, u64) {
    let first = unit.covers.first();
    first.map_or((ActorId::from_bytes([0; 16]), 0), |run| (run.actor, run.upto))
}

fn holds(unit: &Unit, dot: &Dot) -> bool {
    unit.covers.iter().any(|run| run.actor == dot.actor && run.after < dot.n && dot.n <= run.upto)
}
