//! Three agents on loopback that are used.

use std::fs;

use coppice_tests::trio::{Failure, Trio};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;
use tempfile::TempDir;

use super::prometheus::Target;

const GROUPS: &str = "
groups:
  - {name: hits, crdt: {type: PNCounter}, sync: {interval: 1s}, snapshot: {interval: 1s, retain: 2}}
  - {name: tags, crdt: {type: ORSet}, sync: {interval: 1s}}
";

/// Agents with mutual TLS, so that their certificates end one day.
pub(crate) struct Fleet {
    trio: Trio,
    rounds: u32,
    _certificates: TempDir,
}

impl Fleet {
    /// Starts them, and waits until they know each other.
    pub(crate) fn start() -> Result<Self, Failure> {
        let certificates = tempfile::Builder::new().prefix("coppice-rules-").tempdir()?;
        let tls = certify(&certificates)?;
        let trio = Trio::start(&format!("{tls}{GROUPS}"))?;
        Ok(Self { trio, rounds: 0, _certificates: certificates })
    }

    /// Where they are scraped.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let agents = self.trio.agents.iter();
        agents
            .map(|agent| {
                let spec = agent.spec();
                json!({
                    "targets": [spec.ports.operations.to_string()],
                    "labels": {"namespace": "loopback", "pod": spec.name},
                })
            })
            .collect()
    }

    /// Some writes and reads through each.
    pub(crate) fn work(&mut self) -> Result<(), Failure> {
        self.rounds += 1;
        for agent in &self.trio.agents {
            let mut client = agent.client();
            let element = format!("{}-{}", agent.spec().name, self.rounds);
            let increment = json!({"op": "increment", "by": 1});
            client.send_json("POST", "/v1/groups/hits/objects/home", &increment)?;
            let add = json!({"op": "add", "element": element});
            client.send_json("POST", "/v1/groups/tags/objects/all", &add)?;
            client.get("/v1/groups/hits/objects/home")?;
        }
        Ok(())
    }
}

/// Writes an authority and one certificate for all three, which stands for all groups;
/// the part of the configuration that names them.
fn certify(folder: &TempDir) -> Result<String, Failure> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let own = CertificateParams::new(vec!["agent".to_owned()])?.signed_by(&key, &issuer)?;

    let mut named = Vec::new();
    for (kind, pem) in [("ca", authority), ("certificate", own.pem()), ("key", key.serialize_pem())]
    {
        let file = folder.path().join(format!("{kind}.pem"));
        fs::write(&file, pem)?;
        named.push(format!("{kind}: '{}'", file.display()));
    }
    Ok(format!("tls: {{{}}}\n", named.join(", ")))
}
