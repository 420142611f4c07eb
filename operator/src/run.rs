//! The only wiring: what starts when, and how it ends.
//!
//! Every replica watches groups and pods, and serves; the one that leads also writes. All
//! tasks are on one set: one that ends by itself ends the process, because nobody else
//! would notice. On a signal the replica first says that it is not ready, then stops
//! leading and gives its lease back, and serves on until no one asks it any more.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::events::Reporter;
use kube::{Api, Client, ResourceExt as _};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admission::{
    self, AdmissionMetrics, InjectionSettings, Injector, ServeLimits, owner_events,
};
use crate::api_client::{self, ConnectError, call};
use crate::args::Args;
use crate::certificates::{Authorities, AuthorityName, CertificateSettings, WallClock, signing};
use crate::children::Children;
use crate::context::{Announced, Context};
use crate::controller::{self, Leading};
use crate::denials::Denials;
use crate::events::Events;
use crate::groups::GroupStore;
use crate::lease::Election;
use crate::metrics::Metrics;
use crate::outage::Outage;
use crate::pods::PodStore;
use crate::readiness::{Part, Readiness};
use crate::recorder::EventRecorder;
use crate::reports::Reports;
use crate::scope::Scope;
use crate::sources::Sources;
use crate::tasks::Tasks;
use crate::{announce, names, operations};

/// How long the webhook is served after this replica was said not to be ready: those that
/// route to it must have heard.
const DRAIN: Duration = Duration::from_secs(5);
/// Between two attempts to reach the API server at the start.
const FIRST_RETRY: Duration = Duration::from_secs(2);

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No client of the API server could be made.
    #[error("{0}: {source}", source = in_full(.0))]
    Connect(#[from] ConnectError),
    /// A port is taken or not allowed.
    #[error("cannot listen on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// Two components have one metric: a bug.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// TLS 1.3 is lacking: a bug.
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// A task ended that should not.
    #[error("{0} ended by itself{1}")]
    Lost(&'static str, String),
}

/// Runs until `stop`, or until a part is lost.
///
/// # Errors
///
/// If it cannot start, or a task is lost.
pub async fn run(args: Args, stop: CancellationToken) -> Result<(), RunError> {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    let readiness = Readiness::default();
    // From the first probe on it shows what is missing.
    let listed = readiness.part("the first lists of groups and pods");
    let believed = readiness.part("authorities that the API server believes");
    let mut tasks = Tasks::default();
    let served = CancellationToken::new();

    let listener = listen(args.listen.listen_operations).await?;
    let operations =
        operations::serve(listener, registry.clone(), readiness.clone(), served.clone());
    tasks.spawn("the operations port", async move {
        operations.await.err().map(|error| error.to_string())
    });
    let https = listen(args.listen.listen_https).await?;

    let client = api_client::connect(metrics.clone()).await?;
    let Some(cluster) = cluster_id(&client, &stop).await else { return Ok(()) };
    info!(cluster, version = env!("CARGO_PKG_VERSION"), "the operator starts");

    let reporter = Reporter {
        controller: names::FIELD_MANAGER.to_owned(),
        instance: Some(args.place.pod_name.clone()),
    };
    let base = Base {
        recorder: EventRecorder::new(client.clone(), reporter),
        scope: Scope::new(args.place.watched(), &args.place.namespace),
        client,
        cluster,
        args,
        metrics,
        registry,
    };
    let authorities = base.authorities(&mut tasks, believed, &served).await?;
    let (groups, pods) = base.watch(&mut tasks, listed.clone(), &served);
    let sources = Sources::new(base.client.clone(), groups.clone(), pods.clone(), listed);
    base.serve(&mut tasks, https, (sources, authorities.clone()), &served)?;
    let elected = base.lead(&mut tasks, (groups, pods), authorities, &stop);

    let lost = tasks.lost_or(&stop).await;
    readiness.stop();
    if lost.is_none() {
        tokio::time::sleep(DRAIN).await;
    }
    elected.cancel();
    served.cancel();
    tasks.end().await;
    match lost {
        None => Ok(()),
        Some((name, why)) => Err(RunError::Lost(name, why)),
    }
}

/// What every part is made of.
struct Base {
    args: Args,
    client: Client,
    cluster: String,
    metrics: Metrics,
    recorder: EventRecorder,
    registry: Registry,
    scope: Scope,
}

impl Base {
    /// The authorities, followed until `served`.
    async fn authorities(
        &self,
        tasks: &mut Tasks,
        believed: Part,
        served: &CancellationToken,
    ) -> Result<Authorities, RunError> {
        let place = &self.args.place;
        let found = announce::own_addresses(&self.client, place).await;
        let addresses = found.ok().flatten().map(|(addresses, _)| addresses).unwrap_or_default();
        let settings = CertificateSettings {
            namespace: place.namespace.clone(),
            service: place.service.clone(),
            service_addresses: addresses,
            webhook_configuration: place.webhook_configuration.clone(),
            cluster: self.cluster.clone(),
            serving_timings: self.args.rotation.timings(AuthorityName::Serving),
            peers_timings: self.args.rotation.timings(AuthorityName::Peers),
        };
        let client = self.client.clone();
        let authorities = Authorities::new(client, settings, WallClock::system(), &self.registry)?;
        let (followed, stop) = (authorities.clone(), served.clone());
        tasks.spawn_endless("the watch of the authorities", async move {
            followed.run(stop).await;
        });
        let shown = authorities.clone();
        tasks.spawn_until("the look at the authorities", served, async move {
            let mut changes = shown.changes();
            loop {
                believed.set(shown.is_ready());
                changes.next().await;
            }
        });
        Ok(authorities)
    }

    /// The stores of groups and pods, kept until `served`; `listed` as soon as they are
    /// filled.
    fn watch(
        &self,
        tasks: &mut Tasks,
        listed: Part,
        served: &CancellationToken,
    ) -> (GroupStore, PodStore) {
        let metrics = || self.metrics.clone();
        let (groups, group_watches) = GroupStore::new(&self.client, &self.scope, metrics());
        tasks.spawn_until("the watch of groups", served, group_watches.run());
        let (pods, pod_watches) = PodStore::new(self.client.clone(), self.scope.clone(), metrics());
        tasks.spawn_until("the watch of pods", served, pod_watches.run());
        let lists = (groups.watched().clone(), pods.watched().clone());
        tasks.spawn_once(served, async move {
            lists.0.synced().await;
            lists.1.synced().await;
            listed.set(true);
        });
        (groups, pods)
    }

    /// The HTTPS port, until `served`: the webhook and the signing of certificates.
    fn serve(
        &self,
        tasks: &mut Tasks,
        listener: TcpListener,
        (sources, authorities): (Sources, Authorities),
        served: &CancellationToken,
    ) -> Result<(), RunError> {
        let metrics = AdmissionMetrics::register(&self.registry)?;
        let (events, writer) = owner_events(&metrics);
        let (recorder, stop) = (self.recorder.clone(), served.clone());
        tasks.spawn_endless("the writer of injection events", writer.run(recorder, stop));
        let agent = &self.args.agent;
        let settings = InjectionSettings {
            image: agent.image.clone(),
            image_pull_policy: agent.image_pull_policy.clone(),
            pull_secrets: agent.pull_secrets.clone(),
            resources: agent.resources(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let tls = Arc::new(authorities.server_config().map_err(RunError::Tls)?);
        let injector = Injector { source: sources.clone(), settings, events, metrics };
        let router = admission::router(injector).merge(signing::router(authorities, sources));
        let serving =
            admission::serve(listener, tls, router, ServeLimits::default(), served.clone());
        tasks.spawn_endless("the HTTPS port", serving);
        Ok(())
    }

    /// Leads when this replica is elected, until `stop`. What is returned ends its
    /// election.
    fn lead(
        &self,
        tasks: &mut Tasks,
        (groups, pods): (GroupStore, PodStore),
        authorities: Authorities,
        stop: &CancellationToken,
    ) -> CancellationToken {
        let (announcing, announced) = watch::channel(Announced::default());
        tasks.spawn_until(
            "the look for the operator's own address",
            stop,
            announce::announce(
                self.client.clone(),
                self.args.place.clone(),
                self.cluster.clone(),
                authorities.published(),
                announcing,
            ),
        );
        let context = Context {
            client: self.client.clone(),
            namespace: self.args.place.namespace.clone(),
            scope: self.scope.clone(),
            groups,
            pods,
            children: Children::default(),
            denials: Denials::default(),
            reports: Reports::default(),
            written: Arc::default(),
            announced,
            remembered: Arc::default(),
            events: Events::new(self.recorder.clone(), self.metrics.clone()),
            metrics: self.metrics.clone(),
        };
        let place = &self.args.place;
        let (election, is_leader) =
            Election::new(self.client.clone(), &place.namespace, &place.pod_name);
        let elected = CancellationToken::new();
        tasks.spawn_endless("the election", election.run(elected.clone()));
        let leading = Leading {
            authorities,
            scope: self.scope.clone(),
            retry_denied: self.args.retry_denied,
        };
        let (ended, stop) = (elected.clone(), stop.clone());
        tasks.spawn_endless("leading", async move {
            lead_when_elected(context, leading, is_leader, stop).await;
            // The lease is given back once all is written that was begun.
            ended.cancel();
        });
        elected
    }
}

/// Leads whenever this replica is the leader, until `stop`.
///
/// Each time anew, with nothing left of the time before but what the watches and the
/// cluster show; a leader that lost its lease stops in the middle of what it does, since
/// another may be doing it.
async fn lead_when_elected(
    context: Context,
    leading: Leading,
    mut is_leader: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            leads = is_leader.wait_for(|leads| *leads) => if leads.is_err() { return },
            () = stop.cancelled() => return,
        }
        context.metrics.leads(true);
        tokio::select! {
            () = controller::lead(context.renewed(), leading.clone(), stop.clone()) => {}
            lost = is_leader.wait_for(|leads| !*leads) => if lost.is_err() { return },
        }
        context.metrics.leads(false);
        if stop.is_cancelled() {
            return;
        }
    }
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|error| RunError::Listen(address, error))
}

/// The cluster's id, as soon as the API server tells it; none if `stop` came first.
async fn cluster_id(client: &Client, stop: &CancellationToken) -> Option<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut outage = Outage::default();
    loop {
        match call(namespaces.get_metadata(names::CLUSTER_NAMESPACE)).await {
            Ok(namespace) => return namespace.uid(),
            Err(error) => {
                if outage.failed(&error) {
                    warn!(%error, "the cluster's id (the UID of kube-system) cannot be read yet");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(FIRST_RETRY) => {}
            () = stop.cancelled() => return None,
        }
    }
}

/// An error with its sources, in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(error) = source {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
