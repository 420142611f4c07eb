//! An agent from its first answer to its last, as a real process sees it: opening,
//! edits of the configuration, logs, metrics, stopping.

mod configuration;
mod in_cluster;
mod logs;
mod metrics;
mod opening;
mod shutdown;

use std::time::Duration;

use coppice_tests::agents::Agent;
use coppice_tests::eventually::eventually;
use coppice_tests::trio::{Failure, read};
use serde_json::{Value, json};

/// How long something may take on a busy machine that takes no time on another.
const LIMIT: Duration = Duration::from_secs(30);

const HITS: &str = "/v1/groups/hits/objects/home";

/// Adds 1 to the counter; the status.
fn increment(agent: &Agent, path: &str) -> Result<u16, Failure> {
    Ok(agent.client().send_json("POST", path, &json!({"op": "increment"}))?.status)
}

/// The counter's value; null if it is absent.
fn value(agent: &Agent, path: &str) -> Value {
    read(&mut agent.client(), path).map_or(Value::Null, |envelope| envelope["value"].clone())
}

/// Waits until the counter has this value.
fn wait_for(agent: &Agent, path: &str, expected: u64) -> Result<(), Failure> {
    let seen = eventually(LIMIT, || (value(agent, path) == expected).then_some(()));
    seen.ok_or_else(|| format!("{path} is {}, not {expected}", value(agent, path)).into())
}

/// What the agent shows at `/metrics`.
fn metrics_of(agent: &Agent) -> Result<String, Failure> {
    Ok(agent.operations().get("/metrics")?.text())
}
