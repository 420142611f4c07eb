//! Whether anything may be written for a group, and why not. Pure.

use std::sync::Arc;

use coppice_api::v1alpha1::ReplicationGroup;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::groups::SeenGroup;
use crate::scope::Scope;

/// Why nothing is written for a group. What was written before stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The object is not what its definition says.
    Malformed(String),
    /// Its values are not ones that agents could be given; a line each.
    Invalid(Vec<String>),
    /// No pod of its namespace may be a member.
    NoMembersHere,
    /// Its user wants it left alone.
    Paused,
    /// The name of its `Service` is taken, by an object that says this of itself.
    NameTaken(String),
    /// The `Service` of a group of this name that was deleted is not gone yet.
    PredecessorGoing,
    /// The API server does not let the operator write it, in these words.
    Refused(String),
}

/// The group, if its `Service` may be written.
///
/// # Errors
///
/// [`Rejection`]: why not.
pub fn validate<'a>(
    seen: &'a SeenGroup,
    scope: &Scope,
    service: Option<&Service>,
) -> Result<&'a Arc<ReplicationGroup>, Rejection> {
    if !scope.contains(seen.metadata().namespace.as_deref().unwrap_or_default()) {
        return Err(Rejection::NoMembersHere);
    }
    let group = match seen {
        SeenGroup::Read(group) => group,
        SeenGroup::Malformed { error, .. } => return Err(Rejection::Malformed(error.clone())),
    };
    let problems = group.problems();
    if !problems.is_empty() {
        return Err(Rejection::Invalid(problems.iter().map(ToString::to_string).collect()));
    }
    if group.spec.paused {
        return Err(Rejection::Paused);
    }
    match service.map(|service| ownership(&service.metadata, &group.metadata)) {
        None | Some(Ownership::Ours) => Ok(group),
        Some(Ownership::Predecessors) => Err(Rejection::PredecessorGoing),
        Some(Ownership::Others(whose)) => Err(Rejection::NameTaken(whose)),
    }
}

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ownership {
    Ours,
    /// Of a group of this name that is gone.
    Predecessors,
    Others(String),
}

fn ownership(object: &ObjectMeta, group: &ObjectMeta) -> Ownership {
    let owners = object.owner_references.as_deref().unwrap_or_default();
    let Some(controller) = owners.iter().find(|owner| owner.controller == Some(true)) else {
        return Ownership::Others("nobody's".to_owned());
    };
    if Some(&controller.uid) == group.uid.as_ref() {
        Ownership::Ours
    } else if controller.kind == "ReplicationGroup" && Some(&controller.name) == group.name.as_ref()
    {
        Ownership::Predecessors
    } else {
        Ownership::Others(format!("the {} {}'s", controller.kind, controller.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::desired;
    use super::*;

    fn group(change: impl FnOnce(&mut serde_json::Value)) -> SeenGroup {
        let mut object = json!({
            "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
            "metadata": {
                "name": "views", "namespace": "shop", "uid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            },
            "spec": {"crdt": {"type": "GSet"}, "selector": {"matchLabels": {"app": "web"}}},
        });
        change(&mut object);
        SeenGroup::Read(Arc::new(serde_json::from_value(object).unwrap()))
    }

    fn everywhere() -> Scope {
        Scope::new([].into(), "platform")
    }

    #[test]
    fn no_pod_of_some_namespaces_may_be_a_member() {
        for namespace in ["kube-system", "platform"] {
            let seen = group(|group| group["metadata"]["namespace"] = json!(namespace));
            assert_eq!(validate(&seen, &everywhere(), None), Err(Rejection::NoMembersHere));
        }
    }

    #[test]
    fn a_good_group_may_be_written_with_no_service_or_its_own() {
        let seen = group(|_| {});
        let SeenGroup::Read(read) = &seen else { unreachable!("it was read") };
        assert!(validate(&seen, &everywhere(), None).is_ok());
        assert!(validate(&seen, &everywhere(), Some(&desired::peers(read))).is_ok());
    }

    #[test]
    fn each_reason_to_write_nothing_is_told_apart() {
        let good = group(|_| {});
        let SeenGroup::Read(read) = &good else { unreachable!("it was read") };
        let mut predecessors = desired::peers(read);
        predecessors.metadata.owner_references.as_mut().unwrap()[0].uid = "another".to_owned();
        let mut nobodys = desired::peers(read);
        nobodys.metadata.owner_references = None;
        let mut helms = predecessors.clone();
        helms.metadata.owner_references.as_mut().unwrap()[0].kind = "Release".to_owned();
        let malformed = SeenGroup::Malformed {
            metadata: Box::default(),
            error: "no spec".to_owned(),
            rest: None,
        };

        assert_eq!(
            validate(&malformed, &everywhere(), None),
            Err(Rejection::Malformed("no spec".to_owned()))
        );
        assert_eq!(
            validate(&group(|g| g["spec"]["paused"] = json!(true)), &everywhere(), None),
            Err(Rejection::Paused)
        );
        assert_eq!(
            validate(&good, &everywhere(), Some(&predecessors)),
            Err(Rejection::PredecessorGoing)
        );
        assert_eq!(
            validate(&good, &everywhere(), Some(&nobodys)),
            Err(Rejection::NameTaken("nobody's".to_owned())),
            "a Service that someone made by hand is theirs"
        );
        assert!(matches!(
            validate(&good, &everywhere(), Some(&helms)),
            Err(Rejection::NameTaken(_))
        ));
        let empty = group(|g| g["spec"]["selector"]["matchLabels"] = json!({}));
        assert!(
            matches!(validate(&empty, &everywhere(), None), Err(Rejection::Invalid(lines)) if lines.len() == 1)
        );
    }
}
