//! The loop of the writer thread.
//!
//! It takes what is waiting (writes of many clients, frames of many links),
//! commits all of it at once, and only then answers and sends. While one commit
//! is under way the next one gathers, so commits grow with the load by
//! themselves.
//!
//! It ends when it is told to stop, or when every handle is gone. A failed
//! commit does not end it: open tickets are answered with "outcome unknown",
//! links are closed, and the store is opened anew with back-off; until then
//! writes are refused, and reads go on beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coppice_crdt::VersionVector;
use coppice_replication::{CloseReason as CoreReason, LinkId as CoreLink, Now};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::handle::{GroupRequest, Ticket};
use super::metrics::WriterMetrics;
use super::{GroupStatus, SubmitError, SyncResult, WriteAnswer};
use crate::clock::Clock;
use crate::engine::{Effect, Engine, EngineError, GroupSettings};
use crate::peer::{CloseReason, LinkEvent, LinkId, Outbound, SendError};
use crate::store::Store;
use crate::store::keys::Slot;

/// Requests and events taken for one commit.
const INPUTS_PER_COMMIT: usize = 512;

/// How often time passes for the replicas.
const TICK: Duration = Duration::from_millis(50);

/// A link is given another frame while so many bytes are free in its queue.
const ROOM_BYTES: usize = 512 << 10;

/// How long `sync` waits for its peers.
const SYNC_WAIT: Duration = Duration::from_secs(5);

/// How long stopping waits for a peer to have everything on disk.
const HAND_OVER_WAIT: Duration = Duration::from_secs(2);

/// The waits between two attempts to open a failed store.
const FIRST_REOPEN: Duration = Duration::from_millis(100);
const LAST_REOPEN: Duration = Duration::from_secs(2);

/// A group as the configuration names it.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: [u8; 16],
    /// What its objects are.
    pub crdt_type: coppice_crdt::CrdtType,
    /// Its settings.
    pub settings: GroupSettings,
}

/// The slot and the status of a group that is served, or why it is not.
pub(crate) type ServeAnswer = Result<(Slot, watch::Receiver<Arc<GroupStatus>>), String>;

/// What the owner of the agent asks of the writer.
#[derive(Debug)]
pub(crate) enum Control {
    /// Serve this group, or take its new settings.
    Serve(GroupSpec, oneshot::Sender<ServeAnswer>),
    /// Stop serving a group; its data stays.
    Drop(Slot),
    /// Say when a linked peer has everything on disk.
    HandOver(oneshot::Sender<()>),
    /// Put everything on disk, close the store and end.
    Stop(oneshot::Sender<()>),
}

/// Makes a store's random bits and opens its snapshots: what the loop needs of
/// the outside.
pub(crate) struct WriterParts<S> {
    pub(crate) store: S,
    pub(crate) name: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: WriterMetrics,
    pub(crate) random: fn() -> [u8; 32],
}

pub(crate) struct Inputs {
    pub(crate) requests: mpsc::Receiver<(Slot, GroupRequest)>,
    pub(crate) links: mpsc::Receiver<LinkEvent>,
    pub(crate) control: mpsc::Receiver<Control>,
}

type Answer = Ticket<Result<WriteAnswer, SubmitError>>;

struct PendingSync {
    slot: Slot,
    target: VersionVector,
    until: Instant,
    ticket: Ticket<Vec<SyncResult>>,
}

struct Served {
    spec: GroupSpec,
    status: watch::Sender<Arc<GroupStatus>>,
}

/// Why the inner loop was left.
enum Leave {
    Stopped(Option<oneshot::Sender<()>>),
    Failed(EngineError),
}

pub(crate) struct Writer<S: Store> {
    clock: Arc<dyn Clock>,
    metrics: WriterMetrics,
    name: Arc<str>,
    random: fn() -> [u8; 32],
    inputs: Inputs,
    served: BTreeMap<Slot, Served>,
    links: BTreeMap<CoreLink, (Slot, Outbound, String)>,
    syncs: Vec<PendingSync>,
    handing_over: Option<(Instant, oneshot::Sender<()>)>,
    engine: Option<Engine<S, Answer>>,
}

impl<S: Store> Writer<S> {
    /// Opens the store's engine.
    ///
    /// # Errors
    ///
    /// If the store's own record is damaged or cannot be written.
    pub(crate) fn open(
        parts: WriterParts<S>,
        inputs: Inputs,
    ) -> Result<Self, crate::engine::OpenError> {
        let WriterParts { store, name, clock, metrics, random } = parts;
        let engine = Engine::open(store, Arc::clone(&name), random())?;
        Ok(Self {
            clock,
            metrics,
            name,
            random,
            inputs,
            served: BTreeMap::new(),
            links: BTreeMap::new(),
            syncs: Vec::new(),
            handing_over: None,
            engine: Some(engine),
        })
    }

    /// Runs until it is stopped or every handle is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let Some(mut engine) = self.engine.take() else { return };
            match self.serve(&mut engine).await {
                Leave::Stopped(done) => {
                    self.close(engine);
                    if let Some(done) = done {
                        let _ = done.send(());
                    }
                    return;
                }
                Leave::Failed(error) => {
                    error!(%error, "the writer stopped: writes are refused until the store is open again");
                    self.metrics.stopped.set(1);
                    for ticket in engine.abandon() {
                        let _ = ticket.send(Err(SubmitError::OutcomeUnknown));
                    }
                    for (_, (_, outbound, _)) in std::mem::take(&mut self.links) {
                        outbound.close(CloseReason::Io);
                    }
                    let full = is_disk_full(&error);
                    match self.reopen(engine.into_store(), full).await {
                        Some(engine) => self.engine = Some(engine),
                        None => return,
                    }
                    self.metrics.stopped.set(0);
                    info!("the store is open again");
                }
            }
        }
    }

    fn now(&self) -> Now {
        let steady_ms = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        Now { wall_ms: self.clock.now_ms(), steady_ms }
    }

    async fn serve(&mut self, engine: &mut Engine<S, Answer>) -> Leave {
        let mut requests = Vec::with_capacity(INPUTS_PER_COMMIT);
        let mut events = Vec::with_capacity(INPUTS_PER_COMMIT);
        let mut next_tick = Instant::now();
        loop {
            let wait_until = if engine.has_work() { Instant::now() } else { next_tick };
            tokio::select! {
                biased;
                control = self.inputs.control.recv() => match control {
                    Some(Control::Stop(done)) => return Leave::Stopped(Some(done)),
                    Some(control) => self.control(engine, control),
                    None => return Leave::Stopped(None),
                },
                _ = self.inputs.requests.recv_many(&mut requests, INPUTS_PER_COMMIT) => {}
                _ = self.inputs.links.recv_many(&mut events, INPUTS_PER_COMMIT) => {}
                () = tokio::time::sleep_until(wait_until) => {}
            }
            // Both queues, whichever woke us: one commit for all.
            while requests.len() < INPUTS_PER_COMMIT {
                let Ok(request) = self.inputs.requests.try_recv() else { break };
                requests.push(request);
            }
            while events.len() < INPUTS_PER_COMMIT {
                let Ok(event) = self.inputs.links.try_recv() else { break };
                events.push(event);
            }
            let ticked = Instant::now() >= next_tick;
            if ticked {
                next_tick = Instant::now() + TICK;
            }
            let round = self.round(engine, &mut requests, &mut events, ticked);
            if let Err(error) = round {
                for (_, request) in requests.drain(..) {
                    if let GroupRequest::Write(_, ticket) = request {
                        let _ = ticket.send(Err(SubmitError::OutcomeUnknown));
                    }
                }
                return Leave::Failed(error);
            }
        }
    }

    /// One commit and its effects.
    fn round(
        &mut self,
        engine: &mut Engine<S, Answer>,
        requests: &mut Vec<(Slot, GroupRequest)>,
        events: &mut Vec<LinkEvent>,
        ticked: bool,
    ) -> Result<(), EngineError> {
        let now = self.now();
        let mut operations = 0;
        for (slot, request) in requests.drain(..) {
            match request {
                GroupRequest::Write(request, ticket) => {
                    operations += request.operations.len();
                    engine.submit(slot, &request, ticket, now)?;
                }
                GroupRequest::Sync(ticket) => self.begin_sync(engine, slot, ticket, now),
            }
        }
        for event in events.drain(..) {
            self.link_event(engine, event, now);
        }
        if ticked {
            engine.tick(now)?;
        }
        let began = self.clock.monotonic();
        engine.commit(now)?;
        if operations > 0 {
            self.metrics.committed(operations, self.clock.monotonic().saturating_sub(began));
        }
        self.run_effects(engine, now)?;
        if ticked {
            self.finish_syncs(engine, now);
            self.publish(engine, now);
            self.finish_hand_over(engine);
        }
        Ok(())
    }

    fn run_effects(&mut self, engine: &mut Engine<S, Answer>, now: Now) -> Result<(), EngineError> {
        loop {
            let links = &self.links;
            let has_room = |link: CoreLink| {
                links.get(&link).is_some_and(|(_, outbound, _)| {
                    outbound.free_bytes() >= ROOM_BYTES || outbound.queued_bytes() == 0
                })
            };
            match engine.next_effect(&has_room, now)? {
                None => break,
                Some(Effect::Answer(ticket, answer)) => {
                    let _ = ticket.send(answer); // The client may be gone.
                }
                Some(Effect::Send(link, frame)) => self.send(engine, link, frame),
                Some(Effect::Close(link, reason)) => self.close_link(link, reason),
                Some(Effect::Read(_)) => {}
            }
        }
        for (_, outbound, _) in self.links.values() {
            if outbound.free_bytes() < ROOM_BYTES && outbound.queued_bytes() > 0 {
                outbound.request_room(ROOM_BYTES);
            }
        }
        Ok(())
    }

    fn send(&mut self, engine: &mut Engine<S, Answer>, link: CoreLink, frame: Vec<u8>) {
        let Some((_, outbound, remote)) = self.links.get(&link) else { return };
        match outbound.try_send(Bytes::from(frame)) {
            Ok(()) | Err(SendError::Closed) => {}
            Err(_) => {
                // Answers cannot be left out, and this peer takes nothing: it
                // begins again with a new link.
                warn!(%remote, "a peer does not read: closing the link");
                outbound.close(CloseReason::Timeout);
                self.links.remove(&link);
                engine.link_down(link);
            }
        }
    }

    fn close_link(&mut self, link: CoreLink, reason: CoreReason) {
        if let Some((_, outbound, remote)) = self.links.remove(&link) {
            let reason = transport_reason(reason);
            debug!(%remote, %reason, "closing a link");
            outbound.close(reason);
        }
    }

    fn link_event(&mut self, engine: &mut Engine<S, Answer>, event: LinkEvent, now: Now) {
        match event {
            LinkEvent::Up(up) => {
                let served =
                    self.served.iter().find(|(_, served)| *served.spec.name == *up.group.as_str());
                let Some((&slot, served)) = served else {
                    return up.outbound.close(CloseReason::UnknownGroup);
                };
                if !up.identity.speaks_for(uuid::Uuid::from_bytes(served.spec.id)) {
                    return up.outbound.close(CloseReason::Unauthorised);
                }
                let link = CoreLink(up.link.0);
                self.links.insert(link, (slot, up.outbound, up.remote));
                engine.link_up(slot, link, up.dialled, now);
            }
            LinkEvent::Frame { link: LinkId(link), frame, permit } => {
                self.metrics.frames_received.inc();
                engine.receive(CoreLink(link), &frame, now);
                drop(permit);
            }
            LinkEvent::Room { .. } => {} // The round that follows looks at every link.
            LinkEvent::Down { link: LinkId(link), .. } => {
                self.links.remove(&CoreLink(link));
                engine.link_down(CoreLink(link));
            }
        }
    }

    fn control(&mut self, engine: &mut Engine<S, Answer>, control: Control) {
        match control {
            Control::Serve(spec, done) => {
                let _ = done.send(self.serve_group(engine, spec));
            }
            Control::Drop(slot) => {
                engine.remove_group(slot);
                self.served.remove(&slot);
                let gone = self.links.extract_if(.., |_, (of, _, _)| *of == slot);
                gone.for_each(|(_, (_, outbound, _))| outbound.close(CloseReason::Removed));
            }
            Control::HandOver(done) => {
                for slot in engine.slots().collect::<Vec<_>>() {
                    engine.sync_now(slot);
                }
                self.handing_over = Some((Instant::now() + HAND_OVER_WAIT, done));
            }
            Control::Stop(_) => {}
        }
    }

    fn serve_group(&mut self, engine: &mut Engine<S, Answer>, spec: GroupSpec) -> ServeAnswer {
        let now = self.now();
        let known = self.served.iter_mut().find(|(_, served)| served.spec.id == spec.id);
        if let Some((&slot, served)) = known {
            engine.set_settings(slot, spec.settings);
            served.spec = spec;
            return Ok((slot, served.status.subscribe()));
        }
        let slot = engine
            .add_group((&spec.name, spec.id, spec.crdt_type), spec.settings, now)
            .map_err(|error| error.to_string())?;
        let status = status_of(engine, slot, &spec, &self.links, now)
            .ok_or_else(|| "the group vanished while it was opened".to_owned())?;
        let (status, watched) = watch::channel(Arc::new(status));
        self.served.insert(slot, Served { spec, status });
        Ok((slot, watched))
    }

    fn publish(&self, engine: &Engine<S, Answer>, now: Now) {
        for (&slot, served) in &self.served {
            if let Some(status) = status_of(engine, slot, &served.spec, &self.links, now) {
                served.status.send_replace(Arc::new(status));
            }
            if let Some(figures) = engine.figures(slot, now) {
                self.metrics.publish(&served.spec.name, &figures, now.steady_ms);
            }
        }
    }

    fn begin_sync(
        &mut self,
        engine: &mut Engine<S, Answer>,
        slot: Slot,
        ticket: Ticket<Vec<SyncResult>>,
        now: Now,
    ) {
        let Some(figures) = engine.figures(slot, now) else { return };
        engine.sync_now(slot);
        let until = Instant::now() + SYNC_WAIT;
        self.syncs.push(PendingSync { slot, target: figures.vector, until, ticket });
    }

    fn finish_syncs(&mut self, engine: &Engine<S, Answer>, now: Now) {
        let mut still = Vec::new();
        for sync in std::mem::take(&mut self.syncs) {
            let members = engine.figures(sync.slot, now).map_or_else(Vec::new, |now| now.members);
            let results: Vec<SyncResult> = members
                .iter()
                .map(|view| SyncResult {
                    name: view.member.name.to_string(),
                    in_sync: sync.target.is_covered_by(&view.member.seen),
                    lag_deltas: sync.target.count_beyond(&view.member.seen),
                })
                .collect();
            let linked =
                members.iter().zip(&results).filter(|(view, _)| view.member.link.is_some());
            let done = linked.into_iter().all(|(_, result)| result.in_sync);
            if done || Instant::now() >= sync.until {
                let _ = sync.ticket.send(results);
            } else {
                still.push(sync);
            }
        }
        self.syncs = still;
    }

    /// Says so once one linked peer has everything on disk, or the wait is over.
    fn finish_hand_over(&mut self, engine: &Engine<S, Answer>) {
        let Some((until, _)) = &self.handing_over else { return };
        if Instant::now() < *until && !self.is_handed_over(engine) {
            return;
        }
        if let Some((_, done)) = self.handing_over.take() {
            let _ = done.send(());
        }
    }

    fn is_handed_over(&self, engine: &Engine<S, Answer>) -> bool {
        let now = self.now();
        engine.slots().all(|slot| {
            engine.figures(slot, now).is_none_or(|figures| {
                let mut linked =
                    figures.members.iter().filter(|view| view.member.link.is_some()).peekable();
                linked.peek().is_none()
                    || linked.any(|view| figures.vector.is_covered_by(&view.member.durable))
            })
        })
    }

    fn close(&self, mut engine: Engine<S, Answer>) {
        if let Err(error) = engine.sync(self.now()) {
            error!(%error, "the last sync failed");
        }
        if let Err(error) = engine.into_store().close() {
            error!(%error, "closing the store failed");
        }
    }

    /// Opens a failed store again, with back-off; refuses what comes meanwhile.
    /// `None` if the agent is stopped before it succeeds.
    async fn reopen(&mut self, mut store: S, mut full: bool) -> Option<Engine<S, Answer>> {
        let mut wait = FIRST_REOPEN;
        loop {
            let until = Instant::now() + wait;
            if self.refuse_until(until, full).await {
                return None;
            }
            wait = (wait * 2).min(LAST_REOPEN);
            if let Err(error) = store.reopen() {
                full = error.is_disk_full();
                warn!(%error, "the store cannot be opened yet");
                continue;
            }
            match self.open_again(store) {
                Ok(engine) => return Some(engine),
                Err((error, back)) => {
                    warn!(%error, "the groups cannot be opened yet");
                    store = back?;
                }
            }
        }
    }

    fn open_again(&mut self, store: S) -> Result<Engine<S, Answer>, (String, Option<S>)> {
        let now = self.now();
        let opened = Engine::open(store, Arc::clone(&self.name), (self.random)());
        let mut engine = opened.map_err(|error| (error.to_string(), None))?;
        for served in self.served.values() {
            let spec = &served.spec;
            let added = engine.add_group((&spec.name, spec.id, spec.crdt_type), spec.settings, now);
            if let Err(error) = added {
                return Err((error.to_string(), Some(engine.into_store())));
            }
        }
        Ok(engine)
    }

    /// Answers everything with a refusal until then; true if told to stop.
    async fn refuse_until(&mut self, until: Instant, full: bool) -> bool {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return false,
                control = self.inputs.control.recv() => match control {
                    Some(Control::Stop(done)) => {
                        let _ = done.send(());
                        return true;
                    }
                    Some(Control::Serve(_, done)) => {
                        let _ = done.send(Err("the store is being opened again".to_owned()));
                    }
                    Some(Control::Drop(slot)) => {
                        self.served.remove(&slot);
                    }
                    Some(Control::HandOver(done)) => {
                        let _ = done.send(());
                    }
                    None => return true,
                },
                Some((_, request)) = self.inputs.requests.recv() => match request {
                    GroupRequest::Write(_, ticket) => {
                        let refusal =
                            if full { SubmitError::DiskFull } else { SubmitError::WriterStopped };
                        let _ = ticket.send(Err(refusal));
                    }
                    GroupRequest::Sync(ticket) => {
                        let _ = ticket.send(Vec::new());
                    }
                },
                Some(event) = self.inputs.links.recv() => {
                    if let LinkEvent::Up(up) = event {
                        up.outbound.close(CloseReason::Io);
                    }
                }
            }
        }
    }
}

fn is_disk_full(error: &EngineError) -> bool {
    matches!(error, EngineError::Store(error) if error.is_disk_full())
}

fn transport_reason(reason: CoreReason) -> CloseReason {
    match reason {
        CoreReason::GroupMismatch | CoreReason::TypeMismatch => CloseReason::GroupMismatch,
        CoreReason::Duplicate { kept } => CloseReason::Duplicate { kept: LinkId(kept.0) },
        CoreReason::SelfLink => CloseReason::SelfLink,
        CoreReason::UnsupportedVersion => CloseReason::UnsupportedVersion,
        CoreReason::OversizedFrame => CloseReason::OversizedFrame,
        CoreReason::MalformedFrame | CoreReason::UnexpectedMessage | CoreReason::DamagedUnit => {
            CloseReason::MalformedFrame
        }
    }
}

fn status_of<S: Store>(
    engine: &Engine<S, Answer>,
    slot: Slot,
    spec: &GroupSpec,
    links: &BTreeMap<CoreLink, (Slot, Outbound, String)>,
    now: Now,
) -> Option<GroupStatus> {
    let figures = engine.figures(slot, now)?;
    let members = figures.members.into_iter().map(|view| super::MemberStatus {
        name: view.member.name.to_string(),
        opening: view.opening.to_string(),
        address: view.member.link.and_then(|link| links.get(&link)).map(|link| link.2.clone()),
        connected: view.member.link.is_some(),
        lag_deltas: view.lag_deltas,
        heard_ms_ago: Some(now.steady_ms.saturating_sub(view.member.heard_ms)),
        acknowledged: view.member.seen,
    });
    Some(GroupStatus {
        name: Arc::clone(&spec.name),
        crdt_type: spec.crdt_type,
        id: spec.id,
        members: members.collect(),
        vector: figures.vector,
        bootstrapping: figures.bootstrapping,
        started: figures.started,
        objects: figures.totals.objects,
        entries: figures.totals.entries,
        log_bytes: figures.log_bytes,
    })
}
