//! Workloads whose pods the API server refuses, and asking them to try again.
//!
//! Whoever was to make the pods writes it down as an event `FailedCreate` on itself. Of
//! each such workload the object is looked at: which pods it would have made, and
//! whether it still lacks some. While it does, it is looked at again and again.
//!
//! What the policy `coppice-injected` refused was refused because the webhook could not
//! be asked. Its maker would try again after up to 16 minutes; a change of its object
//! makes it try at once, so an annotation is changed until it has its pods.

mod workload;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Event as CoreEvent;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::watcher::Event;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info};

use crate::context::Context;
use crate::names;
use crate::pods::Owner;
use crate::schedule::Requests;
use crate::scope::Scope;
use crate::watched::{Key, Watch};

use workload::{Kind, Standing};

/// Between two looks at the workloads that lack pods.
const PERIOD: Duration = Duration::from_secs(5);
/// Between two looks at one workload, or two attempts: two of them, and the start of a
/// pod, fit into half a minute.
const EACH: Duration = Duration::from_secs(10);
/// How many are looked at in one period; the others have their turn in the next.
const AT_A_TIME: usize = 40;
/// How many are remembered; of more only the newest are told.
const REMEMBERED: usize = 1000;
/// The policy's words for a pod that may have its sidecar the next time. What it refuses
/// for another reason, it would refuse again.
const LACKING: &str = "no coppice-agent sidecar";
/// How much of the API server's words is kept.
const WORDS: usize = 600;

/// A workload whose pods are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What was to make the pods.
    pub owner: Owner,
    /// Its namespace.
    pub namespace: String,
    /// What people would change, as `kubectl` names it.
    pub workload: String,
    /// The labels that its pods would have.
    pub labels: BTreeMap<String, String>,
    /// The API server's words.
    pub message: String,
}

/// The denials that stand. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Denials {
    /// By the owner's UID.
    standing: Arc<Mutex<BTreeMap<String, Denial>>>,
}

/// A workload of which an event told, and that may lack pods.
#[derive(Clone, Debug)]
struct Suspect {
    owner: Owner,
    kind: Kind,
    namespace: String,
    message: String,
    told: Timestamp,
    /// When it is looked at next.
    due: Instant,
}

/// Follows the events, for as long as this replica leads.
#[derive(Debug)]
pub struct Follower {
    context: Context,
    groups: Requests<Key>,
    retries: bool,
    suspects: BTreeMap<String, Suspect>,
}

// === impl Denial ===

impl Denial {
    /// The owner as `kubectl` names it.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("{}/{}", self.owner.kind.to_lowercase(), self.owner.name)
    }

    /// Whether the sidecar was lacking, which passes when the webhook can be asked again.
    fn is_of_policy(&self) -> bool {
        is_of_policy(&self.message)
    }
}

// === impl Denials ===

impl Denials {
    /// Those in a namespace whose pods would have all of these labels.
    #[must_use]
    pub fn matching(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Denial> {
        let has = |denial: &Denial| {
            labels.iter().all(|(key, value)| denial.labels.get(key) == Some(value))
        };
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let those = standing.values().filter(|denial| denial.namespace == namespace && has(denial));
        if labels.is_empty() { Vec::new() } else { those.cloned().collect() }
    }

    /// Puts a denial, or takes it away; whether anything changed.
    fn set(&self, owner: &str, denial: Option<Denial>) -> bool {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = standing.remove(owner);
        let differs = before != denial;
        standing.extend(denial.map(|denial| (owner.to_owned(), denial)));
        differs
    }
}

// === impl Follower ===

impl Follower {
    /// Keeps the context's denials current; asks for the groups of a namespace when one
    /// changes; makes what the policy refused try again, if `retries`.
    #[must_use]
    pub fn new(context: Context, groups: Requests<Key>, retries: bool) -> Self {
        Self { context, groups, retries, suspects: BTreeMap::new() }
    }

    /// Follows for ever.
    pub async fn run(mut self, client: Client, scope: Scope) {
        let mut events = self.events(&client, &scope);
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(event) = events.next() => {
                    self.hear(event);
                    // A list is one run of events that are there already.
                    while let Some(Some(event)) = events.next().now_or_never() {
                        self.hear(event);
                    }
                }
                _ = ticks.tick() => {}
            }
            self.look().await;
        }
    }

    fn events(
        &self,
        client: &Client,
        scope: &Scope,
    ) -> SelectAll<BoxStream<'static, Event<CoreEvent>>> {
        let watch = Watch::all("events").fields("reason=FailedCreate");
        let one = |(_, api)| watch.clone().events(api, self.context.metrics.clone());
        scope.apis::<CoreEvent>(client).into_iter().map(one).collect()
    }

    /// Remembers of whom an event tells.
    fn hear(&mut self, event: Event<CoreEvent>) {
        let (Event::Apply(event) | Event::InitApply(event)) = event else { return };
        let Some(suspect) = Suspect::of(event) else { return };
        let known = self.suspects.get(&suspect.owner.uid);
        if known.is_some_and(|known| known.told >= suspect.told) {
            return;
        }
        // One that is tried again writes an event each time, and keeps its turn.
        let due = known.map_or(suspect.due, |known| known.due);
        self.suspects.insert(suspect.owner.uid.clone(), Suspect { due, ..suspect });
        while self.suspects.len() > REMEMBERED {
            let oldest = self.suspects.values().min_by_key(|suspect| suspect.told);
            let Some(uid) = oldest.map(|suspect| suspect.owner.uid.clone()) else { break };
            self.suspects.remove(&uid);
            self.context.denials.set(&uid, None);
        }
    }

    /// Looks at the workloads whose turn it is.
    async fn look(&mut self) {
        let now = Instant::now();
        let mut due: Vec<&Suspect> =
            self.suspects.values().filter(|suspect| suspect.due <= now).collect();
        due.sort_by_key(|suspect| suspect.due);
        let due: Vec<Suspect> = due.into_iter().take(AT_A_TIME).cloned().collect();
        for suspect in due {
            let uid = suspect.owner.uid.clone();
            let denial = match workload::look(&self.context.client, &suspect).await {
                Ok(Standing::Lacks(denial)) => Some(denial),
                Ok(Standing::HasAll) => None,
                Err(error) => {
                    debug!(owner = suspect.owner.name, %error, "a workload cannot be looked at");
                    continue;
                }
            };
            if let Some(denial) = &denial {
                if self.retries && denial.is_of_policy() {
                    self.retry(denial, suspect.kind).await;
                }
                if let Some(suspect) = self.suspects.get_mut(&uid) {
                    suspect.due = Instant::now() + EACH;
                }
            } else {
                self.suspects.remove(&uid);
            }
            if self.context.denials.set(&uid, denial) {
                self.ask(&suspect.namespace).await;
            }
        }
    }

    async fn retry(&self, denial: &Denial, kind: Kind) {
        let now = self.context.now();
        match workload::touch(&self.context.client, denial, kind, now).await {
            Ok(()) => {
                info!(
                    namespace = denial.namespace,
                    owner = denial.resource(),
                    "asked to make its pods again, which were denied for lack of the sidecar"
                );
                self.context.metrics.retried();
            }
            Err(error) => {
                debug!(owner = denial.resource(), %error, "a workload cannot be asked to try again");
            }
        }
    }

    async fn ask(&self, namespace: &str) {
        for group in self.context.groups.in_namespace(namespace) {
            self.groups.ask((namespace.to_owned(), group.name().to_owned())).await;
        }
    }
}

// === impl Suspect ===

impl Suspect {
    fn of(event: CoreEvent) -> Option<Self> {
        let about = event.involved_object;
        let kind = Kind::named(about.kind.as_deref()?)?;
        let told = event
            .series
            .and_then(|series| series.last_observed_time.map(|time| time.0))
            .or(event.last_timestamp.map(|time| time.0))
            .or(event.event_time.map(|time| time.0))
            .or(event.metadata.creation_timestamp.map(|time| time.0))?;
        let owner = Owner {
            api_version: about.api_version?,
            kind: about.kind?,
            name: about.name?,
            uid: about.uid?,
        };
        let message = words(event.message.as_deref().unwrap_or_default());
        let namespace = about.namespace?;
        Some(Self { owner, kind, namespace, message, told, due: Instant::now() })
    }
}

/// The API server's words, without those of who passed them on, and without the name of
/// the pod: it is another each time, and would make each attempt look like news.
fn words(message: &str) -> String {
    let words = message.strip_prefix("(combined from similar events): ").unwrap_or(message);
    let words = words.strip_prefix("Error creating: ").unwrap_or(words);
    // A StatefulSet's: "create Pod web-0 in StatefulSet web failed error: …".
    let words = words.split_once(" failed error: ").map_or(words, |(_, words)| words);
    let named = words.strip_prefix("pods \"").or_else(|| words.strip_prefix("Pod \""));
    let named = named.and_then(|rest| rest.split_once("\" is "));
    let words = named.map_or(words, |(_, words)| words);
    words.chars().take(WORDS).collect()
}

fn is_of_policy(message: &str) -> bool {
    ["ValidatingAdmissionPolicy", names::INJECTED_POLICY, LACKING]
        .iter()
        .all(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DENIED: &str = "pods \"web-5d-\" is forbidden: ValidatingAdmissionPolicy \
        'coppice-injected' with binding 'coppice-injected' denied request: pod has the label \
        coppice.dev/inject=true but no coppice-agent sidecar: the injection webhook did not run.";

    fn event(kind: &str, message: &str) -> CoreEvent {
        serde_json::from_value(json!({
            "metadata": {"name": "e", "namespace": "shop"},
            "involvedObject": {
                "apiVersion": "apps/v1", "kind": kind, "name": "web-5d", "namespace": "shop", "uid": "u",
            },
            "reason": "FailedCreate", "message": message, "lastTimestamp": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn an_event_names_the_workload_and_the_api_servers_words() {
        let suspect =
            Suspect::of(event("ReplicaSet", &format!("Error creating: {DENIED}"))).unwrap();
        let words = suspect.message;
        assert!(words.starts_with("forbidden: ValidatingAdmissionPolicy"), "{words}");
        assert!(is_of_policy(&words));
        for passed_on in [
            "create Pod web-0 in StatefulSet web failed error: ",
            "(combined from similar events): Error creating: ",
        ] {
            let event = event("StatefulSet", &format!("{passed_on}{DENIED}"));
            assert_eq!(Suspect::of(event).unwrap().message, words, "{passed_on}");
        }
        let invalid =
            event("ReplicaSet", "Error creating: Pod \"web-5d-abcde\" is invalid: spec: x");
        assert_eq!(Suspect::of(invalid).unwrap().message, "invalid: spec: x");
        assert!(Suspect::of(event("Deployment", "no pods are made by one")).is_none());
    }

    #[test]
    fn only_what_the_policy_refused_is_tried_again() {
        for other in [
            "pods \"web-5d-\" is forbidden: exceeded quota: small",
            "admission webhook \"inject.coppice.dev\" denied the request: HostNetwork: the pod has",
            "forbidden: ValidatingAdmissionPolicy 'coppice-injected' with binding 'coppice-injected' \
             denied request: pod has the label coppice.dev/inject=true and runs on Windows",
            "ValidatingAdmissionPolicy 'another' with binding 'another' denied request: no",
        ] {
            assert!(!is_of_policy(other), "{other}");
        }
    }

    #[test]
    fn a_denial_concerns_the_groups_that_would_select_the_pods() {
        let denials = Denials::default();
        let labels = |name: &str| BTreeMap::from([("app".to_owned(), name.to_owned())]);
        let owner = Owner {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "web-5d".into(),
            uid: "u".into(),
        };
        let denial = Denial {
            owner,
            namespace: "shop".into(),
            workload: "deployment/web".into(),
            labels: labels("web"),
            message: DENIED.into(),
        };
        assert!(denials.set("u", Some(denial.clone())));
        assert!(!denials.set("u", Some(denial)), "it is as it was");
        assert_eq!(denials.matching("shop", &labels("web")).len(), 1);
        assert!(denials.matching("shop", &labels("api")).is_empty());
        assert!(denials.matching("bank", &labels("web")).is_empty());
        assert!(denials.matching("shop", &BTreeMap::new()).is_empty());
        assert!(denials.set("u", None));
    }
}
