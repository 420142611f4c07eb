//! Certificates for tests.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use coppice_tests::trio::Failure;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// A certificate authority of a test.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub(crate) struct Certified {
    certificate: String,
    key: String,
}

// === impl Authority ===

impl Authority {
    pub(crate) fn new() -> Result<Self, Failure> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// A certificate for `name`, which speaks for all groups, or for the group
    /// that `uri` names.
    pub(crate) fn certify(&self, name: &str, uri: Option<&str>) -> Result<Certified, Failure> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        if let Some(uri) = uri {
            params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        }
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Certified { certificate, key: key.serialize_pem() })
    }

    /// Writes the files of one agent, and the part of its configuration that
    /// names them.
    pub(crate) fn admit(&self, folder: &Path, name: &str) -> Result<String, Failure> {
        let own = self.certify(name, None)?;
        let file = |kind: &str| folder.join(format!("{name}-{kind}.pem"));
        fs::write(file("key"), own.key)?;
        fs::write(file("certificate"), own.certificate)?;
        fs::write(file("ca"), &self.pem)?;
        let named =
            ["ca", "certificate", "key"].map(|kind| format!("{kind}: '{}'", file(kind).display()));
        Ok(format!("tls: {{{}}}\n", named.join(", ")))
    }

    /// What a client needs that trusts this authority and shows `own`, if it
    /// has a certificate.
    pub(crate) fn client(&self, own: Option<&Certified>) -> Result<Arc<ClientConfig>, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes())?;
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes())?;
                builder.with_client_auth_cert(vec![certificate], key)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}
