//! What the leader does: it writes the Secret, and the webhook's `caBundle`.
//!
//! Each turn looks at what the watches show and does the one thing that is due. What
//! is written is conditional on what was seen, so a leader that was replaced and does
//! not know it yet cannot undo the other's work: its write fails, and the next turn
//! starts from what is there.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use time::OffsetDateTime;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::authority::{AuthorityName, AuthoritySet, Phase};
use super::issue::IssueError;
use super::rotation::{self, Seen, Step};
use super::state::{Loaded, SecretSeen, State};
use super::watching::CLOCK_CHECK;
use super::{AUTHORITIES_SECRET, Authorities};
use crate::api_client::{CallError, call};
use crate::outage::Outage;

/// After a write that failed, and between two writes before the watch shows the first.
const RETRY: Duration = Duration::from_secs(1);
/// How often a rotation under way is looked at.
const ROTATING_CHECK: Duration = Duration::from_secs(1);

/// Why a turn did not do what was due. Nothing was written.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// Since when the published certificates are known to be held, as this leader saw it.
#[derive(Debug, Default)]
struct HeldSince {
    serving: Option<(String, OffsetDateTime)>,
    peers: Option<(String, OffsetDateTime)>,
}

// === impl Authorities ===

impl Authorities {
    /// Makes the authorities where there are none, replaces them in time, and has the
    /// API server believe them, until `shutdown` fires. [`Authorities::run`] must run
    /// beside it. It never ends by itself.
    pub async fn run_leader(&self, shutdown: CancellationToken) {
        let mut changes = self.changes();
        let mut agents = self.shared.held.subscribe();
        let mut held = HeldSince::default();
        let mut outage = Outage::default();
        loop {
            let state = changes.0.borrow_and_update().clone();
            let turn = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                turn = self.turn(&state, &mut held) => turn,
            };
            if turn.is_ok() && outage.worked() {
                info!("the authorities are looked after again");
            }
            let pause = match turn {
                // Until the watch shows what was written.
                Ok(true) => RETRY,
                Ok(false) if is_rotating(&state) => ROTATING_CHECK,
                Ok(false) => CLOCK_CHECK,
                Err(TurnError::Call(error)) if error.is_conflict() => RETRY,
                Err(error) => {
                    if outage.failed(&error) {
                        warn!(%error, "the authorities cannot be looked after; trying again");
                    }
                    RETRY
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = changes.next() => {}
                Ok(()) = agents.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Does the one thing that is due; true if something was written.
    async fn turn(&self, state: &State, held: &mut HeldSince) -> Result<bool, TurnError> {
        let now = self.shared.clock.now();
        match &state.secret {
            SecretSeen::NotYet => return Ok(false),
            SecretSeen::Absent => {
                self.create(state.loaded.as_deref(), now).await?;
                return Ok(true);
            }
            // The last good one is still to be believed.
            SecretSeen::Damaged(_) | SecretSeen::Good => {}
        }
        let Some(loaded) = &state.loaded else { return Ok(false) };
        if self.write_bundle(state, loaded).await? {
            return Ok(true);
        }
        if state.secret != SecretSeen::Good {
            return Ok(false);
        }
        held.look(state, loaded, &self.shared.held.borrow(), now);
        for name in AuthorityName::ALL {
            let seen = Seen {
                requested: rotation::requested(loaded.rotation.as_deref(), name),
                held_since: held.get(name),
            };
            let authority = loaded.set.get(name);
            if let Some(step) = rotation::next_step(authority, seen, self.shared.timings(name), now)
            {
                let mut next = loaded.set.clone();
                *next.get_mut(name) =
                    rotation::take(authority.clone(), name, (step, seen.requested), now)?;
                self.replace(loaded, &next).await?;
                self.shared.metrics.stepped(name.name(), step.name());
                info!(authority = name.name(), step = step.name(), "a rotation went on");
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the Secret where there is none: what was in force, else a new one.
    async fn create(&self, before: Option<&Loaded>, now: OffsetDateTime) -> Result<(), TurnError> {
        let set = match before {
            Some(loaded) => loaded.set.clone(),
            None => AuthoritySet {
                serving: rotation::first(AuthorityName::Serving, None, now)?,
                peers: rotation::first(AuthorityName::Peers, None, now)?,
            },
        };
        let mut secret = self.secret(&set);
        if let Some(rotation) = before.and_then(|loaded| loaded.rotation.clone()) {
            let annotation = coppice_api::cluster::AUTHORITIES_ROTATION.to_owned();
            secret.metadata.annotations = Some([(annotation, rotation)].into());
        }
        call(self.shared.secrets().create(&PostParams::default(), &secret)).await?;
        info!("the authorities were written to the Secret {AUTHORITIES_SECRET}");
        Ok(())
    }

    /// Writes the Secret if it is as it was seen. Only its data is touched.
    async fn replace(&self, seen: &Loaded, next: &AuthoritySet) -> Result<(), TurnError> {
        let patch = serde_json::json!({
            "metadata": {"resourceVersion": seen.resource_version},
            "data": next.write(),
        });
        let secrets = self.shared.secrets();
        let params = PatchParams::default();
        call(secrets.patch(AUTHORITIES_SECRET, &params, &Patch::Merge(&patch))).await?;
        Ok(())
    }

    async fn write_bundle(&self, state: &State, loaded: &Loaded) -> Result<bool, TurnError> {
        let patch = state.bundles.as_ref().and_then(|seen| seen.patch_to(&loaded.serving.bundle));
        let Some(patch) = patch else { return Ok(false) };
        let patch: json_patch::Patch = match serde_json::from_value(patch) {
            Ok(patch) => patch,
            Err(error) => {
                warn!(%error, "the patch of the webhook configuration is malformed");
                return Ok(false);
            }
        };
        let name = &self.shared.settings.webhook_configuration;
        let params = PatchParams::default();
        let webhooks = self.shared.webhooks();
        call(webhooks.patch(name, &params, &Patch::<()>::Json(patch))).await?;
        info!(webhook = name, "the API server was told the serving authority");
        Ok(true)
    }

    fn secret(&self, set: &AuthoritySet) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(AUTHORITIES_SECRET.to_owned()),
                namespace: Some(self.shared.settings.namespace.clone()),
                labels: Some(
                    [("app.kubernetes.io/managed-by".to_owned(), "coppice-operator".to_owned())]
                        .into(),
                ),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(set.write()),
            ..Secret::default()
        }
    }
}

fn is_rotating(state: &State) -> bool {
    let published = |loaded: &Loaded| {
        let authorities = AuthorityName::ALL.map(|name| loaded.set.get(name));
        let mut certificates = authorities.into_iter().flat_map(|all| &all.certificates);
        certificates.any(|ca| ca.phase == Phase::Published)
    };
    state.loaded.as_deref().is_some_and(published)
}

// === impl HeldSince ===

impl HeldSince {
    /// Looks who holds the published certificates: API servers, by the webhook
    /// configuration, those of the serving authority; agents, by their reports, those
    /// of the peers'.
    fn look(
        &mut self,
        state: &State,
        loaded: &Loaded,
        agents: &std::collections::BTreeSet<String>,
        now: OffsetDateTime,
    ) {
        let believed = |print: &str| state.bundles.as_ref().is_some_and(|seen| seen.believe(print));
        note(&mut self.serving, published(loaded, AuthorityName::Serving), believed, now);
        let reported = |print: &str| agents.contains(print);
        note(&mut self.peers, published(loaded, AuthorityName::Peers), reported, now);
    }

    fn get(&self, name: AuthorityName) -> Option<OffsetDateTime> {
        let since = match name {
            AuthorityName::Serving => &self.serving,
            AuthorityName::Peers => &self.peers,
        };
        since.as_ref().map(|(_, since)| *since)
    }
}

fn published(loaded: &Loaded, name: AuthorityName) -> Option<String> {
    let mut certificates = loaded.set.get(name).certificates.iter();
    certificates.find(|ca| ca.phase == Phase::Published)?.fingerprint()
}

fn note(
    since: &mut Option<(String, OffsetDateTime)>,
    published: Option<String>,
    is_held: impl FnOnce(&str) -> bool,
    now: OffsetDateTime,
) {
    let held = published.filter(|print| is_held(print));
    match (held, &since) {
        (Some(print), Some((known, _))) if print == *known => {}
        (Some(print), _) => *since = Some((print, now)),
        (None, _) => *since = None,
    }
}

// === impl Step ===

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Switch => "switch",
            Self::Drop(_) => "drop",
        }
    }
}

#[cfg(test)]
mod tests;
