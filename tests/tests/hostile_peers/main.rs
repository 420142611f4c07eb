//! What a running agent does with peers that are not what they should be: the
//! link is closed and counted by reason, and nothing else happens.
//!
//! `rogue` is the peer, which sends whatever bytes a test gives it; `frames`
//! tries what it may say, `strangers` who it may be.

mod authority;
mod frames;
mod strangers;

use coppice_tests::agents::Agent;
use coppice_tests::trio::{Failure, read};
use serde_json::{Value, json};

/// How many writes of `group` an agent says it has seen: a little later than it
/// has.
fn writes_seen(agent: &Agent, group: &str) -> Option<u64> {
    let members = read(&mut agent.client(), &format!("/v1/groups/{group}/members"))?;
    members["seen"].as_object()?.values().map(Value::as_u64).sum()
}

/// What of an agent must be as it was after a peer was refused: the objects
/// with their values and etags, the vector and the totals.
#[derive(Debug, PartialEq)]
struct State(Value);

impl State {
    fn of(agent: &Agent, group: &str) -> Result<Self, Failure> {
        let mut client = agent.client();
        let mut read = |path: &str| read(&mut client, path).ok_or(format!("no answer: {path}"));
        let objects = read(&format!("/v1/groups/{group}/objects?values=true&limit=1000"))?;
        let members = read(&format!("/v1/groups/{group}/members"))?;
        let groups = read("/v1/groups")?;
        let mut groups = groups["items"].as_array().into_iter().flatten();
        let own = groups.find(|listed| listed["name"] == group).ok_or("the group is served")?;
        Ok(Self(json!({
            "objects": objects["items"],
            "seen": members["seen"],
            "totals": [own["objects"], own["entries"]],
        })))
    }
}

/// How many links an agent has closed for `reason`.
fn closed(agent: &Agent, reason: &str) -> Result<u64, Failure> {
    let metrics = agent.operations().get("/metrics")?.text();
    let name = format!("coppice_links_closed_total{{reason=\"{reason}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
    Ok(count.map(str::parse).transpose()?.unwrap_or(0))
}
