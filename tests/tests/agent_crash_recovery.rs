//! Agents that are killed lose nothing that they acknowledged, and count
//! nothing twice.

use std::thread;
use std::time::Duration;

use coppice_tests::agents::Agent;
use coppice_tests::eventually::eventually;
use coppice_tests::increments::{InFlight, Increments};
use coppice_tests::progress::say;
use coppice_tests::trio::{Failure, Trio};
use serde_json::{Value, json};

const INCREMENTS: u64 = 100_000;
const KILLS: usize = 10;
/// At least so many requests wait for an answer at each kill.
const IN_FLIGHT: u64 = 32;
const CONNECTIONS: usize = 48;
const KILLED: usize = 1;

const OBJECT: &str = "/v1/groups/hits/objects/home";
const BATCH: &str = "/v1/groups/hits/batch";

#[test]
fn kills_lose_no_acknowledged_increment_when_each_is_synced() -> Result<(), Failure> {
    survive_kills("Always")
}

#[test]
fn kills_lose_no_acknowledged_increment_when_syncs_are_timed() -> Result<(), Failure> {
    // The process dies, the system lives: what was written is there.
    survive_kills("Interval")
}

fn survive_kills(durability: &str) -> Result<(), Failure> {
    let mut trio = Trio::start(&format!(
        "groups:\n  - {{name: hits, crdt: {{type: PNCounter}}, storage: {{durability: {durability}}}}}\n"
    ))?;
    let increments = Increments::default();

    one_is_killed_again_and_again(&mut trio, &increments)?;
    in_batches(&trio, &increments)?;
    judge(&trio, &increments, "after ten kills of one")?;

    all_are_killed_at_once(&mut trio, &increments)?;
    judge(&trio, &increments, "after one kill of all")?;
    assert!(increments.attempted() >= INCREMENTS);
    Ok(())
}

fn one_is_killed_again_and_again(trio: &mut Trio, increments: &Increments) -> Result<(), Failure> {
    let (in_flight, elsewhere) = (InFlight::default(), InFlight::default());
    let addresses: Vec<_> = trio.agents.iter().map(|agent| agent.spec().ports.app).collect();
    thread::scope(|scope| {
        for (agent, address) in addresses.into_iter().enumerate() {
            let (connections, count) =
                if agent == KILLED { (CONNECTIONS, &in_flight) } else { (4, &elsewhere) };
            increments.connect(scope, (address, OBJECT), (connections, count));
        }
        let killed = (0..KILLS).try_for_each(|_| {
            let before = increments.acknowledged();
            let some = || (increments.acknowledged() > before + 300).then_some(());
            eventually(Duration::from_secs(30), some).ok_or("the agents do not answer")?;
            let waiting = in_flight.wait_for(IN_FLIGHT, Duration::from_secs(10));
            waiting.ok_or("too few requests at the same time")?;
            trio.agents[KILLED].kill();
            trio.agents[KILLED].restart()?;
            Ok::<_, Failure>(())
        });
        increments.stop();
        killed
    })
}

/// The rest, in batches at all three.
fn in_batches(trio: &Trio, increments: &Increments) -> Result<(), Failure> {
    const SIZE: u64 = 1_000;
    let operation = json!({"key": "home", "op": "increment"});
    let body: Value = json!({"operations": vec![operation; 1_000]});
    let mut clients: Vec<_> = trio.agents.iter().map(Agent::client).collect();
    for turn in (0..clients.len()).cycle() {
        if increments.attempted() >= INCREMENTS {
            return Ok(());
        }
        let answer = increments.send(&mut clients[turn], BATCH, (&body, SIZE))?;
        assert!(answer.is_success(), "{}", answer.text());
    }
    Ok(())
}

fn all_are_killed_at_once(trio: &mut Trio, increments: &Increments) -> Result<(), Failure> {
    let more = Increments::default();
    let in_flight: Vec<_> = (0..3).map(|_| InFlight::default()).collect();
    let addresses: Vec<_> = trio.agents.iter().map(|agent| agent.spec().ports.app).collect();
    thread::scope(|scope| {
        for (address, count) in addresses.into_iter().zip(&in_flight) {
            more.connect(scope, (address, OBJECT), (CONNECTIONS, count));
        }
        let answered = || (more.acknowledged() > 1_000).then_some(());
        let answered = eventually(Duration::from_secs(30), answered);
        let waiting = eventually(Duration::from_secs(10), || {
            in_flight.iter().all(|count| count.count() >= IN_FLIGHT).then_some(())
        });
        trio.kill_all();
        more.stop();
        answered.and(waiting).ok_or("too few requests at the same time")
    })?;
    for agent in &mut trio.agents {
        agent.spawn_again()?;
    }
    trio.wait_until_ready()?;
    increments.include(&more);
    Ok(())
}

fn judge(trio: &Trio, increments: &Increments, when: &str) -> Result<(), Failure> {
    let shown = trio.agree_on(OBJECT, Duration::from_secs(30))?;
    let value = shown["value"].as_u64().ok_or("the counter is no number")?;
    let (least, most) = (increments.acknowledged(), increments.attempted());
    say(&format!("{when}: {least} acknowledged <= {value} <= {most} attempted"));
    assert!(least <= value, "{when}: {least} were acknowledged, and {value} are there");
    assert!(value <= most, "{when}: {most} were attempted, and {value} are there");
    Ok(())
}
