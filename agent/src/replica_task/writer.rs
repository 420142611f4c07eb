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

mod exchange;
mod groups;
mod links;
mod reopening;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coppice_replication::{LinkId as CoreLink, Now};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{error, info};

use super::handle::{GroupRequest, Ticket};
use super::metrics::WriterMetrics;
use super::neighbours::Neighbours;
use super::{GroupStatus, HandedOver, ServeError, SubmitError, WriteAnswer};
use crate::clock::Clock;
use crate::disk_limit::DiskLimit;
use crate::engine::{Effect, Engine, EngineError, GroupSettings};
use crate::peer::LinkEvent;
use crate::store::Store;
use crate::store::keys::Slot;
use exchange::{HandOver, PendingSync};
use links::{Link, Links};

/// Requests and events taken for one commit.
const INPUTS_PER_COMMIT: usize = 512;

/// How often time passes for the replicas.
const TICK: Duration = Duration::from_millis(50);

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

/// The slots and the status of the groups that are served, or why they are not.
pub(crate) type ServeAnswer = Result<Vec<(Slot, watch::Receiver<Arc<GroupStatus>>)>, ServeError>;

/// What the owner of the agent asks of the writer.
#[derive(Debug)]
pub(crate) enum Control {
    /// Serve these groups with these settings, and no others; or leave it as it is.
    Serve(Vec<GroupSpec>, oneshot::Sender<ServeAnswer>),
    /// Say when a linked peer has everything on disk.
    HandOver(oneshot::Sender<HandedOver>),
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
    pub(crate) disk: Arc<DiskLimit>,
    pub(crate) random: fn() -> [u8; 32],
}

pub(crate) struct Inputs {
    pub(crate) requests: mpsc::Receiver<(Slot, GroupRequest)>,
    pub(crate) links: mpsc::Receiver<LinkEvent>,
    pub(crate) control: mpsc::Receiver<Control>,
}

type Answer = Ticket<Result<WriteAnswer, SubmitError>>;

struct Served {
    spec: GroupSpec,
    status: watch::Sender<Arc<GroupStatus>>,
    /// The names of which was said that several agents have them.
    shared_names: BTreeSet<String>,
    neighbours: Neighbours,
    /// On the steady clock.
    since_ms: u64,
    /// Whether the wait for a first peer is over.
    has_waited: bool,
}

/// Why the inner loop was left.
enum Leave {
    Stopped(Option<oneshot::Sender<()>>),
    Failed(EngineError),
}

pub(crate) struct Writer<S: Store> {
    clock: Arc<dyn Clock>,
    metrics: WriterMetrics,
    disk: Arc<DiskLimit>,
    name: Arc<str>,
    random: fn() -> [u8; 32],
    inputs: Inputs,
    served: BTreeMap<Slot, Served>,
    /// Whether groups were served, or none was to be.
    has_begun: bool,
    links: Links,
    syncs: Vec<PendingSync>,
    handing_over: Option<HandOver>,
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
        let WriterParts { store, name, clock, metrics, disk, random } = parts;
        let engine = Engine::open(store, Arc::clone(&name), random())?;
        Ok(Self {
            clock,
            metrics,
            disk,
            name,
            random,
            inputs,
            served: BTreeMap::new(),
            has_begun: false,
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
                    let store = self.abandon(engine);
                    match self.reopen(store, reopening::is_disk_full(&error)).await {
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
        for (slot, request) in requests.drain(..) {
            match request {
                GroupRequest::Write(request, ticket) => match self.disk.refuses() {
                    Some(limit) if !request.only_removes() => {
                        let _ = ticket.send(Err(SubmitError::DataLimit { limit }));
                    }
                    _ => engine.submit(slot, &request, ticket, now)?,
                },
                GroupRequest::Sync(wait, ticket) => {
                    self.begin_sync(engine, (slot, wait), ticket, now);
                }
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
        let took = self.clock.monotonic().saturating_sub(began);
        let operations = self.run_effects(engine, now)?;
        if operations > 0 {
            self.metrics.committed(operations, took);
        }
        if !self.syncs.is_empty() {
            self.finish_syncs(engine, now);
        }
        if ticked {
            self.publish(engine, now);
            self.finish_hand_over(engine);
        }
        Ok(())
    }

    /// Answers and sends what is committed; how many operations were carried out.
    fn run_effects(
        &mut self,
        engine: &mut Engine<S, Answer>,
        now: Now,
    ) -> Result<usize, EngineError> {
        let mut operations = 0;
        loop {
            let links = &self.links;
            let has_room = |link: CoreLink| links.get(&link).is_some_and(Link::has_room);
            match engine.next_effect(&has_room, now)? {
                None => break,
                Some(Effect::Answer(ticket, answer)) => {
                    operations += answer.as_ref().map_or(0, |written| written.results.len());
                    let _ = ticket.send(answer); // The client may be gone.
                }
                Some(Effect::Send(link, frame)) => self.send(engine, link, frame),
                Some(Effect::Close(link, reason)) => self.close_link(link, reason),
                Some(Effect::Read(_)) => {}
            }
        }
        self.links.values().for_each(Link::ask_for_room);
        Ok(operations)
    }

    fn control(&mut self, engine: &mut Engine<S, Answer>, control: Control) {
        match control {
            Control::Serve(specs, done) => {
                let _ = done.send(self.serve_groups(engine, specs));
            }
            Control::HandOver(done) => self.begin_hand_over(engine, done),
            Control::Stop(_) => {}
        }
    }

    fn close(&self, mut engine: Engine<S, Answer>) {
        if let Err(error) = engine.sync(self.now()) {
            error!(%error, "the last sync failed");
        }
        if let Err(error) = engine.into_store().close() {
            error!(%error, "closing the store failed");
        }
    }
}
