//! The three files of mutual TLS: read, parsed, and what is wrong with them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsConfigs;

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
    /// Key and certificate do not fit together, or their kind is not supported.
    #[error("tls.certificate and tls.key cannot be used together: {0}")]
    Unusable(#[source] rustls::Error),
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

/// Looks whether an agent could use the files now.
///
/// # Errors
///
/// Each file that cannot be read; if all can, what is wrong with what they hold.
pub async fn check(files: &TlsFiles) -> Result<(), Vec<TlsError>> {
    let TlsFiles { ca, certificate, key } = files;
    let (mut read, mut wrong) = (Vec::new(), Vec::new());
    for (field, path) in
        [(TlsField::Ca, ca), (TlsField::Certificate, certificate), (TlsField::Key, key)]
    {
        match read_one(field, path).await {
            Ok(bytes) => read.push(bytes),
            Err(error) => wrong.push(error),
        }
    }
    let Ok([ca, certificate, key]) = <[Vec<u8>; 3]>::try_from(read) else { return Err(wrong) };
    Raw { ca, certificate, key }.configs().map(drop).map_err(|error| vec![error])
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
        let mut roots = RootCertStore::empty();
        for certificate in certificates(TlsField::Ca, &self.ca)? {
            roots.add(certificate).map_err(|_| TlsError::NoCertificate(TlsField::Ca))?;
        }
        let chain = certificates(TlsField::Certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::NoKey)?;
        TlsConfigs::new(Loaded { roots, chain, key })
    }
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
