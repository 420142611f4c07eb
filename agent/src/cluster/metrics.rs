//! What an agent in a cluster tells Prometheus of its groups.

use prometheus::{IntGauge, Registry};

use super::View;

/// Metrics of what is published for this pod; cheap to clone.
#[derive(Clone, Debug)]
pub struct ClusterMetrics {
    orphans: IntGauge,
    refused: IntGauge,
    problems: IntGauge,
    unknown_fields: IntGauge,
}

impl ClusterMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// If they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            orphans: gauge(
                "coppice_orphaned_groups",
                "Groups served on though no published group selects this pod with their id.",
            )?,
            refused: gauge(
                "coppice_refused_groups",
                "Published groups not served, because other data is held by their name.",
            )?,
            problems: gauge(
                "coppice_published_problems",
                "Published keys and groups that cannot be used; what was before stays.",
            )?,
            unknown_fields: gauge(
                "coppice_published_unknown_fields",
                "Published fields that this release does not know and ignores.",
            )?,
        })
    }

    pub(super) fn show(&self, view: &View) {
        let set = |gauge: &IntGauge, count: usize| {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        set(&self.orphans, view.orphans.len());
        set(&self.refused, view.refused.len());
        set(&self.problems, view.all_problems().count());
        set(&self.unknown_fields, view.unknown_fields);
    }
}
