//! Where reads run.
//!
//! A point read (one or two records, mostly in memory) runs on the async worker:
//! handing it to another thread costs more than the read. What walks (pages,
//! listings, many keys) may wait for the disk many times over and goes to the
//! blocking threads, so that it cannot hold up other requests.

use std::time::Duration;

use axum::response::Response;

use super::Call;
use super::problem::{Answer, Kind, Problem};
use crate::query::{GroupView, QueryError};

/// How long a read waits for a store that is being opened again.
const REOPENING_PATIENCE: Duration = Duration::from_secs(1);
const REOPENING_POLL: Duration = Duration::from_millis(10);

impl Call<'_> {
    /// A view of the group as it is now.
    pub(crate) async fn view(self) -> Answer<Box<dyn GroupView>> {
        let mut waited = Duration::ZERO;
        loop {
            match self.group.views.view() {
                Err(QueryError::Reopening) if waited < REOPENING_PATIENCE => {
                    tokio::time::sleep(REOPENING_POLL).await;
                    waited += REOPENING_POLL;
                }
                view => return Ok(view?),
            }
        }
    }

    /// Runs what walks a view on a thread that may block.
    pub(crate) async fn walk(
        self,
        walk: impl FnOnce(&dyn GroupView) -> Answer<Response> + Send + 'static,
    ) -> Answer<Response> {
        let view = self.view().await?;
        let walked = tokio::task::spawn_blocking(move || walk(&*view)).await;
        walked.unwrap_or_else(|_| {
            Err(Problem::new(Kind::Internal, "the read failed: see the agent's log"))
        })
    }

    /// Whether this replica is still being filled by its peers.
    pub(crate) fn bootstrapping(self) -> bool {
        self.group.handle.is_bootstrapping()
    }
}
