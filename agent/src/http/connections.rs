//! The connections of one port: at most so many, and which of them makes room.
//!
//! Clients keep connections that they do not use, and may keep more than there are
//! places. So whoever comes at the limit gets the place of the connection that is
//! idle longest; where none is idle it waits, as the next ones do in the system's
//! queue.
//!
//! Invariant: a connection with an open request, or with something left to send,
//! is not ended for another one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use prometheus::IntCounter;
use tokio::task::{Id, JoinSet};
use tracing::field::display;
use tracing::warn;

use super::activity::Activity;

/// A connection that was idle for less is left: its client may be between two
/// requests.
const LEAST_IDLE: Duration = Duration::from_secs(1);

/// The connections of one port.
#[derive(Debug)]
pub(super) struct Connections {
    address: Option<SocketAddr>,
    limit: usize,
    tasks: JoinSet<()>,
    activities: HashMap<Id, Activity>,
    /// Counts those that came at the limit.
    over_limit: IntCounter,
    /// Whether the log has it, until there is room again.
    is_said: bool,
}

impl Connections {
    /// None yet, of a port on `address` that takes `limit`.
    pub(super) fn new(address: Option<SocketAddr>, limit: usize, over_limit: IntCounter) -> Self {
        let (tasks, activities) = (JoinSet::new(), HashMap::new());
        Self { address, limit, tasks, activities, over_limit, is_said: false }
    }

    /// Runs a connection.
    pub(super) fn open(
        &mut self,
        activity: Activity,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(connection);
        self.activities.insert(task.id(), activity);
    }

    /// Waits for the end of one; `None`: there is none.
    pub(super) async fn ended(&mut self) -> Option<()> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.map_or_else(|panicked| panicked.id(), |(id, ())| id);
        self.activities.remove(&id);
        Some(())
    }

    /// Notes that a connection came.
    pub(super) fn came(&mut self) {
        if self.has_room() {
            // Not at the first that left: it would be said of each one that comes.
            let is_over = self.tasks.len() <= self.limit - self.limit / 8;
            self.is_said = self.is_said && !is_over;
            return;
        }
        self.over_limit.inc();
        if !std::mem::replace(&mut self.is_said, true) {
            let (address, limit) = (self.address.map(display), self.limit);
            warn!(
                address,
                limit,
                "the port has all the connections that it takes: for new ones those that are \
                 idle longest are closed; let clients share connections, or close what they no longer use"
            );
        }
    }

    /// Whether one more may be opened. If not, the one that is idle longest is asked
    /// to end, if it is idle for long enough.
    pub(super) fn make_room(&self) -> bool {
        if self.has_room() {
            return true;
        }
        let idle = self.activities.values().filter_map(|activity| {
            activity.idle_for().filter(|idle| *idle >= LEAST_IDLE).map(|idle| (idle, activity))
        });
        if let Some((_, longest)) = idle.max_by_key(|(idle, _)| *idle) {
            longest.ask_to_leave();
        }
        false
    }

    fn has_room(&self) -> bool {
        self.tasks.len() < self.limit
    }
}
