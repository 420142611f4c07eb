//! How replicas go down, what a restart finds, and how they start.

use std::rc::Rc;

use coppice_agent::engine::{Engine, Named};
use coppice_agent::records::GroupRecords;
use coppice_agent::store::Store;
use coppice_agent::store::memory::{Crash, FailureCause, FailureOutcome, InjectedFailure};

use super::ledger::Inputs;
use super::network::Side;
use super::replica::{Disk, Promise};
use super::world::{Event, World};
use super::wrong::Wrong;

impl World<'_> {
    pub(super) fn arm_crash(&mut self, at: usize) -> Option<&'static str> {
        let after = self.rng.below(12);
        let replica = &mut self.replicas[at];
        if replica.crash_after.is_some() {
            return None;
        }
        replica.crash_after = Some(after);
        let life = replica.life;
        self.after(300, Event::CrashNow(at, life));
        Some("faults: crash")
    }

    /// Whether an armed crash happens at this place, between two steps.
    pub(super) fn crashes_here(&mut self, at: usize) -> Result<bool, Wrong> {
        let replica = &mut self.replicas[at];
        match &mut replica.crash_after {
            _ if replica.engine.is_none() => Ok(true),
            None => Ok(false),
            Some(0) => {
                self.crash(at)?;
                Ok(true)
            }
            Some(left) => {
                *left -= 1;
                Ok(false)
            }
        }
    }

    /// The process or the machine goes down.
    pub(super) fn crash(&mut self, at: usize) -> Result<(), Wrong> {
        // By chance more often, and never less than a fifth of them.
        let (all, some) =
            (self.totals.get("crashes"), self.totals.get("crashes with loss of power"));
        let power = self.rng.percent(60) || 5 * some < all + 1;
        let restart_ms = if self.rng.percent(15) { 4_000 } else { 300 };
        let restart_ms = self.rng.between(1, restart_ms);
        self.go_down(at, power)?;
        self.totals.add("crashes", 1);
        self.after(restart_ms, Event::Restart(at));
        Ok(())
    }

    pub(super) fn go_down(&mut self, at: usize, power: bool) -> Result<(), Wrong> {
        self.note(at, if power { "loses power" } else { "is killed" }, (0, 0));
        self.count_removals_cut_short(at);
        let (store, actor) = self.take_engine(at);
        let Some(store) = store else { return Ok(()) };
        let unsynced = store.unsynced();
        // Mostly something is lost, if there is something to lose.
        let all = self.rng.percent(10);
        let kept = self.rng.index(unsynced + usize::from(all));
        let store = if power {
            self.totals.add("crashes with loss of power", 1);
            let lost = (unsynced - kept) as u64;
            self.totals.add("commits lost with power", lost);
            if kept < unsynced {
                self.totals.add("crashes that lost commits", 1);
                self.replicas[at].recorded.keep(kept);
            }
            store.crash(Crash::PowerLoss { unsynced_kept: kept })
        } else {
            store.crash(Crash::ProcessKill)
        };
        self.found(at, store, (actor, power))
    }

    /// Ends an engine; its links go down by and by.
    fn take_engine(
        &mut self,
        at: usize,
    ) -> (Option<coppice_agent::store::memory::MemoryStore>, coppice_crdt::ActorId) {
        let nobody = coppice_crdt::ActorId::from_bytes([0; 16]);
        self.count_figures(at);
        let replica = &mut self.replicas[at];
        replica.crash_after = None;
        let Some(engine) = replica.engine.take() else { return (None, nobody) };
        // The last commit may have joined one of them.
        let parts = std::mem::take(&mut replica.parts);
        let actor = engine.opening().actor;
        let mine = |connection: &super::network::Connection| {
            let side = connection.ends.iter().position(|&end| end == at);
            side.filter(|&side| connection.sides[side] != Side::Down)
        };
        let links: Vec<(u64, usize)> = self
            .connections
            .iter()
            .filter_map(|(&id, connection)| Some((id, mine(connection)?)))
            .collect();
        for (id, side) in links {
            let loses = self.rng.percent(60);
            self.closed_by(id, side, loses);
        }
        self.replicas[at].parts = parts;
        (Some(engine.into_store()), actor)
    }

    pub(super) fn count_figures(&mut self, at: usize) {
        let replica = &self.replicas[at];
        let now = replica.now(self.now_ms);
        let figures = replica.engine.as_ref().and_then(|engine| engine.figures(replica.slot, now));
        let Some(figures) = figures else { return };
        let counters = figures.counters;
        self.totals.add("log trims", counters.trims);
        self.totals.add("repairs completed", counters.repairs_completed);
        self.totals.add("repairs served", counters.repairs_served);
        self.totals.add("registers purged", counters.purges);
        self.totals.add("removals hidden and swept", counters.ranges_swept);
        self.totals.add("deltas merged", counters.deltas_merged);
    }

    /// A disk as a restart finds it: what it holds is recorded, and what was
    /// promised is there.
    fn found(
        &mut self,
        at: usize,
        store: coppice_agent::store::memory::MemoryStore,
        (actor, power): (coppice_crdt::ActorId, bool),
    ) -> Result<(), Wrong> {
        let replica = &mut self.replicas[at];
        let records = GroupRecords { store: &store, slot: replica.slot };
        let parts: Vec<_> = replica.parts.drain(..).map(|(_, part)| part).collect();
        let (pending, arrivals) = (&mut replica.pending, &replica.arrivals);
        let mut inputs = Inputs { pending, arrivals, parts: &parts };
        let live = Rc::make_mut(&mut replica.recorded.live);
        self.ledger
            .observe(records, live, actor, &mut inputs)
            .map_err(|wrong| wrong.at(format_args!("replica {at} after a crash")))?;
        replica.recorded.follow(store.unsynced())?;
        replica.pending.clear();
        replica.removals.clear();
        replica.serving.clear();
        replica.arrivals.clear();
        for promise in std::mem::take(&mut self.replicas[at].promised) {
            let Promise { number, unsynced_since_ms } = promise;
            if self.ledger.is_seen(number, self.replicas[at].visible()) {
                self.replicas[at].promised.push(promise);
            } else if power && unsynced_since_ms.is_some_and(|ms| self.may_be_lost(ms)) {
                self.pass_on(at, number);
                self.totals.add("acknowledged writes lost as allowed", 1);
            } else {
                return Err(format!(
                    "replica {at} lost operation {number}, unsynced since {unsynced_since_ms:?}"
                )
                .into());
            }
        }
        let replica = &mut self.replicas[at];
        replica.disk = Some(Disk { store, recorded: replica.recorded.clone() });
        Ok(())
    }

    /// A write to the store failed: it is opened again, as another opening.
    pub(super) fn store_failed(&mut self, at: usize) -> Result<(), Wrong> {
        self.note(at, "fails to commit", (0, 0));
        self.totals.add("commits failed", 1);
        let (store, actor) = self.take_engine(at);
        let Some(mut store) = store else { return Ok(()) };
        store.reopen().map_err(Wrong::core)?;
        let replica = &mut self.replicas[at];
        let lost = store.unsynced() < replica.recorded.unsynced.len();
        if lost {
            replica.recorded.keep(0);
        }
        self.found(at, store, (actor, lost))?;
        let delay_ms = self.rng.between(1, 200);
        self.after(delay_ms, Event::Restart(at));
        Ok(())
    }

    pub(super) fn arm_commit_failure(&mut self, at: usize) -> Option<&'static str> {
        let cause = self.rng.pick(&[FailureCause::DiskFull, FailureCause::Io]);
        let outcome = self.rng.pick(&[FailureOutcome::Lost, FailureOutcome::Written]);
        let engine = self.replicas[at].engine.as_mut()?;
        engine.store_mut().fail_next_commit(InjectedFailure { cause, outcome });
        Some("faults: commit failure")
    }

    pub(super) fn restart(&mut self, at: usize) -> Result<(), Wrong> {
        let random = self.rng.bytes();
        let (plan, replica) = (&self.plan, &mut self.replicas[at]);
        if replica.gone || replica.is_up() {
            return Ok(());
        }
        let Some(disk) = replica.disk.take() else { return Ok(()) };
        let name = format!("replica-{at}").into();
        let now = replica.now(self.now_ms);
        let mut engine = Engine::open(disk.store, name, random).map_err(Wrong::core)?;
        let named = Named { id: plan.group_id, crdt_type: plan.crdt_type };
        let groups = [("group", named, plan.settings)];
        let slots = engine.add_groups(&groups, now).map_err(Wrong::core)?;
        replica.slot = slots.first().copied().unwrap_or(replica.slot);
        replica.recorded = disk.recorded;
        replica.recorded.follow(engine.store().unsynced())?;
        replica.life += 1;
        replica.engine = Some(engine);
        let life = replica.life;
        let (tick_ms, dial_ms) = (self.rng.below(50), self.rng.below(200));
        self.after(tick_ms, Event::Tick(at, life));
        self.after(dial_ms, Event::Dial(at, life));
        self.note(at, "starts", (life, 0));
        Ok(())
    }
}
