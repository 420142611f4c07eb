//! What who dials demands of the other's certificate: that it comes from an authority
//! and is valid now, and, where one holder is meant, that it names it. Not that it names
//! the address.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::uris;

/// Verifies chain, validity and possession of the key, and no name but the one that it
/// is told.
#[derive(Debug)]
pub struct ChainVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    /// The URI that the certificate must name, if it matters whose it is.
    uri: Option<String>,
}

// === impl ChainVerifier ===

impl ChainVerifier {
    /// Takes the certificate of anyone whom one of `roots` vouches for.
    #[must_use]
    pub fn new(roots: &Arc<RootCertStore>, provider: &Arc<CryptoProvider>) -> Self {
        Self { roots: Arc::clone(roots), provider: Arc::clone(provider), uri: None }
    }

    /// Takes only one that names `uri`.
    #[must_use]
    pub fn naming(self, uri: String) -> Self {
        Self { uri: Some(uri), ..self }
    }
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        match &self.uri {
            Some(uri) if !uris(end_entity).contains(uri) => {
                Err(Error::InvalidCertificate(CertificateError::NotValidForName))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
        SanType, date_time_ymd,
    };
    use rustls::crypto::ring;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

    use super::*;

    const POD: &str = "urn:coppice:cluster:pod:a";
    /// In Unix seconds; certificates of these tests are valid in that year.
    const MIDDLE_OF_2026: u64 = 1_782_864_000;
    const YEAR: u64 = 365 * 86_400;

    struct Authority {
        root: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Authority {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let root = authority().self_signed(&key).unwrap().der().clone();
            Self { root, issuer: Issuer::new(authority(), key) }
        }

        fn verifier(&self) -> ChainVerifier {
            let mut roots = RootCertStore::empty();
            roots.add(self.root.clone()).unwrap();
            ChainVerifier::new(&Arc::new(roots), &Arc::new(ring::default_provider()))
        }

        fn signs(&self, params: &CertificateParams, key: &KeyPair) -> CertificateDer<'static> {
            params.signed_by(key, &self.issuer).unwrap().der().clone()
        }
    }

    fn authority() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// The certificate of a pod.
    fn pod() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(POD.try_into().unwrap())];
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        params
    }

    fn key() -> KeyPair {
        KeyPair::generate().unwrap()
    }

    /// What `verifier` says of a chain, shown by who answers at some address.
    fn verdict(
        verifier: &ChainVerifier,
        chain: &[CertificateDer<'_>],
        unix_seconds: u64,
    ) -> Result<(), Error> {
        let (certificate, intermediates) = chain.split_first().unwrap();
        let address = ServerName::try_from("10.0.0.1").unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(unix_seconds));
        verifier.verify_server_cert(certificate, intermediates, &address, &[], now).map(drop)
    }

    #[test]
    fn whoever_the_authority_vouches_for_is_taken_at_any_address() {
        let ours = Authority::new();
        let verifier = ours.verifier();
        let chain = [ours.signs(&pod(), &key())];
        assert_eq!(verdict(&verifier, &chain, MIDDLE_OF_2026), Ok(()));

        let theirs = [Authority::new().signs(&pod(), &key())];
        let refused = verdict(&verifier, &theirs, MIDDLE_OF_2026).unwrap_err();
        assert!(matches!(refused, Error::InvalidCertificate(_)), "another's: {refused}");
    }

    #[test]
    fn authorities_between_are_followed_where_they_are_shown() {
        let ours = Authority::new();
        let key_between = key();
        let between = ours.signs(&authority(), &key_between);
        let issuer = Issuer::new(authority(), key_between);
        let signed = pod().signed_by(&key(), &issuer).unwrap().der().clone();
        let verifier = ours.verifier();
        assert!(
            verdict(&verifier, std::slice::from_ref(&signed), MIDDLE_OF_2026).is_err(),
            "not shown"
        );
        assert_eq!(verdict(&verifier, &[signed, between], MIDDLE_OF_2026), Ok(()));
    }

    #[test]
    fn a_certificate_counts_while_it_is_valid() {
        let ours = Authority::new();
        let (verifier, chain) = (ours.verifier(), [ours.signs(&pod(), &key())]);
        let problem = |unix_seconds| match verdict(&verifier, &chain, unix_seconds) {
            Err(Error::InvalidCertificate(problem)) => problem,
            other => panic!("it is not valid then: {other:?}"),
        };
        let early = problem(MIDDLE_OF_2026 - YEAR);
        assert!(matches!(early, CertificateError::NotValidYetContext { .. }), "{early:?}");
        let late = problem(MIDDLE_OF_2026 + YEAR);
        assert!(matches!(late, CertificateError::ExpiredContext { .. }), "{late:?}");
    }

    #[test]
    fn a_certificate_for_those_who_dial_is_refused() {
        let ours = Authority::new();
        let mut params = pod();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let chain = [ours.signs(&params, &key())];
        assert!(verdict(&ours.verifier(), &chain, MIDDLE_OF_2026).is_err());
    }

    #[test]
    fn where_one_holder_is_meant_another_is_refused() {
        let ours = Authority::new();
        let chain = [ours.signs(&pod(), &key())];
        let naming = |uri: &str| ours.verifier().naming(uri.to_owned());
        assert_eq!(verdict(&naming(POD), &chain, MIDDLE_OF_2026), Ok(()));

        let refused = Err(Error::InvalidCertificate(CertificateError::NotValidForName));
        for other in ["urn:coppice:cluster:pod:b", "urn:coppice:cluster:pod:", ""] {
            assert_eq!(verdict(&naming(other), &chain, MIDDLE_OF_2026), refused, "{other:?}");
        }
        let nameless = [ours.signs(&CertificateParams::default(), &key())];
        assert_eq!(verdict(&naming(POD), &nameless, MIDDLE_OF_2026), refused);
    }

    #[test]
    fn a_certificate_without_its_key_proves_nothing() {
        let ours = Authority::new();
        let own = key();
        // Valid by the machine's clock, which a handshake asks.
        let chain = vec![ours.signs(&CertificateParams::default(), &own)];
        assert_eq!(handshake(ours.verifier(), chain.clone(), &own), Ok(()));
        let refused = handshake(ours.verifier(), chain, &key()).unwrap_err();
        assert_eq!(refused, Error::InvalidCertificate(CertificateError::BadSignature));
    }

    /// What who dials finds when the other shows `chain` and signs with `key`.
    fn handshake(
        verifier: ChainVerifier,
        chain: Vec<CertificateDer<'static>>,
        key: &KeyPair,
    ) -> Result<(), Error> {
        let provider = Arc::new(ring::default_provider());
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = provider.key_provider.load_private_key(key)?;
        let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown));
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let address = ServerName::try_from("10.0.0.1").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), address)?;
        let mut server = ServerConnection::new(Arc::new(server))?;

        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        server.read_tls(&mut hello.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        client.read_tls(&mut answer.as_slice()).unwrap();
        client.process_new_packets().map(drop)
    }
}
