//! What goes wrong: crashes, disks, clocks, partitions, members.

use std::rc::Rc;

use coppice_agent::engine::{Engine, GroupDurability};
use coppice_agent::records::GroupRecords;
use coppice_agent::store::Store;
use coppice_agent::store::memory::{Crash, FailureCause, FailureOutcome, InjectedFailure};

use super::ledger::{Inputs, Visible};
use super::network::{Connection, Doubling, Side};
use super::replica::Disk;
use super::world::{Event, World};
use super::wrong::Wrong;

impl World<'_> {
    /// Something goes wrong, and something else later.
    pub(super) fn fault(&mut self) -> Result<(), Wrong> {
        if self.faults >= self.plan.faults {
            return Ok(());
        }
        let pace_ms = self.plan.busy_ms / self.plan.faults;
        let delay_ms = self.rng.between(1, 2 * pace_ms);
        self.after(delay_ms, Event::Fault);
        let up: Vec<usize> =
            self.order.iter().copied().filter(|&at| self.replicas[at].is_up()).collect();
        if up.is_empty() {
            return Ok(());
        }
        let at = self.rng.pick(&up);
        let done = match self.rng.below(100) {
            0..24 => self.arm_crash(at),
            24..29 => self.arm_commit_failure(at),
            29..32 => self.lose_disk(at)?,
            32..35 => self.clone_disk(at),
            35..39 => self.copy_for_rollback(at),
            39..49 => Some(self.jump_clock(at)),
            49..59 => self.partition(at),
            59..66 => self.block_one_way(at),
            66..78 => self.break_one(true),
            78..84 => self.break_one(false),
            84..90 => self.slow_one(),
            90..94 => self.double_one(),
            94..97 => self.join(),
            _ => self.leave(at)?,
        };
        if let Some(what) = done {
            self.faults += 1;
            self.totals.add("faults", 1);
            self.totals.add(what, 1);
            self.note(at, what, (0, 0));
        }
        Ok(())
    }

    fn arm_crash(&mut self, at: usize) -> Option<&'static str> {
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

    fn go_down(&mut self, at: usize, power: bool) -> Result<(), Wrong> {
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
        for (number, answered_ms) in std::mem::take(&mut self.replicas[at].promised) {
            if self.ledger.is_seen(number, self.replicas[at].visible()) {
                self.replicas[at].promised.push((number, answered_ms));
            } else if power && self.may_be_lost(answered_ms) {
                self.ledger.recordings[number].excused = true;
                self.totals.add("acknowledged writes lost as allowed", 1);
            } else {
                return Err(format!(
                    "replica {at} lost operation {number}, acknowledged at {answered_ms} ms"
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

    fn arm_commit_failure(&mut self, at: usize) -> Option<&'static str> {
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
        let group = ("group", plan.group_id, plan.crdt_type);
        replica.slot = engine.add_group(group, plan.settings, now).map_err(Wrong::core)?;
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

    fn lose_disk(&mut self, at: usize) -> Result<Option<&'static str>, Wrong> {
        if self.order.len() < 3 || self.is_source(at) {
            return Ok(None);
        }
        self.crash(at)?;
        self.excuse_promises(at);
        let disk = self.empty_disk();
        self.replicas[at].recorded = disk.recorded.clone();
        self.replicas[at].disk = Some(disk);
        Ok(Some("faults: disk lost"))
    }

    /// Whether a repair that is under way somewhere, or a part of one that may be
    /// joined yet, brings what only this disk holds whole. Such a disk is not taken
    /// away: what a half repair brought could not be completed by anybody.
    fn is_source(&self, at: usize) -> bool {
        let is_elsewhere = |brought: &Visible| {
            let others = self.order.iter().filter(|&&other| other != at);
            let mut others = others.map(|&other| &self.replicas[other].recorded.synced);
            others.any(|synced| synced.has_whole(brought))
        };
        let states = self.order.iter().flat_map(|&of| {
            let replica = &self.replicas[of];
            let copy = replica.copy.iter().flat_map(|copy| copy.recorded.states());
            replica.recorded.states().chain(copy)
        });
        let mut brought = states.filter_map(|state| state.brought());
        let at_hand = self.order.iter().flat_map(|&of| &self.replicas[of].parts);
        let mut at_hand = at_hand.map(|(_, part)| &*part.visible);
        let mut on_their_way = self.connections.values().flat_map(Connection::parts);
        !(brought.all(is_elsewhere) && at_hand.all(is_elsewhere) && on_their_way.all(is_elsewhere))
    }

    /// What this disk alone held is gone.
    fn excuse_promises(&mut self, at: usize) {
        for (number, _) in std::mem::take(&mut self.replicas[at].promised) {
            self.ledger.recordings[number].excused = true;
        }
    }

    fn clone_disk(&mut self, at: usize) -> Option<&'static str> {
        if self.order.len() >= self.plan.most_replicas() {
            return None;
        }
        let disk = self.replicas[at].copy_disk()?;
        let slot = self.replicas[at].slot;
        let place = self.rng.index(self.order.len() + 1);
        let new = self.add_replica(disk, Some(place));
        self.replicas[new].slot = slot;
        Some("faults: disk cloned")
    }

    fn copy_for_rollback(&mut self, at: usize) -> Option<&'static str> {
        if self.replicas[at].copy.is_some() {
            return None;
        }
        self.replicas[at].copy = self.replicas[at].copy_disk();
        let delay_ms = self.rng.between(100, 4_000);
        self.after(delay_ms, Event::RollBack(at));
        Some("faults: disk copied")
    }

    pub(super) fn roll_back(&mut self, at: usize) -> Result<(), Wrong> {
        let Some(copy) = self.replicas[at].copy.take() else { return Ok(()) };
        if self.replicas[at].gone || self.is_source(at) {
            return Ok(());
        }
        self.totals.add("faults: disk rolled back", 1);
        self.note(at, "is rolled back", (0, 0));
        if self.replicas[at].is_up() {
            self.crash(at)?;
        }
        self.excuse_promises(at);
        self.replicas[at].recorded = copy.recorded.clone();
        self.replicas[at].disk = Some(copy);
        Ok(())
    }

    fn jump_clock(&mut self, at: usize) -> &'static str {
        let far_ms = self.rng.pick(&[1_000, 10_000, 60_000, 3_600_000]);
        let by_ms = self.rng.between(1, far_ms).cast_signed();
        let by_ms = if self.rng.percent(50) { by_ms } else { -by_ms };
        self.replicas[at].skew_ms += by_ms;
        "faults: clock jump"
    }

    fn partition(&mut self, at: usize) -> Option<&'static str> {
        let mut inside = vec![at];
        inside.extend(self.order.clone().into_iter().filter(|&other| {
            other != at && self.rng.percent(if self.plan.replicas > 10 { 20 } else { 30 })
        }));
        let outside: Vec<usize> =
            self.order.iter().copied().filter(|other| !inside.contains(other)).collect();
        let lasts_ms = self.rng.between(100, 4_000);
        for &inner in &inside {
            for &outer in &outside {
                self.block(inner, outer, lasts_ms);
                self.block(outer, inner, lasts_ms);
            }
        }
        (!outside.is_empty()).then_some("faults: two-way partition")
    }

    fn block_one_way(&mut self, at: usize) -> Option<&'static str> {
        let others: Vec<usize> = self.order.iter().copied().filter(|&to| to != at).collect();
        if others.is_empty() {
            return None;
        }
        let lasts_ms = self.rng.between(100, 3_000);
        let all = self.rng.percent(40);
        let one = self.rng.pick(&others);
        for to in others.into_iter().filter(|&to| all || to == one) {
            self.block(at, to, lasts_ms);
        }
        Some("faults: one-way partition")
    }

    fn block(&mut self, from: usize, to: usize, lasts_ms: u64) {
        self.blocked.insert((from, to));
        self.after(lasts_ms, Event::Unblock(from, to));
        if self.rng.percent(30) {
            let between = |ends: [usize; 2]| ends == [from, to] || ends == [to, from];
            let ids: Vec<u64> = self
                .connections
                .iter()
                .filter(|(_, connection)| between(connection.ends))
                .map(|(&id, _)| id)
                .collect();
            for id in ids {
                self.break_connection(id, true);
            }
        }
    }

    fn some_connection(&mut self) -> Option<u64> {
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        if ids.is_empty() { None } else { Some(self.rng.pick(&ids)) }
    }

    fn break_one(&mut self, loses: bool) -> Option<&'static str> {
        let id = self.some_connection()?;
        self.break_connection(id, loses);
        Some(if loses { "faults: frames lost" } else { "faults: connection closed" })
    }

    fn slow_one(&mut self) -> Option<&'static str> {
        let id = self.some_connection()?;
        self.connections.get_mut(&id)?.slow = true;
        let lasts_ms = self.rng.between(200, 4_000);
        self.after(lasts_ms, Event::Hasten(id));
        Some("faults: slow link")
    }

    fn double_one(&mut self) -> Option<&'static str> {
        let id = self.some_connection()?;
        self.connections.get_mut(&id)?.doubling = Doubling::Next;
        Some("faults: duplicate frame armed")
    }

    fn join(&mut self) -> Option<&'static str> {
        if self.order.len() >= self.plan.most_replicas() {
            return None;
        }
        let disk = self.empty_disk();
        let place = self.rng.index(self.order.len() + 1);
        self.add_replica(disk, Some(place));
        Some("faults: join")
    }

    fn leave(&mut self, at: usize) -> Result<Option<&'static str>, Wrong> {
        if self.order.len() <= 3 || self.is_source(at) {
            return Ok(None);
        }
        self.go_down(at, false)?;
        self.excuse_promises(at);
        self.order.retain(|&known| known != at);
        self.replicas[at].gone = true;
        self.replicas[at].disk = None;
        Ok(Some("faults: leave"))
    }

    /// Everything goes well from now on.
    pub(super) fn heal(&mut self) -> Result<(), Wrong> {
        self.healed = true;
        self.note(0, "all is healed", (0, 0));
        self.blocked.clear();
        for connection in self.connections.values_mut() {
            connection.slow = false;
        }
        for at in self.order.clone() {
            self.replicas[at].crash_after = None;
            self.replicas[at].copy = None;
            self.restart(at)?;
        }
        let always = self.plan.settings.durability == GroupDurability::Always;
        self.totals.add("runs with fsync before answers", u64::from(always));
        Ok(())
    }
}
