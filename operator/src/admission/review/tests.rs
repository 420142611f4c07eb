//! The webhook over real TLS on loopback, as the API server calls it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use json_patch::Patch;
use prometheus::Registry;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::admission::{EventWriter, ServeLimits, owner_events, serve};
use crate::certificates::testing::{NOW, authorities, secret, show};
use crate::certificates::{Authorities, WallClock};

/// The groups of a namespace: those that the watch shows (none before it does), and those
/// that there are. With a gate, the question waits there.
#[derive(Default)]
struct Shop {
    shown: Option<Vec<Arc<ReplicationGroup>>>,
    newest: Option<Vec<Arc<ReplicationGroup>>>,
    gate: Option<Arc<Gate>>,
}

#[derive(Default)]
struct Gate {
    reached: Notify,
    opened: Notify,
}

impl GroupSource for Shop {
    async fn groups(&self, _namespace: &str) -> Option<Vec<Arc<ReplicationGroup>>> {
        if let Some(gate) = &self.gate {
            gate.reached.notify_one();
            gate.opened.notified().await;
        }
        self.shown.clone()
    }

    async fn newest(&self, _namespace: &str) -> Option<Vec<Arc<ReplicationGroup>>> {
        self.newest.clone()
    }
}

fn empty() -> Shop {
    Shop { shown: Some(Vec::new()), ..Shop::default() }
}

fn injector(shop: Shop) -> (Injector<Shop>, EventWriter) {
    let metrics = AdmissionMetrics::register(&Registry::new()).unwrap();
    let (events, writer) = owner_events(&metrics);
    let settings = InjectionSettings {
        image: "agent:1".to_owned(),
        image_pull_policy: None,
        pull_secrets: Vec::new(),
        resources: serde_json::from_value(json!({})).unwrap(),
        version: "1.2.3".to_owned(),
    };
    (Injector { source: shop, settings, events, metrics }, writer)
}

fn review(pod: &Value, dry_run: bool) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "dryRun": dry_run,
            "object": pod,
            "oldObject": null,
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        },
    })
}

fn pod(spec: &Value) -> Value {
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "rs", "controller": true,
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "web-1-", "labels": {"app": "web", "coppice.dev/inject": "true"},
            "ownerReferences": [owner],
        },
        "spec": spec,
    })
}

fn plain() -> Value {
    pod(&json!({"containers": [{"name": "app", "image": "app:1"}]}))
}

/// A served port, and how to reach it.
struct Port {
    address: SocketAddr,
    authorities: Authorities,
    shutdown: CancellationToken,
    serving: TaskTracker,
}

impl Port {
    async fn open(shop: Shop) -> Self {
        Self::open_router(router(injector(shop).0)).await
    }

    async fn open_router(router: Router) -> Self {
        let authorities = authorities(WallClock::manual(NOW));
        show(&authorities, &secret(NOW));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Arc::new(authorities.server_config().unwrap());
        let shutdown = CancellationToken::new();
        let serving = TaskTracker::new();
        let limits = ServeLimits::default();
        serving.spawn(serve(listener, tls, router, limits, shutdown.clone()));
        serving.close();
        Self { address, authorities, shutdown, serving }
    }

    /// A connection that believes what is published now.
    async fn connect(&self) -> std::io::Result<http2::SendRequest<Full<Bytes>>> {
        let pem = self.authorities.published().borrow().clone().unwrap().serving_pem;
        self.connect_believing(&pem).await
    }

    async fn connect_believing(
        &self,
        pem: &str,
    ) -> std::io::Result<http2::SendRequest<Full<Bytes>>> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(TestTime))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("coppice-operator.coppice-system.svc").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        self.serving.spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// The time of all tests.
#[derive(Debug)]
struct TestTime;

impl rustls::time_provider::TimeProvider for TestTime {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let seconds = u64::try_from(NOW.unix_timestamp()).unwrap();
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

async fn post_to(
    sender: &mut http2::SendRequest<Full<Bytes>>,
    body: String,
) -> (StatusCode, Value) {
    let request = Request::post("https://coppice-operator.coppice-system.svc/inject")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn patched(pod: &Value, response: &Value) -> Value {
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: Patch = serde_json::from_slice(&patch).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

#[tokio::test]
async fn a_pod_is_injected_over_tls() {
    let port = Port::open(empty()).await;
    let mut connection = port.connect().await.unwrap();
    let (status, answer) = post_to(&mut connection, review(&plain(), false).to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["kind"], "AdmissionReview");
    let response = &answer["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(true)));
    let pod = patched(&plain(), response);
    assert_eq!(pod["spec"]["initContainers"][0]["name"], AGENT_CONTAINER);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("no ReplicationGroup"), "{warning}");
    let (_, again) = post_to(&mut connection, review(&pod, false).to_string()).await;
    assert!(again["response"].get("patch").is_none(), "nothing is left to do");
}

#[tokio::test]
async fn a_connection_takes_the_certificate_that_is_in_force_when_it_begins() {
    let port = Port::open(empty()).await;
    let before = port.authorities.published().borrow().clone().unwrap().serving_pem;
    let mut old = port.connect().await.unwrap();
    show(&port.authorities, &secret(NOW));
    let after = port.authorities.published().borrow().clone().unwrap().serving_pem;
    assert_ne!(before, after);
    assert!(port.connect_believing(&before).await.is_err(), "the port shows a new certificate");
    let mut new = port.connect().await.unwrap();
    for connection in [&mut old, &mut new] {
        let (status, _) = post_to(connection, review(&plain(), false).to_string()).await;
        assert_eq!(status, StatusCode::OK, "and the open connection goes on");
    }
}

#[tokio::test]
async fn before_there_is_a_certificate_no_connection_is_made() {
    let authorities = authorities(WallClock::manual(NOW));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Arc::new(authorities.server_config().unwrap());
    let shutdown = CancellationToken::new();
    let serving = TaskTracker::new();
    let router = router(injector(Shop::default()).0);
    serving.spawn(serve(listener, tls, router, ServeLimits::default(), shutdown.clone()));
    let known = self::authorities(WallClock::manual(NOW));
    show(&known, &secret(NOW));
    let port = Port { address, authorities: known, shutdown: shutdown.clone(), serving };
    assert!(port.connect().await.is_err());
    shutdown.cancel();
    port.serving.close();
    port.serving.wait().await;
}

#[tokio::test]
async fn a_stop_lets_open_requests_end_and_takes_no_new_ones() {
    let gate = Arc::new(Gate::default());
    let port = Port::open(Shop { gate: Some(Arc::clone(&gate)), ..empty() }).await;
    let mut connection = port.connect().await.unwrap();
    let answering = post_to(&mut connection, review(&plain(), false).to_string());
    let stop = async {
        gate.reached.notified().await;
        port.shutdown.cancel();
        tokio::task::yield_now().await;
        gate.opened.notify_one();
    };
    let ((status, _), ()) = tokio::join!(answering, stop);
    assert_eq!(status, StatusCode::OK, "it was accepted, so it is answered");
    port.serving.wait().await;
    assert!(TcpStream::connect(port.address).await.is_err(), "nobody listens any more");
}

async fn answer_of(injector: Injector<Shop>, body: String) -> (StatusCode, Value) {
    use tower::ServiceExt as _;
    let request = Request::post(INJECT_PATH).body(Body::from(body)).unwrap();
    let response = router(injector).oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_denial_says_why_to_whoever_made_the_pod_and_to_its_owner() {
    let (injector, mut writer) = injector(empty());
    let metrics = injector.metrics.clone();
    let host = pod(&json!({"hostNetwork": true, "containers": []}));
    let (_, answer) = answer_of(injector, review(&host, false).to_string()).await;
    let response = &answer["response"];
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("HostNetwork: "), "{message}");
    assert!(message.contains("coppice.dev/inject=\"false\""), "{message}");
    assert_eq!(metrics.requests("denied", "HostNetwork"), 1);
    let told = writer.next_told().unwrap();
    assert_eq!((told.reason, told.owner.name.as_deref()), ("InjectionDenied", Some("web-1")));
    assert_eq!(told.owner.namespace.as_deref(), Some("shop"));
    assert_eq!(told.message, message);
}

#[tokio::test]
async fn a_group_made_with_its_workload_is_not_missed_because_the_watch_is_behind() {
    let group = json!({
        "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
        "metadata": {"name": "views"},
        "spec": {
            "crdt": {"type": "GSet"}, "selector": {"matchLabels": {"app": "web"}},
            "storage": {"volume": "EphemeralClaim"},
        },
    });
    let group: ReplicationGroup = serde_json::from_value(group).unwrap();
    let (injector, _writer) = injector(Shop { newest: Some(vec![Arc::new(group)]), ..empty() });
    let (_, answer) = answer_of(injector, review(&plain(), false).to_string()).await;
    let pod = patched(&plain(), &answer["response"]);
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let data = volumes.iter().find(|volume| volume["name"] == "coppice-data").unwrap();
    assert!(data.get("ephemeral").is_some(), "a volume cannot be changed later");
}

#[tokio::test]
async fn a_dry_run_is_answered_alike_and_told_to_nobody() {
    let (injector, mut writer) = injector(empty());
    let (_, answer) = answer_of(injector, review(&plain(), true).to_string()).await;
    assert!(answer["response"]["patch"].is_string());
    assert!(writer.next_told().is_none());
}

#[tokio::test]
async fn what_cannot_be_answered_is_an_error_and_never_a_denial() {
    let good = review(&plain(), false);
    let cases = [
        ("not json".to_owned(), Some(Vec::new()), StatusCode::BAD_REQUEST, "Malformed"),
        ("{}".to_owned(), Some(Vec::new()), StatusCode::BAD_REQUEST, "Malformed"),
        ("x".repeat(BODY_BYTES + 1), Some(Vec::new()), StatusCode::PAYLOAD_TOO_LARGE, "TooLarge"),
        (good.to_string(), None, StatusCode::SERVICE_UNAVAILABLE, "NotReady"),
    ];
    for (body, groups, status, reason) in cases {
        let shop = Shop { shown: groups, ..Shop::default() };
        let (injector, _writer) = injector(shop);
        let metrics = injector.metrics.clone();
        assert_eq!(answer_of(injector, body).await.0, status, "{reason}");
        assert_eq!(metrics.requests("error", reason), 1);
    }
}

#[tokio::test]
async fn other_requests_are_let_through() {
    for (path, value) in [
        ("operation", json!("UPDATE")),
        ("subResource", json!("ephemeralcontainers")),
        ("kind", json!({"group": "apps", "version": "v1", "kind": "Deployment"})),
    ] {
        let mut other = review(&plain(), false);
        other["request"][path] = value;
        let (injector, _writer) = injector(empty());
        let (_, answer) = answer_of(injector, other.to_string()).await;
        assert_eq!(answer["response"]["allowed"], true, "{path}");
        assert!(answer["response"].get("patch").is_none(), "{path}");
    }
}

#[test]
fn a_long_warning_is_cut_at_a_character() {
    let notice = crate::admission::Notice {
        reason: crate::admission::NoticeReason::SelectorConflict,
        message: "ä".repeat(400),
    };
    let outcome = Outcome::Injected(Injected {
        patch: Patch(Vec::new()),
        repaired: false,
        groups: Vec::new(),
        notices: vec![notice],
    });
    let warning = reply("u", outcome)["response"]["warnings"][0].clone();
    assert_eq!(warning.as_str().unwrap().chars().count(), WARNING_CHARACTERS);
}
