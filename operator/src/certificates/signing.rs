//! Signs the certificates of agents: `POST /v1/certificates`.
//!
//! An agent shows the token that Kubernetes bound to its pod, and a request that proves
//! a key. Which groups its certificate names is decided here, by the pod's labels and
//! the groups of its namespace; the request has no say in it. A pod keeps the groups
//! that it held: those of its `previous` certificate, if that is valid, of the same pod
//! and of the same key.
//!
//! A pod that no group selects gets a certificate too, which names the pod only: so the
//! operator can ask it how it is.

mod previous;
mod refusal;
#[cfg(test)]
mod tests;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use coppice_api::cluster::{
    CertificateRequest, CertificateResponse, INJECTED_LABEL, PublishedGroup, SIGNING_PATH,
    group_uri, pod_uri, realm,
};
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use rcgen::{CertificateSigningRequestParams, PublicKeyData as _, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

pub use refusal::Refusal;
pub use token::TokenIdentity;

use super::Authorities;
use super::issue::{self, Leaf, LeafName, PEER_LIFE};
use super::state::Loaded;
use crate::api_client::CallError;

/// No legal request is longer: a request of a P-256 key and one certificate.
const BODY_BYTES: usize = 64 << 10;
/// Requests whose token is reviewed or whose certificate is signed at a time.
const AT_A_TIME: usize = 64;
/// How long a request may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// What signing needs to know of the cluster.
pub trait SigningSource: Send + Sync + 'static {
    /// Asks the API server whose token it is, for the audience of signing.
    fn review(
        &self,
        token: &str,
    ) -> impl Future<Output = Result<TokenReviewStatus, CallError>> + Send;

    /// The pod that the token is bound to, as far as it is there; it may be another of
    /// its name by now.
    fn pod(
        &self,
        identity: &TokenIdentity,
    ) -> impl Future<Output = Result<Option<SignablePod>, CallError>> + Send;

    /// The groups of the namespace, as agents are told of them; none while they are
    /// not known yet.
    fn groups(&self, namespace: &str) -> Option<Vec<PublishedGroup>>;
}

/// What of a pod decides about its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignablePod {
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether all its containers have ended for good.
    pub finished: bool,
}

struct Signing<S> {
    authorities: Authorities,
    source: S,
    places: Semaphore,
}

/// The route that signs.
pub fn router<S: SigningSource>(authorities: Authorities, source: S) -> Router {
    let signing = Signing { authorities, source, places: Semaphore::new(AT_A_TIME) };
    Router::new().route(SIGNING_PATH, post(answer::<S>)).with_state(Arc::new(signing))
}

async fn answer<S: SigningSource>(
    State(signing): State<Arc<Signing<S>>>,
    request: Request<Body>,
) -> Response {
    let metrics = &signing.authorities.shared.metrics;
    match signing.certificate(request).await {
        Ok(response) => {
            metrics.signing("signed", "");
            // Strings always have a JSON form.
            let json = serde_json::to_string(&response).unwrap_or_default();
            ([(header::CONTENT_TYPE, "application/json")], json).into_response()
        }
        Err(refusal) => {
            metrics.signing("refused", refusal.name());
            debug!(%refusal, "a certificate was refused");
            refusal.into_response()
        }
    }
}

// === impl Signing ===

impl<S: SigningSource> Signing<S> {
    async fn certificate(&self, request: Request<Body>) -> Result<CertificateResponse, Refusal> {
        let (parts, body) = request.into_parts();
        let token = bearer(&parts.headers)?;
        let body = timeout(BODY_PATIENCE, to_bytes(body, BODY_BYTES)).await;
        let body = body.map_err(|_| Refusal::TooSlow)?.map_err(|_| Refusal::TooLarge)?;
        let _place = self.places.try_acquire().map_err(|_| Refusal::Overloaded)?;

        let asked: CertificateRequest =
            serde_json::from_slice(&body).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let key = key_of(&asked.csr)?;
        let identity = self.identity(token).await?;
        let pod = self.pod(&identity).await?;
        let groups = self.source.groups(&identity.namespace).ok_or(Refusal::NotReady)?;
        let mut named = groups_of(&pod, &groups);
        let loaded = self.authorities.shared.state.borrow().loaded.clone();
        let loaded = loaded.ok_or(Refusal::NotReady)?;
        named.extend(self.kept(&asked, &key, &pod, &loaded));
        self.sign(&key, &pod, named, &loaded)
    }

    async fn identity(&self, token: &str) -> Result<TokenIdentity, Refusal> {
        let status = self.source.review(token).await.map_err(|error| Refusal::api(&error))?;
        TokenIdentity::of(status)
    }

    async fn pod(&self, identity: &TokenIdentity) -> Result<SignablePod, Refusal> {
        let TokenIdentity { pod, pod_uid, .. } = identity;
        let found = self.source.pod(identity).await;
        let found = found.map_err(|error| Refusal::api(&error))?;
        let found = found.filter(|found| found.uid == *pod_uid);
        let found = found.ok_or_else(|| Refusal::NoSuchPod(pod.clone()))?;
        if found.finished {
            return Err(Refusal::Finished(pod.clone()));
        }
        if found.labels.get(INJECTED_LABEL).map(String::as_str) != Some("true") {
            return Err(Refusal::NotInjected(pod.clone()));
        }
        Ok(found)
    }

    /// The groups of the certificate in use. One that does not count names none: the
    /// pod's labels still do.
    fn kept(
        &self,
        asked: &CertificateRequest,
        key: &SubjectPublicKeyInfo,
        pod: &SignablePod,
        loaded: &Loaded,
    ) -> BTreeSet<Uuid> {
        let shared = &self.authorities.shared;
        let Some(previous) = &asked.previous else { return BTreeSet::new() };
        let realm = realm(&shared.settings.cluster, &pod.namespace);
        let holder = previous::Holder { realm: &realm, pod_uid: &pod.uid, key };
        previous::groups(previous, &holder, &loaded.peers.roots, shared.clock.now()).unwrap_or_else(
            |problem| {
                debug!(pod = pod.uid, %problem, "the previous certificate does not count");
                BTreeSet::new()
            },
        )
    }

    fn sign(
        &self,
        key: &SubjectPublicKeyInfo,
        pod: &SignablePod,
        groups: BTreeSet<Uuid>,
        loaded: &Loaded,
    ) -> Result<CertificateResponse, Refusal> {
        let shared = &self.authorities.shared;
        let realm = realm(&shared.settings.cluster, &pod.namespace);
        let names = groups.iter().map(|group| group_uri(&realm, *group));
        let names = names.chain([pod_uri(&realm, &pod.uid)]).map(LeafName::Uri).collect();
        let leaf = Leaf { subject: "coppice-agent", names, client: true, life: PEER_LIFE };
        let signed = issue::sign(&leaf, key, &loaded.peers.signer, shared.clock.now());
        let signed = signed.map_err(|error| Refusal::BadKey(error.to_string()))?;
        Ok(CertificateResponse {
            certificate: signed.pem(),
            authorities: loaded.peers.bundle.clone(),
            groups: groups.into_iter().collect(),
        })
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    token.filter(|token| !token.is_empty()).ok_or(Refusal::NoToken)
}

/// The key of a request that proves to hold it. Nothing else in it is looked at.
fn key_of(csr: &str) -> Result<SubjectPublicKeyInfo, Refusal> {
    let bad = |error: &dyn std::fmt::Display| Refusal::BadKey(error.to_string());
    let der = CertificateSigningRequestDer::from_pem_slice(csr.as_bytes())
        .map_err(|_| bad(&"it is no PEM of a CERTIFICATE REQUEST"))?;
    let request = CertificateSigningRequestParams::from_der(&der).map_err(|error| bad(&error))?;
    if *request.public_key.algorithm() != rcgen::PKCS_ECDSA_P256_SHA256 {
        return Err(bad(&"its key is not ECDSA P-256 with SHA-256"));
    }
    // The signature's algorithm does not say the key's curve: read what stands there.
    let spki = request.public_key.subject_public_key_info();
    if !holds(&der, &spki) {
        return Err(bad(&"its key is not on the curve P-256"));
    }
    SubjectPublicKeyInfo::from_der(&spki).map_err(|error| bad(&error))
}

fn holds(csr: &[u8], spki: &[u8]) -> bool {
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::FromDer as _;
    X509CertificationRequest::from_der(csr)
        .is_ok_and(|(_, read)| read.certification_request_info.subject_pki.raw == spki)
}

/// The ids of the groups that select the pod.
fn groups_of(pod: &SignablePod, groups: &[PublishedGroup]) -> BTreeSet<Uuid> {
    groups.iter().filter(|group| group.selects(&pod.labels)).map(|group| group.id).collect()
}
