//! What is told as Kubernetes events: on groups, and on what makes pods.
//!
//! An event is told when something comes to be wrong, not while it is. What is told twice
//! within minutes becomes one event with a count.

use coppice_api::v1alpha1::ReplicationGroup;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType};
use tracing::{debug, info};

use crate::groups::SeenGroup;
use crate::metrics::Metrics;
use crate::pods::Owner;
use crate::recorder::EventRecorder;

/// Tells events. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    recorder: EventRecorder,
    metrics: Metrics,
}

impl Events {
    /// Events of this operator; `recorder` is the one of the process, so that all of the
    /// same are counted together.
    #[must_use]
    pub fn new(recorder: EventRecorder, metrics: Metrics) -> Self {
        Self { recorder, metrics }
    }

    /// Something is wrong with a group.
    pub async fn warn_group(&self, group: &SeenGroup, reason: &str, message: &str) {
        self.tell(EventType::Warning, &group_reference(group), reason, message).await;
    }

    /// Something is well with a group.
    pub async fn tell_group(&self, group: &SeenGroup, reason: &str, message: &str) {
        self.tell(EventType::Normal, &group_reference(group), reason, message).await;
    }

    /// Something is wrong with the pods that `owner` makes.
    pub async fn warn_owner(&self, namespace: &str, owner: &Owner, reason: &str, message: &str) {
        let reference = ObjectReference {
            api_version: Some(owner.api_version.clone()),
            kind: Some(owner.kind.clone()),
            name: Some(owner.name.clone()),
            namespace: Some(namespace.to_owned()),
            uid: Some(owner.uid.clone()),
            ..ObjectReference::default()
        };
        self.tell(EventType::Warning, &reference, reason, message).await;
    }

    async fn tell(&self, type_: EventType, about: &ObjectReference, reason: &str, message: &str) {
        let name = about.name.as_deref().unwrap_or_default();
        let namespace = about.namespace.as_deref().unwrap_or_default();
        info!(namespace, name, reason, "{message}");
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(message.to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        self.metrics.event(reason);
        // An event is a courtesy: the condition says the same, and stays.
        if let Err(error) = self.recorder.publish(event, about).await {
            debug!(namespace, name, reason, %error, "the event could not be written");
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

fn group_reference(group: &SeenGroup) -> ObjectReference {
    let metadata = group.metadata();
    ObjectReference {
        api_version: Some(ReplicationGroup::api_version(&()).into_owned()),
        kind: Some(ReplicationGroup::kind(&()).into_owned()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
