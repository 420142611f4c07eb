//! Asking the operator to sign: one HTTPS request.
//!
//! To the address that is published, so that no DNS is needed, verified by the
//! authorities and the name published with it. Connections are not kept: an agent asks
//! every day or so.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use coppice_api::cluster::{
    CertificateRequest, CertificateResponse, PublishedOperator, SIGNING_PATH,
};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For all of it: the operator asks the API server meanwhile.
const LIMIT: Duration = Duration::from_secs(15);

/// To connect and shake hands.
const CONNECT: Duration = Duration::from_secs(5);

/// The longest answer: some certificates.
const ANSWER_BYTES: usize = 1 << 20;

/// How much of a refusal is shown.
const SHOWN: usize = 300;

/// Why the operator did not sign.
#[derive(Debug, thiserror::Error)]
pub(super) enum SigningError {
    #[error("the operator at {address} is not reached: {source}")]
    Connect { address: std::net::SocketAddr, source: io::Error },
    #[error("the operator does not answer in time")]
    Timeout,
    #[error("the published authorities or name of the operator cannot be used")]
    Published,
    #[error("the conversation with the operator broke off: {0}")]
    Http(#[from] hyper::Error),
    #[error("the operator refuses with {status}: {said}")]
    Refused { status: StatusCode, said: String },
    #[error("the operator's answer makes no sense: {0}")]
    Answer(String),
}

/// Asks once.
pub(super) async fn ask(
    operator: &PublishedOperator,
    authorities: &str,
    token: &str,
    request: &CertificateRequest,
) -> Result<CertificateResponse, SigningError> {
    let asking = async {
        let stream = connect(operator, authorities).await?;
        let request = to_http(operator, token, request)?;
        exchange(stream, request).await
    };
    timeout(LIMIT, asking).await.map_err(|_elapsed| SigningError::Timeout)?
}

async fn connect(
    operator: &PublishedOperator,
    authorities: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, SigningError> {
    let name = ServerName::try_from(operator.server_name.clone());
    let name = name.map_err(|_| SigningError::Published)?;
    let tls = TlsConnector::from(Arc::new(client_config(authorities)?));
    let address = operator.address;
    let failed = |source| SigningError::Connect { address, source };
    let connecting = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        tls.connect(name, tcp).await
    };
    timeout(CONNECT, connecting).await.map_err(|_| SigningError::Timeout)?.map_err(failed)
}

fn client_config(authorities: &str) -> Result<ClientConfig, SigningError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        let certificate = certificate.map_err(|_| SigningError::Published)?;
        roots.add(certificate).map_err(|_| SigningError::Published)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| SigningError::Published)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn to_http(
    operator: &PublishedOperator,
    token: &str,
    request: &CertificateRequest,
) -> Result<Request<Full<Bytes>>, SigningError> {
    let senseless = |error: &dyn std::fmt::Display| SigningError::Answer(error.to_string());
    let body = serde_json::to_vec(request).map_err(|error| senseless(&error))?;
    let mut bearer =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| senseless(&error))?;
    bearer.set_sensitive(true);
    Request::post(SIGNING_PATH)
        .header(HOST, operator.server_name.as_str())
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, bearer)
        .body(Full::from(body))
        .map_err(|error| senseless(&error))
}

async fn exchange(
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    request: Request<Full<Bytes>>,
) -> Result<CertificateResponse, SigningError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = pin!(connection);
    let mut answer = pin!(async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok::<_, SigningError>((status, whole(response.into_body()).await?))
    });
    let mut is_open = true;
    let (status, body) = loop {
        tokio::select! {
            biased;
            answer = &mut answer => break answer?,
            // The answer says what the end of the connection means for it.
            _ended = &mut connection, if is_open => is_open = false,
        }
    };
    if status != StatusCode::OK {
        let said = String::from_utf8_lossy(&body).chars().take(SHOWN).collect();
        return Err(SigningError::Refused { status, said });
    }
    serde_json::from_slice(&body).map_err(|error| SigningError::Answer(error.to_string()))
}

async fn whole(body: Incoming) -> Result<Bytes, SigningError> {
    let collected = Limited::new(body, ANSWER_BYTES).collect().await;
    let collected = collected.map_err(|error| SigningError::Answer(error.to_string()))?;
    Ok(collected.to_bytes())
}
