//! Operators and sidecars of a cluster, scraped through its API server: pods need not be
//! reachable from here.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coppice_tests::cluster::{
    Cluster, Failure, Kubectl, Namespace, OPERATOR_NAMESPACE, Workload, until,
};
use coppice_tests::trio;
use serde_json::{Value, json};

use super::prometheus::Target;

const LIMIT: Duration = Duration::from_mins(2);
const APP: &str = "rules";

/// `kubectl proxy`, killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    address: String,
}

impl Proxy {
    /// On a port of its own choice.
    pub(crate) fn start() -> Result<Self, trio::Failure> {
        let mut child = Command::new("kubectl")
            .args(["proxy", "--port=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = child.stdout.take().ok_or("kubectl proxy has no output")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        Ok(Self { child, address })
    }

    fn target(&self, namespace: &str, pod: &str, port: u16) -> Target {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics");
        json!({
            "targets": [self.address],
            "labels": {"__metrics_path__": path, "namespace": namespace, "pod": pod, "instance": pod},
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every operator.
pub(crate) fn operators(proxy: &Proxy) -> Result<Vec<Target>, Failure> {
    let home = Kubectl::within(OPERATOR_NAMESPACE);
    let pods =
        home.list("pods", "app.kubernetes.io/name=coppice,app.kubernetes.io/component=operator")?;
    let name = |pod: &Value| pod["metadata"]["name"].as_str().map(str::to_owned);
    Ok(pods
        .iter()
        .filter_map(name)
        .map(|pod| proxy.target(OPERATOR_NAMESPACE, &pod, 8080))
        .collect())
}

/// Three pods of a group.
pub(crate) struct Members {
    kubectl: Kubectl,
    namespace: String,
    pods: Vec<String>,
    rounds: u32,
}

impl Members {
    /// Makes them, and waits for their agents.
    pub(crate) fn start(cluster: &Cluster, space: &Namespace) -> Result<Self, Failure> {
        space.kubectl.apply(&json!({
            "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
            "metadata": {"name": APP},
            "spec": {
                "selector": {"matchLabels": {"app": APP}}, "crdt": {"type": "PNCounter"},
                "sync": {"interval": "1s"}, "snapshot": {"interval": "1s"},
            },
        }))?;
        let workload = Workload::deployment(APP, 3);
        workload.apply(cluster, space)?;
        let (pods, _) =
            until("three agents have started", LIMIT, || workload.running(&space.kubectl, 3))?;
        Ok(Self { kubectl: space.kubectl.clone(), namespace: space.name.clone(), pods, rounds: 0 })
    }

    /// Where their agents are scraped.
    pub(crate) fn targets(&self, proxy: &Proxy) -> Vec<Target> {
        self.pods.iter().map(|pod| proxy.target(&self.namespace, pod, 4439)).collect()
    }

    /// A write through each; and for the operators a pod to inject and a group to
    /// reconcile, since without any in a window its latencies are no numbers.
    pub(crate) fn work(&mut self) -> Result<(), trio::Failure> {
        let path = format!("/v1/groups/{APP}/objects/home");
        for pod in &self.pods {
            let write = ["coppice-test-app", "request", "POST", &path, r#"{"op":"increment"}"#];
            self.kubectl.exec(pod, &write)?;
        }
        self.rounds += 1;
        let label = format!("example.com/round={}", self.rounds);
        self.kubectl.run(&["label", "--overwrite", "replicationgroup", APP, &label])?;
        self.kubectl.run(&[
            "run",
            &format!("one-of-{}", self.rounds),
            "--image=none",
            "--dry-run=server",
            "--restart=Never",
            &format!("--labels=app={APP},coppice.dev/inject=true"),
        ])?;
        Ok(())
    }
}
