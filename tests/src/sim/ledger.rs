//! Every operation of a run: what it was, who had seen what, what was promised.
//!
//! An operation gets its number when it is submitted and its dot when its
//! replica commits it; from then on, wherever a commit brings that dot, the
//! operation is seen there. What a replica has seen stands beside its store, in
//! [`Recorded`], and rolls back and is copied with it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use coppice_agent::records::GroupRecords;
use coppice_agent::store::Read;
use coppice_crdt::{ActorId, CrdtType, Dot, EntryDelta, Operation};
use coppice_replication::{LogItem, RepairRecord, Unit, range_of};

use super::model::{Expected, Model};
use super::seen::Seen;

/// Number of an operation over the whole run.
pub(super) type OpNumber = usize;

/// What somebody has seen, by object.
pub(super) type Visible = Vec<Seen>;

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

/// What a store holds, as of one of its commits.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorded {
    pub(super) visible: Visible,
    next_seq: u64,
    repair: Option<RepairRecord>,
}

/// A part of a repair that was delivered, with what its source had seen.
#[derive(Clone, Debug)]
pub(super) struct PartAtHand {
    pub(super) range: u8,
    pub(super) vector: coppice_crdt::VersionVector,
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
    by_dot: BTreeMap<Dot, OpNumber>,
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
        Self {
            crdt_type,
            keys,
            ranges,
            models,
            recordings: Vec::new(),
            by_dot: BTreeMap::new(),
            conflicts: 0,
        }
    }

    pub(super) fn nothing_seen(&self) -> Recorded {
        let visible = vec![Seen::default(); self.keys.len()];
        Recorded { visible, next_seq: 0, repair: None }
    }

    pub(super) fn model(&self, object: usize) -> &Model {
        &self.models[object]
    }

    /// Foretells what a request does where `visible` was seen, and gives its
    /// operations numbers. `Err`: it is refused with this status.
    pub(super) fn submit(
        &mut self,
        operations: &[(usize, Operation)],
        visible: &mut Visible,
        now_ms: u64,
    ) -> Result<Predicted, u16> {
        let before = visible.clone();
        let mut numbers = Vec::new();
        for (object, operation) in operations {
            match self.models[*object].expect(operation, &visible[*object], now_ms) {
                Expected::Refused(status) => {
                    *visible = before; // What was recorded of the batch is seen by nobody.
                    return Err(status);
                }
                Expected::Nothing => {}
                Expected::Change => numbers.push(self.record(*object, operation, visible, now_ms)),
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
        visible: &mut Visible,
        now_ms: u64,
    ) -> OpNumber {
        let saw = Rc::new(visible.clone());
        let (event, conflicts) = self.models[object].record(operation, &saw[object], now_ms);
        self.conflicts += u64::from(conflicts);
        visible[object].insert(event);
        let (batch, acknowledged, excused) = (Rc::from([]), false, false);
        self.recordings.push(Recording { object, event, saw, batch, acknowledged, excused });
        self.recordings.len() - 1
    }

    pub(super) fn is_seen(&self, number: OpNumber, visible: &Visible) -> bool {
        let recording = &self.recordings[number];
        visible[recording.object].contains(recording.event)
    }

    /// Whether what is recorded is complete, and all that a repair under way in
    /// `other` brings is in it.
    pub(super) fn completes(&self, recorded: &Recorded, other: &Recorded) -> bool {
        let Some(repair) = &other.repair else { return true };
        let mut brought = self.by_dot.iter().filter(|(dot, _)| repair.merged.covers(dot));
        recorded.repair.is_none()
            && brought.all(|(_, &number)| self.is_seen(number, &recorded.visible))
    }

    /// Brings what is recorded beside a store up to its last commit.
    ///
    /// `pending` are the requests whose units `own` may have committed since,
    /// in order; `parts` the parts of repairs that were delivered.
    pub(super) fn observe<R: Read>(
        &mut self,
        records: GroupRecords<'_, R>,
        recorded: &mut Recorded,
        own: ActorId,
        (pending, parts): (&mut VecDeque<Predicted>, &[PartAtHand]),
    ) -> Result<(), String> {
        let before = recorded.visible.clone();
        let read = records.log(recorded.next_seq, usize::MAX).map_err(|error| error.to_string())?;
        for (seq, record, _) in &read {
            if *seq != recorded.next_seq {
                return Err(format!("log record {} is missing", recorded.next_seq));
            }
            recorded.next_seq += 1;
            for item in &record.items {
                if let LogItem::Unit(unit) = item {
                    self.take_unit(unit, own, pending, (&mut recorded.visible, record.time_ms))?;
                }
            }
        }
        let repair = records.repair().map_err(|error| error.to_string())?;
        if repair != recorded.repair {
            self.take_repair(repair.as_ref(), recorded, parts)?;
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
        own: ActorId,
        pending: &mut VecDeque<Predicted>,
        (visible, now_ms): (&mut Visible, u64),
    ) -> Result<(), String> {
        let dots = || {
            let runs = unit.covers.iter();
            runs.flat_map(|run| (run.after + 1..=run.upto).map(|n| Dot::new(run.actor, n)))
        };
        if dots().any(|dot| !self.by_dot.contains_key(&dot)) {
            let is_own = dots().all(|dot| dot.actor == own && !self.by_dot.contains_key(&dot));
            if !is_own {
                return Err(format!("a unit brings writes that nobody made: {:?}", unit.covers));
            }
            let numbers = match pending.pop_front() {
                Some(predicted) => predicted.operations,
                None => self.purged(unit, visible, now_ms)?,
            };
            if numbers.len() != dots().count() {
                return Err(format!("{} writes in a unit of {numbers:?}", dots().count()));
            }
            for (dot, &number) in dots().zip(&numbers) {
                self.by_dot.insert(dot, number);
            }
            self.take_stamps(unit);
        }
        for dot in dots() {
            let recording = &self.recordings[self.by_dot[&dot]];
            visible[recording.object].insert(recording.event);
        }
        Ok(())
    }

    /// An own unit that nobody asked for: a register that expired is removed.
    fn purged(
        &mut self,
        unit: &Unit,
        visible: &Visible,
        now_ms: u64,
    ) -> Result<Vec<OpNumber>, String> {
        let object = unit.objects.keys().next();
        let object = object.and_then(|key| self.keys.iter().position(|known| **known == **key));
        let Some(object) = object else { return Err("a unit of an unknown object".to_owned()) };
        match self.models[object].expect(&Operation::Purge, &visible[object], now_ms) {
            Expected::Change if self.crdt_type == CrdtType::LWWRegister => {
                let mut seen = visible.clone();
                Ok(vec![self.record(object, &Operation::Purge, &mut seen, now_ms)])
            }
            _ => Err(format!("a write that nobody asked for: {unit:?}")),
        }
    }

    fn take_stamps(&mut self, unit: &Unit) {
        for change in unit.objects.values().flat_map(|delta| delta.entries.values()) {
            let EntryDelta::Versions { written, .. } = change else { continue };
            for version in written {
                let Some(number) = self.by_dot.get(&version.dot) else { continue };
                let Recording { object, event, .. } = self.recordings[*number];
                self.models[object].set_stamp(event, (version.stamp, version.dot.actor));
            }
        }
    }

    /// Whether a range was completed by this commit shows in the repair record.
    fn take_repair(
        &self,
        repair: Option<&RepairRecord>,
        recorded: &mut Recorded,
        parts: &[PartAtHand],
    ) -> Result<(), String> {
        let intervals = |record: Option<&RepairRecord>, range: u8| {
            let ranges = record.map_or(&[][..], |record| &record.ranges);
            ranges.iter().find(|(known, _)| *known == range).map(|(_, intervals)| intervals.clone())
        };
        let last = recorded.repair.as_ref();
        let merged = repair.or(last).map(|record| record.merged.clone()).unwrap_or_default();
        for range in 0..64 {
            let changed = intervals(repair, range) != intervals(last, range);
            let joined = if repair.is_some() { changed } else { range == 63 };
            if !joined {
                continue;
            }
            let mut parts = parts.iter().rev();
            let part = parts.find(|part| part.range == range && part.vector.is_covered_by(&merged));
            match part {
                Some(part) => {
                    for (object, seen) in part.visible.iter().enumerate() {
                        if self.ranges[object] == range {
                            recorded.visible[object].join(seen);
                        }
                    }
                }
                None if repair.is_some() => return Err(format!("no part explains range {range}")),
                None => {}
            }
        }
        Ok(())
    }

    /// What came came whole, and after all that its issuer had seen.
    fn check_whole(&self, before: &Visible, visible: &Visible) -> Result<(), String> {
        for (number, recording) in self.recordings.iter().enumerate() {
            if !self.is_seen(number, visible) || self.is_seen(number, before) {
                continue;
            }
            if !recording.saw.iter().zip(visible).all(|(saw, seen)| saw.is_within(seen)) {
                return Err(format!("operation {number} came before what its issuer had seen"));
            }
            if !recording.batch.iter().all(|&other| self.is_seen(other, visible)) {
                return Err(format!("only a part of the batch {:?} came", recording.batch));
            }
        }
        Ok(())
    }
}
