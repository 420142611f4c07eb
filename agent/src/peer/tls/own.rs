//! Whether peers would accept this agent's own certificate, asked of the verifiers
//! that they would ask.

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, InconsistentKeys};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::TlsError;

/// Why peers that trust the same CA would refuse this agent's certificate.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It comes from elsewhere.
    #[error(
        "it does not come from the CA in tls.ca, and peers would refuse it; have it issued by that \
         CA, or add its CA to tls.ca on all agents (intermediate ones follow it in its own file)"
    )]
    OtherCa,
    /// It may not be used any more.
    #[error("it, or one between it and the CA, has expired, and peers would refuse it; renew it")]
    Expired,
    /// It may not be used yet.
    #[error(
        "it, or one between it and the CA, is not valid yet, and peers would refuse it; look at \
         this machine's clock, or wait"
    )]
    NotValidYet,
    /// It may be used by one side of a connection only, or by none.
    #[error(
        "its extended key usage lacks {0}, and peers would refuse it, since each agent dials and \
         is dialled; issue it with clientAuth and serverAuth"
    )]
    Usage(&'static str),
    /// It is for signing others.
    #[error(
        "it is a CA's certificate (CA:TRUE), and peers would refuse it; issue one of its own for \
         this agent (README, \"TLS between peers\", has the commands)"
    )]
    IsCa,
    /// Anything else.
    #[error("peers would refuse it: {0}")]
    Other(#[source] Error),
}

/// Asks both verifiers: of who is dialled, and of who dials.
pub(super) fn refusal(
    chain: &[CertificateDer<'_>],
    dialler: &dyn ServerCertVerifier,
    listener: &dyn ClientCertVerifier,
) -> Option<Refusal> {
    let (own, intermediates) = chain.split_first()?;
    if X509Certificate::from_der(own).is_ok_and(|(_, certificate)| certificate.is_ca()) {
        return Some(Refusal::IsCa);
    }
    let now = UnixTime::now();
    // No verifier of ours looks at it.
    let name = ServerName::try_from("coppice").ok()?;
    let dialled = dialler.verify_server_cert(own, intermediates, &name, &[], now);
    let dials = listener.verify_client_cert(own, intermediates, now);
    dialled
        .err()
        .map(|error| in_words(error, "serverAuth"))
        .or_else(|| dials.err().map(|error| in_words(error, "clientAuth")))
}

fn in_words(error: Error, usage: &'static str) -> Refusal {
    let Error::InvalidCertificate(reason) = &error else { return Refusal::Other(error) };
    match reason {
        // The second: of another CA that has the name of ours.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Refusal::OtherCa,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Refusal::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Refusal::NotValidYet
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Refusal::Usage(usage)
        }
        _ => Refusal::Other(error),
    }
}

/// Whether links can use certificates of this version at all.
pub(super) fn check_version(own: &CertificateDer<'_>) -> Result<(), TlsError> {
    match X509Certificate::from_der(own) {
        Ok((_, certificate)) if certificate.version() != X509Version::V3 => {
            Err(TlsError::OldVersion)
        }
        _ => Ok(()),
    }
}

/// What the library says of certificate and key, in words.
pub(super) fn unusable(error: Error) -> TlsError {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::KeyMismatch,
        error => TlsError::Unusable(error),
    }
}
