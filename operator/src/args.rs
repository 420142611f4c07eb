//! The command line and the environment.
//!
//! Flags win over `COPPICE_…` variables. What is wrong here ends the program with exit
//! code 64 (`EX_USAGE`) before anything is opened. The chart gives all of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;

use clap::builder::PossibleValuesParser;
use clap::{Args as ClapArgs, Parser};
use coppice_api::{LogFormat, LogLevel};
use coppice_process::{NothingToRun, log_format, log_level};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::certificates::RotationArgs;

/// Gives the pods of a `ReplicationGroup` their agents, and keeps them in order.
#[derive(Clone, Debug, Parser)]
#[command(name = "coppice-operator", version)]
pub struct Args {
    /// Where this operator runs, and what it answers for.
    #[command(flatten)]
    pub place: Place,
    /// What agents run as, where a group does not say.
    #[command(flatten)]
    pub agent: AgentDefaults,
    /// Where it listens.
    #[command(flatten)]
    pub listen: Listen,
    /// What it logs.
    #[command(flatten)]
    pub log: Log,
    /// How quickly authorities are replaced.
    #[command(flatten)]
    pub rotation: RotationArgs,
    /// Ask workloads whose pods the policy denied to try again at once.
    #[arg(long, env = "COPPICE_RETRY_DENIED", default_value_t = true,
          action = clap::ArgAction::Set, value_name = "BOOL")]
    pub retry_denied: bool,
}

/// Where this operator runs, and what it answers for.
#[derive(Clone, Debug, ClapArgs)]
pub struct Place {
    /// The operator's own namespace: lease, authorities and `Service` are there.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: String,
    /// This replica's name among the operator's replicas.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: String,
    /// The `Service` in front of the operator's HTTPS port.
    #[arg(long, env = "COPPICE_SERVICE", value_name = "NAME", default_value = "coppice-operator")]
    pub service: String,
    /// The `MutatingWebhookConfiguration` whose caBundle is written.
    #[arg(
        long,
        env = "COPPICE_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        default_value = "coppice-injector"
    )]
    pub webhook_configuration: String,
    /// The namespaces to look after, comma-separated or repeated [default: all].
    #[arg(
        long,
        env = "COPPICE_WATCH_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ',',
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub watch_namespaces: Vec<String>,
}

/// What agents run as, where a group does not say.
#[derive(Clone, Debug, ClapArgs)]
pub struct AgentDefaults {
    /// The image of the sidecar.
    #[arg(
        id = "agent_image",
        long = "agent-image",
        env = "COPPICE_AGENT_IMAGE",
        value_name = "IMAGE"
    )]
    pub image: String,
    /// When it is pulled [default: as Kubernetes decides by the image's tag].
    #[arg(long = "agent-image-pull-policy", env = "COPPICE_AGENT_IMAGE_PULL_POLICY", value_name = "POLICY",
          value_parser = PossibleValuesParser::new(["Always", "IfNotPresent", "Never"]))]
    pub image_pull_policy: Option<String>,
    /// A `Secret` of the pod's namespace to pull it with. Repeatable.
    #[arg(
        long = "agent-pull-secret",
        env = "COPPICE_AGENT_PULL_SECRETS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub pull_secrets: Vec<String>,
    /// CPU that is set aside for an agent.
    #[arg(
        long = "agent-cpu-request",
        env = "COPPICE_AGENT_CPU_REQUEST",
        value_name = "QUANTITY",
        default_value = "25m"
    )]
    pub cpu_request: String,
    /// Memory that is set aside for an agent.
    #[arg(
        long = "agent-memory-request",
        env = "COPPICE_AGENT_MEMORY_REQUEST",
        value_name = "QUANTITY",
        default_value = "64Mi"
    )]
    pub memory_request: String,
    /// CPU that an agent may use.
    #[arg(
        long = "agent-cpu-limit",
        env = "COPPICE_AGENT_CPU_LIMIT",
        value_name = "QUANTITY",
        default_value = "1"
    )]
    pub cpu_limit: String,
    /// Memory that an agent may use.
    #[arg(
        long = "agent-memory-limit",
        env = "COPPICE_AGENT_MEMORY_LIMIT",
        value_name = "QUANTITY",
        default_value = "256Mi"
    )]
    pub memory_limit: String,
}

/// Where the operator listens.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct Listen {
    /// The webhook and the signing of certificates (HTTPS).
    #[arg(long, env = "COPPICE_LISTEN_HTTPS", value_name = "ADDRESS", default_value = "[::]:8443")]
    pub listen_https: SocketAddr,
    /// Metrics and probes (HTTP).
    #[arg(
        long,
        env = "COPPICE_LISTEN_OPERATIONS",
        value_name = "ADDRESS",
        default_value = "[::]:8080"
    )]
    pub listen_operations: SocketAddr,
}

/// What the operator logs.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct Log {
    /// The least severe level that is logged.
    #[arg(long, env = "COPPICE_LOG_LEVEL", value_name = "LEVEL", default_value = "info",
          value_parser = log_level())]
    pub log_level: LogLevel,
    /// The shape of a log line.
    #[arg(long, env = "COPPICE_LOG_FORMAT", value_name = "FORMAT", default_value = "text",
          value_parser = log_format())]
    pub log_format: LogFormat,
}

// === impl Args ===

impl Args {
    /// Reads a command line (its first item is the program) and the environment.
    ///
    /// # Errors
    ///
    /// [`NothingToRun`]: the caller tells it and ends with its exit code.
    pub fn read(
        command_line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, NothingToRun> {
        Ok(Self::try_parse_from(command_line)?)
    }
}

// === impl Place ===

impl Place {
    /// The name in the certificate of the HTTPS port, by which agents and the API server
    /// verify it.
    #[must_use]
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// The namespaces that are looked after; empty: all.
    #[must_use]
    pub fn watched(&self) -> BTreeSet<String> {
        self.watch_namespaces.iter().cloned().collect()
    }
}

// === impl AgentDefaults ===

impl AgentDefaults {
    /// The resources of an agent whose groups ask for none.
    #[must_use]
    pub fn resources(&self) -> ResourceRequirements {
        let of = |cpu: &str, memory: &str| {
            Some(
                [("cpu", cpu), ("memory", memory)]
                    .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
                    .into(),
            )
        };
        ResourceRequirements {
            requests: of(&self.cpu_request, &self.memory_request),
            limits: of(&self.cpu_limit, &self.memory_limit),
            claims: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use coppice_process::EX_USAGE;

    use super::*;

    const LEAST: [&str; 7] = [
        "coppice-operator",
        "--namespace",
        "coppice-system",
        "--pod-name",
        "coppice-operator-0",
        "--agent-image",
        "coppice-agent:1",
    ];

    fn read(more: &[&str]) -> Result<Args, NothingToRun> {
        Args::read(LEAST.iter().chain(more))
    }

    #[test]
    fn defaults_are_those_of_the_chart() {
        let args = read(&[]).unwrap();
        assert_eq!(args.place.server_name(), "coppice-operator.coppice-system.svc");
        assert!(args.place.watched().is_empty(), "all namespaces");
        assert!(args.retry_denied);
        let resources = args.agent.resources();
        assert_eq!(resources.requests.unwrap()["memory"], Quantity("64Mi".to_owned()));
        assert_eq!(resources.limits.unwrap()["cpu"], Quantity("1".to_owned()));
    }

    #[test]
    fn lists_are_repeated_or_separated() {
        let args = read(&["--watch-namespaces", "a,b", "--watch-namespaces", "c"]).unwrap();
        assert_eq!(args.place.watched().into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(!read(&["--retry-denied", "false"]).unwrap().retry_denied);
    }

    #[test]
    fn mistakes_end_with_the_code_for_usage() {
        for wrong in [
            vec!["--log-level", "loud"],
            vec!["--agent-image-pull-policy", "Sometimes"],
            vec!["--watch-namespaces", ""],
            vec!["--listen-https", "8443"],
        ] {
            assert_eq!(read(&wrong).unwrap_err().exit_code(), EX_USAGE, "{wrong:?}");
        }
        assert_eq!(read(&["--help"]).unwrap_err().exit_code(), 0);
    }
}
