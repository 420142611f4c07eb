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
        older: Vec::new(),
    };
    if let SeenGroup::Read(group) = &**seen {
        let labels = &group.spec.selector.match_labels;
        facts.pods = context.pods.in_namespace(&namespace);
        facts.pods.retain(|pod| pod.is_live() && pod.matches(labels));
        facts.denials = context.denials.matching(&namespace, labels);
        facts.older = context.groups.fit_in_namespace(&namespace);
        let age = seen.seniority();
        let of = |other: &Arc<_>| SeenGroup::Read(Arc::clone(other)).seniority();
        facts.older.retain(|other| of(other) < age);
        facts.older.sort_by_cached_key(of);
        if facts.pods.is_empty() && !labels.is_empty() {
            facts.bystanders = bystanders(context, &namespace, group).await?;
        }
    }
    Ok(facts)
}

/// Pods that a group selects and that did not opt in.
async fn bystanders(
    context: &Context,
    namespace: &str,
    group: &ReplicationGroup,
) -> Result<Vec<Bystander>, CallError> {
    let labels = &group.spec.selector.match_labels;
    let selector: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let params = ListParams::default().labels(&selector.join(",")).limit(BYSTANDERS);
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
