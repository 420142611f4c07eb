//! A replica with a store in memory.

use std::collections::{BTreeMap, VecDeque};

use coppice_crdt::{ActorId, CrdtType, Entry, EntryKey, Operation, Outcome};

use super::stored::{Records, entries, page, stored_page};
use crate::record::{
    DeadCell, FieldRecord, HeadRecord, LogRecord, ObjectRecord, Position, RecordKey, RepairRecord,
    decode_entry,
};
use crate::replica::{
    Identity, LocalListing, Now, Recovered, Replica, ReplicaSettings, Submission, SubmitRefusal,
    WriteLimits,
};
use crate::unit::ObjectKey;
use crate::working_set::{Missing, Read, RemovalPace};
use crate::{CloseReason, LinkId, Message, Output, RepairPart};

pub(super) const NO_LIMITS: WriteLimits =
    WriteLimits { objects: u64::MAX, elements: u64::MAX, value_bytes: 1 << 20 };

fn settings() -> ReplicaSettings {
    ReplicaSettings {
        eager: true,
        interval_ms: 5_000,
        log_bytes: 64 << 20,
        log_age_ms: 3_600_000,
        startup_wait_ms: 0,
        expects_peers: true,
        frame_bytes: crate::FRAME_BYTES,
        removals: RemovalPace::default(),
    }
}

/// One replica, its store, and the snapshots it serves.
pub(super) struct Node {
    pub(super) replica: Replica,
    pub(super) records: Records,
    pub(super) snapshots: BTreeMap<LinkId, (Records, super::super::Contexts)>,
    pub(super) closed: Vec<(LinkId, CloseReason)>,
    pub(super) sent: VecDeque<(LinkId, Vec<u8>)>,
    /// As they were when the removal under way began.
    before: Records,
    /// Entries that a part of a repair may hold.
    pub(super) part_entries: usize,
    /// Whether it goes on sweeping only as often as it commits.
    pub(super) sweeps_late: bool,
    /// Whether what is loaded stays over a commit.
    pub(super) keeps_loaded: bool,
}

pub(super) fn at(ms: u64) -> Now {
    Now { wall_ms: 1_790_000_000_000 + ms, steady_ms: ms }
}

impl Node {
    pub(super) fn new(number: u8, crdt_type: CrdtType) -> Self {
        Self::open(number, crdt_type, Records::new())
    }

    pub(super) fn open(number: u8, crdt_type: CrdtType, records: Records) -> Self {
        let identity = Identity {
            group_id: [9; 16],
            crdt_type,
            store: [number; 16],
            opening: ActorId::from_bytes([number; 16]),
            opening_number: 1,
            name: format!("node {number}").into(),
        };
        let head = records.get(&RecordKey::Head).map(|bytes| HeadRecord::decode(bytes).unwrap());
        let repair =
            records.get(&RecordKey::Repair).map(|bytes| RepairRecord::decode(bytes).unwrap());
        let mut recovered = Recovered::new(identity, settings(), head, repair).unwrap();
        for (key, bytes) in &records {
            if let RecordKey::Log(seq) = key {
                let record = LogRecord::decode(bytes).unwrap();
                recovered.replay(*seq, &record, bytes.len() as u64).unwrap();
            }
        }
        Self {
            replica: recovered.finish(at(0)).unwrap(),
            records,
            before: Records::new(),
            snapshots: BTreeMap::new(),
            closed: Vec::new(),
            sent: VecDeque::new(),
            part_entries: 3,
            sweeps_late: false,
            keeps_loaded: false,
        }
    }

    /// Runs an operation until all it touches is loaded, and commits nothing.
    pub(super) fn submit(
        &mut self,
        operations: &[(ObjectKey, Operation)],
        limits: WriteLimits,
        now: Now,
    ) -> Result<Vec<Outcome>, SubmitRefusal> {
        loop {
            match self.replica.submit(Submission { operations, limits }, now) {
                Ok(done) => return done,
                Err(missing) => self.supply(missing),
            }
        }
    }

    pub(super) fn write(&mut self, key: &str, operation: Operation, now: Now) {
        self.submit(&[(key.into(), operation)], NO_LIMITS, now).expect("it is not refused");
        self.commit(now);
    }

    pub(super) fn supply(&mut self, Missing(read): Missing) {
        if let Read::Many(reads) = read {
            return reads.into_iter().for_each(|read| self.supply(Missing(read)));
        }
        let records = &self.records;
        let set = &mut self.replica.set;
        let id = |key: &ObjectKey, range| crate::ObjectId { range, key: ObjectKey::clone(key) };
        match read {
            Read::Many(_) => unreachable!("taken apart above"),
            Read::Object(key) => {
                let found = records.get(&RecordKey::Object(id(&key, set.range_of(&key))));
                let record = found.map(|bytes| ObjectRecord::decode(bytes).unwrap());
                set.supply_object(&key, record);
            }
            Read::Entry(key, name) => {
                let record = RecordKey::Entry(id(&key, set.range_of(&key)), name.clone());
                let entry = records.get(&record).map(|bytes| decode_entry(bytes).unwrap());
                set.supply_entry(&key, name, entry);
            }
            Read::Field(key, name) => {
                let record = RecordKey::Field(id(&key, set.range_of(&key)), name.clone());
                let field = records.get(&record).map(|bytes| FieldRecord::decode(bytes).unwrap());
                set.supply_field(&key, &name, field);
            }
            Read::Scan(key, range) => {
                let listed = entries(records)
                    .into_iter()
                    .filter(|(of, name, _)| *of == key && range.contains(name.as_bytes()));
                let listed = listed.map(|(_, name, entry)| (name, entry)).collect();
                set.supply_scan(&key, range, listed);
            }
            Read::Page(key, range, limit) => {
                let page = stored_page(records, &id(&key, set.range_of(&key)), range, limit);
                self.replica.supply_page(page);
            }
            Read::PageBefore(key, range, limit) => {
                let id = id(&key, set.range_of(&key));
                self.replica.supply_page(stored_page(&self.before, &id, range, limit));
            }
            Read::Listing { range, from, to, limit } => {
                let (listed, reached) =
                    page(records, set, range, (from.as_ref(), to.as_ref()), limit);
                let mut objects: Vec<(ObjectKey, Vec<EntryKey>)> = Vec::new();
                for (key, name, _) in listed {
                    match objects.last_mut() {
                        Some((last, names)) if *last == key => names.push(name),
                        _ => objects.push((key, vec![name])),
                    }
                }
                self.replica.supply_listing(LocalListing { objects, reached });
            }
        }
    }

    /// Joins all that came, and commits.
    pub(super) fn work(&mut self, now: Now) {
        loop {
            match self.replica.step(now) {
                Ok(true) => {}
                Ok(false) => {
                    let written = self.commit(now);
                    let idle = if self.sweeps_late {
                        self.replica.inbox.is_empty()
                    } else {
                        written == 0 && !self.replica.has_work()
                    };
                    self.after_commit();
                    if idle {
                        return;
                    }
                }
                Err(missing) => self.supply(missing),
            }
        }
    }

    /// One step of what is done right after a commit.
    pub(super) fn after_commit(&mut self) {
        while let Err(missing) = self.replica.after_commit() {
            self.supply(missing);
        }
    }

    /// Reads an object as queries do.
    pub(super) fn read<T>(
        &mut self,
        key: &str,
        query: impl Fn(&crate::ObjectView<'_>) -> Result<Option<T>, Missing>,
    ) -> Option<T> {
        loop {
            let object = self.replica.set.object(&key.into());
            match object.and_then(|object| query(&object)) {
                Ok(found) => return found,
                Err(missing) => self.supply(missing),
            }
        }
    }

    /// Forgets what is loaded and how far sweeps are, as when it is opened.
    pub(super) fn forget_and_resume(&mut self) {
        self.replica.set.clear();
        self.replica.sweeps = super::super::sweeping::Sweeps::default();
        let swept = self.records.keys().filter_map(|key| match key {
            RecordKey::Sweep(id) => Some(id.key.clone()),
            _ => None,
        });
        self.replica.resume_sweeps(swept.collect::<Vec<_>>());
    }

    /// Carries out a removal in steps, and `meanwhile` between any two of them.
    pub(super) fn remove_in_steps(
        &mut self,
        key: &str,
        operation: &Operation,
        mut meanwhile: impl FnMut(&mut Self, usize),
    ) -> Outcome {
        let key: ObjectKey = key.into();
        loop {
            match self.replica.begin_removal(&key, operation) {
                Ok(true) => break,
                Ok(false) => {
                    self.after_commit();
                    self.commit(at(0));
                }
                Err(missing) => self.supply(missing),
            }
        }
        self.before = self.records.clone();
        for step in 0.. {
            let outcome = loop {
                match self.replica.go_on_removing() {
                    Ok(outcome) => break outcome,
                    Err(missing) => self.supply(missing),
                }
            };
            self.commit(at(0));
            self.after_commit();
            if let Some(outcome) = outcome {
                return outcome;
            }
            meanwhile(self, step);
        }
        unreachable!("it ends with its last step")
    }

    /// Lets time pass, and drops the floors of cells that can be raised no more.
    pub(super) fn drop_floors(&mut self, now: Now) {
        self.replica.tick(now);
        for (owner, before) in self.replica.settled_owners() {
            for cell in self.dead_cells() {
                if cell.owner != owner || cell.died_seq >= before {
                    continue;
                }
                let died = decode_entry(&self.records[&RecordKey::Floor(cell.clone())]).unwrap();
                while let Err(missing) = self.replica.drop_dead_cell(&cell, &died) {
                    self.supply(missing);
                }
            }
            self.replica.floors_cleared(owner, before);
        }
        self.commit(now);
    }

    /// A counter's value, as its header has it.
    pub(super) fn sum(&self, key: &str) -> i128 {
        let found = self.records.iter().find_map(|(record, bytes)| match record {
            RecordKey::Object(id) if &*id.key == key => Some(ObjectRecord::decode(bytes).unwrap()),
            _ => None,
        });
        found.map_or(0, |record| record.header.summary.sum)
    }

    /// The dead cells whose floors are kept.
    pub(super) fn dead_cells(&self) -> Vec<DeadCell> {
        let dead = |key: &RecordKey| match key {
            RecordKey::Floor(cell) => Some(cell.clone()),
            _ => None,
        };
        self.records.keys().filter_map(dead).collect()
    }

    /// One commit, synced, and what follows from it. Returns the records written.
    pub(super) fn commit(&mut self, now: Now) -> usize {
        let writes = self.replica.seal(now);
        let written = writes.len();
        for (key, bytes) in writes {
            match bytes {
                Some(bytes) => self.records.insert(key, bytes),
                None => self.records.remove(&key),
            };
        }
        self.replica.committed(true, now);
        if !self.keeps_loaded {
            self.replica.set.clear();
        }
        self.put_out();
        written
    }

    fn put_out(&mut self) {
        for output in self.replica.take_outputs() {
            match output {
                Output::Send(link, frame) => self.sent.push_back((link, frame)),
                Output::Close(link, reason) => self.closed.push((link, reason)),
                Output::OpenSnapshot(link) => {
                    let contexts = self.replica.contexts();
                    self.snapshots.insert(link, (self.records.clone(), contexts));
                }
                Output::ReadPart { link, range, from } => self.send_part(link, range, from),
                Output::DropSnapshot(link) => {
                    self.snapshots.remove(&link);
                }
            }
        }
    }

    fn send_part(&mut self, link: LinkId, range: u8, from: Option<Position>) {
        let (records, contexts) = &self.snapshots[&link];
        let set = &self.replica.set;
        let (vector, end) = contexts.at(range, from.as_ref());
        let bounds = (from.as_ref(), end.as_ref());
        let (listed, stopped) = page(records, set, range, bounds, self.part_entries);
        let to = stopped.or(end);
        let mut objects: Vec<(ObjectKey, Vec<(EntryKey, Entry)>)> = Vec::new();
        for (key, name, entry) in listed {
            match objects.last_mut() {
                Some((last, entries)) if *last == key => entries.push((name, entry)),
                _ => objects.push((key, vec![(name, entry)])),
            }
        }
        let part = RepairPart { vector, range, from, to, objects };
        self.sent.push_back((link, Message::RepairPart(part).encode()));
    }

    /// Sends what the log has for each link.
    pub(super) fn send_log(&mut self, now: Now) {
        loop {
            let wanted = self.replica.wanted_records();
            if wanted.is_empty() {
                return;
            }
            for (link, from) in wanted {
                let record = self.records.get(&RecordKey::Log(from));
                let record = LogRecord::decode(record.expect("the log holds it")).unwrap();
                self.replica.supply_records(link, &[(from, record)], now);
                self.put_out();
            }
        }
    }
}
