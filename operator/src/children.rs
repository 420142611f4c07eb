//! What the operator has made in others' namespaces, as it is now. Watched by the leader,
//! so that what is deleted or changed by hand is put right, and nothing is written that is
//! there already.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use coppice_api::cluster::{GROUP_LABEL, GROUPS_CONFIG_MAP};

use crate::metrics::Metrics;
use crate::names;
use crate::scope::Scope;
use crate::watched::{Watch, Watched, follow};

/// The peer `Service`s, the `ConfigMap`s and the `RoleBinding`s. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Children {
    /// Every `Service` with the label of a group.
    pub services: Watched<Service>,
    /// Every `ConfigMap` of the name that agents mount.
    pub config_maps: Watched<ConfigMap>,
    /// Every `RoleBinding` of the name that agents are bound by.
    pub role_bindings: Watched<RoleBinding>,
}

impl Children {
    /// Watches until dropped. The lists count as awaited as soon as this returns.
    pub fn watch(
        &self,
        client: &Client,
        scope: &Scope,
        metrics: &Metrics,
    ) -> impl Future<Output = ()> + Send + use<> {
        let by_name = |name: &str| format!("metadata.name={name}");
        let services = Watch::all("services").labels(GROUP_LABEL).within(scope);
        let config_maps = Watch::all("configmaps").fields(by_name(GROUPS_CONFIG_MAP)).within(scope);
        let bindings =
            Watch::all("rolebindings").fields(by_name(names::AGENT_ROLE_BINDING)).within(scope);
        let mut follows = each(&services, &self.services, client, scope, metrics);
        follows.extend(each(&config_maps, &self.config_maps, client, scope, metrics));
        follows.extend(each(&bindings, &self.role_bindings, client, scope, metrics));
        async move {
            // Only for their side effects; none ends.
            futures_util::future::join_all(follows).await;
        }
    }

    /// Returns once all lists are there.
    pub async fn synced(&self) {
        self.services.synced().await;
        self.config_maps.synced().await;
        self.role_bindings.synced().await;
    }
}

/// A watch wherever the operator looks after something.
fn each<K>(
    watch: &Watch,
    into: &Watched<K>,
    client: &Client,
    scope: &Scope,
    metrics: &Metrics,
) -> Vec<BoxFuture<'static, ()>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + PartialEq
        + Send
        + Sync
        + 'static,
{
    let one = |(place, api): (String, kube::Api<K>)| {
        let events = watch.clone().events(api, metrics.clone());
        follow(events, into.source(&place), |object| Some(pruned(object))).boxed()
    };
    scope.apis::<K>(client).into_iter().map(one).collect()
}

/// Without what changes with every write.
fn pruned<K>(mut object: K) -> K
where
    K: Resource<Scope = NamespaceResourceScope>,
{
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    metadata.resource_version = None;
    object
}
