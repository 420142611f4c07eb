//! What a namespace's shared objects hold. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coppice_api::cluster::{
    GROUPS_CONFIG_MAP, OPERATOR_KEY, PEERS_AUTHORITIES_KEY, PublishedOperator,
    SERVING_AUTHORITIES_KEY, key_of_group,
};
use coppice_api::v1alpha1::{ReplicationGroup, publish};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::CompleteAnnouncement;
use crate::groups::SeenGroup;
use crate::names;
use crate::reconcile::desired::owner;

/// The `ConfigMap` of a namespace.
///
/// A group that cannot be told as it is, or is paused, keeps the text of `last`, and with
/// it its members; one that is being deleted is gone.
#[must_use]
pub fn config_map(
    namespace: &str,
    groups: &[Arc<SeenGroup>],
    announced: CompleteAnnouncement<'_>,
    last: &BTreeMap<String, String>,
) -> ConfigMap {
    let mut data = BTreeMap::from([
        (OPERATOR_KEY.to_owned(), operator_text(announced.operator)),
        (SERVING_AUTHORITIES_KEY.to_owned(), announced.serving_pem.to_owned()),
        (PEERS_AUTHORITIES_KEY.to_owned(), announced.peers_pem.to_owned()),
    ]);
    for group in groups.iter().filter(|group| !group.is_deleting()) {
        let key = key_of_group(group.name());
        let text = match group.fit() {
            Some(group) if !group.spec.paused => group_text(group),
            Some(_) | None => last.get(&key).cloned(),
        };
        data.extend(text.map(|text| (key, text)));
    }
    let metadata = metadata(GROUPS_CONFIG_MAP, namespace, groups);
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

/// The `RoleBinding` of a namespace, for these accounts.
#[must_use]
pub fn role_binding(
    namespace: &str,
    groups: &[Arc<SeenGroup>],
    accounts: &BTreeSet<String>,
) -> RoleBinding {
    let subject = |account: &String| Subject {
        kind: "ServiceAccount".to_owned(),
        name: account.clone(),
        namespace: Some(namespace.to_owned()),
        api_group: None,
    };
    RoleBinding {
        metadata: metadata(names::AGENT_ROLE_BINDING, namespace, groups),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: names::AGENT_CLUSTER_ROLE.to_owned(),
        },
        subjects: Some(accounts.iter().map(subject).collect()),
    }
}

/// Shared by all groups: it goes with the last.
fn metadata(name: &str, namespace: &str, groups: &[Arc<SeenGroup>]) -> ObjectMeta {
    let owning = groups.iter().filter(|group| !group.is_deleting());
    let managed_by = (names::MANAGED_BY_LABEL.to_owned(), names::FIELD_MANAGER.to_owned());
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some([managed_by].into()),
        owner_references: Some(owning.map(|group| owner(group.metadata())).collect()),
        ..ObjectMeta::default()
    }
}

/// A group, as its agents read it; none for an object that was never stored.
#[must_use]
pub fn group_text(group: &ReplicationGroup) -> Option<String> {
    publish(group).and_then(|published| serde_json::to_string(&published).ok())
}

/// The operator, as agents read of it.
#[must_use]
pub fn operator_text(operator: &PublishedOperator) -> String {
    // Text and numbers always have a JSON form.
    serde_json::to_string(operator).unwrap_or_default()
}

/// Whether the operator made an object, and may write it.
#[must_use]
pub fn is_ours(object: &ObjectMeta) -> bool {
    let label = object.labels.as_ref().and_then(|labels| labels.get(names::MANAGED_BY_LABEL));
    label.is_some_and(|manager| manager == names::FIELD_MANAGER)
}

/// The accounts that a binding is for.
#[must_use]
pub fn accounts_of(binding: &RoleBinding) -> BTreeSet<String> {
    let subjects = binding.subjects.as_deref().unwrap_or_default();
    let accounts = subjects.iter().filter(|subject| subject.kind == "ServiceAccount");
    accounts.map(|subject| subject.name.clone()).collect()
}

/// Whether a map is as it is wanted. A key too many would tell agents of a group that is
/// gone.
#[must_use]
pub fn map_is_as_wanted(is: &ConfigMap, wanted: &ConfigMap) -> bool {
    is.data == wanted.data && has_owners(&is.metadata, &wanted.metadata)
}

/// The keys of a map that are not wanted.
#[must_use]
pub fn strange_keys(is: &ConfigMap, wanted: &ConfigMap) -> Vec<String> {
    let is_wanted =
        |key: &&String| wanted.data.as_ref().is_some_and(|wanted| wanted.contains_key(*key));
    let keys = is.data.iter().flat_map(BTreeMap::keys);
    keys.filter(|key| !is_wanted(key)).cloned().collect()
}

/// Whether a binding is as it is wanted.
#[must_use]
pub fn binding_is_as_wanted(is: &RoleBinding, wanted: &RoleBinding) -> bool {
    is.role_ref == wanted.role_ref
        && is.subjects.as_ref().map_or(0, Vec::len) == wanted.subjects.as_ref().map_or(0, Vec::len)
        && accounts_of(is) == accounts_of(wanted)
        && has_owners(&is.metadata, &wanted.metadata)
}

fn has_owners(is: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    let uids = |object: &ObjectMeta| -> BTreeSet<String> {
        let owners = object.owner_references.as_deref().unwrap_or_default();
        owners.iter().map(|owner| owner.uid.clone()).collect()
    };
    uids(is) == uids(wanted)
}

#[cfg(test)]
mod tests {
    use coppice_api::cluster::{CONTRACT_VERSION, PublishedGroup};
    use serde_json::json;

    use super::*;

    fn group(name: &str, change: impl FnOnce(&mut serde_json::Value)) -> Arc<SeenGroup> {
        let mut object = json!({
            "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
            "metadata": {
                "name": name, "namespace": "shop",
                "uid": uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes()),
            },
            "spec": {"crdt": {"type": "GSet"}, "selector": {"matchLabels": {"app": "web"}}},
        });
        change(&mut object);
        Arc::new(SeenGroup::Read(Arc::new(serde_json::from_value(object).unwrap())))
    }

    fn operator() -> PublishedOperator {
        PublishedOperator {
            version: CONTRACT_VERSION,
            cluster: "c".to_owned(),
            address: ([10, 0, 0, 1], 443).into(),
            server_name: "coppice-operator.coppice-system.svc".to_owned(),
        }
    }

    fn rendered(groups: &[Arc<SeenGroup>], last: &[(&str, &str)]) -> ConfigMap {
        let operator = operator();
        let announced =
            CompleteAnnouncement { operator: &operator, serving_pem: "S", peers_pem: "P" };
        let last = last.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        config_map("shop", groups, announced, &last)
    }

    #[test]
    fn agents_read_back_what_was_rendered() {
        let map = rendered(&[group("views", |_| {}), group("carts", |_| {})], &[]);
        let data = map.data.unwrap();
        assert_eq!(data.len(), 5);
        let published: PublishedGroup = serde_json::from_str(&data["group.views.json"]).unwrap();
        assert_eq!(published.name, "views");
        assert!(published.selects(&[("app".to_owned(), "web".to_owned())].into()));
        let read: PublishedOperator = serde_json::from_str(&data[OPERATOR_KEY]).unwrap();
        assert_eq!(read, operator());
        assert_eq!(
            (data[SERVING_AUTHORITIES_KEY].as_str(), data[PEERS_AUTHORITIES_KEY].as_str()),
            ("S", "P")
        );
        let owners = map.metadata.owner_references.unwrap();
        assert_eq!(owners.len(), 2);
        assert!(
            owners.iter().all(|owner| owner.controller.is_none()),
            "one could not own it alone"
        );
    }

    #[test]
    fn a_group_that_cannot_be_told_keeps_what_was_told_last() {
        let paused = group("views", |g| g["spec"]["paused"] = json!(true));
        let invalid = group("carts", |g| g["spec"]["selector"]["matchLabels"] = json!({}));
        let metadata = serde_json::from_value(json!({"name": "likes", "uid": "u"})).unwrap();
        let malformed = Arc::new(SeenGroup::Malformed {
            metadata: Box::new(metadata),
            error: String::new(),
            rest: None,
        });
        let last =
            [("group.views.json", "1"), ("group.carts.json", "2"), ("group.likes.json", "3")];
        let map = rendered(&[paused.clone(), invalid, malformed], &last);
        let data = map.data.unwrap();
        for (key, text) in last {
            assert_eq!(data[key], text);
        }
        assert_eq!(map.metadata.owner_references.unwrap().len(), 3, "the map is theirs too");
        let map = rendered(&[paused], &[]);
        assert!(!map.data.unwrap().contains_key("group.views.json"), "it was never told");
    }

    #[test]
    fn a_group_that_goes_is_told_no_more() {
        let going = group("views", |g| {
            g["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        });
        let map = rendered(&[going, group("carts", |_| {})], &[("group.views.json", "1")]);
        assert!(!map.data.unwrap().contains_key("group.views.json"));
        assert_eq!(map.metadata.owner_references.unwrap().len(), 1);
    }

    #[test]
    fn what_is_as_wanted_is_not_written() {
        let groups = [group("views", |_| {}), group("carts", |_| {})];
        let wanted = rendered(&groups, &[]);
        let mut is = wanted.clone();
        is.metadata.owner_references.as_mut().unwrap().reverse();
        is.metadata.uid = Some("u".to_owned());
        assert!(map_is_as_wanted(&is, &wanted));
        is.data.as_mut().unwrap().insert("group.gone.json".to_owned(), "1".to_owned());
        assert!(!map_is_as_wanted(&is, &wanted));
        assert_eq!(strange_keys(&is, &wanted), ["group.gone.json"]);
        assert!(strange_keys(&wanted, &is).is_empty());

        let accounts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let wanted = role_binding("shop", &groups, &accounts(&["a", "b"]));
        assert!(binding_is_as_wanted(&wanted.clone(), &wanted));
        assert!(!binding_is_as_wanted(&role_binding("shop", &groups, &accounts(&["a"])), &wanted));
        let mut is = wanted.clone();
        is.subjects.as_mut().unwrap().push(Subject { kind: "Group".into(), ..Subject::default() });
        assert!(!binding_is_as_wanted(&is, &wanted), "nobody else gets the right by our binding");
    }
}
