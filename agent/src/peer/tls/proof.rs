//! What a verified certificate says about its holder.
//!
//! A certificate without any `urn:coppice:` URI name stands for all groups.
//! One with such names stands for the groups that they name as
//! `urn:coppice:<cluster>:<group id>`, and for nothing else; what can not be
//! read grants nothing.

use rustls::pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::super::PeerIdentity;

/// How the URI names that this program reads begin.
const PREFIX: &str = "urn:coppice:";

/// A peer's groups, and until when its certificate proves them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::peer) struct Proof {
    pub(in crate::peer) identity: PeerIdentity,
    /// In Unix seconds; `None` without TLS.
    pub(in crate::peer) not_after: Option<i64>,
}

// === impl Proof ===

impl Proof {
    /// Of a connection without TLS.
    pub(in crate::peer) fn none() -> Self {
        Self { identity: PeerIdentity::Insecure, not_after: None }
    }

    /// Reads a certificate; `None` if it is none. Whether it is of our CA, and
    /// valid, the handshake has checked.
    pub(in crate::peer) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_rest, certificate) = X509Certificate::from_der(der).ok()?;
        let not_after = Some(certificate.validity().not_after.timestamp());
        Some(Self { identity: identity(&certificate)?, not_after })
    }
}

fn identity(certificate: &X509Certificate<'_>) -> Option<PeerIdentity> {
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(name) => names.extend(&name.general_names),
            // An unreadable extension might hold a name that limits.
            ParsedExtension::ParseError { .. } => return None,
            _ => {}
        }
    }
    let ours: Vec<&str> = names
        .into_iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => strip_prefix(uri),
            _ => None,
        })
        .collect();
    if ours.is_empty() {
        return Some(PeerIdentity::AllGroups);
    }
    Some(PeerIdentity::Groups(ours.into_iter().filter_map(group_id).collect()))
}

/// URN schemes and namespaces are compared without regard to case (RFC 8141).
fn strip_prefix(uri: &str) -> Option<&str> {
    let (head, rest) = uri.split_at_checked(PREFIX.len())?;
    head.eq_ignore_ascii_case(PREFIX).then_some(rest)
}

/// The group of `<cluster>:<group id>`; other names of ours have more parts.
fn group_id(rest: &str) -> Option<Uuid> {
    let (cluster, id) = rest.split_once(':')?;
    if cluster.is_empty() { None } else { Uuid::try_parse(id).ok() }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    const GROUP: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

    fn identity_with(uris: &[&str]) -> PeerIdentity {
        let mut params = CertificateParams::new(vec!["host".to_owned()]).unwrap();
        let san = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names.extend(uris.iter().map(san));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Proof::read(certificate.der()).unwrap().identity
    }

    #[test]
    fn a_certificate_without_our_names_stands_for_all_groups() {
        assert_eq!(identity_with(&[]), PeerIdentity::AllGroups);
        assert_eq!(identity_with(&["https://example.com"]), PeerIdentity::AllGroups);
    }

    #[test]
    fn a_certificate_stands_for_the_groups_it_names() {
        let name = format!("urn:coppice:cluster:{GROUP}");
        let group = GROUP.parse().unwrap();
        assert_eq!(identity_with(&[&name, "https://a"]), PeerIdentity::Groups(vec![group]));
        assert!(identity_with(&[&name]).speaks_for(group));
        assert!(!identity_with(&[&name]).speaks_for(Uuid::nil()), "another group");
    }

    #[test]
    fn names_of_ours_that_name_no_group_grant_nothing() {
        let pod = format!("urn:coppice:cluster:pod:{GROUP}");
        let upper = format!("URN:Coppice:cluster:pod:{GROUP}");
        for name in
            [pod.as_str(), &upper, "urn:coppice:x", "urn:coppice:", "urn:coppice:c:nonsense"]
        {
            assert_eq!(identity_with(&[name]), PeerIdentity::Groups(vec![]), "{name}");
        }
    }
}
