//! The objects that make pods: whether one lacks some, and making it try again.

use std::collections::BTreeMap;

use coppice_api::cluster::INJECT_LABEL;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{Denial, Suspect};
use crate::api_client::{CallError, call, call_opt};
use crate::names;

/// The annotation that is changed to make a workload try again: when it was.
const RETRIED_ANNOTATION: &str = "coppice.dev/retried";

/// What makes pods by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
}

/// How a workload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Pods of it are refused.
    Lacks(Denial),
    /// It has its pods, or is gone, or its pods did not opt in.
    HasAll,
}

impl Kind {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ReplicaSet" => Self::ReplicaSet,
            "StatefulSet" => Self::StatefulSet,
            "DaemonSet" => Self::DaemonSet,
            "Job" => Self::Job,
            _ => return None,
        })
    }

    fn resource(self) -> ApiResource {
        let (group, kind, plural) = match self {
            Self::ReplicaSet => ("apps", "ReplicaSet", "replicasets"),
            Self::StatefulSet => ("apps", "StatefulSet", "statefulsets"),
            Self::DaemonSet => ("apps", "DaemonSet", "daemonsets"),
            Self::Job => ("batch", "Job", "jobs"),
        };
        ApiResource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            api_version: format!("{group}/v1"),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    /// Whether it should have more pods than it has.
    fn lacks_pods(self, object: &Value) -> bool {
        let number = |path: &str, default: i64| {
            object.pointer(path).and_then(Value::as_i64).unwrap_or(default)
        };
        match self {
            Self::ReplicaSet | Self::StatefulSet => {
                number("/status/replicas", 0) < number("/spec/replicas", 1)
            }
            Self::DaemonSet => {
                number("/status/currentNumberScheduled", 0)
                    < number("/status/desiredNumberScheduled", 0)
            }
            Self::Job => {
                let ended = object.pointer("/status/conditions").and_then(Value::as_array);
                let has_ended = ended.into_iter().flatten().any(|condition| {
                    condition["status"] == "True"
                        && (condition["type"] == "Complete" || condition["type"] == "Failed")
                });
                let is_suspended = object.pointer("/spec/suspend") == Some(&json!(true));
                let left = number("/spec/completions", 1) - number("/status/succeeded", 0);
                let wanted = number("/spec/parallelism", 1).min(left);
                !has_ended && !is_suspended && number("/status/active", 0) < wanted
            }
        }
    }
}

/// Looks at a workload.
///
/// # Errors
///
/// If the API server does not answer.
pub(super) async fn look(client: &Client, suspect: &Suspect) -> Result<Standing, CallError> {
    let api = api(client, &suspect.namespace, suspect.kind);
    let Some(object) = call_opt(api.get(&suspect.owner.name)).await? else {
        return Ok(Standing::HasAll);
    };
    Ok(standing(suspect, &object))
}

fn standing(suspect: &Suspect, object: &DynamicObject) -> Standing {
    let is_it = object.metadata.uid.as_ref() == Some(&suspect.owner.uid)
        && object.metadata.deletion_timestamp.is_none();
    let labels = object.data.pointer("/spec/template/metadata/labels").cloned();
    let labels: BTreeMap<String, String> =
        labels.and_then(|labels| serde_json::from_value(labels).ok()).unwrap_or_default();
    let opted_out = labels.get(INJECT_LABEL).is_some_and(|value| value == "false");
    if !is_it || opted_out || !suspect.kind.lacks_pods(&object.data) {
        return Standing::HasAll;
    }
    let controllers = object.metadata.owner_references.iter().flatten();
    let mut deployments = controllers.filter(|owner| owner.controller == Some(true));
    let workload = deployments.next().map_or_else(
        || format!("{}/{}", suspect.owner.kind.to_lowercase(), suspect.owner.name),
        |owner| format!("{}/{}", owner.kind.to_lowercase(), owner.name),
    );
    Standing::Lacks(Denial {
        owner: suspect.owner.clone(),
        namespace: suspect.namespace.clone(),
        workload,
        labels,
        message: suspect.message.clone(),
    })
}

/// Changes an annotation, so that the workload's controller looks at it now.
///
/// # Errors
///
/// If the API server refuses it or does not answer.
pub(super) async fn touch(
    client: &Client,
    denial: &Denial,
    kind: Kind,
    now: Timestamp,
) -> Result<(), CallError> {
    let change = json!({"metadata": {
        // Not another object of this name.
        "uid": denial.owner.uid,
        "annotations": {RETRIED_ANNOTATION: now.to_string()},
    }});
    let params = PatchParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api = api(client, &denial.namespace, kind);
    call(api.patch(&denial.owner.name, &params, &Patch::Merge(&change))).await.map(drop)
}

fn api(client: &Client, namespace: &str, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind.resource())
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::pods::Owner;

    fn suspect() -> Suspect {
        let owner = Owner {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "web-5d".into(),
            uid: "u".into(),
        };
        Suspect {
            owner,
            kind: Kind::ReplicaSet,
            namespace: "shop".into(),
            message: "no".into(),
            told: Timestamp::UNIX_EPOCH,
            due: Instant::now(),
        }
    }

    fn set(uid: &str, has: u32, inject: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "web-5d", "uid": uid, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true},
            ]},
            "spec": {"replicas": 3, "template": {"metadata": {"labels": {
                "app": "web", INJECT_LABEL: inject,
            }}}},
            "status": {"replicas": has},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_workload_that_lacks_pods_is_told_by_what_people_change() {
        let Standing::Lacks(denial) = standing(&suspect(), &set("u", 1, "true")) else {
            panic!("two pods are lacking");
        };
        assert_eq!(denial.workload, "deployment/web");
        assert_eq!(denial.resource(), "replicaset/web-5d");
        assert_eq!(denial.labels["app"], "web");
    }

    #[tokio::test]
    async fn a_workload_with_its_pods_or_of_another_life_is_not_told() {
        assert_eq!(standing(&suspect(), &set("u", 3, "true")), Standing::HasAll);
        assert_eq!(standing(&suspect(), &set("another", 0, "true")), Standing::HasAll);
        assert_eq!(standing(&suspect(), &set("u", 0, "false")), Standing::HasAll, "it opted out");
    }

    #[test]
    fn jobs_lack_pods_until_they_end() {
        let lacks = |job: Value| Kind::Job.lacks_pods(&job);
        assert!(lacks(json!({"spec": {}, "status": {}})));
        assert!(!lacks(json!({"spec": {}, "status": {"active": 1}})));
        assert!(!lacks(json!({"spec": {"suspend": true}, "status": {}})));
        assert!(!lacks(
            json!({"spec": {"completions": 2, "parallelism": 2}, "status": {"succeeded": 2}})
        ));
        let ended = json!({"conditions": [{"type": "Failed", "status": "True"}]});
        assert!(!lacks(json!({"spec": {}, "status": ended})));
    }
}
