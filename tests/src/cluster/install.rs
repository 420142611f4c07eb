//! Coppice, as a platform team installs it.

use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::{Environment, Failure, Kubectl, until};
use crate::progress::say;

/// Where the operator runs.
pub const OPERATOR_NAMESPACE: &str = "coppice-system";

/// The images under test.
#[derive(Clone, Debug)]
pub struct Images {
    /// The sidecar.
    pub agent: String,
    /// The operator.
    pub operator: String,
    /// An app that uses Coppice: `coppice-test-app`.
    pub app: String,
}

impl Images {
    /// `coppice-agent:<tag>` and so on; the tag is `COPPICE_E2E_TAG`, else `e2e`.
    fn from_environment() -> Self {
        let tag = env::var("COPPICE_E2E_TAG").unwrap_or_else(|_| "e2e".to_owned());
        let named = |name| format!("{name}:{tag}");
        Self {
            agent: named("coppice-agent"),
            operator: named("coppice-operator"),
            app: named("coppice-test-app"),
        }
    }
}

/// Loads the images, applies `crds/` and the manifests that `COPPICE_MANIFESTS` names
/// (none: Coppice is there already), and waits until the operator serves.
pub(super) fn install(kubectl: &Kubectl) -> Result<Images, Failure> {
    let images = Images::from_environment();
    if let Some(load) = Environment::named("COPPICE_LOAD_IMAGE") {
        for image in [&images.agent, &images.operator, &images.app] {
            say(&format!("--- loading {image}"));
            load.run(image)?;
        }
    }
    if let Ok(manifests) = env::var("COPPICE_MANIFESTS") {
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        for file in fs::read_dir(&crds).map_err(|error| format!("{}: {error}", crds.display()))? {
            kubectl.apply_text(&fs::read_to_string(file?.path())?)?;
        }
        until("the API serves ReplicationGroups", Duration::from_secs(30), || {
            kubectl.run(&["get", "replicationgroups", "--all-namespaces"])
        })?;
        kubectl.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE},
        }))?;
        say("--- installing Coppice");
        kubectl.apply_text(&fs::read_to_string(&manifests)?)?;
    }
    let operator = Kubectl::within(OPERATOR_NAMESPACE);
    // Rotations that end while a test waits.
    let short = ["COPPICE_ROTATION_WAIT=10s", "COPPICE_ROTATION_KEEP=20s"];
    operator.run(&["set", "env", "deployment/coppice-operator", short[0], short[1]])?;
    // An image that was loaded anew has the same name.
    operator.run(&["rollout", "restart", "deployment/coppice-operator"])?;
    let rollout = ["rollout", "status", "deployment/coppice-operator", "--timeout=120s"];
    operator.run(&rollout).map_err(|error| {
        let shown = operator.run(&["get", "pods", "--output", "wide"]).unwrap_or_default();
        let logs = operator.run(&["logs", "deployment/coppice-operator", "--tail", "30"]);
        format!("{error}\n{shown}\n{}", logs.unwrap_or_default())
    })?;
    say("--- the operator is ready");
    Ok(images)
}
