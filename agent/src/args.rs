//! The command line and the environment.
//!
//! Flags win over `COPPICE_…` variables, those over the file, that over
//! defaults. What is wrong here ends the program with exit code 64 (`EX_USAGE`)
//! before anything is opened.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand};
use coppice_api::{AgentConfig, AppUrl, ByteSize, Group, LogFormat, LogLevel, PeerAddress};
use coppice_process::{NothingToRun, log_format, log_level};

/// Replicated CRDT state beside your app.
///
/// For a first try, without a file: coppice-agent --group page-views=PNCounter
#[derive(Clone, Debug, Parser)]
#[command(name = "coppice-agent", version, args_conflicts_with_subcommands = false)]
pub struct Args {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub source: Source,
    /// Single fields of the configuration.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, ClapArgs)]
#[group(multiple = true)]
pub struct Source {
    /// The configuration file (YAML); watched for changes.
    #[arg(long, global = true, value_name = "FILE", env = "COPPICE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Serve a group with default settings instead of reading a file. Repeatable.
    #[arg(long, value_name = "NAME=TYPE", value_parser = parse_group, conflicts_with = "config")]
    pub group: Vec<Group>,
    /// In a pod, beside the app: where the operator and Kubernetes tell of groups, labels
    /// and certificates. Takes the place of a file; followed live.
    #[arg(long, value_name = "FOLDER", env = "COPPICE_CLUSTER", conflicts_with_all = ["config", "group"])]
    pub cluster: Option<PathBuf>,
    /// Which pod it is.
    #[command(flatten)]
    pub pod: PodArgs,
}

/// What Kubernetes tells a pod of itself; only with `--cluster`.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct PodArgs {
    /// The pod's name.
    #[arg(long, value_name = "NAME", env = "COPPICE_POD_NAME", hide = true)]
    pub pod_name: Option<String>,
    /// Its namespace.
    #[arg(long, value_name = "NAME", env = "COPPICE_POD_NAMESPACE", hide = true)]
    pub pod_namespace: Option<String>,
    /// Its UID.
    #[arg(long, value_name = "UID", env = "COPPICE_POD_UID", hide = true)]
    pub pod_uid: Option<String>,
    /// Its addresses, comma-separated.
    #[arg(long, value_name = "IPS", env = "COPPICE_POD_IPS", hide = true)]
    pub pod_ips: Option<String>,
    /// Where key and certificate are kept.
    #[arg(long, value_name = "FOLDER", env = "COPPICE_IDENTITY_DIR", hide = true)]
    pub identity_dir: Option<PathBuf>,
}

/// Single fields of the configuration, whatever the file says.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct Overrides {
    /// This agent's name among its peers [default: the host name].
    #[arg(long, global = true, value_name = "NAME", env = "COPPICE_REPLICA_NAME")]
    pub replica_name: Option<String>,
    /// The folder that keeps the data.
    #[arg(long, global = true, value_name = "FOLDER", env = "COPPICE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Refuse local writes from so many bytes of the store on, as in 800Mi.
    #[arg(long, global = true, value_name = "SIZE", env = "COPPICE_DATA_LIMIT")]
    pub data_limit: Option<ByteSize>,
    /// Where the app's API listens (loopback only) [default: 127.0.0.1:4437].
    #[arg(long, global = true, value_name = "ADDRESS", env = "COPPICE_LISTEN_APP")]
    pub listen_app: Option<SocketAddr>,
    /// The URL by which the app knows its API: its host is served beside loopback.
    #[arg(long, global = true, value_name = "URL", env = "COPPICE_URL")]
    pub app_url: Option<AppUrl>,
    /// Where peers are accepted [default: 127.0.0.1:4438].
    #[arg(long, global = true, value_name = "ADDRESS", env = "COPPICE_LISTEN_PEERS")]
    pub listen_peers: Option<SocketAddr>,
    /// Where metrics and probes listen [default: 127.0.0.1:4439].
    #[arg(long, global = true, value_name = "ADDRESS", env = "COPPICE_LISTEN_OPERATIONS")]
    pub listen_operations: Option<SocketAddr>,
    /// The peers to dial, comma-separated or repeated.
    #[arg(
        long = "peer",
        global = true,
        value_name = "HOST:PORT",
        env = "COPPICE_PEERS",
        value_delimiter = ','
    )]
    pub peers: Option<Vec<PeerAddress>>,
    /// Allow peers beyond loopback without TLS.
    #[arg(long, global = true, env = "COPPICE_INSECURE_PEERS", value_parser = parse_switch)]
    pub insecure_peers: bool,
    /// The least severe level that is logged [default: info].
    #[arg(long, global = true, value_name = "LEVEL", env = "COPPICE_LOG_LEVEL",
          value_parser = log_level())]
    pub log_level: Option<LogLevel>,
    /// The shape of a log line [default: text].
    #[arg(long, global = true, value_name = "FORMAT", env = "COPPICE_LOG_FORMAT",
          value_parser = log_format())]
    pub log_format: Option<LogFormat>,
}

/// What to do instead of serving.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check a configuration file and say all that is wrong with it, with the flags and
    /// variables that an agent would be started with.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Look after snapshots in the data folder, which --data-dir or --config names.
    Snapshot {
        /// What to do with them.
        #[command(subcommand)]
        action: SnapshotAction,
    },
}

/// What to do with snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum SnapshotAction {
    /// List the snapshots in the data folder.
    List,
    /// Take one now, of all groups; a running agent is asked to.
    Take,
    /// Copy one out of the data folder.
    Export {
        /// Its name, as `list` shows it.
        name: String,
        /// The folder to write, which must not exist yet.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
    /// Read all of one and check every record.
    Verify {
        /// Its name, as `list` shows it, or the folder of an exported one.
        name: String,
    },
    /// Put one group back as a snapshot has it, into the folder of a stopped agent.
    /// For a group that no agent serves any more.
    Restore {
        /// Its name, as `list` shows it, or the folder of an exported one.
        name: String,
        /// The group: its name (with --config), NAME=TYPE, or its id.
        #[arg(id = "of_group", long = "group", value_name = "NAME")]
        group: String,
        /// Allow it for a group that holds objects in that folder: they are gone then.
        #[arg(long)]
        replace: bool,
    },
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
        let matches = Self::command().try_get_matches_from(command_line)?;
        let args = Self::from_arg_matches(&matches)?;
        let has_config = matches.value_source("config") == Some(ValueSource::CommandLine);
        let checks = matches!(args.command, Some(Command::CheckConfig { .. }));
        if checks && (has_config || !args.source.group.is_empty()) {
            let message = "check-config FILE checks that file: leave --config and --group out";
            return Err(Self::command().error(ErrorKind::ArgumentConflict, message).into());
        }
        let serves = args.command.is_none();
        let Source { config, group, cluster, .. } = &args.source;
        if serves && config.is_none() && group.is_empty() && cluster.is_none() {
            let message = "give --config FILE, or, for a first try, --group NAME=TYPE \
                           (such as --group page-views=PNCounter)";
            let kind = ErrorKind::MissingRequiredArgument;
            return Err(Self::command().error(kind, message).into());
        }
        Ok(args)
    }
}

// === impl Source ===

impl Source {
    /// The folder of a pod, and which pod it is, if the configuration comes from there.
    pub(crate) fn in_cluster(&self) -> Option<(&Path, &PodArgs)> {
        self.cluster.as_deref().map(|folder| (folder, &self.pod))
    }
}

// === impl Overrides ===

impl Overrides {
    /// Puts the given fields into `config`.
    pub fn apply(&self, config: &mut AgentConfig) {
        fn put<T: Clone>(field: &mut T, given: Option<&T>) {
            if let Some(given) = given {
                field.clone_from(given);
            }
        }
        put(&mut config.data_dir, self.data_dir.as_ref());
        put(&mut config.listen.app, self.listen_app.as_ref());
        put(&mut config.listen.peers, self.listen_peers.as_ref());
        put(&mut config.listen.operations, self.listen_operations.as_ref());
        put(&mut config.discovery.static_peers.peers, self.peers.as_ref());
        config.data_limit = self.data_limit.or(config.data_limit);
        if self.app_url.is_some() {
            config.app_url.clone_from(&self.app_url);
        }
        if self.replica_name.is_some() {
            config.replica.name.clone_from(&self.replica_name);
        }
        config.insecure_peers |= self.insecure_peers;
        put(&mut config.log.level, self.log_level.as_ref());
        put(&mut config.log.format, self.log_format.as_ref());
    }

    /// The fields that differ between two versions of the file and that a flag or
    /// variable gives anyhow, each with what gives it.
    pub(crate) fn hidden(
        &self,
        before: &AgentConfig,
        now: &AgentConfig,
    ) -> Vec<(&'static str, &'static str)> {
        let peers = |config: &AgentConfig| config.discovery.static_peers.peers.clone();
        let (one, other) = (&before.listen, &now.listen);
        let fields = [
            (
                "replica.name",
                "--replica-name (COPPICE_REPLICA_NAME)",
                self.replica_name.is_some() && before.replica.name != now.replica.name,
            ),
            (
                "dataDir",
                "--data-dir (COPPICE_DATA_DIR)",
                self.data_dir.is_some() && before.data_dir != now.data_dir,
            ),
            (
                "dataLimit",
                "--data-limit (COPPICE_DATA_LIMIT)",
                self.data_limit.is_some() && before.data_limit != now.data_limit,
            ),
            (
                "listen.app",
                "--listen-app (COPPICE_LISTEN_APP)",
                self.listen_app.is_some() && one.app != other.app,
            ),
            (
                "listen.peers",
                "--listen-peers (COPPICE_LISTEN_PEERS)",
                self.listen_peers.is_some() && one.peers != other.peers,
            ),
            (
                "listen.operations",
                "--listen-operations (COPPICE_LISTEN_OPERATIONS)",
                self.listen_operations.is_some() && one.operations != other.operations,
            ),
            (
                "appUrl",
                "--app-url (COPPICE_URL)",
                self.app_url.is_some() && before.app_url != now.app_url,
            ),
            (
                "discovery.static.peers",
                "--peer (COPPICE_PEERS)",
                self.peers.is_some() && peers(before) != peers(now),
            ),
            (
                "insecurePeers",
                "--insecure-peers (COPPICE_INSECURE_PEERS)",
                self.insecure_peers && before.insecure_peers != now.insecure_peers,
            ),
            (
                "log.level",
                "--log-level (COPPICE_LOG_LEVEL)",
                self.log_level.is_some() && before.log.level != now.log.level,
            ),
            (
                "log.format",
                "--log-format (COPPICE_LOG_FORMAT)",
                self.log_format.is_some() && before.log.format != now.log.format,
            ),
        ];
        let hidden =
            |(field, given_by, is_hidden): (_, _, bool)| is_hidden.then_some((field, given_by));
        fields.into_iter().filter_map(hidden).collect()
    }
}

/// What the variable of a flag without a value may hold.
fn parse_switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "set COPPICE_INSECURE_PEERS to true or to false".to_owned())
}

/// A group with default settings from `NAME=TYPE`.
pub(crate) fn parse_group(text: &str) -> Result<Group, String> {
    let Some((name, crdt_type)) = text.split_once('=') else {
        return Err("write NAME=TYPE, as in page-views=PNCounter".to_owned());
    };
    let crdt_type = crdt_type.parse().map_err(|error| format!("{error}"))?;
    Ok(Group::new(name, crdt_type))
}

#[cfg(test)]
mod tests {
    use coppice_process::EX_USAGE;

    use super::*;

    fn read(words: &str) -> Result<Args, NothingToRun> {
        Args::read(std::iter::once("coppice-agent").chain(words.split_whitespace()))
    }

    #[test]
    fn a_flag_given_as_a_variable_says_what_it_takes() {
        assert_eq!((parse_switch("true"), parse_switch("false")), (Ok(true), Ok(false)));
        for text in ["1", "yes", ""] {
            let error = parse_switch(text).unwrap_err();
            assert!(error.contains("COPPICE_INSECURE_PEERS to true or to false"), "{error}");
        }
        assert!(read("--group a=GSet --insecure-peers").unwrap().overrides.insecure_peers);
        assert!(!read("--group a=GSet").unwrap().overrides.insecure_peers);
    }

    #[test]
    fn clap_finds_no_contradiction_in_the_definitions() {
        Args::command().debug_assert();
    }

    #[test]
    fn groups_can_be_named_without_a_file() {
        let args = read("--group page-views=PNCounter --group carts=ORSet").unwrap();
        let groups: Vec<_> = args.source.group.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(groups, ["page-views", "carts"]);
    }

    #[test]
    fn single_fields_win_over_the_file() {
        let args = read(
            "--config a.yaml --replica-name b --data-dir /tmp/b --listen-app 127.0.0.1:1 \
             --app-url http://coppice.local:1 --peer 127.0.0.1:2,127.0.0.1:3 --log-level debug --log-format json",
        )
        .unwrap();
        let mut config = AgentConfig::default();
        args.overrides.apply(&mut config);
        assert_eq!(config.replica.name.as_deref(), Some("b"));
        assert_eq!(config.data_dir, PathBuf::from("/tmp/b"));
        assert_eq!(config.listen.app.port(), 1);
        assert_eq!(config.app_url.as_ref().map(AppUrl::host), Some("coppice.local"));
        assert_eq!(config.listen.peers.port(), 4438, "what is not given stays");
        assert_eq!(config.discovery.static_peers.peers.len(), 2);
        assert_eq!((config.log.level, config.log.format), (LogLevel::Debug, LogFormat::Json));
    }

    #[test]
    fn subcommands_take_the_fields_that_they_need() {
        let args = read("snapshot export 2026-01-01 --to /tmp/x --data-dir /tmp/d").unwrap();
        let action = SnapshotAction::Export { name: "2026-01-01".into(), to: "/tmp/x".into() };
        assert_eq!(args.command, Some(Command::Snapshot { action }));
        assert_eq!(args.overrides.data_dir, Some("/tmp/d".into()));

        let args = read("snapshot restore n --group a --config c.yaml").unwrap();
        let action =
            SnapshotAction::Restore { name: "n".into(), group: "a".into(), replace: false };
        assert_eq!(args.command, Some(Command::Snapshot { action }));
        assert_eq!(args.source.config, Some("c.yaml".into()));

        let checked = read("check-config a.yaml --listen-app 127.0.0.1:1").unwrap();
        assert_eq!(checked.command, Some(Command::CheckConfig { file: "a.yaml".into() }));
        assert_eq!(checked.overrides.listen_app.map(|address| address.port()), Some(1));
    }

    #[test]
    fn mistakes_say_what_to_write_and_exit_with_64() {
        for (words, expected) in [
            ("", "--group NAME=TYPE"),
            ("--config a.yaml --group a=GSet", "cannot be used with"),
            ("--group a", "write NAME=TYPE"),
            ("--group a=Counter", "unknown CRDT type \"Counter\": expected one of GCounter"),
            ("--group a=GSet --listen-app nowhere", "invalid socket address"),
            ("--group a=GSet --peer nowhere", "write host:port"),
            ("--group a=GSet --app-url nowhere", "write http://host:port"),
            ("--group a=GSet --log-level loud", "possible values: error, warn, info"),
            ("--group a=GSet --no-such-flag", "unexpected argument"),
            ("check-config a.yaml --config b.yaml", "leave --config and --group out"),
            ("--config b.yaml check-config a.yaml", "leave --config and --group out"),
            ("--group a=GSet check-config a.yaml", "leave --config and --group out"),
            ("snapshot burn", "unrecognized subcommand"),
        ] {
            let error = read(words).unwrap_err();
            assert_eq!(error.exit_code(), EX_USAGE, "{words}");
            assert!(error.to_string().contains(expected), "{words}: {error}");
        }
        assert_eq!(read("--help").unwrap_err().exit_code(), 0);
    }
}
