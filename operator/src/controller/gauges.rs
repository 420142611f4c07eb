//! How groups and pods stand, as figures.

use std::collections::BTreeMap;
use std::time::Duration;

use coppice_api::v1alpha1::ConditionReason;

use crate::context::Context;
use crate::groups::SeenGroup;
use crate::metrics::{PodCounts, UNKNOWN_REASON};
use crate::reconcile::status::ready;

/// How often they are counted: as often as they are scraped, about.
const PERIOD: Duration = Duration::from_secs(5);

/// Counts for ever.
pub(super) async fn show(context: Context) {
    loop {
        let groups = context.groups.watched().all();
        let (mut ready, mut not_ready) = (0, BTreeMap::new());
        for group in groups.values() {
            match why_not_ready(group) {
                None => ready += 1,
                Some(reason) => *not_ready.entry(reason).or_default() += 1,
            }
        }
        context.metrics.groups(ready, &not_ready);

        let mut counts = PodCounts::default();
        for pod in context.pods.watched().all().values().filter(|pod| pod.is_live()) {
            let count = match (pod.is_injected(), pod.is_started()) {
                (false, _) => &mut counts.uninjected,
                (true, false) => &mut counts.starting,
                (true, true) => &mut counts.started,
            };
            *count += 1;
        }
        context.metrics.pods(counts);
        tokio::time::sleep(PERIOD).await;
    }
}

/// Why a group is not ready; none: it is.
fn why_not_ready(group: &SeenGroup) -> Option<&'static str> {
    let SeenGroup::Read(group) = group else {
        return Some(ConditionReason::InvalidSpec.name());
    };
    let Some(ready) = group.status.as_ref().and_then(ready) else { return Some(UNKNOWN_REASON) };
    if ready.status == "True" {
        return None;
    }
    // A status may be written by others: what they make up is no label.
    let known = ConditionReason::ALL.iter().map(|reason| reason.name());
    Some(known.into_iter().find(|name| *name == ready.reason).unwrap_or(UNKNOWN_REASON))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_is_counted_by_the_reason_that_it_tells() {
        for (told, expected) in [
            (("Progressing", "True", "Applied"), Some("Unknown")),
            (("Ready", "True", "AllMembersReady"), None),
            (("Ready", "False", "NoPodsMatch"), Some("NoPodsMatch")),
            (("Ready", "False", "MadeUp"), Some("Unknown")),
        ] {
            let (about, status, reason) = told;
            let condition = json!({
                "type": about, "status": status, "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            });
            let group = json!({
                "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
                "metadata": {"name": "hits", "namespace": "shop"},
                "spec": {"crdt": {"type": "GSet"}, "selector": {"matchLabels": {"app": "web"}}},
                "status": {"conditions": [condition]},
            });
            let group = SeenGroup::Read(Arc::new(serde_json::from_value(group).unwrap()));
            assert_eq!(why_not_ready(&group), expected, "{told:?}");
        }
    }
}
