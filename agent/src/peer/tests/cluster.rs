//! What is other in a cluster: certificates come late and name more groups later,
//! addresses are of some groups, and the operator asks how an agent is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::watch;
use uuid::Uuid;

use super::node::{Node, group, settings, with_tls};
use super::tls::{Authority, Wanted, naming};
use crate::discovery::{Listed, Scope};
use crate::peer::{CloseReason, PeerIdentity, Reporter, Settings};

const OTHER: &str = "11111111-9dad-11d1-80b4-00c04fd430c8";
const GROUP: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

#[derive(Debug)]
struct Fixed;

impl Reporter for Fixed {
    fn report(&self, trusted: &[String]) -> Vec<u8> {
        format!("trusts {}", trusted.join(" ")).into_bytes()
    }
}

fn named(uri: &str) -> Wanted {
    Wanted { uri: Some(uri.to_owned()), ..Wanted::default() }
}

fn in_cluster(folder: &Path) -> Settings {
    Settings { in_cluster: true, reporter: Some(Arc::new(Fixed)), ..with_tls(folder) }
}

#[tokio::test]
async fn a_refused_group_gets_a_connection_with_what_is_proved_by_then() {
    let ca = Authority::new();
    let (mut a, _files_a) = ca.node(&naming(GROUP)).await;
    let (mut b, files_b) = ca.node(&naming(OTHER)).await;
    a.peers.replace([b.address()]);
    let (first, _at_b) = (a.up().await, b.up().await);
    assert_eq!(first.identity, PeerIdentity::Groups(vec![OTHER.parse().unwrap()]));

    // The peer gets its certificate, of which this side hears nothing.
    let before = b.metrics.certificate_expiry();
    ca.write(files_b.path(), &Wanted { ends_in: Some(5_000), ..naming(GROUP) });
    super::node::eventually("reloaded", || b.metrics.certificate_expiry() != before).await;
    first.outbound.close(CloseReason::Unauthorised);
    assert_eq!(a.down().await.1, CloseReason::Unauthorised);
    let second = a.up().await;
    assert_eq!(second.identity, PeerIdentity::Groups(vec![GROUP.parse().unwrap()]));
}

#[tokio::test]
async fn our_own_new_certificate_is_shown_where_the_last_one_was_refused() {
    let ca = Authority::new();
    let (mut a, files_a) = ca.node(&naming(OTHER)).await;
    let (mut b, _files_b) = ca.node(&naming(GROUP)).await;
    a.peers.replace([b.address()]);
    let (_at_a, first) = (a.up().await, b.up().await);
    assert_eq!(first.identity, PeerIdentity::Groups(vec![OTHER.parse().unwrap()]));
    ca.write(files_a.path(), &Wanted { ends_in: Some(5_000), ..naming(GROUP) });
    first.outbound.close(CloseReason::Unauthorised);
    assert_eq!(b.down().await.1, CloseReason::Unauthorised);
    let group: Uuid = GROUP.parse().unwrap();
    loop {
        match b.event().await {
            crate::peer::LinkEvent::Up(up) if up.identity.speaks_for(group) => return,
            crate::peer::LinkEvent::Up(up) => up.outbound.close(CloseReason::Unauthorised),
            _ => {}
        }
    }
}

#[tokio::test]
async fn without_a_certificate_nobody_is_spoken_with_until_there_is_one() {
    let ca = Authority::new();
    let (mut b, _files_b) = ca.node(&naming(GROUP)).await;
    let folder = tempfile::tempdir().unwrap();
    let mut a = Node::start(in_cluster(folder.path()), &["g"]).await;
    a.peers.replace([b.address()]);
    a.stays_quiet("it has nothing to show").await;
    b.peers.replace([a.address()]);
    b.stays_quiet("nor does it let anyone in").await;
    ca.write(folder.path(), &naming(GROUP));
    let up = b.up().await;
    assert!(up.identity.speaks_for(GROUP.parse().unwrap()));
}

#[tokio::test]
async fn a_listed_address_is_dialled_for_its_own_groups_only() {
    let mut b = Node::start(settings(), &["g", "h"]).await;
    let listed = |groups: &[&str]| {
        let scope = Scope::Groups(groups.iter().map(|name| group(name)).collect::<BTreeSet<_>>());
        let addresses = BTreeMap::from([(b.address(), scope)]);
        Arc::new(Listed { addresses, complete: Scope::AllGroups })
    };
    let found = watch::Sender::new(listed(&["g"]));
    let (both, one) = (listed(&["g", "h"]), listed(&["h"]));
    let mut a = Node::start_finding(settings(), &["g", "h"], (found.subscribe(), 64)).await;
    let (first, _at_b) = (a.up().await, b.up().await);
    assert_eq!(first.group, group("g"));
    a.stays_quiet("it is no peer of the other group").await;
    found.send_replace(both);
    let second = a.up().await;
    assert_eq!(second.group, group("h"));
    found.send_replace(one);
    assert_eq!(
        a.down().await,
        (first.link, CloseReason::Removed),
        "it is no peer of the first any more"
    );
}

/// Asks for a report with the certificate in this folder.
async fn ask(address: SocketAddr, folder: &Path, path: &str) -> (StatusCode, String) {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read("ca.pem")).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&read("cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&read("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    );
    let verifier: Arc<dyn ServerCertVerifier> = verifier.build().unwrap();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("agent").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let stream = TokioIo::new(stream.await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let request = Request::builder().method(Method::GET).uri(format!("http://agent{path}"));
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let asking = async {
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    tokio::select! {
        answer = asking => answer,
        ended = connection => panic!("it ended before its answer: {ended:?}"),
    }
}

#[tokio::test]
async fn the_report_is_for_the_operator_of_the_cluster_only() {
    let ca = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    ca.write(folder.path(), &named(&format!("urn:coppice:c1/shop:{GROUP}")));
    let node = Node::start(in_cluster(folder.path()), &["g"]).await;
    let address = node.supervisor.local_addr();
    for (uri, expected) in [
        ("urn:coppice:c1:operator", StatusCode::OK),
        ("urn:coppice:c2:operator", StatusCode::FORBIDDEN),
        ("urn:coppice:c1/shop:operator", StatusCode::FORBIDDEN),
        (&format!("urn:coppice:c1/shop:{GROUP}"), StatusCode::FORBIDDEN),
        ("https://anyone", StatusCode::FORBIDDEN),
    ] {
        let client = tempfile::tempdir().unwrap();
        ca.write(client.path(), &named(uri));
        let (status, body) = ask(address, client.path(), "/v1/report").await;
        assert_eq!(status, expected, "{uri}");
        if status == StatusCode::OK {
            let fingerprint = body.strip_prefix("trusts ").unwrap();
            assert_eq!(fingerprint.len(), 64, "one authority: {body}");
        } else {
            assert!(body.is_empty(), "{uri}: {body}");
        }
    }
}

#[tokio::test]
async fn an_agent_of_no_cluster_has_no_report() {
    let ca = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    ca.write(folder.path(), &named(&format!("urn:coppice:c1:{GROUP}")));
    let node = Node::start(with_tls(folder.path()), &["g"]).await;
    let client = tempfile::tempdir().unwrap();
    ca.write(client.path(), &named("urn:coppice:c1:operator"));
    let address = node.supervisor.local_addr();
    let (status, _) = ask(address, client.path(), "/v1/report").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
