//! What stands in the Secret: two authorities, each one or more certificates.
//!
//! An authority is replaced without anyone noticing by letting two of its
//! certificates overlap, so it is a list. Of each the phase says what it is for; the
//! steps from phase to phase are in [`rotation`](super::rotation).
//!
//! Invariant, kept by `rotation` and checked by [`AuthoritySet::read`]: an authority has
//! exactly one certificate that signs. Whatever breaks it, or cannot be read, is told
//! and never overwritten: with the keys gone, no pod's certificate would hold.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use rcgen::{Issuer, KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use x509_parser::parse_x509_certificate;

use super::issue::Signer;

/// The version of what is written; a newer one is left alone.
const VERSION: u32 = 1;

/// Which of the two authorities is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuthorityName {
    /// Vouches for the operator's own port: webhook and signing.
    Serving,
    /// Vouches for agents to each other, and for the operator to agents.
    Peers,
}

/// Both authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthoritySet {
    pub(crate) serving: Authority,
    pub(crate) peers: Authority,
}

/// One authority, oldest certificate first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Authority {
    version: u32,
    /// The request for a rotation that was carried out last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) obeyed: Option<String>,
    pub(crate) certificates: Vec<Ca>,
}

/// One certificate of an authority.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ca {
    pub(crate) phase: Phase,
    /// Since when it is in this phase.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) since: OffsetDateTime,
    /// PEM.
    pub(crate) certificate: String,
    /// PEM; gone as soon as it is not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

/// What a certificate of an authority is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// It is believed, so that it can sign as soon as everyone knows it.
    Published,
    /// It signs.
    Signing,
    /// It is believed for as long as something that it signed may be in use.
    Retired,
}

/// Why the Secret cannot be used. It is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    #[error("the key {0} is missing")]
    NoKey(&'static str),
    #[error("the key {0} is no authority: {1}")]
    Unreadable(&'static str, String),
    #[error("the key {0} is of version {1}, and this operator knows {VERSION}: upgrade it")]
    Newer(&'static str, u32),
    #[error("certificate {1} of {0} is not one of an authority: {2}")]
    Certificate(&'static str, usize, &'static str),
    #[error("{0} has {1} certificates that sign, and needs one")]
    Signers(&'static str, usize),
}

// === impl AuthorityName ===

impl AuthorityName {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Serving, Self::Peers];

    /// As it is written in the annotation that asks for a rotation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Peers => "peers",
        }
    }

    /// The Secret's key.
    const fn key(self) -> &'static str {
        match self {
            Self::Serving => "serving.json",
            Self::Peers => "peers.json",
        }
    }
}

// === impl AuthoritySet ===

impl AuthoritySet {
    pub(crate) const fn get(&self, name: AuthorityName) -> &Authority {
        match name {
            AuthorityName::Serving => &self.serving,
            AuthorityName::Peers => &self.peers,
        }
    }

    pub(crate) const fn get_mut(&mut self, name: AuthorityName) -> &mut Authority {
        match name {
            AuthorityName::Serving => &mut self.serving,
            AuthorityName::Peers => &mut self.peers,
        }
    }

    /// What stands in a Secret.
    pub(crate) fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, Damage> {
        let read = |name: AuthorityName| {
            let bytes = data.get(name.key()).ok_or(Damage::NoKey(name.key()))?;
            Authority::read(name.key(), &bytes.0)
        };
        Ok(Self { serving: read(AuthorityName::Serving)?, peers: read(AuthorityName::Peers)? })
    }

    /// As a Secret's content.
    pub(crate) fn write(&self) -> BTreeMap<String, ByteString> {
        let entry = |name: AuthorityName| {
            // A struct of strings and dates of this century always has a JSON form.
            let json = serde_json::to_vec_pretty(self.get(name)).unwrap_or_default();
            (name.key().to_owned(), ByteString(json))
        };
        AuthorityName::ALL.into_iter().map(entry).collect()
    }
}

// === impl Authority ===

impl Authority {
    pub(crate) const fn new(certificates: Vec<Ca>) -> Self {
        Self { version: VERSION, obeyed: None, certificates }
    }

    fn read(key: &'static str, bytes: &[u8]) -> Result<Self, Damage> {
        let read: Self = serde_json::from_slice(bytes)
            .map_err(|error| Damage::Unreadable(key, error.to_string()))?;
        if read.version > VERSION {
            return Err(Damage::Newer(key, read.version));
        }
        for (at, ca) in read.certificates.iter().enumerate() {
            ca.check().map_err(|problem| Damage::Certificate(key, at, problem))?;
        }
        match read.certificates.iter().filter(|ca| ca.phase == Phase::Signing).count() {
            1 => Ok(read),
            count => Err(Damage::Signers(key, count)),
        }
    }

    /// The one that signs.
    pub(crate) fn signing(&self) -> Option<&Ca> {
        self.certificates.iter().find(|ca| ca.phase == Phase::Signing)
    }

    /// All that are believed, as PEM, the one that signs first: so an agent sees that its
    /// own certificate is another one's, and has it renewed long before that one goes.
    pub(crate) fn bundle(&self) -> String {
        let mut certificates: Vec<&Ca> = self.certificates.iter().collect();
        certificates.sort_by_key(|ca| ca.phase != Phase::Signing);
        let mut bundle = String::new();
        for ca in certificates {
            bundle.push_str(ca.certificate.trim_end());
            bundle.push('\n');
        }
        bundle
    }

    /// All that are believed, as DER.
    pub(crate) fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.certificates.iter().filter_map(Ca::der).collect()
    }
}

// === impl Ca ===

impl Ca {
    pub(crate) fn der(&self) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok()
    }

    /// The certificate with its key; none where there is no key.
    pub(crate) fn signer(&self) -> Option<Signer> {
        let key = KeyPair::from_pem(self.key.as_deref()?).ok()?;
        Issuer::from_ca_cert_pem(&self.certificate, key).ok()
    }

    /// From when to when the certificate is valid.
    pub(crate) fn validity(&self) -> Option<(OffsetDateTime, OffsetDateTime)> {
        let der = self.der()?;
        let (_, certificate) = parse_x509_certificate(&der).ok()?;
        let validity = certificate.validity();
        Some((validity.not_before.to_datetime(), validity.not_after.to_datetime()))
    }

    /// SHA-256 of the certificate, in hexadecimal, as agents report it.
    pub(crate) fn fingerprint(&self) -> Option<String> {
        self.der().map(|der| fingerprint(&der))
    }

    fn check(&self) -> Result<(), &'static str> {
        let der = self.der().ok_or("its certificate is no PEM")?;
        let (_, certificate) =
            parse_x509_certificate(&der).map_err(|_| "its certificate is damaged")?;
        if !certificate.is_ca() {
            return Err("its certificate may not sign others");
        }
        let Some(key) = &self.key else {
            return match self.phase {
                Phase::Retired => Ok(()),
                Phase::Published | Phase::Signing => Err("its key is missing"),
            };
        };
        let key = KeyPair::from_pem(key).map_err(|_| "its key is damaged")?;
        if key.subject_public_key_info() != certificate.public_key().raw {
            return Err("its key is another certificate's");
        }
        Ok(())
    }
}

impl fmt::Debug for Ca {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = self.fingerprint().unwrap_or_default();
        write!(f, "Ca({:?} since {}, {fingerprint:.8})", self.phase, self.since)
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::rotation::first;
    use super::super::testing::NOW;
    use super::*;

    fn set() -> AuthoritySet {
        let first = |name| first(name, None, NOW).unwrap();
        AuthoritySet { serving: first(AuthorityName::Serving), peers: first(AuthorityName::Peers) }
    }

    /// What is read of a Secret whose peers' authority was changed by hand.
    fn read(change: impl FnOnce(&mut Value)) -> Result<AuthoritySet, Damage> {
        let mut data = set().write();
        let mut peers: Value = serde_json::from_slice(&data["peers.json"].0).unwrap();
        change(&mut peers);
        data.insert("peers.json".to_owned(), ByteString(peers.to_string().into_bytes()));
        AuthoritySet::read(&data)
    }

    #[test]
    fn what_is_written_is_read_back_and_shows_no_key() {
        let set = set();
        assert_eq!(AuthoritySet::read(&set.write()), Ok(set.clone()));
        let shown = format!("{set:?}");
        assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    }

    #[test]
    fn each_damage_is_told_apart() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 8] = [
            (|peers| peers["certificates"] = json!([]), "has 0 certificates that sign"),
            (|peers| peers["certificates"] = json!("x"), "no authority"),
            (|peers| peers["version"] = json!(2), "upgrade"),
            (|peers| peers["certificates"][0]["key"] = Value::Null, "its key is missing"),
            (|peers| peers["certificates"][0]["key"] = json!("x"), "its key is damaged"),
            (|peers| peers["certificates"][0]["certificate"] = json!("x"), "no PEM"),
            (
                |peers| {
                    let other = super::super::issue::authority("other", NOW).unwrap();
                    peers["certificates"][0]["key"] = other.key.into();
                },
                "another certificate's",
            ),
            (
                |peers| {
                    let same = peers["certificates"][0].clone();
                    peers["certificates"].as_array_mut().unwrap().push(same);
                },
                "has 2 certificates that sign",
            ),
        ];
        for (change, words) in cases {
            let damage = read(change).unwrap_err().to_string();
            assert!(damage.contains(words) && damage.contains("peers.json"), "{damage}");
        }
        assert_eq!(AuthoritySet::read(&BTreeMap::new()), Err(Damage::NoKey("serving.json")));
    }

    #[test]
    fn a_certificate_that_may_not_sign_is_no_authority() {
        let set = set();
        let signer = set.peers.signing().unwrap().signer().unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = super::super::issue::Leaf {
            subject: "leaf",
            names: Vec::new(),
            client: false,
            life: time::Duration::HOUR,
        };
        let leaf = super::super::issue::sign(&leaf, &key, &signer, NOW).unwrap();
        let damage = read(|peers| {
            peers["certificates"][0]["certificate"] = leaf.pem().into();
            peers["certificates"][0]["key"] = key.serialize_pem().into();
        });
        assert!(damage.unwrap_err().to_string().contains("may not sign"));
    }
}
