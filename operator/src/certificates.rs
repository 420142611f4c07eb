//! Who vouches for whom: the operator's two authorities, and what they sign.
//!
//! *Serving* vouches for the operator's HTTPS port, to the API server (which calls the
//! webhook) and to agents (which ask for certificates). *Peers* vouches for agents to
//! each other. Both stand in one Secret of the operator's namespace, and nowhere else
//! is a key ever written.
//!
//! Every replica [runs](Authorities::run): it follows the Secret and the webhook
//! configuration, and keeps its own certificates fresh, in memory. One replica
//! [leads](Authorities::run_leader): it alone writes the Secret, moves rotations on and
//! writes the webhook configuration's `caBundle`.
//!
//! Once read, the authorities are in force until others are: a Secret that is damaged
//! is left alone and told of, one that is deleted is written back by the leader.

mod authority;
mod bundle;
mod clock;
mod issue;
mod leading;
mod leaf;
mod metrics;
mod polling;
mod rotation;
mod rotation_args;
pub mod signing;
mod state;
#[cfg(test)]
pub(crate) mod testing;
mod watching;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use prometheus::Registry;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use tokio::sync::watch;

pub use authority::AuthorityName;
pub use clock::WallClock;
pub use polling::PollIdentity;
pub use rotation::Timings;
pub use rotation_args::RotationArgs;
pub use state::NotReady;

use issue::LeafName;
use leaf::ServingResolver;
use metrics::CertificateMetrics;
use state::State;

/// The Secret that holds the authorities.
pub const AUTHORITIES_SECRET: &str = "coppice-authorities";

/// Where the authorities are, and whom they vouch for.
#[derive(Clone, Debug)]
pub struct CertificateSettings {
    /// The operator's own namespace.
    pub namespace: String,
    /// The `Service` in front of the operator's HTTPS port.
    pub service: String,
    /// Its addresses.
    pub service_addresses: Vec<IpAddr>,
    /// The `MutatingWebhookConfiguration` whose `caBundle` is written.
    pub webhook_configuration: String,
    /// The UID of the namespace `kube-system`, which names the cluster.
    pub cluster: String,
    /// How long rotations of the serving authority wait.
    pub serving_timings: Timings,
    /// How long rotations of the peers' authority wait.
    pub peers_timings: Timings,
}

/// What agents are told of the authorities, each as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedAuthorities {
    /// By these the operator's port is verified.
    pub serving_pem: String,
    /// By these peers are verified.
    pub peers_pem: String,
}

/// The authorities of this cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authorities {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    settings: CertificateSettings,
    clock: WallClock,
    metrics: CertificateMetrics,
    state: watch::Sender<State>,
    serving_key: watch::Sender<Option<Arc<CertifiedKey>>>,
    published: watch::Sender<Option<PublishedAuthorities>>,
    held: watch::Sender<BTreeSet<String>>,
}

// === impl Authorities ===

impl Authorities {
    /// Authorities that are not known yet; [`Authorities::run`] makes them so.
    ///
    /// # Errors
    ///
    /// If the registry has their metrics already.
    pub fn new(
        client: Client,
        settings: CertificateSettings,
        clock: WallClock,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = CertificateMetrics::register(registry)?;
        let shared = Shared {
            client,
            settings,
            clock,
            metrics,
            state: watch::Sender::default(),
            serving_key: watch::Sender::default(),
            published: watch::Sender::default(),
            held: watch::Sender::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What agents are to be told; none until the Secret was read.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<Option<PublishedAuthorities>> {
        self.shared.published.subscribe()
    }

    /// Whether the API server believes what this replica's port shows.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn readiness(&self) -> Result<(), NotReady> {
        self.shared.state.borrow().readiness()
    }

    /// Whether the API server believes what this replica's port shows.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness().is_ok()
    }

    /// Resolves when readiness may have changed.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.shared.state.subscribe())
    }

    /// Says which of the peers' authorities *every* live agent reports, by SHA-256 in
    /// hexadecimal. Whoever asks agents calls it after a round that reached all of them:
    /// a rotation goes on sooner then.
    pub fn agents_hold(&self, fingerprints: BTreeSet<String>) {
        self.shared.held.send_if_modified(|held| {
            let differs = *held != fingerprints;
            *held = fingerprints;
            differs
        });
    }

    /// TLS for the operator's port. A connection shows the certificate that is in force
    /// when it begins; before there is one, it fails.
    ///
    /// # Errors
    ///
    /// If the library lacks TLS 1.3, which it does not.
    pub fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        let resolver = ServingResolver(self.shared.serving_key.subscribe());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// As whom agents are asked for their report; none before there is a certificate.
    #[must_use]
    pub fn poll_identity(&self) -> Option<PollIdentity> {
        let state = self.shared.state.borrow();
        let (loaded, client) = (state.loaded.as_ref()?, state.client.as_ref()?);
        PollIdentity::new(&self.shared.settings.cluster, &loaded.peers.roots, client)
    }

    /// The name that API server and agents know the port by.
    #[must_use]
    pub fn server_name(&self) -> String {
        let CertificateSettings { service, namespace, .. } = &self.shared.settings;
        format!("{service}.{namespace}.svc")
    }
}

/// Waits for a change of what this replica knows.
#[derive(Debug)]
pub struct Changes(watch::Receiver<State>);

impl Changes {
    /// Resolves at the next change; never, once the authorities are gone.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

// === impl Shared ===

impl Shared {
    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }

    fn webhooks(&self) -> Api<MutatingWebhookConfiguration> {
        Api::all(self.client.clone())
    }

    const fn timings(&self, name: AuthorityName) -> &Timings {
        match name {
            AuthorityName::Serving => &self.settings.serving_timings,
            AuthorityName::Peers => &self.settings.peers_timings,
        }
    }

    /// The names of the operator's port.
    fn serving_names(&self) -> Vec<LeafName> {
        let CertificateSettings { service, namespace, service_addresses, .. } = &self.settings;
        let names = [
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
            service.clone(),
        ];
        let names = names.into_iter().map(LeafName::Dns);
        names.chain(service_addresses.iter().copied().map(LeafName::Ip)).collect()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}
