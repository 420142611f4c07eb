//! All tasks of the process, on one set: one that is lost is noticed.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long the tasks may take to end.
const LAST_WORK: Duration = Duration::from_secs(12);

/// All tasks of the process. One that ends early says why, if it can.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    set: JoinSet<Option<(&'static str, String)>>,
}

impl Tasks {
    /// A task that ends only when it is told to; it returns why, if something failed.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Option<String>> + Send + 'static,
    ) {
        self.set.spawn(async move {
            let why = task.await;
            Some((name, why.map_or_else(String::new, |why| format!(": {why}"))))
        });
    }

    /// A task that ends only when it is told to.
    pub(crate) fn spawn_endless(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, async move {
            task.await;
            None
        });
    }

    /// A task that never ends, and is dropped where it is at `end`.
    pub(crate) fn spawn_until(
        &mut self,
        name: &'static str,
        end: &CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let end = end.clone();
        self.set.spawn(async move {
            tokio::select! {
                () = task => Some((name, String::new())),
                () = end.cancelled() => None,
            }
        });
    }

    /// A task that ends when it is done, or at `end`.
    pub(crate) fn spawn_once(
        &mut self,
        end: &CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let end = end.clone();
        self.set.spawn(async move {
            tokio::select! {
                () = task => None,
                () = end.cancelled() => None,
            }
        });
    }

    /// Returns at `stop`, or when a task is lost: which, and why.
    pub(crate) async fn lost_or(
        &mut self,
        stop: &CancellationToken,
    ) -> Option<(&'static str, String)> {
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
    pub(crate) async fn end(mut self) {
        let all = async { while self.set.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORK, all).await.is_err() {
            warn!("some work did not end in time, and is left");
        }
    }
}
