//! What all tasks of the transport share: where events go, which groups are
//! served, which links live, how to stop.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::faults::Faults;
use super::frame_reader::LARGE_FRAMES;
use super::mailbox::Mailbox;
use super::settings::{Limits, Timing};
use super::tls::TlsConfigs;
use super::{CloseReason, GroupName, LinkId, PeerMetrics, Reporter};

/// The groups served; a group's token is cancelled when it is served no longer.
pub(super) type Groups = BTreeMap<GroupName, CancellationToken>;

/// Shared by all tasks of one transport.
pub(super) struct Shared {
    pub(super) mailbox: Mailbox,
    pub(super) metrics: PeerMetrics,
    pub(super) limits: Limits,
    pub(super) timing: Timing,
    /// What is in force for new connections.
    pub(super) security: watch::Receiver<Security>,
    /// Tells the operator how this agent is.
    pub(super) reporter: Option<Arc<dyn Reporter>>,
    /// From which time on it is said that a group is not known somewhere.
    pub(super) group_faults_from: u64,
    pub(super) groups: watch::Sender<Arc<Groups>>,
    /// Places for large frames that are being collected.
    pub(super) large_frames: Arc<Semaphore>,
    pub(super) tracker: TaskTracker,
    /// Cancelled once: all links are closed, all tasks end.
    pub(super) shutdown: CancellationToken,
    /// What was said of peers that cannot be spoken with.
    pub(super) faults: Faults,
    links: LiveLinks,
}

/// How connections are made.
#[derive(Clone, Debug)]
pub(super) enum Security {
    /// Without TLS.
    Plain,
    /// With TLS, for which there is no certificate yet: none is made.
    Pending,
    /// With these.
    Tls(Arc<TlsConfigs>),
}

/// The links that live now; each token is cancelled when its link is gone.
#[derive(Default)]
struct LiveLinks {
    last: AtomicU64,
    ends: Mutex<HashMap<LinkId, CancellationToken>>,
}

/// What [`Shared`] is made from.
pub(super) struct Parts {
    pub(super) mailbox: Mailbox,
    pub(super) metrics: PeerMetrics,
    pub(super) limits: Limits,
    pub(super) timing: Timing,
    pub(super) security: watch::Receiver<Security>,
    pub(super) reporter: Option<Arc<dyn Reporter>>,
    pub(super) group_faults_from: u64,
}

/// Lets `hyper` spawn on the tracker.
#[derive(Clone)]
pub(super) struct OnTracker(pub(super) TaskTracker);

// === impl Shared ===

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { mailbox, metrics, limits, timing, security, reporter, group_faults_from } =
            parts;
        Self {
            mailbox,
            metrics,
            limits,
            timing,
            security,
            reporter,
            group_faults_from,
            groups: watch::Sender::new(Arc::default()),
            large_frames: Arc::new(Semaphore::new(LARGE_FRAMES)),
            tracker: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            faults: Faults::default(),
            links: LiveLinks::default(),
        }
    }

    /// Serves these groups from now on: links of others are closed.
    pub(super) fn set_groups(&self, names: impl IntoIterator<Item = GroupName>) {
        let names: Vec<GroupName> = names.into_iter().collect();
        self.groups.send_modify(|groups| {
            let token = |name: &GroupName| match groups.get(name) {
                Some(token) => token.clone(),
                None => self.shutdown.child_token(),
            };
            let next: Groups = names.iter().map(|name| (name.clone(), token(name))).collect();
            for (_, gone) in groups.iter().filter(|(name, _)| !next.contains_key(*name)) {
                gone.cancel();
            }
            *groups = Arc::new(next);
        });
    }

    /// Waits until connections can be made.
    pub(super) async fn secured(&self) {
        let mut security = self.security.clone();
        let ready = security.wait_for(|security| !matches!(security, Security::Pending));
        let is_over = ready.await.is_err();
        if is_over {
            // Who would bring a certificate is gone, for the transport stops.
            std::future::pending::<()>().await;
        }
    }

    /// Why a link whose token was cancelled ends.
    pub(super) fn stop_reason(&self) -> CloseReason {
        if self.shutdown.is_cancelled() { CloseReason::Shutdown } else { CloseReason::Removed }
    }

    /// A new id.
    pub(super) fn next_link(&self) -> LinkId {
        LinkId(self.links.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Enters a link that opens.
    pub(super) fn enter_link(&self, link: LinkId) {
        self.links.lock().insert(link, CancellationToken::new());
    }

    /// Takes out a link that is gone.
    pub(super) fn leave_link(&self, link: LinkId) {
        if let Some(token) = self.links.lock().remove(&link) {
            token.cancel();
        }
    }

    /// Waits until a link is gone; at once if it is.
    pub(super) async fn link_gone(&self, link: LinkId) {
        let token = self.links.lock().get(&link).cloned();
        if let Some(token) = token {
            token.cancelled().await;
        }
    }
}

// === impl LiveLinks ===

impl LiveLinks {
    fn lock(&self) -> MutexGuard<'_, HashMap<LinkId, CancellationToken>> {
        // No holder can panic half-way through a change.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl OnTracker ===

impl<F> hyper::rt::Executor<F> for OnTracker
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
