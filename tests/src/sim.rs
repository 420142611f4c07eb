//! A deterministic simulation of replicas under faults.
//!
//! Replicas are the agent's own engine over a store in memory that can be
//! crashed; time, network, clients and faults are simulated, and everything
//! follows from one seed. Beside each store stands what it has seen, by numbers
//! of operations (`ledger`); from that alone the `model` says what every
//! value must be. A run ends when all is healed and all replicas are equal, and
//! fails if they are not, not as they should be, or lack what was promised.
//!
//! No clock, no randomness, no order but the seed's.

mod clients;
mod crashes;
mod faults;
mod ledger;
mod long_removals;
mod model;
#[cfg(feature = "mutants")]
pub mod mutants;
mod network;
mod operations;
mod plan;
mod recorded;
mod replica;
mod seen;
mod totals;
mod trace;
mod verdict;
mod world;
mod wrong;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use totals::Totals;
pub use wrong::Noticed;

use trace::Trace;
use world::World;
use wrong::Wrong;

/// Counts that a thousand seeds do not leave at zero.
pub const EXPECTED: [&str; 30] = [
    "commits failed",
    "commits lost with power",
    "conflicting writes",
    "crashes",
    "crashes amid a removal in steps",
    "crashes amid a sweep",
    "crashes that lost commits",
    "crashes with loss of power",
    "faults",
    "faults: clock jump",
    "faults: commit failure",
    "faults: connection closed",
    "faults: crash",
    "faults: disk cloned",
    "faults: disk lost",
    "faults: disk rolled back",
    "faults: frame duplicated",
    "faults: frames lost",
    "faults: join",
    "faults: leave",
    "faults: one-way partition",
    "faults: slow link",
    "faults: two-way partition",
    "log trims",
    "operations",
    "registers purged",
    "removals hidden and swept",
    "removals in steps",
    "repairs completed",
    "writes acknowledged",
];

/// A run that went wrong.
#[derive(Debug)]
pub struct Failure {
    /// What noticed it.
    pub noticed: Noticed,
    /// What is wrong.
    pub error: String,
    /// The last events before it.
    pub trace: String,
    /// What kind of run it was.
    pub plan: String,
}

/// A run that went well.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// What it came by.
    pub totals: Totals,
    /// A digest of each event, of each frame sent and of how every replica ended.
    pub digest: u64,
}

/// Runs one seed; `prints` every event as it happens.
///
/// # Errors
///
/// [`Failure`], with what led to it.
pub fn run(seed: u64, prints: bool) -> Result<Run, Failure> {
    let mut trace = Trace::new(prints);
    let mut plan = String::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, &mut trace);
        plan = format!("{:?}", world.plan);
        world.run()?;
        let mut totals = std::mem::take(&mut world.totals);
        totals.add("conflicting writes", world.ledger.conflicts);
        totals.add("replicas", world.replicas.len() as u64);
        totals.add("simulated seconds", world.now_ms / 1_000);
        Ok(totals)
    }));
    let Wrong { noticed, text } = match outcome {
        Ok(Ok(totals)) => return Ok(Run { totals, digest: trace.digest() }),
        Ok(Err(wrong)) => wrong,
        Err(panic) => Wrong { noticed: Noticed::Panic, text: message_of(&*panic) },
    };
    Err(Failure { noticed, error: text, trace: trace.to_string(), plan })
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
