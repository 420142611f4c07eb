//! What reconcilers share: handles, and what this leader has found out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coppice_api::cluster::PublishedOperator;
use coppice_api::v1alpha1::ReplicationGroupStatus;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::children::Children;
use crate::denials::Denials;
use crate::events::Events;
use crate::groups::GroupStore;
use crate::metrics::Metrics;
use crate::namespaces::Remembered;
use crate::pods::PodStore;
use crate::reports::Reports;
use crate::scope::Scope;

/// How long a status that was written counts although the watch does not show it yet.
const UNSEEN: Duration = Duration::from_secs(10);

/// What reconcilers share.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The operator's own namespace.
    pub namespace: String,
    /// Which namespaces' pods may be members.
    pub scope: Scope,
    /// All groups.
    pub groups: GroupStore,
    /// All pods that opted in.
    pub pods: PodStore,
    /// What was made for them.
    pub children: Children,
    /// Workloads whose pods are refused.
    pub denials: Denials,
    /// What agents said.
    pub reports: Reports,
    /// The statuses that were written last.
    pub written: Arc<Written>,
    /// What agents are told of this operator and its authorities.
    pub announced: watch::Receiver<Announced>,
    /// What was told and granted in each namespace.
    pub remembered: Arc<Remembered>,
    /// What is told as events.
    pub events: Events,
    /// The figures.
    pub metrics: Metrics,
}

/// What every namespace's agents are told beside their groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Where the operator is; absent: its `Service` was not found yet.
    pub operator: Option<PublishedOperator>,
    /// By whom the operator's port is verified, as PEM.
    pub serving_pem: Option<String>,
    /// By whom peers are verified, as PEM.
    pub peers_pem: Option<String>,
}

/// An [`Announced`] of which nothing is missing.
#[derive(Clone, Copy, Debug)]
pub struct CompleteAnnouncement<'a> {
    /// Where the operator is.
    pub operator: &'a PublishedOperator,
    /// By whom the operator's port is verified, as PEM.
    pub serving_pem: &'a str,
    /// By whom peers are verified, as PEM.
    pub peers_pem: &'a str,
}

/// The statuses that were written and that the watch may not show yet.
#[derive(Debug, Default)]
pub struct Written {
    by_uid: Mutex<BTreeMap<String, (ReplicationGroupStatus, Instant)>>,
}

impl Context {
    /// The context of a new leader: what it has found out itself, it finds out anew.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self {
            children: Children::default(),
            denials: Denials::default(),
            reports: Reports::default(),
            written: Arc::default(),
            remembered: Arc::default(),
            ..self.clone()
        }
    }

    /// The time, for what people read.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl Announced {
    /// All of it, or nothing: agents need each part.
    #[must_use]
    pub fn complete(&self) -> Option<CompleteAnnouncement<'_>> {
        Some(CompleteAnnouncement {
            operator: self.operator.as_ref()?,
            serving_pem: self.serving_pem.as_deref()?,
            peers_pem: self.peers_pem.as_deref()?,
        })
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("groups", &self.groups).finish_non_exhaustive()
    }
}

impl Written {
    /// The status that was written last, while it is newer than what the watch shows.
    #[must_use]
    pub fn get(&self, uid: &str, shown: &ReplicationGroupStatus) -> Option<ReplicationGroupStatus> {
        let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        let (status, at) = by_uid.get(uid)?;
        if status == shown || at.elapsed() > UNSEEN {
            by_uid.remove(uid);
            return None;
        }
        Some(status.clone())
    }

    /// Remembers what was written just now.
    pub fn put(&self, uid: &str, status: ReplicationGroupStatus) {
        let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        by_uid.retain(|_, (_, at)| at.elapsed() <= UNSEEN);
        by_uid.insert(uid.to_owned(), (status, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_written_counts_until_it_is_seen() {
        let written = Written::default();
        let old = ReplicationGroupStatus::default();
        let new = ReplicationGroupStatus { matched_pods: 3, ..old.clone() };
        written.put("u", new.clone());
        assert_eq!(written.get("u", &old), Some(new.clone()), "the watch is behind");
        assert_eq!(written.get("u", &new), None, "it is seen");
        assert_eq!(written.get("u", &old), None, "and from then on the watch is right");
        written.put("u", new);
        tokio::time::advance(UNSEEN * 2).await;
        assert_eq!(written.get("u", &old), None, "someone else wrote meanwhile");
    }
}
