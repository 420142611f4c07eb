//! The agent's container.

use coppice_api::cluster::{
    AGENT_CONTAINER, APP_PORT, CLUSTER_DIR, DATA_MOUNT, GROUPS_DIR, IDENTITY_DIR, OPERATIONS_PORT,
    PEERS_PORT,
};
use coppice_api::v1alpha1::VolumeKind;
use serde_json::{Value, json};

use super::inject::InjectionSettings;
use super::plan::Plan;
use super::volumes::{API, DATA, GROUPS, IDENTITY, OPERATOR_TOKEN, POD};

/// The user, and the group of claims, where the pod names none: the image's user too.
pub(super) const UNPRIVILEGED: u32 = 65_532;
/// The variable by which an app finds its agent.
pub(super) const URL_VARIABLE: &str = "COPPICE_URL";

/// Where Kubernetes mounts an account's token.
const API_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The value of [`URL_VARIABLE`].
pub(super) fn url() -> String {
    format!("http://127.0.0.1:{APP_PORT}")
}

/// The container; `is_root` if the pod says that its containers run as root.
pub(super) fn container(plan: &Plan, settings: &InjectionSettings, is_root: bool) -> Value {
    let mut container = json!({
        "name": AGENT_CONTAINER,
        "image": plan.image,
        // A sidecar in the words of Kubernetes: it starts before the app, ends after it,
        // and does not keep a Job from completing.
        "restartPolicy": "Always",
        "args": ["--cluster", CLUSTER_DIR],
        "env": env(plan),
        "ports": [
            {"name": "coppice-peers", "containerPort": PEERS_PORT, "protocol": "TCP"},
            {"name": "coppice-ops", "containerPort": OPERATIONS_PORT, "protocol": "TCP"},
        ],
        "resources": plan.resources,
        "volumeMounts": mounts(plan),
        "startupProbe": {
            "httpGet": {"path": "/startupz", "port": OPERATIONS_PORT},
            "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 120,
        },
        // Slow to judge: a restart costs more than a busy node's late answer. There is no
        // readiness probe, because a sidecar's readiness is the pod's.
        "livenessProbe": {
            "httpGet": {"path": "/livez", "port": OPERATIONS_PORT},
            "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
        },
        "securityContext": security(is_root),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    container
}

fn env(plan: &Plan) -> Value {
    let field = |name: &str, path: &str| {
        json!({
            "name": name,
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}},
        })
    };
    // Above four fifths local writes are refused.
    let limit = plan.size.get() / 5 * 4;
    json!([
        field("COPPICE_POD_NAME", "metadata.name"),
        field("COPPICE_POD_NAMESPACE", "metadata.namespace"),
        field("COPPICE_POD_UID", "metadata.uid"),
        field("COPPICE_POD_IPS", "status.podIPs"),
        {"name": "COPPICE_DATA_LIMIT", "value": limit.to_string()},
        {"name": "COPPICE_LOG_LEVEL", "value": plan.log_level.name()},
        {"name": "COPPICE_LOG_FORMAT", "value": "json"},
    ])
}

fn mounts(plan: &Plan) -> Value {
    let data = match (plan.volume.kind, &plan.volume.volume_name) {
        (VolumeKind::PodVolume, Some(name)) => name.as_str(),
        _ => DATA,
    };
    json!([
        {"name": data, "mountPath": DATA_MOUNT},
        {"name": IDENTITY, "mountPath": IDENTITY_DIR},
        {"name": GROUPS, "mountPath": format!("{CLUSTER_DIR}/{GROUPS_DIR}"), "readOnly": true},
        {"name": POD, "mountPath": format!("{CLUSTER_DIR}/pod"), "readOnly": true},
        {"name": OPERATOR_TOKEN, "mountPath": format!("{CLUSTER_DIR}/operator"), "readOnly": true},
        {"name": API, "mountPath": API_MOUNT, "readOnly": true},
    ])
}

/// All that the standard `restricted` asks of a container, so that no namespace needs an
/// exception. Which user it is, is left to the pod and to the image, except where the
/// pod says root.
fn security(is_root: bool) -> Value {
    let mut security = json!({
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if is_root {
        security["runAsUser"] = UNPRIVILEGED.into();
        security["runAsGroup"] = UNPRIVILEGED.into();
    }
    security
}
