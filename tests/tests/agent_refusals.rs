//! What ends an agent's start: the message names the field and the mend, and
//! nothing is left changed.

use std::fs;
use std::time::Duration;

use coppice_tests::agents::{AgentSpec, groups, program};
use coppice_tests::client::Client;
use coppice_tests::trio::{Failure, read, with_configuration, write_configuration};
use serde_json::json;

const HITS: &str = "/v1/groups/hits/objects/home";
const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn a_port_or_folder_in_use_ends_the_start_with_the_field_and_the_mend() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let arguments = groups([("hits", "PNCounter")]);
    let running = AgentSpec::new("running", folder.path(), arguments)?.start()?;
    let other = |name: &str| {
        let arguments = running.spec().arguments.clone();
        AgentSpec::new(name, folder.path(), arguments)
    };

    let mut of_app = other("app")?;
    of_app.ports.app = running.spec().ports.app;
    let mut of_peers = other("peers")?;
    of_peers.ports.peers = running.spec().ports.peers;
    let mut of_operations = other("operations")?;
    of_operations.ports.operations = running.spec().ports.operations;
    // The later flag of two is refused, so the folder itself is shared.
    let of_data = other("data")?;
    std::os::unix::fs::symlink(running.spec().data(), of_data.data())?;

    let pid = running.pid().ok_or("it runs")?.to_string();
    for (spec, words) in [
        (of_app, ["listen.app: cannot listen on", "choose another address"]),
        (of_peers, ["listen.peers: cannot listen on", "choose another address"]),
        (of_operations, ["listen.operations: cannot listen on", "choose another address"]),
        (of_data, ["dataDir: ", pid.as_str()]),
    ] {
        ends_saying(spec, &words)?;
    }
    assert!(running.client().get("/v1/health")?.is_success(), "the first one is not disturbed");
    Ok(())
}

#[test]
fn a_data_folder_of_a_newer_release_is_refused_and_left_as_it_is() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let spec = AgentSpec::new("a", folder.path(), groups([("hits", "PNCounter")]))?;
    let mut agent = spec.clone().start()?;
    increment(&mut agent.client())?;
    agent.kill();
    let format = spec.data().join("FORMAT");
    let (ours, newer) = (fs::read_to_string(&format)?, "coppice-store 2\n");

    fs::write(&format, newer)?;
    ends_saying(spec.clone(), &["dataDir: ", "format 2", "run the release that wrote it"])?;
    assert_eq!(fs::read_to_string(&format)?, newer, "the mark is not ours to change");

    fs::write(&format, ours)?;
    let agent = spec.start()?;
    let shown = read(&mut agent.client(), HITS).ok_or("it is there")?;
    assert_eq!(shown["value"], 1, "what the refused one found is still there");
    Ok(())
}

#[test]
fn a_configuration_with_mistakes_ends_the_start_with_each_field_and_mend() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let group = |rest: &str| format!("groups: [{{name: hits, crdt: {{type: PNCounter}}{rest}}}]\n");
    for (text, words) in [
        (group(", crdts: 1"), &["groups[0]", "crdts", "expected one of"][..]),
        (format!("{}grups: []\n", group("")), &["grups", "expected one of"]),
        (group(", sync: {intervall: 1s}"), &["groups[0].sync", "intervall", "interval"]),
        (group(", storage: {durability: Sometimes}"), &["groups[0].storage.durability", "Always"]),
        (
            "groups: [{name: Hits!, crdt: {type: ORSet}}]".to_owned(),
            &["groups[0].name", "lower-case"],
        ),
    ] {
        let file = write_configuration(folder.path(), "agent.yaml", &text)?;
        let spec = AgentSpec::new("a", folder.path(), with_configuration(&file))?;
        let data = spec.data();
        let _ = fs::remove_file(spec.log());
        ends_saying(spec, words)?;
        assert!(!data.exists(), "nothing is made before the configuration is good");
    }
    Ok(())
}

#[test]
fn a_group_that_would_leave_its_data_behind_is_refused_with_the_mend() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let group = |fields: &str| -> Result<AgentSpec, Failure> {
        let text = format!("groups: [{{name: hits, {fields}}}]\n");
        let file = write_configuration(folder.path(), "agent.yaml", &text)?;
        Ok(AgentSpec::new("a", folder.path(), with_configuration(&file))?)
    };
    let id = "0c7dd8a4-3b7c-4f0a-8e7c-2d7c5b0c6a11";
    let mut agent = group("crdt: {type: PNCounter}")?.start()?;
    increment(&mut agent.client())?;
    agent.kill();

    let of_type =
        "`crdt.type` is GCounter, but the data folder holds it as a PNCounter with 1 object";
    ends_saying(
        group("crdt: {type: GCounter}")?,
        &["groups[0].crdt.type: group hits: ", of_type, "set its `crdt.type` to PNCounter"],
    )?;
    let of_id = format!("`id` is {id}, but the data folder holds it as ");
    ends_saying(
        group(&format!("id: {id}, crdt: {{type: PNCounter}}"))?,
        &["groups[0].id: group hits: ", of_id.as_str(), "leave its `id` out"],
    )?;
    let agent = group("crdt: {type: PNCounter}")?.start()?;
    let shown = read(&mut agent.client(), HITS).ok_or("it is there")?;
    assert_eq!(shown["value"], 1, "nothing was lost by asking for another group");
    Ok(())
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named_with_the_mend() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let spec = AgentSpec::new("a", folder.path(), groups([("hits", "PNCounter")]))?;
    fs::write(spec.data(), "a file")?;
    let named = format!("dataDir: {}: cannot", spec.data().display());
    ends_saying(spec.clone(), &[named.as_str()])?;
    fs::remove_file(spec.data())?;

    let mut agent = spec.clone().start()?;
    increment(&mut agent.client())?;
    agent.kill();
    let manifest = fs::read_dir(spec.data().join("db"))?
        .filter_map(|file| Some(file.ok()?.path()))
        .find(|path| path.to_string_lossy().contains("/MANIFEST"))
        .ok_or("it has one")?;
    let named = format!("dataDir: {}: the store is damaged", spec.data().display());
    let words = [named.as_str(), "move the data folder away", "snapshot restore"];
    fs::write(&manifest, "not what was written")?;
    ends_saying(spec.clone(), &words)?;
    fs::remove_file(&manifest)?;
    ends_saying(spec.clone(), &words)?;
    fs::remove_dir_all(spec.data().join("db"))?;
    ends_saying(spec.clone(), &words)?;
    fs::create_dir(spec.data().join("db"))?;
    ends_saying(spec, &["no database in ", "put its files back", "move the data folder away"])
}

#[test]
fn a_check_of_the_configuration_says_what_a_start_would() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let said = |text: &str| -> Result<(bool, String), Failure> {
        let file = write_configuration(folder.path(), "checked.yaml", text)?;
        let agent = program("coppice-agent")?;
        let output = std::process::Command::new(agent).arg("check-config").arg(file).output()?;
        Ok((output.status.success(), String::from_utf8(output.stderr)?))
    };
    for nothing in ["", "groups: []\n"] {
        let (is_good, text) = said(nothing)?;
        assert!(is_good && text.contains("warning: it lists no group"), "{text}");
    }
    let groups = "groups: [{name: hits, crdt: {type: PNCounter}}]\n";
    let (is_good, text) = said(groups)?;
    assert!(is_good && text.contains("good, 1 group(s)") && !text.contains("warning"), "{text}");

    let path = |name: &str| folder.path().join(name).display().to_string();
    let (ca, certificate, key) = (path("ca.pem"), path("agent.pem"), path("agent.key"));
    let tls = format!("{groups}tls: {{ca: {ca}, certificate: {certificate}, key: {key}}}\n");
    let (is_good, text) = said(&tls)?;
    assert!(!is_good, "{text}");
    for field in ["tls.ca: cannot read", "tls.certificate: cannot read", "tls.key: cannot read"] {
        assert!(text.contains(field), "{field} in {text}");
    }
    for file in [&ca, &certificate, &key] {
        fs::write(file, "not PEM")?;
    }
    let (is_good, text) = said(&tls)?;
    assert!(!is_good && text.contains("tls.ca: no readable certificate"), "{text}");
    Ok(())
}

/// Starts an agent that has to end by itself, with a message of these words.
fn ends_saying(spec: AgentSpec, words: &[&str]) -> Result<(), Failure> {
    let mut agent = spec.spawn()?;
    let status = agent.wait(LIMIT).ok_or("it must end")?;
    let log = agent.log_tail();
    assert_eq!(status.code(), Some(1), "{log}");
    for word in words {
        assert!(log.contains(word), "{word:?} is missing in: {log}");
    }
    Ok(())
}

fn increment(client: &mut Client) -> Result<(), Failure> {
    let answer = client.send_json("POST", HITS, &json!({"op": "increment"}))?;
    if answer.is_success() { Ok(()) } else { Err(answer.text().into()) }
}
