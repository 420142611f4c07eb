//! Peers from the `EndpointSlice`s of a namespace: the only file that knows kube.
//!
//! One watch tells of all groups that are served here. It costs the API server little:
//! lists come from its cache, watches end at times of each agent's own, failures wait
//! longer and longer. What it says are hints, for certificates decide who is a peer.
//! Hence an API that is not there takes no peer away, and neither does an answer that
//! names nobody: see `reduce`.
//!
//! No peer is known for sure before the first list, and none is expected less.

mod metrics;
mod reduce;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use coppice_api::cluster::GROUP_LABEL;
use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config, ResourceExt as _};
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::reduce::{Endpoint, Own, Slice, address, reduce};
use super::{Discovery, Listed, PeerAddress, Peers, Scope};
use crate::peer::GroupName;

pub use self::metrics::SliceMetrics;

/// The name of the peers' port in a slice.
const PORT_NAME: &str = "peers";

/// Above so many groups the watch asks for all of the namespace: a selector that lists
/// them would outgrow a URL.
const GROUPS_IN_SELECTOR: usize = 50;

/// Changes that come together are taken together.
const DEBOUNCE: Duration = Duration::from_millis(250);

/// The most that a first list is put off, so that pods of one rollout do not all ask
/// at once.
const START_DELAY: Duration = Duration::from_secs(1);

/// How long the API server may take to answer, before it is asked anew.
const LIST_DEADLINE: Duration = Duration::from_secs(15);

/// A watch that was begun again and did not fail for so long goes on: longer than a
/// connection may take.
const QUIET_WORKS: Duration = Duration::from_secs(8);

/// The waits after failures: each second while this agent starts, then longer.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// Which pod this is, and what it knew before it started.
#[derive(Clone, Debug)]
pub struct SliceSettings {
    /// The namespace that is watched.
    pub namespace: String,
    /// This pod's UID.
    pub pod: String,
    /// Whether this pod's first address is of IPv6.
    pub prefers_v6: bool,
    /// Peers of an earlier life of this container.
    pub saved: BTreeMap<PeerAddress, Scope>,
    /// How long failures are repeated each second.
    pub eager_for: Duration,
}

/// Peers as a namespace's `EndpointSlice`s list them.
#[derive(Debug)]
pub struct EndpointSlices {
    current: watch::Sender<Peers>,
}

/// The task that follows the slices.
struct Watching {
    settings: SliceSettings,
    own: Own,
    metrics: SliceMetrics,
    current: watch::Sender<Peers>,
    served: watch::Receiver<BTreeSet<GroupName>>,
    /// By name.
    slices: BTreeMap<String, Slice>,
    failures: Failures,
}

/// What went wrong in a row.
struct Failures {
    since: Instant,
    eager_for: Duration,
    wait: Duration,
    /// What was said last.
    said: Option<&'static str>,
}

/// How a watch ended.
enum End {
    /// Other groups are served.
    Served,
    /// It is begun anew.
    Again,
}

type Events = Pin<Box<dyn Stream<Item = watcher::Result<Event<EndpointSlice>>> + Send>>;

// === impl EndpointSlices ===

impl EndpointSlices {
    /// The peers that were saved, and the task that finds out who they are now: it
    /// runs until `shutdown`, and watches the slices of what is `served`.
    pub fn new(
        settings: SliceSettings,
        served: watch::Receiver<BTreeSet<GroupName>>,
        metrics: SliceMetrics,
    ) -> (Self, impl FnOnce(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>>) {
        let listed = Listed { addresses: settings.saved.clone(), ..Listed::unknown() };
        metrics.found(&listed);
        let current: watch::Sender<Peers> = watch::Sender::new(Arc::new(listed));
        let own = Own { uid: settings.pod.clone(), prefers_v6: settings.prefers_v6 };
        let failures = Failures::new(settings.eager_for);
        let (slices, sender) = (BTreeMap::new(), current.clone());
        let watching =
            Watching { settings, own, metrics, current: sender, served, slices, failures };
        let run = |shutdown: CancellationToken| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => {}
                    () = watching.run() => {}
                }
            })
        };
        (Self { current }, run)
    }
}

impl Discovery for EndpointSlices {
    fn peers(&self) -> watch::Receiver<Peers> {
        self.current.subscribe()
    }
}

// === impl Watching ===

impl Watching {
    async fn run(mut self) {
        let delay = START_DELAY.mul_f64(rand::rng().random_range(0.0..1.0));
        sleep(delay).await;
        loop {
            let served = self.served.borrow_and_update().clone();
            if served.is_empty() {
                self.slices.clear();
                if self.served.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            // What was known of groups that stay is in force until the next list.
            self.publish();
            match client().await {
                Ok(client) => {
                    let api = Api::namespaced(client, &self.settings.namespace);
                    match self.follow(watch_slices(api, &served)).await {
                        End::Served => {}
                        End::Again => self.metrics.failed("timeout"),
                    }
                }
                Err(error) => {
                    let wait = self.failed("no-client", error.as_ref());
                    sleep(wait).await;
                }
            }
        }
    }

    /// Takes events until other groups are served or the API server does not answer.
    async fn follow(&mut self, mut events: Events) -> End {
        let mut listing: Option<BTreeMap<String, Slice>> = None;
        let mut list_until = Some(Instant::now() + LIST_DEADLINE);
        let mut publish_at: Option<Instant> = None;
        let mut ask_from = Instant::now();
        let mut works_at: Option<Instant> = None;
        loop {
            let event = tokio::select! {
                biased;
                changed = self.served.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    return End::Served;
                }
                () = at(publish_at) => {
                    publish_at = None;
                    self.publish();
                    continue;
                }
                () = at(works_at) => {
                    works_at = None;
                    self.works();
                    continue;
                }
                event = async { sleep_until(ask_from).await; events.next().await } => event,
                () = at(list_until) => return End::Again,
            };
            match event {
                None => return End::Again,
                Some(Err(error)) => {
                    let wait = self.failed(reason(&error), &error);
                    ask_from = Instant::now() + wait;
                    // A failure is an answer: what follows it has its own time.
                    list_until = list_until.map(|_| ask_from + LIST_DEADLINE);
                    // A watch that goes on says nothing until something changes.
                    works_at = list_until.is_none().then_some(ask_from + QUIET_WORKS);
                }
                Some(Ok(Event::Init)) => {
                    listing = Some(BTreeMap::new());
                    list_until = Some(Instant::now() + LIST_DEADLINE);
                }
                Some(Ok(Event::InitApply(slice))) => {
                    if let Some(listing) = &mut listing {
                        keep(listing, &slice);
                    }
                }
                Some(Ok(Event::InitDone)) => {
                    self.slices = listing.take().unwrap_or_default();
                    list_until = None;
                    self.works();
                    self.publish();
                }
                Some(Ok(Event::Apply(slice))) => {
                    keep(&mut self.slices, &slice);
                    publish_at = publish_at.or(Some(Instant::now() + DEBOUNCE));
                    self.works();
                }
                Some(Ok(Event::Delete(slice))) => {
                    self.slices.remove(&slice.name_any());
                    publish_at = publish_at.or(Some(Instant::now() + DEBOUNCE));
                    self.works();
                }
            }
        }
    }

    fn publish(&self) {
        let served = self.served.borrow();
        self.current.send_if_modified(|listed| {
            let next = reduce(self.slices.values(), &served, &self.own, listed);
            let is_changed = **listed != next;
            if is_changed {
                self.metrics.found(&next);
                debug!(peers = next.addresses.len(), "the list of peers changed");
                *listed = Arc::new(next);
            }
            is_changed
        });
    }

    fn works(&mut self) {
        self.metrics.works(true);
        if self.failures.over().is_some() {
            info!("the API server answers again: peers are followed");
        }
    }

    /// Counts and says a failure; how long to wait after it.
    fn failed(
        &mut self,
        reason: &'static str,
        error: &(dyn std::error::Error + 'static),
    ) -> Duration {
        self.metrics.failed(reason);
        self.metrics.works(false);
        let (is_news, wait) = self.failures.note(reason);
        if is_news {
            let known = self.current.borrow().addresses.len();
            let mend = match reason {
                "forbidden" => {
                    "this pod's account may not read EndpointSlices: the operator makes a \
                     RoleBinding to the ClusterRole coppice-agent, see its log"
                }
                _ => "trying again",
            };
            warn!(reason, error, known, "peers are not followed, those known stay: {mend}");
        }
        wait
    }
}

fn keep(slices: &mut BTreeMap<String, Slice>, slice: &EndpointSlice) {
    match pruned(slice) {
        Some(kept) => _ = slices.insert(slice.name_any(), kept),
        None => _ = slices.remove(&slice.name_any()),
    }
}

/// What is used of a slice: the least, for there may be many; `None` if it is not of
/// a group, or has no port for peers.
fn pruned(slice: &EndpointSlice) -> Option<Slice> {
    let group = slice.labels().get(GROUP_LABEL).and_then(|name| GroupName::parse(name))?;
    let mut ports = slice.ports.iter().flatten();
    let port = ports.find(|port| port.name.as_deref() == Some(PORT_NAME))?.port?;
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    let endpoint = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        // All addresses of one endpoint are of one pod, and Kubernetes uses the first.
        let text = endpoint.addresses.first()?;
        let uid = endpoint.target_ref.as_ref().and_then(|of| of.uid.as_deref());
        Some(Endpoint { pod: uid.unwrap_or(text).into(), address: address(text, port)? })
    };
    Some(Slice { group, endpoints: slice.endpoints.iter().filter_map(endpoint).collect() })
}

/// The slices of these groups.
fn watch_slices(api: Api<EndpointSlice>, served: &BTreeSet<GroupName>) -> Events {
    let seconds = rand::rng().random_range(240..=290);
    let config = watcher::Config::default().labels(&selector(served)).any_semantic();
    // A list in pages is read from etcd, and not from the API server's cache.
    let config = watcher::Config { page_size: None, ..config.timeout(seconds) };
    watcher::watcher(api, config).boxed()
}

fn selector(served: &BTreeSet<GroupName>) -> String {
    if served.len() > GROUPS_IN_SELECTOR {
        return GROUP_LABEL.to_owned();
    }
    let names: Vec<&str> = served.iter().map(GroupName::as_str).collect();
    format!("{GROUP_LABEL} in ({})", names.join(","))
}

/// A client by the pod's service account, else as on a developer's machine.
async fn client() -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let mut config = match Config::incluster() {
        Ok(config) => config,
        Err(_) => Config::infer().await?,
    };
    // The waits are this file's: the library's grow to a quarter of an hour.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(Client::try_from(config)?)
}

/// What kind of failure it is, for the metric and the log.
fn reason(error: &watcher::Error) -> &'static str {
    let status = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) => status,
            _ => return "unreachable",
        },
        watcher::Error::WatchError(status) => status,
        watcher::Error::NoResourceVersion => return "refused",
    };
    match status.code {
        401 | 403 => "forbidden",
        410 => "expired",
        429 | 500..=599 => "overloaded",
        _ => "refused",
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

// === impl Failures ===

impl Failures {
    fn new(eager_for: Duration) -> Self {
        Self { since: Instant::now(), eager_for, wait: FIRST_WAIT, said: None }
    }

    /// Whether a failure is to be said, and how long to wait after it.
    fn note(&mut self, reason: &'static str) -> (bool, Duration) {
        // A watch that is too old is begun anew, as a matter of course.
        let is_news = self.said != Some(reason) && reason != "expired";
        if is_news {
            self.said = Some(reason);
        }
        let wait = if self.since.elapsed() < self.eager_for { FIRST_WAIT } else { self.wait };
        if wait == self.wait && self.since.elapsed() >= self.eager_for {
            self.wait = (self.wait * 2).min(LAST_WAIT);
        }
        (is_news, wait.mul_f64(rand::rng().random_range(0.5..=1.0)))
    }

    /// All is well; what was wrong before, if that was said.
    fn over(&mut self) -> Option<&'static str> {
        self.wait = FIRST_WAIT;
        self.said.take()
    }
}

#[cfg(test)]
mod tests;
