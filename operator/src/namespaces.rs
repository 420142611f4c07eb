//! What the agents of one namespace share: the `ConfigMap` that tells them their groups,
//! and the right to see each other's addresses.
//!
//! Both are made whole, by this one reconciler, from all groups of the namespace: with one
//! per group, two would write one object, and neither would know which keys to remove.

pub mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coppice_api::cluster::GROUPS_CONFIG_MAP;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::warn;

use crate::api_client::call;
use crate::context::Context;
use crate::groups::SeenGroup;
use crate::names;
use crate::reconcile::ReconcileError;
use crate::schedule::Again;

/// How long an account keeps the right after its last pod was seen: what runs now and then
/// should not wait for it each time.
const ACCOUNT_STAYS: Duration = Duration::from_mins(10);

/// What this leader remembers of the namespaces.
#[derive(Debug, Default)]
pub struct Remembered {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By namespace: what its `ConfigMap` held last, of which groups that cannot be read
    /// now keep their part, even if the map was deleted.
    texts: BTreeMap<String, BTreeMap<String, String>>,
    /// By namespace and account: until when it keeps the right.
    accounts: BTreeMap<String, BTreeMap<String, Instant>>,
    /// By namespace: what the API server said when it took its objects last, if not.
    refusals: BTreeMap<String, String>,
    /// The namespaces whose `RoleBinding` is someone else's.
    rights_taken: BTreeSet<String>,
}

/// Brings a namespace's shared objects to where they should be.
///
/// A namespace without groups needs none: what it had goes with its last group.
///
/// # Errors
///
/// If the API server fails; it is tried again. What it refuses is remembered, for the
/// groups' conditions.
pub async fn reconcile(context: Context, namespace: String) -> Result<Again, ReconcileError> {
    let groups = context.groups.in_namespace(&namespace);
    let has_members = context.scope.contains(&namespace);
    if !has_members || groups.iter().all(|group| group.is_deleting()) {
        context.remembered.forget(&namespace);
        return Ok(Again::WhenAsked);
    }
    let written = write(&context, &namespace, &groups).await;
    match &written {
        Ok(_) => context.remembered.put_refusal(&namespace, None),
        Err(error) if error.is_refusal() => {
            context.remembered.put_refusal(&namespace, Some(error.to_string()));
        }
        // It was not reached: nothing new is known.
        Err(_) => {}
    }
    written
}

async fn write(
    context: &Context,
    namespace: &str,
    groups: &[Arc<SeenGroup>],
) -> Result<Again, ReconcileError> {
    let announced = context.announced.borrow().clone();
    if let Some(complete) = announced.complete() {
        let shown = context.children.config_maps.get(namespace, GROUPS_CONFIG_MAP);
        if shown.as_ref().is_none_or(|map| render::is_ours(&map.metadata)) {
            let data = shown.as_ref().and_then(|map| map.data.clone());
            let last = context.remembered.texts(namespace, data);
            let wanted = render::config_map(namespace, groups, complete, &last);
            let strange = shown.as_ref().map(|map| render::strange_keys(map, &wanted));
            if !shown.is_some_and(|map| render::map_is_as_wanted(&map, &wanted)) {
                let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
                if let Some(strange) = strange.filter(|keys| !keys.is_empty()) {
                    // What others own too an apply leaves, and agents would serve it.
                    warn!(namespace, ?strange, "keys that others wrote are taken out");
                    let nothing: BTreeMap<_, _> =
                        strange.into_iter().map(|key| (key, Value::Null)).collect();
                    let without = json!({"data": nothing});
                    call(api.patch(GROUPS_CONFIG_MAP, &patched(), &Patch::Merge(&without)))
                        .await
                        .map_err(ReconcileError::of("take strange keys out of its ConfigMap"))?;
                }
                call(api.patch(GROUPS_CONFIG_MAP, &applied(), &Patch::Apply(&wanted)))
                    .await
                    .map_err(ReconcileError::of("write its ConfigMap"))?;
            }
            context.remembered.put_texts(namespace, wanted.data.unwrap_or_default());
        }
    }
    let next = bind(context, namespace, groups).await?;
    Ok(next.map_or(Again::WhenAsked, Again::After))
}

/// Gives the accounts of the namespace's members the right to read `EndpointSlice`s; how
/// long until one of them is to lose it.
async fn bind(
    context: &Context,
    namespace: &str,
    groups: &[Arc<SeenGroup>],
) -> Result<Option<Duration>, ReconcileError> {
    let pods = context.pods.in_namespace(namespace);
    let members = pods.iter().filter(|pod| pod.is_live() && pod.is_injected());
    let accounts: BTreeSet<String> = members.map(|pod| pod.service_account.clone()).collect();
    let shown = context.children.role_bindings.get(namespace, names::AGENT_ROLE_BINDING);
    let bound = shown.as_deref().map(render::accounts_of).unwrap_or_default();
    let (accounts, next) = context.remembered.accounts(namespace, &accounts, bound);
    if accounts.is_empty() && shown.is_none() {
        return Ok(next);
    }
    if shown.as_ref().is_some_and(|binding| !render::is_ours(&binding.metadata)) {
        context.remembered.put_rights_taken(namespace, true);
        return Ok(next);
    }
    context.remembered.put_rights_taken(namespace, false);
    let wanted = render::role_binding(namespace, groups, &accounts);
    if !shown.is_some_and(|binding| render::binding_is_as_wanted(&binding, &wanted)) {
        let api: Api<RoleBinding> = Api::namespaced(context.client.clone(), namespace);
        call(api.patch(names::AGENT_ROLE_BINDING, &applied(), &Patch::Apply(&wanted)))
            .await
            .map_err(ReconcileError::of("write its RoleBinding"))?;
    }
    Ok(next)
}

fn patched() -> PatchParams {
    let field_manager = Some(names::FIELD_MANAGER.to_owned());
    PatchParams { field_manager, ..PatchParams::default() }
}

fn applied() -> PatchParams {
    PatchParams::apply(names::FIELD_MANAGER).force()
}

impl Remembered {
    /// What the namespace's map held last: what it shows, else what was written.
    fn texts(
        &self,
        namespace: &str,
        shown: Option<BTreeMap<String, String>>,
    ) -> BTreeMap<String, String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts = state.texts.get(namespace).cloned().unwrap_or_default();
        for (key, text) in shown.unwrap_or_default() {
            // What was written is newer than what the watch may show.
            texts.entry(key).or_insert(text);
        }
        texts
    }

    fn put_texts(&self, namespace: &str, texts: BTreeMap<String, String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.texts.insert(namespace.to_owned(), texts);
    }

    /// Why the API server did not take the namespace's objects, if it did not.
    pub fn refusal(&self, namespace: &str) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refusals.get(namespace).cloned()
    }

    /// Whether the namespace's `RoleBinding` was made by someone else, and is left.
    pub fn are_rights_taken(&self, namespace: &str) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rights_taken.contains(namespace)
    }

    fn put_rights_taken(&self, namespace: &str, are_taken: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !are_taken {
            state.rights_taken.remove(namespace);
        } else if state.rights_taken.insert(namespace.to_owned()) {
            let name = names::AGENT_ROLE_BINDING;
            warn!(namespace, name, "a RoleBinding of this name is someone else's, and is left");
        }
    }

    fn put_refusal(&self, namespace: &str, words: Option<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refusals.remove(namespace);
        state.refusals.extend(words.map(|words| (namespace.to_owned(), words)));
    }

    /// The accounts that have the right: those of pods there are, and for a while those of
    /// pods there were. And how long until one loses it.
    fn accounts(
        &self,
        namespace: &str,
        live: &BTreeSet<String>,
        bound: BTreeSet<String>,
    ) -> (BTreeSet<String>, Option<Duration>) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = !state.accounts.contains_key(namespace);
        let known = state.accounts.entry(namespace.to_owned()).or_default();
        if is_first {
            // Bound by another leader, who knew when their pods were seen.
            known.extend(bound.into_iter().map(|account| (account, now + ACCOUNT_STAYS)));
        }
        known.extend(live.iter().map(|account| (account.clone(), now + ACCOUNT_STAYS)));
        known.retain(|_, until| *until > now);
        let leaving = known.iter().filter(|(account, _)| !live.contains(*account));
        let next = leaving.map(|(_, until)| *until - now).min();
        (known.keys().cloned().collect(), next)
    }

    fn forget(&self, namespace: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.texts.remove(namespace);
        state.accounts.remove(namespace);
        state.refusals.remove(namespace);
        state.rights_taken.remove(namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_keeps_the_right_for_a_while_after_its_last_pod() {
        let remembered = Remembered::default();
        let (all, next) = remembered.accounts("a", &accounts(&["web"]), accounts(&["job"]));
        assert_eq!(all, accounts(&["job", "web"]), "what a leader before bound stays too");
        assert_eq!(next, Some(ACCOUNT_STAYS));
        tokio::time::advance(ACCOUNT_STAYS).await;
        let (all, next) = remembered.accounts("a", &accounts(&["web"]), accounts(&["job", "web"]));
        assert_eq!((all, next), (accounts(&["web"]), None));
    }

    #[tokio::test]
    async fn a_map_that_is_gone_is_remembered() {
        let remembered = Remembered::default();
        let held = |text: &str| BTreeMap::from([("k".to_owned(), text.to_owned())]);
        assert_eq!(remembered.texts("a", Some(held("shown"))), held("shown"));
        remembered.put_texts("a", held("written"));
        assert_eq!(remembered.texts("a", None), held("written"));
        assert_eq!(
            remembered.texts("a", Some(held("shown"))),
            held("written"),
            "the watch is behind"
        );
        remembered.forget("a");
        assert_eq!(remembered.texts("a", None), BTreeMap::new());
    }
}
