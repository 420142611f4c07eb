//! What signs in place of the operator: one HTTPS port with an authority behind it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use coppice_api::cluster::{
    CertificateRequest, CertificateResponse, SIGNING_PATH, group_uri, pod_uri,
};
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub(super) const NAME: &str = "coppice-operator";

pub(super) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// One request that came.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) token: String,
    pub(super) request: CertificateRequest,
}

pub(super) struct Operator {
    pub(super) address: SocketAddr,
    /// What verifies its port.
    pub(super) serving: String,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    cluster: String,
    state: Mutex<State>,
}

struct State {
    peers: Authority,
    groups: Vec<u128>,
    refusal: Option<String>,
    signs_another_key: bool,
    asked: Vec<Asked>,
}

// === impl Authority ===

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }
}

// === impl Asked ===

impl Asked {
    /// The key that a certificate was asked for.
    pub(super) fn key(&self) -> Vec<u8> {
        let csr = CertificateSigningRequestParams::from_pem(&self.request.csr).unwrap();
        rcgen::PublicKeyData::der_bytes(&csr.public_key).to_vec()
    }
}

// === impl Operator ===

impl Operator {
    /// An operator that signs for group 1.
    pub(super) async fn start(cluster: &str) -> Self {
        let serving = Authority::new("serving");
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let own = own.signed_by(&key, &serving.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![own.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let state = State {
            peers: Authority::new("peers 1"),
            groups: vec![1],
            refusal: None,
            signs_another_key: false,
            asked: Vec::new(),
        };
        let shared = Arc::new(Shared { cluster: cluster.to_owned(), state: Mutex::new(state) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let serve = serve(listener, acceptor, Arc::clone(&shared));
        #[expect(clippy::disallowed_methods, reason = "the handle ends it with the test")]
        let task = AbortOnDropHandle::new(tokio::spawn(serve));
        Self { address, serving: serving.pem(), shared, _task: task }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.shared.state.lock().unwrap())
    }

    /// The authority of peers that signs now.
    pub(super) fn peers(&self) -> String {
        self.with(|state| state.peers.pem())
    }

    /// Signs with a new authority from now on.
    pub(super) fn rotate(&self) {
        self.with(|state| state.peers = Authority::new("peers 2"));
    }

    pub(super) fn sign_for(&self, groups: &[u128]) {
        self.with(|state| state.groups = groups.to_vec());
    }

    pub(super) fn refuse(&self, why: Option<&str>) {
        self.with(|state| state.refusal = why.map(str::to_owned));
    }

    pub(super) fn sign_another_key(&self, is_so: bool) {
        self.with(|state| state.signs_another_key = is_so);
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.with(|state| state.asked.clone())
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let Ok(stream) = acceptor.accept(tcp).await else { continue };
        let service = service_fn(|request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer(&shared, request).await) }
        });
        let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", SIGNING_PATH));
    let bearer = request.headers()[AUTHORIZATION].to_str().unwrap().to_owned();
    let token = bearer.strip_prefix("Bearer ").unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let request: CertificateRequest = serde_json::from_slice(&body).unwrap();
    let mut state = shared.state.lock().unwrap();
    state.asked.push(Asked { token, request: request.clone() });
    if let Some(why) = &state.refusal {
        let mut refused = Response::new(Full::from(why.clone()));
        *refused.status_mut() = StatusCode::FORBIDDEN;
        return refused;
    }
    let answer = sign(&shared.cluster, &state, &request.csr);
    Response::new(Full::from(serde_json::to_vec(&answer).unwrap()))
}

fn sign(cluster: &str, state: &State, csr: &str) -> CertificateResponse {
    let groups: Vec<Uuid> = state.groups.iter().map(|id| Uuid::from_u128(*id)).collect();
    let mut params = CertificateParams::default();
    let names = groups.iter().map(|id| group_uri(cluster, *id));
    let names = names.chain([pod_uri(cluster, "pod-1")]);
    params.subject_alt_names =
        names.map(|uri| SanType::URI(uri.as_str().try_into().unwrap())).collect();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::minutes(5);
    params.not_after = now + time::Duration::hours(72);
    let certificate = if state.signs_another_key {
        params.signed_by(&KeyPair::generate().unwrap(), &state.peers.issuer)
    } else {
        let csr = CertificateSigningRequestParams::from_pem(csr).unwrap();
        CertificateSigningRequestParams { params, public_key: csr.public_key }
            .signed_by(&state.peers.issuer)
    };
    CertificateResponse {
        certificate: certificate.unwrap().pem(),
        authorities: state.peers.pem(),
        groups,
    }
}
