//! Who gets a certificate, with which names, and who does not.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use coppice_api::cluster::SIGNING_AUDIENCE;
use coppice_tls::uris;
use k8s_openapi::api::authentication::v1::UserInfo;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use time::Duration as Span;
use tower::ServiceExt as _;
use x509_parser::parse_x509_certificate;

use super::*;
use crate::certificates::WallClock;
use crate::certificates::testing::{CLUSTER, NOW, authorities, secret};

const UID: &str = "0b1c2d3e-0000-4000-8000-00000000000a";
const VIEWS: Uuid = Uuid::from_u128(1);
const CARTS: Uuid = Uuid::from_u128(2);

/// One pod `web-0` of the namespace `shop`, whose token is `good`.
struct Shop {
    review: TokenReviewStatus,
    pod: Option<SignablePod>,
    groups: Option<Vec<PublishedGroup>>,
    api: bool,
}

impl SigningSource for Shop {
    async fn review(&self, token: &str) -> Result<TokenReviewStatus, CallError> {
        if !self.api {
            return Err(CallError::TimedOut(Duration::from_secs(1)));
        }
        if token == "good" {
            return Ok(self.review.clone());
        }
        Ok(TokenReviewStatus { authenticated: Some(false), ..TokenReviewStatus::default() })
    }

    async fn pod(&self, identity: &TokenIdentity) -> Result<Option<SignablePod>, CallError> {
        let is_web = (identity.namespace.as_str(), identity.pod.as_str()) == ("shop", "web-0");
        Ok(self.pod.clone().filter(|_| is_web))
    }

    fn groups(&self, namespace: &str) -> Option<Vec<PublishedGroup>> {
        assert_eq!(namespace, "shop", "groups of another namespace are none of its business");
        self.groups.clone()
    }
}

fn our_realm() -> String {
    realm(CLUSTER, "shop")
}

fn shop() -> Shop {
    let one = |value: &str| vec![value.to_owned()];
    let extra = [
        ("authentication.kubernetes.io/pod-name".to_owned(), one("web-0")),
        ("authentication.kubernetes.io/pod-uid".to_owned(), one(UID)),
    ];
    let user = UserInfo {
        username: Some("system:serviceaccount:shop:default".to_owned()),
        extra: Some(extra.into()),
        ..UserInfo::default()
    };
    let labels = [("app", "web"), ("coppice.dev/injected", "true")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Shop {
        review: TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(one(SIGNING_AUDIENCE)),
            user: Some(user),
            error: None,
        },
        pod: Some(SignablePod {
            namespace: "shop".to_owned(),
            uid: UID.to_owned(),
            labels: labels.into(),
            finished: false,
        }),
        groups: Some(vec![
            group("views", VIEWS, &[("app", "web")]),
            group("carts", CARTS, &[("app", "web"), ("tier", "gold")]),
            group("nobodys", Uuid::from_u128(3), &[]),
        ]),
        api: true,
    }
}

fn group(name: &str, id: Uuid, labels: &[(&str, &str)]) -> PublishedGroup {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    let group = serde_json::json!({
        "version": 1, "name": name, "id": id, "matchLabels": labels, "crdt": {"type": "GSet"},
    });
    serde_json::from_value(group).unwrap()
}

fn ready() -> (Authorities, WallClock) {
    let clock = WallClock::manual(NOW);
    let authorities = authorities(clock.clone());
    authorities.change(|state| state.see_secret(Some(&secret(NOW))));
    (authorities, clock)
}

/// A request that asks for names that are not the pod's to have.
fn csr(key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    let uri = group_uri(&our_realm(), CARTS);
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn body(csr: String, previous: Option<&str>) -> String {
    let request = CertificateRequest { csr, previous: previous.map(ToOwned::to_owned) };
    serde_json::to_string(&request).unwrap()
}

async fn ask(
    authorities: &Authorities,
    shop: Shop,
    token: &str,
    body: String,
) -> Result<CertificateResponse, (StatusCode, String, String)> {
    let request = Request::post(SIGNING_PATH)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::from(body))
        .unwrap();
    let response = router(authorities.clone(), shop).oneshot(request).await.unwrap();
    let status = response.status();
    let kind = response.headers()[header::CONTENT_TYPE].clone();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    if status == StatusCode::OK {
        return Ok(serde_json::from_slice(&bytes).unwrap());
    }
    assert_eq!(kind, "application/problem+json");
    let problem: Value = serde_json::from_slice(&bytes).unwrap();
    let text = |key: &str| problem[key].as_str().unwrap().to_owned();
    Err((status, text("type").replace("urn:coppice:problem:", ""), text("detail")))
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_pod_gets_the_groups_that_select_it_and_no_other_name() {
    let (authorities, _) = ready();
    let key = KeyPair::generate().unwrap();
    let answer = ask(&authorities, shop(), "good", body(csr(&key), None)).await.unwrap();
    assert_eq!(answer.groups, [VIEWS], "not the one that the request asks for");
    let der = der(&answer.certificate);
    let (_, certificate) = parse_x509_certificate(&der).unwrap();
    let mut names = uris(&der);
    names.sort();
    let mut expected = [group_uri(&our_realm(), VIEWS), pod_uri(&our_realm(), UID)];
    expected.sort();
    assert_eq!(names, expected);
    let all = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!(all, 2, "no names of other kinds");
    assert_eq!(certificate.public_key().raw, key.subject_public_key_info());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    assert!(!certificate.is_ca());
    let validity = certificate.validity();
    assert_eq!(validity.not_before.to_datetime(), NOW - Span::minutes(5));
    assert_eq!(validity.not_after.to_datetime(), NOW + Span::hours(72));
    let published = authorities.published().borrow().clone().unwrap();
    assert_eq!(answer.authorities, published.peers_pem);

    let again = ask(&authorities, shop(), "good", body(csr(&key), None)).await.unwrap();
    let again = self::der(&again.certificate);
    let serial = parse_x509_certificate(&again).unwrap().1.raw_serial().to_vec();
    assert_ne!(serial, certificate.raw_serial(), "serial numbers are never used twice");
}

#[tokio::test]
async fn a_pod_without_a_group_gets_a_certificate_of_itself() {
    let (authorities, _) = ready();
    let key = KeyPair::generate().unwrap();
    let shop = Shop { groups: Some(Vec::new()), ..shop() };
    let answer = ask(&authorities, shop, "good", body(csr(&key), None)).await.unwrap();
    assert_eq!(answer.groups, Vec::<Uuid>::new());
    assert_eq!(uris(&der(&answer.certificate)), [pod_uri(&our_realm(), UID)]);
}

#[tokio::test]
async fn what_is_not_a_live_injected_pod_gets_nothing() {
    type Change = fn(&mut Shop);
    let cases: [(&str, Change, &str, StatusCode); 14] = [
        ("bad", |_| {}, "token-refused", StatusCode::UNAUTHORIZED),
        ("", |_| {}, "no-token", StatusCode::UNAUTHORIZED),
        (
            "good",
            |shop| shop.review.audiences = Some(vec!["https://kubernetes.default.svc".to_owned()]),
            "token-refused",
            StatusCode::UNAUTHORIZED,
        ),
        ("good", |shop| shop.review.audiences = None, "token-refused", StatusCode::UNAUTHORIZED),
        (
            "good",
            |shop| user(shop).username = Some("jane".to_owned()),
            "not-a-pod",
            StatusCode::FORBIDDEN,
        ),
        (
            "good",
            |shop| user(shop).username = Some("system:node:shop:x".to_owned()),
            "not-a-pod",
            StatusCode::FORBIDDEN,
        ),
        ("good", |shop| user(shop).extra = None, "not-a-pod", StatusCode::FORBIDDEN),
        (
            "good",
            |shop| {
                let two = vec!["web-0".to_owned(), "web-1".to_owned()];
                let key = "authentication.kubernetes.io/pod-name".to_owned();
                user(shop).extra.get_or_insert_default().insert(key, two);
            },
            "not-a-pod",
            StatusCode::FORBIDDEN,
        ),
        ("good", |shop| shop.pod = None, "no-such-pod", StatusCode::FORBIDDEN),
        ("good", |shop| pod(shop).uid = "another".to_owned(), "no-such-pod", StatusCode::FORBIDDEN),
        ("good", |shop| pod(shop).finished = true, "finished", StatusCode::FORBIDDEN),
        ("good", |shop| pod(shop).labels.clear(), "not-injected", StatusCode::FORBIDDEN),
        ("good", |shop| shop.groups = None, "not-ready", StatusCode::SERVICE_UNAVAILABLE),
        ("good", |shop| shop.api = false, "api-server", StatusCode::SERVICE_UNAVAILABLE),
    ];
    let (authorities, _) = ready();
    let key = KeyPair::generate().unwrap();
    for (token, change, name, status) in cases {
        let mut shop = shop();
        change(&mut shop);
        let refused = ask(&authorities, shop, token, body(csr(&key), None)).await.unwrap_err();
        assert_eq!((refused.0, refused.1.as_str()), (status, name));
        assert!(!refused.2.is_empty(), "{name}: it says what to do");
        assert!(authorities.shared.metrics.signed("refused", name) > 0, "{name} is counted");
    }
}

fn user(shop: &mut Shop) -> &mut UserInfo {
    shop.review.user.get_or_insert_default()
}

fn pod(shop: &mut Shop) -> &mut SignablePod {
    shop.pod.get_or_insert_default()
}

#[tokio::test]
async fn what_is_no_request_is_refused_before_anyone_is_asked() {
    let (authorities, _) = ready();
    let key = KeyPair::generate().unwrap();
    let good = csr(&key);
    let mut forged = csr(&key).into_bytes();
    // Within the signature, at the end.
    let at = forged.len() - 60;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let other_curve = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let cases = [
        ("{}".to_owned(), "malformed"),
        ("not json".to_owned(), "malformed"),
        (body("no pem".to_owned(), None), "bad-key"),
        (body(good.replace("CERTIFICATE REQUEST", "CERTIFICATE"), None), "bad-key"),
        (body(String::from_utf8(forged).unwrap(), None), "bad-key"),
        (body(csr(&other_curve), None), "bad-key"),
        (format!("{{\"csr\": \"{}\"}}", "x".repeat(BODY_BYTES)), "too-large"),
    ];
    for (body, name) in cases {
        let shop = Shop { api: false, ..shop() };
        let refused = ask(&authorities, shop, "good", body).await.unwrap_err();
        assert_eq!(refused.1, name, "{}", refused.2);
    }
}

#[tokio::test]
async fn nothing_is_signed_before_the_authorities_are_known() {
    let authorities = authorities(WallClock::manual(NOW));
    let key = KeyPair::generate().unwrap();
    let refused = ask(&authorities, shop(), "good", body(csr(&key), None)).await.unwrap_err();
    assert_eq!(refused.1, "not-ready");
}

#[tokio::test]
async fn a_pod_keeps_the_groups_that_it_held() {
    let (authorities, clock) = ready();
    let key = KeyPair::generate().unwrap();
    let first = ask(&authorities, shop(), "good", body(csr(&key), None)).await.unwrap();
    clock.set(NOW + Span::hours(71));
    let deleted = || Shop { groups: Some(Vec::new()), ..shop() };
    let with = |previous: &str| body(csr(&key), Some(previous));
    let renewed = ask(&authorities, deleted(), "good", with(&first.certificate)).await.unwrap();
    assert_eq!(renewed.groups, [VIEWS], "its group was deleted, and its peers hold it still");
    clock.set(NOW + Span::hours(140));
    let again = ask(&authorities, deleted(), "good", with(&renewed.certificate)).await.unwrap();
    assert_eq!(again.groups, [VIEWS], "for as long as it renews");
    let too_late = ask(&authorities, deleted(), "good", with(&first.certificate)).await.unwrap();
    assert_eq!(too_late.groups, Vec::<Uuid>::new(), "a certificate that has ended proves nothing");
}

#[tokio::test]
async fn a_previous_certificate_of_another_counts_for_nothing() {
    let (authorities, _) = ready();
    let (mine, others) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let of_others = ask(&authorities, shop(), "good", body(csr(&others), None)).await.unwrap();
    let mut elsewhere = shop();
    let other_uid = "99999999-0000-4000-8000-000000000000";
    pod(&mut elsewhere).uid = other_uid.to_owned();
    let key = "authentication.kubernetes.io/pod-uid".to_owned();
    user(&mut elsewhere).extra.get_or_insert_default().insert(key, vec![other_uid.to_owned()]);
    let of_pod = ask(&authorities, elsewhere, "good", body(csr(&mine), None)).await.unwrap();
    let (strangers, _) = ready();
    let of_strangers = ask(&strangers, shop(), "good", body(csr(&mine), None)).await.unwrap();
    for (previous, why) in [
        (of_others.certificate.as_str(), "it is of another key"),
        (of_pod.certificate.as_str(), "it is of another pod"),
        (of_strangers.certificate.as_str(), "it is of another cluster's authority"),
        ("no certificate", "it is none"),
    ] {
        let shop = Shop { groups: Some(Vec::new()), ..shop() };
        let body = body(csr(&mine), Some(previous));
        let answer = ask(&authorities, shop, "good", body).await.unwrap();
        assert_eq!(
            answer.groups,
            Vec::<Uuid>::new(),
            "{why}; the certificate is given all the same"
        );
    }
}
