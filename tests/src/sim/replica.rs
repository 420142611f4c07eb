//! One simulated replica: an agent's engine over a store that can be crashed,
//! and what is recorded beside that store.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use coppice_agent::engine::Engine;
use coppice_agent::records::GroupRecords;
use coppice_agent::store::keys::Slot;
use coppice_agent::store::memory::MemoryStore;
use coppice_replication::{LinkId, Now};

use super::ledger::{Inputs, Ledger, OpNumber, PartAtHand, Predicted};
use super::long_removals::LongRemoval;
use super::recorded::{Arrivals, Recorded, Visible};
use super::wrong::Wrong;

/// Simulated wall time begins here.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// Knows an open request by its number.
pub(super) type SimEngine = Engine<MemoryStore, usize>;

/// A disk, and what is recorded beside it: as of its last sync, and as of each
/// commit since.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) store: MemoryStore,
    pub(super) recorded: Beside,
}

/// What is recorded beside a store; it rolls back and is copied with it.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    pub(super) live: Rc<Recorded>,
    pub(super) unsynced: VecDeque<Rc<Recorded>>,
    pub(super) synced: Rc<Recorded>,
}

/// An acknowledged write that a disk has to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) number: OpNumber,
    /// Since when the disk may have held it without a sync; `None`: it is synced.
    pub(super) unsynced_since_ms: Option<u64>,
}

/// A replica, up or down.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) engine: Option<SimEngine>,
    /// The disk, while the replica is down.
    pub(super) disk: Option<Disk>,
    pub(super) slot: Slot,
    /// How often it was opened.
    pub(super) life: u64,
    pub(super) recorded: Beside,
    pub(super) pending: VecDeque<Predicted>,
    /// Removals that take steps, and are not done yet.
    pub(super) removals: VecDeque<LongRemoval>,
    /// What clients were promised, and this disk has to keep.
    pub(super) promised: Vec<Promise>,
    pub(super) skew_ms: i64,
    /// Crashes after so many more steps between inputs, commit and effects.
    pub(super) crash_after: Option<u64>,
    /// A copy of the disk, to be put in its place.
    pub(super) copy: Option<Disk>,
    /// What a served repair's snapshot has seen.
    pub(super) serving: BTreeMap<LinkId, Rc<Visible>>,
    pub(super) parts: Vec<(LinkId, PartAtHand)>,
    pub(super) arrivals: Arrivals,
    pub(super) gone: bool,
}

impl Beside {
    pub(super) fn new(recorded: Recorded) -> Self {
        let live = Rc::new(recorded);
        Self { synced: Rc::clone(&live), live, unsynced: VecDeque::new() }
    }

    /// Takes notice of what the store did: a commit, a sync, or both.
    pub(super) fn follow(&mut self, unsynced: usize) -> Result<(), Wrong> {
        if unsynced == 0 {
            self.unsynced.clear();
            self.synced = Rc::clone(&self.live);
        } else if unsynced > self.unsynced.len() {
            self.unsynced.push_back(Rc::clone(&self.live));
        }
        if unsynced == self.unsynced.len() {
            Ok(())
        } else {
            Err(format!("{unsynced} commits unsynced, {} recorded", self.unsynced.len()).into())
        }
    }

    /// What a restart may find.
    pub(super) fn states(&self) -> impl Iterator<Item = &Rc<Recorded>> {
        self.unsynced.iter().chain([&self.live, &self.synced])
    }

    /// What a power loss leaves that keeps so many unsynced commits.
    pub(super) fn keep(&mut self, kept: usize) {
        self.unsynced.truncate(kept);
        self.live = Rc::clone(self.unsynced.back().unwrap_or(&self.synced));
        self.synced = Rc::clone(&self.live);
        self.unsynced.clear();
    }
}

impl Replica {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            engine: None,
            recorded: disk.recorded.clone(),
            disk: Some(disk),
            slot: 0,
            life: 0,
            pending: VecDeque::new(),
            removals: VecDeque::new(),
            promised: Vec::new(),
            skew_ms: 0,
            crash_after: None,
            copy: None,
            serving: BTreeMap::new(),
            parts: Vec::new(),
            arrivals: Arrivals::default(),
            gone: false,
        }
    }

    pub(super) fn now(&self, now_ms: u64) -> Now {
        let wall_ms = EPOCH_MS + now_ms.cast_signed() + self.skew_ms;
        Now { wall_ms: wall_ms.cast_unsigned(), steady_ms: now_ms }
    }

    pub(super) fn visible(&self) -> &Visible {
        &self.recorded.live.visible
    }

    /// The disk has to keep a write that it has synced, and that was promised by
    /// another one before.
    pub(super) fn take_over(&mut self, number: OpNumber) {
        let promise = Promise { number, unsynced_since_ms: None };
        match self.promised.iter_mut().find(|known| known.number == number) {
            Some(known) => *known = promise,
            None => self.promised.push(promise),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    /// Records what the last commit brought.
    pub(super) fn observe(&mut self, ledger: &mut Ledger) -> Result<(), Wrong> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let records = GroupRecords { store: engine.store(), slot: self.slot };
        let parts: Vec<PartAtHand> = self.parts.iter().map(|(_, part)| part.clone()).collect();
        let live = Rc::make_mut(&mut self.recorded.live);
        let (pending, arrivals) = (&mut self.pending, &self.arrivals);
        let mut inputs = Inputs { pending, arrivals, parts: &parts };
        ledger.observe(records, live, engine.opening().actor, &mut inputs)?;
        self.recorded.follow(engine.store().unsynced())
    }

    /// A copy of the disk as a restart would find it.
    pub(super) fn copy_disk(&self) -> Option<Disk> {
        let store = self.engine.as_ref()?.store().clone_disk();
        Some(Disk { store, recorded: self.recorded.clone() })
    }
}
