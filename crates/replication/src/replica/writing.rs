//! Local writes.

use coppice_crdt::mutant::{self, Mutant};
use coppice_crdt::{
    CrdtType, Dot, EntryKey, EntryRange, HybridTimestamp, ObjectDelta, Operation, OperationContext,
    Outcome, Part, Refusal, VersionVector, apply,
};

use super::{Now, Replica};
use crate::record::{LogItem, Totals};
use crate::unit::{Cover, MAX_UNIT_BYTES, ObjectKey, Unit};
use crate::working_set::{Missing, Savepoint};

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

/// What is done of a submission: changes are in the working set, and nobody sees
/// them before the whole is.
#[derive(Debug)]
pub(super) struct Begun {
    savepoint: Savepoint,
    totals: Totals,
    /// What was seen before it, for more than one operation.
    before: Option<VersionVector>,
    first: u64,
    last: u64,
    bytes: usize,
    outcomes: Vec<Outcome>,
    unit: Unit,
}

impl Replica {
    /// Carries out operations as one unit of consecutive dots.
    ///
    /// What they answer may be told once the next seal is committed. Operations
    /// that change nothing take no dot.
    ///
    /// # Errors
    ///
    /// [`Missing`]: supply it and call again with the same submission before
    /// anything else; what was done of it is kept, so that a batch costs no more
    /// for all that it touches being on disk. The inner error is a refusal;
    /// nothing was changed.
    pub fn submit(
        &mut self,
        submission: Submission<'_>,
        now: Now,
    ) -> Result<Result<Vec<Outcome>, SubmitRefusal>, Missing> {
        let mut begun = if let Some(begun) = self.begun.take() {
            begun
        } else {
            self.require_points(submission.operations)?;
            self.begin_submission()
        };
        if mutant::is(Mutant::BatchSplit) && submission.operations.len() > 1 {
            return self.submit_in_two(submission, begun, now);
        }
        match self.run_operations(submission, &mut begun, now) {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => {
                self.take_back(begun);
                return Ok(Err(refusal));
            }
            Err(missing) => {
                self.begun = Some(begun);
                return Err(missing);
            }
        }
        let Begun { outcomes, unit, .. } = begun;
        if let Some(cover) = unit.covers.first() {
            // The store has to remember an actor from its first write on.
            self.head_due |= cover.after == 0;
            self.raise_seen(&unit);
            self.pending.push(LogItem::Unit(unit));
        }
        Ok(Ok(outcomes))
    }

    fn begin_submission(&self) -> Begun {
        let last = self.seen().get(&self.identity.opening);
        Begun {
            savepoint: self.set.savepoint(),
            totals: self.set.totals(),
            before: None,
            first: last,
            last,
            bytes: 0,
            outcomes: Vec::new(),
            unit: Unit::default(),
        }
    }

    fn take_back(&mut self, begun: Begun) {
        self.set.rollback(begun.savepoint);
        if let Some(before) = begun.before {
            self.seen[0].1 = before;
        }
    }

    /// What [`Mutant::BatchSplit`] does: two units, of which a peer may get one
    /// before the other.
    fn submit_in_two(
        &mut self,
        submission: Submission<'_>,
        mut begun: Begun,
        now: Now,
    ) -> Result<Result<Vec<Outcome>, SubmitRefusal>, Missing> {
        let done = self.run_operations(submission, &mut begun, now);
        self.take_back(begun);
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

    /// Runs the operations that are not done yet.
    fn run_operations(
        &mut self,
        submission: Submission<'_>,
        begun: &mut Begun,
        now: Now,
    ) -> Result<Result<(), SubmitRefusal>, Missing> {
        let Submission { operations, limits } = submission;
        let own = self.identity.opening;
        if operations.len() > 1 && begun.before.is_none() {
            begun.before = Some(self.seen().clone());
        }
        for (index, target) in operations.iter().enumerate().skip(begun.outcomes.len()) {
            let dot = Dot::new(own, begun.last + 1);
            let savepoint = self.set.savepoint();
            let applied = match self.run_operation(target, dot, limits, now) {
                Ok(Ok(applied)) => applied,
                Ok(Err(refusal)) => {
                    return Ok(Err(SubmitRefusal::Operation { index, refusal }));
                }
                Err(missing) => {
                    self.set.rollback(savepoint);
                    return Err(missing);
                }
            };
            begun.outcomes.push(applied.outcome);
            if applied.delta.is_empty() {
                continue;
            }
            begun.last = dot.n;
            if operations.len() > 1 {
                self.seen[0].1.raise(own, dot.n);
            }
            begun.bytes += delta_bytes(&applied.delta);
            if begun.bytes > MAX_UNIT_BYTES {
                return Ok(Err(SubmitRefusal::UnitTooLarge(begun.bytes)));
            }
            begun.unit.objects.entry(target.0.clone()).or_default().join(applied.delta);
        }
        let (totals, grown) = (begun.totals, self.set.totals());
        if grown.objects > totals.objects && grown.objects > limits.objects {
            return Ok(Err(SubmitRefusal::TooManyObjects));
        }
        if grown.entries > totals.entries && grown.entries > limits.elements {
            return Ok(Err(SubmitRefusal::TooManyElements));
        }
        if begun.last > begun.first {
            begun.unit.covers.push(Cover { actor: own, after: begun.first, upto: begun.last });
        }
        Ok(Ok(()))
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
            removals: self.set.pace.limits,
        };
        let applied = match apply(operation, self.identity.crdt_type, &object, &context)? {
            Ok(applied) => applied,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !applied.delta.removals.is_empty() && self.set.is_full_of_hidden(key)? {
            return Ok(Err(Refusal::NeedsSteps { cells: context.removals.cells }));
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
