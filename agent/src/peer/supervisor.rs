//! Starts and stops the transport, and keeps one dialling task for each listed
//! address and each served group that it is listed for.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use super::dial::{Address, Dial};
use super::mailbox::Mailbox;
use super::settings::{Settings, StartError};
use super::shared::{Groups, Parts, Security, Shared};
use super::tls::{self, Watched};
use super::{GroupName, LinkEvent, PeerMetrics, server};
use crate::discovery::{Listed, PeerAddress, Peers, Scope};

/// The running transport.
///
/// Made by [`Supervisor::start`] with no groups: nothing is dialled and every
/// request is answered 404 until [`Supervisor::set_groups`]. Ends with
/// [`Supervisor::close`]; dropped without it, links are closed all the same,
/// but nobody waits for what they have queued.
pub struct Supervisor {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    /// Cancelled when a task that should run for ever has ended.
    lost: CancellationToken,
}

/// The dialling tasks; each token ends its task and closes its link.
struct Dials {
    shared: Arc<Shared>,
    addresses: BTreeMap<PeerAddress, (Arc<Address>, Scope)>,
    tasks: BTreeMap<(PeerAddress, GroupName), CancellationToken>,
}

// === impl Supervisor ===

impl Supervisor {
    /// Listens, and dials what `peers` lists from now on.
    ///
    /// `events` is the replica task's mailbox; its capacity, in events, is the
    /// caller's. Links wait while it is full.
    ///
    /// # Errors
    ///
    /// [`StartError`] names the field and the mend; nothing was started.
    pub async fn start(
        settings: Settings,
        peers: watch::Receiver<Peers>,
        events: mpsc::Sender<LinkEvent>,
        metrics: PeerMetrics,
    ) -> Result<Self, StartError> {
        let group_faults_from = settings.group_faults_from();
        let Settings { listen, tls: files, insecure_peers, limits, timing, .. } = settings;
        if files.is_none() && !insecure_peers && !listen.ip().is_loopback() {
            return Err(StartError::Insecure(listen));
        }
        if files.is_none() && !listen.ip().is_loopback() {
            warn!(address = %listen, "insecurePeers: whoever reaches this address can read and write all groups");
        }
        let current = watch::Sender::new(Security::Plain);
        let security = current.subscribe();
        let mut watched = None;
        if let Some(files) = files {
            current.send_replace(Security::Pending);
            let watch = Watched { files, raw: None, current, metrics: metrics.clone() };
            let watch = watched.insert(watch);
            match watch.look().await {
                Err(error) if settings.in_cluster => {
                    info!(%error, "no certificate yet: peers are spoken with once there is one");
                }
                looked => looked?,
            }
        }
        let failed = |source| StartError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        info!(address = %local_addr, tls = watched.is_some(), "listening for peers");

        let mailbox = Mailbox::new(events, limits.inbound_bytes);
        let reporter = settings.reporter;
        let parts =
            Parts { mailbox, metrics, limits, timing, security, reporter, group_faults_from };
        let supervisor = Self {
            shared: Arc::new(Shared::new(parts)),
            local_addr,
            lost: CancellationToken::new(),
        };
        supervisor.spawn_all(listener, peers, watched);
        Ok(supervisor)
    }

    /// Serves exactly these groups from now on. Links of a group that is not
    /// among them are closed; peers that ask for it get 404 and come again.
    pub fn set_groups(&self, groups: impl IntoIterator<Item = GroupName>) {
        self.shared.set_groups(groups);
    }

    /// Where peers reach this agent.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until a task ends that should run until [`Self::close`]: it has
    /// panicked, and the process should end.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Closes all links, sends what they have queued, and waits for every task,
    /// a little longer than the closing deadline at most. The owner hands over
    /// first; it may go on reading its mailbox meanwhile, or not.
    pub async fn close(self) {
        self.shared.shutdown.cancel();
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
    }

    fn spawn_all(
        &self,
        listener: TcpListener,
        peers: watch::Receiver<Peers>,
        watched: Option<Watched>,
    ) {
        let tracker = &self.shared.tracker;
        let listening = server::listen(listener, Arc::clone(&self.shared));
        tracker.spawn(guarded(self.lost.clone().drop_guard(), listening));
        let dialling = keep_dialling(peers, Arc::clone(&self.shared));
        tracker.spawn(guarded(self.lost.clone().drop_guard(), dialling));
        if let Some(watched) = watched {
            let poll = self.shared.timing.certificate_poll;
            let watching = tls::watch_files(watched, poll, self.shared.shutdown.clone());
            tracker.spawn(guarded(self.lost.clone().drop_guard(), watching));
        }
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.shutdown.cancel();
    }
}

/// Runs a task so that its end, by panic too, is noticed.
async fn guarded(noticed: DropGuard, task: impl Future<Output = ()>) {
    task.await;
    drop(noticed);
}

/// Starts and ends dialling tasks as addresses and groups come and go, until
/// `shutdown`, which ends those tasks too.
async fn keep_dialling(mut peers: watch::Receiver<Peers>, shared: Arc<Shared>) {
    let mut groups = shared.groups.subscribe();
    let mut dials =
        Dials { shared: Arc::clone(&shared), addresses: BTreeMap::new(), tasks: BTreeMap::new() };
    let mut is_watched = true;
    loop {
        let listed = peers.borrow_and_update().clone();
        dials.set_addresses(&listed);
        let served = groups.borrow_and_update().clone();
        dials.set_groups(&served);
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return,
            changed = peers.changed(), if is_watched => is_watched = changed.is_ok(),
            // `shared` holds the sender.
            _changed = groups.changed() => {}
        }
    }
}

// === impl Dials ===

impl Dials {
    fn set_addresses(&mut self, listed: &Listed) {
        let listed = &listed.addresses;
        self.addresses.retain(|name, _| listed.contains_key(name));
        self.tasks.retain(|(name, group), stop| {
            let is_listed = listed.get(name).is_some_and(|scope| scope.covers(group));
            if !is_listed {
                stop.cancel();
            }
            is_listed
        });
        for (name, scope) in listed {
            let new = || Arc::new(Address::new(name.clone(), &self.shared));
            let known = self.addresses.entry(name.clone());
            known.or_insert_with(|| (new(), scope.clone())).1.clone_from(scope);
        }
    }

    fn set_groups(&mut self, served: &Groups) {
        // A group that was taken out has cancelled its tasks itself.
        self.tasks.retain(|_, stop| !stop.is_cancelled());
        for (name, (address, scope)) in &self.addresses {
            if address.is_self() {
                continue;
            }
            for (group, served) in served.iter().filter(|(group, _)| scope.covers(group)) {
                let Entry::Vacant(task) = self.tasks.entry((name.clone(), group.clone())) else {
                    continue;
                };
                let stop = task.insert(served.child_token()).clone();
                let (address, shared) = (Arc::clone(address), Arc::clone(&self.shared));
                let dial = Dial { address, group: group.clone(), stop, shared };
                self.shared.tracker.spawn(dial.run());
            }
        }
    }
}
