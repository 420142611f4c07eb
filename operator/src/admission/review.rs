//! `POST /inject`: the API server's question about a pod, and the answer.
//!
//! Only the fields that matter are read. What cannot be answered gets an HTTP error:
//! the API server then does as if there were no webhook, and the policy decides.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coppice_api::cluster::AGENT_CONTAINER;
use coppice_api::v1alpha1::ReplicationGroup;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::events::{OwnerEvents, Told, owner_of};
use super::inject::{Injected, InjectionSettings, Outcome, Untouched, inject};
use super::metrics::AdmissionMetrics;
use super::obstacle::Obstacle;

/// Where the API server asks.
pub const INJECT_PATH: &str = "/inject";

/// The API server stores no pod above 1.5 MiB, and sends what it may send twice.
const BODY_BYTES: usize = 8 << 20;
/// Pods at a time for which the API server is asked for the newest groups; more do with
/// those that the watch shows.
const NEWEST_AT_A_TIME: usize = 8;
/// Longer warnings may be cut by the API server.
const WARNING_CHARACTERS: usize = 256;

/// The groups that injection looks at.
pub trait GroupSource: Send + Sync + 'static {
    /// Those of the namespace that are fit to be served; none while they are not known.
    fn groups(
        &self,
        namespace: &str,
    ) -> impl Future<Output = Option<Vec<Arc<ReplicationGroup>>>> + Send;

    /// Those of the namespace as the API server has them this very moment; none if it
    /// does not answer in time. Asked only for a pod that no known group selects: group
    /// and workload are often made by one `kubectl apply`, and a watch may be behind.
    fn newest(
        &self,
        namespace: &str,
    ) -> impl Future<Output = Option<Vec<Arc<ReplicationGroup>>>> + Send;
}

/// Answers the webhook.
#[derive(Debug)]
pub struct Injector<S> {
    /// Where groups come from.
    pub source: S,
    /// What pods get where their groups do not say.
    pub settings: InjectionSettings,
    /// Who is told.
    pub events: OwnerEvents,
    /// What is measured.
    pub metrics: AdmissionMetrics,
}

/// An injector, and how much it may ask.
struct Webhook<S> {
    injector: Injector<S>,
    newest: Semaphore,
}

/// Why there is no answer. The API server goes on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoAnswer {
    TooLarge,
    Malformed,
    NotReady,
}

#[derive(Debug, Deserialize)]
struct Review {
    request: Option<Question>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Question {
    uid: String,
    kind: Kind,
    sub_resource: Option<String>,
    namespace: String,
    operation: String,
    dry_run: Option<bool>,
    object: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kind {
    group: String,
    kind: String,
}

/// The route that injects.
pub fn router<S: GroupSource>(injector: Injector<S>) -> Router {
    let webhook = Webhook { injector, newest: Semaphore::new(NEWEST_AT_A_TIME) };
    Router::new().route(INJECT_PATH, post(answer::<S>)).with_state(Arc::new(webhook))
}

async fn answer<S: GroupSource>(
    State(webhook): State<Arc<Webhook<S>>>,
    request: Request<Body>,
) -> Response {
    let began = Instant::now();
    let injector = &webhook.injector;
    let (result, reason, response) = match webhook.review(request).await {
        Ok((question, outcome)) => {
            let (result, reason) = labels(&outcome);
            injector.tell(&question, &outcome);
            (result, reason, json_of(&reply(&question.uid, outcome)))
        }
        Err(no_answer) => {
            let (status, reason, detail) = no_answer.parts();
            warn!(reason, "a pod is admitted without being looked at: {detail}");
            ("error", reason, (status, detail).into_response())
        }
    };
    injector.metrics.answered(result, reason, began.elapsed().as_secs_f64());
    response
}

// === impl Webhook ===

impl<S: GroupSource> Webhook<S> {
    async fn review(&self, request: Request<Body>) -> Result<(Question, Outcome), NoAnswer> {
        let body = to_bytes(request.into_body(), BODY_BYTES).await;
        let body = body.map_err(|_| NoAnswer::TooLarge)?;
        let review: Review = serde_json::from_slice(&body).map_err(|error| {
            debug!(%error, "a review cannot be read");
            NoAnswer::Malformed
        })?;
        let mut question = review.request.ok_or(NoAnswer::Malformed)?;
        if !question.is_new_pod() {
            // Registered for something else than the chart does: nothing to do.
            return Ok((question, Outcome::Untouched(Untouched::OptedOut)));
        }
        let namespace = question.namespace.as_str();
        let injector = &self.injector;
        let known = injector.source.groups(namespace).await.ok_or(NoAnswer::NotReady)?;
        let mut outcome = injector.decide(&question.object, &known)?;
        if is_without_group(&outcome)
            && let Ok(_place) = self.newest.try_acquire()
            && let Some(newest) = injector.source.newest(namespace).await
        {
            outcome = injector.decide(&question.object, &newest)?;
        }
        // The rest of the pod is not needed any more.
        question.object = question.object["metadata"].take();
        Ok((question, outcome))
    }
}

// === impl Injector ===

impl<S: GroupSource> Injector<S> {
    fn decide(&self, pod: &Value, groups: &[Arc<ReplicationGroup>]) -> Result<Outcome, NoAnswer> {
        let groups: Vec<&ReplicationGroup> = groups.iter().map(AsRef::as_ref).collect();
        inject(pod.clone(), &groups, &self.settings).map_err(|error| {
            debug!(%error, "a pod cannot be read");
            NoAnswer::Malformed
        })
    }

    /// Tells the log, and the pod's owner, what was done.
    fn tell(&self, question: &Question, outcome: &Outcome) {
        let namespace = question.namespace.as_str();
        let pod = question.pod_name();
        match outcome {
            Outcome::Untouched(reason) => {
                debug!(namespace, pod, reason = reason.name(), "a pod stays as it is");
            }
            Outcome::Injected(injected) => {
                debug!(namespace, pod, groups = ?injected.groups, "a pod was injected");
            }
            Outcome::Skipped(obstacle, _) | Outcome::Denied(obstacle) => {
                info!(namespace, pod, reason = obstacle.name(), "a pod has no sidecar: {obstacle}");
            }
        }
        if question.dry_run == Some(true) {
            return;
        }
        let metadata = json!({"metadata": question.object});
        let Some(owner) = owner_of(&metadata, namespace) else { return };
        for (is_warning, reason, message) in told(outcome) {
            self.events.tell(Told { owner: owner.clone(), is_warning, reason, message });
        }
    }
}

// === impl Question ===

impl Question {
    fn is_new_pod(&self) -> bool {
        self.kind.group.is_empty()
            && self.kind.kind == "Pod"
            && self.operation == "CREATE"
            && self.sub_resource.as_deref().unwrap_or_default().is_empty()
    }

    /// For the log; of a pod that gets its name later, the beginning of it.
    fn pod_name(&self) -> &str {
        let text = |key: &str| self.object[key].as_str().filter(|name| !name.is_empty());
        text("name").or_else(|| text("generateName")).unwrap_or_default()
    }
}

fn is_without_group(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Injected(injected) if injected.groups.is_empty())
}

fn json_of(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn labels(outcome: &Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Untouched(reason) => ("untouched", reason.name()),
        Outcome::Injected(Injected { repaired: true, .. }) => ("repaired", ""),
        Outcome::Injected(Injected { groups, .. }) if groups.is_empty() => ("injected", "NoGroup"),
        Outcome::Injected(_) => ("injected", ""),
        Outcome::Skipped(obstacle, _) => ("skipped", obstacle.name()),
        Outcome::Denied(obstacle) => ("denied", obstacle.name()),
    }
}

/// The events of an outcome: whether it is a warning, why, and in words.
fn told(outcome: &Outcome) -> Vec<(bool, &'static str, String)> {
    match outcome {
        Outcome::Untouched(_) | Outcome::Injected(Injected { repaired: true, .. }) => Vec::new(),
        Outcome::Injected(injected) => {
            let groups = injected.groups.join(", ");
            let message = match injected.groups.len() {
                0 => format!("added the sidecar {AGENT_CONTAINER}"),
                _ => format!("added the sidecar {AGENT_CONTAINER} for: {groups}"),
            };
            let notices = injected.notices.iter().map(|notice| {
                let is_warning = notice.reason.is_warning();
                (is_warning, notice.reason.name(), notice.message.clone())
            });
            [(false, "Injected", message)].into_iter().chain(notices).collect()
        }
        Outcome::Skipped(obstacle, _) => vec![(true, "InjectionSkipped", coded(obstacle))],
        Outcome::Denied(obstacle) => vec![(true, "InjectionDenied", coded(obstacle))],
    }
}

/// With its name in front, so that whoever reads an owner's events can tell them apart.
fn coded(obstacle: &Obstacle) -> String {
    format!("{}: {obstacle}", obstacle.name())
}

fn reply(uid: &str, outcome: Outcome) -> Value {
    let mut response = json!({"uid": uid, "allowed": true});
    let (patch, warnings) = match outcome {
        Outcome::Untouched(_) => (None, Vec::new()),
        Outcome::Injected(injected) => {
            let warnings = injected.notices.into_iter().map(|notice| notice.message).collect();
            (Some(injected.patch), warnings)
        }
        Outcome::Skipped(obstacle, patch) => {
            (Some(patch), vec![format!("no sidecar {AGENT_CONTAINER}: {obstacle}")])
        }
        Outcome::Denied(obstacle) => {
            response["allowed"] = false.into();
            response["status"] = json!({
                "status": "Failure", "code": 403, "reason": "Forbidden",
                "message": coded(&obstacle),
            });
            (None, Vec::new())
        }
    };
    // A patch that cannot be written down would be one that was never applied.
    let patch = patch.filter(|patch| !patch.0.is_empty());
    if let Some(patch) = patch.and_then(|patch| serde_json::to_vec(&patch).ok()) {
        response["patchType"] = "JSONPatch".into();
        response["patch"] = STANDARD.encode(patch).into();
    }
    if !warnings.is_empty() {
        let cut = |warning: String| warning.chars().take(WARNING_CHARACTERS).collect::<String>();
        response["warnings"] = warnings.into_iter().map(cut).collect();
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

// === impl NoAnswer ===

impl NoAnswer {
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", "the review is longer than 8 MiB")
            }
            Self::Malformed => {
                (StatusCode::BAD_REQUEST, "Malformed", "the body is no review of a pod")
            }
            Self::NotReady => (
                StatusCode::SERVICE_UNAVAILABLE,
                "NotReady",
                "this replica does not know the groups yet",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
