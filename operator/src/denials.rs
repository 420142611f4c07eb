//! Workloads whose pods the API server refuses.
//!
//! Whoever was to make the pods writes it down as an event `FailedCreate` on itself. From
//! each the workload is looked up, once, to know which pods it would have made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::pods::Owner;

/// A workload whose pods are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What was to make the pods.
    pub owner: Owner,
    /// Its namespace.
    pub namespace: String,
    /// What people would change, as `kubectl` names it.
    pub workload: String,
    /// The labels that its pods would have.
    pub labels: BTreeMap<String, String>,
    /// The API server's words.
    pub message: String,
}

impl Denial {
    /// The owner as `kubectl` names it.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("{}/{}", self.owner.kind.to_lowercase(), self.owner.name)
    }
}

/// The denials that stand. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Denials {
    by_owner: Arc<Mutex<BTreeMap<String, Denial>>>,
}

impl Denials {
    /// Those in a namespace whose pods would have all of these labels.
    #[must_use]
    pub fn matching(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Denial> {
        let has = |denial: &Denial| {
            labels.iter().all(|(key, value)| denial.labels.get(key) == Some(value))
        };
        let by_owner = self.by_owner.lock().unwrap_or_else(PoisonError::into_inner);
        let those = by_owner.values().filter(|denial| denial.namespace == namespace && has(denial));
        if labels.is_empty() { Vec::new() } else { those.cloned().collect() }
    }
}
