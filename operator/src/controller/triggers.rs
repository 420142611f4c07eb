//! Which groups and namespaces a change concerns.

use std::collections::BTreeSet;
use std::sync::Arc;

use coppice_api::cluster::{GROUP_LABEL, group_of_key};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use crate::context::{Announced, Context};
use crate::groups::SeenGroup;
use crate::pods::SeenPod;
use crate::schedule::Requests;
use crate::watched::{Change, Key};

/// Asks for what changes concern.
#[derive(Debug)]
pub(super) struct Triggers {
    context: Context,
    groups: Requests<Key>,
    namespaces: Requests<String>,
    changes: Changes,
}

/// Subscribed before anything is listed, so that nothing is missed.
#[derive(Debug)]
struct Changes {
    groups: broadcast::Receiver<Change<SeenGroup>>,
    pods: broadcast::Receiver<Change<SeenPod>>,
    services: broadcast::Receiver<Change<Service>>,
    config_maps: broadcast::Receiver<Change<ConfigMap>>,
    role_bindings: broadcast::Receiver<Change<k8s_openapi::api::rbac::v1::RoleBinding>>,
    announced: watch::Receiver<Announced>,
}

impl Triggers {
    pub(super) fn new(
        context: Context,
        groups: Requests<Key>,
        namespaces: Requests<String>,
    ) -> Self {
        let changes = Changes {
            groups: context.groups.watched().changes(),
            pods: context.pods.watched().changes(),
            services: context.children.services.changes(),
            config_maps: context.children.config_maps.changes(),
            role_bindings: context.children.role_bindings.changes(),
            announced: context.announced.clone(),
        };
        Self { context, groups, namespaces, changes }
    }

    /// Asks for everything once, then for what changes, for ever.
    pub(super) async fn run(mut self) {
        self.all().await;
        loop {
            // Each arm only takes the change out, so none is lost when another is ready.
            tokio::select! {
                change = self.changes.groups.recv() => match change {
                    Ok(change) => self.group(change).await,
                    Err(lag) => self.behind(&lag).await,
                },
                change = self.changes.pods.recv() => match change {
                    Ok(change) => self.pod(change).await,
                    Err(lag) => self.behind(&lag).await,
                },
                change = self.changes.services.recv() => match change {
                    Ok(change) => self.service(change).await,
                    Err(lag) => self.behind(&lag).await,
                },
                change = self.changes.config_maps.recv() => match change {
                    Ok(change) => self.config_map(change).await,
                    Err(lag) => self.behind(&lag).await,
                },
                change = self.changes.role_bindings.recv() => match change {
                    Ok(change) => self.namespaces.ask(change.key.0).await,
                    Err(lag) => self.behind(&lag).await,
                },
                Ok(()) = self.changes.announced.changed() => {
                    self.changes.announced.mark_unchanged();
                    self.all().await;
                }
            }
        }
    }

    async fn behind(&self, lag: &RecvError) {
        // Closed it cannot be: the context holds the senders.
        if let RecvError::Lagged(_) = lag {
            self.all().await;
        }
    }

    async fn all(&self) {
        let groups = self.context.groups.watched().all();
        let namespaces: BTreeSet<&String> = groups.keys().map(|(namespace, _)| namespace).collect();
        for namespace in namespaces {
            self.namespaces.ask(namespace.clone()).await;
        }
        for key in groups.into_keys() {
            self.groups.ask(key).await;
        }
    }

    async fn group(&self, change: Change<SeenGroup>) {
        let (namespace, _) = &change.key;
        if concerns_others(change.before.as_deref(), change.after.as_deref()) {
            self.namespaces.ask(namespace.clone()).await;
            // The younger ones may have come to conflict with it, or not any more.
            for group in self.context.groups.in_namespace(namespace) {
                self.groups.ask((namespace.clone(), group.name().to_owned())).await;
            }
        }
        self.groups.ask(change.key).await;
    }

    async fn pod(&self, change: Change<SeenPod>) {
        let namespace = &change.key.0;
        if changes_accounts(change.before.as_deref(), change.after.as_deref()) {
            self.namespaces.ask(namespace.clone()).await;
        }
        let states = [change.before, change.after];
        for group in self.context.groups.in_namespace(namespace) {
            let SeenGroup::Read(read) = &*group else { continue };
            let labels = &read.spec.selector.match_labels;
            if states.iter().flatten().any(|pod: &Arc<SeenPod>| pod.matches(labels)) {
                self.groups.ask((namespace.clone(), group.name().to_owned())).await;
            }
        }
    }

    async fn service(&self, change: Change<Service>) {
        let object = change.after.or(change.before);
        let labels = object.as_deref().and_then(|service| service.metadata.labels.as_ref());
        if let Some(group) = labels.and_then(|labels| labels.get(GROUP_LABEL)) {
            self.groups.ask((change.key.0, group.clone())).await;
        }
    }

    /// The namespace, and the groups whose text is another now.
    async fn config_map(&self, change: Change<ConfigMap>) {
        let namespace = change.key.0;
        let data =
            |map: Option<Arc<ConfigMap>>| map.and_then(|map| map.data.clone()).unwrap_or_default();
        let (before, after) = (data(change.before), data(change.after));
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed: Vec<&String> =
            keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).collect();
        // What belongs to no group concerns all.
        let is_for_all = changed.iter().any(|key| group_of_key(key).is_none());
        self.namespaces.ask(namespace.clone()).await;
        for group in self.context.groups.in_namespace(&namespace) {
            let name = group.name();
            if is_for_all || changed.iter().any(|key| group_of_key(key) == Some(name)) {
                self.groups.ask((namespace.clone(), name.to_owned())).await;
            }
        }
    }
}

/// Whether more changed than a group's status.
fn concerns_others(before: Option<&SeenGroup>, after: Option<&SeenGroup>) -> bool {
    let essence = |group: &SeenGroup| {
        let metadata = group.metadata();
        (
            group.uid().to_owned(),
            metadata.generation,
            group.is_deleting(),
            matches!(group, SeenGroup::Read(_)),
        )
    };
    before.map(essence) != after.map(essence)
}

/// Whether a namespace's members may have other accounts.
fn changes_accounts(before: Option<&SeenPod>, after: Option<&SeenPod>) -> bool {
    let account =
        |pod: &SeenPod| (pod.is_live() && pod.is_injected()).then(|| pod.service_account.clone());
    before.and_then(account) != after.and_then(account)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::pods::AgentContainer;

    fn group(generation: i64) -> SeenGroup {
        let metadata = serde_json::from_value(
            serde_json::json!({"name": "views", "uid": "u", "generation": generation}),
        );
        SeenGroup::Malformed {
            metadata: Box::new(metadata.unwrap()),
            error: "e".into(),
            rest: None,
        }
    }

    #[test]
    fn a_status_concerns_nobody_else() {
        let mut other_error = group(1);
        if let SeenGroup::Malformed { error, .. } = &mut other_error {
            *error = "other".to_owned();
        }
        assert!(!concerns_others(Some(&group(1)), Some(&other_error)));
        assert!(concerns_others(Some(&group(1)), Some(&group(2))));
        assert!(concerns_others(Some(&group(1)), None));
    }

    #[test]
    fn accounts_change_with_members_not_with_their_states() {
        let injected = BTreeMap::from([("coppice.dev/injected".to_owned(), "true".to_owned())]);
        let member = SeenPod {
            service_account: "web".into(),
            labels: injected,
            agent: Some(AgentContainer::default()),
            ..SeenPod::default()
        };
        let mut started = member.clone();
        started.agent.as_mut().unwrap().started = true;
        assert!(!changes_accounts(Some(&member), Some(&started)));
        assert!(changes_accounts(None, Some(&member)));
        let ending = SeenPod { is_deleting: true, ..member.clone() };
        assert!(changes_accounts(Some(&member), Some(&ending)));
    }
}
