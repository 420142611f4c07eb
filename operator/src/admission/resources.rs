//! What the agent's container asks for and may use.
//!
//! Requests and limits are always set, for CPU and memory: without them the app's
//! autoscaling by utilisation fails, and so do namespaces with a quota.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::larger;

type Amounts = BTreeMap<String, Quantity>;

/// The largest of what the groups ask for, resource by resource. A group that does not
/// say asks for the default; so does a pod without groups. A limit is at least the
/// request.
pub(super) fn largest(
    groups: &[&ResourceRequirements],
    default: &ResourceRequirements,
) -> ResourceRequirements {
    let requests =
        merged(groups.iter().map(|group| group.requests.as_ref()), default.requests.as_ref());
    let mut limits =
        merged(groups.iter().map(|group| group.limits.as_ref()), default.limits.as_ref());
    for (name, limit) in &mut limits {
        if let Some(request) = requests.get(name) {
            *limit = larger(limit.clone(), request.clone());
        }
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

fn merged<'a>(
    groups: impl Iterator<Item = Option<&'a Amounts>>,
    default: Option<&Amounts>,
) -> Amounts {
    let empty = Amounts::new();
    let default = default.unwrap_or(&empty);
    let groups: Vec<&Amounts> = groups.map(|group| group.unwrap_or(&empty)).collect();
    if groups.is_empty() {
        return default.clone();
    }
    let names: BTreeSet<&String> =
        groups.iter().flat_map(|group| group.keys()).chain(default.keys()).collect();
    let of = |name: &String| {
        let asked = groups.iter().filter_map(|group| group.get(name).or_else(|| default.get(name)));
        asked.cloned().reduce(larger).map(|amount| (name.clone(), amount))
    };
    names.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn requirements(value: serde_json::Value) -> ResourceRequirements {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn each_resource_is_the_largest_that_a_group_asks_for() {
        let default = requirements(json!({
            "requests": {"cpu": "25m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"},
        }));
        let small = requirements(json!({"requests": {"cpu": "10m"}, "limits": {"memory": "1Gi"}}));
        let large = requirements(json!({
            "requests": {"cpu": "2", "ephemeral-storage": "1Gi"}, "limits": {"memory": "512Mi"},
        }));
        let same = json!({"cpu": "100m", "memory": "128Mi"});
        let guaranteed = requirements(json!({"requests": same, "limits": same}));
        let cases = [
            (vec![], default.clone()),
            (vec![&guaranteed], guaranteed.clone()),
            (
                vec![&small],
                requirements(json!({
                    "requests": {"cpu": "10m", "memory": "64Mi"},
                    "limits": {"cpu": "1", "memory": "1Gi"},
                })),
            ),
            (
                vec![&small, &large],
                requirements(json!({
                    "requests": {"cpu": "2", "memory": "64Mi", "ephemeral-storage": "1Gi"},
                    "limits": {"cpu": "2", "memory": "1Gi"},
                })),
            ),
        ];
        for (groups, expected) in cases {
            assert_eq!(largest(&groups, &default), expected, "{groups:?}");
        }
    }
}
