//! The operator under test: taken away, and given back however the test ends.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Failure, Kubectl, KubectlError, OPERATOR_NAMESPACE, until};

const DEPLOYMENT: &str = "coppice-operator";
const CONFIGURATION: &str = "mutatingwebhookconfiguration";
const INJECTOR: &str = "coppice-injector";

/// Puts the operator back as it was when dropped.
#[derive(Debug)]
pub struct OperatorAway {
    operator: Kubectl,
    replicas: Value,
    selector: Value,
}

impl OperatorAway {
    fn remembered() -> Result<Self, KubectlError> {
        let operator = Kubectl::within(OPERATOR_NAMESPACE);
        let replicas = operator.get("deployment", DEPLOYMENT)?["spec"]["replicas"].clone();
        let selector = operator.get("service", DEPLOYMENT)?["spec"]["selector"].clone();
        Ok(Self { operator, replicas, selector })
    }

    /// Without any pod.
    ///
    /// # Errors
    ///
    /// If the cluster refuses it, or its pods do not go.
    pub fn down() -> Result<Self, Failure> {
        let away = Self::remembered()?;
        away.operator.run(&["scale", "deployment", DEPLOYMENT, "--replicas=0"])?;
        until("the operator is down", Duration::from_mins(2), || {
            let pods = away.operator.list("pods", "app.kubernetes.io/name=coppice")?;
            if pods.is_empty() { Ok(()) } else { Err(Failure(format!("{} pods", pods.len()))) }
        })?;
        Ok(away)
    }

    /// Its pods run, and nothing that is sent to it is answered.
    ///
    /// # Errors
    ///
    /// If the cluster refuses it.
    pub fn hung(app_image: &str) -> Result<Self, Failure> {
        let away = Self::remembered()?;
        let labels = json!({"app": "coppice-hung"});
        away.operator.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "coppice-hung", "labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                "name": "app", "image": app_image, "imagePullPolicy": "IfNotPresent",
                "args": ["hang", "8443"],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                    "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                },
            }]},
        }))?;
        away.operator.run(&[
            "wait",
            "--for",
            "condition=Ready",
            "pod/coppice-hung",
            "--timeout=60s",
        ])?;
        away.select(&labels)?;
        // The API server keeps connections to a webhook: those to the pods before have
        // to end. Their successors run, and nobody is led to them.
        let delete = ["delete", "pod", "--selector", "app.kubernetes.io/name=coppice"];
        away.operator.run(&delete)?;
        let rollout = ["rollout", "status", "deployment", DEPLOYMENT, "--timeout=120s"];
        away.operator.run(&rollout)?;
        until("the service leads nowhere", Duration::from_secs(30), || {
            let slices = away
                .operator
                .list("endpointslices", "kubernetes.io/service-name=coppice-operator")?;
            let endpoints =
                slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
            let names: Vec<_> = endpoints.map(|it| it["targetRef"]["name"].to_string()).collect();
            let is_away = names == [r#""coppice-hung""#];
            if is_away { Ok(()) } else { Err(Failure(names.join(", "))) }
        })?;
        Ok(away)
    }

    fn select(&self, selector: &Value) -> Result<(), KubectlError> {
        let patch = json!([{"op": "replace", "path": "/spec/selector", "value": selector}]);
        let patch = patch.to_string();
        self.operator
            .run(&["patch", "service", DEPLOYMENT, "--type", "json", "--patch", &patch])?;
        Ok(())
    }

    /// Gives it back, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// If it does not come back.
    pub fn come_back(self) -> Result<(), Failure> {
        self.restore()?;
        let rollout = ["rollout", "status", "deployment", DEPLOYMENT, "--timeout=120s"];
        self.operator.run(&rollout)?;
        Ok(())
    }

    fn restore(&self) -> Result<(), KubectlError> {
        let replicas = format!("--replicas={}", self.replicas);
        self.operator.run(&["scale", "deployment", DEPLOYMENT, &replicas])?;
        self.select(&self.selector)?;
        let delete = ["delete", "pod", "coppice-hung", "--ignore-not-found", "--wait=false"];
        self.operator.run(&delete)?;
        Ok(())
    }
}

impl Drop for OperatorAway {
    fn drop(&mut self) {
        let _ = self.restore();
        let rollout = ["rollout", "status", "deployment", DEPLOYMENT, "--timeout=120s"];
        let _ = self.operator.run(&rollout);
    }
}

/// The authorities that the API server trusts for the webhook, of each entry.
///
/// # Errors
///
/// If they cannot be read.
pub fn ca_bundles(kubectl: &Kubectl) -> Result<Vec<String>, KubectlError> {
    let configuration = kubectl.get(CONFIGURATION, INJECTOR)?;
    let webhooks = configuration["webhooks"].as_array().cloned().unwrap_or_default();
    let bundle = |webhook: &Value| webhook["clientConfig"]["caBundle"].as_str().map(str::to_owned);
    Ok(webhooks.iter().filter_map(bundle).collect())
}

/// Puts another authority in the place of the webhook's.
///
/// # Errors
///
/// If the cluster refuses it.
pub fn break_ca_bundles(kubectl: &Kubectl, bundle: &str) -> Result<(), KubectlError> {
    let patch: Vec<_> = (0..ca_bundles(kubectl)?.len())
        .map(|index| {
            let path = format!("/webhooks/{index}/clientConfig/caBundle");
            json!({"op": "replace", "path": path, "value": bundle})
        })
        .collect();
    let patch = Value::from(patch).to_string();
    kubectl.run(&["patch", CONFIGURATION, INJECTOR, "--type", "json", "--patch", &patch])?;
    Ok(())
}
