//! What goes wrong: disks, clocks, partitions, members; crashes are beside this.

use coppice_agent::engine::GroupDurability;

use super::ledger::OpNumber;
use super::network::{Connection, Doubling};
use super::recorded::Visible;
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

    fn lose_disk(&mut self, at: usize) -> Result<Option<&'static str>, Wrong> {
        if self.order.len() < 3 || self.is_source(at) {
            return Ok(None);
        }
        self.crash(at)?;
        let disk = self.empty_disk();
        self.replicas[at].recorded = disk.recorded.clone();
        self.pass_on_promises(at);
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

    /// The disk is gone, or another one is in its place: what it had to keep,
    /// others do.
    fn pass_on_promises(&mut self, at: usize) {
        for promise in std::mem::take(&mut self.replicas[at].promised) {
            self.pass_on(at, promise.number);
        }
    }

    /// A disk may have lost a write that was promised. Every disk that has it
    /// synced has to keep it from now on; the promise is void if there is none.
    pub(super) fn pass_on(&mut self, at: usize, number: OpNumber) {
        let mut is_kept = false;
        for &holder in &self.order {
            let replica = &mut self.replicas[holder];
            if self.ledger.is_seen(number, &replica.recorded.synced.visible) {
                replica.take_over(number);
            }
            is_kept |= replica.promised.iter().any(|promise| promise.number == number);
        }
        if !is_kept {
            self.note(at, "lost for all what was promised", (number as u64, 0));
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
        self.replicas[at].recorded = copy.recorded.clone();
        self.replicas[at].disk = Some(copy);
        self.pass_on_promises(at);
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
        self.order.retain(|&known| known != at);
        self.pass_on_promises(at);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::trace::Trace;

    #[test]
    fn a_promise_is_void_only_if_no_other_disk_has_what_was_promised() {
        let (mut void, mut kept) = (0, 0);
        for seed in 0..12 {
            let mut trace = Trace::new(false);
            let mut world = World::new(seed, &mut trace);
            for ms in (500..=6_000).step_by(500) {
                world.run_until(ms).expect("nothing goes wrong");
                let Some(at) = world.most_promised() else { continue };
                let promised = world.replicas[at].promised.clone();
                if world.lose_disk(at).expect("nothing goes wrong").is_none() {
                    continue;
                }
                for number in promised.iter().map(|promise| promise.number) {
                    let is_void = world.ledger.recordings[number].excused;
                    assert_eq!(is_void, !world.is_on_a_disk(number), "write {number}, seed {seed}");
                    assert!(is_void || world.is_promised(number), "nobody has to keep {number}");
                    *if is_void { &mut void } else { &mut kept } += 1;
                }
            }
        }
        assert!(void > 10 && kept > 100, "{void} void, {kept} kept: too few to show anything");
    }

    impl World<'_> {
        fn most_promised(&self) -> Option<usize> {
            let up = self.order.iter().copied().filter(|&at| self.replicas[at].is_up());
            up.max_by_key(|&at| self.replicas[at].promised.len())
        }

        fn is_on_a_disk(&self, number: OpNumber) -> bool {
            let mut disks = self.order.iter().map(|&at| &self.replicas[at].recorded.synced);
            disks.any(|synced| self.ledger.is_seen(number, &synced.visible))
        }

        fn is_promised(&self, number: OpNumber) -> bool {
            let mut promised = self.order.iter().flat_map(|&at| &self.replicas[at].promised);
            promised.any(|promise| promise.number == number)
        }
    }
}
