//! A real cluster: the one that `KUBECONFIG` names, spoken to as users do, by
//! `kubectl`.
//!
//! What is not the same in every cluster is a command in the environment (with a whole
//! path, since tests run in a folder of their own):
//!
//! - `COPPICE_LOAD_IMAGE`: makes an image known to the nodes; its last argument is
//!   the image (`kind load docker-image`).
//! - `COPPICE_STOP_COMPONENT`, `COPPICE_START_COMPONENT`: kill and start a part of
//!   the control plane; the last argument is its name (`apiserver`).
//! - `COPPICE_KILL_CONTAINER`: SIGKILLs a container, also while the API server is away;
//!   the last argument is `<namespace>/<pod>/<container>`.
//!
//! Without a cluster nothing is shown, and that is said aloud; where
//! `COPPICE_REQUIRE_CLUSTER` is `1` it is a failure.

mod api;
mod app;
mod command;
mod failure;
mod fresh;
mod install;
mod kubectl;
mod ledger;
mod namespace;
mod operator;
mod port_forward;
mod storage;
mod until;

use std::env;
use std::sync::OnceLock;

pub use api::{ApiProxy, Call};
pub use app::{Workload, elements, request};
pub use command::{Environment, run_command};
pub use failure::Failure;
pub use fresh::suffix as fresh_suffix;
pub use install::{Images, OPERATOR_NAMESPACE};
pub use kubectl::{Kubectl, KubectlError};
pub use ledger::Ledger;
pub use namespace::Namespace;
pub use operator::{OperatorAway, break_ca_bundles, ca_bundles};
pub use port_forward::PortForward;
pub use storage::LocalVolume;
pub use until::{holds_for, until};

use crate::progress::say;

/// A cluster with Coppice in it.
#[derive(Debug)]
pub struct Cluster {
    /// Of the cluster as a whole.
    pub kubectl: Kubectl,
    /// What was installed.
    pub images: Images,
}

impl Cluster {
    /// The cluster, with Coppice installed by the first test that asks.
    ///
    /// `None` if there is none, which is said with the name of the test.
    ///
    /// # Panics
    ///
    /// If there is none and there has to be one, or if the installation fails.
    #[must_use]
    #[expect(clippy::panic, reason = "that is how a test fails")]
    pub fn find(test: &str) -> Option<&'static Self> {
        static CLUSTER: OnceLock<Result<Option<Cluster>, String>> = OnceLock::new();
        let found = CLUSTER.get_or_init(|| {
            if env::var_os("KUBECONFIG").is_none() {
                return Ok(None);
            }
            let kubectl = Kubectl::of_the_cluster();
            let installed = install::install(&kubectl).map_err(|failure| failure.0)?;
            Ok(Some(Cluster { kubectl, images: installed }))
        });
        match found {
            Ok(Some(cluster)) => Some(cluster),
            Ok(None) => {
                lacks(test, "KUBECONFIG names no cluster");
                None
            }
            Err(error) => panic!("Coppice was not installed: {error}"),
        }
    }
}

/// Runs a test in a namespace of its own, whose name holds `short`. Of one that fails,
/// what happened there is shown.
///
/// # Errors
///
/// What `body` found wrong.
pub fn test(
    short: &str,
    body: impl FnOnce(&Cluster, &Namespace) -> Result<(), Failure>,
) -> Result<(), Failure> {
    test_labelled(short, &serde_json::json!({}), body)
}

/// The same, with labels on the namespace.
///
/// # Errors
///
/// What `body` found wrong.
pub fn test_labelled(
    short: &str,
    labels: &serde_json::Value,
    body: impl FnOnce(&Cluster, &Namespace) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let thread = std::thread::current();
    let Some(cluster) = Cluster::find(thread.name().unwrap_or(short)) else { return Ok(()) };
    let space = Namespace::labelled(cluster, short, labels)?;
    let outcome = body(cluster, &space);
    if outcome.is_err() {
        space.show();
    }
    outcome
}

/// Says that `test` could not show what it is for.
///
/// # Panics
///
/// Where `COPPICE_REQUIRE_CLUSTER` is `1`.
pub fn lacks(test: &str, reason: &str) {
    let is_required = env::var("COPPICE_REQUIRE_CLUSTER").is_ok_and(|value| value == "1");
    assert!(!is_required, "{test}: nothing was shown: {reason}");
    // Straight to the terminal: what passing tests print is not hidden there.
    say(&format!("SKIPPED {test}: nothing was shown: {reason}"));
}
