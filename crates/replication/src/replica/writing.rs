//! Local writes.

use coppice_crdt::mutant::{self, Mutant};
use coppice_crdt::{
    CrdtType, Dot, EntryKey, EntryRange, HybridTimestamp, MAX_CELLS_PER_UNIT, ObjectDelta,
    Operation, OperationContext, Outcome, Part, Refusal, VersionVector, apply,
};

use super::{Now, Replica};
use crate::record::LogItem;
use crate::unit::{Cover, MAX_UNIT_BYTES, ObjectKey, Unit};
use crate::working_set::Missing;

/// What local writes may not exceed. Joins are never refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteLimits {
    /// Objects of the group.
    pub objects: u64,
    /// Live entries over all objects of the group.
    pub elements: u64,
    /// Bytes of a register's value.
    pub value_bytes: u64,
}

/// Some operations to apply whole or not at all.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// In order; later ones see earlier ones.
    pub operations: &'a [(ObjectKey, Operation)],
    /// What they may not exceed.
    pub limits: WriteLimits,
}

/// Why a submission was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitRefusal {
    /// One operation was.
    Operation {
        /// Which, from 0.
        index: usize,
        /// Why.
        refusal: Refusal,
    },
    /// The group would have more objects than it may.
    TooManyObjects,
    /// The group would have more entries than it may.
    TooManyElements,
    /// The unit would be about so many bytes long: over the protocol's limit.
    UnitTooLarge(usize),
}

impl Replica {
    /// Carries out operations as one unit of consecutive dots.
    ///
    /// What they answer may be told once the next seal is committed. Operations
    /// that change nothing take no dot.
    ///
    /// # Errors
    ///
    /// [`Missing`]: supply it and call again; nothing was changed. The inner
    /// error is a refusal; nothing was changed either.
    pub fn submit(
        &mut self,
        submission: Submission<'_>,
        now: Now,
    ) -> Result<Result<Vec<Outcome>, SubmitRefusal>, Missing> {
        self.require_points(submission.operations)?;
        if mutant::is(Mutant::BatchSplit) && submission.operations.len() > 1 {
            return self.submit_in_two(submission, now);
        }
        let savepoint = self.set.savepoint();
        let before = (submission.operations.len() > 1).then(|| self.seen().clone());
        let first = self.seen().get(&self.identity.opening);
        let done = self.run_operations(submission, now, first);
        let accepted = matches!(done, Ok(Ok(_)));
        if !accepted {
            self.set.rollback(savepoint);
            if let Some(before) = before {
                self.seen[0].1 = before;
            }
        }
        let (outcomes, unit) = match done? {
            Ok(done) => done,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(cover) = unit.covers.first() {
            // The store has to remember an actor from its first write on.
            self.head_due |= cover.after == 0;
            self.raise_seen(&unit);
            self.pending.push(LogItem::Unit(unit));
        }
        Ok(Ok(outcomes))
    }

    /// What [`Mutant::BatchSplit`] does: two units, of which a peer may get one
    /// before the other.
    fn submit_in_two(
        &mut self,
        submission: Submission<'_>,
        now: Now,
    ) -> Result<Result<Vec<Outcome>, SubmitRefusal>, Missing> {
        let (savepoint, before) = (self.set.savepoint(), self.seen().clone());
        let first = before.get(&self.identity.opening);
        let done = self.run_operations(submission, now, first);
        self.set.rollback(savepoint);
        self.seen[0].1 = before;
        if let Err(refusal) = done? {
            return Ok(Err(refusal));
        }
        let mut outcomes = Vec::new();
        for operation in submission.operations {
            let operations = std::slice::from_ref(operation);
            match self.submit(Submission { operations, ..submission }, now)? {
                Ok(outcome) => outcomes.extend(outcome),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Ok(Ok(outcomes))
    }

    /// Checks that what operations with many elements touch is loaded.
    fn require_points(&self, operations: &[(ObjectKey, Operation)]) -> Result<(), Missing> {
        let crdt_type = self.identity.crdt_type;
        if let [(_, operation)] = operations
            && points(crdt_type, operation).len() < 2
        {
            return Ok(());
        }
        let points: Vec<(&ObjectKey, Vec<EntryKey>)> =
            operations.iter().map(|(key, operation)| (key, points(crdt_type, operation))).collect();
        self.set.require(points.iter().map(|(key, names)| (*key, names.iter())))
    }

    fn run_operations(
        &mut self,
        submission: Submission<'_>,
        now: Now,
        first: u64,
    ) -> Result<Result<(Vec<Outcome>, Unit), SubmitRefusal>, Missing> {
        let totals = self.set.totals();
        let own = self.identity.opening;
        let mut outcomes = Vec::with_capacity(submission.operations.len());
        let mut unit = Unit::default();
        let mut last = first;
        let mut bytes = 0;
        for (index, target) in submission.operations.iter().enumerate() {
            let dot = Dot::new(own, last + 1);
            let applied = match self.run_operation(target, dot, submission.limits, now)? {
                Ok(applied) => applied,
                Err(refusal) => {
                    return Ok(Err(SubmitRefusal::Operation { index, refusal }));
                }
            };
            outcomes.push(applied.outcome);
            if applied.delta.is_empty() {
                continue;
            }
            last = dot.n;
            if submission.operations.len() > 1 {
                self.seen[0].1.raise(own, last);
            }
            bytes += delta_bytes(&applied.delta);
            if bytes > MAX_UNIT_BYTES {
                return Ok(Err(SubmitRefusal::UnitTooLarge(bytes)));
            }
            unit.objects.entry(target.0.clone()).or_default().join(applied.delta);
        }
        let grown = self.set.totals();
        if grown.objects > totals.objects && grown.objects > submission.limits.objects {
            return Ok(Err(SubmitRefusal::TooManyObjects));
        }
        if grown.entries > totals.entries && grown.entries > submission.limits.elements {
            return Ok(Err(SubmitRefusal::TooManyElements));
        }
        if last > first {
            unit.covers.push(Cover { actor: own, after: first, upto: last });
        }
        Ok(Ok((outcomes, unit)))
    }

    fn run_operation(
        &mut self,
        (key, operation): &(ObjectKey, Operation),
        dot: Dot,
        limits: WriteLimits,
        now: Now,
    ) -> Result<Result<coppice_crdt::Applied, Refusal>, Missing> {
        let stamp = match self.identity.crdt_type {
            CrdtType::LWWRegister | CrdtType::ORMap => self.clock.tick(now.wall_ms),
            // Nothing else is stamped.
            _ => HybridTimestamp::default(),
        };
        let by_interval;
        let seen: &[(EntryRange, VersionVector)] = if self.is_under_repair() {
            by_interval = self.seen_of(key);
            &by_interval
        } else {
            &self.seen
        };
        let object = self.set.object(key)?;
        let context = OperationContext {
            dot,
            stamp,
            now_ms: now.wall_ms,
            seen,
            value_bytes_limit: limits.value_bytes,
            is_littered: object.is_littered(),
        };
        let applied = match apply(operation, self.identity.crdt_type, &object, &context)? {
            Ok(applied) => applied,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !applied.delta.removals.is_empty() && self.set.is_full_of_hidden(key)? {
            return Ok(Err(Refusal::NeedsSteps { cells: MAX_CELLS_PER_UNIT }));
        }
        self.set.join_delta(key, &applied.delta, seen)?;
        Ok(Ok(applied))
    }

    /// Removes the value of a register that is expired, if that is this
    /// replica's to do: its writer does, else the connected member with the
    /// lowest opening, once the clocks of all members heard lately are past the
    /// deadline.
    ///
    /// # Errors
    ///
    /// [`Missing`]: supply it and call again.
    pub fn purge(&mut self, key: &ObjectKey, deadline_ms: u64, now: Now) -> Result<bool, Missing> {
        if !self.is_purger(key, deadline_ms, now)? {
            return Ok(false);
        }
        if mutant::is(Mutant::PurgeWithoutDot) {
            let name = EntryKey::of_object(Part::Value);
            let old = self.set.entry(key, &name)?;
            self.set.replace_entry(key, &name, old.as_ref(), None)?;
            return Ok(true);
        }
        let operations = [(key.clone(), Operation::Purge)];
        let limits = WriteLimits { objects: u64::MAX, elements: u64::MAX, value_bytes: u64::MAX };
        let outcomes = self.submit(Submission { operations: &operations, limits }, now)?;
        let purged = matches!(outcomes.as_deref(), Ok([Outcome::Purged(true)]));
        self.counters.purges += u64::from(purged);
        Ok(purged)
    }

    fn is_purger(&self, key: &ObjectKey, deadline_ms: u64, now: Now) -> Result<bool, Missing> {
        const HEARD_LATELY_MS: u64 = 10_000;
        let behind = self.members.iter().any(|(_, member)| {
            // The clock of one that is only told of is not known.
            let lately = member.said_hello && member.silent_ms(now.steady_ms) <= HEARD_LATELY_MS;
            let their_ms = now.wall_ms.saturating_add_signed(member.skew_ms);
            lately && their_ms <= deadline_ms
        });
        if behind || now.wall_ms <= deadline_ms {
            return Ok(false);
        }
        let own = self.identity.opening;
        let writer = self.set.writer_of(key)?;
        let writer_is_linked = self.members.linked().any(|linked| Some(linked) == writer);
        if writer == Some(own) || writer_is_linked {
            return Ok(writer == Some(own));
        }
        Ok(self.members.linked().all(|linked| own < linked))
    }
}

/// The entries that an operation on many elements touches one by one; what other
/// operations touch is little, and found when it is missing.
fn points(crdt_type: CrdtType, operation: &Operation) -> Vec<EntryKey> {
    match operation {
        Operation::Add { elements } | Operation::Remove { elements } if crdt_type.is_set() => {
            let parts = elements.iter().map(|element| Part::Element(element.as_bytes()));
            parts.map(EntryKey::of_object).collect()
        }
        Operation::Update { field, crdt_type, operation } => match &**operation {
            Operation::Add { elements } | Operation::Remove { elements } => {
                let parts = elements.iter().map(|element| Part::Element(element.as_bytes()));
                parts.map(|part| EntryKey::of_field(field, *crdt_type, part)).collect()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// About how many bytes a delta takes; exact enough to bound a unit.
fn delta_bytes(delta: &ObjectDelta) -> usize {
    let mut out = crate::codec::Encoder::new();
    if delta.entries.len() + delta.removals.len() < 64 {
        // The common case costs no second encoding: 64 entries of the largest
        // names and values stay far below the limit, values apart.
        let values = delta.entries.values().map(|change| match change {
            coppice_crdt::EntryDelta::Versions { written, .. } => {
                written.iter().map(|version| version.bytes.len()).sum::<usize>()
            }
            _ => 0,
        });
        return values.sum::<usize>() + 1024;
    }
    crate::state_codec::put_object_delta(&mut out, delta);
    out.len()
}
