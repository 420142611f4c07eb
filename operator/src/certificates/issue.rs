//! Makes keys and certificates: an authority's own, and what it signs.
//!
//! All keys are P-256. Everything signed has a random serial number, begins five
//! minutes back for the sake of clocks that are behind, and holds only the names that
//! it was asked to hold.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use time::{Duration, OffsetDateTime};

/// How long an authority's certificate is valid. It is replaced at half of it.
pub(crate) const AUTHORITY_LIFE: Duration = Duration::days(3_652);
/// How long the certificate of the operator's own port is valid.
pub(crate) const SERVING_LIFE: Duration = Duration::hours(24);
/// How long a peer's certificate is valid.
pub(crate) const PEER_LIFE: Duration = Duration::hours(72);
/// What a clock may be behind.
pub(crate) const CLOCK_SKEW: Duration = Duration::minutes(5);

/// An authority that can sign.
pub(crate) type Signer = Issuer<'static, KeyPair>;

/// An authority's certificate and key, both PEM.
pub(crate) struct MadeAuthority {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What a certificate is for, and whom it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) subject: &'static str,
    pub(crate) names: Vec<LeafName>,
    pub(crate) client: bool,
    pub(crate) life: Duration,
}

/// One name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeafName {
    Dns(String),
    Ip(IpAddr),
    Uri(String),
}

/// A name or key that no certificate can hold, or a machine without randomness.
#[derive(Debug, thiserror::Error)]
#[error("make a certificate: {0}")]
pub(crate) struct IssueError(#[from] rcgen::Error);

/// Makes an authority of its own key.
pub(crate) fn authority(name: &str, now: OffsetDateTime) -> Result<MadeAuthority, IssueError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(name);
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + AUTHORITY_LIFE;
    params.serial_number = Some(serial());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?.pem();
    Ok(MadeAuthority { certificate, key: key.serialize_pem() })
}

/// Signs a certificate for a key.
pub(crate) fn sign(
    leaf: &Leaf,
    key: &impl PublicKeyData,
    signer: &Signer,
    now: OffsetDateTime,
) -> Result<Certificate, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(leaf.subject);
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + leaf.life;
    params.serial_number = Some(serial());
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if leaf.client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    for name in &leaf.names {
        params.subject_alt_names.push(match name {
            LeafName::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            LeafName::Ip(address) => SanType::IpAddress(*address),
            LeafName::Uri(uri) => SanType::URI(uri.as_str().try_into()?),
        });
    }
    Ok(params.signed_by(key, signer)?)
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Coppice");
    subject.push(DnType::CommonName, name);
    subject
}

fn serial() -> SerialNumber {
    SerialNumber::from_slice(&rand::random::<[u8; 16]>())
}
