//! Mutual TLS: who gets in, with which groups, and for how long.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::node::{Node, eventually, settings, with_tls};
use crate::peer::{CloseReason, LinkUp, PeerIdentity, StartError, Supervisor, check_tls};

const GROUP: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

pub(super) struct Authority {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a test wants of a certificate; else it is valid for a day.
#[derive(Clone, Default)]
pub(super) struct Wanted {
    pub(super) uri: Option<String>,
    /// Seconds from now to the certificate's end.
    pub(super) ends_in: Option<i64>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes the three files for one agent; the key and certificate first, as
    /// no order of three writes is ever whole.
    pub(super) fn write(&self, directory: &Path, wanted: &Wanted) {
        let mut params = CertificateParams::new(vec!["agent".to_owned()]).unwrap();
        if let Some(uri) = &wanted.uri {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        }
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::from_hours(1);
        params.not_after = now + time::Duration::seconds(wanted.ends_in.unwrap_or(86_400));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(directory.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(directory.join("ca.pem"), &self.pem).unwrap();
    }

    pub(super) async fn node(&self, wanted: &Wanted) -> (Node, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        self.write(directory.path(), wanted);
        (Node::start(with_tls(directory.path()), &["g"]).await, directory)
    }
}

pub(super) fn naming(group: &str) -> Wanted {
    Wanted { uri: Some(format!("urn:coppice:cluster:{group}")), ..Wanted::default() }
}

async fn link(a: &mut Node, b: &mut Node) -> (LinkUp, LinkUp) {
    a.peers.replace([b.address()]);
    (a.up().await, b.up().await)
}

#[tokio::test]
async fn certificates_of_the_ca_without_our_names_stand_for_all_groups() {
    let ca = Authority::new();
    let ((mut a, _files_a), (mut b, _files_b)) =
        (ca.node(&Wanted::default()).await, ca.node(&Wanted::default()).await);
    let (up_a, up_b) = link(&mut a, &mut b).await;
    assert_eq!(
        (&up_a.identity, &up_b.identity),
        (&PeerIdentity::AllGroups, &PeerIdentity::AllGroups)
    );

    up_a.outbound.try_send("there".into()).unwrap();
    up_b.outbound.try_send("back".into()).unwrap();
    assert_eq!((a.frame().await.1, b.frame().await.1), ("back".into(), "there".into()));
}

#[tokio::test]
async fn a_certificate_that_names_groups_stands_for_those_only() {
    let ca = Authority::new();
    let ((mut a, _files_a), (mut b, _files_b)) =
        (ca.node(&naming(GROUP)).await, ca.node(&Wanted::default()).await);
    let (_up_a, up_b) = link(&mut a, &mut b).await;
    let group: Uuid = GROUP.parse().unwrap();
    assert_eq!(up_b.identity, PeerIdentity::Groups(vec![group]));
    assert!(!up_b.identity.speaks_for(Uuid::nil()), "another group's frames are not its to send");
}

/// `a` dials `b`; neither gets a link, and both count the failure.
async fn assert_refused(mut a: Node, mut b: Node) {
    a.peers.replace([b.address()]);
    a.counts(CloseReason::Tls).await;
    b.counts(CloseReason::Tls).await;
    a.stays_quiet("no link may come up").await;
    b.stays_quiet("no link may come up").await;
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (a, _files_a) = ours.node(&Wanted::default()).await;
    let (b, files_b) = theirs.node(&Wanted::default()).await;
    assert_refused(a, b).await;

    // A dialler that trusts us is refused all the same.
    let (a, _files_a) = ours.node(&Wanted::default()).await;
    std::fs::write(files_b.path().join("ca.pem"), &ours.pem).unwrap();
    let b = Node::start(with_tls(files_b.path()), &["g"]).await;
    assert_refused(b, a).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side() {
    let ca = Authority::new();
    let expired = Wanted { ends_in: Some(-60), ..Wanted::default() };
    let ((a, _files_a), (b, _files_b)) =
        (ca.node(&expired).await, ca.node(&Wanted::default()).await);
    assert_refused(a, b).await;
    let ((a, _files_a), (b, _files_b)) =
        (ca.node(&Wanted::default()).await, ca.node(&expired).await);
    assert_refused(a, b).await;
}

#[tokio::test]
async fn a_link_ends_with_the_certificate_that_let_it_in() {
    let ca = Authority::new();
    let brief = Wanted { ends_in: Some(3), ..Wanted::default() };
    let ((mut a, _files_a), (mut b, _files_b)) =
        (ca.node(&brief).await, ca.node(&Wanted::default()).await);
    let (_up_a, up_b) = link(&mut a, &mut b).await;
    assert_eq!(b.down().await, (up_b.link, CloseReason::Tls), "of who dialled");

    let ((mut a, _files_a), (mut b, _files_b)) =
        (ca.node(&Wanted::default()).await, ca.node(&brief).await);
    let (up_a, _up_b) = link(&mut a, &mut b).await;
    assert_eq!(a.down().await, (up_a.link, CloseReason::Tls), "of who was dialled");
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_refused() {
    let ca = Authority::new();
    let (mut node, _files) = ca.node(&Wanted::default()).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(node.supervisor.local_addr()).await.unwrap();
    let name = ServerName::try_from("agent").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    // TLS 1.3: the client is done before the server has looked.
    let mut stream = connector.connect(name, tcp).await.unwrap();
    assert!(stream.read_to_end(&mut Vec::new()).await.is_err(), "the server says no");
    node.counts(CloseReason::Tls).await;
    node.stays_quiet("no link may come up").await;
}

#[tokio::test]
async fn a_plain_peer_is_refused() {
    let ca = Authority::new();
    let (mut node, _files) = ca.node(&Wanted::default()).await;
    let plain = Node::start(settings(), &["g"]).await;
    plain.peers.replace([node.address()]);
    node.counts(CloseReason::Tls).await;
    node.stays_quiet("no link may come up").await;
}

#[tokio::test]
async fn changed_files_are_used_for_new_connections_and_drop_no_link() {
    let ca = Authority::new();
    let (mut a, files_a) = ca.node(&Wanted::default()).await;
    let (mut b, _files_b) = ca.node(&Wanted::default()).await;
    let (up_a, up_b) = link(&mut a, &mut b).await;

    let expiry = a.metrics.certificate_expiry();
    // A key that does not fit is how a half-written change looks.
    std::fs::write(files_a.path().join("key.pem"), KeyPair::generate().unwrap().serialize_pem())
        .unwrap();
    ca.write(files_a.path(), &Wanted { ends_in: Some(1_000), ..naming(GROUP) });
    eventually("reloaded", || a.metrics.certificate_expiry() != expiry).await;

    let (mut c, _files_c) = ca.node(&Wanted::default()).await;
    let (at_c, _at_a) = link(&mut c, &mut a).await;
    assert_eq!(at_c.identity, PeerIdentity::Groups(vec![GROUP.parse().unwrap()]));

    up_a.outbound.try_send("still here".into()).unwrap();
    assert_eq!(b.frame().await, (up_b.link, "still here".into()));
}

#[tokio::test]
async fn files_that_can_not_be_used_are_named_at_start() {
    let ca = Authority::new();
    let (node, files) = ca.node(&Wanted::default()).await;
    let start = async |files: &TempDir| {
        use crate::discovery::{Discovery, StaticPeers};
        let (peers, events) = (StaticPeers::new([]).peers(), tokio::sync::mpsc::channel(1).0);
        Supervisor::start(with_tls(files.path()), peers, events, node.metrics.clone()).await
    };
    let message = |started: Result<Supervisor, StartError>| started.unwrap_err().to_string();

    std::fs::write(files.path().join("cert.pem"), "nothing").unwrap();
    assert!(message(start(&files).await).contains("tls.certificate"));
    ca.write(files.path(), &Wanted::default());
    std::fs::write(files.path().join("key.pem"), KeyPair::generate().unwrap().serialize_pem())
        .unwrap();
    assert!(message(start(&files).await).contains("tls.key"));
    std::fs::remove_file(files.path().join("ca.pem")).unwrap();
    assert!(message(start(&files).await).contains("tls.ca"));
}

/// What the check of an agent's files says of its own certificate.
async fn said_of(own: impl FnOnce(&mut CertificateParams), issuer: &Authority, ca: &str) -> String {
    let files = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(vec!["agent".to_owned()]).unwrap();
    own(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer.issuer).unwrap();
    std::fs::write(files.path().join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(files.path().join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(files.path().join("ca.pem"), ca).unwrap();
    let files = with_tls(files.path()).tls.unwrap();
    // The folder is read before it goes.
    let wrong = check_tls(&files).await.err().unwrap_or_default();
    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_check_says_of_our_own_certificate_what_peers_would() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let (ca, other) = (Authority::new(), Authority::new());
    let now = OffsetDateTime::now_utc();
    let hour = time::Duration::HOUR;
    let usages = |usages: &'static [ExtendedKeyUsagePurpose]| {
        move |own: &mut CertificateParams| own.extended_key_usages = usages.to_vec()
    };

    assert_eq!(said_of(|_| {}, &ca, &ca.pem).await, "");
    assert_eq!(said_of(usages(&[ClientAuth, ServerAuth]), &ca, &ca.pem).await, "");
    for (said, expected) in [
        (said_of(|_| {}, &other, &ca.pem).await, "does not come from the CA in tls.ca"),
        (said_of(|own| own.not_after = now - hour, &ca, &ca.pem).await, "has expired"),
        (said_of(|own| own.not_before = now + hour, &ca, &ca.pem).await, "is not valid yet"),
        (said_of(usages(&[ClientAuth]), &ca, &ca.pem).await, "lacks serverAuth"),
        (said_of(usages(&[ServerAuth]), &ca, &ca.pem).await, "lacks clientAuth"),
        (
            said_of(|own| own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), &ca, &ca.pem)
                .await,
            "is a CA's certificate",
        ),
    ] {
        assert!(said.starts_with("tls.certificate: "), "{expected}: {said}");
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test]
async fn a_check_names_every_file_that_is_wrong_and_a_key_of_another() {
    let ca = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let said = async || {
        let wrong = check_tls(&with_tls(files.path()).tls.unwrap()).await.unwrap_err();
        wrong.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    ca.write(files.path(), &Wanted::default());
    let key = KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(files.path().join("key.pem"), key).unwrap();
    let of_key = said().await.concat();
    assert!(of_key.starts_with("tls.key: not the key of the certificate in tls.cert"), "{of_key}");

    std::fs::remove_file(files.path().join("ca.pem")).unwrap();
    std::fs::write(files.path().join("cert.pem"), "nothing").unwrap();
    std::fs::write(files.path().join("key.pem"), "nothing").unwrap();
    let all = said().await;
    let begin = ["tls.ca: cannot read", "tls.certificate: no readable", "tls.key: no readable"];
    assert_eq!(all.len(), begin.len(), "{all:?}");
    for (said, begin) in all.iter().zip(begin) {
        assert!(said.starts_with(begin), "{said}");
    }
}
