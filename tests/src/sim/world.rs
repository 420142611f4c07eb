//! The event loop of a run: simulated time, rounds of commits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;

use coppice_agent::engine::Effect;
use coppice_agent::store::memory::MemoryStore;
use coppice_crdt::EtagKey;
use coppice_replication::CloseReason;

use super::clients::Request;
use super::ledger::Ledger;
use super::network::{Connection, side_of};
use super::plan::{Plan, REPLICAS};
use super::replica::{Beside, Disk, Replica, SimEngine};
use super::totals::Totals;
use super::trace::Trace;
use super::wrong::Wrong;
use crate::rng::Rng;

/// How often time passes for a replica.
pub(super) const TICK_MS: u64 = 50;

/// What happens at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A frame reaches a side of a connection.
    Frame(u64, usize),
    Accept(u64),
    LinkDown(u64, usize),
    /// Time passes for a replica, in this life of it.
    Tick(usize, u64),
    Dial(usize, u64),
    Round(usize),
    Request,
    Fault,
    Restart(usize),
    /// An armed crash happens now if it did not yet.
    CrashNow(usize, u64),
    RollBack(usize),
    Unblock(usize, usize),
    Hasten(u64),
}

/// A whole run.
#[derive(Debug)]
pub(super) struct World<'a> {
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) trace: &'a mut Trace,
    pub(super) totals: Totals,
    pub(super) now_ms: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    event_count: u64,
    pub(super) ledger: Ledger,
    pub(super) replicas: Vec<Replica>,
    /// Replicas that take part, in the order that the topology is about.
    pub(super) order: Vec<usize>,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) next_connection: u64,
    pub(super) blocked: BTreeSet<(usize, usize)>,
    pub(super) requests: Vec<Request>,
    pub(super) submitted: u64,
    pub(super) faults: u64,
    pub(super) healed: bool,
}

impl<'a> World<'a> {
    pub(super) fn new(seed: u64, trace: &'a mut Trace) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::random(&mut rng);
        let keys = (0..7).map(|key| Rc::from(format!("key-{key}"))).collect();
        let ledger = Ledger::new(plan.crdt_type, keys, EtagKey::new(plan.group_id));
        let mut world = Self {
            rng,
            trace,
            totals: Totals::default(),
            now_ms: 0,
            events: BinaryHeap::new(),
            event_count: 0,
            ledger,
            replicas: Vec::new(),
            order: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            blocked: BTreeSet::new(),
            requests: Vec::new(),
            submitted: 0,
            faults: 0,
            healed: false,
            plan,
        };
        for _ in 0..world.plan.replicas {
            let disk = world.empty_disk();
            world.add_replica(disk, None);
        }
        world.after(10, Event::Request);
        world.after(10, Event::Fault);
        world
    }

    pub(super) fn empty_disk(&self) -> Disk {
        let recorded = Beside::new(self.ledger.nothing_seen());
        Disk { store: MemoryStore::new(), recorded }
    }

    /// A new replica over `disk`, at `place` of the topology's order.
    pub(super) fn add_replica(&mut self, disk: Disk, place: Option<usize>) -> usize {
        let at = self.replicas.len();
        self.replicas.push(Replica::new(disk));
        self.order.insert(place.unwrap_or(self.order.len()), at);
        let delay_ms = self.rng.below(200);
        self.after(delay_ms, Event::Restart(at));
        at
    }

    pub(super) fn note(&mut self, at: usize, what: &'static str, about: (u64, u64)) {
        self.trace.note(self.now_ms, at, what, about);
    }

    pub(super) fn after(&mut self, delay_ms: u64, event: Event) {
        self.event_count += 1;
        self.events.push(Reverse((self.now_ms + delay_ms, self.event_count, event)));
    }

    /// Runs until all is written, all is healed, and all replicas are equal.
    pub(super) fn run(&mut self) -> Result<(), Wrong> {
        let (busy_ms, operations) = (self.plan.busy_ms, self.plan.operations);
        loop {
            self.run_until(self.now_ms + 100)?;
            let done = self.submitted >= operations && self.faults >= self.plan.faults;
            if done && self.now_ms >= busy_ms {
                break;
            }
            if self.now_ms > 20 * busy_ms {
                return Err("writes or faults do not come to an end".into());
            }
        }
        self.check_plan()?;
        self.heal()?;
        self.settle()
    }

    /// Every seed is to be as hard as this, not only all of them together.
    fn check_plan(&self) -> Result<(), Wrong> {
        let (faults, conflicts) = (self.faults, self.ledger.conflicts);
        let crashes = self.totals.get("crashes");
        let without_power = self.totals.get("crashes with loss of power");
        let hard = [
            (REPLICAS.contains(&self.order.len()), "3 to 30 replicas"),
            (self.submitted >= 500, "500 operations"),
            (faults >= 20, "20 faults"),
            (3 * conflicts >= self.submitted, "a third of the operations in conflict"),
            (5 * without_power >= crashes, "a fifth of the crashes without power"),
        ];
        match hard.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(format!(
                "this seed lacks {what}: {conflicts} conflicts in {} operations, {faults} faults, \
                 {without_power} of {crashes} crashes without power",
                self.submitted
            )
            .into()),
            None => Ok(()),
        }
    }

    pub(super) fn run_until(&mut self, until_ms: u64) -> Result<(), Wrong> {
        while let Some(&Reverse((at_ms, _, event))) = self.events.peek() {
            if at_ms > until_ms {
                break;
            }
            self.events.pop();
            self.now_ms = at_ms;
            self.happens(event)?;
        }
        self.now_ms = until_ms;
        Ok(())
    }

    fn happens(&mut self, event: Event) -> Result<(), Wrong> {
        match event {
            Event::Frame(id, side) => self.deliver(id, side),
            Event::Accept(id) => self.accept(id),
            Event::LinkDown(id, side) => self.link_down(id, side),
            Event::Tick(at, life) if self.lives(at, life) => {
                self.after(TICK_MS, event);
                self.tick(at)
            }
            Event::Dial(at, life) if self.lives(at, life) => {
                let delay_ms = self.rng.between(50, 250);
                self.after(delay_ms, event);
                self.dial_neighbours(at)
            }
            Event::Tick(..) | Event::Dial(..) => Ok(()),
            Event::Round(at) => self.round(at),
            Event::Request => self.request(),
            Event::Fault => self.fault(),
            Event::Restart(at) => self.restart(at),
            Event::CrashNow(at, life) => {
                let armed = self.replicas[at].crash_after.is_some();
                if self.lives(at, life) && armed { self.crash(at) } else { Ok(()) }
            }
            Event::RollBack(at) => self.roll_back(at),
            Event::Unblock(from, to) => {
                self.blocked.remove(&(from, to));
                Ok(())
            }
            Event::Hasten(id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.slow = false;
                }
                Ok(())
            }
        }
    }

    fn lives(&self, at: usize, life: u64) -> bool {
        self.replicas[at].is_up() && self.replicas[at].life == life
    }

    fn tick(&mut self, at: usize) -> Result<(), Wrong> {
        let now_ms = self.now_ms;
        // A purge is no request's: what was submitted is committed before.
        self.round(at)?;
        let replica = &mut self.replicas[at];
        let now = replica.now(now_ms);
        let Some(engine) = &mut replica.engine else { return Ok(()) };
        if engine.tick(now).is_err() {
            return self.store_failed(at);
        }
        self.round(at)
    }

    /// Commits what came in, and lets its effects out, until nothing waits.
    pub(super) fn round(&mut self, at: usize) -> Result<(), Wrong> {
        loop {
            if self.crashes_here(at)? {
                return Ok(());
            }
            let now = self.replicas[at].now(self.now_ms);
            let Some(engine) = &mut self.replicas[at].engine else { return Ok(()) };
            if engine.commit(now).is_err() {
                return self.store_failed(at);
            }
            let replica = &mut self.replicas[at];
            replica
                .observe(&mut self.ledger)
                .map_err(|wrong| wrong.at(format_args!("replica {at}")))?;
            if !replica.pending.is_empty() {
                return Err(format!("replica {at}: a write was not committed as foretold").into());
            }
            self.follow_removal(at)?;
            if self.effects(at)? {
                return Ok(());
            }
            let busy = self.replicas[at].engine.as_ref().is_some_and(SimEngine::has_work);
            if !busy {
                return Ok(());
            }
            if self.plan.few && self.rng.percent(30) {
                // What takes many steps goes on after others had their turn, or after
                // a restart.
                let percent = if self.is_amid_removal(at) { 25 } else { 2 };
                if !self.healed && self.rng.percent(percent) {
                    return self.crash(at);
                }
                let delay_ms = self.rng.between(0, 15);
                self.after(delay_ms, Event::Round(at));
                return Ok(());
            }
        }
    }

    /// Lets effects out. Returns whether the replica went down meanwhile.
    fn effects(&mut self, at: usize) -> Result<bool, Wrong> {
        loop {
            if self.crashes_here(at)? {
                return Ok(true);
            }
            let now = self.replicas[at].now(self.now_ms);
            let Some(mut engine) = self.replicas[at].engine.take() else { return Ok(true) };
            let effect = engine.next_effect(&|link| self.has_room(link), now);
            let unsynced = engine.store().unsynced();
            self.replicas[at].engine = Some(engine);
            let Ok(effect) = effect else {
                self.store_failed(at)?;
                return Ok(true);
            };
            self.replicas[at].recorded.follow(unsynced)?;
            match effect {
                None => return Ok(false),
                Some(Effect::Answer(ticket, answer)) => self.answered(at, ticket, answer)?,
                Some(Effect::Send(link, frame)) => self.send(at, link, frame),
                Some(Effect::Close(link, reason)) => {
                    let (id, side) = side_of(link);
                    self.note(at, reason.label(), (id, 0));
                    let polite = matches!(reason, CloseReason::Duplicate { .. });
                    if !polite && !self.was_doubled(id) {
                        return Err(Wrong::core(format!("replica {at} closes a link: {reason:?}")));
                    }
                    self.closed_by(id, side, false);
                }
                Some(Effect::Read(_)) => {}
            }
        }
    }
}
