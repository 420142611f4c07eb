//! `kubectl`, as users call it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// No request of a test takes longer; an API server that is away is no reason to hang.
const TIMEOUT: &str = "--request-timeout=30s";

/// Calls of `kubectl`, in one namespace or in the cluster as a whole.
#[derive(Clone, Debug, Default)]
pub struct Kubectl {
    namespace: Option<String>,
    /// Whose rights are used: a user that is impersonated.
    user: Option<String>,
}

/// What `kubectl` says when it fails.
#[derive(Clone, Debug, thiserror::Error)]
#[error("kubectl {arguments}: {said}")]
pub struct KubectlError {
    arguments: String,
    /// Its words.
    pub said: String,
}

impl Kubectl {
    /// For the cluster as a whole.
    #[must_use]
    pub fn of_the_cluster() -> Self {
        Self::default()
    }

    /// For one namespace.
    #[must_use]
    pub fn within(namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), user: None }
    }

    /// The same, with the rights of a service account and no other.
    #[must_use]
    pub fn impersonating(&self, namespace: &str, account: &str) -> Self {
        let user = Some(format!("system:serviceaccount:{namespace}:{account}"));
        Self { user, ..self.clone() }
    }

    /// A command that is not yet started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        if let Some(namespace) = &self.namespace {
            command.args(["--namespace", namespace]);
        }
        if let Some(user) = &self.user {
            command.args(["--as", user]);
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs `kubectl`; what it printed.
    ///
    /// # Errors
    ///
    /// If it fails, with its words.
    pub fn run(&self, arguments: &[&str]) -> Result<String, KubectlError> {
        self.run_with(arguments, None)
    }

    /// The same; the output is JSON.
    ///
    /// # Errors
    ///
    /// If it fails, with its words.
    pub fn json(&self, arguments: &[&str]) -> Result<Value, KubectlError> {
        let mut all = arguments.to_vec();
        all.extend(["--output", "json"]);
        let text = self.run(&all)?;
        serde_json::from_str(&text).map_err(|error| failed(&all, &format!("{error}: {text}")))
    }

    /// One object.
    ///
    /// # Errors
    ///
    /// If it is not there, or cannot be read.
    pub fn get(&self, kind: &str, name: &str) -> Result<Value, KubectlError> {
        self.json(&["get", kind, name])
    }

    /// The objects with these labels.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn list(&self, kind: &str, labels: &str) -> Result<Vec<Value>, KubectlError> {
        let found = self.json(&["get", kind, "--selector", labels])?;
        Ok(found["items"].as_array().cloned().unwrap_or_default())
    }

    /// Makes or changes an object, as a user does.
    ///
    /// # Errors
    ///
    /// If it is refused.
    pub fn apply(&self, object: &Value) -> Result<String, KubectlError> {
        self.apply_text(&object.to_string())
    }

    /// The same, for text with any number of objects.
    ///
    /// # Errors
    ///
    /// If one is refused.
    pub fn apply_text(&self, text: &str) -> Result<String, KubectlError> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "--filename", "-", TIMEOUT];
        self.run_with(&arguments, Some(text))
    }

    /// Makes an object; as it was stored.
    ///
    /// # Errors
    ///
    /// If it is refused.
    pub fn create(&self, object: &Value) -> Result<Value, KubectlError> {
        let arguments = ["create", "--filename", "-", "--output", "json", TIMEOUT];
        let text = self.run_with(&arguments, Some(&object.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(&arguments, &format!("{error}: {text}")))
    }

    /// Changes some fields of an object.
    ///
    /// # Errors
    ///
    /// If it is refused.
    pub fn patch(&self, kind: &str, name: &str, patch: &Value) -> Result<String, KubectlError> {
        self.run(&["patch", kind, name, "--type", "merge", "--patch", &patch.to_string(), TIMEOUT])
    }

    /// Runs a command in the app's container of a pod.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<String, KubectlError> {
        let mut arguments = vec!["exec", pod, "--container", "app", "--"];
        arguments.extend(command);
        self.run(&arguments)
    }

    fn run_with(&self, arguments: &[&str], input: Option<&str>) -> Result<String, KubectlError> {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let io = |error: std::io::Error| failed(arguments, &error.to_string());
        let mut child = command.spawn().map_err(io)?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(input.as_bytes()).map_err(io)?;
        }
        let output = child.wait_with_output().map_err(io)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(arguments, &format!("{} {}", text.trim(), said.trim())))
    }
}

fn failed(arguments: &[&str], said: &str) -> KubectlError {
    KubectlError { arguments: arguments.join(" "), said: said.trim().to_owned() }
}
