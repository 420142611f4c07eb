//! When what was committed is put on disk.
//!
//! A commit syncs at once if a group with `Always` is in it; all others are synced
//! together, by the shortest interval. What was answered under an interval is on disk
//! within it, also when its group is dropped meanwhile, or gets other settings.

use coppice_replication::Now;

use super::group::Group;
use super::{Engine, EngineError};
use crate::store::Store;
use crate::store::keys::Slot;

/// The durability of a group's own writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupDurability {
    /// On disk before the answer.
    Always,
    /// Written before the answer, on disk within the interval.
    Interval {
        /// Milliseconds between two syncs, while there is something to sync.
        milliseconds: u64,
    },
    /// Written before the answer; the operating system decides.
    None,
}

impl GroupDurability {
    const fn interval_ms(self) -> Option<u64> {
        match self {
            Self::Interval { milliseconds } => Some(milliseconds),
            Self::Always | Self::None => None,
        }
    }
}

impl<S: Store, T> Engine<S, T> {
    /// Keeps to the interval that a group's writes were answered with.
    pub(super) fn owe_sync(&mut self, slot: Slot) {
        let interval_ms =
            self.groups.get(&slot).and_then(|of| of.settings.durability.interval_ms());
        let unsynced = self.unsynced_since_ms.is_some();
        if let Some(interval_ms) = interval_ms.filter(|_| unsynced) {
            self.sync_owed_ms =
                Some(self.sync_owed_ms.map_or(interval_ms, |owed| owed.min(interval_ms)));
        }
    }

    /// Puts on disk what was committed, if an interval says so.
    pub(super) fn sync_if_due(&mut self, now: Now) -> Result<(), EngineError> {
        let Some(since) = self.unsynced_since_ms else { return Ok(()) };
        let groups = self.groups.values();
        let intervals = groups.filter_map(|group| group.settings.durability.interval_ms());
        if intervals
            .chain(self.sync_owed_ms)
            .min()
            .is_some_and(|interval| now.steady_ms.saturating_sub(since) >= interval)
        {
            self.sync(now)?;
        }
        Ok(())
    }

    /// Whether something was committed that had to be on disk before its answer.
    pub(super) fn owes_sync(&self) -> bool {
        let always = |group: &Group<_>| group.settings.durability == GroupDurability::Always;
        self.unsynced_since_ms.is_some() && self.groups.values().any(always)
    }

    /// Puts all that was committed on disk.
    ///
    /// # Errors
    ///
    /// If the store fails: the engine cannot go on.
    pub fn sync(&mut self, now: Now) -> Result<(), EngineError> {
        self.store.sync()?;
        (self.unsynced_since_ms, self.sync_owed_ms) = (None, None);
        for group in self.groups.values_mut() {
            group.replica.mark_durable(now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use coppice_crdt::{CrdtType, Operation};

    use super::*;
    use crate::engine::{GroupSettings, Named};
    use crate::replica_task::WriteRequest;
    use crate::store::memory::MemoryStore;

    const INTERVAL: GroupDurability = GroupDurability::Interval { milliseconds: 100 };

    fn at(steady_ms: u64) -> Now {
        Now { wall_ms: 1_790_000_000_000 + steady_ms, steady_ms }
    }

    fn settings(durability: GroupDurability) -> GroupSettings {
        GroupSettings { durability, ..GroupSettings::small() }
    }

    /// An engine with a group that is synced each 100 ms and one that never is; what
    /// the first was just told to write is not on disk.
    fn engine() -> (Engine<MemoryStore, ()>, Slot) {
        let mut engine = Engine::open(MemoryStore::new(), "a".into(), [7; 32]).unwrap();
        let named = |id| Named { id: [id; 16], crdt_type: CrdtType::PNCounter };
        let groups = [
            ("some", named(1), settings(INTERVAL)),
            ("none", named(2), settings(GroupDurability::None)),
        ];
        let slot = engine.add_groups(&groups, at(0)).unwrap()[0];
        let operations = vec![("k".into(), Operation::Increment { by: 1 })];
        let request = WriteRequest { operations, precondition: None, allow_incomplete: true };
        engine.submit(slot, &request, (), at(0)).unwrap();
        engine.commit(at(0)).unwrap();
        assert_eq!(engine.store().unsynced(), 1);
        (engine, slot)
    }

    #[test]
    fn an_interval_holds_for_what_was_written_under_it() {
        type Change = fn(&mut Engine<MemoryStore, ()>, Slot);
        let changes: [Change; 3] = [
            |_, _| {},
            |engine, slot| engine.remove_group(slot),
            |engine, slot| engine.set_settings(slot, settings(GroupDurability::None)),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let (mut engine, slot) = engine();
            change(&mut engine, slot);
            engine.commit(at(99)).unwrap();
            assert_eq!(engine.store().unsynced(), 1, "{index}: not before the time");
            engine.commit(at(100)).unwrap();
            assert_eq!(engine.store().unsynced(), 0, "{index}: its answer said so");
        }
    }
}
