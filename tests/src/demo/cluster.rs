//! Three agents, and a proxy for each direction between two of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coppice_crdt::CrdtType;
use serde_json::Value;

use super::Failure;
use super::conflicts::KEPT;
use crate::agents::{Agent, AgentSpec, Ports, groups, program};
use crate::client::Client;
use crate::proxy::Proxy;

/// How many agents there are.
pub(super) const AGENTS: usize = 3;

/// Three running agents that reach each other through proxies.
#[derive(Debug)]
pub(super) struct Cluster {
    agents: Vec<Mutex<Agent>>,
    ports: Vec<Ports>,
    /// Who dials, who is dialled, and what is between them.
    proxies: Vec<(usize, usize, Proxy)>,
}

/// One agent's objects of one group: key to envelope.
pub(super) type Objects = BTreeMap<String, Value>;

/// The group of a type.
pub(super) fn group_name(crdt_type: CrdtType) -> String {
    crdt_type.name().to_lowercase()
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn start(folder: &Path, sabotage: bool) -> Result<Self, Failure> {
        let named: Vec<_> =
            CrdtType::ALL.map(|crdt_type| (group_name(crdt_type), crdt_type.name())).into();
        let arguments = groups(named.iter().map(|(name, kind)| (name.as_str(), *kind)));
        let specs: Result<Vec<_>, _> = ["a", "b", "c"]
            .map(|name| AgentSpec::new(name, folder, arguments.clone()))
            .into_iter()
            .collect();
        let mut specs = specs?;
        let ports: Vec<_> = specs.iter().map(|spec| spec.ports).collect();
        let mut proxies = Vec::new();
        for (from, spec) in specs.iter_mut().enumerate() {
            for to in (0..AGENTS).filter(|to| *to != from) {
                let proxy = Proxy::to(ports[to].peers)?;
                spec.peers.push(proxy.address());
                proxies.push((from, to, proxy));
            }
        }
        if sabotage {
            specs[0].program = program("coppice-sabotaged-agent")?;
            let named = ("COPPICE_SABOTAGED_OBJECT".into(), KEPT.into());
            specs[0].environment.push(named);
        }
        let spawned: Result<Vec<_>, _> = specs.into_iter().map(AgentSpec::spawn).collect();
        let mut agents = spawned?;
        for agent in &mut agents {
            agent.wait_until_serving()?;
            agent.wait_until_ready()?;
        }
        Ok(Self { agents: agents.into_iter().map(Mutex::new).collect(), ports, proxies })
    }

    pub(super) fn agent(&self, agent: usize) -> MutexGuard<'_, Agent> {
        self.agents[agent].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn client(&self, agent: usize) -> Client {
        Client::new(self.ports[agent].app)
    }

    pub(super) fn cut_off(&self, agent: usize) {
        self.proxies_of(agent).for_each(Proxy::cut);
    }

    pub(super) fn heal(&self, agent: usize) {
        self.proxies_of(agent).for_each(Proxy::heal);
    }

    /// Bytes that passed the proxies, HTTP/2 and heartbeats included.
    pub(super) fn proxied_bytes(&self) -> u64 {
        self.proxies.iter().map(|(_, _, proxy)| proxy.bytes()).sum()
    }

    /// All objects of a group, as an agent shows them.
    pub(super) fn objects(&self, agent: usize, crdt_type: CrdtType) -> Result<Objects, Failure> {
        let group = group_name(crdt_type);
        let path = format!("/v1/groups/{group}/objects?values=true&limit=1000");
        let answer = self.client(agent).get(&path)?;
        if !answer.is_success() {
            return Err(format!("GET {path}: {} {}", answer.status, answer.text()).into());
        }
        let mut page = answer.json();
        let items = page["items"].take();
        let items = items.as_array().cloned().unwrap_or_default();
        let keyed = items.into_iter().map(|item| {
            let key = item["key"].as_str().unwrap_or_default().to_owned();
            (key, item)
        });
        Ok(keyed.collect())
    }

    /// Bytes of frames that an agent's process sent, by group.
    pub(super) fn frame_bytes(&self, agent: usize) -> BTreeMap<String, u64> {
        let metrics = Client::new(self.ports[agent].operations).get("/metrics");
        let text = metrics.map(|answer| answer.text()).unwrap_or_default();
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("coppice_peer_bytes_sent_total{group=\"")?;
            let (group, count) = rest.split_once("\"} ")?;
            Some((group.to_owned(), count.parse().ok()?))
        });
        samples.collect()
    }

    fn proxies_of(&self, agent: usize) -> impl Iterator<Item = &Proxy> {
        let is_of = move |from: usize, to: usize| from == agent || to == agent;
        self.proxies.iter().filter(move |(from, to, _)| is_of(*from, *to)).map(|(_, _, p)| p)
    }
}
