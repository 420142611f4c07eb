//! The groups, on every replica: injection needs them as much as the leader.
//!
//! An object that is not what its definition says (it may be older than the definition)
//! is kept as such, and stops none of the others.

use std::sync::Arc;

use coppice_api::v1alpha1::{ReplicationGroup, ReplicationGroupSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::metrics::Metrics;
use crate::scope::Scope;
use crate::watched::{Source, Watch, Watched, follow};

/// A group's object, as far as it could be read.
#[derive(Clone, Debug, PartialEq)]
pub enum SeenGroup {
    /// It could.
    Read(Arc<ReplicationGroup>),
    /// It could not.
    Malformed {
        /// What there is of it.
        metadata: Box<ObjectMeta>,
        /// Why not.
        error: String,
        /// What of its spec could be, if that says who its members are.
        rest: Option<Arc<ReplicationGroup>>,
    },
}

/// All groups that are looked after. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct GroupStore {
    groups: Watched<SeenGroup>,
}

/// The watches that feed a [`GroupStore`].
pub struct GroupWatches {
    watches: Vec<(Source<SeenGroup>, Api<DynamicObject>)>,
    watch: Watch,
    metrics: Metrics,
}

impl SeenGroup {
    /// What is kept of an object.
    #[must_use]
    pub fn of(object: DynamicObject) -> Self {
        let DynamicObject { mut metadata, mut data, .. } = object;
        metadata.managed_fields = None;
        let raw = data.get_mut("spec").map(Value::take);
        let spec = match &raw {
            Some(spec) => read(spec),
            None => Err("it has no spec".to_owned()),
        };
        match spec {
            Ok(spec) => {
                // What cannot be read of a status is written anew.
                let status = data.get_mut("status").map(Value::take).unwrap_or_default();
                let status = serde_json::from_value(status).ok();
                Self::Read(Arc::new(ReplicationGroup { metadata, spec, status }))
            }
            Err(error) => {
                let rest = raw.and_then(|raw| read_rest(&raw)).map(|spec| {
                    let metadata = metadata.clone();
                    Arc::new(ReplicationGroup { metadata, spec, status: None })
                });
                Self::Malformed { metadata: Box::new(metadata), error, rest }
            }
        }
    }

    /// The object's metadata.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Read(group) => &group.metadata,
            Self::Malformed { metadata, .. } => metadata,
        }
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// The object's UID.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    /// Whether it is being deleted, which is as good as gone.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }

    /// The group, if agents can be told of it as it is.
    #[must_use]
    pub fn fit(&self) -> Option<&Arc<ReplicationGroup>> {
        match self {
            Self::Read(group) if !self.is_deleting() && group.problems().is_empty() => Some(group),
            Self::Read(_) | Self::Malformed { .. } => None,
        }
    }

    /// The group for its pods, if it says who they are, whose data it is, and where that
    /// is: also of one that agents cannot be told of as it is, since they go on with what
    /// they were told before.
    #[must_use]
    pub fn standing(&self) -> Option<&Arc<ReplicationGroup>> {
        let group = match self {
            Self::Read(group) => group,
            Self::Malformed { rest, .. } => rest.as_ref()?,
        };
        let problems = group.problems();
        let mut paths = problems.iter().map(|problem| problem.path.as_str());
        let is_of_pods = |path: &str| {
            ["metadata", "spec.id", "spec.selector", "spec.storage"]
                .iter()
                .any(|field| path.starts_with(field))
        };
        (!self.is_deleting() && !paths.any(is_of_pods)).then_some(group)
    }

    /// Orders by age, the oldest first; of equally old ones by name.
    #[must_use]
    pub fn seniority(&self) -> (Timestamp, String) {
        let created = self.metadata().creation_timestamp.as_ref();
        (created.map_or(Timestamp::MAX, |time| time.0), self.name().to_owned())
    }
}

impl GroupStore {
    /// A store, and the watches that fill it while they run.
    #[must_use]
    pub fn new(client: &Client, scope: &Scope, metrics: Metrics) -> (Self, GroupWatches) {
        let groups = Watched::new();
        let watch = Watch::all("replicationgroups").within(scope);
        let watches = scope
            .untyped_apis(client, &ApiResource::erase::<ReplicationGroup>(&()))
            .into_iter()
            .map(|(place, api)| (groups.source(&place), api))
            .collect();
        (Self { groups }, GroupWatches { watches, watch, metrics })
    }

    /// One group.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<SeenGroup>> {
        self.groups.get(namespace, name)
    }

    /// The groups of a namespace, the oldest first.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<SeenGroup>> {
        let mut groups = self.groups.in_namespace(namespace);
        groups.sort_by_cached_key(|group| group.seniority());
        groups
    }

    /// Those of a namespace that agents can be told of as they are, the oldest first.
    #[must_use]
    pub fn fit_in_namespace(&self, namespace: &str) -> Vec<Arc<ReplicationGroup>> {
        let groups = self.in_namespace(namespace);
        groups.iter().filter_map(|group| group.fit().cloned()).collect()
    }

    /// Those of a namespace that its pods are of, the oldest first: see
    /// [`SeenGroup::standing`].
    #[must_use]
    pub fn standing_in_namespace(&self, namespace: &str) -> Vec<Arc<ReplicationGroup>> {
        let groups = self.in_namespace(namespace);
        groups.iter().filter_map(|group| group.standing().cloned()).collect()
    }

    /// What is under the store: all groups, and changes.
    #[must_use]
    pub fn watched(&self) -> &Watched<SeenGroup> {
        &self.groups
    }
}

impl GroupWatches {
    /// Watches for ever.
    pub async fn run(self) {
        let mut set = JoinSet::new();
        for (source, api) in self.watches {
            let events = self.watch.clone().events(api, self.metrics.clone());
            set.spawn(follow(events, source, |object| Some(SeenGroup::of(object))));
        }
        while let Some(ended) = set.join_next().await {
            // A watch never ends by itself, and one that panicked would be missed.
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

impl std::fmt::Debug for GroupWatches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupWatches").field("watches", &self.watches.len()).finish_non_exhaustive()
    }
}

/// The groups of a namespace, as they are.
#[must_use]
pub fn groups_of(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<ReplicationGroup>(&());
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// What a spec says, or where in it something is not what it should be.
fn read(spec: &Value) -> Result<ReplicationGroupSpec, String> {
    serde_path_to_error::deserialize(spec).map_err(|error| {
        let path = error.path().to_string();
        // A field that is missing is missing from the whole.
        let place = if path == "." { "spec".to_owned() } else { format!("spec.{path}") };
        format!("{place}: {}", error.into_inner())
    })
}

/// What can be read of a spec, field by field; none if that is not who the members are,
/// whose data it is, and where. Its type may not be the group's.
fn read_rest(spec: &Value) -> Option<ReplicationGroupSpec> {
    let fields = spec.as_object()?;
    let mut rest = json!({"crdt": {"type": "GSet"}, "selector": fields.get("selector")?});
    for (name, value) in fields {
        let mut with = rest.clone();
        with[name] = value.clone();
        if read(&with).is_ok() {
            rest = with;
        } else if ["id", "selector", "storage"].contains(&name.as_str()) {
            return None;
        }
    }
    read(&rest).ok()
}

/// Namespace and name of an object, as a watch has them.
#[must_use]
pub fn key_of(group: &ReplicationGroup) -> (String, String) {
    (group.namespace().unwrap_or_default(), group.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(object: serde_json::Value) -> SeenGroup {
        SeenGroup::of(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn an_object_that_cannot_be_read_is_known_by_its_metadata() {
        let metadata = json!({"name": "old", "namespace": "shop", "uid": "u"});
        let group = seen(json!({
            "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
            "metadata": metadata, "spec": {"crdt": {"type": "Teapot"}, "selector": 7},
        }));
        assert!(matches!(group, SeenGroup::Malformed { .. }));
        assert_eq!((group.name(), group.uid()), ("old", "u"));
        assert!(group.fit().is_none());
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        let told = |spec: serde_json::Value| {
            let object = json!({
                "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
                "metadata": {"name": "old"}, "spec": spec,
            });
            match seen(object) {
                SeenGroup::Malformed { error, .. } => error,
                SeenGroup::Read(group) => panic!("it was read: {group:?}"),
            }
        };
        let with = |field: &str, value: serde_json::Value| {
            let mut spec = json!({
                "crdt": {"type": "GSet"}, "selector": {"matchLabels": {"app": "web"}},
            });
            spec[field] = value;
            told(spec)
        };
        for (error, place) in [
            (with("crdt", json!({"type": 42})), "spec.crdt.type: "),
            (with("sync", json!("often")), "spec.sync: "),
            (with("sync", json!({"interval": []})), "spec.sync.interval: "),
            (
                with("selector", json!({"matchLabels": {"app": 7}})),
                "spec.selector.matchLabels.app: ",
            ),
            (
                told(json!({"selector": {"matchLabels": {"app": "web"}}})),
                "spec: missing field `crdt`",
            ),
            (told(json!(null)), "spec: "),
        ] {
            assert!(error.starts_with(place), "{place}, not {error}");
        }
        let bare = json!({
            "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
            "metadata": {"name": "old"},
        });
        assert!(
            matches!(seen(bare), SeenGroup::Malformed { error, .. } if error == "it has no spec")
        );
    }

    #[test]
    fn a_group_that_cannot_be_told_keeps_its_pods_and_their_volume() {
        let group = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut object = json!({
                "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
                "metadata": {"name": "views", "uid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
                "spec": {
                    "crdt": {"type": "GSet"}, "selector": {"matchLabels": {"app": "web"}},
                    "storage": {"volume": "PodVolume", "volumeName": "data"},
                },
            });
            change(&mut object["spec"]);
            seen(object)
        };
        for (what, seen) in [
            ("a malformed interval", group(&|spec| spec["sync"] = json!({"interval": 7}))),
            ("a malformed type", group(&|spec| spec["crdt"] = json!({"type": "Teapot"}))),
            ("one out of bounds", group(&|spec| spec["sync"] = json!({"interval": "9000h"}))),
        ] {
            assert!(seen.fit().is_none(), "{what}");
            let standing = seen.standing().expect(what);
            assert_eq!(standing.spec.storage.volume_name.as_deref(), Some("data"), "{what}");
            assert_eq!(standing.spec.selector.match_labels["app"], "web", "{what}");
        }
        for (what, seen) in [
            ("no pods", group(&|spec| spec["selector"] = json!({"matchLabels": {}}))),
            ("malformed pods", group(&|spec| spec["selector"] = json!(7))),
            ("a malformed volume", group(&|spec| spec["storage"] = json!({"volume": 7}))),
            ("no volume", group(&|spec| spec["storage"] = json!({"volume": "PodVolume"}))),
            ("a malformed id", group(&|spec| spec["id"] = json!("mine"))),
        ] {
            assert!(seen.standing().is_none(), "{what}");
        }
    }

    #[test]
    fn a_status_that_cannot_be_read_does_not_matter() {
        let group = seen(json!({
            "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
            "metadata": {"name": "views", "uid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
            "spec": {"crdt": {"type": "GSet"}, "selector": {"matchLabels": {"app": "web"}}},
            "status": {"conditions": "none"},
        }));
        assert!(group.fit().is_some_and(|group| group.status.is_none()));
    }

    #[test]
    fn a_group_with_a_problem_or_about_to_go_is_not_fit() {
        let group = |name: &str, deleted: bool| {
            let mut object = json!({
                "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
                "metadata": {"name": name, "uid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
                "spec": {"crdt": {"type": "GSet"}, "selector": {"matchLabels": {"app": "web"}}},
            });
            if deleted {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            seen(object)
        };
        assert!(group("views", false).fit().is_some());
        assert!(group("views", true).fit().is_none());
        assert!(group("Views", false).fit().is_none(), "no agent could be told of such a name");
    }
}
