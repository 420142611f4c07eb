//! What every replica does: follow Secret and webhook configuration, and keep its own
//! certificates fresh.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use coppice_api::cluster::operator_uri;
use futures_util::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::bundle::ObservedBundles;
use super::issue::{Leaf, LeafName, PEER_LIFE, SERVING_LIFE};
use super::leaf::OwnLeaf;
use super::state::{Loaded, SecretSeen, State};
use super::{AUTHORITIES_SECRET, Authorities, PublishedAuthorities, Shared};
use crate::outage::Outage;

/// How often the clock is looked at: timers stand still while a machine sleeps.
pub(super) const CLOCK_CHECK: Duration = Duration::from_mins(1);

// === impl Authorities ===

impl Authorities {
    /// Follows the authorities until `shutdown` fires. It never ends by itself: what
    /// fails is tried again.
    pub async fn run(&self, shutdown: CancellationToken) {
        let shared = &self.shared;
        let name = &shared.settings.webhook_configuration;
        let mut secrets =
            pin!(watch_object(shared.secrets(), AUTHORITIES_SECRET).default_backoff());
        let mut webhooks = pin!(watch_object(shared.webhooks(), name).default_backoff());
        let mut clock = interval(CLOCK_CHECK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut no_secret, mut no_webhook) = (Outage::default(), Outage::default());
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(seen) = secrets.next() => match seen {
                    Ok(secret) => {
                        no_secret.worked();
                        self.change(|state| state.see_secret(secret.as_ref()));
                    }
                    Err(error) if no_secret.failed(&error) => {
                        warn!(%error, "the Secret of authorities cannot be watched; trying again");
                    }
                    Err(_) => {}
                },
                Some(seen) = webhooks.next() => match seen {
                    Ok(found) => {
                        no_webhook.worked();
                        let bundles = found.as_ref().map(ObservedBundles::of);
                        self.change(|state| state.bundles = bundles);
                    }
                    Err(error) if no_webhook.failed(&error) => {
                        warn!(%error, "the webhook configuration cannot be watched; trying again");
                    }
                    Err(_) => {}
                },
                _ = clock.tick() => self.change(|_| {}),
            }
        }
    }

    /// Changes what is known, and all that follows from it.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        let shared = &self.shared;
        let before = shared.state.borrow().clone();
        let mut state = before.clone();
        change(&mut state);
        shared.refresh(&mut state, shared.clock.now());
        tell(&before, &state);
        shared.metrics.set_damaged(matches!(state.secret, SecretSeen::Damaged(_)));
        let published = state.loaded.as_ref().map(|loaded| PublishedAuthorities {
            serving_pem: loaded.serving.bundle.clone(),
            peers_pem: loaded.peers.bundle.clone(),
        });
        shared.published.send_if_modified(|told| {
            let differs = *told != published;
            *told = published;
            differs
        });
        // Last: whoever waits for this finds the rest done.
        shared.state.send_replace(state);
    }
}

// === impl Shared ===

impl Shared {
    /// Makes the operator's own certificates anew where it is time.
    fn refresh(&self, state: &mut State, now: OffsetDateTime) {
        let Some(loaded) = state.loaded.clone() else { return };
        self.measure(&loaded);
        let (serving, peers) = (&loaded.serving, &loaded.peers);
        if !state.serving.as_ref().is_some_and(|leaf| leaf.is_fresh(&serving.fingerprint, now)) {
            let leaf = Leaf {
                subject: "coppice-operator",
                names: self.serving_names(),
                client: false,
                life: SERVING_LIFE,
            };
            let made = OwnLeaf::make(&leaf, (&serving.signer, &serving.fingerprint), now);
            self.take_serving(state, made.map_err(|error| error.to_string()));
        }
        if !state.client.as_ref().is_some_and(|leaf| leaf.is_fresh(&peers.fingerprint, now)) {
            let leaf = Leaf {
                subject: "coppice-operator",
                names: vec![LeafName::Uri(operator_uri(&self.settings.cluster))],
                client: true,
                life: PEER_LIFE,
            };
            match OwnLeaf::make(&leaf, (&peers.signer, &peers.fingerprint), now) {
                Ok(leaf) => {
                    self.metrics.expires("operator", leaf.not_after);
                    state.client = Some(Arc::new(leaf));
                }
                Err(error) => error!(%error, "no certificate could be made to ask agents with"),
            }
        }
    }

    fn take_serving(&self, state: &mut State, made: Result<OwnLeaf, String>) {
        let usable = made.and_then(|leaf| {
            let key = leaf.certified_key().map_err(|error| error.to_string())?;
            Ok((leaf, key))
        });
        match usable {
            Ok((leaf, key)) => {
                self.metrics.expires("serving", leaf.not_after);
                self.serving_key.send_replace(Some(Arc::new(key)));
                state.serving = Some(Arc::new(leaf));
            }
            Err(error) => error!(%error, "no certificate could be made for the HTTPS port"),
        }
    }

    fn measure(&self, loaded: &Loaded) {
        for (name, authority) in
            [("serving-authority", &loaded.set.serving), ("peers-authority", &loaded.set.peers)]
        {
            if let Some((_, until)) = authority.signing().and_then(super::authority::Ca::validity) {
                self.metrics.expires(name, until);
            }
        }
    }
}

/// Says once what changed for those who look after the operator.
fn tell(before: &State, after: &State) {
    if before.secret != after.secret {
        match (&after.secret, &after.loaded) {
            (SecretSeen::Damaged(damage), Some(_)) => error!(
                %damage,
                "the Secret {AUTHORITIES_SECRET} is damaged and is left as it is; what was read \
                 before stays in force, and is lost when this process ends: restore it"
            ),
            (SecretSeen::Damaged(damage), None) => error!(
                %damage,
                "the Secret {AUTHORITIES_SECRET} is damaged and is left as it is: restore it from \
                 a backup, or delete it to start anew"
            ),
            (SecretSeen::Absent, Some(_)) => {
                warn!("the Secret {AUTHORITIES_SECRET} is gone; the leader writes it back");
            }
            (SecretSeen::Absent | SecretSeen::NotYet | SecretSeen::Good, _) => {}
        }
    }
    if before.readiness() != after.readiness() {
        match after.readiness() {
            Ok(()) => info!("the API server believes this replica's certificate"),
            Err(missing) => warn!("not ready for requests: {missing}"),
        }
    }
}
