//! A group that is one map in memory, and the writer task that owns it.
//!
//! The algebra is the real one; what is missing is the store, the peers and the
//! log. Failures are set from outside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use coppice_crdt::{
    ActorId, CrdtType, Dot, Entries, Entry, EntryKey, EntryRange, EtagKey, FieldHeader, Header,
    HybridTimestamp, ObjectDelta, OperationContext, Part, RemovalLimits, VersionVector, apply,
    query,
};
use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, ManualClock};
use crate::etag::EtagText;
use crate::query::{GroupView, ListPage, ListRequest, QueryError, ServedGroup, ViewSource};

use crate::replica_task::{
    GroupHandle, GroupRequest, GroupStatus, Precondition, SubmitError, SyncOutcome, SyncResult,
    WriteAnswer, WriteRequest, Written,
};

const ACTOR: ActorId = ActorId::from_bytes([7; 16]);
const ETAG_KEY: EtagKey = EtagKey::new([1; 16]);

/// What the next requests meet.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) submit: Option<SubmitError>,
    pub(super) views_reopening: u32,
}

#[derive(Clone, Debug, Default)]
struct FakeObject {
    header: Option<Header>,
    fields: BTreeMap<String, FieldHeader>,
    entries: BTreeMap<EntryKey, Entry>,
}

type Objects = BTreeMap<String, FakeObject>;

#[derive(Debug)]
struct State {
    crdt_type: CrdtType,
    objects: Arc<Objects>,
    n: u64,
}

/// A group of one replica.
#[derive(Clone)]
pub(super) struct FakeGroup {
    handle: GroupHandle,
    status: watch::Sender<Arc<GroupStatus>>,
    state: Arc<Mutex<State>>,
    pub(super) faults: Arc<Mutex<Faults>>,
    crdt_type: CrdtType,
    name: Arc<str>,
}

impl FakeGroup {
    pub(super) fn start(name: &str, crdt_type: CrdtType, clock: Arc<ManualClock>) -> Self {
        let (status, receiver) = watch::channel(Arc::new(GroupStatus {
            name: name.into(),
            crdt_type,
            id: [1; 16],
            vector: VersionVector::new(),
            bootstrapping: false,
            started: true,
            objects: 0,
            entries: 0,
            log_bytes: 0,
            members: Vec::new(),
        }));
        let (requests, mut inbox) = mpsc::channel(64);
        let state = Arc::new(Mutex::new(State { crdt_type, objects: Arc::default(), n: 0 }));
        let faults = Arc::new(Mutex::new(Faults::default()));
        let (writer, failing) = (state.clone(), faults.clone());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            while let Some((_, request)) = inbox.recv().await {
                match request {
                    GroupRequest::Write(request, ticket) => {
                        let fault = failing.lock().unwrap().submit.take();
                        let answer = match fault {
                            Some(fault) => Err(fault),
                            None => writer.lock().unwrap().write(&request, clock.now_ms()),
                        };
                        let _ = ticket.send(answer);
                    }
                    GroupRequest::Sync(wait, ticket) => {
                        let result = SyncResult {
                            name: "b".to_owned(),
                            opening: "0b".to_owned(),
                            address: (!wait.is_zero()).then(|| "127.0.0.1:5438".to_owned()),
                            outcome: match wait.as_secs() {
                                0 => SyncOutcome::Unreachable,
                                2 => SyncOutcome::Exchanged,
                                _ => SyncOutcome::TimedOut,
                            },
                            sent: 1,
                            received: 2,
                            lag_deltas: 3,
                        };
                        let _ = ticket.send(Ok(vec![result]));
                    }
                }
            }
        });
        tasks.detach_all();
        let handle = GroupHandle { index: 0, requests, status: receiver };
        Self { handle, status, state, faults, crdt_type, name: name.into() }
    }

    pub(super) fn served(&self) -> ServedGroup {
        ServedGroup {
            name: self.name.clone(),
            crdt_type: self.crdt_type,
            id: [1; 16],
            value_bytes: 64,
            handle: self.handle.clone(),
            views: Arc::new(self.clone()),
        }
    }

    pub(super) fn change_status(&self, change: impl FnOnce(&mut GroupStatus)) {
        self.status.send_modify(|status| change(Arc::make_mut(status)));
    }

    /// How many dots were taken: 0 as long as nothing was written.
    pub(super) fn writes(&self) -> u64 {
        self.state.lock().unwrap().n
    }
}

impl ViewSource for FakeGroup {
    fn view(&self) -> Result<Box<dyn GroupView>, QueryError> {
        let mut faults = self.faults.lock().unwrap();
        if faults.views_reopening > 0 {
            faults.views_reopening -= 1;
            return Err(QueryError::Reopening);
        }
        Ok(Box::new(FakeView(self.state.lock().unwrap().objects.clone())))
    }
}

struct FakeView(Arc<Objects>);

impl GroupView for FakeView {
    fn entries<'a>(&'a self, key: &'a str) -> Box<dyn Entries<Error = QueryError> + 'a> {
        Box::new(FakeEntries(self.0.get(key)))
    }

    fn list(&self, request: &ListRequest<'_>) -> Result<ListPage, QueryError> {
        let mut page = ListPage::default();
        for (key, object) in self.0.iter() {
            let wanted = key.starts_with(request.prefix)
                && request.after.is_none_or(|after| key.as_str() > after);
            let object = FakeEntries(Some(object));
            if !wanted || !query::exists(&object, request.now_ms)? {
                continue;
            }
            if page.items.len() == request.limit {
                page.more = true;
                break;
            }
            page.items.extend(object.header()?.map(|header| (key.clone(), header)));
        }
        Ok(page)
    }
}

struct FakeEntries<'a>(Option<&'a FakeObject>);

impl Entries for FakeEntries<'_> {
    type Error = QueryError;

    fn header(&self) -> Result<Option<Header>, QueryError> {
        Ok(self.0.and_then(|object| object.header))
    }

    fn field(&self, name: &str) -> Result<FieldHeader, QueryError> {
        Ok(self.0.and_then(|object| object.fields.get(name).cloned()).unwrap_or_default())
    }

    fn entry(&self, key: &EntryKey) -> Result<Option<Entry>, QueryError> {
        Ok(self.0.and_then(|object| object.entries.get(key).cloned()))
    }

    fn scan(
        &self,
        range: &EntryRange,
        after: Option<&EntryKey>,
        limit: usize,
    ) -> Result<Vec<(EntryKey, Entry)>, QueryError> {
        let Some(object) = self.0 else { return Ok(Vec::new()) };
        let found = object.entries.iter().filter(|(key, _)| {
            range.contains(key.as_bytes()) && after.is_none_or(|after| *key > after)
        });
        Ok(found.take(limit).map(|(key, entry)| (key.clone(), entry.clone())).collect())
    }
}

impl State {
    fn write(&mut self, request: &WriteRequest, now_ms: u64) -> Result<WriteAnswer, SubmitError> {
        let mut objects = (*self.objects).clone();
        let mut n = self.n;
        if let Some(precondition) = &request.precondition {
            let object = objects.get(&*request.operations[0].0);
            let header = object.and_then(|object| object.header).filter(Header::exists);
            let etag = header.map(|header| EtagText::new(header.etag).to_string());
            let listed = |tags: &[String]| {
                etag.as_ref().is_some_and(|etag| tags.is_empty() || tags.contains(etag))
            };
            let holds = match precondition {
                Precondition::Matches(tags) => listed(tags),
                Precondition::MatchesNone(tags) => !listed(tags),
            };
            if !holds {
                return Err(SubmitError::PreconditionFailed { etag });
            }
        }
        let mut outcomes = Vec::new();
        for (index, (key, operation)) in request.operations.iter().enumerate() {
            let mut seen = VersionVector::new();
            seen.raise(ACTOR, n);
            let ranges = [(EntryRange::all(), seen.clone())];
            let context = OperationContext {
                dot: Dot::new(ACTOR, n + 1),
                stamp: HybridTimestamp::new(now_ms, u16::try_from(n).unwrap()),
                now_ms,
                seen: &ranges,
                value_bytes_limit: 64,
                is_littered: false,
                removals: RemovalLimits::default(),
            };
            let object = objects.entry(key.to_string()).or_default();
            let entries = FakeEntries(Some(object));
            let applied = apply(operation, self.crdt_type, &entries, &context);
            let applied =
                applied.unwrap().map_err(|refusal| SubmitError::Refused { index, refusal })?;
            if !applied.delta.is_empty() {
                n += 1;
                object.join((key, self.crdt_type), &applied.delta, &seen);
            }
            outcomes.push(applied.outcome);
        }
        self.n = n;
        self.objects = Arc::new(objects);
        let headers = request
            .operations
            .iter()
            .map(|(key, _)| self.objects[&**key].header.filter(Header::exists));
        let results = outcomes.into_iter().zip(headers);
        let results = results.map(|(outcome, header)| Written { outcome, header }).collect();
        Ok(WriteAnswer { results, incomplete: false })
    }
}

impl FakeObject {
    fn join(&mut self, (key, of): (&str, CrdtType), delta: &ObjectDelta, seen: &VersionVector) {
        for removal in &delta.removals {
            for (name, entry) in self.entries.clone() {
                self.put((key, of), &name, removal.survivors(&name, entry));
            }
        }
        for (name, change) in &delta.entries {
            let owner = match name.part() {
                Part::Cell(actor) => Some(actor),
                _ => None,
            };
            let next = change.apply(owner, self.entries.get(name).cloned(), seen);
            self.put((key, of), name, next);
        }
    }

    fn put(&mut self, (key, of): (&str, CrdtType), name: &EntryKey, next: Option<Entry>) {
        let header = self.header.get_or_insert_with(|| Header::new(of));
        let field =
            name.field().map(|field| self.fields.entry(field.name.into_owned()).or_default());
        let old = self.entries.remove(name);
        header.update(ETAG_KEY, (key, name), field, (old.as_ref(), next.as_ref()));
        if let Some(next) = next {
            self.entries.insert(name.clone(), next);
        }
    }
}
