//! The log, as a file.

use coppice_tests::agents::{Agent, AgentSpec, Signal, groups};
use coppice_tests::eventually::eventually;
use coppice_tests::trio::{Failure, with_configuration, write_configuration};
use serde_json::Value;

/// The log of an agent that was started and stopped with these arguments.
fn log_with(arguments: &[&str]) -> Result<String, Failure> {
    let folder = tempfile::tempdir()?;
    let mut all = groups([("hits", "PNCounter")]);
    all.extend(arguments.iter().map(Into::into));
    let spec = AgentSpec::new("a", folder.path(), all)?;
    let mut agent = spec.start()?;
    agent.signal(Signal::TERM)?;
    agent.wait(super::LIMIT).ok_or("it did not end")?;
    Ok(std::fs::read_to_string(agent.spec().log())?)
}

/// The log of an agent.
fn log_of(agent: &Agent) -> String {
    std::fs::read_to_string(agent.spec().log()).unwrap_or_default()
}

/// Waits until a line of the log has all of this.
fn says(agent: &Agent, words: &[&str]) -> Result<(), Failure> {
    let has_all = |line: &str| words.iter().all(|word| line.contains(word));
    let said = || log_of(agent).lines().any(has_all).then_some(());
    eventually(super::LIMIT, said)
        .ok_or_else(|| format!("no line with {words:?} in:\n{}", log_of(agent)).into())
}

#[test]
fn a_log_in_a_file_has_no_colours() -> Result<(), Failure> {
    let log = log_with(&[])?;
    assert!(log.contains(" INFO ") && log.contains("serving"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
    Ok(())
}

#[test]
fn an_agent_whose_log_cannot_be_written_goes_on() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let spec = AgentSpec::new("a", folder.path(), groups([("hits", "PNCounter")]))?;
    // As a log on a full volume, from its first line on.
    std::os::unix::fs::symlink("/dev/full", spec.log())?;
    let mut agent = spec.start()?;
    assert_eq!(super::increment(&agent, super::HITS)?, 200);
    assert!(agent.operations().send("POST", "/snapshots", None)?.is_success());
    agent.signal(Signal::TERM)?;
    let status = agent.wait(super::LIMIT).ok_or("it did not end")?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[test]
fn json_logs_have_an_object_a_line() -> Result<(), Failure> {
    let log = log_with(&["--log-format", "json"])?;
    let lines: Result<Vec<Value>, _> = log.lines().map(serde_json::from_str).collect();
    let lines = lines.map_err(|error| format!("{error} in:\n{log}"))?;
    for line in &lines {
        for name in ["timestamp", "level", "target", "message"] {
            assert!(line[name].is_string(), "{name} is missing: {line}");
        }
    }
    let serving = lines.iter().find(|line| line["message"] == "serving");
    assert!(serving.is_some_and(|line| line["app"].is_string()), "fields stand beside the message");
    Ok(())
}

#[test]
fn who_is_connected_and_what_is_served_alone_or_not_at_all_is_said() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let group = |name: &str| format!("  - {{name: {name}, crdt: {{type: PNCounter}}}}\n");
    let configuration = format!("startupWait: 1s\ngroups:\n{}{}", group("hits"), group("tags"));
    let file = write_configuration(folder.path(), "a.yaml", &configuration)?;
    let mut a = AgentSpec::new("a", folder.path(), with_configuration(&file))?;
    let b = AgentSpec::new("b", folder.path(), groups([("hits", "PNCounter")]))?;
    a.peers.push(b.ports.peers);
    let mut a = a.start()?;
    says(&a, &["WARN", "no peer reached in 1s: serving group(s) hits, tags alone"])?;

    let mut b = b.start()?;
    let address = b.spec().ports.peers.to_string();
    says(&a, &["INFO", "connected to peer b", "group=hits", &address])?;
    says(&b, &["INFO", "connected to peer a", "group=hits"])?;
    says(&a, &["WARN", "no peer at this address serves the group", "group=tags", &address])?;
    assert_eq!(super::increment(&a, super::HITS)?, 200);
    b.kill();
    says(&a, &["WARN", "lost peer b", "group=hits"])?;
    assert_eq!(log_of(&a).matches("connected to peer").count(), 1, "{}", log_of(&a));

    write_configuration(folder.path(), "a.yaml", &format!("groups:\n{}", group("tags")))?;
    a.restart()?;
    says(&a, &["WARN", "the data folder holds a group that is not listed", "group=\"hits\""])
}
