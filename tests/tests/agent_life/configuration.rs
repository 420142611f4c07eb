//! Edits of the configuration that a running agent follows.

use std::fs;
use std::path::PathBuf;

use coppice_tests::agents::{Agent, AgentSpec, groups};
use coppice_tests::eventually::eventually;
use coppice_tests::trio::{Failure, with_configuration, write_configuration};
use serde_json::{Value, json};

use super::{HITS, LIMIT, increment, metrics_of, value, wait_for};

/// An agent whose file is edited.
struct Edited {
    agent: Agent,
    file: PathBuf,
}

impl Edited {
    /// Writes the groups, and waits until `result` was counted `times`.
    fn edit(&self, groups: &str, (result, times): (&str, u32)) -> Result<(), Failure> {
        fs::write(&self.file, format!("groups:\n{groups}"))?;
        let line = format!("coppice_config_reloads_total{{result=\"{result}\"}} {times}\n");
        let counted = || metrics_of(&self.agent).is_ok_and(|text| text.contains(&line));
        eventually(LIMIT, || counted().then_some(()))
            .ok_or_else(|| format!("no {line}{}", self.agent.log_tail()).into())
    }

    /// Waits until a request gets this status.
    fn answers(&self, path: &str, status: u16) -> Result<(), Failure> {
        let answer = || increment(&self.agent, path);
        let seen = eventually(LIMIT, || (answer().ok()? == status).then_some(()));
        seen.ok_or_else(|| format!("{path}: {:?}, not {status}", answer()).into())
    }
}

#[test]
fn limits_intervals_and_groups_follow_the_file() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let hits = "  - {name: hits, crdt: {type: PNCounter}, sync: {eager: false, interval: 1h}}\n";
    let file = write_configuration(folder.path(), "a.yaml", &format!("groups:\n{hits}"))?;
    let mut a = AgentSpec::new("a", folder.path(), with_configuration(&file))?;
    let b = AgentSpec::new("b", folder.path(), groups([("hits", "PNCounter")]))?;
    // On one side only: a second link would begin with what is not to be sent yet.
    a.peers.push(b.ports.peers);
    let mut agents = [a.spawn()?, b.spawn()?];
    agents.iter_mut().try_for_each(Agent::wait_until_ready)?;
    let [a, b] = agents;
    let a = Edited { agent: a, file };

    a.answers(HITS, 200)?;
    a.edit("  - {name: hits, crdt: {type: Nothing}}\n", ("refused", 1))?;
    a.answers(HITS, 200)?;
    assert_eq!(value(&b, HITS), Value::Null, "a's interval has not passed");

    let quick = "  - {name: hits, crdt: {type: PNCounter}, limits: {objects: 1}, \
                 sync: {eager: false, interval: 100ms}}\n";
    let tags = "  - {name: tags, crdt: {type: GCounter}}\n";
    a.edit(&format!("{quick}{tags}"), ("applied", 1))?;
    wait_for(&b, HITS, 2)?;
    a.answers("/v1/groups/hits/objects/second", 422)?;
    a.answers("/v1/groups/tags/objects/x", 200)?;

    a.edit(tags, ("applied", 2))?;
    let unknown = eventually(LIMIT, || {
        let answer = a.agent.client().get(HITS).ok()?;
        (answer.json()["type"] == "urn:coppice:problem:unknown-group").then_some(())
    });
    unknown.ok_or("a group that is not listed is served")?;
    let gone = eventually(LIMIT, || {
        let metrics = metrics_of(&a.agent).ok()?;
        (!metrics.contains("coppice_objects{group=\"hits\"}")).then_some(())
    });
    gone.ok_or("a group that is not served has figures")?;
    assert_eq!(value(&b, HITS), 2, "b serves it as before");
    let answer = b.client().send_json("POST", HITS, &json!({"op": "increment", "by": 5}))?;
    assert!(answer.is_success());

    a.edit(hits, ("applied", 3))?;
    wait_for(&a.agent, HITS, 7)
}

#[test]
fn what_the_store_refuses_can_be_edited_back_and_holds_up_nothing_else() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let counts = "  - {name: hits, crdt: {type: PNCounter}}\n";
    let grows = "  - {name: hits, crdt: {type: GCounter}}\n";
    let other = |of: &str| format!("  - {{name: other, crdt: {{type: {of}}}}}\n");
    let file = write_configuration(folder.path(), "a.yaml", &format!("groups:\n{counts}"))?;
    let agent = AgentSpec::new("a", folder.path(), with_configuration(&file))?.start()?;
    let a = Edited { agent, file };
    a.answers(HITS, 200)?;

    a.edit(&other("ORSet"), ("applied", 1))?;
    a.edit(grows, ("refused", 1))?;
    let log = a.agent.log_tail();
    assert!(log.contains("groups[0].crdt.type: group hits: its `crdt.type` is GCounter"), "{log}");
    a.edit(counts, ("applied", 3))?;
    a.answers(HITS, 200)?;
    assert_eq!(value(&a.agent, HITS), 2, "the group is back, and is what it was");

    a.edit(&format!("{grows}{}", other("ORSet")), ("refused", 2))?;
    a.answers("/v1/groups/other/objects/x", 422)?;
    a.answers(HITS, 200)?;
    a.edit(&format!("{counts}{}", other("GCounter")), ("applied", 5))?;
    a.answers("/v1/groups/other/objects/x", 200)?;
    assert_eq!(value(&a.agent, HITS), 3, "it was served all the time");
    Ok(())
}
