//! A namespace of a test's own.

use std::thread;

use serde_json::{Value, json};

use super::{Cluster, Kubectl, KubectlError, fresh};
use crate::progress::say;

/// A namespace that goes with the test; of one that fails, what happened in it is shown.
#[derive(Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Calls within it.
    pub kubectl: Kubectl,
}

impl Namespace {
    /// A new one with labels.
    ///
    /// # Errors
    ///
    /// If the cluster refuses it.
    pub fn labelled(cluster: &Cluster, test: &str, labels: &Value) -> Result<Self, KubectlError> {
        let name = format!("e2e-{test}-{}", fresh::suffix());
        cluster.kubectl.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }))?;
        say(&format!("--- {test}: namespace {name}"));
        Ok(Self { kubectl: Kubectl::within(&name), name })
    }

    /// Shows what happened in it.
    pub(super) fn show(&self) {
        for arguments in [
            &["get", "replicationgroups,pods,services,endpointslices", "--output", "wide"][..],
            &["get", "replicationgroups", "--output", "yaml"],
            &["get", "events", "--sort-by", ".lastTimestamp"],
            &["get", "configmap", "coppice-groups", "--output", "yaml"],
            &[
                "logs",
                "--selector",
                "coppice.dev/injected=true",
                "--container",
                "coppice-agent",
                "--tail",
                "25",
                "--prefix",
            ],
        ] {
            let shown = self.kubectl.run(arguments).unwrap_or_else(|error| error.to_string());
            say(&format!("$ kubectl {}\n{shown}", arguments.join(" ")));
        }
        let operator = Kubectl::within(super::OPERATOR_NAMESPACE);
        let arguments =
            ["logs", "--selector", "app.kubernetes.io/name=coppice", "--tail", "40", "--prefix"];
        say(&operator.run(&arguments).unwrap_or_else(|error| error.to_string()));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show();
        }
        let cluster = Kubectl::of_the_cluster();
        let _ = cluster.run(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}
