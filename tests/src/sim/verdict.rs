//! What must hold once all is healed and nothing changes any more.

use coppice_agent::engine::GroupFigures;
use coppice_agent::query::{QueryError, StoredGroup, ViewSource};
use coppice_agent::store::Store;
use coppice_crdt::{CrdtType, Element, Entries, EtagKey, query};

use super::ledger::Visible;
use super::model::Value;
use super::world::World;
use super::wrong::Wrong;

/// Simulated time that healing may take.
const PATIENCE_MS: u64 = 120_000;

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

    fn is_settled(&self) -> bool {
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

    fn judge(&self, held: &Visible) -> Result<(), Wrong> {
        let first = self.order[0];
        let visible = self.replicas[first].visible();
        for (object, seen) in held.iter().enumerate() {
            if !seen.is_within(&visible[object]) {
                return Err(
                    format!("writes of object {object} are gone that some disk held").into()
                );
            }
        }
        for (number, recording) in self.ledger.recordings.iter().enumerate() {
            let there = self.ledger.is_seen(number, visible);
            if recording.acknowledged && !recording.excused && !there {
                return Err(format!("operation {number} was acknowledged and is gone").into());
            }
        }
        let digest = self.figures(first).map(|figures| figures.digest);
        let wall_ms = self.replicas[first].now(self.now_ms).wall_ms;
        for &at in &self.order {
            if self.replicas[at].visible() != visible {
                return Err(format!("replicas {first} and {at} have seen different writes").into());
            }
            let figures = self.figures(at);
            if figures.as_ref().map(|figures| figures.digest) != digest {
                return Err(format!("replicas {first} and {at} have different digests").into());
            }
            if figures.is_some_and(|figures| figures.counters.digest_mismatches > 0) {
                return Err(format!("replica {at} met another digest under its vector").into());
            }
            for object in 0..self.ledger.keys.len() {
                self.check_value(at, object, wall_ms)?;
                if self.etag(at, object)? != self.etag(first, object)? {
                    return Err(format!("replicas {first} and {at} have different etags").into());
                }
            }
        }
        Ok(())
    }

    /// Holds an object against what it should be for what its replica has seen.
    pub(super) fn check_value(&self, at: usize, object: usize, wall_ms: u64) -> Result<(), Wrong> {
        let seen = &self.replicas[at].visible()[object];
        let expected = self.ledger.model(object).value(seen, wall_ms);
        let found = self
            .with_object(at, object, |entries| value_of(entries, self.ledger.crdt_type, wall_ms))?;
        if found == expected {
            return Ok(());
        }
        Err(format!("object {object} at replica {at} is {found:?} instead of {expected:?}").into())
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
