//! Whether all agents are equal, and how long that took.

use std::collections::BTreeMap;
use std::time::Duration;

use coppice_crdt::CrdtType;
use tokio::time::Instant;

use super::Failure;
use super::cluster::{AGENTS, Cluster};
use crate::eventually::eventually;
use crate::interrupt::Interrupt;
use crate::progress::{during, say};

/// How long each group took; no entry for one that did not become equal.
pub(super) type Convergence = BTreeMap<CrdtType, Duration>;

/// Waits until all agents show the same values and etags of `kinds`, at most
/// for `limit`. Nobody writes meanwhile.
pub(super) fn wait(
    cluster: &Cluster,
    interrupt: &Interrupt,
    (kinds, limit): (&[CrdtType], Duration),
) -> Result<Convergence, Failure> {
    let began = Instant::now();
    let mut equal = Convergence::new();
    let look = || -> Option<Result<(), Failure>> {
        if let Err(interrupted) = interrupt.check() {
            return Some(Err(interrupted.into()));
        }
        for kind in kinds {
            if !equal.contains_key(kind) && are_equal(cluster, *kind).unwrap_or(false) {
                equal.insert(*kind, began.elapsed());
            }
        }
        (equal.len() == kinds.len()).then_some(Ok(()))
    };
    let waiting = || "waiting until all agents are equal".to_owned();
    during(waiting, || eventually(limit, look)).transpose()?;
    for differing in kinds.iter().filter(|kind| !equal.contains_key(*kind)) {
        say(&format!("    {} still differs after {} s", differing.name(), limit.as_secs()));
    }
    let slowest = equal.values().max().copied().unwrap_or_default();
    let which = if equal.len() == kinds.len() { "" } else { "the others " };
    say(&format!("    {which}equal everywhere after {} ms", slowest.as_millis()));
    Ok(equal)
}

/// Whether all agents show the same values and etags of a group.
pub(super) fn are_equal(cluster: &Cluster, crdt_type: CrdtType) -> Result<bool, Failure> {
    let first = cluster.objects(0, crdt_type)?;
    for agent in 1..AGENTS {
        if cluster.objects(agent, crdt_type)? != first {
            return Ok(false);
        }
    }
    Ok(true)
}
