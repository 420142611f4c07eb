//! What a verified certificate says about its holder.
//!
//! A certificate without any `urn:coppice:` URI name stands for all groups.
//! One with such names stands for the groups that they name as
//! `urn:coppice:<realm>:<group id>`, and for nothing else; what can not be
//! read grants nothing. Where this agent's own certificate names a realm (an operator's
//! do: a namespace of a cluster), the names of other realms grant nothing either.

use std::sync::Arc;

use coppice_api::cluster::cluster_of;
use rustls::pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::super::PeerIdentity;

/// How the URI names that this program reads begin.
const PREFIX: &str = "urn:coppice:";

/// How the operator's name ends.
const OPERATOR: &str = "operator";

/// A peer's groups, and until when its certificate proves them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::peer) struct Proof {
    pub(in crate::peer) identity: PeerIdentity,
    /// Whether it is the cluster's operator, which is told how this agent is.
    pub(in crate::peer) is_operator: bool,
    /// The realm that its names are of, if that is one.
    pub(in crate::peer) realm: Option<Arc<str>>,
    /// In Unix seconds; 0 without TLS.
    pub(in crate::peer) not_before: i64,
    /// In Unix seconds; `None` without TLS.
    pub(in crate::peer) not_after: Option<i64>,
}

// === impl Proof ===

impl Proof {
    /// Of a connection without TLS.
    pub(in crate::peer) fn none() -> Self {
        let identity = PeerIdentity::Insecure;
        Self { identity, is_operator: false, realm: None, not_before: 0, not_after: None }
    }

    /// Reads a certificate; `None` if it is none. Whether it is of our CA, and
    /// valid, the handshake has checked. Only names of our `own` realm count, if that
    /// is known; the operator is of none, but of the same cluster.
    pub(in crate::peer) fn read(der: &CertificateDer<'_>, own: Option<&str>) -> Option<Self> {
        let (_rest, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        let not_before = validity.not_before.timestamp();
        let not_after = Some(validity.not_after.timestamp());
        let names = our_names(&certificate)?;
        // Each with its realm.
        let names: Vec<_> = names.iter().map(|name| name.split_once(':')).collect();
        let mut realms = names.iter().flatten().map(|(realm, _)| *realm);
        let first = realms.next().filter(|realm| !realm.is_empty());
        let realm = first.filter(|first| realms.all(|realm| realm == *first));
        let counted = names.iter().flatten().filter(|(realm, _)| match own {
            Some(own) => *realm == own,
            None => !realm.is_empty(),
        });
        let identity = if names.is_empty() {
            PeerIdentity::AllGroups
        } else {
            let groups = counted.filter_map(|(_, id)| Uuid::try_parse(id).ok());
            PeerIdentity::Groups(groups.collect())
        };
        // Whose cluster is not known has no operator.
        let is_operator = own.is_some_and(|own| {
            let operators = names.iter().flatten().filter(|(_, name)| *name == OPERATOR);
            operators.map(|(cluster, _)| *cluster).any(|cluster| cluster == cluster_of(own))
        });
        let realm = realm.map(Into::into);
        Some(Self { identity, is_operator, realm, not_before, not_after })
    }
}

/// What follows the prefix in the names of ours.
fn our_names<'a>(certificate: &'a X509Certificate<'_>) -> Option<Vec<&'a str>> {
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(name) => names.extend(&name.general_names),
            // An unreadable extension might hold a name that limits.
            ParsedExtension::ParseError { .. } => return None,
            _ => {}
        }
    }
    let ours = names.into_iter().filter_map(|name| match name {
        GeneralName::URI(uri) => strip_prefix(uri),
        _ => None,
    });
    Some(ours.collect())
}

/// URN schemes and namespaces are compared without regard to case (RFC 8141).
fn strip_prefix(uri: &str) -> Option<&str> {
    let (head, rest) = uri.split_at_checked(PREFIX.len())?;
    head.eq_ignore_ascii_case(PREFIX).then_some(rest)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    const GROUP: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

    fn proof_with(uris: &[&str], own: Option<&str>) -> Proof {
        let mut params = CertificateParams::new(vec!["host".to_owned()]).unwrap();
        let san = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names.extend(uris.iter().map(san));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Proof::read(certificate.der(), own).unwrap()
    }

    fn identity_with(uris: &[&str]) -> PeerIdentity {
        proof_with(uris, None).identity
    }

    #[test]
    fn names_of_another_cluster_or_namespace_grant_nothing() {
        let realm = coppice_api::cluster::realm("c1", "shop");
        let name = coppice_api::cluster::group_uri(&realm, GROUP.parse().unwrap());
        let pod = coppice_api::cluster::pod_uri(&realm, "p");
        let granted = |own| proof_with(&[&name, &pod], own).identity;
        assert_eq!(granted(Some("c1/shop")), PeerIdentity::Groups(vec![GROUP.parse().unwrap()]));
        for other in ["c2/shop", "c1/bank", "c1", "c1/shop2", "c1/"] {
            assert_eq!(granted(Some(other)), PeerIdentity::Groups(vec![]), "{other}");
        }
        assert_eq!(proof_with(&[], Some("c1/shop")).identity, PeerIdentity::AllGroups);
    }

    #[test]
    fn the_operator_is_known_by_its_name_in_our_cluster() {
        let operator = coppice_api::cluster::operator_uri("c1");
        for own in ["c1/shop", "c1/bank", "c1"] {
            let proof = proof_with(&[&operator], Some(own));
            assert!(proof.is_operator, "{own}");
            assert_eq!(proof.identity, PeerIdentity::Groups(vec![]));
        }
        for (uri, own) in [
            (operator.as_str(), Some("c2")),
            (&operator, Some("c2/shop")),
            ("urn:coppice:c1/shop:operator", Some("c1/shop")),
            (&operator, None),
            ("urn:coppice:c1:operator:x", Some("c1")),
            ("urn:coppice:c1:pod:operator", Some("c1")),
            ("https://operator", Some("c1")),
        ] {
            assert!(!proof_with(&[uri], own).is_operator, "{uri} {own:?}");
        }
    }

    #[test]
    fn the_realm_is_the_one_that_all_names_are_of() {
        let group = format!("urn:coppice:c1:{GROUP}");
        let realm = |uris: &[&str]| proof_with(uris, None).realm.map(|of| of.to_string());
        assert_eq!(realm(&[&group, "urn:coppice:c1:pod:p"]), Some("c1".to_owned()));
        assert_eq!(realm(&[&group, "urn:coppice:c2:pod:p"]), None, "of two");
        assert_eq!(realm(&["https://a"]), None);
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
