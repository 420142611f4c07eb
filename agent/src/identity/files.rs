//! Key, certificate and authorities, in a folder that lives as long as the pod.
//!
//! Each file is replaced whole, and only its owner may read it. Both containers' lives
//! of one pod use one key: a certificate is renewed for the key that it was made for.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::fs::{self, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use super::IdentityError;

/// Where the transport finds what it shows and verifies peers by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The private key.
    pub key: PathBuf,
    /// The certificate chain, our own first.
    pub certificate: PathBuf,
    /// The authorities of peers.
    pub authorities: PathBuf,
}

/// Key and certificate as PEM. Whether they belong together is another question.
pub(super) struct Identified {
    pub(super) key: String,
    pub(super) certificate: String,
}

impl IdentityFiles {
    /// The files in this folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            key: folder.join("key.pem"),
            certificate: folder.join("certificate.pem"),
            authorities: folder.join("authorities.pem"),
        }
    }

    /// The pod's key; a new one if there is none that can be read.
    pub(super) async fn key(&self) -> Result<KeyPair, IdentityError> {
        match fs::read_to_string(&self.key).await {
            Ok(pem) => {
                if let Ok(key) = KeyPair::from_pem(&pem) {
                    return Ok(key);
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        replace(&self.key, &key.serialize_pem()).await?;
        Ok(key)
    }

    /// Key and certificate, if both are there.
    pub(super) async fn read(&self) -> Option<Identified> {
        let key = fs::read_to_string(&self.key).await.ok()?;
        let certificate = fs::read_to_string(&self.certificate).await.ok()?;
        Some(Identified { key, certificate })
    }

    pub(super) async fn read_authorities(&self) -> Option<String> {
        fs::read_to_string(&self.authorities).await.ok()
    }

    pub(super) async fn write_certificate(&self, pem: &str) -> io::Result<()> {
        replace(&self.certificate, pem).await
    }

    pub(super) async fn write_authorities(&self, pem: &str) -> io::Result<()> {
        replace(&self.authorities, pem).await
    }
}

/// Puts a file in place whole. It is in memory, so nothing is synced.
async fn replace(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).await?;
    }
    let unfinished = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&unfinished).await?;
    file.write_all(text.as_bytes()).await?;
    file.flush().await?;
    fs::rename(unfinished, path).await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_pod_has_one_key_that_only_its_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let files = IdentityFiles::in_folder(&folder.path().join("identity"));
        let first = files.key().await.unwrap().serialize_pem();
        assert_eq!(files.key().await.unwrap().serialize_pem(), first);
        let mode = std::fs::metadata(&files.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&files.key, "damaged").unwrap();
        assert_ne!(files.key().await.unwrap().serialize_pem(), first, "a new one");
    }
}
