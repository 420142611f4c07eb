//! The only wiring: what starts when, and how it ends.
//!
//! Every replica watches groups and pods, and serves; the one that leads also writes. All
//! tasks are on one set: one that ends by itself ends the process, because nobody else
//! would notice. On a signal the replica first says that it is not ready, then stops
//! leading and gives its lease back, and serves on until no one asks it any more.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client, ResourceExt as _};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api_client::{self, ConnectError, call};
use crate::args::Args;
use crate::children::Children;
use crate::context::{Announced, Context};
use crate::denials::Denials;
use crate::events::Events;
use crate::groups::GroupStore;
use crate::lease::Election;
use crate::metrics::Metrics;
use crate::pods::PodStore;
use crate::readiness::Readiness;
use crate::reports::Reports;
use crate::scope::Scope;
use crate::{announce, controller, names, operations};

/// How long the webhook is served after this replica was said not to be ready: those that
/// route to it must have heard.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the tasks may take to end.
const LAST_WORK: Duration = Duration::from_secs(10);
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
    let mut tasks = Tasks::default();
    let served = CancellationToken::new();

    let listener = listen(args.listen.listen_operations).await?;
    let operations =
        operations::serve(listener, registry.clone(), readiness.clone(), served.clone());
    tasks.spawn("the operations port", async move {
        operations.await.err().map(|error| error.to_string())
    });

    let client = api_client::connect(metrics.clone()).await?;
    let Some(cluster) = cluster_id(&client, &stop).await else { return Ok(()) };
    info!(cluster, version = env!("CARGO_PKG_VERSION"), "the operator starts");

    let scope = Scope::new(args.place.watched(), &args.place.namespace);
    let (groups, group_watches) = GroupStore::new(&client, &scope, metrics.clone());
    tasks.spawn_endless("the watch of groups", group_watches.run());
    let (pods, pod_watches) = PodStore::new(client.clone(), scope.clone(), metrics.clone());
    tasks.spawn_endless("the watch of pods", pod_watches.run());
    let lists = readiness.part("the first lists of groups and pods");
    let (listed_groups, listed_pods) = (groups.watched().clone(), pods.watched().clone());
    tasks.spawn_once(async move {
        listed_groups.synced().await;
        listed_pods.synced().await;
        lists.set(true);
    });

    let reporter = Reporter {
        controller: names::FIELD_MANAGER.to_owned(),
        instance: Some(args.place.pod_name.clone()),
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let (announcing, announced) = watch::channel(Announced::default());
    tasks.spawn_endless(
        "the look for the operator's own address",
        announce::announce(client.clone(), args.place.clone(), cluster.clone(), announcing.clone()),
    );
    let context = Context {
        client: client.clone(),
        groups,
        pods,
        children: Children::default(),
        denials: Denials::default(),
        reports: Reports::default(),
        written: Arc::default(),
        announced,
        remembered: Arc::default(),
        events: Events::new(recorder, metrics.clone()),
        metrics: metrics.clone(),
    };

    let elected = CancellationToken::new();
    let (election, is_leader) =
        Election::new(client.clone(), &args.place.namespace, &args.place.pod_name);
    let election_stop = elected.clone();
    tasks.spawn("the election", async move {
        election.run(election_stop).await;
        None
    });
    // The lease is given back once all is written that was begun.
    let leading = leading(context, scope, is_leader, metrics, stop.clone());
    let done = elected.clone();
    tasks.spawn("leading", async move {
        leading.await;
        done.cancel();
        None
    });

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

/// Leads whenever this replica is the leader, until `stop`.
///
/// Each time anew, with nothing left of the time before but what the watches and the
/// cluster show; a leader that lost its lease stops in the middle of what it does, since
/// another may be doing it.
async fn leading(
    context: Context,
    scope: Scope,
    mut is_leader: watch::Receiver<bool>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            leads = is_leader.wait_for(|leads| *leads) => if leads.is_err() { return },
            () = stop.cancelled() => return,
        }
        metrics.leads(true);
        let context = context.renewed();
        let client = context.client.clone();
        tokio::select! {
            () = controller::lead(context, client, scope.clone(), stop.clone()) => {}
            lost = is_leader.wait_for(|leads| !*leads) => if lost.is_err() { return },
        }
        metrics.leads(false);
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
    loop {
        match call(namespaces.get_metadata(names::CLUSTER_NAMESPACE)).await {
            Ok(namespace) => return namespace.uid(),
            Err(error) => {
                warn!(%error, "the cluster's id (the UID of kube-system) cannot be read yet");
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

/// All tasks of the process. One that ends early says why, if it can.
#[derive(Debug, Default)]
struct Tasks {
    set: JoinSet<Option<(&'static str, String)>>,
}

impl Tasks {
    /// A task that ends only when it is told to; it returns why, if something failed.
    fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Option<String>> + Send + 'static,
    ) {
        self.set.spawn(async move {
            let why = task.await;
            Some((name, why.map_or_else(String::new, |why| format!(": {why}"))))
        });
    }

    /// A task that never ends.
    fn spawn_endless(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, async move {
            task.await;
            None
        });
    }

    /// A task that ends when it is done.
    fn spawn_once(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(async move {
            task.await;
            None
        });
    }

    /// Returns at `stop`, or when a task is lost: which, and why.
    async fn lost_or(&mut self, stop: &CancellationToken) -> Option<(&'static str, String)> {
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return None,
                ended = self.set.join_next() => ended?,
            };
            match ended {
                Ok(None) => {}
                Ok(Some(lost)) if stop.is_cancelled() => drop(lost),
                Ok(Some(lost)) => return Some(lost),
                Err(panicked) => return Some(("a task", format!(": {panicked}"))),
            }
        }
    }

    /// Waits for those that end when told, and drops the others.
    async fn end(mut self) {
        let all = async { while self.set.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORK, all).await.is_err() {
            warn!("some work did not end in time, and is left");
        }
    }
}
