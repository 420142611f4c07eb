//! `make demo`: three real agents, a crash, a cut, and a verdict per type.
//!
//! The agents are processes on loopback with their data in a temporary folder.
//! Between their peer ports stand proxies, so the cut is the network's and no
//! switch of an agent. Every write goes into a [ledger](crate::ledger), which
//! says afterwards what each object must be.

mod cluster;
mod conflicts;
mod convergence;
mod random_writes;
mod request;
mod scene;
mod stay;
mod verdict;

use std::error::Error;
use std::time::Duration;

use tokio::time::Instant;

use crate::interrupt::Interrupt;
use crate::progress::{during, say};
use cluster::Cluster;
use scene::{Plan, Scene};
use verdict::Report;

pub use stay::stay;

/// What ends a demo early.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The agent that is killed and the one that is cut off.
const KILLED: usize = 1;
const CUT_OFF: usize = 2;
/// Random writes of each agent, per type, in each of two acts.
const WRITES: usize = 200;
/// The seed of all random choices.
const SEED: u64 = 0x00c0_991c_e000;

/// Runs the demo; whether everything was as it must be.
///
/// `sabotage` replaces one agent by a program that drops one record.
///
/// # Errors
///
/// If an agent does not start, answers what it must not, or on interruption.
/// Nothing is left behind, in any case.
pub fn run(sabotage: bool, interrupt: &Interrupt) -> Result<bool, Failure> {
    let started = Instant::now();
    let folder = tempfile::Builder::new().prefix("coppice-demo-").tempdir()?;
    say("Three agents on loopback, data in a temporary folder, proxies between their peer ports");
    if sabotage {
        say(
            "DEMO_SABOTAGE=1: one agent loses one record of an ORSet, and the verdict must be WRONG",
        );
    }
    let cluster = during(|| "starting".into(), || Cluster::start(folder.path(), sabotage))?;
    let mut scene = Scene::new(cluster, interrupt.clone());
    let mut report = Report::default();

    together(&mut scene, &mut report)?;
    crash(&mut scene, &mut report)?;
    cut(&mut scene, &mut report)?;

    let all_well = report.conclude(&scene)?;
    say(&format!("\nTook {:.1} s", started.elapsed().as_secs_f64()));
    Ok(all_well)
}

/// All three write at the same time; the objects of the later conflicts too.
fn together(scene: &mut Scene, report: &mut Report) -> Result<(), Failure> {
    say("\n1  All three agents write at the same time");
    scene.perform(Plan::each_agent(|agent, crdt_type| {
        let mut steps = random_writes::steps(crdt_type, agent, WRITES, SEED);
        if agent == 0 {
            steps.extend(conflicts::seeds(crdt_type));
        }
        steps
    }))?;
    report.converged("writes", scene.converge()?);
    Ok(())
}

/// One agent is killed while all write, and restarted on its data.
fn crash(scene: &mut Scene, report: &mut Report) -> Result<(), Failure> {
    let name = scene.name(KILLED);
    say(&format!("\n2  All write; {name} is killed with SIGKILL in the middle and restarted"));
    let plan = Plan::each_agent(|agent, crdt_type| {
        random_writes::steps(crdt_type, agent, WRITES, SEED + 1)
    });
    let down = scene.perform_with_crash(plan, KILLED)?;
    say(&format!("    {name} was back after {} ms", down.as_millis()));
    report.converged("crash", scene.converge()?);
    Ok(())
}

/// One agent is cut off; both sides change the same things; it is healed.
fn cut(scene: &mut Scene, report: &mut Report) -> Result<(), Failure> {
    let name = scene.name(CUT_OFF);
    say(&format!("\n3  The proxies cut {name} off, and both sides change the same things"));
    scene.cut_off(CUT_OFF);
    report.cut_epoch = scene.epoch();
    scene.perform(Plan::each_agent(|agent, crdt_type| match agent {
        0 => conflicts::steps(crdt_type).map(|(near, _)| near).collect(),
        CUT_OFF => conflicts::steps(crdt_type).map(|(_, far)| far).collect(),
        _ => random_writes::steps(crdt_type, agent, WRITES / 4, SEED + 2),
    }))?;
    let apart = scene.groups_that_differ()?;
    say(&format!("    {apart} of 7 groups differ between the sides; now the proxies heal"));
    report.held = apart > 0;
    scene.heal();
    report.converged("cut", scene.converge()?);
    Ok(())
}

/// How long all agents may take to become equal.
const CONVERGENCE: Duration = Duration::from_secs(20);
