//! What a group needs in its namespace. Pure, and cannot fail.

use std::collections::BTreeMap;

use coppice_api::cluster::{GROUP_LABEL, INJECTED_LABEL, PEERS_PORT, peer_service};
use coppice_api::v1alpha1::ReplicationGroup;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;

use crate::names;

/// The headless `Service` behind which members find each other.
///
/// Kubernetes copies its label `coppice.dev/group` to its `EndpointSlice`s, by which
/// agents select. Agents that are not ready are in it too: they have to find peers to
/// become so.
#[must_use]
pub fn peers(group: &ReplicationGroup) -> Service {
    let name = group.metadata.name.clone().unwrap_or_default();
    let mut selector = group.spec.selector.match_labels.clone();
    selector.insert(INJECTED_LABEL.to_owned(), "true".to_owned());
    let labels = [
        (GROUP_LABEL.to_owned(), name.clone()),
        (names::MANAGED_BY_LABEL.to_owned(), names::FIELD_MANAGER.to_owned()),
    ];
    Service {
        metadata: ObjectMeta {
            name: Some(peer_service(&name)),
            namespace: group.metadata.namespace.clone(),
            labels: Some(labels.into()),
            owner_references: Some(vec![OwnerReference {
                controller: Some(true),
                ..owner(&group.metadata)
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector),
            ports: Some(vec![ServicePort {
                name: Some(names::PEERS_PORT_NAME.to_owned()),
                port: i32::from(PEERS_PORT),
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(i32::from(PEERS_PORT))),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// A group as an owner, of several perhaps: it does not hold up the group's deletion.
#[must_use]
pub fn owner(group: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: ReplicationGroup::api_version(&()).into_owned(),
        kind: ReplicationGroup::kind(&()).into_owned(),
        name: group.name.clone().unwrap_or_default(),
        uid: group.uid.clone().unwrap_or_default(),
        controller: None,
        block_owner_deletion: None,
    }
}

/// Whether `is` has all that `wanted` asks for; what others or the API server added does
/// not count.
#[must_use]
pub fn covers(is: &serde_json::Value, wanted: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object};
    match (is, wanted) {
        (Object(is), Object(wanted)) => {
            wanted.iter().all(|(key, value)| is.get(key).is_some_and(|has| covers(has, value)))
        }
        (Array(is), Array(wanted)) => {
            is.len() == wanted.len() && is.iter().zip(wanted).all(|(is, wanted)| covers(is, wanted))
        }
        _ => is == wanted,
    }
}

/// Whether the `Service` is as it is wanted. Labels to select by must be equal: one more
/// would select fewer pods.
#[must_use]
pub fn is_as_wanted(is: &Service, wanted: &Service) -> bool {
    let selector = |service: &Service| -> Option<BTreeMap<String, String>> {
        service.spec.as_ref()?.selector.clone()
    };
    let json = |service: &Service| serde_json::to_value(service).unwrap_or_default();
    selector(is) == selector(wanted) && covers(&json(is), &json(wanted))
}

#[cfg(test)]
mod tests {
    use coppice_api::CrdtSpec;
    use coppice_api::v1alpha1::{ReplicationGroupSpec, Selector};

    use super::*;

    fn group() -> ReplicationGroup {
        let crdt: CrdtSpec = serde_json::from_value(serde_json::json!({"type": "GSet"})).unwrap();
        let match_labels = [("app".to_owned(), "web".to_owned())].into();
        let spec = ReplicationGroupSpec {
            selector: Selector { match_labels },
            ..ReplicationGroupSpec::new(crdt)
        };
        let mut group = ReplicationGroup::new("views", spec);
        group.metadata.namespace = Some("shop".to_owned());
        group.metadata.uid = Some("u".to_owned());
        group.metadata.labels = Some([("team".to_owned(), "blue".to_owned())].into());
        group
    }

    #[test]
    fn peers_are_the_injected_pods_ready_or_not() {
        let service = peers(&group());
        let spec = service.spec.as_ref().unwrap();
        assert_eq!(service.metadata.name.as_deref(), Some("coppice-g-views"));
        assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
        assert_eq!(spec.publish_not_ready_addresses, Some(true));
        let selector = spec.selector.as_ref().unwrap();
        assert_eq!(selector.len(), 2);
        assert_eq!(selector[INJECTED_LABEL], "true", "an app's pod without an agent is no peer");
        let labels = service.metadata.labels.as_ref().unwrap();
        assert_eq!(labels[GROUP_LABEL], "views");
        assert!(!labels.contains_key("team"), "children copy none of the group's labels");
        let owners = service.metadata.owner_references.unwrap();
        assert_eq!((owners.len(), owners[0].controller), (1, Some(true)));
    }

    #[test]
    fn what_others_add_is_left_and_what_they_change_is_not() {
        let wanted = peers(&group());
        let mut is = wanted.clone();
        is.metadata.uid = Some("s".to_owned());
        is.metadata.annotations = Some([("seen".to_owned(), "by others".to_owned())].into());
        is.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".to_owned()]);
        assert!(is_as_wanted(&is, &wanted));

        let spec = is.spec.as_mut().unwrap();
        spec.selector.as_mut().unwrap().insert("tier".to_owned(), "front".to_owned());
        assert!(!is_as_wanted(&is, &wanted), "it would select fewer pods");
        is = wanted.clone();
        is.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].port = 1;
        assert!(!is_as_wanted(&is, &wanted));
        is = wanted.clone();
        is.metadata.labels = None;
        assert!(!is_as_wanted(&is, &wanted));
    }
}
