//! Large removals over HTTP, between two real agents.

use std::time::Duration;

use coppice_tests::agents::{AgentSpec, groups};
use coppice_tests::client::Client;
use coppice_tests::eventually::eventually;
use coppice_tests::trio::Failure;
use serde_json::{Value, json};

const OBJECT: &str = "/v1/groups/profiles/objects/all";
const BATCH: &str = "/v1/groups/profiles/batch";
const LIMIT: Duration = Duration::from_mins(2);

fn counter(field: usize, by: u64) -> Value {
    let operation = json!({"op": "increment", "by": by});
    let field = format!("{field:05}");
    json!({"key": "all", "op": "update", "field": field, "type": "PNCounter", "operation": operation})
}

/// Waits until `path` answers what `accepts`.
fn wait_for(client: &mut Client, path: &str, accepts: impl Fn(&Value) -> bool) -> Option<Value> {
    eventually(LIMIT, || {
        let answer = client.get(path).ok()?.json();
        accepts(&answer).then_some(answer)
    })
}

#[test]
fn a_map_of_many_counters_and_a_large_set_is_cleared() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let types = || groups([("profiles", "ORMap")]);
    let mut a = AgentSpec::new("a", folder.path(), types())?.start()?;
    let mut spec = AgentSpec::new("b", folder.path(), types())?;
    spec.peers.push(a.spec().ports.peers);
    let mut b = spec.start()?;
    a.wait_until_ready()?;
    b.wait_until_ready()?;
    let (mut at_a, mut at_b) = (a.client(), b.client());

    for first in (0..10_500).step_by(500) {
        let operations: Vec<Value> = (first..first + 500).map(|field| counter(field, 2)).collect();
        let answer = at_a.send_json("POST", BATCH, &json!({"operations": operations}))?;
        assert!(answer.is_success(), "{}", answer.text());
    }
    for first in (0..5_000).step_by(1_000) {
        let elements: Vec<usize> = (first..first + 1_000).collect();
        let add = json!({"op": "add", "elements": elements});
        let update = json!({"op": "update", "field": "tags", "type": "ORSet", "operation": add});
        assert!(at_a.send_json("POST", OBJECT, &update)?.is_success());
    }
    let size = format!("{OBJECT}?size=true");
    wait_for(&mut at_b, &size, |answer| answer["size"] == 10_501).ok_or("b has not all of it")?;

    let batch = json!({"operations": [{"key": "all", "op": "clear"}, counter(1, 1)]});
    let refused = at_a.send_json("POST", BATCH, &batch)?;
    assert_eq!(refused.json()["type"], "urn:coppice:problem:limit-reached");
    assert_eq!(refused.json()["index"], 0);
    assert!(refused.text().contains("send it alone"), "{}", refused.text());
    assert_eq!(at_a.get(&size)?.json()["size"], 10_501, "a refused batch changes nothing");

    let cleared = at_a.send_json("POST", OBJECT, &json!({"op": "clear"}))?;
    assert_eq!(cleared.json()["result"], json!({"changed": true, "size": 0}));
    let left = at_a.get(&size)?.json();
    assert_eq!(left["size"], 0, "it is answered after the last step");
    assert_eq!(at_a.get(OBJECT)?.json()["value"], json!({}));
    let there = wait_for(&mut at_b, &size, |answer| answer["size"] == 0).ok_or("b kept some")?;
    assert_eq!(there["etag"], left["etag"], "etags do not wait for a sweep");

    let again = json!({"op": "update", "field": "00007", "type": "PNCounter",
        "operation": {"op": "increment", "by": 4}});
    assert!(at_b.send_json("POST", OBJECT, &again)?.is_success());
    let value = wait_for(&mut at_a, OBJECT, |answer| answer["value"] != json!({}));
    assert_eq!(value.ok_or("b's write did not come")?["value"], json!({"00007": 4}));
    Ok(())
}
