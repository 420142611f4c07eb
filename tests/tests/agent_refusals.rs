//! What an agent does not let in, and what ends its start.

use std::fs;
use std::path::Path;
use std::time::Duration;

use coppice_tests::agents::{AgentSpec, groups};
use coppice_tests::client::Client;
use coppice_tests::eventually::eventually;
use coppice_tests::trio::{Failure, read, with_configuration, write_configuration};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

const HITS: &str = "/v1/groups/hits/objects/home";
const LIMIT: Duration = Duration::from_mins(1);

/// A certificate authority of a test.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Self, Failure> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Writes the files of one agent, and the part of its configuration that
    /// names them.
    fn admit(&self, folder: &Path, name: &str) -> Result<String, Failure> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![name.to_owned()])?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let file = |kind: &str| folder.join(format!("{name}-{kind}.pem"));
        fs::write(file("key"), key.serialize_pem())?;
        fs::write(file("certificate"), certificate.pem())?;
        fs::write(file("ca"), &self.pem)?;
        let named =
            ["ca", "certificate", "key"].map(|kind| format!("{kind}: '{}'", file(kind).display()));
        Ok(format!("tls: {{{}}}\n", named.join(", ")))
    }
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
        let text = format!(
            "{tls}startupWait: 1s\ngroups:\n  - {{name: hits, crdt: {{type: PNCounter}}}}\n"
        );
        let file = write_configuration(folder.path(), &format!("{name}.yaml"), &text)?;
        let mut spec = AgentSpec::new(name, folder.path(), with_configuration(&file))?;
        spec.peers.extend(first);
        first = first.or(Some(spec.ports.peers));
        agents.push(spec.start()?);
    }

    for (amount, agent) in [1, 10, 100, 1000].into_iter().zip(&agents) {
        let increment = json!({"op": "increment", "by": amount});
        assert!(agent.client().send_json("POST", HITS, &increment)?.is_success());
    }

    let mut refusals = agents[0].operations();
    eventually(LIMIT, || (refused(&mut refusals) >= 2).then_some(()))
        .ok_or("nobody was refused")?;
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

/// How many connections an agent refused or lost before they were links.
fn refused(operations: &mut Client) -> u64 {
    let metrics = operations.get("/metrics").map(|answer| answer.text()).unwrap_or_default();
    let closed = metrics.lines().filter(|line| line.starts_with("coppice_links_closed_total{"));
    closed.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

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
        let mut agent = spec.spawn()?;
        let status = agent.wait(LIMIT).ok_or("it must end")?;
        let log = agent.log_tail();
        assert_eq!(status.code(), Some(1), "{log}");
        for word in words {
            assert!(log.contains(word), "{word:?} is missing in: {log}");
        }
    }
    assert!(running.client().get("/v1/health")?.is_success(), "the first one is not disturbed");
    Ok(())
}
