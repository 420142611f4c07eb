//! What follows from a ledger for one target.
//!
//! What the ledger cannot decide it leaves open, in bounds: a wrong verdict is
//! worse than none. Workloads are laid out so that most is decided.
//!
//! Source: the table of types and their conflicts in the README.

use std::collections::BTreeSet;

use coppice_crdt::CrdtType;
use serde_json::Value;

use super::{Change, Entry, Ledger, Seen, Target};

/// What a target must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Its content.
    pub expected: Expected,
    /// Whether it is there.
    pub existence: Existence,
}

/// What the content of a target must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A number within bounds, both included.
    Counter {
        /// The least.
        low: i128,
        /// The greatest.
        high: i128,
    },
    /// Elements that must be there, and those that may.
    Set {
        /// These must.
        must: BTreeSet<String>,
        /// These may; holds `must`.
        may: BTreeSet<String>,
    },
    /// Raised or not; `None`: either.
    Flag(Option<bool>),
    /// One of these values, if any.
    Register(BTreeSet<String>),
}

/// Whether a target must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// It must: content that no removal may have seen was acknowledged.
    Present,
    /// It must not: acknowledged removals saw all there was.
    Absent,
    /// The ledger does not say.
    Open,
}

/// Whether something was removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Removed {
    Yes,
    No,
    Perhaps,
}

pub(super) fn of(ledger: &Ledger, target: &Target, crdt_type: CrdtType) -> Expectation {
    let here: Vec<_> = ledger.happened().filter(|entry| entry.target == *target).collect();
    let wipes: Vec<_> = ledger.happened().filter(|entry| entry.wipes(target)).collect();
    let expected = match crdt_type {
        CrdtType::GCounter | CrdtType::PNCounter => counter(&here, &wipes),
        CrdtType::GSet | CrdtType::ORSet => set(&here, &wipes),
        CrdtType::EWFlag => flag(&here, &wipes),
        CrdtType::LWWRegister => register(&here, &wipes),
        // A map is judged by its fields.
        CrdtType::ORMap => Expected::Flag(None),
    };
    Expectation { existence: existence(&here, &wipes, &expected), expected }
}

fn counter(here: &[&Entry], wipes: &[&Entry]) -> Expected {
    let (mut low, mut high) = (0, 0);
    for entry in here {
        let Change::Add(by) = entry.change else { continue };
        let by = i128::from(by);
        let removed = entry.removed_by(wipes);
        let surely = entry.is_acknowledged() && removed == Removed::No;
        let perhaps = removed != Removed::Yes;
        low += if surely || (perhaps && by < 0) { by } else { 0 };
        high += if surely || (perhaps && by > 0) { by } else { 0 };
    }
    Expected::Counter { low, high }
}

fn set(here: &[&Entry], wipes: &[&Entry]) -> Expected {
    let (mut must, mut may) = (BTreeSet::new(), BTreeSet::new());
    for entry in here {
        let Change::Put(element) = &entry.change else { continue };
        let takes = here.iter().filter(|take| take.change == Change::Take(element.clone()));
        let removals: Vec<_> = takes.chain(wipes).copied().collect();
        match entry.removed_by(&removals) {
            Removed::No if entry.is_acknowledged() => {
                must.insert(element.clone());
                may.insert(element.clone());
            }
            Removed::No | Removed::Perhaps => {
                may.insert(element.clone());
            }
            Removed::Yes => {}
        }
    }
    Expected::Set { must, may }
}

fn flag(here: &[&Entry], wipes: &[&Entry]) -> Expected {
    let lowers = here.iter().filter(|entry| entry.change == Change::Disable);
    let removals: Vec<_> = lowers.chain(wipes).copied().collect();
    let (mut surely, mut perhaps) = (false, false);
    for entry in here.iter().filter(|entry| entry.change == Change::Enable) {
        let removed = entry.removed_by(&removals);
        surely |= removed == Removed::No && entry.is_acknowledged();
        perhaps |= removed != Removed::Yes;
    }
    Expected::Flag(if surely { Some(true) } else { (!perhaps).then_some(false) })
}

fn register(here: &[&Entry], wipes: &[&Entry]) -> Expected {
    // A write removes what it saw, as a removal does.
    let removals: Vec<_> = here.iter().chain(wipes).copied().collect();
    let values = here.iter().filter(|entry| entry.removed_by(&removals) != Removed::Yes);
    let values = values.filter_map(|entry| match &entry.change {
        Change::Write(value) => Some(value.clone()),
        _ => None,
    });
    Expected::Register(values.collect())
}

fn existence(here: &[&Entry], wipes: &[&Entry], expected: &Expected) -> Existence {
    let kept = |entry: &&&Entry| entry.is_acknowledged() && entry.removed_by(wipes) == Removed::No;
    let holds_content = match expected {
        Expected::Counter { .. } => {
            here.iter().filter(kept).any(|entry| matches!(entry.change, Change::Add(_)))
        }
        Expected::Set { must, .. } => !must.is_empty(),
        Expected::Flag(flag) => *flag == Some(true),
        Expected::Register(_) => {
            here.iter().filter(kept).any(|entry| matches!(entry.change, Change::Write(_)))
        }
    };
    // What clears leaves an object behind, and what a field's removal leaves is
    // a map: only a removal of the target itself makes it absent.
    let deletes: Vec<_> =
        wipes.iter().filter(|entry| entry.removes_existence(here)).copied().collect();
    let makers = here.iter().filter(|entry| entry.change != Change::Delete);
    if holds_content {
        Existence::Present
    } else if makers.clone().all(|entry| entry.removed_by(&deletes) == Removed::Yes) {
        Existence::Absent
    } else {
        Existence::Open
    }
}

// === impl Entry ===

impl Entry {
    /// Whether it removes all content of `target` that it saw.
    fn wipes(&self, target: &Target) -> bool {
        matches!(self.change, Change::Clear | Change::Delete) && self.target.holds(target)
    }

    /// Whether it removes existence too, of a target that `here` is about.
    fn removes_existence(&self, here: &[&Entry]) -> bool {
        let is_field = here.first().is_some_and(|entry| entry.target.field.is_some());
        self.change == Change::Delete || (is_field && self.target.field.is_none())
    }

    fn removed_by(&self, removals: &[&Entry]) -> Removed {
        let mut removed = Removed::No;
        for removal in removals.iter().filter(|removal| !std::ptr::eq(**removal, self)) {
            match removal.has_seen(self) {
                Seen::Yes if removal.is_acknowledged() => return Removed::Yes,
                Seen::Yes | Seen::Perhaps => removed = Removed::Perhaps,
                Seen::No => {}
            }
        }
        removed
    }
}

// === impl Expectation ===

impl Expectation {
    /// Whether it leaves nothing open but which of concurrent values wins.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        match &self.expected {
            Expected::Counter { low, high } => low == high,
            Expected::Set { must, may } => must == may,
            Expected::Flag(flag) => flag.is_some(),
            Expected::Register(_) => self.existence != Existence::Open,
        }
    }

    /// What is wrong with `value`, as an agent shows it; `None` if nothing is.
    #[must_use]
    pub fn contradiction(&self, value: Option<&Value>) -> Option<String> {
        match (self.existence, value) {
            (Existence::Present, None) => return Some("is absent, and must be there".into()),
            (Existence::Absent, Some(_)) => return Some("is there, and was removed".into()),
            _ => {}
        }
        match &self.expected {
            Expected::Counter { low, high } => {
                let number = value.map_or(Some(0), Value::as_i64).map(i128::from);
                let fits = number.is_some_and(|number| (*low..=*high).contains(&number));
                (!fits).then(|| format!("is {}, and must be {low} to {high}", shown(value)))
            }
            Expected::Set { must, may } => {
                let items = value.and_then(Value::as_array).into_iter().flatten();
                let items: BTreeSet<_> =
                    items.filter_map(|item| item.as_str().map(str::to_owned)).collect();
                let lost: Vec<_> = must.difference(&items).collect();
                let revived: Vec<_> = items.difference(may).collect();
                let wrong = !lost.is_empty() || !revived.is_empty();
                wrong.then(|| format!("lacks {lost:?} and has {revived:?} too many"))
            }
            Expected::Flag(flag) => {
                let raised = value.map_or(Some(false), Value::as_bool);
                let wrong = raised.is_none() || flag.is_some_and(|flag| Some(flag) != raised);
                wrong.then(|| format!("is {}, and must be {flag:?}", shown(value)))
            }
            Expected::Register(values) => {
                let wrong = value.is_some_and(|value| {
                    value.as_str().is_none_or(|value| !values.contains(value))
                });
                wrong.then(|| format!("is {}, and must be one of {values:?}", shown(value)))
            }
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), Value::to_string)
}
