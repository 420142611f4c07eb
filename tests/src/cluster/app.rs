//! Apps that opted in: workloads whose pods run `coppice-test-app`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Cluster, Failure, Kubectl, KubectlError, Namespace};

/// A workload of a test.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name, and the value of its pods' label `app`.
    pub name: String,
    /// `Deployment`, `StatefulSet`, `Job` and so on.
    pub kind: &'static str,
    /// How many pods; absent for a `Job`.
    pub replicas: Option<u32>,
    /// What the app does.
    pub arguments: Vec<String>,
    /// Labels of the pods beside `app`.
    pub labels: Value,
    /// Fields of the pods' spec, beside the containers.
    pub pod: Value,
    /// Fields of the workload's spec beside selector and template.
    pub fields: Value,
    /// Fields of the app's container beside name, image and arguments.
    pub container: Value,
}

impl Workload {
    /// A `Deployment` of opted-in pods that do nothing.
    #[must_use]
    pub fn deployment(name: &str, replicas: u32) -> Self {
        Self {
            name: name.to_owned(),
            kind: "Deployment",
            replicas: Some(replicas),
            arguments: vec!["idle".to_owned()],
            labels: json!({"coppice.dev/inject": "true"}),
            pod: json!({"terminationGracePeriodSeconds": 10}),
            fields: json!({}),
            container: json!({}),
        }
    }

    /// Its pods do this.
    #[must_use]
    pub fn doing(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self
    }

    /// The object.
    #[must_use]
    pub fn manifest(&self, cluster: &Cluster) -> Value {
        let mut container = json!({
            "name": "app", "image": cluster.images.app, "imagePullPolicy": "IfNotPresent",
            "args": self.arguments,
        });
        merge(&mut container, &self.container);
        let mut labels = json!({"app": self.name});
        merge(&mut labels, &self.labels);
        let mut pod = json!({"containers": [container]});
        merge(&mut pod, &self.pod);
        let mut spec = json!({"template": {"metadata": {"labels": labels}, "spec": pod}});
        if self.kind != "Job" {
            spec["selector"] = json!({"matchLabels": {"app": self.name}});
        }
        if let Some(replicas) = self.replicas {
            spec["replicas"] = json!(replicas);
        }
        merge(&mut spec, &self.fields);
        let version = if self.kind == "Job" { "batch/v1" } else { "apps/v1" };
        json!({"apiVersion": version, "kind": self.kind, "metadata": {"name": self.name}, "spec": spec})
    }

    /// Creates it, or changes it to be so.
    ///
    /// # Errors
    ///
    /// If the cluster refuses it.
    pub fn apply(&self, cluster: &Cluster, to: &Namespace) -> Result<(), KubectlError> {
        to.kubectl.apply(&self.manifest(cluster)).map(|_| ())
    }

    /// Its pods that are not being deleted.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn pods(&self, kubectl: &Kubectl) -> Result<Vec<Value>, KubectlError> {
        let mut pods = kubectl.list("pods", &format!("app={}", self.name))?;
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(pods)
    }

    /// The names of its `count` pods, all running with a started agent.
    ///
    /// # Errors
    ///
    /// What is not so yet.
    pub fn running(&self, kubectl: &Kubectl, count: usize) -> Result<Vec<String>, Failure> {
        let pods = self.pods(kubectl)?;
        if pods.len() != count {
            return Err(Failure(format!("{} pods of {}, not {count}", pods.len(), self.name)));
        }
        let mut names = Vec::new();
        for pod in &pods {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let has_started = |kind: &str, container: &str| {
                let states = pod["status"][kind].as_array().into_iter().flatten();
                states.clone().any(|state| state["name"] == container && state["started"] == true)
            };
            if !has_started("initContainerStatuses", "coppice-agent") {
                return Err(Failure(format!(
                    "the agent of {name} has not started: {}",
                    pod["status"]
                )));
            }
            if !has_started("containerStatuses", "app") {
                return Err(Failure(format!(
                    "the app of {name} has not started: {}",
                    pod["status"]
                )));
            }
            names.push(name);
        }
        Ok(names)
    }
}

/// What the app of a pod gets for a request: the status, and the body as JSON.
///
/// # Errors
///
/// If the command cannot be run there, or nothing answers.
pub fn request(
    kubectl: &Kubectl,
    pod: &str,
    (method, path): (&str, &str),
    body: Option<&Value>,
) -> Result<(u16, Value), Failure> {
    let text = body.map(ToString::to_string);
    let mut command = vec!["coppice-test-app", "request", method, path];
    command.extend(text.as_deref());
    let answer = kubectl.exec(pod, &command)?;
    let (status, body) = answer.trim_end().split_once(' ').unwrap_or((answer.trim_end(), ""));
    let status = status.parse().map_err(|error| format!("{answer:?}: {error}"))?;
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// All elements of a set, as the app of a pod reads it.
///
/// # Errors
///
/// If it cannot be read.
pub fn elements(
    kubectl: &Kubectl,
    pod: &str,
    group: &str,
    key: &str,
) -> Result<BTreeSet<String>, Failure> {
    let said = kubectl.exec(pod, &["coppice-test-app", "elements", group, key])?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// Sets the fields of `with` in `object`, over those of the same name.
fn merge(object: &mut Value, with: &Value) {
    if let (Some(object), Some(with)) = (object.as_object_mut(), with.as_object()) {
        object.extend(with.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}
