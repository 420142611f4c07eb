//! Pods for Windows, where no agent runs.
//!
//! The chart's webhook and policy judge alike, in CEL (`coppice.isWindows`).

use k8s_openapi::api::core::v1::{NodeSelectorTerm, PodSpec};

const OS_LABEL: &str = "kubernetes.io/os";
const WINDOWS: &str = "windows";

/// Whether a pod says that it is for Windows: by its `os`, by its node selector, or by an
/// affinity of which each term requires it.
#[must_use]
pub fn is_for_windows(spec: &PodSpec) -> bool {
    let os = spec.os.as_ref().map(|os| os.name.as_str());
    let selected = spec.node_selector.as_ref().and_then(|labels| labels.get(OS_LABEL));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity
        .and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution.as_ref());
    os == Some(WINDOWS)
        || selected.is_some_and(|os| os == WINDOWS)
        || required.is_some_and(|required| {
            let terms = &required.node_selector_terms;
            !terms.is_empty() && terms.iter().all(requires_windows)
        })
}

fn requires_windows(term: &NodeSelectorTerm) -> bool {
    let mut expressions = term.match_expressions.iter().flatten();
    expressions.any(|one| {
        one.key == OS_LABEL
            && one.operator == "In"
            && one.values.as_ref().is_some_and(|values| values.iter().all(|os| os == WINDOWS))
    })
}
