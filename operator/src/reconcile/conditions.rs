//! From what was seen to what people are told. Pure.
//!
//! Each condition is decided by the first thing that is wrong with it, in the order in
//! which one would mend them. A message says what is wrong with what, and the command
//! that mends it or shows more.

mod members;
mod pods;

use coppice_api::cluster::{GROUPS_CONFIG_MAP, peer_service};
use coppice_api::v1alpha1::{ConditionReason, ConditionType};

use super::facts::{Facts, Publication, some};
use super::validate::Rejection;
use crate::names::AGENT_ROLE_BINDING;
use crate::reports::{Agreement, GroupView};

/// One condition, without its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it speaks about.
    pub about: ConditionType,
    /// Whether it is so; absent: nobody knows.
    pub holds: Option<bool>,
    /// Why, in a word.
    pub reason: ConditionReason,
    /// Why, in a sentence or two, with what to do.
    pub message: String,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    reason: ConditionReason,
    message: String,
}

impl Obstacle {
    pub(super) fn new(reason: ConditionReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// All conditions of a group, in the order of their types.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let all = [
        ready(facts),
        progressing(facts),
        injected(facts),
        converged(facts),
        certificates(facts),
        storage(facts),
    ];
    all.into()
}

fn bad(about: ConditionType, obstacle: Obstacle) -> Finding {
    Finding { about, holds: Some(false), reason: obstacle.reason, message: obstacle.message }
}

fn good(about: ConditionType, reason: ConditionReason, message: String) -> Finding {
    Finding { about, holds: Some(true), reason, message }
}

fn unknown(about: ConditionType, reason: ConditionReason, message: &str) -> Finding {
    Finding { about, holds: None, reason, message: message.to_owned() }
}

fn ready(facts: &Facts) -> Finding {
    let about = ConditionType::Ready;
    let obstacle = refused(facts)
        .or_else(|| members::orphaned_data(facts))
        .or_else(|| members::unused(facts))
        .or_else(|| pods::none_to_inject(facts))
        .or_else(|| pods::all_uninjected(facts))
        .or_else(|| pods::volume_shared(facts))
        .or_else(|| pods::failing(facts))
        .or_else(|| members::conflict(facts))
        .or_else(|| untold(facts))
        .or_else(|| pods::starting(facts));
    obstacle.map_or_else(
        || {
            let (started, of) = facts.members();
            let message = format!("{started} of {of} agents have started");
            good(about, ConditionReason::AllMembersReady, message)
        },
        |obstacle| bad(about, obstacle),
    )
}

fn progressing(facts: &Facts) -> Finding {
    let about = ConditionType::Progressing;
    let obstacle = refused(facts)
        .or_else(|| paused(facts))
        .or_else(|| unpublished(facts))
        .or_else(|| members::unused(facts))
        .or_else(|| pods::failing(facts))
        .or_else(|| members::conflict(facts))
        .or_else(|| members::restart_required(facts));
    match obstacle {
        Some(obstacle) => bad(about, obstacle),
        None => good(
            about,
            ConditionReason::Applied,
            "Service, rights and settings are in place".to_owned(),
        ),
    }
}

fn injected(facts: &Facts) -> Finding {
    let about = ConditionType::Injected;
    let obstacle = pods::denied(facts)
        .or_else(|| pods::uninjected(facts))
        .or_else(|| pods::none_matches(facts));
    match obstacle {
        Some(obstacle) => bad(about, obstacle),
        None if facts.group().is_none() => {
            unknown(about, ConditionReason::InvalidSpec, "the group could not be read")
        }
        None => {
            let message = format!("{} pods have the sidecar", facts.injected().count());
            good(about, ConditionReason::AllInjected, message)
        }
    }
}

fn converged(facts: &Facts) -> Finding {
    let about = ConditionType::Converged;
    let Some(view) = facts.view.as_ref().filter(|view| view.asked > 0) else {
        return unknown(about, ConditionReason::MembersStarting, "no agent was asked yet");
    };
    if view.answered == 0 {
        return unreachable_agents(about, facts);
    }
    match &view.agreement {
        None => unknown(
            about,
            ConditionReason::MembersStarting,
            "the agents were asked once: whether they agree shows in half a minute",
        ),
        Some(Agreement::Agree) => good(
            about,
            ConditionReason::MembersAgree,
            format!("{}, and have seen what each had seen half a minute earlier", answered(view)),
        ),
        Some(Agreement::Behind(pods)) => {
            let named = some(pods.iter().map(String::as_str));
            let namespace = facts.namespace();
            let obstacle = if view.alone.is_empty() {
                let message = format!(
                    "{named} had not seen what others had seen half a minute earlier; why: kubectl \
                     logs -n {namespace} POD -c coppice-agent"
                );
                Obstacle::new(ConditionReason::CatchingUp, message)
            } else {
                let alone = some(view.alone.iter().map(String::as_str));
                let message = format!(
                    "{alone} reach no other member: allow TCP port 4438 between the members in the \
                     namespace's network policies (kubectl get networkpolicies -n {namespace})"
                );
                Obstacle::new(ConditionReason::PeersUnreachable, message)
            };
            bad(about, obstacle)
        }
    }
}

fn certificates(facts: &Facts) -> Finding {
    let about = ConditionType::CertificatesReady;
    if facts.publication == Publication::OperatorUnknown {
        let message = format!(
            "the operator's authorities are not ready: kubectl logs -n {} deployment/coppice-operator",
            facts.operator_namespace
        );
        return bad(about, Obstacle::new(ConditionReason::CertificatesPending, message));
    }
    match facts.view.as_ref().filter(|view| view.asked > 0) {
        None => unknown(about, ConditionReason::CertificatesPending, "no agent was asked yet"),
        Some(view) if view.answered == 0 => unreachable_agents(about, facts),
        Some(view) => good(
            about,
            ConditionReason::CertificatesIssued,
            format!("{}, and proved who they are", answered(view)),
        ),
    }
}

fn storage(facts: &Facts) -> Finding {
    let about = ConditionType::StorageHealthy;
    if let Some(obstacle) = pods::volume_shared(facts).or_else(|| members::storage(facts)) {
        return bad(about, obstacle);
    }
    match facts.view.as_ref().filter(|view| view.asked > 0) {
        None => unknown(about, ConditionReason::MembersStarting, "no agent was asked yet"),
        Some(view) if view.answered == 0 => unreachable_agents(about, facts),
        Some(view) => good(
            about,
            ConditionReason::StorageWritable,
            format!("{}, and can write", answered(view)),
        ),
    }
}

/// How many of a sample answered. Not how many there are: no figure that moves with each
/// pod belongs into a message.
fn answered(view: &GroupView) -> String {
    match view.asked - view.answered.min(view.asked) {
        0 => "the agents that were asked answered".to_owned(),
        silent => format!("all but {silent} of the {} agents that were asked answered", view.asked),
    }
}

fn unreachable_agents(about: ConditionType, facts: &Facts) -> Finding {
    let namespace = facts.namespace();
    let message = format!(
        "no agent that was asked answered the operator on TCP port 4438: is it allowed to reach them \
         (kubectl get networkpolicies -n {namespace}), and do they have a certificate (kubectl logs \
         -n {namespace} POD -c coppice-agent)?"
    );
    unknown(about, ConditionReason::AgentsUnreachable, &message)
}

/// Why nothing is written, but for a pause: then all goes on as it was.
fn refused(facts: &Facts) -> Option<Obstacle> {
    let (namespace, name) = (facts.namespace(), facts.seen.name());
    let mend = format!("kubectl edit replicationgroup {name} -n {namespace}");
    match facts.rejection.as_ref()? {
        Rejection::Paused => None,
        Rejection::NoMembersHere => Some(Obstacle::new(
            ConditionReason::InvalidSpec,
            format!(
                "nothing is injected in namespace {namespace}, so no pod there can be a member; make \
                 the group in the namespace of the app, and delete this one: kubectl delete \
                 replicationgroup {name} -n {namespace}"
            ),
        )),
        Rejection::Malformed(error) => Some(Obstacle::new(
            ConditionReason::InvalidSpec,
            format!(
                "the object is not what its definition says, and agents keep what they were told \
                 before: {error}; mend its spec: {mend}"
            ),
        )),
        Rejection::Invalid(lines) => Some(Obstacle::new(
            ConditionReason::InvalidSpec,
            format!(
                "agents keep what they were told before: {}; mend it: {mend}",
                lines.join("; ")
            ),
        )),
        Rejection::NameTaken(whose) => {
            let service = peer_service(name);
            Some(Obstacle::new(
                ConditionReason::NameTaken,
                format!(
                    "the Service {service} is {whose}, and is left as it is, so members cannot find \
                     each other; give it another name, or delete it: kubectl delete service {service} \
                     -n {namespace}"
                ),
            ))
        }
        Rejection::Refused(words) => Some(Obstacle::new(
            ConditionReason::ApiRefused,
            format!(
                "the API server refuses what the operator writes for this group: {words}; has the \
                 operator the rights of its chart? kubectl describe clusterrole coppice-operator"
            ),
        )),
        Rejection::PredecessorGoing => Some(Obstacle::new(
            ConditionReason::Applying,
            "the Service of a deleted group of this name is about to go",
        )),
    }
}

/// Members do not serve the group, and what they were to be told was held back.
fn untold(facts: &Facts) -> Option<Obstacle> {
    if facts.unserved().is_empty() { None } else { paused(facts).or_else(|| unpublished(facts)) }
}

fn paused(facts: &Facts) -> Option<Obstacle> {
    if facts.rejection != Some(Rejection::Paused) {
        return None;
    }
    let (namespace, name) = (facts.namespace(), facts.seen.name());
    let message = format!(
        "nothing of this group is changed while spec.paused is true; to go on: kubectl patch \
         replicationgroup {name} -n {namespace} --type=merge -p '{{\"spec\":{{\"paused\":false}}}}'"
    );
    Some(Obstacle::new(ConditionReason::Paused, message))
}

fn unpublished(facts: &Facts) -> Option<Obstacle> {
    let namespace = facts.namespace();
    let (reason, message) = match &facts.publication {
        Publication::Current => return None,
        Publication::Pending => {
            (ConditionReason::Applying, "agents are about to be told".to_owned())
        }
        Publication::OperatorUnknown => (
            ConditionReason::OperatorStarting,
            format!(
                "agents are told as soon as the operator knows its own address and authorities: \
                 kubectl get service,secret -n {}",
                facts.operator_namespace
            ),
        ),
        Publication::NameTaken => (
            ConditionReason::NameTaken,
            format!(
                "the ConfigMap {GROUPS_CONFIG_MAP} was not made by the operator, and is left as it \
                 is, so agents are told nothing; delete it: kubectl delete configmap \
                 {GROUPS_CONFIG_MAP} -n {namespace}"
            ),
        ),
        Publication::RightsTaken => (
            ConditionReason::NameTaken,
            format!(
                "the RoleBinding {AGENT_ROLE_BINDING} was not made by the operator, and is left as it \
                 is, so agents may not look for each other; delete it: kubectl delete rolebinding \
                 {AGENT_ROLE_BINDING} -n {namespace}"
            ),
        ),
        Publication::Refused(words) => (
            ConditionReason::ApiRefused,
            format!(
                "the API server refuses what tells the agents of namespace {namespace} their groups, \
                 and they keep what they were told before: {words}; if it is too long, move groups to \
                 another namespace; if a right is lacking, install the chart's again: kubectl \
                 describe clusterrole coppice-operator"
            ),
        ),
    };
    Some(Obstacle::new(reason, message))
}

#[cfg(test)]
mod tests;
