//! After a failed commit: the store is opened anew, with back-off.
//!
//! What comes meanwhile is refused at once, so that clients can go elsewhere;
//! reads go on beside it. The replicas that come back are new openings: what the
//! failed commit held may be on disk or not, and no dot is used twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::{Answer, Control, Writer};
use crate::engine::{AddError, Engine, EngineError, Opening};
use crate::peer::{CloseReason, LinkEvent};
use crate::replica_task::handle::GroupRequest;
use crate::replica_task::{HandedOver, ServeError, SubmitError};
use crate::store::Store;

/// The waits between two attempts to open a failed store.
const FIRST_REOPEN: Duration = Duration::from_millis(100);
const LAST_REOPEN: Duration = Duration::from_secs(2);

impl<S: Store> Writer<S> {
    /// Ends what the failed engine had open, and gives its store back.
    pub(super) fn abandon(&mut self, mut engine: Engine<S, Answer>) -> S {
        for ticket in engine.abandon() {
            let _ = ticket.send(Err(SubmitError::OutcomeUnknown));
        }
        self.abandon_exchanges();
        for (_, link) in std::mem::take(&mut self.links) {
            link.outbound.close(CloseReason::Io);
        }
        engine.into_store()
    }

    /// Opens a failed store again, with back-off; refuses what comes meanwhile.
    /// `None` if the agent is stopped before it succeeds.
    pub(super) async fn reopen(
        &mut self,
        mut store: S,
        mut full: bool,
    ) -> Option<Engine<S, Answer>> {
        let mut wait = FIRST_REOPEN;
        loop {
            let until = Instant::now() + wait;
            if self.refuse_until(until, full).await {
                return None;
            }
            wait = (wait * 2).min(LAST_REOPEN);
            if let Err(error) = store.reopen() {
                full = error.is_disk_full();
                warn!(%error, "the store cannot be opened yet");
                continue;
            }
            match self.open_again(store) {
                Ok(engine) => return Some(engine),
                Err((error, back)) => {
                    warn!(error = error.with_mend(), "the groups cannot be opened yet");
                    full = error.is_disk_full();
                    store = back;
                }
            }
        }
    }

    /// The groups over the reopened store; with the error, the store comes back.
    fn open_again(&mut self, mut store: S) -> Result<Engine<S, Answer>, (AddError, S)> {
        let now = self.now();
        let recorded = Opening::record(&mut store, Arc::clone(&self.name), (self.random)());
        let opening = match recorded {
            Ok(opening) => opening,
            Err(error) => return Err((error.into(), store)),
        };
        let mut engine = Engine::over(store, opening);
        let groups: Vec<_> = self.served.values().map(|served| served.spec.to_add()).collect();
        match engine.add_groups(&groups, now) {
            Ok(_) => Ok(engine),
            Err(error) => Err((error, engine.into_store())),
        }
    }

    /// Answers everything with a refusal until then; true if told to stop.
    async fn refuse_until(&mut self, until: Instant, full: bool) -> bool {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return false,
                control = self.inputs.control.recv() => match control {
                    Some(Control::Stop(done)) => {
                        let _ = done.send(());
                        return true;
                    }
                    Some(Control::Serve(_, done)) => {
                        let reopening = "the store is being opened again".to_owned();
                        let _ = done.send(Err(ServeError::Store(reopening)));
                    }
                    Some(Control::HandOver(done)) => {
                        let _ = done.send(HandedOver::StoreFailed);
                    }
                    None => return true,
                },
                Some((_, request)) = self.inputs.requests.recv() => match request {
                    GroupRequest::Write(_, ticket) => {
                        let refusal =
                            if full { SubmitError::DiskFull } else { SubmitError::WriterStopped };
                        let _ = ticket.send(Err(refusal));
                    }
                    GroupRequest::Sync(_, ticket) => {
                        let _ = ticket.send(Err(SubmitError::WriterStopped));
                    }
                },
                Some(event) = self.inputs.links.recv() => {
                    if let LinkEvent::Up(up) = event {
                        up.outbound.close(CloseReason::Io);
                    }
                }
            }
        }
    }
}

pub(super) fn is_disk_full(error: &EngineError) -> bool {
    matches!(error, EngineError::Store(error) if error.is_disk_full())
}
