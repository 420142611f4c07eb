//! Two servers, one after the other, round after round.
//!
//! Whatever slows the machine for a while slows a turn of each, so what counts
//! is the ratio within a round, and the median over the rounds.

use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::load::{self, Load, LoadError, Outcome, Target};
use super::process::{Memory, Process};
use super::workload::Workload;
use crate::client::{Client, ClientError};

/// What a server's figures are called by.
pub(super) const NAMES: [&str; 2] = ["coppice", "redis"];

/// One of the two.
#[derive(Debug)]
pub(super) struct Server {
    /// Where it is asked.
    pub(super) target: Target,
    /// Its process.
    pub(super) process: Process,
    /// How its syncs are counted.
    pub(super) syncs: SyncCounter,
}

/// How the syncs of a server are counted.
#[derive(Debug)]
pub(super) enum SyncCounter {
    /// The agent counts them, behind its operations port.
    Metrics(Client),
    /// Redis has a call of `write` for each answer, and one for each sync.
    WritesBesidesAnswers,
    /// It has none.
    Never,
}

/// What is done in every round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// What is asked.
    pub(super) workload: Workload,
    /// By how many connections.
    pub(super) connections: usize,
    /// How long each turn counts.
    pub(super) time: Duration,
}

/// What the rounds so far have shown.
#[derive(Debug)]
pub(super) struct Contest {
    rules: Rules,
    sides: [Side; 2],
}

/// The rounds of one server.
#[derive(Debug, Default)]
struct Side {
    rates: Vec<f64>,
    cpu_us: Vec<f64>,
    load_cpu_us: Vec<f64>,
    latencies_us: Vec<u32>,
    answered: u64,
    syncs: Option<u64>,
    memory: Memory,
}

/// What all rounds have shown.
#[derive(Debug)]
pub(super) struct Comparison {
    /// What was asked.
    pub(super) workload: Workload,
    /// By how many connections.
    pub(super) connections: usize,
    /// The agent's figures, then redis'.
    pub(super) figures: [Figures; 2],
    /// The agent's operations per one of redis: the least, the median and the
    /// most of all rounds.
    pub(super) ratio: [f64; 3],
}

/// One server's figures; of several rounds the median.
#[derive(Debug)]
pub(super) struct Figures {
    /// Operations answered per second.
    pub(super) rate: f64,
    /// The median of the time that one operation took, in microseconds.
    pub(super) p50_us: u32,
    /// What 99 of 100 operations did not exceed, in microseconds.
    pub(super) p99_us: u32,
    /// CPU time of the server per operation, in microseconds.
    pub(super) cpu_us: f64,
    /// CPU time of the load generator per operation, in microseconds.
    pub(super) load_cpu_us: f64,
    /// Memory at the end of the last turn.
    pub(super) memory: Memory,
    /// Syncs per operation; `None` if they could not be counted.
    pub(super) syncs: Option<f64>,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    /// A server did not do what it was asked.
    #[error("{0}: {1}")]
    Load(&'static str, #[source] LoadError),
    /// A server is gone, or `/proc` does not tell.
    #[error("read /proc of {0}: {1}")]
    Process(&'static str, #[source] io::Error),
    /// The agent does not show its metrics.
    #[error("read the agent's metrics: {0}")]
    Metrics(#[from] ClientError),
}

// === impl Contest ===

impl Contest {
    /// One without a round.
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, sides: Default::default() }
    }

    /// Plays a round: a turn of each.
    ///
    /// The CPU time of both is counted for the whole round, so that work which a
    /// server puts off until it is idle is still its own.
    ///
    /// # Errors
    ///
    /// [`RoundError`].
    pub(super) fn round(
        &mut self,
        runtime: &Runtime,
        servers: &mut [Server; 2],
        round: u64,
        mut between: impl FnMut() -> io::Result<()>,
    ) -> Result<(), RoundError> {
        let Rules { workload, connections, time } = self.rules;
        let load = Load { workload, connections, time, round };
        let before = [servers[0].cpu_us(0)?, servers[1].cpu_us(1)?];
        let mut answered = [0; 2];
        for (at, server) in servers.iter_mut().enumerate() {
            let outcome = self.sides[at].turn(runtime, server, at, load)?;
            answered[at] = outcome.answered;
            between().map_err(|error| RoundError::Load("the probe", error.into()))?;
        }
        for (at, server) in servers.iter().enumerate() {
            let spent = server.cpu_us(at)? - before[at];
            self.sides[at].cpu_us.push(spent / count(answered[at]));
        }
        Ok(())
    }

    /// What the rounds have shown.
    pub(super) fn end(self) -> Comparison {
        let [agent, redis] = &self.sides;
        let pairs = agent.rates.iter().zip(&redis.rates);
        let ratios = sorted(pairs.map(|(agent, redis)| agent / redis.max(1.0)));
        let ratio = [0.0, 0.5, 1.0].map(|share| quantile(&ratios, share).unwrap_or(0.0));
        Comparison {
            workload: self.rules.workload,
            connections: self.rules.connections,
            figures: self.sides.map(Side::figures),
            ratio,
        }
    }
}

// === impl Side ===

impl Side {
    fn turn(
        &mut self,
        runtime: &Runtime,
        server: &mut Server,
        at: usize,
        load: Load,
    ) -> Result<Outcome, RoundError> {
        let own_us =
            || Process::own().cpu_us().map_err(|error| RoundError::Process("bench", error));
        let (load_before, syncs_before) = (own_us()?, server.syncs()?);
        let mut outcome = load::run(runtime, server.target, load)
            .map_err(|error| RoundError::Load(NAMES[at], error))?;
        let (load_after, syncs_after) = (own_us()?, server.syncs()?);

        self.rates.push(outcome.rate);
        self.load_cpu_us.push((load_after - load_before) / count(outcome.answered));
        self.latencies_us.append(&mut outcome.latencies_us);
        self.answered += outcome.answered;
        if let (Some(before), Some(after)) = (syncs_before, syncs_after) {
            let besides = match server.syncs {
                SyncCounter::WritesBesidesAnswers => outcome.answered,
                SyncCounter::Metrics(_) | SyncCounter::Never => 0,
            };
            let counted = (after - before).saturating_sub(besides);
            self.syncs = Some(self.syncs.unwrap_or(0) + counted);
        }
        self.memory =
            server.process.memory().map_err(|error| RoundError::Process(NAMES[at], error))?;
        Ok(outcome)
    }

    fn figures(mut self) -> Figures {
        self.latencies_us.sort_unstable();
        let median = |values: Vec<f64>| quantile(&sorted(values.into_iter()), 0.5).unwrap_or(0.0);
        Figures {
            rate: median(self.rates),
            p50_us: quantile(&self.latencies_us, 0.5).unwrap_or(0),
            p99_us: quantile(&self.latencies_us, 0.99).unwrap_or(0),
            cpu_us: median(self.cpu_us),
            load_cpu_us: median(self.load_cpu_us),
            memory: self.memory,
            syncs: self.syncs.map(|syncs| f64_of(syncs) / count(self.answered)),
        }
    }
}

// === impl Server ===

impl Server {
    fn cpu_us(&self, at: usize) -> Result<f64, RoundError> {
        self.process.cpu_us().map_err(|error| RoundError::Process(NAMES[at], error))
    }

    /// What its counter stands at; `None` if nothing counts.
    fn syncs(&mut self) -> Result<Option<u64>, RoundError> {
        const NAME: &str = "coppice_fsyncs_total ";
        match &mut self.syncs {
            SyncCounter::Never => Ok(Some(0)),
            SyncCounter::WritesBesidesAnswers => Ok(self.process.writes()),
            SyncCounter::Metrics(operations) => {
                let text = operations.get("/metrics")?.text();
                let value = text.lines().find_map(|line| line.strip_prefix(NAME));
                Ok(value.and_then(|value| value.parse().ok()))
            }
        }
    }
}

/// The value below which `share` of sorted values lie; `None` if there is none.
pub(super) fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index of a list that fits into memory"
    )]
    let at = (share * sorted.len() as f64) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// For dividing by: at least one.
fn count(number: u64) -> f64 {
    f64_of(number.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "counts of minutes are far below 2^52")]
fn f64_of(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<u32> = (0..100).collect();
        assert_eq!(quantile(&values, 0.0), Some(0));
        assert_eq!(quantile(&values, 0.5), Some(50));
        assert_eq!(quantile(&values, 0.99), Some(99));
        assert_eq!(quantile(&values, 1.0), Some(99));
        assert_eq!(quantile::<u32>(&[], 0.5), None);
    }

    #[test]
    fn the_ratio_is_taken_within_a_round() {
        let workload = Workload::Increments { keys: 1 };
        let rules = Rules { workload, connections: 1, time: Duration::ZERO };
        let mut contest = Contest::new(rules);
        contest.sides[0].rates = vec![10.0, 80.0, 30.0];
        contest.sides[1].rates = vec![20.0, 100.0, 40.0];
        let expected = [0.5, 0.75, 0.8].map(f64::to_bits);
        assert_eq!(contest.end().ratio.map(f64::to_bits), expected);
    }
}
