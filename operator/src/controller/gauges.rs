//! How groups and pods stand, as figures.

use std::time::Duration;

use crate::context::Context;
use crate::groups::SeenGroup;
use crate::metrics::PodCounts;
use crate::reconcile::status::is_ready;

/// How often they are counted: as often as they are scraped, about.
const PERIOD: Duration = Duration::from_secs(5);

/// Counts for ever.
pub(super) async fn show(context: Context) {
    loop {
        let groups = context.groups.watched().all();
        let ready = groups.values().filter(|group| match &***group {
            SeenGroup::Read(group) => group.status.as_ref().is_some_and(is_ready),
            SeenGroup::Malformed { .. } => false,
        });
        let ready = ready.count();
        context.metrics.groups(ready, groups.len() - ready);

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
