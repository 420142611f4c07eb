//! From file and flags to a configuration that can be used.
//!
//! What is read is checked as a whole: [`load`] gives a valid [`AgentConfig`] or
//! says all that is wrong, each with the field's path. Relative paths in the file are relative to the folder
//! that the agent runs in.

mod parse;
mod watch;
mod wording;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use coppice_api::{AgentConfig, FieldProblem};

use crate::args::{Overrides, Source};
use crate::cluster::{Cluster, PodError};

pub use watch::ConfigWatch;

/// The longest file that is read.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is longer than any configuration.
    #[error("the configuration has {bytes} bytes: at most {MAX_FILE_BYTES} are read")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// What Kubernetes tells a pod of itself is missing.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// An edit would end the serving of all groups: more likely a file that is
    /// empty, or lost its end, than what anyone wants.
    #[error(
        "groups: the file lists no group, and a running agent does not drop all: leave one, or \
         stop the agent to serve none"
    )]
    NoGroupLeft,
    /// Fields that cannot be used, by shape or by value; one without a path is the
    /// text as a whole.
    #[error("{}", listed(.0))]
    Fields(Vec<FieldProblem>),
    /// The same, of a file.
    #[error("{}{}", path.display(), under(.problems))]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problems: Vec<FieldProblem>,
    },
}

/// Where a configuration comes from, so that it can be read again.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// The file, or the groups that stand for it.
    pub source: Source,
    /// Single fields, whatever the file says.
    pub overrides: Overrides,
}

/// Reads and checks a configuration.
///
/// # Errors
///
/// [`ConfigError`], whose text is for the person who wrote the file.
pub fn load(from: &ConfigSource) -> Result<AgentConfig, ConfigError> {
    if let Some(place) = from.source.in_cluster() {
        return Ok(Cluster::open(place, from.overrides.clone())?.config());
    }
    let Some(path) = &from.source.config else {
        let groups = from.source.group.clone();
        let mut config = AgentConfig { groups, ..AgentConfig::default() };
        config.data_dir = Path::new("./data").join(replica_name(&from.overrides));
        return finish(config, &from.overrides);
    };
    let read = std::fs::read(path);
    let text = read.map_err(|source| ConfigError::Read { path: path.clone(), source })?;
    resolve(&text, &from.overrides).map_err(|error| match error {
        ConfigError::Fields(problems) => ConfigError::File { path: path.clone(), problems },
        error => error,
    })
}

/// Parses, overrides and checks the text of a file.
///
/// # Errors
///
/// As [`load`], but for reading.
pub fn resolve(text: &[u8], overrides: &Overrides) -> Result<AgentConfig, ConfigError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(ConfigError::TooLong { bytes: text.len() });
    }
    let judged = parse::parse(text).judged(|config| complete(config, overrides));
    judged.map_err(ConfigError::Fields)
}

/// The fields of a file as they stand there, whatever flags say.
fn written(text: &[u8]) -> Option<AgentConfig> {
    parse::parse(text).fields()
}

fn finish(mut config: AgentConfig, overrides: &Overrides) -> Result<AgentConfig, ConfigError> {
    complete(&mut config, overrides);
    let problems = config.problems();
    if problems.is_empty() { Ok(config) } else { Err(ConfigError::Fields(problems)) }
}

fn complete(config: &mut AgentConfig, overrides: &Overrides) {
    overrides.apply(config);
    if config.replica.name.is_none() {
        config.replica.name = Some(replica_name(overrides));
    }
}

/// The name given by flag or variable, else the host's.
fn replica_name(overrides: &Overrides) -> String {
    let given = overrides.replica_name.clone();
    given.unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned())
}

/// A single problem on the line of its file, several below it.
fn under(problems: &[FieldProblem]) -> String {
    match problems {
        [problem] => format!(": {problem}"),
        problems => format!(" has {} mistakes:\n{}", problems.len(), listed(problems)),
    }
}

fn listed(problems: &[FieldProblem]) -> String {
    let mut text = String::new();
    for (index, problem) in problems.iter().enumerate() {
        let line_break = if index > 0 { "\n" } else { "" };
        let _ = write!(text, "{line_break}{problem}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "
replica: {name: a}
dataDir: ./data/a
listen: {app: 127.0.0.1:4437, peers: 127.0.0.1:4438, operations: 127.0.0.1:4439}
discovery: {static: {peers: [127.0.0.1:5438, 127.0.0.1:6438]}}
tls: null
insecurePeers: false
groups:
  - name: page-views
    crdt: {type: PNCounter}
    sync: {interval: 5s, eager: true}
    snapshot: {interval: 60s, retain: 3, onShutdown: true}
    storage: {durability: Interval, fsyncInterval: 100ms}
    limits: {objects: 1000000, valueBytes: 1Mi, elements: 10000000, logBytes: 64Mi, logAge: 1h}
";

    fn refused(text: &str) -> String {
        resolve(text.as_bytes(), &Overrides::default()).unwrap_err().to_string()
    }

    #[test]
    fn the_reference_file_is_read_and_its_settings_are_the_defaults() {
        let config = resolve(FULL.as_bytes(), &Overrides::default()).unwrap();
        let short = "
replica: {name: a}
dataDir: ./data/a
discovery: {static: {peers: [127.0.0.1:5438, 127.0.0.1:6438]}}
groups: [{name: page-views, crdt: {type: PNCounter}}]
";
        assert_eq!(resolve(short.as_bytes(), &Overrides::default()).unwrap(), config);
    }

    #[test]
    fn an_empty_file_serves_no_group_under_the_hosts_name() {
        let config = resolve(b"\n", &Overrides::default()).unwrap();
        assert!(config.groups.is_empty());
        assert!(config.replica.name.is_some_and(|name| !name.is_empty()));
    }

    #[test]
    fn mistakes_in_shape_name_the_field_and_the_mend() {
        let group = |rest: &str| format!("groups: [{{name: a, crdt: {{type: GSet}}, {rest}}}]");
        for (text, expected) in [
            (
                "groups: [{name: a, crdt: {type: Counter}}]".to_owned(),
                "groups[0].crdt.type: unknown CRDT type \"Counter\": expected one of GCounter, PNCounter",
            ),
            ("group: []".into(), "group: unknown field `group`, expected one of `replica`"),
            ("groups: [{name: a}]".into(), "groups[0]: missing field `crdt`"),
            ("groups: [{crdt: {type: GSet}}]".into(), "groups[0]: missing field `name`"),
            (
                "groups: {a: b}".into(),
                "groups: expected a list, and this is fields (name: value) at line 1",
            ),
            (group("sync: {interval: 5}"), "groups[0].sync.interval: \"5\" is no duration: write"),
            (
                group("sync: {interval: 5 seconds}"),
                "groups[0].sync.interval: \"5 seconds\" is no duration: write",
            ),
            (
                group("sync: {eager: maybe}"),
                "groups[0].sync.eager: expected true or false, and this is \"maybe\" at line 1",
            ),
            (
                group("storage: {durability: Sometimes}"),
                "groups[0].storage.durability: unknown value `Sometimes`, expected one of `Always`, `Interval`, `None`",
            ),
            (
                group("limits: {objects: -1}"),
                "groups[0].limits.objects: expected a whole number from 0 on, and this is -1 at",
            ),
            (
                group("limits: {valueBytes: 1MB}"),
                "groups[0].limits.valueBytes: \"1MB\" is no size: write",
            ),
            (
                group("limits: {logbytes: 1Mi}"),
                "groups[0].limits.logbytes: unknown field `logbytes`, expected one of",
            ),
            (
                group("id: abc"),
                "groups[0].id: is not a UUID such as 6ba7b810-9dad-11d1-80b4-00c04fd430c8 at line 1",
            ),
            (
                "listen: {app: 4437}".into(),
                "listen.app: \"4437\" is no address: write an IP address and a port, as in 127.0.0.1:4437",
            ),
            (
                "listen: {app: localhost:4437}".into(),
                "listen.app: \"localhost:4437\" is no address: write an IP address and a port",
            ),
            (
                "discovery: {static: {peers: [nowhere]}}".into(),
                "discovery.static.peers[0]: \"nowhere\" is no peer's address: write host:port",
            ),
            (
                "discovery: {dns: {name: x}}".into(),
                "discovery.dns: unknown field `dns`, expected `static`",
            ),
            ("tls: {ca: a.pem}".into(), "tls: missing field `certificate`"),
            (
                "log: {level: loud}".into(),
                "log.level: unknown value `loud`, expected one of `error`",
            ),
            ("dataDir: \"a".into(), "unexpected end of stream"),
            ("just text".into(), "expected fields (name: value), and this is \"just text\""),
        ] {
            let error = refused(&text);
            assert!(error.contains(expected), "{text}\n  expected {expected}\n  found    {error}");
        }
    }

    #[test]
    fn what_is_twice_in_the_text_or_not_seen_in_it_is_told_by_line() {
        for (text, expected) in [
            (
                "dataDir: a\nlog: {}\ndataDir : b",
                "`dataDir` is there more than once, on lines 1 and 3",
            ),
            ("replica: {}\ndiscovery:\n  static: {}\n  static: {}", "duplicate field `static`"),
            ("groups:\n\t- name: a", "line 2 is indented with a tab, and YAML allows spaces"),
            (
                "groups:\n  - name: a\n\t  crdt: {type: GSet}",
                "line 3 is indented with a tab, and YAML allows spaces",
            ),
        ] {
            let error = refused(text);
            assert!(error.contains(expected), "{text}\n  expected {expected}\n  found    {error}");
        }
    }

    #[test]
    fn mistakes_in_shape_are_told_in_the_words_of_yaml() {
        let group = |rest: &str| format!("groups: [{{name: a, crdt: {{type: GSet}}, {rest}}}]");
        for (text, expected) in [
            ("[]".to_owned(), "expected fields (name: value), and this is a list"),
            (
                "replica: a, expected b".into(),
                "replica: expected fields (name: value), and this is \"a, expected b\"",
            ),
            ("replica: {name: a".into(), "replica: did not find expected"),
            ("groups: [a]".into(), "groups[0]: expected fields (name: value), and this is \"a\""),
            (
                "discovery: {static: {peers: 5}}".into(),
                "discovery.static.peers: expected a list, and this is 5 at",
            ),
            (
                group("limits: {objects: 99999999999999999999999}"),
                "expected a whole number from 0 on, and this is 99999999999999999999999 at",
            ),
            (
                group("limits: {elements: 1.5}"),
                "expected a whole number from 0 on, and this is 1.5 at",
            ),
            ("dataDir: [a]".into(), "dataDir: expected a path, and this is a list"),
        ] {
            let error = refused(&text);
            assert!(error.contains(expected), "{text}\n  expected {expected}\n  found    {error}");
        }
    }

    #[test]
    fn all_wrong_values_are_named_at_once() {
        let error = refused("listen: {app: 0.0.0.0:4437}\ngroups: [{name: A, crdt: {type: GSet}}]");
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 2, "{error}");
        assert!(lines[0].starts_with("listen.app: 0.0.0.0:4437 is not loopback"), "{error}");
        assert!(lines[1].starts_with("groups[0].name: \"A\" is no group's name"), "{error}");
    }

    #[test]
    fn mistakes_of_shape_do_not_hide_one_another_or_wrong_values() {
        let error = refused(
            "listen: {app: 4437, peers: 127.0.0.1:4437}
sync: {interval: 1s}
groups:
  - {name: a, crdt: {type: Counter}}
  - {name: B, crdt: {type: GSet}}
  - {name: c}
  - {name: D, crdt: {type: GSet}, limits: {objects: 0, logBytes: 1MB}, sync: {interval: 5}}
discovery: {static: {peers: [nowhere, far:1, none]}}
",
        );
        let lines: Vec<&str> = error.lines().collect();
        let expected = [
            "listen.app: \"4437\" is no address",
            "sync: unknown field `sync`",
            "groups[0].crdt.type: unknown CRDT type \"Counter\"",
            "groups[2]: missing field `crdt`",
            "groups[3].limits.logBytes: \"1MB\" is no size",
            "groups[3].sync.interval: \"5\" is no duration",
            "discovery.static.peers[0]: \"nowhere\" is no peer's address",
            "discovery.static.peers[2]: \"none\" is no peer's address",
            "groups[1].name: \"B\" is no group's name",
            "groups[3].name: \"D\" is no group's name",
            "groups[3].limits.objects: 0 is out of bounds",
        ];
        for expected in expected {
            let found = lines.iter().filter(|line| line.starts_with(expected)).count();
            assert_eq!(found, 1, "{expected} in:\n{error}");
        }
        // Not that far:1 is not loopback: `sync` may have been meant as anything.
        assert_eq!(lines.len(), expected.len(), "{error}");
    }

    #[test]
    fn the_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.yaml");
        let source = Source { config: Some(path.clone()), ..Source::default() };
        let from = ConfigSource { source, ..ConfigSource::default() };
        let said = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(&from).unwrap_err().to_string()
        };
        let one = said("listen: {app: 0.0.0.0:4437}");
        assert!(one.starts_with(&format!("{}: listen.app: 0.0.0.0", path.display())), "{one}");
        let two = said("listen: {app: 0.0.0.0:4437}\ngroups: [{name: A, crdt: {type: GSet}}]");
        let head = format!("{} has 2 mistakes:\nlisten.app: ", path.display());
        assert!(two.starts_with(&head), "{two}");
    }

    #[test]
    fn a_long_file_is_not_parsed() {
        let error = refused(&" ".repeat(MAX_FILE_BYTES + 1));
        assert!(error.contains("at most 1048576 are read"), "{error}");
    }

    #[test]
    fn groups_from_flags_keep_their_data_under_the_replicas_name() {
        let overrides = Overrides { replica_name: Some("b".into()), ..Overrides::default() };
        let group = coppice_api::Group::new("views", coppice_crdt::CrdtType::PNCounter);
        let source = Source { group: vec![group], ..Source::default() };
        let config = load(&ConfigSource { source, overrides }).unwrap();
        assert_eq!(config.data_dir, Path::new("./data/b"));
        assert_eq!(config.groups.len(), 1);
    }
}
