//! What the log says of peers that cannot be spoken with: once, and on both sides.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tracing::subscriber::DefaultGuard;

use super::node::{Node, eventually, group, settings, with_tls};
use super::tls::{Authority, Wanted};
use crate::peer::{CloseReason, Settings};

/// More attempts than lines.
const ATTEMPTS: u64 = 6;

/// What is logged on this thread, on which all of a test runs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn begin() -> (Self, DefaultGuard) {
        let log = Self::default();
        let written = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || written.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Asserts that exactly one line has all of this.
    fn says_once(&self, words: &[&str]) {
        let text = self.text();
        let lines = text.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        assert_eq!(lines.count(), 1, "{words:?} in:\n{text}");
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn fails_often(node: &Node, reason: CloseReason) {
    eventually("attempts", || node.metrics.links_closed(reason) >= ATTEMPTS).await;
}

#[tokio::test]
async fn a_certificate_that_the_peer_refuses_is_said_on_both_sides() {
    let (log, _guard) = Log::begin();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (listening, _files) = ours.node(&Wanted::default()).await;
    let files = tempfile::tempdir().unwrap();
    theirs.write(files.path(), &Wanted::default());
    std::fs::write(files.path().join("ca.pem"), &ours.pem).unwrap();
    let dialling = Node::start(with_tls(files.path()), &["g", "h"]).await;
    dialling.peers.replace([listening.address()]);
    fails_often(&dialling, CloseReason::Tls).await;
    fails_often(&listening, CloseReason::Tls).await;

    let address = listening.address().to_string();
    log.says_once(&["WARN", "refuses this agent's certificate", &address, "received fatal alert"]);
    log.says_once(&["WARN", "the peer's certificate is refused here", "invalid peer certificate"]);
    assert!(!log.text().contains("peer reached"), "{}", log.text());
}

#[tokio::test]
async fn a_group_that_the_peer_does_not_serve_is_named_on_both_sides() {
    let (log, _guard) = Log::begin();
    let listening = Node::start(settings(), &["hits"]).await;
    let mut dialling = Node::start(settings(), &["hits", "hitz"]).await;
    dialling.peers.replace([listening.address()]);
    fails_often(&dialling, CloseReason::UnknownGroup).await;
    let address = listening.address().to_string();
    log.says_once(&["WARN", "no peer at this address serves the group", "group=hitz", &address]);
    log.says_once(&["WARN", "asks for a group that is not served here", "group=hitz"]);

    let hits = dialling.up().await;
    assert_eq!(hits.group, group("hits"));
    listening.supervisor.set_groups([group("hits"), group("hitz")]);
    assert_eq!(dialling.up().await.group, group("hitz"));
}

#[tokio::test]
async fn another_cause_for_which_a_peer_is_not_reached_is_said_too() {
    let (log, _guard) = Log::begin();
    let free = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let (dialling, _files) = Authority::new().node(&Wanted::default()).await;
    dialling.peers.replace([listen.into()]);
    eventually("said", || log.text().contains("peer not reached")).await;
    log.says_once(&["WARN", "peer not reached", "refused"]);

    let _plain = Node::start(Settings { listen, ..settings() }, &["g"]).await;
    fails_often(&dialling, CloseReason::Tls).await;
    log.says_once(&["WARN", "peer not reached", "give both sides `tls`, or neither"]);
    assert_eq!(log.text().matches("peer not reached").count(), 2, "{}", log.text());
}

#[tokio::test]
async fn a_link_that_is_closed_each_time_is_said_once_and_on_which_side_to_mend_it() {
    let (log, _guard) = Log::begin();
    let mut listening = Node::start(settings(), &["g"]).await;
    let dialling = Node::start_with_mailbox(settings(), &["g"], 1_000).await;
    dialling.peers.replace([listening.address()]);
    for _ in 0..ATTEMPTS {
        let up = listening.up().await;
        up.outbound.close(CloseReason::Unauthorised);
        listening.down().await;
    }
    let address = listening.address().to_string();
    eventually("said", || log.text().contains("this agent's certificate")).await;
    log.says_once(&["WARN", "the peer's certificate is for other groups"]);
    log.says_once(&["WARN", "this agent's certificate is for other groups", &address]);
}
