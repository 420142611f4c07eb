//! What the leader does: it reconciles groups and namespaces, for as long as it leads.
//!
//! Both are asked for by what the watches show, by name only: what there is to do is
//! decided when it is done. Whoever falls behind the watches asks for everything.

mod gauges;
mod triggers;

use std::any::Any;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::certificates::Authorities;
use crate::context::Context;
use crate::denials::Follower;
use crate::schedule::{Runner, runner};
use crate::scope::Scope;
use crate::watched::Key;
use crate::{namespaces, polls, reconcile, uninjected};

use triggers::Triggers;

/// How long changes of one group are collected: a pod that starts changes several times.
const GROUP_SETTLES: Duration = Duration::from_millis(200);
/// How long changes of one namespace are: each is one write of the whole map, which
/// agents then see up to a minute later.
const NAMESPACE_SETTLES: Duration = Duration::from_millis(400);
/// How many groups, and how many namespaces, are reconciled at once.
const AT_ONCE: usize = 8;

/// What leading needs beside the context.
#[derive(Clone, Debug)]
pub struct Leading {
    /// The authorities, of which the leader writes.
    pub authorities: Authorities,
    /// Which namespaces are looked after.
    pub scope: Scope,
    /// Whether workloads that were denied are made to try again.
    pub retry_denied: bool,
}

/// Leads until `stop`, then ends what was begun. Dropped, it stops at once.
pub async fn lead(context: Context, leading: Leading, stop: CancellationToken) {
    let Leading { authorities, scope, retry_denied } = leading;
    let client = context.client.clone();
    let (groups, group_runner) =
        runner::<Key>("group", AT_ONCE, GROUP_SETTLES, context.metrics.clone());
    let (namespaces, namespace_runner) =
        runner::<String>("namespace", AT_ONCE, NAMESPACE_SETTLES, context.metrics.clone());
    let triggers = Triggers::new(context.clone(), groups.clone(), namespaces);

    let mut tasks = JoinSet::new();
    let (rotating, stop_rotating) = (authorities.clone(), stop.clone());
    tasks.spawn(async move { rotating.run_leader(stop_rotating).await });
    tasks.spawn(context.children.watch(&client, &scope, &context.metrics));
    tokio::select! {
        () = seen(&context) => {}
        () = stop.cancelled() => return,
    }
    info!("this replica leads: all groups are reconciled");
    tasks.spawn(triggers.run());
    tasks.spawn(gauges::show(context.clone()));
    tasks.spawn(uninjected::tell(context.clone()));
    let denials = Follower::new(context.clone(), groups.clone(), retry_denied);
    tasks.spawn(denials.run(client, scope));
    tasks.spawn(polls::run(context.clone(), authorities, groups));

    let ended = runs(context, group_runner, namespace_runner, &stop);
    tokio::select! {
        () = ended => {}
        lost = lost(&mut tasks) => std::panic::resume_unwind(lost),
    }
}

/// Returns once everything was listed: to decide by half of it would be to remove what
/// the other half asks for.
async fn seen(context: &Context) {
    context.groups.watched().synced().await;
    context.pods.watched().synced().await;
    context.children.synced().await;
}

/// Returns when a task panics; none ends otherwise, but at a stop.
async fn lost(tasks: &mut JoinSet<()>) -> Box<dyn Any + Send> {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            return panic;
        }
    }
    std::future::pending().await
}

async fn runs(
    context: Context,
    groups: Runner<Key>,
    namespaces: Runner<String>,
    stop: &CancellationToken,
) {
    let of_group = context.clone();
    let groups = groups.run(move |key| reconcile::reconcile(of_group.clone(), key), stop.clone());
    let namespaces = namespaces
        .run(move |namespace| namespaces::reconcile(context.clone(), namespace), stop.clone());
    tokio::join!(groups, namespaces);
}
