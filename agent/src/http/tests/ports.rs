//! Both ports over real sockets, and what they count.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use coppice_crdt::CrdtType;
use http_body_util::BodyExt as _;
use prometheus::IntCounter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::Fixture;
use crate::http::{OperationsApi, Phase, Server, ServerLimits};
use crate::telemetry::encode_metrics;

async fn operations(fixture: &Fixture, path: &str) -> (u16, String) {
    let api = OperationsApi {
        replica: "a".into(),
        groups: fixture.api.groups.clone(),
        lifecycle: fixture.api.lifecycle.clone(),
        registry: fixture.registry.clone(),
        cluster: None,
        store: Arc::default(),
    };
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response = api.answer(request).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn probes_follow_the_agents_phase() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let probes = async || {
        let mut statuses = Vec::new();
        for path in ["/livez", "/startupz", "/readyz"] {
            statuses.push(operations(&fixture, path).await.0);
        }
        statuses
    };
    fixture.api.lifecycle.enter(Phase::Opening);
    assert_eq!(probes().await, [200, 503, 503]);
    for target in ["/v1/health", "/v1/groups", "/v1/groups/g/objects/k"] {
        let answer = fixture.get(target).await;
        answer.problem(503, "store-unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    fixture.get("/v1/nothing").await.problem(404, "unknown-path");
    assert_eq!(operations(&fixture, "/metrics").await.0, 200, "what there is is shown");
    assert_eq!(operations(&fixture, "/status").await.0, 200);
    fixture.api.lifecycle.enter(Phase::Serving);
    fixture.group.change_status(|status| status.started = false);
    assert_eq!(probes().await, [200, 503, 503], "no peer was reached yet");
    fixture.group.change_status(|status| status.started = true);
    assert_eq!(probes().await, [200, 200, 200]);
    fixture.group.change_status(|status| status.started = false);
    assert_eq!(probes().await, [200, 200, 200], "an agent starts once");
    fixture.api.lifecycle.enter(Phase::Stopping);
    assert_eq!(probes().await, [200, 200, 503]);
    assert_eq!(operations(&fixture, "/nothing").await.0, 404);
}

#[tokio::test]
async fn the_status_is_json_and_metrics_have_bounded_labels() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    for key in 0..20 {
        fixture.done(&format!("key-{key}"), r#"{"op":"increment"}"#).await;
    }
    fixture.send("BREW /v1/groups/x/objects/y", &[], "").await.problem(404, "unknown-group");
    let (_, status) = operations(&fixture, "/status").await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["replica"], &status["phase"]), (&"a".into(), &"serving".into()));
    assert_eq!(status["groups"][0]["name"], "g");

    let (_, metrics) = operations(&fixture, "/metrics").await;
    let object = "route=\"/v1/groups/{group}/objects/{key}\"";
    assert!(
        metrics.contains(&format!("requests_total{{method=\"POST\",{object},status=\"200\"}} 20")),
        "{metrics}"
    );
    assert!(
        metrics.contains(&format!("requests_total{{method=\"other\",{object},status=\"404\"}} 1")),
        "{metrics}"
    );
    let text = String::from_utf8(encode_metrics(&fixture.registry).unwrap()).unwrap();
    assert_eq!(text.matches("coppice_http_requests_total{").count(), 2);
}

/// Serves `answer` on a free port while `client` runs, and then stops.
async fn served<F, A, C>(answer: F, client: impl FnOnce(TcpStream, CancellationToken) -> C)
where
    F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
    C: Future<Output = ()>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let over_limit = IntCounter::new("over_limit", "-").unwrap();
    let server = Server::new(listener, ServerLimits::default(), over_limit);
    let server = server.run(answer, shutdown.clone());
    let client = async {
        client(TcpStream::connect(address).await.unwrap(), shutdown.clone()).await;
        shutdown.cancel();
    };
    tokio::join!(server, client);
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    while !got.windows(end.len()).any(|window| window == end) {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "closed early: {}", String::from_utf8_lossy(&got));
        got.extend(&chunk[..read]);
    }
    got
}

#[tokio::test]
async fn http_1_keeps_its_connection_and_raw_paths() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let api = Arc::new(fixture.api.clone());
    let answer = move |request| {
        let api = api.clone();
        async move { api.answer(request).await }
    };
    served(answer, async |mut stream, _| {
        let body = r#"{"op":"increment"}"#;
        let head = |key: &str| {
            format!(
                "POST /v1/groups/g/objects/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        for (key, result) in [("a/b", "\"result\":1}"), ("a%2Fb", "\"result\":2}")] {
            stream.write_all(head(key).as_bytes()).await.unwrap();
            let answer = read_until(&mut stream, result.as_bytes()).await;
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
        for key in ["..", "a/../b", "%2e%2e"] {
            stream.write_all(head(key).as_bytes()).await.unwrap();
            let answer = read_until(&mut stream, b"\"}").await;
            assert!(answer.starts_with(b"HTTP/1.1 400 "), "nothing on the way may resolve {key}");
        }
    })
    .await;
}

/// What is sent back until the connection is closed.
async fn closing_answer(request: Vec<u8>) -> String {
    let (said, heard) = tokio::sync::oneshot::channel();
    let answer = |_| async { Response::new(Body::from("done")) };
    served(answer, async move |mut stream, _| {
        stream.write_all(&request).await.unwrap();
        let mut answer = String::new();
        // Closed with bytes that nobody read, a connection may be reset behind the answer.
        let _ended = stream.read_to_string(&mut answer).await;
        said.send(answer).unwrap();
    })
    .await;
    heard.await.unwrap()
}

#[tokio::test]
async fn heads_that_cannot_be_read_have_an_empty_answer() {
    let line = "GET / HTTP/1.1\r\nHost: a\r\n";
    let many = "X: y\r\n".repeat(100);
    for (status, head) in [
        ("400 Bad Request", "GARBAGE\r\n\r\n".to_owned()),
        ("400 Bad Request", format!("{line}No Name: x\r\n\r\n")),
        ("400 Bad Request", format!("{line}Content-Length: x\r\n\r\n")),
        ("400 Bad Request", format!("{line}Transfer-Encoding: gzip\r\n\r\n")),
        ("431 Request Header Fields Too Large", format!("{line}{many}\r\n")),
        ("431 Request Header Fields Too Large", format!("{line}X: {}", "y".repeat(1 << 17))),
    ] {
        let answer = closing_answer(head.into_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "docs/api.md says that it has no body: {answer}");
    }
}

#[tokio::test]
async fn a_body_in_an_unknown_coding_ends_the_connection() {
    let fixture = Fixture::of(CrdtType::LWWRegister);
    let api = Arc::new(fixture.api.clone());
    let answer = move |request| {
        let api = api.clone();
        async move { api.answer(request).await }
    };
    served(answer, async |mut stream, _| {
        let request = "PUT /v1/groups/g/objects/k HTTP/1.1\r\nHost: 127.0.0.1\r\n\
             Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_understood() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let api = Arc::new(fixture.api.clone());
    let answer = move |request| {
        let api = api.clone();
        async move { api.answer(request).await }
    };
    served(answer, async |mut stream, _| {
        // The preface, empty SETTINGS, and HEADERS of GET http://localhost/v1/health.
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        let mut block = vec![0x82, 0x86, 0x01, 9];
        block.extend(b"localhost");
        block.extend([0x04, 10]);
        block.extend(b"/v1/health");
        bytes.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
        bytes.extend(block);
        stream.write_all(&bytes).await.unwrap();
        read_until(&mut stream, b"{\"status\":\"ok\"}").await;
    })
    .await;
}

#[tokio::test]
async fn an_open_request_is_answered_after_shutdown_began() {
    let (arrived, mut has_arrived) = tokio::sync::mpsc::channel::<()>(1);
    let (release, released) = tokio::sync::watch::channel(false);
    let answer = move |_| {
        let (arrived, mut released) = (arrived.clone(), released.clone());
        async move {
            arrived.send(()).await.unwrap();
            released.wait_for(|released| *released).await.unwrap();
            Response::new(Body::from("done"))
        }
    };
    served(answer, async |mut stream, shutdown: CancellationToken| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        has_arrived.recv().await.unwrap();
        shutdown.cancel();
        release.send(true).unwrap();
        read_until(&mut stream, b"done").await;
    })
    .await;
}

/// Runs `client` against a port that takes two connections.
async fn crowded<C: Future<Output = ()>>(client: impl FnOnce(SocketAddr, IntCounter) -> C) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, over_limit) =
        (CancellationToken::new(), IntCounter::new("over_limit", "-").unwrap());
    let limits = ServerLimits { connections: 2, ..ServerLimits::default() };
    let answer = |request: Request<Body>| async move {
        if request.uri() == "/slow" {
            std::future::pending::<()>().await;
        }
        Response::new(Body::from("done"))
    };
    let server = Server::new(listener, limits, over_limit.clone()).run(answer, shutdown.clone());
    let client = async {
        client(address, over_limit).await;
        shutdown.cancel();
    };
    tokio::join!(server, client);
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// Whether the server ended this connection.
async fn is_ended(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn at_the_limit_the_connection_idle_longest_makes_room() {
    crowded(async |address, over_limit| {
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET / HTT").await.unwrap();
        let mut kept = TcpStream::connect(address).await.unwrap();
        ask(&mut kept, "/").await;
        read_until(&mut kept, b"done").await;
        let mut others = Vec::new();
        for came in 1..=3 {
            let mut next = TcpStream::connect(address).await.unwrap();
            ask(&mut next, "/").await;
            read_until(&mut next, b"done").await;
            assert_eq!(over_limit.get(), came, "each is counted");
            match came {
                1 => assert!(is_ended(&mut silent).await, "it was idle longest"),
                2 => assert!(is_ended(&mut kept).await, "then it was"),
                _ => assert!(is_ended(&mut others[0]).await, "then the first that came later"),
            }
            others.push(next);
        }
    })
    .await;
}

#[tokio::test]
async fn an_open_request_keeps_its_place_at_the_limit() {
    crowded(async |address, over_limit| {
        let mut open = TcpStream::connect(address).await.unwrap();
        ask(&mut open, "/slow").await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        ask(&mut idle, "/").await;
        read_until(&mut idle, b"done").await;
        let mut next = TcpStream::connect(address).await.unwrap();
        ask(&mut next, "/slow").await;
        assert!(is_ended(&mut idle).await, "it makes room, though the other one is older");
        let mut last = TcpStream::connect(address).await.unwrap();
        ask(&mut last, "/").await;
        drop(open);
        read_until(&mut last, b"done").await;
        assert_eq!(over_limit.get(), 2, "the last one had to wait for an end");
    })
    .await;
}
