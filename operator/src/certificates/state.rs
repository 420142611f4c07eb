//! What a replica knows of the authorities and of those who must believe them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::CertificateDer;

use coppice_api::cluster::AUTHORITIES_ROTATION;

use super::authority::{AuthorityName, AuthoritySet, Damage};
use super::bundle::ObservedBundles;
use super::issue::Signer;
use super::leaf::OwnLeaf;

/// Everything that decides what this replica serves, signs and tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// The Secret as it was seen last.
    pub(crate) secret: SecretSeen,
    /// The last content that could be used; in force even if the Secret was damaged or
    /// deleted since.
    pub(crate) loaded: Option<Arc<Loaded>>,
    /// None: the webhook configuration is not there, or was not seen yet.
    pub(crate) bundles: Option<ObservedBundles>,
    /// The certificate of the operator's port.
    pub(crate) serving: Option<Arc<OwnLeaf>>,
    /// The certificate by which agents know the operator.
    pub(crate) client: Option<Arc<OwnLeaf>>,
}

/// The Secret as it was seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SecretSeen {
    /// No answer yet.
    #[default]
    NotYet,
    /// There is none.
    Absent,
    /// It holds something else.
    Damaged(Damage),
    /// It is what is loaded.
    Good,
}

/// The authorities, ready for use.
pub(crate) struct Loaded {
    pub(crate) set: AuthoritySet,
    /// Of the Secret.
    pub(crate) resource_version: String,
    /// The annotation that asks for rotations.
    pub(crate) rotation: Option<String>,
    pub(crate) serving: LoadedAuthority,
    pub(crate) peers: LoadedAuthority,
}

/// One of them.
pub(crate) struct LoadedAuthority {
    pub(crate) signer: Signer,
    /// Of the certificate that signs.
    pub(crate) fingerprint: String,
    /// All that are believed, as PEM.
    pub(crate) bundle: String,
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

/// Why a replica cannot take part yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// No leader has made the authorities, or they were not read yet.
    #[error("the Secret of authorities was not seen yet")]
    NoAuthorities,
    /// They cannot be used.
    #[error(
        "the Secret of authorities is damaged and is left as it is: {0}; restore it from a backup, \
         or delete it to start anew (agents then need new certificates)"
    )]
    Damaged(String),
    /// The API server would not believe this replica's port.
    #[error(
        "the webhook configuration does not believe this replica's authority yet; the leader \
         writes its caBundle"
    )]
    NotBelieved,
    /// There is nothing to be called by.
    #[error("the webhook configuration is not there; install the chart")]
    NoWebhook,
}

// === impl State ===

impl State {
    /// Takes in the Secret as it is now.
    pub(crate) fn see_secret(&mut self, secret: Option<&Secret>) {
        let Some(secret) = secret else {
            self.secret = SecretSeen::Absent;
            return;
        };
        match Loaded::read(secret) {
            Ok(loaded) => {
                self.secret = SecretSeen::Good;
                self.loaded = Some(Arc::new(loaded));
            }
            Err(damage) => self.secret = SecretSeen::Damaged(damage),
        }
    }

    /// Whether API servers believe what this replica's port shows.
    pub(crate) fn readiness(&self) -> Result<(), NotReady> {
        let Some(leaf) = &self.serving else {
            return Err(match &self.secret {
                SecretSeen::Damaged(damage) => NotReady::Damaged(damage.to_string()),
                SecretSeen::NotYet | SecretSeen::Absent | SecretSeen::Good => {
                    NotReady::NoAuthorities
                }
            });
        };
        let bundles = self.bundles.as_ref().ok_or(NotReady::NoWebhook)?;
        if bundles.believe(&leaf.signed_by) { Ok(()) } else { Err(NotReady::NotBelieved) }
    }
}

// === impl Loaded ===

impl Loaded {
    fn read(secret: &Secret) -> Result<Self, Damage> {
        let empty = std::collections::BTreeMap::new();
        let set = AuthoritySet::read(secret.data.as_ref().unwrap_or(&empty))?;
        let annotations = secret.metadata.annotations.as_ref();
        let rotation = annotations.and_then(|all| all.get(AUTHORITIES_ROTATION)).cloned();
        Ok(Self {
            resource_version: secret.metadata.resource_version.clone().unwrap_or_default(),
            rotation,
            serving: LoadedAuthority::of(&set, AuthorityName::Serving)?,
            peers: LoadedAuthority::of(&set, AuthorityName::Peers)?,
            set,
        })
    }
}

impl std::fmt::Debug for Loaded {
    /// Without keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("set", &self.set)
            .field("resource_version", &self.resource_version)
            .finish_non_exhaustive()
    }
}

// === impl LoadedAuthority ===

impl LoadedAuthority {
    fn of(set: &AuthoritySet, name: AuthorityName) -> Result<Self, Damage> {
        let authority = set.get(name);
        let none = || Damage::Signers(name.name(), 0);
        let signing = authority.signing().ok_or_else(none)?;
        Ok(Self {
            signer: signing.signer().ok_or_else(none)?,
            fingerprint: signing.fingerprint().ok_or_else(none)?,
            bundle: authority.bundle(),
            roots: authority.roots(),
        })
    }
}
