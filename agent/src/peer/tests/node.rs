//! One transport with a mailbox that the test reads in the core's place.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::discovery::{Discovery, PeerAddress, Peers, StaticPeers};
use crate::peer::{
    CloseReason, GroupName, LinkEvent, LinkId, LinkUp, PeerMetrics, Settings, Supervisor, Timing,
    TlsFiles,
};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Long enough for a redial, with the short backoff of tests, to show itself.
const QUIET: Duration = Duration::from_millis(300);

pub(super) struct Node {
    pub(super) supervisor: Supervisor,
    pub(super) peers: StaticPeers,
    pub(super) metrics: PeerMetrics,
    pub(super) events: mpsc::Receiver<LinkEvent>,
}

pub(super) fn settings() -> Settings {
    let mut settings = Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    settings.timing = Timing {
        first_retry: Duration::from_millis(5),
        last_retry: Duration::from_millis(50),
        duplicate_recheck: Duration::from_mins(1),
        certificate_poll: Duration::from_millis(10),
        ..Timing::default()
    };
    settings
}

pub(super) fn with_tls(directory: &Path) -> Settings {
    let file = |name: &str| directory.join(name);
    let tls = TlsFiles { ca: file("ca.pem"), certificate: file("cert.pem"), key: file("key.pem") };
    Settings { tls: Some(tls), ..settings() }
}

pub(super) fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

/// Polls until `condition` holds; the only sleep of these tests.
pub(super) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, holds).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// Both ends of a link of group `g`, dialled by the first node.
pub(super) async fn linked_pair() -> (Node, LinkUp, Node, LinkUp) {
    let mut b = Node::start(settings(), &["g"]).await;
    let mut a = Node::start(settings(), &["g"]).await;
    a.peers.replace([b.address()]);
    let (up_a, up_b) = (a.up().await, b.up().await);
    (a, up_a, b, up_b)
}

// === impl Node ===

impl Node {
    pub(super) async fn start(settings: Settings, groups: &[&str]) -> Self {
        Self::start_with_mailbox(settings, groups, 64).await
    }

    pub(super) async fn start_with_mailbox(
        settings: Settings,
        groups: &[&str],
        mailbox: usize,
    ) -> Self {
        let peers = StaticPeers::new([]);
        let found = peers.peers();
        Self { peers, ..Self::start_finding(settings, groups, (found, mailbox)).await }
    }

    /// A node that dials what is found elsewhere.
    pub(super) async fn start_finding(
        settings: Settings,
        groups: &[&str],
        (found, mailbox): (watch::Receiver<Peers>, usize),
    ) -> Self {
        let peers = StaticPeers::new([]);
        let metrics = PeerMetrics::register(&Registry::new()).unwrap();
        let (sender, events) = mpsc::channel(mailbox);
        let supervisor = Supervisor::start(settings, found, sender, metrics.clone());
        let supervisor = supervisor.await.unwrap();
        supervisor.set_groups(groups.iter().map(|name| group(name)));
        Self { supervisor, peers, metrics, events }
    }

    pub(super) fn address(&self) -> PeerAddress {
        self.supervisor.local_addr().into()
    }

    pub(super) async fn event(&mut self) -> LinkEvent {
        timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("a sender")
    }

    /// The next event, which must be a link's opening.
    pub(super) async fn up(&mut self) -> LinkUp {
        match self.event().await {
            LinkEvent::Up(up) => up,
            other => panic!("expected Up, got {other:?}"),
        }
    }

    /// The next event, which must be a frame.
    pub(super) async fn frame(&mut self) -> (LinkId, Bytes) {
        match self.event().await {
            LinkEvent::Frame { link, frame, .. } => (link, frame),
            other => panic!("expected Frame, got {other:?}"),
        }
    }

    /// The next event, which must be a link's end.
    pub(super) async fn down(&mut self) -> (LinkId, CloseReason) {
        match self.event().await {
            LinkEvent::Down { link, reason } => (link, reason),
            other => panic!("expected Down, got {other:?}"),
        }
    }

    /// Asserts that nothing happens for many times the tests' backoff.
    pub(super) async fn stays_quiet(&mut self, why: &str) {
        if let Ok(event) = timeout(QUIET, self.events.recv()).await {
            panic!("{why}: {event:?}");
        }
    }

    pub(super) async fn counts(&self, reason: CloseReason) {
        eventually(reason.label(), || self.metrics.links_closed(reason) > 0).await;
    }
}
