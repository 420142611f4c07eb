//! Agents that are killed lose nothing that they acknowledged, and count
//! nothing twice.

use std::thread;
use std::time::Duration;

use coppice_tests::eventually::eventually;
use coppice_tests::increments::{InFlight, Increments, Load};
use coppice_tests::progress::say;
use coppice_tests::trio::{Failure, Trio};
use serde_json::{Value, json};

const INCREMENTS: u64 = 100_000;
const KILLS: u64 = 10;
/// Attempted between two kills, before the first and after the last.
const STRETCH: u64 = INCREMENTS / (KILLS + 1);
/// At least so many requests wait for an answer at each kill.
const IN_FLIGHT: u64 = 32;
const CONNECTIONS: usize = 48;
const KILLED: usize = 1;

/// Connections to each agent that send batches, and the increments of one.
const BATCHES: usize = 2;
const BATCH_SIZE: u64 = 50;

/// Patience with a machine that does much else.
const LIMIT: Duration = Duration::from_mins(2);

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
    judge(&trio, &increments, "after ten kills of one")?;

    all_are_killed_at_once(&mut trio, &increments)?;
    judge(&trio, &increments, "after one kill of all")?;
    Ok(())
}

/// Increments at all three, alone and in batches, from the first to the last of
/// them; the kills are spread evenly over them.
fn one_is_killed_again_and_again(trio: &mut Trio, increments: &Increments) -> Result<(), Failure> {
    let (alone, batched, elsewhere) =
        (InFlight::default(), InFlight::default(), InFlight::default());
    let (one, batch) = (json!({"op": "increment"}), batch_of_increments());
    let mut kills = Vec::new();
    thread::scope(|scope| {
        for (agent, running) in trio.agents.iter().enumerate() {
            let is_killed = agent == KILLED;
            let address = running.spec().ports.app;
            // Those of the others stop for a while if the killed one is long away.
            let is_paced = !is_killed;
            let one = Load { address, path: OBJECT, body: &one, count: 1, is_paced };
            let batch = Load { address, path: BATCH, body: &batch, count: BATCH_SIZE, is_paced };
            let (connections, alone, batched) = if is_killed {
                (CONNECTIONS, &alone, &batched)
            } else {
                (4, &elsewhere, &elsewhere)
            };
            increments.send_on(scope, one, (connections, alone));
            increments.send_on(scope, batch, (BATCHES, batched));
        }
        let done = (1..=KILLS).try_for_each(|kill| {
            increments.pace(kill * STRETCH + STRETCH / 2);
            let kill = wait_for_the_next(kill, increments, (&alone, &batched))?;
            trio.agents[KILLED].kill();
            kills.push(kill);
            trio.agents[KILLED].restart()?;
            Ok::<_, Failure>(())
        });
        let done = done.and_then(|()| {
            increments.pace(INCREMENTS);
            let all = || (increments.attempted() >= INCREMENTS).then_some(());
            eventually(LIMIT, all).ok_or_else(|| "the agents do not answer".into())
        });
        increments.stop();
        done
    })?;
    judge_the_kills(&kills, increments.attempted())
}

fn batch_of_increments() -> Value {
    let operation = json!({"key": "home", "op": "increment"});
    let operations: Vec<_> = (0..BATCH_SIZE).map(|_| operation.clone()).collect();
    json!({ "operations": operations })
}

/// What a kill came amid.
#[derive(Debug)]
struct Kill {
    attempted: u64,
    /// Requests to the killed agent that waited for an answer; of them batches.
    in_flight: u64,
    batches: u64,
}

/// Waits until so much is attempted, and so much in flight, that kill number
/// `kill` is due.
fn wait_for_the_next(
    kill: u64,
    increments: &Increments,
    (alone, batched): (&InFlight, &InFlight),
) -> Result<Kill, Failure> {
    let before = increments.acknowledged();
    let is_due = || increments.attempted() >= kill * STRETCH;
    let some = || (is_due() && increments.acknowledged() > before + 300).then_some(());
    eventually(LIMIT, some).ok_or("the agents do not answer")?;
    let in_flight = || {
        let batches = batched.count();
        let in_flight = alone.count() + batches;
        let kill = Kill { attempted: increments.attempted(), in_flight, batches };
        (in_flight >= IN_FLIGHT && batches > 0).then_some(kill)
    };
    eventually(Duration::from_secs(10), in_flight)
        .ok_or_else(|| "too few requests at the same time".into())
}

/// Kills after most of the work, or between two requests, show little.
fn judge_the_kills(kills: &[Kill], attempted: u64) -> Result<(), Failure> {
    let at: Vec<u64> = kills.iter().map(|kill| kill.attempted).collect();
    let least = kills.iter().map(|kill| kill.in_flight).min().ok_or("nobody was killed")?;
    let batches: u64 = kills.iter().map(|kill| kill.batches).sum();
    say(&format!(
        "killed at {at:?} of {attempted} attempted, {least} or more requests in flight, \
         over all kills {batches} batches of {BATCH_SIZE}"
    ));
    assert_eq!(kills.len() as u64, KILLS);
    assert!(attempted >= INCREMENTS, "{attempted} attempted");
    assert!(kills.iter().all(|kill| kill.in_flight >= IN_FLIGHT && kill.batches > 0), "{kills:?}");
    let ends = [&[0], &at[..], &[attempted]].concat();
    let stretches: Vec<u64> = ends.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let evenly = stretches.iter().all(|stretch| *stretch >= STRETCH / 4);
    assert!(evenly, "kills are to be spread over all increments: {stretches:?}");
    assert!(at.last() >= Some(&(attempted / 2)), "most came after the last kill: {at:?}");
    Ok(())
}

fn all_are_killed_at_once(trio: &mut Trio, increments: &Increments) -> Result<(), Failure> {
    let (more, batched) = (Increments::default(), InFlight::default());
    let batch = batch_of_increments();
    let in_flight: Vec<_> = (0..3).map(|_| InFlight::default()).collect();
    let addresses: Vec<_> = trio.agents.iter().map(|agent| agent.spec().ports.app).collect();
    thread::scope(|scope| {
        for (address, count) in addresses.into_iter().zip(&in_flight) {
            more.connect(scope, (address, OBJECT), (CONNECTIONS, count));
            let (body, count) = (&batch, BATCH_SIZE);
            let batches = Load { address, path: BATCH, body, count, is_paced: false };
            more.send_on(scope, batches, (BATCHES, &batched));
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
