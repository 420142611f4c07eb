//! The volumes that a pod gets for its agent.

use coppice_api::ByteSize;
/// The data, unless the pod declares the volume itself.
pub(super) use coppice_api::cluster::DATA_VOLUME as DATA;
/// Every name that a pod must not use for a volume of its own.
pub(super) use coppice_api::cluster::SIDECAR_VOLUMES as ALL;
use coppice_api::cluster::{GROUPS_CONFIG_MAP, SIGNING_AUDIENCE};
use coppice_api::v1alpha1::VolumeKind;
use serde_json::{Value, json};

use super::plan::Plan;

/// The namespace's groups.
pub(super) const GROUPS: &str = "coppice-groups";
/// The pod's labels.
pub(super) const POD: &str = "coppice-pod";
/// The token for the operator.
pub(super) const OPERATOR_TOKEN: &str = "coppice-operator-token";
/// Key and certificate.
pub(super) const IDENTITY: &str = "coppice-identity";
/// What a client of the API server needs, for the agent only.
pub(super) const API: &str = "coppice-api";

/// How long the tokens are valid; the kubelet renews them at 80 % of it. The odd number
/// of seconds is that of every pod's own token.
const TOKEN_SECONDS: u32 = 3_607;

/// Kinds of volume that nothing can be written to.
const READ_ONLY: [(&str, &str); 6] = [
    ("configMap", "ConfigMap"),
    ("secret", "Secret"),
    ("downwardAPI", "downward API volume"),
    ("projected", "projected volume"),
    ("image", "volume of an image"),
    ("gitRepo", "git repository"),
];

/// Kinds of volume whose files belong to the pod's `fsGroup` if it has one, and to root
/// alone if not.
const CLAIMS: [&str; 3] = ["persistentVolumeClaim", "ephemeral", "csi"];

/// The volumes, by name; the data's only if the pod does not declare it itself.
pub(super) fn volumes(plan: &Plan) -> Vec<(&'static str, Value)> {
    let mut volumes = vec![
        (GROUPS, json!({"configMap": {"name": GROUPS_CONFIG_MAP, "optional": true}})),
        (POD, downward(&[("labels", "metadata.labels")])),
        (
            OPERATOR_TOKEN,
            json!({"projected": {"sources": [{"serviceAccountToken": {
                "audience": SIGNING_AUDIENCE,
                "expirationSeconds": TOKEN_SECONDS,
                "path": "token",
            }}]}}),
        ),
        (IDENTITY, json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})),
        (API, api()),
    ];
    if let Some(data) = data(plan) {
        volumes.insert(0, (DATA, data));
    }
    for (name, volume) in &mut volumes {
        if let Value::Object(fields) = volume {
            fields.insert("name".to_owned(), (*name).into());
        }
    }
    volumes
}

/// Of the volumes added here, those whose data dies with the node without harm: peers
/// hold it too. The cluster autoscaler would not remove a node for them otherwise.
pub(super) fn safe_to_evict(plan: &Plan) -> Vec<&'static str> {
    match plan.volume.kind {
        VolumeKind::EmptyDir => vec![DATA, IDENTITY],
        VolumeKind::EphemeralClaim | VolumeKind::PodVolume => vec![IDENTITY],
    }
}

/// Whether the data is on a claim, to which only root can write in a pod without an
/// `fsGroup`.
pub(super) fn is_claim(plan: &Plan, declared: Option<&Value>) -> bool {
    match plan.volume.kind {
        VolumeKind::EmptyDir => false,
        VolumeKind::EphemeralClaim => true,
        VolumeKind::PodVolume => {
            declared.is_some_and(|volume| CLAIMS.iter().any(|kind| volume.get(kind).is_some()))
        }
    }
}

/// What kind of volume it is, if nothing can be written to it: by its nature, or because
/// its source is `readOnly`, as that of a claim, of csi or of nfs may be.
pub(super) fn read_only_kind(declared: &Value) -> Option<String> {
    let by_nature = READ_ONLY.iter().find(|(key, _)| declared.get(key).is_some());
    let mut sources = declared.as_object()?.iter();
    by_nature.map(|(_, name)| (*name).to_owned()).or_else(|| {
        let (source, _) = sources.find(|(_, source)| source["readOnly"] == true)?;
        Some(format!("{source} with readOnly: true"))
    })
}

fn data(plan: &Plan) -> Option<Value> {
    match plan.volume.kind {
        // Local writes stop at 80 % of the size. Above the limit the kubelet evicts the
        // pod, and what peers send is never refused: this leaves room for it.
        VolumeKind::EmptyDir => {
            let limit = ByteSize::bytes(plan.size.get().saturating_add(plan.size.get() / 2));
            Some(json!({"emptyDir": {"sizeLimit": limit.to_string()}}))
        }
        VolumeKind::EphemeralClaim => {
            let mut spec = json!({
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": plan.size.to_string()}},
            });
            if let Some(class) = &plan.volume.storage_class_name {
                spec["storageClassName"] = class.as_str().into();
            }
            Some(json!({"ephemeral": {"volumeClaimTemplate": {"spec": spec}}}))
        }
        VolumeKind::PodVolume => None,
    }
}

/// As Kubernetes itself mounts it, but for one container: the app may have switched it
/// off for its own.
fn api() -> Value {
    json!({"projected": {"sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {
            "name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}],
        }},
        downward(&[("namespace", "metadata.namespace")]),
    ]}})
}

fn downward(items: &[(&str, &str)]) -> Value {
    let item = |(path, field): &(&str, &str)| json!({"path": path, "fieldRef": {"apiVersion": "v1", "fieldPath": field}});
    json!({"downwardAPI": {"items": items.iter().map(item).collect::<Vec<_>>()}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_a_pod_must_not_use_are_those_of_the_volumes() {
        let own = [DATA, GROUPS, POD, OPERATOR_TOKEN, IDENTITY, API];
        assert_eq!(own, ALL);
    }
}
