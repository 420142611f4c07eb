//! The three parts of the comparison, and the servers of each.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::Cause;
use super::contest::{Comparison, Contest, Rules, Server, SyncCounter, quantile};
use super::load::{self, Target};
use super::probe::Probe;
use super::process::Process;
use super::redis::{Persistence, Redis};
use super::workload::{COUNTERS, Protocol, SETS, Workload, grouped};
use crate::agents::{Agent, AgentSpec};
use crate::eventually::eventually;
use crate::interrupt::Interrupt;
use crate::progress::{during, say};

/// How long a turn counts: some hundred ticks of the system's CPU clock.
const TURN: Duration = Duration::from_secs(1);
/// Rounds of increments.
const ROUNDS: u64 = 5;
/// Rounds of each size of a set, each with a restart.
const SET_ROUNDS: u64 = 3;
/// Connections that change a set.
const SET_CONNECTIONS: usize = 16;
/// The sizes of sets.
const SET_SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// After each turn with syncs.
const PROBE: Duration = Duration::from_millis(200);
/// How long a store may go on with what filling it left to do.
const SETTLE: Duration = Duration::from_secs(20);

/// The comparison while it runs.
#[derive(Debug)]
pub(super) struct Bench {
    folder: PathBuf,
    interrupt: Interrupt,
    runtime: Runtime,
    probe: Probe,
}

/// Some workloads under one persistence.
#[derive(Debug)]
pub(super) struct Section {
    /// What is common to them.
    pub(super) title: &'static str,
    /// One for each workload.
    pub(super) comparisons: Vec<Comparison>,
    /// What the disk took for a sync meanwhile: p50 and p99 in microseconds.
    pub(super) probe_us: Option<[u32; 2]>,
}

/// An agent and a redis that persist alike.
struct Pair {
    agent: Agent,
    redis: Redis,
}

// === impl Bench ===

impl Bench {
    /// One with its files in `folder`.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written.
    pub(super) fn new(folder: &Path, interrupt: Interrupt) -> io::Result<Self> {
        let (runtime, probe) = (load::runtime()?, Probe::new(folder)?);
        Ok(Self { folder: folder.to_owned(), interrupt, runtime, probe })
    }

    /// Runs all sections.
    ///
    /// # Errors
    ///
    /// With the first operation that was not done, or on interruption.
    pub(super) fn run(&mut self) -> Result<Vec<Section>, Cause> {
        let (uniform, hot) =
            (Workload::Increments { keys: 10_000 }, Workload::Increments { keys: 1 });
        let unsynced = [(uniform, 1), (uniform, 16), (uniform, 64), (hot, 1), (hot, 16), (hot, 64)];
        Ok(vec![
            self.increments("no fsync before the answer", Persistence::Off, &unsynced)?,
            self.increments(
                "fsync before the answer",
                Persistence::AppendAndSync,
                &[(uniform, 1), (uniform, 64)],
            )?,
            self.sets()?,
        ])
    }

    fn increments(
        &mut self,
        title: &'static str,
        persistence: Persistence,
        workloads: &[(Workload, usize)],
    ) -> Result<Section, Cause> {
        let folder = self.subfolder(title)?;
        let pair = Pair {
            agent: agent_spec("agent", &folder, persistence)?.start()?,
            redis: Redis::start(&folder, persistence)?,
        };
        let is_synced = persistence == Persistence::AppendAndSync;
        let mut servers = pair.servers(is_synced);
        let mut comparisons = Vec::new();
        for &(workload, connections) in workloads {
            say(&format!("  {title}: {}, connections: {connections}", workload.name()));
            let mut contest = Contest::new(Rules { workload, connections, time: TURN });
            for server in &servers {
                server.process.forget_peak();
            }
            for round in 0..ROUNDS {
                self.interrupt.check()?;
                let probe = &mut self.probe;
                let between = || if is_synced { probe.run(PROBE) } else { Ok(()) };
                contest.round(&self.runtime, &mut servers, round, between)?;
            }
            comparisons.push(contest.end());
        }
        Ok(Section { title, comparisons, probe_us: self.probed() })
    }

    /// Sets of all sizes, each in a store of its own, in turns.
    fn sets(&mut self) -> Result<Section, Cause> {
        let title = "sets, no fsync before the answer";
        let folder = self.subfolder(title)?;
        let redis = Redis::start(&folder, Persistence::Off)?;
        let mut contests = Vec::new();
        for size in SET_SIZES {
            let workload = Workload::SetChanges { size };
            let agent = during(
                || format!("filling a set of {} elements", grouped(size)),
                || self.filled_agent(&folder, workload, redis.target()),
            )?;
            let rules = Rules { workload, connections: SET_CONNECTIONS, time: TURN };
            contests.push((agent, Contest::new(rules)));
        }
        let mut pair_with = Some(redis);
        for round in 0..SET_ROUNDS {
            say(&format!("  {title}: round {} of {SET_ROUNDS} over all sizes", round + 1));
            for (agent, contest) in &mut contests {
                self.interrupt.check()?;
                agent.restart()?;
                let Some(redis) = pair_with.take() else { break };
                let mut servers = [agent_server(agent), redis_server(&redis, false)];
                servers[1].process.forget_peak();
                contest.round(&self.runtime, &mut servers, round, || Ok(()))?;
                pair_with = Some(redis);
                agent.kill();
            }
        }
        let comparisons = contests.into_iter().map(|(_, contest)| contest.end()).collect();
        Ok(Section { title, comparisons, probe_us: None })
    }

    /// An agent that was killed once its store held a set, which redis holds too.
    fn filled_agent(
        &self,
        folder: &Path,
        workload: Workload,
        redis: Target,
    ) -> Result<Agent, Cause> {
        let Workload::SetChanges { size } = workload else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        };
        let name = format!("agent-{size}");
        let mut agent = agent_spec(&name, folder, Persistence::Off)?.start()?;
        let server = agent_server(&agent);
        for target in [server.target, redis] {
            let requests = workload.fill(target.protocol);
            load::send_all(&self.runtime, target, &requests).map_err(Cause::Fill)?;
            self.interrupt.check()?;
        }
        settle(server.process);
        agent.kill();
        Ok(agent)
    }

    fn subfolder(&self, title: &str) -> io::Result<PathBuf> {
        let folder = self.folder.join(title.replace([' ', ','], "-"));
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }

    fn probed(&mut self) -> Option<[u32; 2]> {
        let latencies_us = self.probe.take();
        Some([quantile(&latencies_us, 0.5)?, quantile(&latencies_us, 0.99)?])
    }
}

// === impl Pair ===

impl Pair {
    fn servers(&self, is_synced: bool) -> [Server; 2] {
        [agent_server(&self.agent), redis_server(&self.redis, is_synced)]
    }
}

fn agent_server(agent: &Agent) -> Server {
    Server {
        target: Target { address: agent.spec().ports.app, protocol: Protocol::Http },
        // One that has no process has no files in /proc either.
        process: Process::new(agent.pid().unwrap_or(0)),
        syncs: SyncCounter::Metrics(agent.operations()),
    }
}

fn redis_server(redis: &Redis, is_synced: bool) -> Server {
    let syncs = if is_synced { SyncCounter::WritesBesidesAnswers } else { SyncCounter::Never };
    Server { target: redis.target(), process: redis.process(), syncs }
}

fn agent_spec(name: &str, folder: &Path, persistence: Persistence) -> Result<AgentSpec, Cause> {
    let durability = match persistence {
        Persistence::Off => "None",
        Persistence::AppendAndSync => "Always",
    };
    let group = |name, crdt_type| {
        format!(
            "  - name: {name}\n    crdt: {{type: {crdt_type}}}\n    storage: {{durability: {durability}}}\n"
        )
    };
    let groups = [group(COUNTERS, "PNCounter"), group(SETS, "ORSet")].concat();
    let file = folder.join(format!("{name}.yaml"));
    std::fs::write(&file, format!("groups:\n{groups}"))?;
    Ok(AgentSpec::new(name, folder, vec![OsString::from("--config"), file.into()])?)
}

/// Waits until a process has been idle for a while.
fn settle(process: Process) {
    const LOOKS: u32 = 30;
    let (mut before, mut idle) = (f64::NAN, 0);
    eventually(SETTLE, || {
        // Gone is idle too; the next restart says why.
        let now = process.cpu_us().unwrap_or(before);
        idle = if now > before || before.is_nan() { 0 } else { idle + 1 };
        before = now;
        (idle >= LOOKS).then_some(())
    });
}
