//! What the agent's, the operator's and a stranger's credentials can do, and what not.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use coppice_api::cluster::{
    CertificateRequest, CertificateResponse, PublishedOperator, SIGNING_AUDIENCE as AUDIENCE,
};
use coppice_tests::cluster::{
    Failure, Kubectl, OPERATOR_NAMESPACE, PortForward, Workload, run_command, test, until,
};
use coppice_tests::progress::say;
use coppice_tests::rogue::Rogue;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::json;

use super::groups::{group, ready};

const SOON: Duration = Duration::from_mins(1);

/// Whether a call is forbidden; that it is allowed is said by what it prints.
fn forbidden(kubectl: &Kubectl, arguments: &[&str]) -> Result<(), Failure> {
    match kubectl.run(arguments) {
        Ok(shown) => Err(Failure(format!("{} is allowed: {shown}", arguments.join(" ")))),
        Err(error) if error.said.contains("orbidden") => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn the_agents_account_reads_endpoint_slices_of_its_namespace_and_nothing_else()
-> Result<(), Failure> {
    test("account", |cluster, space| {
        let kubectl = &space.kubectl;
        // An account that has no other rights.
        kubectl.run(&["create", "serviceaccount", "plain"])?;
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        let mut app = Workload::deployment("web", 1);
        app.pod["serviceAccountName"] = json!("plain");
        app.apply(cluster, space)?;
        until("the pod", SOON, || app.running(kubectl, 1))?;
        ready(kubectl, "hits", "1/1")?;

        let account = kubectl.impersonating(&space.name, "plain");
        until("it may read slices", SOON, || account.run(&["get", "endpointslices"]))?;
        for kind in ["pods", "secrets", "services", "configmaps", "replicationgroups", "leases"] {
            forbidden(&account, &["get", kind])?;
        }
        forbidden(&account, &["delete", "endpointslices", "--all", "--dry-run=server"])?;
        let elsewhere = Kubectl::within("default").impersonating(&space.name, "plain");
        forbidden(&elsewhere, &["get", "endpointslices"])?;
        let everywhere = Kubectl::of_the_cluster().impersonating(&space.name, "plain");
        forbidden(&everywhere, &["get", "endpointslices", "--all-namespaces"])?;

        let operator =
            |kubectl: &Kubectl| kubectl.impersonating(OPERATOR_NAMESPACE, "coppice-operator");
        operator(&Kubectl::within(OPERATOR_NAMESPACE)).run(&[
            "get",
            "secret",
            "coppice-authorities",
        ])?;
        forbidden(&operator(kubectl), &["get", "secrets"])?;
        forbidden(&operator(&Kubectl::of_the_cluster()), &["get", "secrets", "--all-namespaces"])?;
        forbidden(
            &operator(kubectl),
            &[
                "create",
                "rolebinding",
                "x",
                "--clusterrole=cluster-admin",
                "--serviceaccount=default:default",
                "--dry-run=server",
            ],
        )
    })
}

#[test]
fn policies_and_services_of_the_app_stay_as_they_are() -> Result<(), Failure> {
    test("untouched", |cluster, space| {
        let kubectl = &space.kubectl;
        kubectl.apply(&json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "apps-own"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]},
        }))?;
        kubectl.apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }))?;
        let seen = || -> Result<Vec<(String, String)>, Failure> {
            let policies = kubectl.json(&["get", "networkpolicies"])?;
            let services = kubectl.json(&["get", "services"])?;
            let all = [policies, services]
                .map(|list| list["items"].as_array().cloned().unwrap_or_default());
            let mut seen: Vec<_> = all
                .concat()
                .iter()
                .map(|object| {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                    (name, object["metadata"]["resourceVersion"].to_string())
                })
                .collect();
            seen.retain(|(name, _)| !name.starts_with("coppice-g-"));
            Ok(seen)
        };
        let before = seen()?;
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        let app = Workload::deployment("web", 1);
        app.apply(cluster, space)?;
        until("the pod", SOON, || app.running(kubectl, 1))?;
        ready(kubectl, "hits", "1/1")?;
        kubectl.run(&["delete", "replicationgroup", "hits"])?;
        let gone = || match kubectl.run(&["get", "service", "coppice-g-hits"]) {
            Ok(_) => Err(Failure("it is still there".to_owned())),
            Err(_) => Ok(()),
        };
        until("the group's service goes with it", SOON, gone)?;
        assert_eq!(seen()?, before, "the app's own policies and services");
        Ok(())
    })
}

/// Takes any server for the right one: who is judged here is the client.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client as the pod whose certificate it is, or with none.
fn client(of: Option<&Credentials>) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
    let mut config = match of {
        None => builder.with_no_client_auth(),
        Some(of) => {
            let chain = CertificateDer::pem_slice_iter(of.certificate.as_bytes());
            let chain: Vec<_> =
                chain.collect::<Result<_, _>>().map_err(|error| format!("{error:?}"))?;
            let key = PrivateKeyDer::from_pem_slice(of.key.as_bytes());
            builder.with_client_auth_cert(chain, key.map_err(|error| format!("{error:?}"))?)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// What a pod's agent has: a certificate that the operator signed for it.
struct Credentials {
    certificate: String,
    key: String,
}

/// Asks the operator as an agent does, with a token bound to the pod.
fn credentials(kubectl: &Kubectl, pod: &str) -> Result<Credentials, Failure> {
    let uid = kubectl.get("pod", pod)?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let token = kubectl.run(&[
        "create",
        "token",
        "default",
        "--audience",
        AUDIENCE,
        "--bound-object-kind",
        "Pod",
        "--bound-object-name",
        pod,
        "--bound-object-uid",
        &uid,
    ])?;
    let published = kubectl.get("configmap", "coppice-groups")?["data"].clone();
    let operator: PublishedOperator =
        serde_json::from_str(published["operator.json"].as_str().unwrap_or_default())?;
    let folder = tempfile::tempdir()?;
    let bundle = folder.path().join("ca.pem");
    fs::write(&bundle, published["serving-authorities.pem"].as_str().unwrap_or_default())?;
    let key = KeyPair::generate()?;
    let csr = CertificateParams::new(Vec::new())?.serialize_request(&key)?.pem()?;
    let body = serde_json::to_string(&CertificateRequest { csr, previous: None })?;
    let request = folder.path().join("request.json");
    fs::write(&request, body)?;
    let forward =
        PortForward::to(&Kubectl::within(OPERATOR_NAMESPACE), "deployment/coppice-operator", 8443)?;
    let name = &operator.server_name;
    let answer = run_command(
        Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--cacert"])
            .arg(&bundle)
            .args(["--connect-to", &format!("{name}:443:{}", forward.address)])
            .args(["--header", "content-type: application/json"])
            .args(["--header", &format!("authorization: Bearer {}", token.trim())])
            .args(["--data", &format!("@{}", request.display())])
            .arg(format!("https://{name}/v1/certificates"))
            .stdin(Stdio::null()),
    )?;
    let answer: CertificateResponse = serde_json::from_str(&answer)?;
    Ok(Credentials { certificate: answer.certificate, key: key.serialize_pem() })
}

/// Whether the agent of a pod speaks to this client about `hits`.
fn speaks(kubectl: &Kubectl, pod: &str, of: Option<&Credentials>) -> Result<bool, Failure> {
    let forward = PortForward::to(kubectl, &format!("pod/{pod}"), 4438)?;
    let connected = Rogue::connect_tls(forward.address, "any", client(of)?);
    let heard = connected.and_then(|mut rogue| rogue.open("hits")?.hear_hello());
    match heard {
        Ok(_) => Ok(true),
        Err(error) => {
            say(&format!("    refused: {error:?}"));
            Ok(false)
        }
    }
}

#[test]
fn only_members_of_a_group_speak_to_its_peers_ports() -> Result<(), Failure> {
    test("peers", |cluster, space| {
        let kubectl = &space.kubectl;
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        kubectl.apply(&group("misses", "PNCounter", "other"))?;
        let (web, other) = (Workload::deployment("web", 2), Workload::deployment("other", 1));
        web.apply(cluster, space)?;
        other.apply(cluster, space)?;
        let (members, _) = until("two members", SOON, || web.running(kubectl, 2))?;
        let (others, _) = until("a pod of another group", SOON, || other.running(kubectl, 1))?;
        ready(kubectl, "hits", "2/2")?;

        let member = credentials(kubectl, &members[1])?;
        assert!(speaks(kubectl, &members[0], Some(&member))?, "a member is spoken to");
        let stranger = credentials(kubectl, &others[0])?;
        assert!(!speaks(kubectl, &members[0], Some(&stranger))?, "a member of another group");
        assert!(!speaks(kubectl, &members[0], None)?, "without a certificate");

        // The same names in another namespace are another group, and so is the same id,
        // which anyone may ask for.
        let id = kubectl.get("replicationgroup", "hits")?["status"]["id"].clone();
        test("peers2", |cluster, elsewhere| {
            let mut taken = group("hits", "PNCounter", "web");
            taken["spec"]["id"] = id;
            elsewhere.kubectl.apply(&taken)?;
            let web = Workload::deployment("web", 1);
            web.apply(cluster, elsewhere)?;
            let (pods, _) = until("a pod", SOON, || web.running(&elsewhere.kubectl, 1))?;
            ready(&elsewhere.kubectl, "hits", "1/1")?;
            let foreigner = credentials(&elsewhere.kubectl, &pods[0])?;
            assert!(speaks(&elsewhere.kubectl, &pods[0], Some(&foreigner))?, "to its own");
            assert!(!speaks(kubectl, &members[0], Some(&foreigner))?, "of another namespace");
            Ok(())
        })
    })
}
