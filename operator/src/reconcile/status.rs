//! A group's status: computed whole, written when it differs.

use coppice_api::v1alpha1::{ConditionReason, ReplicationGroup, ReplicationGroupStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{ApiResource, Patch, PatchParams};
use serde_json::json;

use super::conditions::{Finding, findings};
use super::facts::Facts;
use crate::api_client::{CallError, call, call_opt};
use crate::groups::{SeenGroup, groups_of};
use crate::names;

/// A condition's message may have 32,768 bytes; nobody reads that many.
const MESSAGE_CHARACTERS: usize = 1000;
/// Of a longer one this much of the end is kept.
const LAST_CHARACTERS: usize = 300;

/// The status of a group, given the one before, whose times stay where nothing changed.
#[must_use]
pub fn status_of(
    facts: &Facts,
    before: &ReplicationGroupStatus,
    now: Timestamp,
) -> ReplicationGroupStatus {
    let generation = facts.seen.metadata().generation;
    let conditions = findings(facts)
        .into_iter()
        .map(|finding| condition(finding, &before.conditions, generation, now))
        .collect();
    let (started, injected) = facts.members();
    let count = |pods: usize| u32::try_from(pods).unwrap_or(u32::MAX);
    ReplicationGroupStatus {
        observed_generation: generation,
        id: facts.group().and_then(ReplicationGroup::effective_id).or(before.id),
        conditions,
        members: Some(format!("{started}/{injected}")),
        matched_pods: count(facts.pods.len() + facts.bystanders.len()),
        injected_pods: count(injected),
        agent_versions: facts.view.as_ref().map(|view| view.versions.clone()).unwrap_or_default(),
    }
}

fn condition(
    finding: Finding,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let type_ = finding.about.name().to_owned();
    let status = match finding.holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let same = before.iter().find(|old| old.type_ == type_ && old.status == status);
    Condition {
        last_transition_time: same.map_or(Time(now), |old| old.last_transition_time.clone()),
        message: shortened(finding.message),
        observed_generation: generation,
        reason: finding.reason.name().to_owned(),
        status: status.to_owned(),
        type_,
    }
}

/// Takes out of the middle: the end says what to do.
fn shortened(message: String) -> String {
    let characters = message.chars().count();
    if characters <= MESSAGE_CHARACTERS {
        return message;
    }
    let head = message.chars().take(MESSAGE_CHARACTERS - LAST_CHARACTERS);
    let tail = message.chars().skip(characters - LAST_CHARACTERS);
    head.chain(['…']).chain(tail).collect()
}

/// What is newly wrong, worth an event: reason and message, each reason once.
#[must_use]
pub fn newly_wrong(
    status: &ReplicationGroupStatus,
    before: &ReplicationGroupStatus,
) -> Vec<(String, String)> {
    let wrong = |status: &ReplicationGroupStatus| -> Vec<(String, String)> {
        let bad = status.conditions.iter().filter(|condition| condition.status == "False");
        bad.filter(|condition| !is_passing(&condition.reason))
            .map(|condition| (condition.reason.clone(), condition.message.clone()))
            .collect()
    };
    let old = wrong(before);
    let mut new: Vec<(String, String)> = Vec::new();
    for (reason, message) in wrong(status) {
        let is_same = |told: &(String, String)| {
            told.0 == reason && (told.1 == message || !is_cause_in_message(&reason))
        };
        let is_known = |known: &[(String, String)]| known.iter().any(is_same);
        if !is_known(&old) && !is_known(&new) {
            new.push((reason, message));
        }
    }
    new
}

/// Whether the group has become ready.
#[must_use]
pub fn became_ready(status: &ReplicationGroupStatus, before: &ReplicationGroupStatus) -> bool {
    is_ready(status) && !is_ready(before)
}

/// Whether the condition Ready is true.
#[must_use]
pub fn is_ready(status: &ReplicationGroupStatus) -> bool {
    ready(status).is_some_and(|condition| condition.status == "True")
}

/// The condition Ready.
#[must_use]
pub fn ready(status: &ReplicationGroupStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == "Ready")
}

/// Whether the cause is in the message, so that another message is another mistake. Others
/// name pods, which come and go.
fn is_cause_in_message(reason: &str) -> bool {
    [
        ConditionReason::AdmissionRejected,
        ConditionReason::ApiRefused,
        ConditionReason::InvalidSpec,
        ConditionReason::NameTaken,
    ]
    .iter()
    .any(|with_cause| with_cause.name() == reason)
}

/// What passes by itself, and is no mistake.
fn is_passing(reason: &str) -> bool {
    [
        ConditionReason::MembersStarting,
        ConditionReason::Applying,
        ConditionReason::CatchingUp,
        ConditionReason::CertificatesPending,
        ConditionReason::OperatorStarting,
        ConditionReason::Paused,
    ]
    .iter()
    .any(|passing| passing.name() == reason)
}

/// Writes a group's status.
///
/// # Errors
///
/// If the API server does not take it. A group that is gone is not one.
pub async fn publish(
    client: &Client,
    seen: &SeenGroup,
    status: &ReplicationGroupStatus,
) -> Result<(), CallError> {
    let namespace = seen.metadata().namespace.as_deref().unwrap_or_default();
    let resource = ApiResource::erase::<ReplicationGroup>(&());
    // Not typed: the answer is not looked at, and may not be readable.
    let api = groups_of(client, namespace);
    let object = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": seen.name(), "uid": seen.uid()},
        "status": status,
    });
    let (params, patch) = match seen {
        SeenGroup::Read(_) => {
            (PatchParams::apply(names::FIELD_MANAGER).force(), Patch::Apply(&object))
        }
        // What does not fit its definition cannot be applied to.
        SeenGroup::Malformed { .. } => (
            PatchParams {
                field_manager: Some(names::FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            },
            Patch::Merge(&object),
        ),
    };
    match call(api.patch_status(seen.name(), &params, &patch)).await {
        Err(error) if error.is_not_found() => Ok(()),
        written => written.map(drop),
    }
}

/// The status of an object that could not be read, as far as it has one.
///
/// # Errors
///
/// If the API server does not answer.
pub async fn status_of_malformed(
    client: &Client,
    seen: &SeenGroup,
) -> Result<ReplicationGroupStatus, CallError> {
    let namespace = seen.metadata().namespace.as_deref().unwrap_or_default();
    let object = call_opt(groups_of(client, namespace).get(seen.name())).await?;
    let status = object.and_then(|object| object.data.get("status").cloned()).unwrap_or_default();
    Ok(serde_json::from_value(status).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use coppice_api::v1alpha1::ConditionType;

    use super::*;

    fn finding(holds: Option<bool>, reason: ConditionReason) -> Finding {
        Finding { about: ConditionType::Ready, holds, reason, message: "m".to_owned() }
    }

    fn status(conditions: Vec<Condition>) -> ReplicationGroupStatus {
        ReplicationGroupStatus { conditions, ..ReplicationGroupStatus::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_time_of_a_transition_stays_while_the_status_does() {
        let starting = finding(Some(false), ConditionReason::MembersStarting);
        let first = condition(starting.clone(), &[], Some(1), at(1));
        let other = finding(Some(false), ConditionReason::ImageUnavailable);
        let second = condition(other, std::slice::from_ref(&first), Some(2), at(2));
        assert_eq!(second.last_transition_time, Time(at(1)), "it is not ready since then");
        assert_eq!(second.observed_generation, Some(2));
        let good = finding(Some(true), ConditionReason::AllMembersReady);
        let third = condition(good, &[second], Some(2), at(3));
        assert_eq!((third.status.as_str(), third.last_transition_time), ("True", Time(at(3))));
    }

    #[test]
    fn what_is_newly_wrong_is_told_once() {
        let bad = |about, reason: ConditionReason| Condition {
            type_: about,
            status: "False".to_owned(),
            reason: reason.name().to_owned(),
            message: "m".to_owned(),
            observed_generation: None,
            last_transition_time: Time(at(0)),
        };
        let missing = status(vec![
            bad("Ready".to_owned(), ConditionReason::SidecarMissing),
            bad("Injected".to_owned(), ConditionReason::SidecarMissing),
            bad("Converged".to_owned(), ConditionReason::CatchingUp),
        ]);
        let none = status(Vec::new());
        let told = newly_wrong(&missing, &none);
        assert_eq!(told, [("SidecarMissing".to_owned(), "m".to_owned())]);
        assert!(newly_wrong(&missing, &missing).is_empty());
        let mut elsewhere = missing.clone();
        elsewhere.conditions[0].message = "other pods".to_owned();
        assert!(newly_wrong(&elsewhere, &missing).is_empty(), "the same mistake");

        let refused = |words: &str| {
            let mut condition = bad("Injected".to_owned(), ConditionReason::AdmissionRejected);
            condition.message = words.to_owned();
            status(vec![condition])
        };
        let told = newly_wrong(&refused("limit"), &refused("quota"));
        assert_eq!(told, [("AdmissionRejected".to_owned(), "limit".to_owned())]);
        assert!(newly_wrong(&refused("quota"), &refused("quota")).is_empty());
    }

    #[test]
    fn of_a_long_message_the_middle_goes() {
        let long = format!("{}: kubectl edit", "ü".repeat(MESSAGE_CHARACTERS));
        let short = shortened(long);
        assert_eq!(short.chars().count(), MESSAGE_CHARACTERS + 1, "and says so by …");
        assert!(short.starts_with('ü') && short.ends_with(": kubectl edit"), "{short}");
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
