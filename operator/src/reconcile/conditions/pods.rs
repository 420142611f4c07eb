//! What is wrong with a group's pods, as Kubernetes tells it.

use std::sync::Arc;

use coppice_api::cluster::{HELD_DATABASE, INJECT_LABEL};
use coppice_api::v1alpha1::{ConditionReason, VolumeKind};

use super::super::facts::{Facts, remake, some, workload, workloads};
use super::Obstacle;
use crate::admission::Obstacle as AdmissionObstacle;
use crate::pods::{AgentContainer, Phase, SeenPod, Waiting};

/// The kubelet's words for an image that is not there.
const NO_IMAGE: [&str; 5] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
];
/// Its words for a container that ends again and again, or cannot be made.
const FAILING: [&str; 4] =
    ["CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"];
/// How a denial by the webhook for the lack of a volume begins.
const NO_VOLUME: &str = "VolumeNotFound: ";

/// No pod that the group selects opted in, or is allowed to be.
pub(super) fn none_to_inject(facts: &Facts) -> Option<Obstacle> {
    if !facts.pods.is_empty() {
        return None;
    }
    no_volume_denied(facts).or_else(|| denied(facts)).or_else(|| none_matches(facts))
}

/// The pods of a workload are refused.
pub(super) fn denied(facts: &Facts) -> Option<Obstacle> {
    let denial = facts.denials.first()?;
    let message = format!(
        "the pods of {} are refused: {}; see: kubectl describe {} -n {}",
        some(facts.denials.iter().map(|denial| denial.workload.as_str())),
        denial.message,
        denial.resource(),
        facts.namespace(),
    );
    Some(Obstacle::new(ConditionReason::AdmissionRejected, message))
}

/// The pods of a workload are refused because they lack the volume.
fn no_volume_denied(facts: &Facts) -> Option<Obstacle> {
    let denial = facts.denials.iter().find(|denial| denial.message.contains(NO_VOLUME))?;
    let message = format!(
        "{}: declare it in the volumes of the pod template: kubectl edit {} -n {}",
        denial.message.split_once(NO_VOLUME).map_or("", |(_, rest)| rest),
        denial.workload,
        facts.namespace()
    );
    Some(Obstacle::new(ConditionReason::VolumeNotFound, message))
}

/// No pod that the group selects opted in.
pub(super) fn none_matches(facts: &Facts) -> Option<Obstacle> {
    if !facts.pods.is_empty() || facts.group().is_none() {
        return None;
    }
    let (namespace, selector) = (facts.namespace(), facts.selector());
    if facts.is_new {
        // Who applies a group and its workload at once makes no mistake.
        let message = format!(
            "the group is new, and no opted-in pod of namespace {namespace} has the labels {selector} \
             yet; see: kubectl get pods -n {namespace} --show-labels"
        );
        return Some(Obstacle::new(ConditionReason::MembersStarting, message));
    }
    let Some(bystander) = facts.bystanders.first() else {
        let message = format!(
            "no pod of namespace {namespace} has the labels {selector}; see: kubectl get pods -n \
             {namespace} --show-labels"
        );
        return Some(Obstacle::new(ConditionReason::NoPodsMatch, message));
    };
    let names = some(facts.bystanders.iter().map(|pod| pod.name.as_str()));
    let label = format!("{{\"{INJECT_LABEL}\":\"true\"}}");
    let workload = &bystander.workload;
    let mend = match workload.split_once('/') {
        Some(("pod", _)) => {
            format!(
                "make it anew with the label {INJECT_LABEL}=true (kubectl label does not suffice)"
            )
        }
        // Its template never changes.
        Some(("job", _)) => format!(
            "delete {workload} and make it anew with the label {INJECT_LABEL}=true in its template; \
             if a CronJob made it, there: kubectl get cronjob -n {namespace}, kubectl edit cronjob"
        ),
        _ => format!(
            "kubectl patch {workload} -n {namespace} --type=merge -p \
             '{{\"spec\":{{\"template\":{{\"metadata\":{{\"labels\":{label}}}}}}}}}'"
        ),
    };
    let message = format!(
        "pods match, and none opted in by the label {INJECT_LABEL}=true ({names}); to opt in: {mend}"
    );
    Some(Obstacle::new(ConditionReason::NotOptedIn, message))
}

/// Pods opted in, and none has the sidecar.
pub(super) fn all_uninjected(facts: &Facts) -> Option<Obstacle> {
    if facts.injected().next().is_some() {
        return None;
    }
    uninjected(facts)
}

/// Pods opted in and run without the sidecar.
pub(super) fn uninjected(facts: &Facts) -> Option<Obstacle> {
    let passed_over =
        AdmissionObstacle::REASONS.iter().find_map(|reason| passed_over(facts, *reason));
    passed_over.or_else(|| without_volume(facts)).or_else(|| sidecar_missing(facts))
}

/// Pods were passed over for this reason: they would be again, until it is mended.
fn passed_over(facts: &Facts, reason: ConditionReason) -> Option<Obstacle> {
    let why = |pod: &SeenPod| pod.passed_over.as_ref().map(|why| (why.reason, why.message.clone()));
    let first = facts.uninjected().find_map(|pod| why(pod).filter(|(of, _)| *of == reason));
    let (_, message) = first.as_ref()?;
    let pods: Vec<_> = facts.uninjected().filter(|pod| why(pod) == first).collect();
    let workload = workload(pods.first()?);
    let namespace = facts.namespace();
    // A pod cannot be changed, nor can the template of a Job.
    let mend = if is_restartable(&workload) {
        format!(
            "kubectl edit {workload} -n {namespace}; where that makes no new pods: kubectl rollout \
             restart {workload} -n {namespace}"
        )
    } else {
        format!("mend it and make {workload} anew: kubectl get {workload} -n {namespace} -o yaml")
    };
    let names = some(pods.iter().map(|pod| pod.name.as_str()));
    let message = format!("{names} were made without the sidecar: {message}; {mend}");
    Some(Obstacle::new(reason, message))
}

fn is_restartable(workload: &str) -> bool {
    !workload.starts_with("pod/") && !workload.starts_with("job/")
}

/// Pods run without the sidecar because they do not declare the volume.
pub(super) fn without_volume(facts: &Facts) -> Option<Obstacle> {
    let storage = &facts.group()?.spec.storage;
    let volume =
        storage.volume_name.as_ref().filter(|_| storage.volume == VolumeKind::PodVolume)?;
    let lacking: Vec<&Arc<SeenPod>> =
        facts.uninjected().filter(|pod| !pod.volumes.contains(volume)).collect();
    let first = lacking.first()?;
    let message = format!(
        "{} declare no volume {volume:?}: add it to the volumes of the pod template (a StatefulSet: \
         to volumeClaimTemplates): kubectl edit {} -n {}",
        some(lacking.iter().map(|pod| pod.name.as_str())),
        workload(first),
        facts.namespace()
    );
    Some(Obstacle::new(ConditionReason::VolumeNotFound, message))
}

/// Pods run without the sidecar, and nothing is wrong with them.
pub(super) fn sidecar_missing(facts: &Facts) -> Option<Obstacle> {
    let lacking: Vec<&Arc<SeenPod>> = facts.uninjected().collect();
    lacking.first()?;
    let workloads = workloads(lacking.iter().copied());
    let namespace = facts.namespace();
    let mend = match workloads.first() {
        Some(pod) if pod.starts_with("pod/") => {
            format!("kubectl delete {pod} -n {namespace}, and make it anew")
        }
        Some(job) if job.starts_with("job/") => {
            format!("kubectl delete {job} -n {namespace}, and make it anew")
        }
        _ => remake(lacking.iter().copied(), namespace),
    };
    let message = format!(
        "{} opted in and run without the sidecar, since it could not be injected when they were made; \
         to mend: {mend}",
        some(lacking.iter().map(|pod| pod.name.as_str()))
    );
    Some(Obstacle::new(ConditionReason::SidecarMissing, message))
}

/// An agent's container that waits.
struct Waits<'a> {
    pod: &'a Arc<SeenPod>,
    agent: &'a AgentContainer,
    waiting: &'a Waiting,
}

impl<'a> Waits<'a> {
    fn of(pod: &'a Arc<SeenPod>) -> Option<Self> {
        let agent = pod.agent.as_ref()?;
        Some(Self { pod, agent, waiting: agent.waiting.as_ref()? })
    }
}

/// Agents cannot start, and will not without help.
pub(super) fn failing(facts: &Facts) -> Option<Obstacle> {
    let namespace = facts.namespace();
    let waiting: Vec<Waits<'_>> = facts.injected().filter_map(Waits::of).collect();
    for Waits { pod, agent, waiting } in &waiting {
        if NO_IMAGE.contains(&waiting.reason.as_str()) {
            let message = format!(
                "{}: the agent's image {} cannot be pulled ({}): {}; is its name right (spec.agent.image, \
                 else the chart's), and may the node pull it? kubectl describe pod {} -n {namespace}; once \
                 that is mended, make the pods anew: {}",
                pod.name,
                agent.image,
                waiting.reason,
                waiting.message,
                pod.name,
                remake([*pod], namespace)
            );
            return Some(Obstacle::new(ConditionReason::ImageUnavailable, message));
        }
    }
    for Waits { pod, agent, waiting } in &waiting {
        if FAILING.contains(&waiting.reason.as_str()) {
            let words = agent.last_words.as_ref().unwrap_or(&waiting.message);
            let why = format!("({}): {words}", waiting.reason);
            return Some(does_not_start(&pod.name, &why, namespace));
        }
    }
    // Between two starts, or in one that lasts until the kubelet ends it, as before.
    facts.injected().filter(|pod| !pod.is_started()).find_map(|pod| {
        let words = pod.agent.as_ref()?.last_words.as_ref()?;
        Some(does_not_start(&pod.name, &format!("and ended before: {words}"), namespace))
    })
}

fn does_not_start(pod: &str, why: &str, namespace: &str) -> Obstacle {
    let message = format!(
        "{pod}: the agent does not start {why}; see: kubectl logs {pod} -n {namespace} -c coppice-agent \
         --previous"
    );
    Obstacle::new(ConditionReason::AgentFailing, message)
}

/// An agent does not start because another has its database.
pub(super) fn volume_shared(facts: &Facts) -> Option<Obstacle> {
    let namespace = facts.namespace();
    let words = |pod: &Arc<SeenPod>| pod.agent.as_ref()?.last_words.clone();
    let (pod, words) = facts.injected().filter(|pod| !pod.is_started()).find_map(|pod| {
        Some((pod, words(pod)?)).filter(|(_, words)| words.contains(HELD_DATABASE))
    })?;
    let message = format!(
        "{}: {words}; it starts when the other pod of that name is gone from the volume: kubectl \
         get pods -n {namespace} -o wide; kubectl describe pod {} -n {namespace}",
        pod.name, pod.name
    );
    Some(Obstacle::new(ConditionReason::VolumeShared, message))
}

/// Agents have started and do not serve the group yet.
fn unserved(facts: &Facts) -> Option<Obstacle> {
    let unserved = facts.unserved();
    unserved.first()?;
    let message = format!(
        "{} run, and do not serve the group yet: a kubelet brings a new group to running pods within \
         76 s; if it takes longer: kubectl logs -n {} {} -c coppice-agent",
        some(unserved.iter().copied()),
        facts.namespace(),
        unserved.first()?
    );
    Some(Obstacle::new(ConditionReason::MembersStarting, message))
}

/// Agents have not started yet.
pub(super) fn starting(facts: &Facts) -> Option<Obstacle> {
    let (started, of) = facts.members();
    if started == of && of > 0 {
        return unserved(facts);
    }
    let namespace = facts.namespace();
    let lacking: Vec<_> = facts.injected().filter(|pod| !pod.is_started()).collect();
    let names = some(lacking.iter().map(|pod| pod.name.as_str()));
    // What waits for a claim is pending without a word from the kubelet.
    let claims =
        facts.group().is_some_and(|group| group.spec.storage.volume != VolumeKind::EmptyDir);
    let mut unplaced = lacking.iter().filter(|pod| {
        pod.phase == Phase::Pending
            && pod.ips.is_empty()
            && pod.agent.as_ref().is_some_and(|agent| agent.waiting.is_none())
    });
    if claims && let Some(pod) = unplaced.next() {
        let message = format!(
            "{started} of {of} agents have started; {} waits for a node, perhaps because of its \
             volume: kubectl describe pod {} -n {namespace}; kubectl get pvc -n {namespace}",
            pod.name, pod.name
        );
        return Some(Obstacle::new(ConditionReason::VolumePending, message));
    }
    let runs = |pod: &&&Arc<SeenPod>| {
        !pod.ips.is_empty() && pod.agent.as_ref().is_some_and(|agent| agent.waiting.is_none())
    };
    let message = match lacking.iter().find(runs) {
        Some(pod) => format!(
            "{started} of {of} agents have started; waiting for {names}; what keeps one: kubectl logs {} \
             -n {namespace} -c coppice-agent",
            pod.name
        ),
        None => format!(
            "{started} of {of} agents have started; waiting for {names}: kubectl get pods -n {namespace} \
             -l {}",
            facts.selector()
        ),
    };
    Some(Obstacle::new(ConditionReason::MembersStarting, message))
}
