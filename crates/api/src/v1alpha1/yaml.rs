//! The definition as people read it: what `make crds` writes.
//!
//! A file of its own because it names the YAML writer, as one file of the agent names
//! the reader. Feature `crdgen` keeps it out of the operator.

use super::definition;

/// Above the definition.
const HEAD: &str = "\
# Written by `make crds` from crates/api/src/v1alpha1: change it there.
";

/// The definition, as it stands in `crds/`.
///
/// # Panics
///
/// Never: JSON can be written as YAML.
#[must_use]
pub fn definition_yaml() -> String {
    let yaml = serde_yaml::to_string(&definition()).expect("JSON can be written as YAML");
    format!("{HEAD}{yaml}")
}

#[cfg(test)]
mod tests {
    use crate::v1alpha1::{ReplicationGroup, ReplicationGroupSpec};

    const SHORT: &str = include_str!("../../../../examples/replication-group.yaml");
    const FULL: &str = include_str!("../../../../examples/replication-group-full.yaml");

    fn read(text: &str) -> ReplicationGroup {
        let mut group: ReplicationGroup = serde_yaml::from_str(text).expect("an example is YAML");
        group.metadata.uid = Some("6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned());
        group
    }

    #[test]
    fn examples_are_groups_without_a_problem() {
        for text in [SHORT, FULL] {
            assert_eq!(read(text).problems(), [], "{text}");
        }
    }

    #[test]
    fn the_full_example_shows_every_field_with_its_default() {
        let group = read(FULL);
        let defaults = ReplicationGroupSpec {
            selector: group.spec.selector.clone(),
            agent: group.spec.agent.clone(),
            ..ReplicationGroupSpec::new(group.spec.crdt)
        };
        assert_eq!(group.spec, defaults, "what an example shows as a default is one");

        let written: serde_yaml::Value = serde_yaml::from_str(FULL).expect("it was read");
        let known = serde_yaml::to_value(&defaults).expect("a spec can be written");
        assert_same_fields(&written["spec"], &known, "spec");
    }

    /// Comments show the fields that have no default.
    fn assert_same_fields(written: &serde_yaml::Value, known: &serde_yaml::Value, at: &str) {
        for (name, inside) in known.as_mapping().into_iter().flatten() {
            let name = name.as_str().expect("names of fields are text");
            assert!(written.get(name).is_some(), "{at}.{name} is not in the example");
            assert_same_fields(&written[name], inside, &format!("{at}.{name}"));
        }
    }
}
