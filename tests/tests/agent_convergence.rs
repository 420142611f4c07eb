//! Agents whose log no longer reaches back repair each other by state.

use std::time::Duration;
use std::{fs, thread};

use coppice_tests::agents::{Agent, AgentError};
use coppice_tests::client::Client;
use coppice_tests::eventually::eventually;
use coppice_tests::increments::{InFlight, Increments};
use coppice_tests::trio::{Failure, Trio, batch, read};
use serde_json::json;

/// The smallest log there is, so that little is soon too much for it.
const SMALL_LOG: &str = "
groups:
  - {name: tags, crdt: {type: ORSet}, limits: {logBytes: 1Mi}}
  - {name: hits, crdt: {type: PNCounter}, limits: {logBytes: 1Mi}}
";
const HITS: &str = "/v1/groups/hits/objects/home";
const LIMIT: Duration = Duration::from_mins(1);
/// The agent that is away.
const AWAY: usize = 2;

#[test]
fn a_replica_that_the_log_no_longer_reaches_is_repaired_by_state() -> Result<(), Failure> {
    let mut trio = Trio::start(SMALL_LOG)?;
    fill(&trio, 0, "early")?;
    trio.agree_on("/v1/groups/tags/objects/early-0?size=true", LIMIT)?;

    trio.agents[AWAY].kill();
    remove_while_away(&trio)?;
    overflow_the_log(&trio)?;

    while_writes_run(&mut trio, Agent::restart)?;
    judge(&trio)
}

#[test]
fn an_empty_replica_is_repaired_by_state() -> Result<(), Failure> {
    let mut trio = Trio::start(SMALL_LOG)?;
    fill(&trio, 0, "early")?;
    trio.agree_on("/v1/groups/tags/objects/early-0?size=true", LIMIT)?;

    trio.agents[AWAY].kill();
    fs::remove_dir_all(trio.agents[AWAY].spec().data())?;
    remove_while_away(&trio)?;
    overflow_the_log(&trio)?;

    while_writes_run(&mut trio, Agent::restart)?;
    judge(&trio)
}

/// Ten objects of 100 elements.
fn fill(trio: &Trio, agent: usize, name: &str) -> Result<(), Failure> {
    let mut client = trio.agents[agent].client();
    for object in 0..10 {
        let add = |number: usize| json!({"key": format!("{name}-{object}"), "op": "add", "element": format!("e{number}")});
        batch(&mut client, "tags", &(0..100).map(add).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Removes of all kinds: an element each, all elements, the object.
fn remove_while_away(trio: &Trio) -> Result<(), Failure> {
    let remove = |object: usize| {
        let key = format!("early-{object}");
        match object {
            0..4 => json!({"key": key, "op": "remove", "element": "e7"}),
            4..7 => json!({"key": key, "op": "clear"}),
            _ => json!({"key": key, "op": "delete"}),
        }
    };
    let removes: Vec<_> = (0..10).map(remove).collect();
    batch(&mut trio.agents[0].client(), "tags", &removes)
}

/// Writes a few times what the log may hold, and waits until it was trimmed.
fn overflow_the_log(trio: &Trio) -> Result<(), Failure> {
    for agent in [0, 1] {
        let mut client = trio.agents[agent].client();
        for part in 0..8 {
            let add = |number: usize| {
                let element = format!("{agent}-{part}-{number}-{}", "x".repeat(900));
                json!({"key": format!("bulk-{agent}-{part}"), "op": "add", "element": element})
            };
            batch(&mut client, "tags", &(0..500).map(add).collect::<Vec<_>>())?;
        }
    }
    let mut client = trio.agents[0].client();
    let is_small = || {
        let groups = read(&mut client, "/v1/groups")?;
        let tags = groups["items"].as_array()?.iter().find(|group| group["name"] == "tags")?;
        (tags["logBytes"].as_u64()? <= 2 << 20).then_some(())
    };
    eventually(LIMIT, is_small).ok_or_else(|| "the log was not trimmed".into())
}

/// Does `act` to the agent that is away, while all others and then it write.
fn while_writes_run(
    trio: &mut Trio,
    act: impl FnOnce(&mut Agent) -> Result<(), AgentError>,
) -> Result<(), Failure> {
    let (increments, waiting) = (Increments::default(), InFlight::default());
    let addresses: Vec<_> = trio.agents.iter().map(|agent| agent.spec().ports.app).collect();
    let churned = trio.agents[0].client();
    thread::scope(|scope| {
        for address in addresses {
            increments.connect(scope, (address, HITS), (4, &waiting));
        }
        let churning = scope.spawn(|| churn(churned, &increments));
        let acted = act(&mut trio.agents[AWAY]).map_err(Failure::from);
        let back = acted.and_then(|()| {
            let mut client = trio.agents[AWAY].client();
            let path = "/v1/groups/tags/objects/bulk-0-7?size=true";
            let repaired = || read(&mut client, path).filter(|shown| shown["size"] == 500);
            eventually(LIMIT, repaired).ok_or_else(|| "it was not repaired".into())
        });
        increments.stop();
        churning.join().map_err(|_| "the churn panicked")??;
        back
    })?;
    let hits = trio.agree_on(HITS, LIMIT)?;
    assert_eq!(hits["value"].as_u64(), Some(increments.acknowledged()), "nobody was killed");
    assert_eq!(increments.attempted(), increments.acknowledged());
    Ok(())
}

/// Adds elements to a set that is being repaired elsewhere, and takes out each
/// but the last.
fn churn(mut client: Client, increments: &Increments) -> Result<(), Failure> {
    for turn in 0_u64.. {
        let key = "early-0";
        let add = json!({"key": key, "op": "add", "element": format!("new-{turn}")});
        let last = format!("new-{}", turn.wrapping_sub(1));
        let remove = json!({"key": key, "op": "remove", "element": last});
        batch(&mut client, "tags", &[add, remove])?;
        if increments.is_stopped() {
            break;
        }
    }
    Ok(())
}

fn judge(trio: &Trio) -> Result<(), Failure> {
    let listing = trio.agree_on("/v1/groups/tags/objects?limit=1000", LIMIT)?;
    assert_eq!(listing["items"].as_array().map(Vec::len), Some(7 + 16));
    for object in 0..7 {
        let path = format!("/v1/groups/tags/objects/early-{object}");
        let size = trio.agree_on(&format!("{path}?size=true"), LIMIT)?;
        let expected = match object {
            0 => 99 + 1,
            1..4 => 99,
            _ => 0,
        };
        assert_eq!(size["size"], expected, "early-{object}");
        let element = trio.agree_on(&format!("{path}?element=%22e7%22"), LIMIT)?;
        assert_eq!(element["present"], false, "its removal must not be lost");
    }
    for (agent, part) in (0..2).flat_map(|agent| (0..8).map(move |part| (agent, part))) {
        let path = format!("/v1/groups/tags/objects/bulk-{agent}-{part}?size=true");
        assert_eq!(trio.agree_on(&path, LIMIT)?["size"], 500);
    }
    let mut operations = trio.agents[AWAY].operations();
    let repaired = "coppice_repairs_total{group=\"tags\",kind=\"completed\"} ";
    // The last part may still be under way when all that is looked at is equal.
    let by_state = eventually(LIMIT, || {
        let metrics = operations.get("/metrics").ok()?.text();
        let count = metrics.lines().find_map(|line| line.strip_prefix(repaired))?;
        (count != "0").then_some(())
    });
    by_state.ok_or_else(|| "the log alone cannot have brought it up to date".into())
}
