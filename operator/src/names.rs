//! Names of the operator's own objects, and what it is called in others.

/// The field manager of all that is applied, and the controller in events.
pub const FIELD_MANAGER: &str = "coppice-operator";
/// The lease that one replica holds.
pub const LEASE: &str = "coppice-operator";
/// The `ClusterRole` that agents are bound to.
pub const AGENT_CLUSTER_ROLE: &str = "coppice-agent";
/// The `RoleBinding` in each namespace with members.
pub const AGENT_ROLE_BINDING: &str = "coppice-agents";
/// The policy that denies pods without the sidecar; it is named in its denials.
pub const INJECTED_POLICY: &str = "coppice-injected";
/// The name of the peers' port in a group's `Service`.
pub const PEERS_PORT_NAME: &str = "peers";
/// The label by which others see who looks after an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The namespace whose UID names the cluster.
pub const CLUSTER_NAMESPACE: &str = "kube-system";
