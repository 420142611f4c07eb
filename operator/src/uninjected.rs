//! Telling workloads that pods of theirs opted in and run without the sidecar, although
//! they could have it.
//!
//! A group's status says the same, if a group selects them; but the pods of an opted-in
//! namespace that no group selects have nobody else who would.

use std::collections::BTreeSet;
use std::time::Duration;

use coppice_api::v1alpha1::ConditionReason;

use crate::context::Context;
use crate::pods::{Owner, SeenPod};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(10);
/// How many owners are told in one look.
const AT_A_TIME: usize = 20;

/// Tells each owner once, for as long as this replica leads.
pub async fn tell(context: Context) {
    // Those that were told and still have such pods.
    let mut told: BTreeSet<String> = BTreeSet::new();
    loop {
        let pods = context.pods.watched().all();
        let lacking = pods.values().filter(|pod| pod.is_live() && !pod.is_injected());
        let owners: BTreeSet<(String, Owner)> = lacking.filter_map(|pod| owner_of(pod)).collect();
        told.retain(|uid| owners.iter().any(|(_, owner)| owner.uid == *uid));
        let new = owners.iter().filter(|(_, owner)| !told.contains(&owner.uid));
        let new: Vec<_> = new.take(AT_A_TIME).cloned().collect();
        for (namespace, owner) in new {
            let names = pods.values().filter(|pod| {
                pod.is_live()
                    && !pod.is_injected()
                    && owner_of(pod).is_some_and(|(_, of)| of == owner)
            });
            let names: Vec<&str> = names.map(|pod| pod.name.as_str()).collect();
            let message = format!(
                "{} opted in and run without the sidecar coppice-agent; make them anew, as by kubectl \
                 rollout restart, once the operator is ready",
                crate::reconcile::facts::some(names)
            );
            let reason = ConditionReason::SidecarMissing.name();
            context.events.warn_owner(&namespace, &owner, reason, &message).await;
            told.insert(owner.uid);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn owner_of(pod: &SeenPod) -> Option<(String, Owner)> {
    // Injection passed it over, and told the owner why.
    let is_told = pod.passed_over.is_some();
    pod.owner.clone().filter(|_| !is_told).map(|owner| (pod.namespace.clone(), owner))
}
