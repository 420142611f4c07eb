//! What kind of run a seed makes.

use std::ops::RangeInclusive;

use coppice_agent::engine::{GroupDurability, GroupSettings};
use coppice_crdt::{CrdtType, RemovalLimits};
use coppice_replication::{FRAME_BYTES, RemovalPace, ReplicaSettings, WriteLimits};

use crate::rng::Rng;

/// Who dials whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    AllToAll,
    Chain,
    Ring,
    Star,
}

/// How many replicas may take part at a time.
pub(super) const REPLICAS: RangeInclusive<usize> = 3..=30;

/// What is decided before a run begins.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) replicas: usize,
    pub(super) topology: Topology,
    pub(super) crdt_type: CrdtType,
    pub(super) group_id: [u8; 16],
    pub(super) settings: GroupSettings,
    /// What is few is so little here that removals are hidden, and take steps.
    pub(super) few: bool,
    pub(super) operations: u64,
    pub(super) faults: u64,
    /// Writes and faults are spread over so much time.
    pub(super) busy_ms: u64,
}

impl Plan {
    pub(super) fn random(rng: &mut Rng) -> Self {
        let replicas = match rng.below(100) {
            0..85 => rng.between(3, 6),
            85..97 => rng.between(7, 10),
            _ => rng.between(11, 30),
        };
        let topologies = [Topology::AllToAll, Topology::Chain, Topology::Ring, Topology::Star];
        // All to all among many costs more than it shows.
        let topology = rng.pick(&topologies[usize::from(replicas > 10)..]);
        let durability = match rng.below(10) {
            0..3 => GroupDurability::Always,
            3..7 => GroupDurability::Interval { milliseconds: rng.pick(&[20, 100, 500]) },
            _ => GroupDurability::None,
        };
        let crdt_type = rng.pick(&CrdtType::ALL);
        let has_many = !matches!(crdt_type, CrdtType::EWFlag | CrdtType::LWWRegister);
        let few = has_many && rng.percent(40);
        let removals = if few { few_at_a_time(rng) } else { RemovalPace::default() };
        let replica = ReplicaSettings {
            eager: rng.percent(80),
            interval_ms: rng.pick(&[200, 1_000, 3_000]),
            log_bytes: rng.pick(&[4_096, 12_000, 30_000, 1 << 20]),
            log_age_ms: rng.pick(&[3_000, 20_000, 3_600_000]),
            startup_wait_ms: 2_000,
            expects_peers: true,
            // Small ones, so that any two units come apart.
            frame_bytes: rng.pick(&[1, 100, 400, FRAME_BYTES]),
            removals,
        };
        let limits = WriteLimits { objects: 1_000, elements: 100_000, value_bytes: 1 << 20 };
        Self {
            replicas: usize::try_from(replicas).unwrap_or(3),
            topology,
            crdt_type,
            group_id: rng.bytes(),
            settings: GroupSettings { replica, limits, durability },
            few,
            operations: rng.between(510, 640),
            faults: rng.between(22, 32),
            busy_ms: rng.between(6_000, 20_000),
        }
    }

    /// With those that join, and the clones of disks.
    pub(super) fn most_replicas(&self) -> usize {
        (self.replicas + 3).min(*REPLICAS.end())
    }

    /// Whom the replica at `place` of `count` dials, by their places.
    pub(super) fn neighbours(&self, place: usize, count: usize) -> Vec<usize> {
        let next_to = [place.checked_sub(1), Some(place + 1).filter(|&next| next < count)];
        match self.topology {
            Topology::AllToAll => (0..count).filter(|&other| other != place).collect(),
            Topology::Chain => next_to.into_iter().flatten().collect(),
            Topology::Ring => {
                let around = [(place + count - 1) % count, (place + 1) % count];
                around.into_iter().filter(|&other| other != place).collect()
            }
            Topology::Star if place == 0 => (1..count).collect(),
            Topology::Star => vec![0],
        }
    }
}

/// Small enough for a handful of elements, and of cells.
fn few_at_a_time(rng: &mut Rng) -> RemovalPace {
    let limits = RemovalLimits {
        named_entries: rng.pick(&[0, 2, 64]),
        cells: rng.pick(&[1, 2, 4, 10_000]),
        scanned_entries: rng.pick(&[3, 10, 16_384]),
    };
    RemovalPace {
        limits,
        entries_per_part: rng.pick(&[1, 2, 3, 5]),
        few_entries: rng.pick(&[1, 4]),
        entries_per_step: rng.pick(&[1, 3, 20]),
        hidden_ranges: rng.pick(&[1, 2, 64]),
    }
}
