//! From the custom resource to what agents read.

use super::ReplicationGroup;
use crate::cluster::{CONTRACT_VERSION, PublishedGroup};

/// The group, as its agents are told of it; none for an object that the API server
/// has never stored, since that has no identity.
///
/// Values are taken as they are: [`ReplicationGroup::problems`] says what no agent
/// should be told.
#[must_use]
pub fn publish(group: &ReplicationGroup) -> Option<PublishedGroup> {
    let spec = &group.spec;
    Some(PublishedGroup {
        version: CONTRACT_VERSION,
        name: group.metadata.name.clone()?,
        id: group.effective_id()?,
        match_labels: spec.selector.match_labels.clone(),
        crdt: spec.crdt,
        sync: spec.sync,
        snapshot: spec.snapshot,
        storage: spec.storage.storage(),
        limits: spec.limits,
    })
}
