//! A pod, pruned to what the operator decides by.

use std::collections::BTreeMap;
use std::net::IpAddr;

use coppice_api::cluster::{
    AGENT_CONTAINER, DATA_MOUNT, DATA_VOLUME, INJECT_LABEL, INJECTED_LABEL,
};
use coppice_api::v1alpha1::ConditionReason;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStatus, Pod, PodSpec, PodStatus, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;

use crate::admission::{INJECTION_ANNOTATION, InjectionFacts, Obstacle, is_for_windows};

/// A pod that opted in, or has the sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// All of its labels.
    pub labels: BTreeMap<String, String>,
    /// The workload that made it.
    pub owner: Option<Owner>,
    /// The account that it runs as.
    pub service_account: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether it is being deleted.
    pub is_deleting: bool,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Whether it is for Windows, where no agent runs.
    pub is_for_windows: bool,
    /// Why it would have no sidecar however often it is made anew.
    pub passed_over: Option<PassedOver>,
    /// The names of the volumes that it declares.
    pub volumes: Vec<String>,
    /// The sidecar; absent: it was not injected.
    pub agent: Option<AgentContainer>,
}

/// Why a pod was passed over by the injection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// In a word: one of [`Obstacle::REASONS`].
    pub reason: ConditionReason,
    /// In a sentence, with what to do.
    pub message: String,
}

/// Who made a pod: its controller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// Its name, in the pod's namespace.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers run yet.
    #[default]
    Pending,
    /// It runs.
    Running,
    /// It ended, well or not.
    Finished,
    /// Its node does not answer.
    Unknown,
}

/// The sidecar in a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentContainer {
    /// Its image, as it was injected.
    pub image: String,
    /// Whether its start-up probe was passed, and it runs.
    pub started: bool,
    /// Why it waits, if it does.
    pub waiting: Option<Waiting>,
    /// The last line that it wrote before it failed last, if it did.
    pub last_words: Option<String>,
    /// Where it keeps its data.
    pub volume: Option<DataVolume>,
    /// From how many bytes on it refuses local writes.
    pub data_limit: Option<u64>,
}

/// Why a container waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The kubelet's word, such as `ImagePullBackOff`.
    pub reason: String,
    /// Its sentence.
    pub message: String,
}

/// Where an agent keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataVolume {
    /// An `emptyDir`.
    EmptyDir,
    /// A claim made for the pod.
    EphemeralClaim,
    /// Another volume, which the pod declares by this name.
    PodVolume(String),
}

impl SeenPod {
    /// What is kept of a pod.
    #[must_use]
    pub fn of(pod: Pod) -> Self {
        let Pod { metadata, spec, status } = pod;
        let spec = spec.unwrap_or_default();
        let status = status.unwrap_or_default();
        Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            created: metadata.creation_timestamp.map(|time| time.0),
            labels: metadata.labels.unwrap_or_default(),
            owner: Owner::among(metadata.owner_references.unwrap_or_default()),
            service_account: spec.service_account_name.clone().unwrap_or_default(),
            phase: Phase::of(status.phase.as_deref()),
            is_deleting: metadata.deletion_timestamp.is_some(),
            ips: ips(&status),
            is_for_windows: is_for_windows(&spec),
            passed_over: PassedOver::of(metadata.annotations.as_ref(), &spec),
            agent: AgentContainer::of(&spec, &status),
            volumes: spec
                .volumes
                .unwrap_or_default()
                .into_iter()
                .map(|volume| volume.name)
                .collect(),
        }
    }

    /// Whether it counts: it neither ended nor is about to, and an agent can run there.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.is_deleting && self.phase != Phase::Finished && !self.is_for_windows
    }

    /// Whether it has the sidecar. The label alone is not enough, since anyone may write it.
    #[must_use]
    pub fn is_injected(&self) -> bool {
        self.agent.is_some() && self.labels.get(INJECTED_LABEL).is_some_and(|value| value == "true")
    }

    /// Whether it opted in by its own label.
    #[must_use]
    pub fn opted_in(&self) -> bool {
        self.labels.get(INJECT_LABEL).is_some_and(|value| value == "true")
    }

    /// Whether its agent has started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.is_injected() && self.agent.as_ref().is_some_and(|agent| agent.started)
    }

    /// Whether it carries all of these labels, which are not empty.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        !labels.is_empty() && labels.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

impl PassedOver {
    /// As the webhook wrote it down; of a pod that it was not asked about, what can be seen.
    fn of(annotations: Option<&BTreeMap<String, String>>, spec: &PodSpec) -> Option<Self> {
        let annotation = annotations.and_then(|all| all.get(INJECTION_ANNOTATION));
        let facts = annotation.and_then(|annotation| InjectionFacts::read(annotation));
        let written = facts.and_then(|facts| {
            let name = facts.skipped?;
            // Anyone may write an annotation.
            let reason = Obstacle::REASONS.into_iter().find(|reason| reason.name() == name)?;
            let message = facts.message.unwrap_or_else(|| reason.meaning().to_owned());
            Some(Self { reason, message })
        });
        let seen = || spec.host_network.unwrap_or(false).then(|| Obstacle::HostNetwork.into());
        written.or_else(seen)
    }
}

impl From<Obstacle> for PassedOver {
    fn from(obstacle: Obstacle) -> Self {
        Self { reason: obstacle.reason(), message: obstacle.to_string() }
    }
}

impl Owner {
    /// The controller among a pod's owners.
    fn among(references: Vec<OwnerReference>) -> Option<Self> {
        let controller = |reference: &OwnerReference| reference.controller == Some(true);
        references.into_iter().find(controller).map(|reference| Self {
            api_version: reference.api_version,
            kind: reference.kind,
            name: reference.name,
            uid: reference.uid,
        })
    }
}

impl Phase {
    fn of(phase: Option<&str>) -> Self {
        match phase {
            Some("Running") => Self::Running,
            Some("Succeeded" | "Failed") => Self::Finished,
            Some("Unknown") => Self::Unknown,
            Some(_) | None => Self::Pending,
        }
    }
}

impl AgentContainer {
    fn of(spec: &PodSpec, status: &PodStatus) -> Option<Self> {
        let is_agent = |container: &&Container| container.name == AGENT_CONTAINER;
        let container = spec.init_containers.as_ref()?.iter().find(is_agent)?;
        let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
        let status = statuses.iter().find(|status| status.name == AGENT_CONTAINER);
        Some(Self {
            image: container.image.clone().unwrap_or_default(),
            started: status.is_some_and(is_started),
            waiting: status.and_then(Waiting::of),
            last_words: status.and_then(last_words),
            volume: DataVolume::of(container, spec.volumes.as_deref().unwrap_or_default()),
            data_limit: data_limit(container),
        })
    }
}

impl Waiting {
    fn of(status: &ContainerStatus) -> Option<Self> {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        Some(Self {
            reason: waiting.reason.clone().unwrap_or_default(),
            message: waiting.message.clone().unwrap_or_default(),
        })
    }
}

impl DataVolume {
    fn of(agent: &Container, volumes: &[Volume]) -> Option<Self> {
        let mounts = agent.volume_mounts.as_deref().unwrap_or_default();
        let mount = mounts.iter().find(|mount| mount.mount_path == DATA_MOUNT)?;
        let volume = volumes.iter().find(|volume| volume.name == mount.name)?;
        // Whatever has another name, the pod declared it.
        let is_ours = volume.name == DATA_VOLUME;
        Some(if is_ours && volume.empty_dir.is_some() {
            Self::EmptyDir
        } else if is_ours && volume.ephemeral.is_some() {
            Self::EphemeralClaim
        } else {
            Self::PodVolume(volume.name.clone())
        })
    }
}

fn is_started(status: &ContainerStatus) -> bool {
    let runs = |state: &ContainerState| state.running.is_some();
    status.started == Some(true) && status.state.as_ref().is_some_and(runs)
}

/// The sidecar is injected so that the kubelet keeps the end of what it wrote.
fn last_words(status: &ContainerStatus) -> Option<String> {
    let ended = |state: &Option<ContainerState>| state.as_ref()?.terminated.clone();
    let ended = ended(&status.state).or_else(|| ended(&status.last_state))?;
    let lines = ended.message.filter(|_| ended.exit_code != 0)?;
    let last = lines.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(last.trim().to_owned())
}

fn data_limit(agent: &Container) -> Option<u64> {
    let env = agent.env.as_deref().unwrap_or_default();
    env.iter().find(|variable| variable.name == "COPPICE_DATA_LIMIT")?.value.as_ref()?.parse().ok()
}

fn ips(status: &PodStatus) -> Vec<IpAddr> {
    let ips = status.pod_ips.as_deref().unwrap_or_default();
    ips.iter().filter_map(|ip| ip.ip.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "web-1", "namespace": "shop", "uid": "u1",
                "labels": {"app": "web", INJECTED_LABEL: "true"},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r1", "controller": true}
                ],
                "annotations": {"large": "text"},
            },
            "spec": {
                "serviceAccountName": "shop",
                "containers": [{"name": "app"}],
                "initContainers": [{
                    "name": AGENT_CONTAINER, "image": "agent:1",
                    "env": [{"name": "COPPICE_DATA_LIMIT", "value": "800"}],
                    "volumeMounts": [{"name": "coppice-data", "mountPath": DATA_MOUNT}],
                }],
                "volumes": [{"name": "coppice-data", "emptyDir": {}}],
            },
            "status": {
                "phase": "Running",
                "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}],
                "initContainerStatuses": [{
                    "name": AGENT_CONTAINER, "image": "agent:1", "imageID": "", "ready": true,
                    "restartCount": 0, "started": true, "state": {"running": {}},
                }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_member_is_seen_with_its_agent() {
        let seen = SeenPod::of(pod());
        assert!(seen.is_live() && seen.is_injected() && seen.is_started());
        assert!(seen.matches(&[("app".to_owned(), "web".to_owned())].into()));
        assert!(!seen.matches(&BTreeMap::new()), "no labels select nothing");
        assert_eq!(seen.ips.len(), 2);
        assert_eq!(seen.owner.unwrap().kind, "ReplicaSet");
        let agent = seen.agent.unwrap();
        assert_eq!(agent.volume, Some(DataVolume::EmptyDir));
        assert_eq!(agent.data_limit, Some(800));
    }

    #[test]
    fn a_volume_of_the_pods_own_is_told_apart() {
        for name in ["data", "coppice-store"] {
            let mut pod = pod();
            let spec = pod.spec.as_mut().unwrap();
            spec.volumes.as_mut().unwrap()[0].name = name.to_owned();
            spec.init_containers.as_mut().unwrap()[0].volume_mounts.as_mut().unwrap()[0].name =
                name.to_owned();
            let volume = SeenPod::of(pod).agent.unwrap().volume;
            assert_eq!(volume, Some(DataVolume::PodVolume(name.to_owned())));
        }
    }

    #[test]
    fn why_a_pod_was_passed_over_is_kept() {
        let with = |annotation: &str, host_network: bool| {
            let mut pod = pod();
            let annotation = (INJECTION_ANNOTATION.to_owned(), annotation.to_owned());
            pod.metadata.annotations = Some([annotation].into());
            pod.spec.as_mut().unwrap().host_network = Some(host_network);
            SeenPod::of(pod).passed_over
        };
        let why = |reason, message: &str| Some(PassedOver { reason, message: message.to_owned() });
        let port = r#"{"version":"1","skipped":"PortTaken","message":"port 4438 of app"}"#;
        assert_eq!(with(port, false), why(ConditionReason::PortTaken, "port 4438 of app"));
        assert_eq!(with(port, true), why(ConditionReason::PortTaken, "port 4438 of app"));
        let wordless = with(r#"{"skipped":"NameTaken"}"#, false);
        assert_eq!(wordless, why(ConditionReason::NameTaken, ConditionReason::NameTaken.meaning()));
        for other in [r#"{"version":"1"}"#, r#"{"skipped":"AllInjected"}"#, "not JSON", ""] {
            assert_eq!(with(other, false), None, "{other}");
            assert_eq!(with(other, true).unwrap().reason, ConditionReason::HostNetwork, "{other}");
        }
    }

    #[test]
    fn a_pod_for_windows_does_not_count() {
        for placed in [
            json!({"os": {"name": "windows"}}),
            json!({"nodeSelector": {"kubernetes.io/os": "windows"}}),
        ] {
            let mut object = serde_json::to_value(pod()).unwrap();
            object["spec"].as_object_mut().unwrap().extend(placed.as_object().unwrap().clone());
            assert!(!SeenPod::of(serde_json::from_value(object).unwrap()).is_live(), "{placed}");
        }
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_seen() {
        let mut pod = pod();
        let statuses = pod.status.as_mut().unwrap().init_container_statuses.as_mut().unwrap();
        statuses[0].started = Some(false);
        statuses[0].state = serde_json::from_value(
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}),
        )
        .unwrap();
        let seen = SeenPod::of(pod);
        assert!(!seen.is_started());
        assert_eq!(seen.agent.unwrap().waiting.unwrap().reason, "ImagePullBackOff");
    }

    #[test]
    fn the_last_words_of_an_agent_that_failed_are_kept() {
        let mut pod = pod();
        let statuses = pod.status.as_mut().unwrap().init_container_statuses.as_mut().unwrap();
        let ended = |code: i32, message: &str| {
            let ended = json!({"exitCode": code, "message": message});
            Some(serde_json::from_value(json!({"terminated": ended})).unwrap())
        };
        statuses[0].last_state = ended(1, "{\"level\":\"INFO\"}\ncoppice-agent: no\n\n");
        let words = |pod: &Pod| SeenPod::of(pod.clone()).agent.unwrap().last_words;
        assert_eq!(words(&pod).as_deref(), Some("coppice-agent: no"));
        let statuses = pod.status.as_mut().unwrap().init_container_statuses.as_mut().unwrap();
        statuses[0].state = ended(1, "coppice-agent: newer");
        assert_eq!(words(&pod).as_deref(), Some("coppice-agent: newer"));
        let statuses = pod.status.as_mut().unwrap().init_container_statuses.as_mut().unwrap();
        statuses[0].state = ended(0, "stopped");
        assert_eq!(words(&pod), None, "it ended well");
    }

    #[test]
    fn the_label_alone_makes_no_member() {
        let mut pod = pod();
        pod.spec.as_mut().unwrap().init_containers = None;
        assert!(!SeenPod::of(pod).is_injected());
    }
}
