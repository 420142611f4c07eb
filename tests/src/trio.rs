//! Three agents that dial each other, and what tests ask of all of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agents::{Agent, AgentError, AgentSpec};
use crate::client::Client;
use crate::eventually::eventually;

/// Three agents over one configuration, and the folder with their data.
#[derive(Debug)]
pub struct Trio {
    /// The agents.
    pub agents: Vec<Agent>,
    folder: TempDir,
}

/// Why tests cannot go on.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

// === impl Trio ===

impl Trio {
    /// Starts three agents with `configuration`, in YAML; names, addresses and
    /// folders are added.
    ///
    /// # Errors
    ///
    /// If one does not start.
    pub fn start(configuration: &str) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("coppice-test-").tempdir()?;
        let file = write_configuration(folder.path(), "agent.yaml", configuration)?;
        let specs: Result<Vec<_>, _> = ["a", "b", "c"]
            .map(|name| AgentSpec::new(name, folder.path(), with_configuration(&file)))
            .into_iter()
            .collect();
        let mut specs = specs?;
        let peers: Vec<_> = specs.iter().map(|spec| spec.ports.peers).collect();
        for spec in &mut specs {
            let own = spec.ports.peers;
            spec.peers = peers.iter().copied().filter(|peer| *peer != own).collect();
        }
        let agents: Result<Vec<_>, _> = specs.into_iter().map(AgentSpec::spawn).collect();
        let mut trio = Self { agents: agents?, folder };
        trio.wait_until_ready()?;
        Ok(trio)
    }

    /// Waits until each agent had its first exchange with a peer.
    ///
    /// # Errors
    ///
    /// If one does not.
    pub fn wait_until_ready(&mut self) -> Result<(), AgentError> {
        self.agents.iter_mut().try_for_each(Agent::wait_until_ready)
    }

    /// The folder with all data and logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills all three, none before the other.
    pub fn kill_all(&mut self) {
        std::thread::scope(|scope| {
            for agent in &mut self.agents {
                scope.spawn(|| agent.kill());
            }
        });
    }

    /// What all agents answer for `path` once they answer the same; nobody
    /// writes meanwhile.
    ///
    /// # Errors
    ///
    /// If they still differ after `limit`.
    pub fn agree_on(&self, path: &str, limit: Duration) -> Result<Value, Failure> {
        let mut last = Vec::new();
        let agreed = eventually(limit, || {
            last = self.agents.iter().map(|agent| read(&mut agent.client(), path)).collect();
            let first = last.first()?.clone()?;
            last.iter().all(|other| other.as_ref() == Some(&first)).then_some(first)
        });
        agreed.ok_or_else(|| format!("{path}: the agents differ: {last:?}").into())
    }
}

/// The arguments for a configuration file.
pub fn with_configuration(file: &Path) -> Vec<std::ffi::OsString> {
    vec!["--config".into(), file.into()]
}

/// Writes a configuration file.
///
/// # Errors
///
/// If the folder cannot be written.
pub fn write_configuration(folder: &Path, name: &str, text: &str) -> std::io::Result<PathBuf> {
    let file = folder.join(name);
    std::fs::write(&file, text)?;
    Ok(file)
}

/// The JSON at `path`; `None` without a success.
pub fn read(client: &mut Client, path: &str) -> Option<Value> {
    let answer = client.get(path).ok().filter(crate::client::Response::is_success)?;
    Some(answer.json())
}

/// Carries out operations on objects as one batch.
///
/// # Errors
///
/// If the agent does not answer, or refuses.
pub fn batch(client: &mut Client, group: &str, operations: &[Value]) -> Result<(), Failure> {
    let path = format!("/v1/groups/{group}/batch");
    let answer = client.send_json("POST", &path, &json!({ "operations": operations }))?;
    if answer.is_success() {
        return Ok(());
    }
    Err(format!("{path}: {} {}", answer.status, answer.text()).into())
}
