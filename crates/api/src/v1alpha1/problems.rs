//! What is wrong with an object that the API server let through.
//!
//! The schema refuses all of this when an object is made, but an object may be older
//! than the schema. Only what an agent could not be given, or no pod could be made
//! with, is looked for.

use k8s_openapi::api::core::v1::ResourceRequirements;

use super::rules::RESOURCES;
use super::{ReplicationGroup, VolumeKind};
use crate::FieldProblem;
use crate::agent_config::bounds;
use crate::cluster::SIDECAR_VOLUMES;

impl ReplicationGroup {
    /// All that is wrong with the values; empty: agents can be told of the group.
    #[must_use]
    pub fn problems(&self) -> Vec<FieldProblem> {
        let mut found = Vec::new();
        if let Some(published) = super::publish(self) {
            let of_group = |mut problem: FieldProblem| {
                let of_object = if problem.path == "name" { "metadata" } else { "spec" };
                problem.path = format!("{of_object}.{}", problem.path);
                problem
            };
            found.extend(published.group().problems().into_iter().map(of_group));
        }
        let mut add = |path: &str, message: String| {
            found.push(FieldProblem { path: format!("spec.{path}"), message });
        };
        if self.spec.selector.match_labels.is_empty() {
            add("selector.matchLabels", "is empty: name a label that your pods carry".to_owned());
        }
        let volume = &self.spec.storage;
        let (least, most) = bounds::VOLUME_SIZE;
        if volume.size < least || volume.size > most {
            let size = volume.size;
            add("storage.size", format!("{size} is out of bounds: use {least} to {most}"));
        }
        if (volume.volume == VolumeKind::PodVolume) != volume.volume_name.is_some() {
            let mend = "name the volume of the pods that keeps the data, with PodVolume only";
            add("storage.volumeName", mend.to_owned());
        }
        if let Some(name) = &volume.volume_name
            && SIDECAR_VOLUMES.contains(&name.as_str())
        {
            let whose = format!("{name:?} comes with the sidecar");
            add("storage.volumeName", format!("{whose}: name a volume that the pods declare"));
        }
        for (path, message) in resource_problems(&self.spec.agent.resources) {
            add(&path, message);
        }
        found
    }
}

/// What would make a container with these invalid; where a request is above its limit,
/// the limit is raised.
fn resource_problems(resources: &ResourceRequirements) -> Vec<(String, String)> {
    let lists = [("requests", &resources.requests), ("limits", &resources.limits)];
    let mut found = Vec::new();
    for (list, amounts) in lists {
        for (name, amount) in amounts.iter().flatten() {
            let path = || format!("agent.resources.{list}.{name}");
            if !RESOURCES.contains(&name.as_str()) {
                found.push((
                    path(),
                    format!("an agent has no use for it: use {}", RESOURCES.join(", ")),
                ));
            } else if !is_amount(&amount.0) {
                let mend =
                    "write a number that is not negative, as in 100m for cpu and 64Mi for memory";
                found.push((path(), format!("{:?} is no amount: {mend}", amount.0)));
            }
        }
    }
    found
}

/// Whether [`AMOUNT`](super::rules::AMOUNT) matches.
fn is_amount(text: &str) -> bool {
    let text = text.strip_prefix('+').unwrap_or(text);
    let unit = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let (number, unit) = text.split_at(unit.unwrap_or(text.len()));
    let is_number = number.bytes().any(|byte| byte.is_ascii_digit())
        && number.bytes().filter(|byte| *byte == b'.').count() <= 1;
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_unit = match unit.strip_suffix('i') {
        Some(prefix) => ["K", "M", "G", "T", "P", "E"].contains(&prefix),
        None => ["", "n", "u", "m", "k", "M", "G", "T", "P", "E"].contains(&unit),
    };
    let exponent = unit.strip_prefix(['e', 'E']);
    let exponent = exponent.map(|digits| digits.strip_prefix(['+', '-']).unwrap_or(digits));
    is_number
        && (is_unit
            || exponent.is_some_and(|digits| matches!(digits.len(), 1 | 2) && is_digits(digits)))
}

#[cfg(test)]
mod tests {
    use coppice_crdt::CrdtType;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;
    use crate::v1alpha1::{ReplicationGroupSpec, Selector};
    use crate::{CrdtSpec, TextDuration};

    fn group() -> ReplicationGroup {
        let match_labels = [("app".to_owned(), "web".to_owned())].into();
        let spec = ReplicationGroupSpec {
            selector: Selector { match_labels },
            ..ReplicationGroupSpec::new(CrdtSpec { crdt_type: CrdtType::GSet })
        };
        let mut group = ReplicationGroup::new("views", spec);
        group.metadata.uid = Some("6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned());
        group
    }

    fn ask(group: &mut ReplicationGroup, name: &str, amount: &str) {
        let amount = Quantity(amount.to_owned());
        group.spec.agent.resources.requests = Some([(name.to_owned(), amount)].into());
    }

    #[test]
    fn amounts_are_what_kubernetes_can_parse_and_not_negative() {
        for good in ["0", "1", "25m", "1.5Gi", ".5", "5.", "+1", "1e3", "1E-2", "1E", "1Ei", "128k"]
        {
            assert!(is_amount(good), "{good:?}");
        }
        for bad in
            ["", "-1", "-64Mi", "much", ".", "1..5", "1.2.3", "64MiB", "1K", "1ki", "1 Mi", "1e"]
                .into_iter()
                .chain(["1e400", "1e1.5", "1i", "Mi", "++1", "+-1", "1e+-1", "\u{663}"])
        {
            assert!(!is_amount(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_group_of_defaults_has_no_problem() {
        assert_eq!(group().problems(), []);
    }

    #[test]
    fn each_problem_names_its_field_in_the_object() {
        type Case = (fn(&mut ReplicationGroup), &'static str);
        let cases: [Case; 8] = [
            (|g| g.metadata.name = Some("Views".into()), "metadata.name: \"Views\" is no group's"),
            (
                |g| g.spec.sync.interval = TextDuration::from_millis(1),
                "spec.sync.interval: 1ms is out of bounds: use 100ms to 1h",
            ),
            (|g| g.spec.selector = Selector::default(), "spec.selector.matchLabels: is empty"),
            (
                |g| g.spec.storage.size = crate::ByteSize::bytes(1),
                "spec.storage.size: 1 is out of bounds: use 64Mi to 64Ti",
            ),
            (|g| g.spec.storage.volume = VolumeKind::PodVolume, "spec.storage.volumeName: name"),
            (
                |g| {
                    g.spec.storage.volume = VolumeKind::PodVolume;
                    g.spec.storage.volume_name = Some("coppice-data".into());
                },
                "spec.storage.volumeName: \"coppice-data\" comes with the sidecar: name",
            ),
            (
                |g| ask(g, "hugepages-2Mi", "2Mi"),
                "spec.agent.resources.requests.hugepages-2Mi: an agent has no use for it: use cpu,",
            ),
            (
                |g| ask(g, "cpu", "-1"),
                "spec.agent.resources.requests.cpu: \"-1\" is no amount: write a number",
            ),
        ];
        for (change, expected) in cases {
            let mut group = group();
            change(&mut group);
            let found: Vec<_> = group.problems().iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), 1, "{expected}: {found:?}");
            assert!(found[0].starts_with(expected), "expected {expected:?}, found {found:?}");
        }
    }
}
