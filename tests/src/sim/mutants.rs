//! Whether the simulation notices wrong protocols: how many of the ordinary
//! seeds catch each.
//!
//! Ordinary: a wrong protocol runs the very seeds that `make sim` runs, from the
//! first on, until enough of them failed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use coppice_crdt::mutant::{self, Mutant};

use super::{Failure, run};

/// A wrong protocol that so many seeds catch is caught.
pub const ENOUGH: usize = 10;

/// Of so many seeds.
pub const SEEDS: u64 = 1_000;

/// How one protocol fared.
#[derive(Debug)]
pub struct Share {
    /// Seeds tried, from 0 on, up to the one that was enough.
    pub tried: u64,
    /// The seeds that failed, and how.
    pub caught: Vec<(u64, Failure)>,
}

impl Share {
    /// Whether enough seeds failed.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        self.caught.len() >= ENOUGH
    }
}

/// Runs a protocol, `None` the right one, over the seeds below `seeds` until
/// enough of them failed. What comes out does not depend on `threads`.
#[must_use]
pub fn share_of(mutant: Option<Mutant>, seeds: u64, threads: usize) -> Share {
    mutant::choose(mutant);
    let next = AtomicU64::new(0);
    let done: Mutex<BTreeMap<u64, Option<Failure>>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let failure = run(seed, false).err();
                    let Ok(mut done) = done.lock() else { return };
                    done.insert(seed, failure);
                    if seed % 100 == 99 {
                        let caught = done.values().flatten().count();
                        eprintln!("{} of {seeds} seeds, {caught} caught", seed + 1);
                    }
                    if done.values().flatten().count() >= ENOUGH {
                        next.store(seeds, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    mutant::choose(None);
    let mut share = Share { tried: 0, caught: Vec::new() };
    // A thread may have been ahead: what counts is in the order of seeds.
    for (seed, failure) in done.into_inner().unwrap_or_default() {
        share.tried = seed + 1;
        share.caught.extend(failure.map(|failure| (seed, failure)));
        if share.is_caught() {
            break;
        }
    }
    share
}
