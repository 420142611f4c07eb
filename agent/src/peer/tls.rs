//! Mutual TLS between peers, from three files.
//!
//! Both sides must present a certificate of the CA that is valid now. Names of
//! hosts are not compared: addresses come and go, and what a peer may speak for
//! is in its certificate's `urn:coppice:` names (see [`Proof`]). Sessions are
//! never resumed, so no connection outlives a change of the CA unverified.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use coppice_tls::ChainVerifier;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tracing::error;

use self::files::Loaded;

pub use self::files::{Certified, TlsError, TlsField, TlsFiles, check, examine};
pub use self::own::Refusal;
pub(super) use self::proof::Proof;
pub(super) use self::reload::{Watched, watch_files};

mod files;
mod own;
mod proof;
mod reload;

/// HTTP/2, by the only name that this transport speaks.
const ALPN: &[u8] = b"h2";

/// How long, and for how much of what it sent, a refused peer is listened to.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: u64 = 64 * 1024;

/// What to do about a peer that refuses this agent's certificate.
pub(super) const REFUSED_BY_PEER: &str = "the peer refuses this agent's certificate: give both \
     sides certificates of one CA that are valid now";

/// Both sides' configuration, made from one reading of the files.
#[derive(Debug)]
pub(super) struct TlsConfigs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    /// When our own certificate expires, in Unix seconds.
    pub(super) not_after: i64,
    /// The realm that our own certificate names: names of others count for nothing.
    realm: Option<Arc<str>>,
    /// SHA-256 of each authority that peers are verified by, in hexadecimal, sorted.
    pub(super) trusted: Vec<String>,
    /// Why peers would refuse our own certificate now, if they would. No reason not to
    /// serve the app: the files are followed, and time goes on.
    pub(super) refusal: Option<Refusal>,
}

/// Shakes hands with a peer that was dialled.
pub(super) async fn connect(
    configs: &TlsConfigs,
    tcp: TcpStream,
) -> io::Result<(client::TlsStream<TcpStream>, Proof)> {
    // Neither sent nor compared; the library wants one.
    let name = ServerName::try_from("coppice").map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(&configs.client)).connect(name, tcp).await?;
    let proof = configs.proof_of(stream.get_ref().1)?;
    Ok((stream, proof))
}

/// Shakes hands with a peer that dialled.
pub(super) async fn accept(
    configs: &TlsConfigs,
    tcp: TcpStream,
) -> io::Result<(server::TlsStream<TcpStream>, Proof)> {
    let accepting = TlsAcceptor::from(Arc::clone(&configs.server)).accept(tcp).into_fallible();
    let stream = match accepting.await {
        Ok(stream) => stream,
        Err((error, tcp)) => {
            let _late = timeout(LINGER, let_alert_arrive(tcp)).await;
            return Err(error);
        }
    };
    let proof = configs.proof_of(stream.get_ref().1)?;
    Ok((stream, proof))
}

/// Ends a connection so that the peer reads why. A dialler has sent more by then, and
/// closing over bytes that were not read resets the connection: it would drop the alert.
async fn let_alert_arrive(mut tcp: TcpStream) {
    if tcp.shutdown().await.is_ok() {
        let _end = tokio::io::copy(&mut tcp.take(LINGER_BYTES), &mut tokio::io::sink()).await;
    }
}

/// What a person can mend after this handshake failed, and on which side.
pub(super) fn mend(error: &io::Error) -> &'static str {
    use rustls::Error;
    let found = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    match found {
        Some(Error::AlertReceived(_)) => REFUSED_BY_PEER,
        Some(Error::InvalidCertificate(_)) => {
            "the peer's certificate is refused here: give both sides certificates of one CA that \
             are valid now"
        }
        Some(Error::NoCertificatesPresented) => {
            "the peer shows no certificate: give it `tls` with one of the CA"
        }
        Some(Error::InvalidMessage(_)) => {
            "the peer does not speak TLS: give both sides `tls`, or neither"
        }
        _ => {
            "the TLS handshake broke off: see the peer's log, and give both sides `tls`, or neither"
        }
    }
}

// === impl TlsConfigs ===

impl TlsConfigs {
    /// Makes both configurations.
    ///
    /// # Errors
    ///
    /// When key and certificate do not belong together, or the certificate can
    /// not be read.
    fn new(loaded: Loaded) -> Result<Self, TlsError> {
        let Loaded { roots, trusted, chain, key } = loaded;
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots);
        let own = chain.first().and_then(|own| Proof::read(own, None));
        let not_after = own.as_ref().and_then(|proof| proof.not_after);
        let not_after = not_after.ok_or(TlsError::NoCertificate(TlsField::Certificate))?;
        let realm = own.and_then(|proof| proof.realm);
        chain.first().map_or(Ok(()), own::check_version)?;
        let dialler = Arc::new(ChainVerifier::new(&roots, &provider));
        let listener = client_verifier(roots, Arc::clone(&provider))?;
        let refusal = own::refusal(&chain, dialler.as_ref(), listener.as_ref());
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Unusable)?
            .dangerous()
            .with_custom_certificate_verifier(dialler)
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(own::unusable)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_sni = false;
        client.resumption = Resumption::disabled();

        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Unusable)?
            .with_client_cert_verifier(listener)
            .with_single_cert(chain, key)
            .map_err(own::unusable)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        let (client, server) = (Arc::new(client), Arc::new(server));
        Ok(Self { client, server, not_after, realm, trusted, refusal })
    }

    fn proof_of(&self, connection: &CommonState) -> io::Result<Proof> {
        let certificate = connection.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
        certificate
            .and_then(|certificate| Proof::read(certificate, self.realm.as_deref()))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no readable certificate"))
    }

    /// Says in the log that peers would refuse our own certificate, if they would.
    pub(super) fn tell_refusal(&self) {
        if let Some(refusal) = &self.refusal {
            error!("{}: {refusal}", TlsField::Certificate);
        }
    }
}

/// The library's own verifier does for diallers what [`ChainVerifier`] does for
/// listeners: chain and validity, a certificate required.
fn client_verifier(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|_no_roots| TlsError::NoCertificate(TlsField::Ca))
}
