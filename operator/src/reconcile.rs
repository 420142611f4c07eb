//! One group, brought to where it should be.
//!
//! The steps are files: what is there (`observe`), whether anything may be written
//! (`validate`, pure), what is wanted (`desired`, pure), writing it (here), and what to
//! tell (`conditions`, pure, and `status`). Idempotent: decides by what there is now,
//! never by what woke it.

pub mod conditions;
pub mod desired;
pub mod facts;
mod observe;
pub mod status;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use coppice_api::v1alpha1::{ReplicationGroup, ReplicationGroupStatus};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tracing::warn;

use crate::api_client::{CallError, call};
use crate::context::Context;
use crate::groups::SeenGroup;
use crate::names;
use crate::schedule::Again;
use crate::watched::Key;

use facts::{Facts, Publication};
use validate::{Rejection, validate};

/// How long until a group is looked at again, if nothing happens.
const RESYNC: Duration = Duration::from_mins(5);
/// How long, while what may change is not watched: pods that a new group selects and that
/// did not opt in, and objects of others in the way.
const UNWATCHED: Duration = Duration::from_secs(30);
/// Who made a group waits to see its pods this long, in seconds.
const NEW: i64 = 600;
/// How long, while something is about to change that may be missed.
const PASSING: Duration = Duration::from_secs(5);

/// Why a group could not be reconciled. What was written stays.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {error}")]
pub struct ReconcileError {
    doing: &'static str,
    #[source]
    error: CallError,
}

impl ReconcileError {
    /// The error of a call, with what it was for.
    pub fn of(doing: &'static str) -> impl FnOnce(CallError) -> Self {
        move |error| Self { doing, error }
    }

    /// Whether the API server was reached and does not want it so.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.error.is_refusal()
    }
}

/// Brings one group to where it should be, and says how it stands.
///
/// # Errors
///
/// If the API server fails; it is tried again.
pub async fn reconcile(context: Context, key: Key) -> Result<Again, ReconcileError> {
    let (namespace, name) = &key;
    let Some(seen) = context.groups.get(namespace, name).filter(|seen| !seen.is_deleting()) else {
        // What it owns goes with it.
        return Ok(Again::WhenAsked);
    };
    let service = observe::service(&context, &seen)
        .await
        .map_err(ReconcileError::of("look for its Service"))?;
    let written = match validate(&seen, &context.scope, service.as_deref()) {
        Ok(group) => match apply(&context, group, service.as_deref()).await {
            Ok(()) => Ok(None),
            // What was refused is told, and tried again.
            Err(error) if error.is_refusal() => {
                let rejection = Rejection::Refused(error.to_string());
                Err((rejection, ReconcileError::of("write its Service")(error)))
            }
            Err(error) => return Err(ReconcileError::of("write its Service")(error)),
        },
        Err(rejection) => Ok(Some(rejection)),
    };
    let (rejection, failed) = match written {
        Ok(rejection) => (rejection, None),
        Err((rejection, error)) => (Some(rejection), Some(error)),
    };
    let facts = observe::facts(&context, &seen, rejection)
        .await
        .map_err(ReconcileError::of("look for its pods"))?;
    tell(&context, &facts).await?;
    match failed {
        Some(error) => Err(error),
        None => Ok(Again::After(next_look(&facts, context.now()))),
    }
}

/// Writes the group's `Service`, unless it is there as it should be.
async fn apply(
    context: &Context,
    group: &Arc<ReplicationGroup>,
    service: Option<&Service>,
) -> Result<(), CallError> {
    let wanted = desired::peers(group);
    if service.is_some_and(|service| desired::is_as_wanted(service, &wanted)) {
        return Ok(());
    }
    let namespace = group.metadata.namespace.as_deref().unwrap_or_default();
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    let services: Api<Service> = Api::namespaced(context.client.clone(), namespace);
    // By force: it is ours, as `validate` saw.
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    call(services.patch(name, &params, &Patch::Apply(&wanted))).await.map(drop)
}

/// Writes the group's status and events, if there is anything new.
async fn tell(context: &Context, facts: &Facts) -> Result<(), ReconcileError> {
    let seen = &facts.seen;
    let shown = match &**seen {
        SeenGroup::Read(group) => group.status.clone().unwrap_or_default(),
        SeenGroup::Malformed { .. } => status::status_of_malformed(&context.client, seen)
            .await
            .map_err(ReconcileError::of("read its status"))?,
    };
    let before = context.written.get(seen.uid(), &shown).unwrap_or(shown);
    let status = status::status_of(facts, &before, context.now());
    if status == before {
        return Ok(());
    }
    match status::publish(&context.client, seen, &status).await {
        // What does not fit its definition may not even get a status; then an event must do.
        Err(error)
            if error.code() == Some(422) && matches!(**seen, SeenGroup::Malformed { .. }) =>
        {
            warn!(namespace = facts.namespace(), name = seen.name(), %error, "a malformed object gets no status");
        }
        written => written.map_err(ReconcileError::of("write its status"))?,
    }
    tell_events(context, seen, &status, &before).await;
    context.written.put(seen.uid(), status);
    Ok(())
}

async fn tell_events(
    context: &Context,
    seen: &SeenGroup,
    status: &ReplicationGroupStatus,
    before: &ReplicationGroupStatus,
) {
    for (reason, message) in status::newly_wrong(status, before) {
        context.events.warn_group(seen, &reason, &message).await;
    }
    if status::became_ready(status, before) {
        let members = status.members.as_deref().unwrap_or_default();
        let message = format!("{members} agents have started, and the group is ready");
        context.events.tell_group(seen, "Ready", &message).await;
    }
}

fn next_look(facts: &Facts, now: Timestamp) -> Duration {
    let created = facts.seen.metadata().creation_timestamp.as_ref();
    let is_new = created.is_some_and(|time| now.as_second() - time.0.as_second() < NEW);
    let passing = !facts.unserved().is_empty()
        || facts.rejection == Some(Rejection::PredecessorGoing)
        || matches!(facts.publication, Publication::Pending | Publication::Refused(_));
    // An object that someone else made is not watched.
    let is_unwatched = matches!(facts.rejection, Some(Rejection::NameTaken(_)));
    if passing {
        PASSING
    } else if is_unwatched || facts.pods.is_empty() && is_new {
        UNWATCHED
    } else {
        // Spread, so that not all groups are looked at at once.
        RESYNC.mul_f64(rand::random_range(0.8..1.2))
    }
}
