//! The log, as a file.

use coppice_tests::agents::{AgentSpec, Signal, groups};
use coppice_tests::trio::Failure;
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
