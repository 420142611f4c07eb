//! Who writes what when, and where that is entered in the ledgers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use coppice_crdt::CrdtType;
use tokio::time::Instant;

use super::cluster::{AGENTS, Cluster, group_name};
use super::convergence::{self, Convergence};
use super::{CONVERGENCE, Failure, request};
use crate::client::{Client, ClientError, Response};
use crate::eventually::eventually;
use crate::interrupt::Interrupt;
use crate::ledger::{Change, Fate, Issuer, Ledger, Target};
use crate::progress::during;

/// One write.
pub(super) type Step = (Target, Change);

/// How long a killed agent may be away.
const AWAY: Duration = Duration::from_secs(30);

/// Everything that the acts of the demo share.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) cluster: Cluster,
    ledgers: BTreeMap<CrdtType, Mutex<Ledger>>,
    interrupt: Interrupt,
    epoch: u32,
    /// The groups that became equal each time.
    not_lost: Vec<CrdtType>,
    cut_off: Option<usize>,
    runs: [AtomicU32; AGENTS],
    done: [AtomicUsize; AGENTS],
    /// Frame bytes of processes that are gone, by group.
    pub(super) earlier_bytes: BTreeMap<String, u64>,
}

/// The writes of one act: per agent and type, in order.
#[derive(Debug)]
pub(super) struct Plan(Vec<(usize, CrdtType, Vec<Step>)>);

// === impl Plan ===

impl Plan {
    pub(super) fn each_agent(steps: impl Fn(usize, CrdtType) -> Vec<Step>) -> Self {
        let pairs = (0..AGENTS).flat_map(|agent| CrdtType::ALL.map(|kind| (agent, kind)));
        Self(pairs.map(|(agent, kind)| (agent, kind, steps(agent, kind))).collect())
    }

    fn len(&self, of: impl Fn(usize) -> bool) -> usize {
        self.0.iter().filter(|(agent, ..)| of(*agent)).map(|(_, _, steps)| steps.len()).sum()
    }
}

// === impl Scene ===

impl Scene {
    pub(super) fn new(cluster: Cluster, interrupt: Interrupt) -> Self {
        let ledgers = CrdtType::ALL.map(|kind| (kind, Mutex::new(Ledger::new(kind))));
        Self {
            cluster,
            ledgers: ledgers.into(),
            interrupt,
            epoch: 0,
            not_lost: CrdtType::ALL.into(),
            cut_off: None,
            runs: Default::default(),
            done: Default::default(),
            earlier_bytes: BTreeMap::new(),
        }
    }

    pub(super) fn name(&self, agent: usize) -> String {
        self.cluster.agent(agent).spec().name.clone()
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) fn ledger(&self, crdt_type: CrdtType) -> MutexGuard<'_, Ledger> {
        self.ledgers[&crdt_type].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cut_off(&mut self, agent: usize) {
        self.cluster.cut_off(agent);
        self.cut_off = Some(agent);
    }

    pub(super) fn heal(&mut self) {
        if let Some(agent) = self.cut_off.take() {
            self.cluster.heal(agent);
        }
    }

    /// Carries out a plan, all agents and types at the same time.
    pub(super) fn perform(&self, plan: Plan) -> Result<(), Failure> {
        let total = plan.len(|_| true);
        let before = self.writes_done();
        let state = || format!("{} of {total} writes", self.writes_done() - before);
        during(state, || {
            thread::scope(|scope| {
                let writers: Vec<_> = plan
                    .0
                    .into_iter()
                    .map(|(agent, kind, steps)| scope.spawn(move || self.write(agent, kind, steps)))
                    .collect();
                for writer in writers {
                    writer.join().map_err(|_| "a writer panicked")??;
                }
                Ok(())
            })
        })
    }

    /// As [`perform`](Self::perform), and kills an agent in the middle of its
    /// writes; answers how long it was away.
    pub(super) fn perform_with_crash(
        &mut self,
        plan: Plan,
        killed: usize,
    ) -> Result<Duration, Failure> {
        let half = self.done[killed].load(Ordering::SeqCst) + plan.len(|agent| agent == killed) / 2;
        let (away, bytes) = thread::scope(|scope| {
            let this = &*self;
            let killer = scope.spawn(move || this.kill_at(killed, half));
            let performed = this.perform(plan);
            let crashed = killer.join().map_err(|_| Failure::from("the killer panicked"))?;
            performed?;
            crashed
        })?;
        self.earlier_bytes = bytes;
        Ok(away)
    }

    fn kill_at(
        &self,
        killed: usize,
        writes: usize,
    ) -> Result<(Duration, BTreeMap<String, u64>), Failure> {
        let reached = || {
            let is_over = self.interrupt.is_raised();
            (is_over || self.done[killed].load(Ordering::SeqCst) >= writes).then_some(())
        };
        eventually(AWAY, reached).ok_or("the agent to kill was too slow")?;
        let bytes = self.cluster.frame_bytes(killed);
        let began = Instant::now();
        let mut agent = self.cluster.agent(killed);
        agent.kill();
        // What is begun from here on cannot reach the process that is gone.
        self.runs[killed].fetch_add(1, Ordering::SeqCst);
        agent.restart()?;
        Ok((began.elapsed(), bytes))
    }

    /// Waits until all agents are equal; what is written then has seen all
    /// that was written before. A group that once did not become equal is lost,
    /// and not waited for again.
    pub(super) fn converge(&mut self) -> Result<Convergence, Failure> {
        let until = (self.not_lost.as_slice(), CONVERGENCE);
        let equal = convergence::wait(&self.cluster, &self.interrupt, until)?;
        self.not_lost.retain(|kind| equal.contains_key(kind));
        self.epoch += 1;
        Ok(equal)
    }

    pub(super) fn groups_that_differ(&self) -> Result<usize, Failure> {
        let equal = CrdtType::ALL.map(|kind| convergence::are_equal(&self.cluster, kind));
        let equal: Result<Vec<_>, _> = equal.into_iter().collect();
        Ok(equal?.into_iter().filter(|equal| !equal).count())
    }

    /// Bytes of frames that all agents sent for a group, those of the process
    /// that was killed included.
    pub(super) fn frame_bytes(&self, crdt_type: CrdtType) -> u64 {
        let group = group_name(crdt_type);
        let now = (0..AGENTS).map(|agent| self.cluster.frame_bytes(agent));
        let all = now.chain([self.earlier_bytes.clone()]);
        all.filter_map(|bytes| bytes.get(&group).copied()).sum()
    }

    fn writes_done(&self) -> usize {
        self.done.iter().map(|done| done.load(Ordering::SeqCst)).sum()
    }

    fn write(&self, agent: usize, crdt_type: CrdtType, steps: Vec<Step>) -> Result<(), Failure> {
        let mut client = self.cluster.client(agent);
        for (target, change) in steps {
            while !self.write_once(agent, crdt_type, &mut client, (&target, &change))? {}
            self.done[agent].fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Sends one write; `false` if it did not leave, because its agent is away.
    fn write_once(
        &self,
        agent: usize,
        crdt_type: CrdtType,
        client: &mut Client,
        (target, change): (&Target, &Change),
    ) -> Result<bool, Failure> {
        self.interrupt.check()?;
        let issuer = Issuer {
            agent,
            run: self.runs[agent].load(Ordering::SeqCst),
            epoch: self.epoch,
            side: u8::from(self.cut_off == Some(agent)),
        };
        let number = self.ledger(crdt_type).begin(issuer, target.clone(), change.clone());
        let answer = request::send(client, crdt_type, target, change).and_then(Response::once_open);
        let fate = match &answer {
            Ok(answer) if answer.is_success() => Fate::Acknowledged,
            Ok(_) | Err(ClientError::NotSent(_)) => Fate::Refused,
            Err(ClientError::NoAnswer(_)) => Fate::Unknown,
        };
        self.ledger(crdt_type).end(number, fate);
        match answer {
            Ok(answer) if answer.is_success() || answer.status == 404 => Ok(true),
            Ok(answer) => {
                let text = answer.text();
                Err(format!("{change:?} of {target:?}: {} {text}", answer.status).into())
            }
            Err(error) => {
                let back = || {
                    let over = self.interrupt.is_raised() || client.finds_it_serving();
                    over.then_some(())
                };
                eventually(AWAY, back).ok_or(error.to_string())?;
                Ok(fate == Fate::Unknown)
            }
        }
    }
}
