//! Peers that do not keep to the protocol, and settings that are refused.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::node::{Node, settings};
use crate::discovery::{Discovery, StaticPeers};
use crate::http::{Server, ServerLimits};
use crate::peer::outbound_body::FAREWELL;
use crate::peer::{CloseReason, PeerMetrics, Settings, StartError, Supervisor};

/// Sends one request with this body as a peer would; its status and the label
/// of the farewell.
async fn ask(
    node: &Node,
    method: Method,
    path: &str,
    body: &'static [u8],
) -> (StatusCode, Option<String>) {
    let tcp = TcpStream::connect(node.supervisor.local_addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let mut request = Request::new(Full::new(Bytes::from_static(body)));
    *request.method_mut() = method;
    *request.uri_mut() = format!("http://{}{path}", node.supervisor.local_addr()).parse().unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let collected = response.into_body().collect().await.unwrap();
    let farewell = collected.trailers().and_then(|trailers| trailers.get(FAREWELL));
    (status, farewell.map(|value| value.to_str().unwrap().to_owned()))
}

#[tokio::test]
async fn bad_frames_close_the_link_and_say_why() {
    let refused: [(&[u8], CloseReason); 4] = [
        (b"\xff\xff\xff\xff", CloseReason::OversizedFrame),
        (b"\0\0\0\0", CloseReason::MalformedFrame),
        (b"\0\0\0\x05abc", CloseReason::MalformedFrame),
        (b"GET / HTTP/1.1\r\n\r\n", CloseReason::OversizedFrame),
    ];
    for (bytes, reason) in refused {
        let mut node = Node::start(settings(), &["g"]).await;
        let (status, farewell) = ask(&node, Method::POST, "/v1/peer/groups/g", bytes).await;
        assert_eq!((status, farewell.as_deref()), (StatusCode::OK, Some(reason.label())));
        let up = node.up().await;
        assert_eq!(node.down().await, (up.link, reason));
        assert_eq!(node.metrics.links_closed(reason), 1);
    }
}

#[tokio::test]
async fn frames_before_a_bad_one_are_delivered() {
    let mut node = Node::start(settings(), &["g"]).await;
    ask(&node, Method::POST, "/v1/peer/groups/g", b"\0\0\0\x02ok\xff\xff\xff\xff").await;
    let up = node.up().await;
    assert_eq!(node.frame().await, (up.link, "ok".into()));
    assert_eq!(node.down().await, (up.link, CloseReason::OversizedFrame));
}

#[tokio::test]
async fn requests_that_open_no_link_are_refused() {
    let mut node = Node::start(settings(), &["g"]).await;
    let group = "/v1/peer/groups/g";
    let refused = [
        (Method::GET, group, StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/v1/peer/groups/other", StatusCode::NOT_FOUND),
        (Method::POST, "/v1/peer/groups/", StatusCode::NOT_FOUND),
        (Method::POST, "/v1/peer/groups/g/x", StatusCode::NOT_FOUND),
        (Method::POST, "/v1/groups/g", StatusCode::NOT_FOUND),
    ];
    for (method, path, expected) in refused {
        assert_eq!(ask(&node, method, path, b"").await.0, expected, "{path}");
    }
    node.stays_quiet("the replica task hears of links only").await;
}

#[tokio::test]
async fn what_is_not_http2_is_closed_and_counted() {
    let node = Node::start(settings(), &["g"]).await;
    let mut tcp = TcpStream::connect(node.supervisor.local_addr()).await.unwrap();
    tcp.write_all(&[0x16; 1000]).await.unwrap();
    let mut rest = Vec::new();
    // Closed in order or reset: both end the connection.
    let _ended = tcp.read_to_end(&mut rest).await;
    node.counts(CloseReason::Protocol).await;
}

#[tokio::test]
async fn an_address_of_another_service_is_no_peer_without_the_group() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let explains = |_| async {
        let answer = http::Response::builder().status(404).header("content-type", "text/plain");
        answer.body(axum::body::Body::from("nothing here")).unwrap()
    };
    let over_limit = prometheus::IntCounter::new("over_limit", "-").unwrap();
    let server = Server::new(listener, ServerLimits::default(), over_limit);
    let stop = tokio_util::sync::CancellationToken::new();
    let client = async {
        let node = Node::start(settings(), &["g"]).await;
        node.peers.replace([address.into()]);
        node.counts(CloseReason::Protocol).await;
        stop.cancel();
    };
    tokio::join!(server.run(explains, stop.clone()), client);
}

#[tokio::test]
async fn a_connection_that_opens_no_link_is_closed() {
    let mut quick = settings();
    quick.timing.idle = std::time::Duration::from_millis(50);
    let node = Node::start(quick, &["g"]).await;
    let mut tcp = TcpStream::connect(node.supervisor.local_addr()).await.unwrap();
    let mut rest = Vec::new();
    let _ended = tcp.read_to_end(&mut rest).await;
    node.counts(CloseReason::Timeout).await;
}

async fn start(settings: Settings) -> Result<Supervisor, StartError> {
    let metrics = PeerMetrics::register(&Registry::new()).unwrap();
    Supervisor::start(settings, StaticPeers::new([]).peers(), mpsc::channel(1).0, metrics).await
}

#[tokio::test]
async fn open_peers_without_tls_are_refused_unless_asked_for() {
    let open = Settings::new(SocketAddr::from(([0, 0, 0, 0], 0)));
    let error = start(open.clone()).await.unwrap_err().to_string();
    for word in ["listen.peers", "0.0.0.0", "tls", "insecurePeers: true"] {
        assert!(error.contains(word), "the message names {word}: {error}");
    }
    start(Settings { insecure_peers: true, ..open }).await.unwrap().close().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let node = Node::start(settings(), &[]).await;
    let listen = node.supervisor.local_addr();
    let error = start(Settings::new(listen)).await.unwrap_err().to_string();
    assert!(error.contains("listen.peers") && error.contains(&listen.to_string()), "{error}");
}
