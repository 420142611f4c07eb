//! The operator's own certificates: in memory, and made anew long before they end.
//!
//! Each replica signs its own; nothing of them is stored. A connection takes what is in
//! force when it begins, so that a change needs no restart.

use std::fmt;
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::issue::{self, CLOCK_SKEW, IssueError, Leaf, Signer};

/// A certificate of the operator's, with its key.
pub(crate) struct OwnLeaf {
    /// Of the authority's certificate that signed it.
    pub(crate) signed_by: String,
    pub(crate) not_after: OffsetDateTime,
    renew_at: OffsetDateTime,
    made_at: OffsetDateTime,
    pub(crate) certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

/// Hands the port's certificate of the moment to each new connection.
#[derive(Debug)]
pub(crate) struct ServingResolver(pub(crate) watch::Receiver<Option<Arc<CertifiedKey>>>);

// === impl OwnLeaf ===

impl OwnLeaf {
    /// Makes a key, and a certificate for it.
    pub(crate) fn make(
        leaf: &Leaf,
        (signer, signed_by): (&Signer, &str),
        now: OffsetDateTime,
    ) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let certificate = issue::sign(leaf, &key, signer, now)?.der().clone();
        Ok(Self {
            signed_by: signed_by.to_owned(),
            not_after: now + leaf.life,
            renew_at: now + leaf.life / 2,
            made_at: now,
            certificate,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        })
    }

    /// Whether it can go on being used: signed by `signer`, in the first half of its
    /// life, and not from a future that a corrected clock has taken back.
    pub(crate) fn is_fresh(&self, signer: &str, now: OffsetDateTime) -> bool {
        self.signed_by == signer && now < self.renew_at && now >= self.made_at - CLOCK_SKEW
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }

    /// As a port shows it.
    pub(crate) fn certified_key(&self) -> Result<CertifiedKey, rustls::Error> {
        let key = any_ecdsa_type(&self.key())?;
        Ok(CertifiedKey::new(vec![self.certificate.clone()], key))
    }
}

impl fmt::Debug for OwnLeaf {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnLeaf(until {}, by {:.8})", self.not_after, self.signed_by)
    }
}

// === impl ServingResolver ===

impl ResolvesServerCert for ServingResolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::super::WallClock;
    use super::super::state::State;
    use super::super::testing::{NOW, authorities, secret};

    #[tokio::test]
    async fn a_certificate_is_made_anew_at_half_of_its_life_and_when_its_signer_changes() {
        let clock = WallClock::manual(NOW);
        let authorities = authorities(clock.clone());
        let first = secret(NOW);
        let serial = |change: &dyn Fn(&mut State)| {
            authorities.change(change);
            authorities.shared.state.borrow().serving.as_ref().unwrap().certificate.to_vec()
        };
        let made = serial(&|state| state.see_secret(Some(&first)));
        clock.set(NOW + Duration::hours(12) - Duration::SECOND);
        assert_eq!(serial(&|_| {}), made, "it is good for another half");
        clock.set(NOW + Duration::hours(12));
        let second = serial(&|_| {});
        assert_ne!(second, made);
        clock.set(NOW + Duration::hours(11));
        let corrected = serial(&|_| {});
        assert_ne!(corrected, second, "it begins in the future, now that the clock was set back");
        let other = secret(NOW);
        assert_ne!(serial(&|state| state.see_secret(Some(&other))), corrected);
    }
}
