//! Names that both sides must spell alike.

use uuid::Uuid;

/// Opts a pod, or a namespace's pods, in (`true`) or a pod out (`false`).
pub const INJECT_LABEL: &str = "coppice.dev/inject";
/// On a pod that has the sidecar: `true`.
pub const INJECTED_LABEL: &str = "coppice.dev/injected";
/// On a group's peer `Service`, and so on its `EndpointSlice`s: the group's name.
pub const GROUP_LABEL: &str = "coppice.dev/group";
/// The sidecar's name in a pod.
pub const AGENT_CONTAINER: &str = "coppice-agent";
/// The volume that a pod gets for its data, unless it declares one itself.
pub const DATA_VOLUME: &str = "coppice-data";
/// Every volume that may come with the sidecar: names that no pod has for its own.
pub const SIDECAR_VOLUMES: [&str; 6] = [
    DATA_VOLUME,
    "coppice-groups",
    "coppice-pod",
    "coppice-operator-token",
    "coppice-identity",
    "coppice-api",
];
/// Where the app's API listens, on loopback.
pub const APP_PORT: u16 = 4437;
/// Where peers are accepted.
pub const PEERS_PORT: u16 = 4438;
/// Where metrics and probes are.
pub const OPERATIONS_PORT: u16 = 4439;

/// The one `ConfigMap` per namespace that tells agents their groups.
pub const GROUPS_CONFIG_MAP: &str = "coppice-groups";
/// Its key that holds a [`PublishedOperator`](super::PublishedOperator).
pub const OPERATOR_KEY: &str = "operator.json";
/// Its key with the authorities that the operator's own port is verified by, as PEM.
pub const SERVING_AUTHORITIES_KEY: &str = "serving-authorities.pem";
/// Its key with the authorities that peers are verified by, as PEM: the one that signs
/// now first. A certificate of another one of them is as good until it ends.
pub const PEERS_AUTHORITIES_KEY: &str = "peers-authorities.pem";

/// In the agent's container: what the operator and Kubernetes mount.
pub const CLUSTER_DIR: &str = "/etc/coppice";
/// Below [`CLUSTER_DIR`]: the mounted [`GROUPS_CONFIG_MAP`].
pub const GROUPS_DIR: &str = "groups";
/// Below [`CLUSTER_DIR`]: the pod's labels, by the downward API.
pub const LABELS_FILE: &str = "pod/labels";
/// Below [`CLUSTER_DIR`]: the pod-bound token of audience [`SIGNING_AUDIENCE`].
pub const OPERATOR_TOKEN_FILE: &str = "operator/token";
/// A volume in memory: key and certificate, for as long as the pod lives.
pub const IDENTITY_DIR: &str = "/var/run/coppice/identity";
/// The data volume; the database is in `coppice/<pod name>` below it.
pub const DATA_MOUNT: &str = "/var/lib/coppice";

/// In what an agent writes last if it does not start because another has its database.
pub const HELD_DATABASE: &str = "is held by another agent";

/// The audience of the token that agents show the operator.
pub const SIGNING_AUDIENCE: &str = "coppice-operator";
/// Where the operator signs: `POST` a [`CertificateRequest`](super::CertificateRequest).
pub const SIGNING_PATH: &str = "/v1/certificates";
/// On the peers' port, for the operator's certificate only: `GET` an
/// [`AgentReport`](super::AgentReport).
pub const REPORT_PATH: &str = "/v1/report";
/// Annotation on the operator's `Secret` of authorities: a new value of
/// `serving=<text>` or `peers=<text>` (comma-separated) starts a rotation.
pub const AUTHORITIES_ROTATION: &str = "coppice.dev/rotate";

/// Name of the headless `Service` behind which a group's members are found.
#[must_use]
pub fn peer_service(group: &str) -> String {
    format!("coppice-g-{group}")
}

/// The key of a group's [`PublishedGroup`](super::PublishedGroup).
#[must_use]
pub fn key_of_group(group: &str) -> String {
    format!("group.{group}.json")
}

/// The group whose key this is.
#[must_use]
pub fn group_of_key(key: &str) -> Option<&str> {
    key.strip_prefix("group.")?.strip_suffix(".json").filter(|name| crate::Group::is_name(name))
}

/// Where the names of a member's certificate count: a namespace of a cluster, whose id
/// is the UID of its namespace `kube-system`. Anyone who may make groups chooses their
/// ids, so an id says nothing across namespaces.
#[must_use]
pub fn realm(cluster: &str, namespace: &str) -> String {
    format!("{cluster}/{namespace}")
}

/// The cluster of a [`realm`].
#[must_use]
pub fn cluster_of(realm: &str) -> &str {
    realm.split_once('/').map_or(realm, |(cluster, _)| cluster)
}

/// What a member's certificate names: a group of its [`realm`].
#[must_use]
pub fn group_uri(realm: &str, group: Uuid) -> String {
    format!("urn:coppice:{realm}:{group}")
}

/// What a member's certificate names beside its groups: the pod that it was made for.
#[must_use]
pub fn pod_uri(realm: &str, pod: &str) -> String {
    format!("urn:coppice:{realm}:pod:{pod}")
}

/// What the operator's certificate names, by which agents of all namespaces know who may
/// read a report.
#[must_use]
pub fn operator_uri(cluster: &str) -> String {
    format!("urn:coppice:{cluster}:operator")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_key_reads_back() {
        assert_eq!(group_of_key(&key_of_group("page-views")), Some("page-views"));
        for key in [OPERATOR_KEY, PEERS_AUTHORITIES_KEY, "group..json", "group.A.json", "group.a"] {
            assert_eq!(group_of_key(key), None, "{key}");
        }
    }
}
