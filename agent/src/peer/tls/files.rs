//! The three files of mutual TLS: read, parsed, and what is wrong with them.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use uuid::Uuid;

use super::super::PeerIdentity;
use super::{Proof, Refusal, TlsConfigs};

/// No legal file is longer.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where the files of mutual TLS are, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CA, or several while one replaces another (`tls.ca`).
    pub ca: PathBuf,
    /// This agent's certificate, then intermediate ones (`tls.certificate`).
    pub certificate: PathBuf,
    /// The certificate's private key (`tls.key`).
    pub key: PathBuf,
}

/// Which of the three files is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsField {
    /// `tls.ca`
    Ca,
    /// `tls.certificate`
    Certificate,
    /// `tls.key`
    Key,
}

/// Why the files can not be used. While the agent runs, what was loaded before
/// stays in force.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file can not be read.
    #[error("{field}: cannot read {}: {source}; check path and permissions", path.display())]
    Read {
        /// Which file.
        field: TlsField,
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no certificate in the file, or one that can not be read.
    #[error("{0}: no readable certificate in the file; it must be PEM")]
    NoCertificate(TlsField),
    /// There is no private key in the file.
    #[error("{}: no readable private key in the file; it must be PEM, unencrypted", TlsField::Key)]
    NoKey,
    /// The key is another certificate's.
    #[error(
        "{}: not the key of the certificate in {}; give the two files that were made together",
        TlsField::Key,
        TlsField::Certificate
    )]
    KeyMismatch,
    /// The certificate is of version 1, which has no extensions.
    #[error(
        "{}: an X.509 certificate of version 1, and it must be of version 3; issue it with \
         extensions (README, \"TLS between peers\", has the commands)",
        TlsField::Certificate
    )]
    OldVersion,
    /// Their kind is not supported.
    #[error("tls.certificate and tls.key cannot be used together: {0}")]
    Unusable(#[source] rustls::Error),
    /// This agent can use its certificate, but its peers would refuse it.
    #[error("tls.certificate: {0}")]
    PeersRefuse(#[from] Refusal),
}

/// The files' bytes, to see whether they changed.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::peer) struct Raw {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The files' content.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) roots: RootCertStore,
    pub(super) trusted: Vec<String>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Reads all three files.
///
/// # Errors
///
/// [`TlsError::Read`] for the first that can not be read.
pub(in crate::peer) async fn read(files: &TlsFiles) -> Result<Raw, TlsError> {
    Ok(Raw {
        ca: read_one(TlsField::Ca, &files.ca).await?,
        certificate: read_one(TlsField::Certificate, &files.certificate).await?,
        key: read_one(TlsField::Key, &files.key).await?,
    })
}

/// Looks whether an agent could use the files now, and peers with these files would
/// let it in.
///
/// # Errors
///
/// Each file that cannot be read or holds nothing of its kind; if all do, what is
/// wrong with them together.
pub async fn check(files: &TlsFiles) -> Result<(), Vec<TlsError>> {
    let TlsFiles { ca, certificate, key } = files;
    let ca = read_one(TlsField::Ca, ca).await.and_then(|pem| authorities(&pem));
    let chain = read_one(TlsField::Certificate, certificate).await;
    let chain = chain.and_then(|pem| certificates(TlsField::Certificate, &pem));
    let key = read_one(TlsField::Key, key).await.and_then(|pem| private_key(&pem));
    let configs = match (ca, chain, key) {
        (Ok((roots, trusted)), Ok(chain), Ok(key)) => {
            TlsConfigs::new(Loaded { roots, trusted, chain, key })
        }
        (ca, chain, key) => {
            let wrong = [ca.err(), chain.err(), key.err()];
            return Err(wrong.into_iter().flatten().collect());
        }
    };
    let refusal = configs.map_err(|error| vec![error])?.refusal;
    refusal.map_or(Ok(()), |refusal| Err(vec![refusal.into()]))
}

/// What a certificate says that peers would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// From when on it is valid, in Unix seconds.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
    /// The groups that it names.
    pub groups: Vec<Uuid>,
}

/// Looks at a certificate as [`check`] does, all of it as PEM.
///
/// # Errors
///
/// Why it cannot be used with this key, or why peers that know these authorities would
/// refuse it.
pub fn examine(authorities_pem: &str, certificate: &str, key: &str) -> Result<Certified, TlsError> {
    let chain = certificates(TlsField::Certificate, certificate.as_bytes())?;
    let own = chain.first().cloned().ok_or(TlsError::NoCertificate(TlsField::Certificate))?;
    let (roots, trusted) = authorities(authorities_pem.as_bytes())?;
    let key = private_key(key.as_bytes())?;
    let configs = TlsConfigs::new(Loaded { roots, trusted, chain, key })?;
    if let Some(refusal) = configs.refusal {
        return Err(refusal.into());
    }
    let proof = Proof::read(&own, configs.realm.as_deref());
    let proof = proof.ok_or(TlsError::NoCertificate(TlsField::Certificate))?;
    let groups = match proof.identity {
        PeerIdentity::Groups(groups) => groups,
        PeerIdentity::AllGroups | PeerIdentity::Insecure => Vec::new(),
    };
    Ok(Certified { not_before: proof.not_before, not_after: configs.not_after, groups })
}

async fn read_one(field: TlsField, path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { field, path: path.to_owned(), source };
    let length = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(failed(io::Error::other("the file is longer than 1 MiB")));
    }
    tokio::fs::read(path).await.map_err(failed)
}

// === impl Raw ===

impl Raw {
    /// Makes both sides' configuration.
    ///
    /// # Errors
    ///
    /// What is wrong with which file; all but [`TlsError::Read`].
    pub(in crate::peer) fn configs(&self) -> Result<TlsConfigs, TlsError> {
        let (roots, trusted) = authorities(&self.ca)?;
        let chain = certificates(TlsField::Certificate, &self.certificate)?;
        let key = private_key(&self.key)?;
        TlsConfigs::new(Loaded { roots, trusted, chain, key })
    }
}

/// The authorities, and their fingerprints.
fn authorities(pem: &[u8]) -> Result<(RootCertStore, Vec<String>), TlsError> {
    let mut roots = RootCertStore::empty();
    let mut fingerprints = BTreeSet::new();
    for certificate in certificates(TlsField::Ca, pem)? {
        fingerprints.insert(fingerprint(&certificate));
        roots.add(certificate).map_err(|_| TlsError::NoCertificate(TlsField::Ca))?;
    }
    Ok((roots, fingerprints.into_iter().collect()))
}

/// SHA-256 in hexadecimal.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::NoKey)
}

fn certificates(field: TlsField, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    parsed
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or(TlsError::NoCertificate(field))
}

// === impl TlsField ===

impl fmt::Display for TlsField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ca => "tls.ca",
            Self::Certificate => "tls.certificate",
            Self::Key => "tls.key",
        })
    }
}
