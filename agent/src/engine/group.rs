//! One group of an engine.

use std::collections::BTreeMap;

use coppice_crdt::{Entries, Header, Operation, Outcome, VersionVector};
use coppice_replication::{
    Contexts, Counters, LinkId, MemberView, Missing, Now, ObjectKey, Output, Read, Replica,
    ReplicaSettings, Submission, SubmitRefusal, Totals, WriteLimits,
};

use super::effect::{Effect, Serve, ServingStep};
use super::{CACHED_ITEMS, EngineError, GroupDurability, STEPS_PER_COMMIT, holds};
use crate::etag::EtagText;
use crate::records::{GroupRecords, RecordError};
use crate::replica_task::{Precondition, SubmitError, WriteAnswer, WriteRequest, Written};
use crate::store;
use crate::store::keys::Slot;

/// What a group may keep, how safe and how fast it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Of the replica.
    pub replica: ReplicaSettings,
    /// Of local writes.
    pub limits: WriteLimits,
    /// When writes are on disk.
    pub durability: GroupDurability,
}

#[cfg(test)]
impl GroupSettings {
    /// Those of a small group that expects no peers.
    pub(crate) fn small() -> Self {
        let replica = ReplicaSettings {
            eager: true,
            interval_ms: 5_000,
            log_bytes: 1 << 20,
            log_age_ms: 3_600_000,
            startup_wait_ms: 0,
            expects_peers: false,
            frame_bytes: coppice_replication::FRAME_BYTES,
            removals: coppice_replication::RemovalPace::default(),
        };
        let limits = WriteLimits { objects: 100, elements: 100, value_bytes: 100 };
        Self { replica, limits, durability: GroupDurability::None }
    }
}

/// What a group looks like.
#[derive(Clone, Debug)]
pub struct GroupFigures {
    /// What is committed here.
    pub vector: VersionVector,
    /// Whether its peers still fill it.
    pub bootstrapping: bool,
    /// Whether its first exchange is done.
    pub started: bool,
    /// Objects and entries.
    pub totals: Totals,
    /// Bytes of the arrival log.
    pub log_bytes: u64,
    /// Actors that the vector lists.
    pub actors: usize,
    /// The other members.
    pub members: Vec<MemberView>,
    /// Counts since it was opened.
    pub counters: Counters,
    /// The sum of its range digests.
    pub digest: u128,
}

pub(super) struct Group<Snapshot> {
    pub(super) slot: Slot,
    pub(super) replica: Replica,
    pub(super) settings: GroupSettings,
    pub(super) serving: BTreeMap<LinkId, (Snapshot, Contexts)>,
    /// The store as it was when the removal under way began.
    pub(super) before: Option<Snapshot>,
}

impl<Snapshot: store::Read> Group<Snapshot> {
    pub(super) fn records<'a, R: store::Read>(&self, store: &'a R) -> GroupRecords<'a, R> {
        GroupRecords { store, slot: self.slot }
    }

    pub(super) fn set_settings(&mut self, settings: GroupSettings) {
        self.settings = settings;
        self.replica.set_settings(settings.replica);
    }

    pub(super) fn figures(&self, now: Now) -> GroupFigures {
        GroupFigures {
            vector: self.replica.visible().clone(),
            bootstrapping: self.replica.is_bootstrapping(now),
            started: self.replica.has_started(now),
            totals: self.replica.totals(),
            log_bytes: self.replica.log_bytes(),
            actors: self.replica.visible().len(),
            members: self.replica.members(),
            counters: *self.replica.counters(),
            digest: self.replica.digest(),
        }
    }

    /// Carries out one request; its answer may be told once it is committed.
    pub(super) fn write(
        &mut self,
        request: &WriteRequest,
        now: Now,
    ) -> Result<Result<WriteAnswer, SubmitError>, Missing> {
        let incomplete = self.replica.is_bootstrapping(now);
        if let Some(precondition) = &request.precondition {
            if incomplete && !request.allow_incomplete {
                return Ok(Err(SubmitError::Bootstrapping));
            }
            if let Err(failed) = self.check(request, precondition, now)? {
                return Ok(Err(failed));
            }
        }
        let operations = &request.operations;
        let submission = Submission { operations, limits: self.settings.limits };
        let outcomes = match self.replica.submit(submission, now)? {
            Ok(outcomes) => outcomes,
            Err(refusal) => return Ok(Err(self.refused(refusal))),
        };
        Ok(Ok(self.answer(operations, outcomes, incomplete)?))
    }

    /// What is told of operations that were carried out.
    pub(super) fn answer(
        &mut self,
        operations: &[(ObjectKey, Operation)],
        outcomes: Vec<Outcome>,
        incomplete: bool,
    ) -> Result<WriteAnswer, Missing> {
        let mut results = Vec::with_capacity(outcomes.len());
        for (outcome, (key, _)) in outcomes.into_iter().zip(operations) {
            let header = self.header(key)?.filter(Header::exists);
            results.push(Written { outcome, header });
        }
        Ok(WriteAnswer { results, incomplete })
    }

    fn header(&mut self, key: &ObjectKey) -> Result<Option<Header>, Missing> {
        self.replica.working_set().object(key)?.header()
    }

    /// Whether the precondition holds for the first operation's object.
    fn check(
        &mut self,
        request: &WriteRequest,
        precondition: &Precondition,
        now: Now,
    ) -> Result<Result<(), SubmitError>, Missing> {
        let Some((key, _)) = request.operations.first() else { return Ok(Ok(())) };
        let object = self.replica.working_set().object(key)?;
        let exists = coppice_crdt::query::exists(&object, now.wall_ms)?;
        let header = object.header()?.filter(|_| exists);
        let etag = header.map(|header| EtagText::new(header.etag).to_string());
        if holds(precondition, etag.as_deref()) {
            return Ok(Ok(()));
        }
        Ok(Err(SubmitError::PreconditionFailed { etag }))
    }

    fn refused(&self, refusal: SubmitRefusal) -> SubmitError {
        let limits = self.settings.limits;
        match refusal {
            SubmitRefusal::Operation { index, refusal } => SubmitError::Refused { index, refusal },
            SubmitRefusal::TooManyObjects => SubmitError::LimitReached {
                what: "objects",
                setting: "objects",
                limit: limits.objects,
            },
            SubmitRefusal::TooManyElements => SubmitError::LimitReached {
                what: "elements",
                setting: "elements",
                limit: limits.elements,
            },
            SubmitRefusal::UnitTooLarge(bytes) => SubmitError::UnitTooLarge { bytes },
        }
    }

    /// Loads what the replica said is missing.
    pub(super) fn load<R: store::Read>(
        &mut self,
        store: &R,
        read: &Read,
    ) -> Result<(), RecordError> {
        let records = GroupRecords { store, slot: self.slot };
        let set = self.replica.working_set();
        match read {
            Read::Many(reads) => {
                for read in reads {
                    self.load(store, read)?;
                }
            }
            Read::Object(key) => {
                let record = records.object(set.range_of(key), key)?;
                set.supply_object(key, record);
            }
            Read::Entry(key, name) => {
                let entry = records.entry(set.range_of(key), key, name)?;
                set.supply_entry(key, name.clone(), entry);
            }
            Read::Field(key, name) => {
                let field = records.field(set.range_of(key), key, name)?;
                set.supply_field(key, name, field);
            }
            Read::Scan(key, range) => {
                let entries = records.scan((set.range_of(key), key), range, usize::MAX)?;
                set.supply_scan(key, range.clone(), entries);
            }
            Read::Page(key, range, limit) => {
                let page = records.page((set.range_of(key), key), range.clone(), *limit)?;
                self.replica.supply_page(page);
            }
            Read::PageBefore(key, range, limit) => {
                let at = (set.range_of(key), key);
                let page = match &self.before {
                    Some(snapshot) => GroupRecords { store: snapshot, slot: self.slot }.page(
                        at,
                        range.clone(),
                        *limit,
                    )?,
                    None => records.page(at, range.clone(), *limit)?,
                };
                self.replica.supply_page(page);
            }
            Read::Listing { range, from, to, limit } => {
                let bounds = (from.as_ref(), to.as_ref());
                let listed = records.list_for_repair(*range, bounds, *limit)?;
                for (key, record) in listed.objects {
                    set.supply_object(&key, Some(record));
                }
                for (key, name, entry) in listed.entries {
                    set.supply_entry(&key, name, Some(entry));
                }
                self.replica.supply_listing(listed.listing);
            }
        }
        Ok(())
    }

    /// Joins received changes, up to a bound.
    pub(super) fn join_received<R: store::Read>(
        &mut self,
        store: &R,
        now: Now,
    ) -> Result<(), EngineError> {
        let mut steps = 0;
        while steps < STEPS_PER_COMMIT {
            match self.replica.step(now) {
                Ok(true) => steps += 1,
                Ok(false) => break,
                Err(Missing(read)) => self.load(store, &read)?,
            }
        }
        Ok(())
    }

    pub(super) fn committed(&mut self, synced: bool, now: Now) {
        let synced = synced || self.settings.durability == GroupDurability::None;
        self.replica.committed(synced, now);
        let set = self.replica.working_set();
        if set.loaded() > CACHED_ITEMS {
            set.clear();
        }
    }

    pub(super) fn queue_outputs<T>(&mut self, mut queue: impl FnMut(Effect<T>)) {
        let slot = self.slot;
        for output in self.replica.take_outputs() {
            queue(match output {
                Output::Send(link, frame) => Effect::Send(link, frame),
                Output::Close(link, reason) => Effect::Close(link, reason),
                Output::OpenSnapshot(link) => {
                    Effect::Read(ServingStep { slot, link, what: Serve::Open })
                }
                Output::ReadPart { link, range, from } => {
                    Effect::Read(ServingStep { slot, link, what: Serve::Part { range, from } })
                }
                Output::DropSnapshot(link) => {
                    Effect::Read(ServingStep { slot, link, what: Serve::Drop })
                }
            });
        }
    }
}
