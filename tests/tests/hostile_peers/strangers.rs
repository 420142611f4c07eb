//! Peers that may not speak here: without a certificate, or with a wrong one.

use std::sync::Arc;
use std::time::Duration;

use coppice_replication::Hello;
use coppice_tests::agents::{Agent, AgentSpec};
use coppice_tests::eventually::eventually;
use coppice_tests::trio::{Failure, read, with_configuration, write_configuration};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::authority::Authority;
use crate::{State, closed, writes_seen};
use coppice_tests::rogue::Rogue;

const GROUP: &str = "hits";
const HITS: &str = "/v1/groups/hits/objects/home";
const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn peers_without_the_right_certificate_get_no_link() -> Result<(), Failure> {
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let folder = tempfile::tempdir()?;
    let agent = spec(&folder, "a", &authority.admit(folder.path(), "a")?)?.start()?;
    increment(&agent, 3)?;
    let is_settled = || (writes_seen(&agent, GROUP) == Some(1)).then_some(());
    eventually(LIMIT, is_settled).ok_or("it has seen its own write")?;
    let groups = read(&mut agent.client(), "/v1/groups").ok_or("no groups")?;
    let id = groups["items"][0]["id"].as_str().ok_or("it has an id")?;
    let (this, other) =
        (format!("urn:coppice:test:{id}"), "urn:coppice:test:6ba7b810-9dad-11d1-80b4-00c04fd430c8");

    for (who, config, reason) in [
        ("without TLS", None, "tls"),
        ("without a certificate", Some(authority.client(None)?), "tls"),
        (
            "with a certificate of another authority",
            Some(authority.client(Some(&stranger.certify("b", None)?))?),
            "tls",
        ),
        (
            "with a certificate for another group",
            Some(authority.client(Some(&authority.certify("b", Some(other))?))?),
            "unauthorised",
        ),
    ] {
        let (state, count) = (State::of(&agent, GROUP)?, closed(&agent, reason)?);
        let heard = hello_of(&agent, config);
        assert!(heard.is_err(), "a peer {who} heard {heard:?}");
        let counted = || (closed(&agent, reason).ok()? == count + 1).then_some(());
        eventually(LIMIT, counted).ok_or_else(|| format!("{who}: not counted as {reason}"))?;
        assert_eq!(State::of(&agent, GROUP)?, state, "{who}");
    }

    let admitted = authority.client(Some(&authority.certify("b", Some(&this))?))?;
    let hello = hello_of(&agent, Some(admitted))?;
    assert_eq!(&*hello.name, "a", "who is certified for this very group is spoken to");
    Ok(())
}

/// Connects as a peer, and waits until the agent says hello.
fn hello_of(agent: &Agent, config: Option<Arc<ClientConfig>>) -> Result<Hello, Failure> {
    let address = agent.spec().ports.peers;
    let mut rogue = match config {
        None => Rogue::connect(address)?,
        Some(config) => Rogue::connect_tls(address, &agent.spec().name, config)?,
    };
    rogue.open(GROUP)?.hear_hello()
}

#[test]
fn only_agents_with_a_certificate_of_the_authority_replicate() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let tls = [
        authority.admit(folder.path(), "a")?,
        authority.admit(folder.path(), "b")?,
        stranger.admit(folder.path(), "foreign")?,
        String::new(),
    ];
    let mut agents = Vec::new();
    let mut first = None;
    for (name, tls) in ["a", "b", "foreign", "plain"].into_iter().zip(tls) {
        let mut spec = spec(&folder, name, &tls)?;
        spec.peers.extend(first);
        first = first.or(Some(spec.ports.peers));
        agents.push(spec.start()?);
    }

    for (amount, agent) in [1, 10, 100, 1000].into_iter().zip(&agents) {
        increment(agent, amount)?;
    }

    let refused = || closed(&agents[0], "tls").ok().filter(|count| *count >= 2);
    eventually(LIMIT, refused).ok_or("nobody was refused")?;
    let seen: Vec<_> = agents
        .iter()
        .zip([11, 11, 100, 1000])
        .map(|(agent, expected)| {
            let mut client = agent.client();
            let shown = || read(&mut client, HITS).filter(|shown| shown["value"] == expected);
            eventually(LIMIT, shown).map(|shown| shown["value"].clone())
        })
        .collect();
    assert_eq!(seen, [11, 11, 100, 1000].map(|value| Some(Value::from(value))));
    Ok(())
}

fn spec(folder: &TempDir, name: &str, tls: &str) -> Result<AgentSpec, Failure> {
    let text = format!(
        "{tls}startupWait: 1s\ngroups:\n  - {{name: {GROUP}, crdt: {{type: PNCounter}}}}\n"
    );
    let file = write_configuration(folder.path(), &format!("{name}.yaml"), &text)?;
    Ok(AgentSpec::new(name, folder.path(), with_configuration(&file))?)
}

fn increment(agent: &Agent, amount: u64) -> Result<(), Failure> {
    let increment = json!({"op": "increment", "by": amount});
    let answer = agent.client().send_json("POST", HITS, &increment)?;
    if answer.is_success() { Ok(()) } else { Err(answer.text().into()) }
}
