//! What was asked of agents, what they answered, and what must follow.
//!
//! A ledger records each operation with what its issuer had seen: surely
//! (its own answered ones, and all from before the last point where every
//! agent was seen equal), surely not (from the other side of a cut, or begun
//! after its answer), or perhaps. From that alone it says what each object
//! may be, without a look at dots, vectors or what agents say of each other.
//!
//! An operation without an answer may or may not have happened, but once its
//! agent was restarted that is settled: what comes later has seen it, if it is.

mod expectation;

pub use expectation::{Existence, Expectation, Expected};

use std::collections::BTreeSet;

use coppice_crdt::CrdtType;

/// What an operation is about: an object, or a field of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The object's key.
    pub key: String,
    /// The map's field.
    pub field: Option<String>,
}

/// What an operation does to its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Counters: adds this much, never 0.
    Add(i64),
    /// Sets: adds an element.
    Put(String),
    /// Sets: removes an element.
    Take(String),
    /// Flags.
    Enable,
    /// Flags.
    Disable,
    /// Registers.
    Write(String),
    /// Sets and maps: empties the object, which stays.
    Clear,
    /// Removes the object, or the map's field.
    Delete,
}

/// Who issued an operation, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Which agent.
    pub agent: usize,
    /// How often that agent had been restarted.
    pub run: u32,
    /// How often all agents had been seen equal.
    pub epoch: u32,
    /// Its side of the cut; 0 while there is none.
    pub side: u8,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its agent said that it is done.
    Acknowledged,
    /// There was no answer.
    Unknown,
    /// Its agent said that it changed nothing.
    Refused,
}

/// One operation in a ledger.
#[derive(Clone, Debug)]
struct Entry {
    target: Target,
    change: Change,
    issuer: Issuer,
    begun: u64,
    /// With what became of it, once that is known.
    ended: Option<(u64, Fate)>,
}

/// The number of an operation in its ledger.
#[derive(Clone, Copy, Debug)]
pub struct Number(usize);

/// Whether an operation's issuer had seen another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Surely, if it happened at all.
    Yes,
    No,
    Perhaps,
}

/// The operations of one group.
#[derive(Clone, Debug)]
pub struct Ledger {
    crdt_type: CrdtType,
    entries: Vec<Entry>,
    clock: u64,
}

// === impl Target ===

impl Target {
    /// An object.
    pub fn object(key: impl Into<String>) -> Self {
        Self { key: key.into(), field: None }
    }

    /// A field of a map.
    pub fn field(key: impl Into<String>, field: impl Into<String>) -> Self {
        Self { key: key.into(), field: Some(field.into()) }
    }

    /// Whether removing the content of `self` removes that of `other`.
    fn holds(&self, other: &Target) -> bool {
        self.key == other.key && (self.field.is_none() || self.field == other.field)
    }
}

// === impl Ledger ===

impl Ledger {
    /// An empty ledger of a group.
    #[must_use]
    pub fn new(crdt_type: CrdtType) -> Self {
        Self { crdt_type, entries: Vec::new(), clock: 0 }
    }

    /// The type of the group.
    #[must_use]
    pub fn crdt_type(&self) -> CrdtType {
        self.crdt_type
    }

    /// Enters an operation, just before it is sent.
    pub fn begin(&mut self, issuer: Issuer, target: Target, change: Change) -> Number {
        let begun = self.tick();
        self.entries.push(Entry { target, change, issuer, begun, ended: None });
        Number(self.entries.len() - 1)
    }

    /// Notes what became of it, just after that is known.
    pub fn end(&mut self, number: Number, fate: Fate) {
        let now = self.tick();
        if let Some(entry) = self.entries.get_mut(number.0) {
            entry.ended = Some((now, fate));
        }
    }

    /// How many operations had this fate.
    #[must_use]
    pub fn count(&self, fate: Fate) -> usize {
        self.entries.iter().filter(|entry| entry.fate() == fate).count()
    }

    /// How many operations an agent acknowledged.
    #[must_use]
    pub fn acknowledged_by(&self, agent: usize) -> usize {
        let by = self.entries.iter().filter(|entry| entry.issuer.agent == agent);
        by.filter(|entry| entry.is_acknowledged()).count()
    }

    /// How many operations on either side of the cut, in `epoch`, were about
    /// something that the other side changed too: the smaller of both counts.
    #[must_use]
    pub fn conflicts(&self, epoch: u32) -> usize {
        let done =
            |entry: &&Entry| entry.issuer.epoch == epoch && entry.fate() == Fate::Acknowledged;
        let on_side = |side: u8| {
            let here = self.entries.iter().filter(done).filter(|e| e.issuer.side == side);
            let other: Vec<_> =
                self.entries.iter().filter(done).filter(|e| e.issuer.side != side).collect();
            here.filter(|entry| other.iter().any(|other| entry.meets(other))).count()
        };
        on_side(0).min(on_side(1))
    }

    /// Every target that content was asked for: objects without fields, and
    /// fields of maps.
    #[must_use]
    pub fn targets(&self) -> BTreeSet<Target> {
        let is_map = self.crdt_type == CrdtType::ORMap;
        let all = self.entries.iter().map(|entry| &entry.target);
        all.filter(|target| target.field.is_some() == is_map).cloned().collect()
    }

    /// What `target`, which is of `crdt_type`, must be once all agents are equal.
    #[must_use]
    pub fn expect(&self, target: &Target, crdt_type: CrdtType) -> Expectation {
        expectation::of(self, target, crdt_type)
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// What happened, surely or perhaps.
    fn happened(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.fate() != Fate::Refused)
    }
}

// === impl Entry ===

impl Entry {
    /// One that has no end yet may have happened.
    fn fate(&self) -> Fate {
        self.ended.map_or(Fate::Unknown, |(_, fate)| fate)
    }

    fn is_acknowledged(&self) -> bool {
        self.fate() == Fate::Acknowledged
    }

    /// Whether it was over before `other` began.
    fn precedes(&self, other: &Entry) -> bool {
        self.ended.is_some_and(|(end, _)| end < other.begun)
    }

    /// Whether this operation's issuer had seen `earlier`.
    fn has_seen(&self, earlier: &Entry) -> Seen {
        let (mine, its) = (self.issuer, earlier.issuer);
        if its.epoch != mine.epoch {
            return if its.epoch < mine.epoch { Seen::Yes } else { Seen::No };
        }
        if its.side != mine.side || self.precedes(earlier) {
            return Seen::No;
        }
        let settled = earlier.is_acknowledged() || its.run < mine.run;
        if its.agent == mine.agent && settled && earlier.precedes(self) {
            return Seen::Yes;
        }
        Seen::Perhaps
    }

    /// Whether both change the same thing.
    fn meets(&self, other: &Entry) -> bool {
        let element = |change: &Change| match change {
            Change::Put(element) | Change::Take(element) => Some(element.clone()),
            _ => None,
        };
        let nested = self.target.holds(&other.target) || other.target.holds(&self.target);
        let elements = element(&self.change).zip(element(&other.change));
        nested && elements.is_none_or(|(mine, its)| mine == its)
    }
}

#[cfg(test)]
mod tests;
