//! How an agent in a cluster is: for its operator, and for people.

use std::sync::Arc;

use arc_swap::ArcSwap;
use coppice_api::cluster::{AgentReport, GroupReport, RefusedGroup, StoreReport};
use tokio::sync::watch;
use uuid::Uuid;

use super::View;
use crate::disk_limit::DiskLimit;
use crate::http::json::JsonBuffer;
use crate::identity::IdentityState;
use crate::peer::Reporter;
use crate::query::Groups;
use crate::replica_task::WriterMetrics;

/// What the state is made from.
#[derive(Debug)]
pub struct ClusterState {
    /// The pod's UID.
    pub pod: String,
    /// What is served.
    pub groups: Arc<Groups>,
    /// What is published for the pod.
    pub view: watch::Receiver<Arc<View>>,
    /// How its certificate is.
    pub identity: watch::Receiver<IdentityState>,
    /// How large the store is.
    pub disk: Arc<DiskLimit>,
    /// Whether it can be written.
    pub writer: WriterMetrics,
    /// Groups that the store refused, for it holds other data by their names.
    pub refused_by_store: ArcSwap<Vec<RefusedGroup>>,
}

impl ClusterState {
    /// All published groups that are not served, for other data by their names.
    fn refused(&self) -> Vec<RefusedGroup> {
        let mut refused = self.view.borrow().refused.clone();
        for other in self.refused_by_store.load().iter() {
            if refused.iter().all(|known| known.name != other.name) {
                refused.push(other.clone());
            }
        }
        refused
    }

    /// Why nothing can be written. That the store is as large as it may be its figures
    /// say.
    fn store_problem(&self) -> Option<String> {
        let stopped = || "the store failed and is being opened again".to_owned();
        self.writer.is_stopped().then(stopped)
    }

    fn group_reports(&self) -> Vec<GroupReport> {
        let view = Arc::clone(&self.view.borrow());
        let report = |group: &Arc<crate::query::ServedGroup>| {
            let status = group.handle.status();
            let connected = status.members.iter().filter(|member| member.connected).count();
            let seen = status.vector.iter();
            GroupReport {
                name: group.name.to_string(),
                id: Uuid::from_bytes(group.id),
                orphan: view.orphans.iter().any(|name| **name == *group.name),
                bootstrapping: status.bootstrapping,
                connected: u32::try_from(connected).unwrap_or(u32::MAX),
                seen: seen.map(|(actor, n)| (actor.to_string(), n)).collect(),
            }
        };
        self.groups.all().iter().map(report).collect()
    }

    /// Writes the member `cluster` of `/status`.
    pub(crate) fn write_status(&self, json: &mut JsonBuffer) {
        let view = Arc::clone(&self.view.borrow());
        json.name("cluster");
        json.open(b'{');
        json.text("pod", &self.pod);
        if let Some(operator) = &view.operator {
            json.text("operator", &operator.address.to_string());
        }
        json.name("orphans");
        json.open(b'[');
        for name in &view.orphans {
            json.item();
            json.string(name);
        }
        json.close(b']');
        json.name("refused");
        json.open(b'[');
        for refused in self.refused() {
            json.item();
            json.open(b'{');
            json.text("name", &refused.name);
            json.text("offered", &refused.offered.to_string());
            json.text("held", &refused.held.to_string());
            json.close(b'}');
        }
        json.close(b']');
        json.name("problems");
        json.open(b'[');
        for problem in view.all_problems() {
            json.item();
            json.string(problem);
        }
        json.close(b']');
        self.write_certificate(json);
        json.close(b'}');
    }

    fn write_certificate(&self, json: &mut JsonBuffer) {
        let identity = self.identity.borrow().clone();
        json.name("certificate");
        json.open(b'{');
        if let Some(not_after) = identity.not_after {
            json.name("notAfter");
            json.number(not_after);
        }
        json.name("groups");
        json.open(b'[');
        for group in &identity.groups {
            json.item();
            json.string(&group.to_string());
        }
        json.close(b']');
        if let Some(problem) = &identity.problem {
            json.text("problem", problem);
        }
        json.close(b'}');
    }
}

impl Reporter for ClusterState {
    fn report(&self, trusted: &[String]) -> Vec<u8> {
        let report = AgentReport {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            pod: self.pod.clone(),
            authorities: trusted.to_vec(),
            store: StoreReport {
                bytes: self.disk.bytes(),
                limit_bytes: self.disk.limit(),
                problem: self.store_problem(),
            },
            groups: self.group_reports(),
            refused: self.refused(),
            unused: self.view.borrow().unused.clone(),
        };
        // A type of ours, whose keys are all text.
        serde_json::to_vec(&report).unwrap_or_default()
    }
}
