//! What a group's status is computed from: everything that was seen, nothing that needs
//! to be asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use coppice_api::v1alpha1::{ReplicationGroup, VolumeKind, VolumeSpec};

use super::validate::Rejection;
use crate::denials::Denial;
use crate::groups::SeenGroup;
use crate::pods::{DataVolume, SeenPod};
use crate::reports::GroupView;

/// How many pods a message names.
const NAMED: usize = 5;

/// Everything that was seen of one group.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The group.
    pub seen: Arc<SeenGroup>,
    /// The operator's own namespace, for messages.
    pub operator_namespace: String,
    /// Why nothing was written, if nothing was.
    pub rejection: Option<Rejection>,
    /// Whether its agents can know of it as it is now, and of this operator.
    pub publication: Publication,
    /// The live pods that it selects and that opted in.
    pub pods: Vec<Arc<SeenPod>>,
    /// If there are none: pods that it selects and that did not.
    pub bystanders: Vec<Bystander>,
    /// Workloads of its pods that the API server refuses pods of.
    pub denials: Vec<Denial>,
    /// What its agents said.
    pub view: Option<GroupView>,
    /// Injected pods that run since before the group was made, and were not asked about it.
    pub untold: Vec<String>,
    /// Whether the group was made a moment ago, so that its pods may be about to come.
    pub is_new: bool,
    /// The older groups that select one of its pods, the oldest first.
    pub older: Vec<Arc<ReplicationGroup>>,
}

/// A pod that a group selects and that did not opt in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bystander {
    /// Its name.
    pub name: String,
    /// What to label, as `kubectl` names it.
    pub workload: String,
}

/// Whether agents can know of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publication {
    /// The namespace's `ConfigMap` holds it as it is.
    Current,
    /// It is about to.
    Pending,
    /// The operator does not know yet where itself is, or by whom it is verified.
    OperatorUnknown,
    /// There is a `ConfigMap` of that name, which the operator did not make.
    NameTaken,
    /// There is a `RoleBinding` of that name, which the operator did not make.
    RightsTaken,
    /// The API server refuses what all groups of the namespace share: its words.
    Refused(String),
}

impl Facts {
    /// The namespace, for messages.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.seen.metadata().namespace.as_deref().unwrap_or_default()
    }

    /// The group as it was read; none if it could not be.
    #[must_use]
    pub fn group(&self) -> Option<&ReplicationGroup> {
        match &*self.seen {
            SeenGroup::Read(group) => Some(group),
            SeenGroup::Malformed { .. } => None,
        }
    }

    /// Its selector as `kubectl -l` takes it.
    #[must_use]
    pub fn selector(&self) -> String {
        let labels = self.group().map(|group| &group.spec.selector.match_labels);
        let pairs = labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(",")
    }

    /// The pods with the sidecar.
    pub fn injected(&self) -> impl Iterator<Item = &Arc<SeenPod>> {
        self.pods.iter().filter(|pod| pod.is_injected())
    }

    /// The pods without.
    pub fn uninjected(&self) -> impl Iterator<Item = &Arc<SeenPod>> {
        self.pods.iter().filter(|pod| !pod.is_injected())
    }

    /// The started members that do not serve the group yet, as far as is known.
    #[must_use]
    pub fn unserved(&self) -> BTreeSet<&str> {
        let said = self.view.iter().flat_map(|view| &view.unserved).map(String::as_str);
        let started =
            |name: &&str| self.injected().any(|pod| pod.name == **name && pod.is_started());
        said.chain(self.untold.iter().map(String::as_str)).filter(started).collect()
    }

    /// How many of the injected have started, of how many.
    #[must_use]
    pub fn members(&self) -> (usize, usize) {
        let started = self.injected().filter(|pod| pod.is_started()).count();
        (started, self.injected().count())
    }
}

/// A few names, and how many more there are.
#[must_use]
pub fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What to change so that a pod is made anew otherwise, as `kubectl` names it.
#[must_use]
pub fn workload(pod: &SeenPod) -> String {
    let Some(owner) = &pod.owner else { return format!("pod/{}", pod.name) };
    let hash = pod.labels.get("pod-template-hash");
    let deployment =
        hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    match (owner.kind.as_str(), deployment) {
        ("ReplicaSet", Some(deployment)) => format!("deployment/{deployment}"),
        (kind, _) => format!("{}/{}", kind.to_lowercase(), owner.name),
    }
}

/// The workloads of pods, each once.
#[must_use]
pub fn workloads<'a>(pods: impl IntoIterator<Item = &'a Arc<SeenPod>>) -> Vec<String> {
    let names: std::collections::BTreeSet<String> =
        pods.into_iter().map(|pod| workload(pod)).collect();
    names.into_iter().collect()
}

/// The command that has pods made anew, which can be run as it is: `kubectl` restarts
/// deployments and the like, and of others the pods are deleted.
#[must_use]
pub fn remake<'a>(
    pods: impl IntoIterator<Item = &'a Arc<SeenPod>> + Clone,
    namespace: &str,
) -> String {
    let mut workloads = workloads(pods.clone());
    let is_restarted = |name: &String| {
        ["deployment/", "statefulset/", "daemonset/"].iter().any(|kind| name.starts_with(kind))
    };
    workloads.retain(is_restarted);
    let (verb, mut names) = if workloads.is_empty() {
        let names = pods.into_iter().map(|pod| pod.name.clone()).collect();
        ("delete pod", names)
    } else {
        ("rollout restart", workloads)
    };
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let command = format!("kubectl {verb} {} -n {namespace}", names.join(" "));
    if more == 0 { command } else { format!("{command} (and {more} more)") }
}

/// Whether a pod's data is where a group wants it.
#[must_use]
pub fn is_where_wanted(volume: &DataVolume, wanted: &VolumeSpec) -> bool {
    match (volume, wanted.volume) {
        (DataVolume::EmptyDir, VolumeKind::EmptyDir)
        | (DataVolume::EphemeralClaim, VolumeKind::EphemeralClaim) => true,
        (DataVolume::PodVolume(name), VolumeKind::PodVolume) => {
            Some(name) == wanted.volume_name.as_ref()
        }
        _ => false,
    }
}

/// Whether two groups want a pod's data in different places.
#[must_use]
pub fn differ(one: &VolumeSpec, other: &VolumeSpec) -> bool {
    let place = |spec: &VolumeSpec| match spec.volume {
        VolumeKind::EmptyDir => (spec.volume, None),
        VolumeKind::EphemeralClaim => (spec.volume, spec.storage_class_name.clone()),
        VolumeKind::PodVolume => (spec.volume, spec.volume_name.clone()),
    };
    place(one) != place(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::Owner;

    #[test]
    fn few_names_are_shown() {
        assert_eq!(some(["a", "b"]), "a, b");
        assert_eq!(some(["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
    }

    #[test]
    fn a_command_that_makes_pods_anew_can_be_run() {
        let pod = |name: &str, owner: Option<(&str, &str)>| {
            let owner = owner.map(|(kind, name)| Owner {
                api_version: "apps/v1".into(),
                kind: kind.into(),
                name: name.into(),
                uid: "u".into(),
            });
            Arc::new(SeenPod { name: name.into(), owner, ..SeenPod::default() })
        };
        let (a, b) = (Some(("StatefulSet", "a")), Some(("DaemonSet", "b")));
        let pods = [pod("a-0", a), pod("b-x", b), pod("alone", None)];
        let command = "kubectl rollout restart daemonset/b statefulset/a -n shop";
        assert_eq!(remake(&pods, "shop"), command);
        let bare = [pod("c-x", Some(("ReplicaSet", "c"))), pod("alone", None)];
        assert_eq!(remake(&bare, "shop"), "kubectl delete pod c-x alone -n shop");
        let many: Vec<_> = (0..7).map(|at| pod(&format!("p{at}"), None)).collect();
        let command = "kubectl delete pod p0 p1 p2 p3 p4 -n shop (and 2 more)";
        assert_eq!(remake(&many, "shop"), command);
    }

    #[test]
    fn a_deployments_pod_is_mended_by_its_deployment() {
        let owner = |kind: &str, name: &str| Owner {
            api_version: "apps/v1".into(),
            kind: kind.into(),
            name: name.into(),
            uid: "u".into(),
        };
        let mut pod = SeenPod { name: "web-5d-x".into(), ..SeenPod::default() };
        assert_eq!(workload(&pod), "pod/web-5d-x");
        pod.owner = Some(owner("ReplicaSet", "web-5d"));
        assert_eq!(workload(&pod), "replicaset/web-5d", "a ReplicaSet by itself");
        pod.labels.insert("pod-template-hash".into(), "5d".into());
        assert_eq!(workload(&pod), "deployment/web");
        pod.owner = Some(owner("StatefulSet", "db"));
        assert_eq!(workload(&pod), "statefulset/db");
    }
}
