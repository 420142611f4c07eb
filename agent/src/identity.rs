//! This agent's certificate, from the cluster's operator.
//!
//! The key is made here, once per pod, and never leaves its volume in memory. The
//! operator knows the pod by its token and decides which groups the certificate names;
//! the answer goes into the three files that the transport follows. It is asked for
//! again at half of its life, when a group comes that it does not name, and when peers
//! would not take it any more; else nothing asks the operator anything. What it cannot
//! give now, a certificate in use does without: the links that are up stay up.
//!
//! Invariants: a certificate that is good is only replaced by one that is good too,
//! with the key beside it; a file is replaced whole. The wait after a failure grows,
//! and with it that after an answer which leaves out what was asked for.

mod files;
mod metrics;
mod signing;
mod trust;
mod why;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coppice_api::cluster::CertificateRequest;
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use self::files::Identified;
use self::signing::SigningError;
use self::trust::Trust;
use self::why::Why;
use crate::clock::Clock;
use crate::cluster::View;
use crate::peer::Certified;

pub use self::files::IdentityFiles;
pub use self::metrics::IdentityMetrics;

/// The waits after failures.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// The longest wait after an answer that does not name what was asked for: the operator
/// sees the pod in another way than the pod itself, and asking does not change that.
const LAST_WAIT_FOR_GROUPS: Duration = Duration::from_mins(5);

/// Clocks may be set: how long is slept at most towards a time of day.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// What an identity is made from.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// Where it is kept.
    pub files: IdentityFiles,
    /// The token that is shown, read each time.
    pub token_file: PathBuf,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// How the certificate is, for people and the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityState {
    /// When it ends, in Unix seconds; `None`: there is none.
    pub not_after: Option<i64>,
    /// The groups that it names.
    pub groups: Vec<Uuid>,
    /// Why there is none, or none that is due; `None`: all is well.
    pub problem: Option<String>,
}

/// Why there is no new certificate. It is asked for again.
#[derive(Debug, thiserror::Error)]
enum IdentityError {
    #[error("the operator has not published where it signs, or its authorities")]
    NoOperator,
    #[error("the token {} cannot be read: {source}", path.display())]
    NoToken { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Signing(#[from] SigningError),
    #[error("the answer cannot be used: {0}")]
    Unusable(#[from] crate::peer::TlsError),
    #[error("key and certificate cannot be kept: {0}")]
    Files(#[from] std::io::Error),
    #[error("no key or request can be made: {0}")]
    Key(#[from] rcgen::Error),
}

/// The task that keeps the certificate.
#[derive(Debug)]
pub struct Identity {
    settings: IdentitySettings,
    view: watch::Receiver<Arc<View>>,
    metrics: IdentityMetrics,
    state: watch::Sender<IdentityState>,
    trust: Trust,
    /// What was acted on last.
    seen: Arc<View>,
    /// What is in use.
    certified: Option<Certified>,
    /// Which part of its life passes before it is renewed.
    renewed_after: f64,
    /// Why the last request gave nothing, or not all.
    problem: Option<String>,
    wait: Duration,
    not_before: Instant,
}

// === impl Identity ===

impl Identity {
    /// What will keep the files, once it runs, and how it fares.
    #[must_use]
    pub fn new(
        settings: IdentitySettings,
        view: watch::Receiver<Arc<View>>,
        metrics: IdentityMetrics,
    ) -> (Self, watch::Receiver<IdentityState>) {
        let state = watch::Sender::new(IdentityState::default());
        let shown = state.subscribe();
        let identity = Self {
            settings,
            view,
            metrics,
            state,
            trust: Trust::default(),
            seen: Arc::default(),
            certified: None,
            renewed_after: random_half(),
            problem: None,
            wait: FIRST_WAIT,
            not_before: Instant::now(),
        };
        (identity, shown)
    }

    /// Keeps a certificate until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        self.trust.begin(self.settings.files.read_authorities().await);
        loop {
            let view = Arc::clone(&self.view.borrow_and_update());
            self.hurry(&view);
            self.renew_trust(&view).await;
            let now = self.settings.clock.now_ms() / 1000;
            let why = why::ask(self.certified.as_ref(), &view.ids, (now, self.renewed_after));
            if let (Some(why), true) = (why, Instant::now() >= self.not_before) {
                self.ask(&view, why).await;
                continue;
            }
            let until = match why {
                Some(_) => self.not_before,
                None => Instant::now() + LOOK_AGAIN,
            };
            tokio::select! {
                changed = self.view.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = sleep_until(until.min(Instant::now() + LOOK_AGAIN)) => {}
            }
        }
    }

    /// Waits no longer if other groups, another operator or other authorities are there:
    /// what is new may be what was missing.
    fn hurry(&mut self, view: &Arc<View>) {
        let before = std::mem::replace(&mut self.seen, Arc::clone(view));
        let asked = |view: &View| -> Vec<Uuid> {
            view.ids.iter().filter(|(_, asked)| **asked).map(|(id, _)| *id).collect()
        };
        let is_other = asked(view) != asked(&before)
            || view.operator != before.operator
            || view.serving_authorities != before.serving_authorities
            || view.peers_authorities != before.peers_authorities;
        if is_other {
            self.wait = FIRST_WAIT;
            self.not_before = Instant::now();
        }
    }

    /// Writes what verifies peers, if that is not as it was, and looks what peers think
    /// of the certificate.
    async fn renew_trust(&mut self, view: &View) {
        let files = &self.settings.files;
        if let Some(bundle) = self.trust.next(view.peers_authorities.as_deref()) {
            match files.write_authorities(&bundle).await {
                Ok(()) => self.trust.is_written(bundle),
                Err(error) => warn!(%error, "the authorities of peers cannot be kept"),
            }
        }
        let examined = match files.read().await {
            Some(Identified { key, certificate }) => {
                let authorities = self.trust.current().unwrap_or_default();
                crate::peer::examine(authorities, &certificate, &key).ok()
            }
            None => None,
        };
        if examined != self.certified {
            self.certified = examined;
            self.renewed_after = random_half();
        }
        self.show();
    }

    /// One request, and what follows from it.
    async fn ask(&mut self, view: &View, why: Why) {
        match self.request(view).await {
            Ok(certified) => {
                let (groups, not_after) = (certified.groups.len(), certified.not_after);
                info!(groups, not_after, reason = why.name(), "the operator gave a certificate");
                self.metrics.asked("issued");
                let lacks = why::lacks(&certified, &view.ids);
                self.certified = Some(certified);
                self.renewed_after = random_half();
                self.problem = lacks.then(|| {
                    "the operator's certificate does not name all groups that select this pod"
                        .to_owned()
                });
                let last = if lacks { LAST_WAIT_FOR_GROUPS } else { FIRST_WAIT };
                self.put_off(last);
            }
            Err(error) => {
                self.metrics.asked(error.result());
                let problem = error.to_string();
                if self.problem.as_ref() != Some(&problem) {
                    warn!(
                        reason = why.name(),
                        "no certificate from the operator: {problem}; \
                        trying again, and what was certified before stays"
                    );
                }
                self.problem = Some(problem);
                self.put_off(LAST_WAIT);
            }
        }
        self.show();
    }

    async fn request(&mut self, view: &View) -> Result<Certified, IdentityError> {
        let (Some(operator), Some(serving)) = (&view.operator, &view.serving_authorities) else {
            return Err(IdentityError::NoOperator);
        };
        let files = &self.settings.files;
        let key = files.key().await?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key)?.pem()?;
        let previous = files.read().await.map(|of| of.certificate);
        let path = &self.settings.token_file;
        let token = tokio::fs::read_to_string(path).await;
        let token =
            token.map_err(|source| IdentityError::NoToken { path: path.clone(), source })?;
        let request = CertificateRequest { csr, previous };
        let answer = signing::ask(operator, serving, token.trim(), &request).await?;
        let published = view.peers_authorities.as_deref();
        let bundle = self.trust.with_answer(published, &answer.authorities);
        let certified = crate::peer::examine(&bundle, &answer.certificate, &key.serialize_pem())?;
        files.write_authorities(&bundle).await?;
        self.trust.is_written(bundle);
        files.write_certificate(&answer.certificate).await?;
        Ok(certified)
    }

    /// The next request waits, longer each time; the first time briefly.
    fn put_off(&mut self, last: Duration) {
        let wait = self.wait.min(last);
        self.wait = (self.wait * 2).min(last);
        self.not_before = Instant::now() + wait.mul_f64(rand::rng().random_range(0.5..=1.0));
    }

    fn show(&self) {
        self.state.send_if_modified(|state| {
            let certified = self.certified.as_ref();
            let next = IdentityState {
                not_after: certified.map(|of| of.not_after),
                groups: certified.map(|of| of.groups.clone()).unwrap_or_default(),
                problem: self.problem.clone(),
            };
            let is_changed = *state != next;
            *state = next;
            is_changed
        });
    }
}

/// Agents that started together do not all ask together again.
fn random_half() -> f64 {
    rand::rng().random_range(0.45..=0.5)
}

// === impl IdentityError ===

impl IdentityError {
    /// The metric's label.
    fn result(&self) -> &'static str {
        match self {
            Self::NoOperator => "no-operator",
            Self::NoToken { .. } => "no-token",
            Self::Signing(SigningError::Refused { .. }) => "refused",
            Self::Signing(_) => "unreachable",
            Self::Unusable(_) => "unusable",
            Self::Files(_) | Self::Key(_) => "not-kept",
        }
    }
}

#[cfg(test)]
mod tests;
