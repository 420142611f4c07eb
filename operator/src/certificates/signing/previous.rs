//! What a pod's certificate in use still stands for.
//!
//! A group that was deleted, or a label that was taken off, must not cut a running pod
//! off from its peers: it keeps its groups for as long as it keeps renewing. Only the
//! holder can: the certificate must be valid now, name the pod that the token names,
//! and be of the very key that the request proves.

use std::collections::BTreeSet;

use coppice_api::cluster::pod_uri;
use coppice_tls::uris;
use rcgen::{PublicKeyData as _, SubjectPublicKeyInfo};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use uuid::Uuid;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::parse_x509_certificate;

/// Who says that the certificate is theirs.
#[derive(Debug)]
pub(super) struct Holder<'a> {
    pub(super) realm: &'a str,
    pub(super) pod_uid: &'a str,
    pub(super) key: &'a SubjectPublicKeyInfo,
}

/// Why the certificate counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("it cannot be read")]
    Unreadable,
    #[error("it is not valid now, or not of the peers' authority")]
    Invalid,
    #[error("it is of another key")]
    OtherKey,
    #[error("it is of another pod")]
    OtherPod,
}

/// The groups that the certificate names, if it is the holder's.
pub(super) fn groups(
    pem: &str,
    holder: &Holder<'_>,
    roots: &[CertificateDer<'static>],
    now: OffsetDateTime,
) -> Result<BTreeSet<Uuid>, Problem> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| Problem::Unreadable)?;
    let certificate = EndEntityCert::try_from(&der).map_err(|_| Problem::Unreadable)?;
    let anchors: Vec<_> =
        roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
    let seconds = u64::try_from(now.unix_timestamp()).map_err(|_| Problem::Invalid)?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    let usage = KeyUsage::client_auth();
    certificate
        .verify_for_usage(algorithms, &anchors, &[], now, usage, None, None)
        .map_err(|_| Problem::Invalid)?;
    if !is_of_key(&der, holder.key) {
        return Err(Problem::OtherKey);
    }
    let names = uris(&der);
    if !names.contains(&pod_uri(holder.realm, holder.pod_uid)) {
        return Err(Problem::OtherPod);
    }
    let prefix = format!("urn:coppice:{}:", holder.realm);
    let group = |name: &String| name.strip_prefix(&prefix)?.parse().ok();
    Ok(names.iter().filter_map(group).collect())
}

fn is_of_key(certificate: &[u8], key: &SubjectPublicKeyInfo) -> bool {
    parse_x509_certificate(certificate)
        .is_ok_and(|(_, read)| read.public_key().raw == key.subject_public_key_info())
}
