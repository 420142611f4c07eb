//! Snapshots of real agents, from taking to restoring, with the commands that
//! a person would type.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use coppice_tests::agents::{Agent, AgentSpec, Signal, groups, program};
use coppice_tests::eventually::eventually;
use serde_json::{Value, json};

const COUNTER: &str = "/v1/groups/views/objects/home";
const CARTS: &str = "/v1/groups/carts/objects/alice";
const OBJECTS: u32 = 200;

/// Runs `coppice-agent snapshot …`.
fn snapshot(words: &[&str], data: &Path) -> Output {
    let agent = program("coppice-agent").expect("it is built");
    let mut command = Command::new(agent);
    command.arg("snapshot").args(words).arg("--data-dir").arg(data);
    command.output().expect("it starts")
}

/// What it prints, once it did what it was asked.
fn printed(words: &[&str], data: &Path) -> String {
    let output = snapshot(words, data);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Why it did not.
fn refused(words: &[&str], data: &Path) -> String {
    let output = snapshot(words, data);
    assert!(!output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn operate(agent: &Agent, path: &str, operation: &Value) {
    let answer = agent.client().send_json("POST", path, operation).expect("it answers");
    assert!(answer.is_success(), "{path}: {}", answer.text());
}

fn value(agent: &Agent, path: &str) -> Value {
    agent.client().get(path).expect("it answers").json()["value"].clone()
}

/// Stops it as a supervisor does.
fn stop(agent: &mut Agent) {
    agent.signal(Signal::TERM).expect("it runs");
    let ended = agent.wait(Duration::from_secs(30)).expect("it ends");
    assert!(ended.success(), "{}", agent.log_tail());
}

/// The names in what `list` printed.
fn names(listed: &str) -> Vec<String> {
    let lines = listed.lines().skip(1);
    lines.filter_map(|line| Some(line.split('\t').next()?.to_owned())).collect()
}

/// The value of a metric.
fn metric(agent: &Agent, name: &str) -> Option<f64> {
    let text = agent.operations().get("/metrics").ok()?.text();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn a_group_comes_back_from_an_exported_snapshot_into_an_empty_folder() {
    let folder = tempfile::tempdir().expect("there is room");
    let served = groups([("carts", "ORSet"), ("views", "PNCounter")]);
    let spec = AgentSpec::new("a", folder.path(), served).expect("it is built");
    let data = spec.data();
    let operations = spec.ports.operations.to_string();
    let asked = ["take", "--listen-operations", &operations];
    let mut agent = spec.start().expect("it starts");

    operate(&agent, COUNTER, &json!({"op": "increment", "by": 41}));
    for number in 0..OBJECTS {
        operate(&agent, CARTS, &json!({"op": "add", "elements": [format!("book {number}")]}));
    }
    let taken = printed(&asked, &data);
    assert!(taken.contains("by the running agent"), "{taken}");
    operate(&agent, COUNTER, &json!({"op": "increment", "by": 1}));
    assert!(metric(&agent, "coppice_snapshot_age_seconds").is_some_and(|age| age < 60.0));
    assert_eq!(metric(&agent, "coppice_snapshots_total{result=\"taken\"}"), Some(1.0));

    let listed = printed(&["list"], &data);
    let name = names(&listed).remove(0);
    assert!(listed.contains("(PNCounter)") && listed.contains("(ORSet)"), "{listed}");
    assert!(printed(&["verify", &name], &data).contains("is whole"));
    let exported = folder.path().join("exported");
    let exported = exported.to_str().expect("a temporary folder's name is text");
    let nowhere = folder.path().join("missing/exported");
    let nowhere = nowhere.to_str().expect("a temporary folder's name is text");
    let message = refused(&["export", &name, "--to", nowhere], &data);
    assert!(message.contains("make it first"), "{message}");
    printed(&["export", &name, "--to", exported], &data);
    assert!(refused(&["export", &name, "--to", exported], &data).contains("exists already"));
    let restore = ["restore", exported, "--group", "views=PNCounter"];
    let message = refused(&restore, &data);
    assert!(message.contains("stop that one"), "{message}");

    stop(&mut agent);
    assert_eq!(names(&printed(&["list"], &data)).len(), 2, "one on the stop");
    let message = refused(&restore, &data);
    assert!(message.contains("add --replace"), "{message}");
    fs::remove_dir_all(&data).expect("the agent is gone");
    // Alone in a new store, so that its place there is another one.
    let verified = printed(&["verify", exported], &data);
    assert!(verified.contains("objects"), "{verified}");
    printed(&restore, &data);
    let other = AgentSpec::new("a", folder.path(), groups([("views", "GCounter")]));
    let mut other = other.and_then(AgentSpec::spawn).expect("it begins to start");
    other.wait(Duration::from_mins(1)).expect("it ends: the name came with the group");
    assert!(other.log_tail().contains("holds it as"), "{}", other.log_tail());
    agent.restart().expect("it starts");
    assert_eq!(value(&agent, COUNTER), json!(41), "as when the snapshot was taken");
    assert_eq!(agent.client().get(CARTS).expect("it answers").status, 404, "not restored");
    operate(&agent, COUNTER, &json!({"op": "increment", "by": 2}));

    stop(&mut agent);
    printed(&["restore", exported, "--group", "carts=ORSet"], &data);
    let taken = printed(&["take"], &data);
    assert!(!taken.contains("running"), "{taken}");
    agent.restart().expect("it starts");
    assert_eq!(value(&agent, COUNTER), json!(43), "untouched by the other group's return");
    let carts = agent.client().get(&format!("{CARTS}?limit=1000")).expect("it answers");
    assert_eq!(carts.json()["value"].as_array().map(Vec::len), Some(OBJECTS as usize));
}

#[test]
fn snapshots_are_taken_by_policy_and_follow_its_changes() {
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("agent.yaml");
    let configure = |retain: u32| {
        let policy = format!("{{interval: 1s, retain: {retain}, onShutdown: false}}");
        let group = format!("{{name: views, crdt: {{type: PNCounter}}, snapshot: {policy}}}");
        fs::write(&file, format!("groups: [{group}]\n")).expect("there is room");
    };
    configure(2);
    let arguments = vec!["--config".into(), file.clone().into()];
    let spec = AgentSpec::new("a", folder.path(), arguments).expect("it is built");
    let data = spec.data();
    let agent = spec.start().expect("it starts");

    let numbers = || {
        operate(&agent, COUNTER, &json!({"op": "increment"}));
        let names = names(&printed(&["list"], &data));
        let numbers = names.iter().filter_map(|name| name.split('-').nth(1)?.parse::<u64>().ok());
        numbers.collect::<Vec<_>>()
    };
    eventually(Duration::from_mins(1), || {
        let found = numbers();
        (found.len() == 2 && found[1] == found[0] + 1 && found[0] >= 2).then_some(())
    })
    .expect("the two newest are kept");
    configure(1);
    eventually(Duration::from_mins(1), || (numbers().len() == 1).then_some(()))
        .expect("one is kept now");
    configure(0);
    let taken = || metric(&agent, "coppice_snapshots_total{result=\"taken\"}");
    eventually(Duration::from_secs(30), || {
        metric(&agent, "coppice_config_reloads_total{result=\"applied\"}").filter(|n| *n >= 2.0)
    })
    .expect("the change is in force");
    let before = taken();
    let another = eventually(Duration::from_secs(3), || {
        operate(&agent, COUNTER, &json!({"op": "increment"}));
        (taken() != before).then_some(())
    });
    assert!(another.is_none(), "no group wants any");
}

#[test]
fn web_pages_and_wrong_methods_take_no_snapshot() {
    let folder = tempfile::tempdir().expect("there is room");
    let spec = AgentSpec::new("a", folder.path(), groups([("views", "PNCounter")]));
    let agent = spec.and_then(AgentSpec::start).expect("it starts");
    let answer = agent.operations().get("/snapshots").expect("it answers");
    assert_eq!(answer.status, 405, "{}", answer.text());
    for (header, status) in [("host: evil.example", "421"), ("origin: http://localhost", "403")] {
        let host = if header.starts_with("host") { "" } else { "host: localhost\r\n" };
        let request = format!(
            "POST /snapshots HTTP/1.1\r\n{host}{header}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        let mut stream =
            TcpStream::connect(agent.spec().ports.operations).expect("it listens there");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{header}: {answer}");
    }
    let answer = agent.operations().send("POST", "/snapshots", None).expect("it answers");
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!(names(&printed(&["list"], &agent.spec().data())).len() == 1);
}
