//! What is wrong with an object that the API server let through.
//!
//! The schema refuses all of this when an object is made, but an object may be older
//! than the schema. Only what an agent could not be given, or no pod could be made
//! with, is looked for.

use super::{ReplicationGroup, VolumeKind};
use crate::FieldProblem;
use crate::agent_config::bounds;

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
        found
    }
}

#[cfg(test)]
mod tests {
    use coppice_crdt::CrdtType;

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

    #[test]
    fn a_group_of_defaults_has_no_problem() {
        assert_eq!(group().problems(), []);
    }

    #[test]
    fn each_problem_names_its_field_in_the_object() {
        type Case = (fn(&mut ReplicationGroup), &'static str);
        let cases: [Case; 5] = [
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
