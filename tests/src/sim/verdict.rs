//! What must hold once all is healed and nothing changes any more.

use coppice_agent::engine::GroupFigures;
use coppice_agent::query::{QueryError, StoredGroup, ViewSource};
use coppice_agent::store::Store;
use coppice_crdt::{CrdtType, Element, Entries, EtagKey, query};

use super::ledger::Ledger;
use super::model::Value;
use super::recorded::Visible;
use super::replica::SimEngine;
use super::seen::Seen;
use super::world::World;
use super::wrong::Wrong;

/// Simulated time that healing may take.
const PATIENCE_MS: u64 = 120_000;

/// How a replica ended.
#[derive(Clone, Debug)]
struct End {
    at: usize,
    visible: Visible,
    values: Vec<Value>,
    etags: Vec<Option<u128>>,
    digest: Option<u128>,
    mismatches: u64,
}

/// Whether replicas that should be equal are, and are what they should be.
fn judge(ledger: &Ledger, held: &Visible, ends: &[End], wall_ms: u64) -> Result<(), Wrong> {
    let Some(first) = ends.first() else { return Err("no replica is left".into()) };
    for (object, seen) in held.iter().enumerate() {
        if !seen.is_within(&first.visible[object]) {
            return Err(format!("writes of object {object} are gone that some disk held").into());
        }
    }
    ledger.check_kept(&first.visible)?;
    // Also what a repair brought range by range.
    ledger.check_whole(&ledger.nothing_seen().visible, &first.visible)?;
    for end in ends {
        let pair = format!("replicas {} and {}", first.at, end.at);
        if end.visible != first.visible {
            return Err(format!("{pair} have seen different writes").into());
        }
        if end.digest != first.digest {
            return Err(format!("{pair} have different digests").into());
        }
        if end.mismatches > 0 {
            return Err(format!("replica {} met another digest under its vector", end.at).into());
        }
        for (object, (value, seen)) in end.values.iter().zip(&end.visible).enumerate() {
            check(ledger, (end.at, object), seen, value, wall_ms)?;
        }
        if end.etags != first.etags {
            return Err(format!("{pair} have different etags").into());
        }
    }
    Ok(())
}

/// Holds a value that was found against what it should be for what was seen.
fn check(
    ledger: &Ledger,
    (at, object): (usize, usize),
    seen: &Seen,
    found: &Value,
    wall_ms: u64,
) -> Result<(), Wrong> {
    let expected = ledger.model(object).value(seen, wall_ms);
    if *found == expected {
        return Ok(());
    }
    Err(format!("object {object} at replica {at} is {found:?} instead of {expected:?}").into())
}

impl World<'_> {
    /// Waits until all replicas are equal, and judges them.
    pub(super) fn settle(&mut self) -> Result<(), Wrong> {
        let held = self.held_somewhere();
        let begun_ms = self.now_ms;
        loop {
            self.run_until(self.now_ms + 500)?;
            if self.is_settled() {
                break;
            }
            if self.now_ms - begun_ms > PATIENCE_MS {
                let text = format!("not equal after {PATIENCE_MS} ms: {}", self.differences());
                return Err(Wrong::patience(text));
            }
        }
        self.totals.add("simulated seconds to heal", (self.now_ms - begun_ms) / 1_000);
        for at in self.order.clone() {
            self.count_figures(at);
        }
        self.judge(&held)
    }

    /// All that some disk holds.
    pub(super) fn held_somewhere(&self) -> Visible {
        let mut held = self.ledger.nothing_seen().visible;
        for &at in &self.order {
            for (all, seen) in held.iter_mut().zip(self.replicas[at].visible()) {
                all.join(seen);
            }
        }
        held
    }

    fn figures(&self, at: usize) -> Option<GroupFigures> {
        let replica = &self.replicas[at];
        let now = replica.now(self.now_ms);
        replica.engine.as_ref()?.figures(replica.slot, now)
    }

    /// All have seen the same, and nothing is left to do.
    fn is_settled(&self) -> bool {
        let works =
            |&at: &usize| self.replicas[at].engine.as_ref().is_some_and(SimEngine::has_work);
        if self.order.iter().any(works) {
            return false;
        }
        let Some(first) = self.figures(self.order[0]) else { return false };
        self.order.iter().all(|&at| {
            self.figures(at)
                .is_some_and(|figures| figures.vector == first.vector && !figures.bootstrapping)
        })
    }

    fn differences(&self) -> String {
        let one = |&at: &usize| {
            let figures = self.figures(at)?;
            let seen: usize =
                self.replicas[at].visible().iter().map(|seen| seen.iter().count()).sum();
            Some(format!(
                "replica {at} has {} writes in its vector and {seen} recorded, bootstrapping: {}; ",
                figures.vector.count_beyond(&coppice_crdt::VersionVector::new()),
                figures.bootstrapping
            ))
        };
        self.order.iter().filter_map(one).collect()
    }

    fn judge(&mut self, held: &Visible) -> Result<(), Wrong> {
        let wall_ms = self.replicas[self.order[0]].now(self.now_ms).wall_ms;
        let ends: Result<Vec<End>, Wrong> =
            self.order.iter().map(|&at| self.end_of(at, wall_ms)).collect();
        let ends = ends?;
        self.trace.digest_of(format!("{ends:?}"));
        judge(&self.ledger, held, &ends, wall_ms)
    }

    fn end_of(&self, at: usize, wall_ms: u64) -> Result<End, Wrong> {
        let objects = 0..self.ledger.keys.len();
        let values = objects.clone().map(|object| self.value(at, object, wall_ms));
        let figures = self.figures(at);
        Ok(End {
            at,
            visible: self.replicas[at].visible().clone(),
            values: values.collect::<Result<_, _>>()?,
            etags: objects.map(|object| self.etag(at, object)).collect::<Result<_, _>>()?,
            digest: figures.as_ref().map(|figures| figures.digest),
            mismatches: figures.map_or(0, |figures| figures.counters.digest_mismatches),
        })
    }

    /// Holds an object against what it should be for what its replica has seen.
    pub(super) fn check_value(&self, at: usize, object: usize, wall_ms: u64) -> Result<(), Wrong> {
        let seen = &self.replicas[at].visible()[object];
        let found = self.value(at, object, wall_ms)?;
        check(&self.ledger, (at, object), seen, &found, wall_ms)
    }

    fn value(&self, at: usize, object: usize, wall_ms: u64) -> Result<Value, Wrong> {
        self.with_object(at, object, |entries| value_of(entries, self.ledger.crdt_type, wall_ms))
    }

    fn etag(&self, at: usize, object: usize) -> Result<Option<u128>, Wrong> {
        self.with_object(at, object, |entries| {
            Ok(entries.header()?.filter(coppice_crdt::Header::exists).map(|header| header.etag))
        })
    }

    fn with_object<T>(
        &self,
        at: usize,
        object: usize,
        read: impl Fn(&dyn Entries<Error = QueryError>) -> Result<T, QueryError>,
    ) -> Result<T, Wrong> {
        let replica = &self.replicas[at];
        let Some(engine) = &replica.engine else {
            return Err(format!("replica {at} is down").into());
        };
        let etag_key = EtagKey::new(self.plan.group_id);
        let reader = engine.store().reader();
        let group = StoredGroup { reader, slot: replica.slot, etag_key };
        let view = group.view().map_err(Wrong::core)?;
        let entries = view.entries(&self.ledger.keys[object]);
        read(&*entries).map_err(Wrong::core)
    }
}

fn value_of(
    entries: &dyn Entries<Error = QueryError>,
    crdt_type: CrdtType,
    now_ms: u64,
) -> Result<Value, QueryError> {
    if !query::exists(entries, now_ms)? {
        return Ok(Value::Absent);
    }
    let texts = |elements: Vec<Element>| {
        Value::Set(elements.iter().map(|element| element.as_str().to_owned()).collect())
    };
    let value = match crdt_type {
        CrdtType::GCounter | CrdtType::PNCounter => query::counter(entries)?.map(Value::Counter),
        CrdtType::EWFlag => query::flag(entries)?.map(Value::Flag),
        CrdtType::LWWRegister => {
            query::register(entries, now_ms)?.map(|version| Value::Register(version.bytes.into()))
        }
        CrdtType::GSet | CrdtType::ORSet => {
            query::elements(entries, None, usize::MAX)?.map(|page| texts(page.items))
        }
        CrdtType::ORMap => query::fields(entries, None, usize::MAX)?.map(|page| {
            let fields = page.items.into_iter().map(|field| {
                let value = match field.value {
                    query::FieldValue::Counter(value) => Value::Counter(value),
                    query::FieldValue::Flag(value) => Value::Flag(value),
                    query::FieldValue::Register(version) => Value::Register(version.bytes.into()),
                    query::FieldValue::Set { elements, .. } => texts(elements),
                };
                (field.name.into(), (field.crdt_type, value, field.conflicts))
            });
            Value::Map(fields.collect())
        }),
    };
    Ok(value.unwrap_or(Value::Absent))
}

#[cfg(test)]
mod tests;
