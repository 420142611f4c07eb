//! What there is of a group. Reads only: from the watches where they see it, else from the
//! API server.

use std::collections::BTreeSet;
use std::sync::Arc;

use coppice_api::cluster::{
    GROUPS_CONFIG_MAP, OPERATOR_KEY, PEERS_AUTHORITIES_KEY, SERVING_AUTHORITIES_KEY, key_of_group,
    peer_service,
};
use coppice_api::v1alpha1::ReplicationGroup;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;

use super::facts::{Bystander, Facts, Publication, workload};
use super::validate::Rejection;
use crate::api_client::{CallError, call, call_opt};
use crate::context::Context;
use crate::groups::SeenGroup;
use crate::namespaces::render;
use crate::pods::SeenPod;

/// How many pods that did not opt in are looked at: enough to name some.
const BYSTANDERS: u32 = 20;
/// Of pods that have not ended: those of old `Job`s would hide the others.
const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// For how many seconds the pods of a new group may be about to come.
const NEW: i64 = 20;
/// After how many seconds a running pod was certainly told of a new group: a kubelet takes
/// up to 76 s.
const TOLD: i64 = 120;

/// The object of the name that the group's `Service` has, whoever made it.
///
/// # Errors
///
/// If the API server does not answer.
pub(super) async fn service(
    context: &Context,
    seen: &SeenGroup,
) -> Result<Option<Arc<Service>>, CallError> {
    let namespace = seen.metadata().namespace.as_deref().unwrap_or_default();
    let name = peer_service(seen.name());
    if let Some(service) = context.children.services.get(namespace, &name) {
        return Ok(Some(service));
    }
    // One that someone else made lacks the label that is watched for.
    let services: Api<Service> = Api::namespaced(context.client.clone(), namespace);
    Ok(call_opt(services.get(&name)).await?.map(Arc::new))
}

/// Everything else that was seen of a group.
///
/// # Errors
///
/// If the API server does not answer.
pub(super) async fn facts(
    context: &Context,
    seen: &Arc<SeenGroup>,
    rejection: Option<Rejection>,
) -> Result<Facts, CallError> {
    let namespace = seen.metadata().namespace.clone().unwrap_or_default();
    let mut facts = Facts {
        seen: seen.clone(),
        operator_namespace: context.namespace.clone(),
        rejection,
        publication: publication(context, &namespace, seen),
        pods: Vec::new(),
        bystanders: Vec::new(),
        denials: Vec::new(),
        view: context.reports.view(seen.uid()),
        untold: Vec::new(),
        is_new: is_new(seen, context.now()),
        older: Vec::new(),
    };
    if let SeenGroup::Read(group) = &**seen {
        let labels = &group.spec.selector.match_labels;
        facts.pods = context.pods.in_namespace(&namespace);
        facts.pods.retain(|pod| pod.is_live() && pod.matches(labels));
        facts.untold = untold(&facts, group, context.now());
        facts.denials = context.denials.matching(&namespace, labels);
        facts.older = context.groups.fit_in_namespace(&namespace);
        let age = seen.seniority();
        let of = |other: &Arc<_>| SeenGroup::Read(Arc::clone(other)).seniority();
        facts.older.retain(|other| of(other) < age);
        facts.older.sort_by_cached_key(of);
        if facts.pods.is_empty() && !labels.is_empty() {
            facts.bystanders = match bystanders(context, &namespace, group).await {
                // A selector that is none selects nobody.
                Err(error) if error.is_refusal() => Vec::new(),
                found => found?,
            };
        }
    }
    Ok(facts)
}

fn is_new(seen: &SeenGroup, now: Timestamp) -> bool {
    let made = seen.metadata().creation_timestamp.as_ref();
    made.is_some_and(|made| now.as_second() - made.0.as_second() < NEW)
}

/// Pods that ran before the group was made, may not have been told of it, and were not
/// asked yet.
fn untold(facts: &Facts, group: &ReplicationGroup, now: Timestamp) -> Vec<String> {
    let Some(made) = group.metadata.creation_timestamp.as_ref() else { return Vec::new() };
    if now.as_second() - made.0.as_second() > TOLD {
        return Vec::new();
    }
    let asked = facts.view.as_ref().map(|view| &view.ever_asked);
    let was_asked = |uid: &String| asked.is_some_and(|asked| asked.contains(uid));
    let is_untold = |pod: &&Arc<SeenPod>| {
        pod.created.is_some_and(|created| created < made.0) && !was_asked(&pod.uid)
    };
    facts.injected().filter(is_untold).map(|pod| pod.name.clone()).collect()
}

/// Pods that a group selects and that did not opt in.
async fn bystanders(
    context: &Context,
    namespace: &str,
    group: &ReplicationGroup,
) -> Result<Vec<Bystander>, CallError> {
    let labels = &group.spec.selector.match_labels;
    let selector: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let params =
        ListParams::default().labels(&selector.join(",")).fields(UNFINISHED).limit(BYSTANDERS);
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let found = call(pods.list(&params)).await?;
    let seen: Vec<SeenPod> = found.items.into_iter().map(SeenPod::of).collect();
    let known: BTreeSet<String> =
        context.pods.in_namespace(namespace).iter().map(|pod| pod.uid.clone()).collect();
    // One that opted in a moment ago is about to be seen by the watch.
    let stand_by = |pod: &&SeenPod| pod.is_live() && !pod.opted_in() && !known.contains(&pod.uid);
    let bystander = |pod: &SeenPod| Bystander { name: pod.name.clone(), workload: workload(pod) };
    Ok(seen.iter().filter(stand_by).map(bystander).collect())
}

/// Whether the namespace's agents can know of the group.
fn publication(context: &Context, namespace: &str, seen: &SeenGroup) -> Publication {
    if let Some(words) = context.remembered.refusal(namespace) {
        return Publication::Refused(words);
    }
    if context.remembered.are_rights_taken(namespace) {
        return Publication::RightsTaken;
    }
    let announced = context.announced.borrow().clone();
    let Some(complete) = announced.complete() else { return Publication::OperatorUnknown };
    let Some(map) = context.children.config_maps.get(namespace, GROUPS_CONFIG_MAP) else {
        return Publication::Pending;
    };
    if !render::is_ours(&map.metadata) {
        return Publication::NameTaken;
    }
    let data = map.data.as_ref();
    let holds =
        |key: &str, text: &str| data.and_then(|data| data.get(key)).is_some_and(|has| has == text);
    let tells_group = match seen.fit() {
        Some(group) if !group.spec.paused => {
            render::group_text(group).is_some_and(|text| holds(&key_of_group(seen.name()), &text))
        }
        // It stays as it was.
        Some(_) | None => true,
    };
    let tells_operator = holds(OPERATOR_KEY, &render::operator_text(complete.operator))
        && holds(SERVING_AUTHORITIES_KEY, complete.serving_pem)
        && holds(PEERS_AUTHORITIES_KEY, complete.peers_pem);
    if tells_group && tells_operator { Publication::Current } else { Publication::Pending }
}
