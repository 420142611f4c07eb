//! Random writes: some to what everyone writes to, some to an agent's own.
//!
//! Concurrent writes to shared things are what the types are for, but whether
//! one saw the other is then not known. What a type's own agent alone touches
//! is decided to the last unit.

use coppice_crdt::CrdtType;

use super::request::FIELDS;
use super::scene::Step;
use crate::ledger::{Change, Target};
use crate::rng::Rng;

/// What a write draws by.
struct Random(Rng);

// === impl Random ===

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.below(limit)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn amount(&mut self) -> i64 {
        i64::try_from(1 + self.below(9)).unwrap_or(1)
    }
}

/// `count` writes of one agent to one group.
pub(super) fn steps(crdt_type: CrdtType, agent: usize, count: usize, seed: u64) -> Vec<Step> {
    let stream = (agent as u64) << 8 | u64::from(crdt_type.byte());
    let mut random = Random(Rng::new(seed.wrapping_add(stream << 16)));
    (0..count).map(|number| step(crdt_type, agent, &mut random, number as u64 ^ seed)).collect()
}

fn step(crdt_type: CrdtType, agent: usize, random: &mut Random, unique: u64) -> Step {
    let is_own = random.one_in(4);
    let key = if is_own { format!("own-{agent}") } else { format!("shared-{}", random.below(3)) };
    if is_own && random.one_in(12) {
        return (Target::object(key), Change::Delete);
    }
    if crdt_type != CrdtType::ORMap {
        let change = change(crdt_type, agent, is_own, (random, unique));
        return (Target::object(key), change);
    }
    if is_own && random.one_in(16) {
        return (Target::object(key), Change::Clear);
    }
    let at = usize::try_from(random.below(4)).unwrap_or(0);
    let (field, field_type) = FIELDS[at];
    let change = if is_own && random.one_in(12) {
        Change::Delete
    } else {
        change(field_type, agent, is_own, (random, unique))
    };
    (Target::field(key, field), change)
}

fn change(
    crdt_type: CrdtType,
    agent: usize,
    is_own: bool,
    (random, unique): (&mut Random, u64),
) -> Change {
    match crdt_type {
        CrdtType::GCounter => Change::Add(random.amount()),
        CrdtType::PNCounter => {
            let sign = if random.one_in(3) { -1 } else { 1 };
            Change::Add(sign * random.amount())
        }
        CrdtType::ORSet if is_own && random.one_in(16) => Change::Clear,
        CrdtType::ORSet if random.one_in(3) => Change::Take(element(agent, random)),
        CrdtType::GSet | CrdtType::ORSet => Change::Put(element(agent, random)),
        CrdtType::EWFlag if random.one_in(2) => Change::Disable,
        CrdtType::EWFlag => Change::Enable,
        CrdtType::LWWRegister | CrdtType::ORMap => Change::Write(format!("{agent}-{unique:x}")),
    }
}

/// Mostly an element that only this agent touches.
fn element(agent: usize, random: &mut Random) -> String {
    if random.one_in(4) {
        format!("any-{}", random.below(6))
    } else {
        format!("{agent}-{}", random.below(12))
    }
}
