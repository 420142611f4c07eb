//! The custom resource's schema, by the API server that enforces it.
//!
//! Needs no more of a cluster than its API server. The definition is installed under
//! an API group of its own that ends with the test, so that it neither meets nor
//! changes a Coppice that is there. What a rule may cost is only judged here.

use std::{env, fs};

use coppice_api::v1alpha1::{ReplicationGroupSpec, definition};
use coppice_tests::cluster::{Kubectl, KubectlError, fresh_suffix};
use coppice_tests::progress::say;
use serde_json::{Value, json};

use cases::{Answer, Case, cases, smallest};

#[path = "../../crates/api/tests/crd_rules/cases.rs"]
mod cases;

/// A definition that is there for one test.
struct Trial {
    kubectl: Kubectl,
    group: String,
}

impl Trial {
    /// Installs the definition that the types give; none without a cluster, which is
    /// said, or fails where one is required.
    fn begin(test: &str) -> Option<Self> {
        if env::var_os("KUBECONFIG").is_none() {
            let said = format!("{test}: nothing was shown: KUBECONFIG names no cluster");
            let is_required = env::var("COPPICE_REQUIRE_CLUSTER").is_ok_and(|value| value == "1");
            assert!(!is_required, "{said}");
            say(&format!("SKIPPED {said}"));
            return None;
        }
        let group = format!("trial-{}.coppice.dev", fresh_suffix());
        let mut definition = definition();
        definition["metadata"]["name"] = json!(format!("replicationgroups.{group}"));
        definition["spec"]["group"] = json!(group);
        // Short names and categories stay those of the Coppice that may be there.
        definition["spec"]["names"] = json!({
            "kind": "ReplicationGroup",
            "plural": "replicationgroups",
            "singular": "replicationgroup",
        });
        let trial = Self { kubectl: Kubectl::within("default"), group };
        trial.kubectl.apply(&definition).expect("the API server takes the definition");
        let name = trial.definition();
        let wait = ["wait", "--for=condition=Established", &name, "--timeout=30s"];
        trial.kubectl.run(&wait).expect("the definition is established");
        Some(trial)
    }

    fn definition(&self) -> String {
        format!("customresourcedefinition/replicationgroups.{}", self.group)
    }

    fn object(&self, patch: &Value, name: Option<&str>) -> Value {
        let mut object = smallest();
        json_patch::merge(&mut object, patch);
        object["apiVersion"] = json!(format!("{}/v1alpha1", self.group));
        if let Some(name) = name {
            object["metadata"]["name"] = json!(name);
        }
        object
    }

    /// What the API server makes of an object, without keeping it.
    fn tried(&self, verb: &str, object: &Value) -> Result<Value, KubectlError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), object.to_string()).expect("it is written");
        let path = file.path().to_str().expect("UTF-8");
        self.kubectl.json(&[verb, "--dry-run=server", "--filename", path])
    }

    /// What the API server says to a case; the name is unlike those of other cases
    /// where something is kept.
    fn said_to(&self, case: &Case, number: usize) -> Result<Value, KubectlError> {
        let Some(before) = &case.before else {
            return self.tried("create", &self.object(&case.asked, None));
        };
        let name = format!("views-{number}");
        let before = self.object(before, Some(&name));
        self.kubectl.apply(&before).unwrap_or_else(|error| panic!("{case:?}: {error}"));
        self.tried("replace", &self.object(&case.asked, Some(&name)))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let deleted = self.kubectl.run(&["delete", &self.definition(), "--wait=false"]);
        if let Err(error) = deleted {
            say(&format!("{} is left behind: {error}", self.definition()));
        }
    }
}

#[test]
fn the_api_server_refuses_what_the_rules_refuse() {
    let Some(trial) = Trial::begin("the_api_server_refuses_what_the_rules_refuse") else { return };
    let mut wrong = Vec::new();
    for (number, case) in cases().into_iter().enumerate() {
        let said = trial.said_to(&case, number).map_err(|error| error.said);
        let is_right = match (case.answer, &said) {
            (Answer::Accepted, Ok(_)) => true,
            (Answer::Rule(at, message) | Answer::Shape(at, message), Err(said)) => {
                said.contains(at) && said.contains(message)
            }
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{case:?}\n  the API server: {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_api_server_fills_in_the_defaults_that_agents_have() {
    let Some(trial) = Trial::begin("the_api_server_fills_in_the_defaults_that_agents_have") else {
        return;
    };
    let stored = trial.tried("create", &trial.object(&json!({}), None)).expect("it is valid");
    let read: ReplicationGroupSpec =
        serde_json::from_value(stored["spec"].clone()).expect("it is a group's spec");
    let short: ReplicationGroupSpec =
        serde_json::from_value(smallest()["spec"].clone()).expect("it is a group's spec");
    assert_eq!(read, short, "defaults of the schema and of the types");
    let written = serde_json::to_value(&short).expect("it is JSON");
    assert_eq!(stored["spec"], written, "every field shows its default");
}
