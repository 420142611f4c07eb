//! As whom the operator asks agents, and how it knows that the right one answers.

use std::sync::Arc;

use coppice_api::cluster::{pod_uri, realm};
use coppice_tls::ChainVerifier;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::version::TLS13;
use rustls::{ClientConfig, Error, RootCertStore};

use super::leaf::OwnLeaf;

/// The operator's certificate, and the authorities by which agents are verified. It is
/// of the moment: take a new one for each round.
#[derive(Clone, Debug)]
pub struct PollIdentity {
    cluster: String,
    roots: Arc<RootCertStore>,
    leaf: Arc<OwnLeaf>,
}

// === impl PollIdentity ===

impl PollIdentity {
    pub(super) fn new(
        cluster: &str,
        roots: &[CertificateDer<'static>],
        leaf: &Arc<OwnLeaf>,
    ) -> Option<Self> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        (!store.is_empty()).then(|| Self {
            cluster: cluster.to_owned(),
            roots: Arc::new(store),
            leaf: Arc::clone(leaf),
        })
    }

    /// TLS for a connection to the agent of one pod, by namespace and UID: it must prove
    /// that it is that pod's. Speaks `alpn`.
    ///
    /// # Errors
    ///
    /// If key or protocol are not supported by the library, which they are.
    pub fn client_config(
        &self,
        (namespace, pod_uid): (&str, &str),
        alpn: &[u8],
    ) -> Result<ClientConfig, Error> {
        let provider = Arc::new(ring::default_provider());
        let uri = pod_uri(&realm(&self.cluster, namespace), pod_uid);
        let verifier = ChainVerifier::new(&self.roots, &provider).naming(uri);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(vec![self.leaf.certificate.clone()], self.leaf.key())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use coppice_tls::uris;
    use rcgen::KeyPair;
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{CertificateError, ClientConnection, ServerConfig, ServerConnection};
    use time::OffsetDateTime;

    use super::super::issue::{self, Leaf, LeafName, PEER_LIFE};
    use super::super::testing::{CLUSTER, authorities, secret};
    use super::super::{Authorities, WallClock};
    use super::*;

    fn ready() -> Authorities {
        // Verified by the machine's clock.
        let now = OffsetDateTime::now_utc();
        let authorities = authorities(WallClock::system());
        authorities.change(|state| state.see_secret(Some(&secret(now))));
        authorities
    }

    /// The port of an agent in the pod `uid`, signed by `authorities`.
    fn agent(authorities: &Authorities, uid: &str) -> ServerConfig {
        let state = authorities.shared.state.borrow();
        let peers = &state.loaded.as_ref().unwrap().peers;
        let key = KeyPair::generate().unwrap();
        let names = vec![LeafName::Uri(pod_uri(&realm(CLUSTER, "shop"), uid))];
        let leaf = Leaf { subject: "coppice-agent", names, client: true, life: PEER_LIFE };
        let now = OffsetDateTime::now_utc();
        let certificate = issue::sign(&leaf, &key, &peers.signer, now).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(peers.roots.iter().cloned());
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }

    /// Shakes hands in memory; whom the agent sees.
    fn shake(client: ClientConfig, server: ServerConfig) -> Result<Vec<String>, Error> {
        let name = ServerName::try_from("10.0.0.1").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name)?;
        let mut server = ServerConnection::new(Arc::new(server))?;
        for _ in 0..8 {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        let certificate = server.peer_certificates().and_then(<[_]>::first).cloned();
        Ok(certificate.map(|certificate| uris(&certificate)).unwrap_or_default())
    }

    #[tokio::test]
    async fn the_operator_and_the_right_agent_know_each_other() {
        let authorities = ready();
        let identity = authorities.poll_identity().unwrap();
        let client = || identity.client_config(("shop", "pod-a"), b"h2").unwrap();
        let seen = shake(client(), agent(&authorities, "pod-a")).unwrap();
        assert_eq!(seen, [coppice_api::cluster::operator_uri(CLUSTER)]);
        let error = shake(client(), agent(&authorities, "pod-b")).unwrap_err();
        let expected = Error::InvalidCertificate(CertificateError::NotValidForName);
        assert_eq!(error, expected, "an address may be another pod's by now");
        assert!(shake(client(), agent(&ready(), "pod-a")).is_err(), "another authority's");
    }

    #[tokio::test]
    async fn before_the_authorities_are_known_there_is_nobody_to_be() {
        assert!(authorities(WallClock::system()).poll_identity().is_none());
    }
}
