//! Every operation of a run: what it was, who had seen what, what was promised.
//!
//! An operation gets its number when it is submitted. When its replica commits
//! it, the number is put beside the place in the log where it went; a frame takes
//! along the numbers of what it was made from, and they are put beside the place
//! in the receiver's log. So it is known what a replica has seen without asking
//! what its dots and vectors say.

use std::collections::VecDeque;
use std::rc::Rc;

use coppice_agent::records::GroupRecords;
use coppice_agent::store::Read;
use coppice_crdt::{ActorId, CrdtType, Dot, EntryDelta, HybridTimestamp, Operation, VersionVector};
use coppice_replication::{LogItem, RepairRecord, Unit, range_of};

use super::model::{Expected, Model};
use super::recorded::{Arrivals, Numbers, Recorded, Visible};
use super::wrong::Wrong;

/// Number of an operation over the whole run.
pub(super) type OpNumber = usize;

/// A request whose unit is not committed yet.
#[derive(Clone, Debug)]
pub(super) struct Predicted {
    pub(super) operations: Vec<OpNumber>,
}

/// One operation that changed something.
#[derive(Debug)]
pub(super) struct Recording {
    object: usize,
    event: usize,
    /// What its issuer had seen, of all objects.
    saw: Rc<Visible>,
    /// The operations of its batch.
    batch: Rc<[OpNumber]>,
    /// It was answered.
    pub(super) acknowledged: bool,
    /// A fault took it that its durability does not guard against.
    pub(super) excused: bool,
}

/// What a commit may have brought.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    /// Requests whose units are not committed yet, in order.
    pub(super) pending: &'a mut VecDeque<Predicted>,
    pub(super) arrivals: &'a Arrivals,
    pub(super) parts: &'a [PartAtHand],
}

/// A part of a repair that was delivered, with what its source had seen.
#[derive(Clone, Debug)]
pub(super) struct PartAtHand {
    pub(super) range: u8,
    pub(super) vector: VersionVector,
    pub(super) visible: Rc<Visible>,
}

/// All operations of a run.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) crdt_type: CrdtType,
    pub(super) keys: Vec<Rc<str>>,
    ranges: Vec<u8>,
    models: Vec<Model>,
    pub(super) recordings: Vec<Recording>,
    pub(super) conflicts: u64,
}

impl Ledger {
    pub(super) fn new(
        crdt_type: CrdtType,
        keys: Vec<Rc<str>>,
        etag_key: coppice_crdt::EtagKey,
    ) -> Self {
        let ranges = keys.iter().map(|key| range_of(etag_key, key)).collect();
        let models = keys.iter().map(|_| Model::new(crdt_type)).collect();
        Self { crdt_type, keys, ranges, models, recordings: Vec::new(), conflicts: 0 }
    }

    pub(super) fn nothing_seen(&self) -> Recorded {
        Recorded::of_objects(self.keys.len())
    }

    pub(super) fn model(&self, object: usize) -> &Model {
        &self.models[object]
    }

    pub(super) fn model_mut(&mut self, object: usize) -> &mut Model {
        &mut self.models[object]
    }

    /// Foretells what a request does where `visible` was seen, and gives its
    /// operations numbers. `Err`: it is refused with this status. `held`: what
    /// anybody has, that it may conflict with.
    pub(super) fn submit(
        &mut self,
        operations: &[(usize, Operation)],
        (visible, held): (&mut Visible, &Visible),
        (issuer, now_ms): (ActorId, u64),
    ) -> Result<Predicted, u16> {
        let before = (visible.clone(), self.conflicts);
        let mut numbers = Vec::new();
        for (object, operation) in operations {
            match self.models[*object].expect(operation, &visible[*object], now_ms) {
                Expected::Refused(status) => {
                    (*visible, self.conflicts) = before; // What was recorded of the batch is seen by nobody.
                    return Err(status);
                }
                Expected::Nothing => {}
                Expected::Change => {
                    let seen = (&mut *visible, held);
                    numbers.push(self.record(*object, operation, seen, (issuer, now_ms)));
                }
            }
        }
        let batch: Rc<[OpNumber]> = numbers.clone().into();
        for &number in &numbers {
            self.recordings[number].batch = Rc::clone(&batch);
        }
        Ok(Predicted { operations: numbers })
    }

    fn record(
        &mut self,
        object: usize,
        operation: &Operation,
        (visible, held): (&mut Visible, &Visible),
        by: (ActorId, u64),
    ) -> OpNumber {
        let saw = Rc::new(visible.clone());
        let (event, conflicts) =
            self.models[object].record(operation, (&saw[object], &held[object]), by);
        self.conflicts += u64::from(conflicts);
        visible[object].insert(event);
        self.record_event(object, event, saw)
    }

    /// Gives an event of an object's model its number.
    pub(super) fn record_event(
        &mut self,
        object: usize,
        event: usize,
        saw: Rc<Visible>,
    ) -> OpNumber {
        let (batch, acknowledged, excused) = (Rc::from([]), false, false);
        self.recordings.push(Recording { object, event, saw, batch, acknowledged, excused });
        self.recordings.len() - 1
    }

    /// Whether an operation that changes something conflicts where this was seen.
    pub(super) fn would_conflict(
        &self,
        object: usize,
        operation: &Operation,
        (seen, held): (&Visible, &Visible),
    ) -> bool {
        self.models[object].would_conflict(operation, &seen[object], &held[object])
    }

    pub(super) fn is_seen(&self, number: OpNumber, visible: &Visible) -> bool {
        let recording = &self.recordings[number];
        visible[recording.object].contains(recording.event)
    }

    pub(super) fn see(&self, number: OpNumber, visible: &mut Visible) {
        let recording = &self.recordings[number];
        visible[recording.object].insert(recording.event);
    }

    /// Brings what is recorded beside a store up to its last commit.
    ///
    /// `own` writes here.
    pub(super) fn observe<R: Read>(
        &mut self,
        records: GroupRecords<'_, R>,
        recorded: &mut Recorded,
        own: ActorId,
        inputs: &mut Inputs<'_>,
    ) -> Result<(), Wrong> {
        let before = recorded.visible.clone();
        let read = records.log(recorded.next_seq, usize::MAX).map_err(Wrong::core)?;
        for (seq, record, _) in &read {
            if *seq != recorded.next_seq {
                return Err(format!("log record {} is missing", recorded.next_seq).into());
            }
            recorded.next_seq += 1;
            for item in &record.items {
                if let LogItem::Unit(unit) = item {
                    let numbers = match inputs.arrivals.find(unit) {
                        Some(shipped) => Rc::clone(&shipped.numbers),
                        None => {
                            self.number(unit, own, inputs.pending, (recorded, record.time_ms))?
                        }
                    };
                    self.take_unit(unit, numbers, recorded)?;
                }
            }
        }
        let repair = records.repair().map_err(Wrong::core)?;
        if repair != recorded.repair {
            if let Some(head) = records.head().map_err(Wrong::core)? {
                recorded.vector.join(&head.vector);
            }
            self.take_repair(repair.as_ref(), recorded, inputs.parts)?;
            recorded.repair = repair;
        }
        if recorded.repair.is_none() && recorded.visible != before {
            self.check_whole(&before, &recorded.visible)?;
        }
        Ok(())
    }

    fn take_unit(
        &mut self,
        unit: &Unit,
        numbers: Numbers,
        recorded: &mut Recorded,
    ) -> Result<(), Wrong> {
        if numbers.len() as u64 != unit.writes() {
            let (known, runs) = (numbers.len(), &unit.covers);
            return Err(format!("{known} operations are known of the unit of {runs:?}").into());
        }
        for (_, number) in &*numbers {
            self.see(*number, &mut recorded.visible);
        }
        unit.raise(&mut recorded.vector);
        recorded.log(numbers);
        Ok(())
    }

    /// The operations of a unit that was not sent here: it was written here. A
    /// request may take several units, as long as nobody sees one without the
    /// others.
    fn number(
        &mut self,
        unit: &Unit,
        own: ActorId,
        pending: &mut VecDeque<Predicted>,
        (recorded, now_ms): (&Recorded, u64),
    ) -> Result<Numbers, Wrong> {
        let dots: Vec<Dot> = dots_of(unit).collect();
        if dots.iter().any(|dot| dot.actor != own) {
            return Err(format!("a unit that was not sent here: {:?}", unit.covers).into());
        }
        let mut numbers = match pending.pop_front() {
            Some(predicted) => predicted.operations,
            None => self.purged(unit, &recorded.visible, (own, now_ms))?,
        };
        let rest = numbers.split_off(dots.len().min(numbers.len()));
        if !rest.is_empty() {
            pending.push_front(Predicted { operations: rest });
        }
        let numbers: Numbers = dots.into_iter().zip(numbers).collect();
        self.take_stamps(unit, &numbers);
        Ok(numbers)
    }

    /// An own unit that nobody asked for: a register that expired is removed.
    fn purged(
        &mut self,
        unit: &Unit,
        visible: &Visible,
        by: (ActorId, u64),
    ) -> Result<Vec<OpNumber>, Wrong> {
        let object = unit.objects.keys().next();
        let object = object.and_then(|key| self.keys.iter().position(|known| **known == **key));
        let Some(object) = object else { return Err("a unit of an unknown object".into()) };
        match self.models[object].expect(&Operation::Purge, &visible[object], by.1) {
            Expected::Change if self.crdt_type == CrdtType::LWWRegister => {
                let mut seen = visible.clone();
                Ok(vec![self.record(object, &Operation::Purge, (&mut seen, visible), by)])
            }
            _ => Err(format!("a write that nobody asked for: {unit:?}").into()),
        }
    }

    fn take_stamps(&mut self, unit: &Unit, numbers: &[(Dot, OpNumber)]) {
        for change in unit.objects.values().flat_map(|delta| delta.entries.values()) {
            let EntryDelta::Versions { written, .. } = change else { continue };
            for version in written {
                let found = numbers.iter().find(|(dot, _)| *dot == version.dot);
                let Some(&(_, number)) = found else { continue };
                self.stamp(number, (version.stamp, version.dot.actor));
            }
        }
    }

    /// Tells by what readers choose a value that was set among concurrent ones.
    pub(super) fn stamp(&mut self, number: OpNumber, stamp: (HybridTimestamp, ActorId)) {
        let Recording { object, event, .. } = self.recordings[number];
        self.models[object].set_stamp(event, stamp);
    }

    /// Whether a range was completed by this commit shows in the repair record; when
    /// that goes, all that parts at hand brought is here.
    fn take_repair(
        &self,
        repair: Option<&RepairRecord>,
        recorded: &mut Recorded,
        parts: &[PartAtHand],
    ) -> Result<(), Wrong> {
        let intervals = |record: Option<&RepairRecord>, range: u8| {
            let ranges = record.map_or(&[][..], |record| &record.ranges);
            ranges.iter().find(|(known, _)| *known == range).map(|(_, intervals)| intervals.clone())
        };
        let last = recorded.repair.as_ref();
        // A commit may join the last part and end the repair.
        let joined = repair.map_or(&recorded.vector, |record| &record.merged).clone();
        match repair {
            Some(_) => {
                for part in parts.iter().filter(|part| part.vector.is_covered_by(&joined)) {
                    for (brought, seen) in recorded.brought.iter_mut().zip(&*part.visible) {
                        brought.join(seen);
                    }
                }
            }
            None => recorded.brought = self.nothing_seen().visible,
        }
        for range in 0..64 {
            let changed = intervals(repair, range) != intervals(last, range);
            if !changed && repair.is_some() {
                continue;
            }
            let mut parts = parts.iter().rev();
            let part = parts.find(|part| part.range == range && part.vector.is_covered_by(&joined));
            match part {
                Some(part) => {
                    for (object, seen) in part.visible.iter().enumerate() {
                        if self.ranges[object] == range {
                            recorded.visible[object].join(seen);
                        }
                    }
                }
                None if repair.is_some() => {
                    return Err(format!("no part explains range {range}").into());
                }
                None => {}
            }
        }
        Ok(())
    }

    /// What was acknowledged is there, or was taken by a fault that may take it.
    pub(super) fn check_kept(&self, visible: &Visible) -> Result<(), Wrong> {
        let gone = self.recordings.iter().enumerate().find(|(number, recording)| {
            recording.acknowledged && !recording.excused && !self.is_seen(*number, visible)
        });
        match gone {
            Some((number, _)) => {
                Err(format!("operation {number} was acknowledged and is gone").into())
            }
            None => Ok(()),
        }
    }

    /// What came came whole, and after all that its issuer had seen.
    pub(super) fn check_whole(&self, before: &Visible, visible: &Visible) -> Result<(), Wrong> {
        for (number, recording) in self.recordings.iter().enumerate() {
            if !self.is_seen(number, visible) || self.is_seen(number, before) {
                continue;
            }
            if !recording.saw.iter().zip(visible).all(|(saw, seen)| saw.is_within(seen)) {
                return Err(
                    format!("operation {number} came before what its issuer had seen").into()
                );
            }
            if !recording.batch.iter().all(|&other| self.is_seen(other, visible)) {
                return Err(format!("only a part of the batch {:?} came", recording.batch).into());
            }
        }
        Ok(())
    }
}

fn dots_of(unit: &Unit) -> impl Iterator<Item = Dot> + '_ {
    let runs = unit.covers.iter();
    runs.flat_map(|run| (run.after + 1..=run.upto).map(|n| Dot::new(run.actor, n)))
}
