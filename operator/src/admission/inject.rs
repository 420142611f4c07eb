//! A pod, the groups of its namespace, and what is done to it: pure.
//!
//! Run on its own result it does nothing. Run on a result that another webhook has
//! changed since, it adds what is missing now: the variable in containers that came
//! later, say. It takes nothing away and moves nothing.

use coppice_api::cluster::{
    AGENT_CONTAINER, APP_PORT, INJECT_LABEL, INJECTED_LABEL, OPERATIONS_PORT, PEERS_PORT,
};
use coppice_api::v1alpha1::{ReplicationGroup, VolumeKind};
use json_patch::Patch;
use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use serde_json::{Value, json};

use super::draft::Draft;
pub use super::draft::Malformed;
use super::facts::{INJECTION_ANNOTATION, InjectionFacts};
use super::obstacle::Obstacle;
use super::plan::{Notice, NoticeReason, Plan};
use super::sidecar::{self, UNPRIVILEGED, URL_VARIABLE};
use super::{volumes, windows};

const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
const EVICTION_ANNOTATION: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
const LABELS: [&str; 2] = ["metadata", "labels"];
const ANNOTATIONS: [&str; 2] = ["metadata", "annotations"];

/// What pods get where their groups do not say.
#[derive(Clone, Debug, PartialEq)]
pub struct InjectionSettings {
    /// The agent's image.
    pub image: String,
    /// When it is pulled; none: as Kubernetes decides.
    pub image_pull_policy: Option<String>,
    /// Secrets of the pod's namespace that it is pulled with.
    pub pull_secrets: Vec<String>,
    /// What the agent asks for and may use.
    pub resources: ResourceRequirements,
    /// The operator's release.
    pub version: String,
}

/// What is done to a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Nothing.
    Untouched(Untouched),
    /// It has its agent now.
    Injected(Injected),
    /// It runs without: its namespace opted in, not the pod itself. The patch says so
    /// in an annotation.
    Skipped(Obstacle, Patch),
    /// It may not run: it asked for an agent that it cannot have.
    Denied(Obstacle),
}

/// A pod with its agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// What makes it so.
    pub patch: Patch,
    /// Whether it had one before, and something of it was missing.
    pub repaired: bool,
    /// The groups that select it, oldest first.
    pub groups: Vec<String>,
    /// What whoever made the pod should know.
    pub notices: Vec<Notice>,
}

/// Why nothing is done to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untouched {
    /// It says no.
    OptedOut,
    /// The kubelet made it, and nobody can change it.
    Mirror,
    /// The agent does not run there.
    Windows,
    /// It has all that it needs.
    Complete,
}

/// Decides about a pod that its own label or its namespace opted in.
///
/// `groups` are those of its namespace, in any order, each fit to be served.
///
/// # Errors
///
/// If the pod is not of the shape that the API server gives it.
pub fn inject(
    pod: Value,
    groups: &[&ReplicationGroup],
    settings: &InjectionSettings,
) -> Result<Outcome, Malformed> {
    let mut draft = Draft::new(pod);
    if let Some(reason) = untouchable(&draft) {
        return Ok(Outcome::Untouched(reason));
    }
    let plan = Plan::of(&selecting(&draft, groups), settings);
    let present = sidecar_place(&draft);
    if present.is_none()
        && let Some(obstacle) = obstacle(&draft, &plan)
    {
        return unfit(draft, obstacle, settings);
    }
    let mut notices = plan.notices.clone();
    match present {
        None => add_agent(&mut draft, &plan, settings, &mut notices)?,
        Some(place) => complete_agent(&mut draft, &plan, settings, place)?,
    }
    add_around(&mut draft, settings)?;
    let patch = draft.into_patch();
    if patch.0.is_empty() {
        return Ok(Outcome::Untouched(Untouched::Complete));
    }
    let repaired = present.is_some();
    Ok(Outcome::Injected(Injected { patch, repaired, groups: plan.groups, notices }))
}

fn untouchable(draft: &Draft) -> Option<Untouched> {
    if label(draft, INJECT_LABEL) == Some("false") {
        return Some(Untouched::OptedOut);
    }
    if draft.get(&[&ANNOTATIONS[..], &[MIRROR_ANNOTATION]].concat()).is_some() {
        return Some(Untouched::Mirror);
    }
    is_windows(draft).then_some(Untouched::Windows)
}

fn is_windows(draft: &Draft) -> bool {
    let field = |name| draft.get(&["spec", name]);
    let placed = json!({
        "os": field("os"), "nodeSelector": field("nodeSelector"), "affinity": field("affinity"),
    });
    // What cannot be read says nothing of Windows.
    serde_json::from_value::<PodSpec>(placed).is_ok_and(|spec| windows::is_for_windows(&spec))
}

/// The groups that select the pod, oldest first.
fn selecting<'a>(draft: &Draft, groups: &[&'a ReplicationGroup]) -> Vec<&'a ReplicationGroup> {
    let selects = |group: &&ReplicationGroup| {
        let wanted = &group.spec.selector.match_labels;
        let has = |(key, value): (&String, &String)| label(draft, key) == Some(value.as_str());
        !wanted.is_empty() && wanted.iter().all(has)
    };
    let mut selecting: Vec<&ReplicationGroup> = groups.iter().copied().filter(selects).collect();
    let age = |group: &&ReplicationGroup| {
        let created = group.metadata.creation_timestamp.as_ref().map(|created| created.0);
        (created, group.metadata.name.clone())
    };
    selecting.sort_by_key(age);
    selecting
}

/// What keeps the pod from getting an agent.
fn obstacle(draft: &Draft, plan: &Plan) -> Option<Obstacle> {
    if draft.get(&["spec", "hostNetwork"]) == Some(&Value::Bool(true)) {
        return Some(Obstacle::HostNetwork);
    }
    let taken = |what, name: &str| Obstacle::NameTaken { what, name: name.to_owned() };
    let containers = || app_containers(draft).map(|(_, container)| container);
    if containers().any(|container| container["name"] == AGENT_CONTAINER) {
        return Some(taken("container", AGENT_CONTAINER));
    }
    let own = volumes::ALL.into_iter().find(|name| declared(draft, name).is_some());
    if let Some(name) = own {
        return Some(taken("volume", name));
    }
    containers().find_map(port_taken).or_else(|| volume_obstacle(draft, plan))
}

fn port_taken(container: &Value) -> Option<Obstacle> {
    let ports = container["ports"].as_array()?;
    let port = ports.iter().find_map(|port| {
        let is_tcp = port["protocol"].as_str().is_none_or(|protocol| protocol == "TCP");
        let number = port["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok())?;
        (is_tcp && [APP_PORT, PEERS_PORT, OPERATIONS_PORT].contains(&number)).then_some(number)
    })?;
    let container = container["name"].as_str().unwrap_or_default().to_owned();
    Some(Obstacle::PortTaken { container, port })
}

fn volume_obstacle(draft: &Draft, plan: &Plan) -> Option<Obstacle> {
    if plan.volume.kind != VolumeKind::PodVolume {
        return None;
    }
    // The oldest group chose.
    let group = plan.groups.first()?.clone();
    let volume = plan.volume.volume_name.clone().unwrap_or_default();
    match declared(draft, &volume) {
        None => Some(Obstacle::VolumeNotFound { group, volume }),
        Some(declared) => volumes::read_only_kind(declared)
            .map(|source_kind| Obstacle::VolumeReadOnly { group, volume, source_kind }),
    }
}

/// A pod that cannot have an agent.
fn unfit(
    mut draft: Draft,
    obstacle: Obstacle,
    settings: &InjectionSettings,
) -> Result<Outcome, Malformed> {
    if label(&draft, INJECT_LABEL) == Some("true") {
        return Ok(Outcome::Denied(obstacle));
    }
    let facts = InjectionFacts {
        version: settings.version.clone(),
        skipped: Some(obstacle.name().to_owned()),
        message: Some(obstacle.to_string()),
        ..InjectionFacts::default()
    };
    let annotation = facts.write();
    let path = [&ANNOTATIONS[..], &[INJECTION_ANNOTATION]].concat();
    if draft.get(&path).and_then(Value::as_str) != Some(annotation.as_str()) {
        draft.set(&ANNOTATIONS, INJECTION_ANNOTATION, annotation.into())?;
    }
    Ok(Outcome::Skipped(obstacle, draft.into_patch()))
}

/// Container, volumes and facts of a pod that had none.
fn add_agent(
    draft: &mut Draft,
    plan: &Plan,
    settings: &InjectionSettings,
    notices: &mut Vec<Notice>,
) -> Result<(), Malformed> {
    let pod_volume = plan.volume.volume_name.as_deref().and_then(|name| declared(draft, name));
    notices.extend(pod_volume.and_then(|volume| data_stays_behind(draft, volume)));
    if volumes::is_claim(plan, pod_volume) {
        notices.extend(add_fs_group(draft)?);
    }
    let container = sidecar::container(plan, settings, is_root(draft));
    draft.prepend(&["spec", "initContainers"], container)?;
    for (_, volume) in volumes::volumes(plan) {
        draft.append(&["spec", "volumes"], volume)?;
    }
    let facts = InjectionFacts {
        version: settings.version.clone(),
        skipped: None,
        message: None,
        volume: Some(plan.volume.clone()),
        size: Some(plan.size),
        groups: plan.groups.clone(),
    };
    draft.set(&ANNOTATIONS, INJECTION_ANNOTATION, facts.write().into())?;
    keep_evictable(draft, &volumes::safe_to_evict(plan))
}

/// Adds what is missing of an agent that is there already.
fn complete_agent(
    draft: &mut Draft,
    plan: &Plan,
    settings: &InjectionSettings,
    place: usize,
) -> Result<(), Malformed> {
    let place = place.to_string();
    let own = ["spec", "initContainers", &place];
    let wanted = sidecar::container(plan, settings, is_root(draft));
    // An old client or webhook that does not know the field drops it, and the pod would
    // wait for ever for its first container to end.
    let policy = [&own[..], &["restartPolicy"]].concat();
    if draft.get(&policy).and_then(Value::as_str) != Some("Always") {
        draft.add(&policy, "Always".into())?;
    }
    for (list, key) in [("env", "name"), ("volumeMounts", "mountPath")] {
        let path = [&own[..], &[list]].concat();
        for item in wanted[list].as_array().into_iter().flatten() {
            if !draft.list(&path).iter().any(|present| present[key] == item[key]) {
                draft.append(&path, item.clone())?;
            }
        }
    }
    // What was decided when the pod was injected stays, even if groups changed since.
    let mounts = draft.list(&[&own[..], &["volumeMounts"]].concat()).to_vec();
    for (name, volume) in volumes::volumes(plan) {
        let is_mounted = mounts.iter().any(|mount| mount["name"] == name);
        if is_mounted && declared(draft, name).is_none() {
            draft.append(&["spec", "volumes"], volume)?;
        }
    }
    Ok(())
}

/// What belongs to an injected pod outside the agent's container.
fn add_around(draft: &mut Draft, settings: &InjectionSettings) -> Result<(), Malformed> {
    if label(draft, INJECTED_LABEL) != Some("true") {
        draft.set(&LABELS, INJECTED_LABEL, "true".into())?;
    }
    for secret in &settings.pull_secrets {
        let path = ["spec", "imagePullSecrets"];
        if !draft.list(&path).iter().any(|present| present["name"] == secret.as_str()) {
            draft.append(&path, json!({"name": secret}))?;
        }
    }
    let lacking: Vec<(&str, usize)> = app_containers(draft)
        .filter(|(_, container)| !has_variable(container, URL_VARIABLE))
        .map(|(place, _)| place)
        .collect();
    for (list, at) in lacking {
        // In front, so that the app's own variables can refer to it.
        let path = ["spec", list, &at.to_string(), "env"].map(ToOwned::to_owned);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        draft.prepend(&path, json!({"name": URL_VARIABLE, "value": sidecar::url()}))?;
    }
    Ok(())
}

/// The database is in a folder of the pod's name, and a `ReplicaSet` names its pods anew.
fn data_stays_behind(draft: &Draft, volume: &Value) -> Option<Notice> {
    let is_kept = volume.get("persistentVolumeClaim").is_some();
    if !is_kept || label(draft, "pod-template-hash").is_none() {
        return None;
    }
    Some(Notice {
        reason: NoticeReason::DataStaysBehind,
        message: format!(
            "the group keeps its data on the claim {}, in a folder of the pod's name: a Deployment names \
             its pods anew, so each starts empty, and has what its peers have; the old folders stay on \
             the claim. Use a StatefulSet, whose pods keep their names and their data",
            volume["persistentVolumeClaim"]["claimName"]
        ),
    })
}

/// Lets the agent's user write to a claim, where the pod does not care.
fn add_fs_group(draft: &mut Draft) -> Result<Option<Notice>, Malformed> {
    if draft.get(&["spec", "securityContext", "fsGroup"]).is_some() {
        return Ok(None);
    }
    let security = ["spec", "securityContext"];
    draft.set(&security, "fsGroup", UNPRIVILEGED.into())?;
    let policy = ["spec", "securityContext", "fsGroupChangePolicy"];
    draft.add_missing(&policy, "OnRootMismatch".into())?;
    Ok(Some(Notice {
        reason: NoticeReason::FsGroupAdded,
        message: format!(
            "the pod got fsGroup {UNPRIVILEGED}, so that its agent can write to its claim: the \
             pod's other claims belong to that group now too; set fsGroup yourself to have another"
        ),
    }))
}

/// Tells the cluster autoscaler that the node may go, for all that we added.
fn keep_evictable(draft: &mut Draft, ours: &[&str]) -> Result<(), Malformed> {
    let path = [&ANNOTATIONS[..], &[EVICTION_ANNOTATION]].concat();
    let present = draft.get(&path).and_then(Value::as_str).unwrap_or_default();
    let mut names: Vec<&str> =
        present.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let before = names.len();
    for name in ours {
        if !names.contains(name) {
            names.push(name);
        }
    }
    if names.len() == before {
        return Ok(());
    }
    let names = names.join(",");
    draft.set(&ANNOTATIONS, EVICTION_ANNOTATION, names.into())
}

/// Where the agent is among the init containers.
fn sidecar_place(draft: &Draft) -> Option<usize> {
    draft.list(&["spec", "initContainers"]).iter().position(is_agent)
}

/// Whether an init container is the agent. The name alone is not enough: the pod may have
/// one of its own that is called so.
fn is_agent(container: &Value) -> bool {
    let mounts = container["volumeMounts"].as_array();
    container["name"] == AGENT_CONTAINER
        && mounts
            .is_some_and(|mounts| mounts.iter().any(|mount| mount["name"] == volumes::IDENTITY))
}

/// All containers but the agent, each with its place.
fn app_containers(draft: &Draft) -> impl Iterator<Item = ((&'static str, usize), &Value)> {
    let of = |list: &'static str| {
        draft.list(&["spec", list]).iter().enumerate().map(move |(at, one)| ((list, at), one))
    };
    let init = of("initContainers").filter(|(_, one)| !is_agent(one));
    init.chain(of("containers"))
}

fn has_variable(container: &Value, name: &str) -> bool {
    let env = container["env"].as_array();
    env.is_some_and(|env| env.iter().any(|variable| variable["name"] == name))
}

fn declared<'a>(draft: &'a Draft, name: &str) -> Option<&'a Value> {
    draft.list(&["spec", "volumes"]).iter().find(|volume| volume["name"] == name)
}

fn is_root(draft: &Draft) -> bool {
    draft.get(&["spec", "securityContext", "runAsUser"]).and_then(Value::as_u64) == Some(0)
}

fn label<'a>(draft: &'a Draft, key: &str) -> Option<&'a str> {
    draft.get(&[&LABELS[..], &[key]].concat()).and_then(Value::as_str)
}

// === impl Untouched ===

impl Untouched {
    /// A stable name, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OptedOut => "OptedOut",
            Self::Mirror => "MirrorPod",
            Self::Windows => "Windows",
            Self::Complete => "Complete",
        }
    }
}

#[cfg(test)]
mod tests;
