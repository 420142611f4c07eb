//! What is wrong with a configuration's values, field by field.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use super::{AgentConfig, Group, bounds};
use crate::{ByteSize, TextDuration};

/// Most groups one agent serves: each has its own replica and metrics.
const MAX_GROUPS: usize = 1_000;
/// Most peers in a list: above some tens, links are bounded anyhow.
const MAX_PEERS: usize = 1_000;

/// One wrong value: where it stands, what is wrong, what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// As in `groups[0].sync.interval`; empty for the whole.
    pub path: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl AgentConfig {
    /// All that is wrong with the values; empty: the configuration can be used.
    #[must_use]
    pub fn problems(&self) -> Vec<FieldProblem> {
        let mut found = Findings::default();
        self.check_agent(&mut found);
        self.check_peers(&mut found);
        let mut first_of: BTreeMap<&str, usize> = BTreeMap::new();
        let mut first_with: BTreeMap<_, (usize, &str)> = BTreeMap::new();
        for (index, group) in self.groups.iter().enumerate() {
            found.at = format!("groups[{index}].");
            check_group(group, &mut found);
            match first_of.get(group.name.as_str()) {
                Some(first) => found.add("name", format!(
                    "{:?} is the name of groups[{first}] too: each group needs a name of its own",
                    group.name
                )),
                None => _ = first_of.insert(&group.name, index),
            }
            match first_with.get(&group.effective_id()) {
                Some((first, name)) if *name != group.name => {
                    found.add("id", format!(
                        "{} is the id of groups[{first}] too, and an id is one group's: leave it out, or use \
                         another random UUID",
                        group.effective_id()
                    ));
                }
                Some(_) => {}
                None => _ = first_with.insert(group.effective_id(), (index, &group.name)),
            }
        }
        found.problems
    }

    fn check_agent(&self, found: &mut Findings) {
        if let Some(name) = &self.replica.name {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) {
                found.add("replica.name", format!(
                    "{name:?} is no replica's name: use 1 to 63 letters, digits, dots, hyphens or underscores"
                ));
            }
        }
        if self.data_dir.as_os_str().is_empty() {
            found.add("dataDir", "is empty: name the folder that keeps the data".to_owned());
        }
        if let Some(limit) = self.data_limit {
            let most = ByteSize::mebibytes(1 << 30);
            found.range("dataLimit", limit, (ByteSize::mebibytes(1), most));
        }
        if !self.listen.app.ip().is_loopback() {
            found.add("listen.app", format!(
                "{} is not loopback: the app's API has no access control, use 127.0.0.1:{} or [::1]:{}",
                self.listen.app, self.listen.app.port(), self.listen.app.port()
            ));
        }
        self.check_ports_differ(found);
        let hour = TextDuration::from_secs(3600);
        found.range("startupWait", self.startup_wait, (TextDuration::default(), hour));
        if self.groups.len() > MAX_GROUPS {
            found.add("groups", format!(
                "{} groups are more than the {MAX_GROUPS} that one agent serves: use keys instead of groups",
                self.groups.len()
            ));
        }
        if let Some(tls) = &self.tls {
            for (field, file) in
                [("ca", &tls.ca), ("certificate", &tls.certificate), ("key", &tls.key)]
            {
                if file.as_os_str().is_empty() {
                    found.add(&format!("tls.{field}"), "is empty: name a PEM file".to_owned());
                }
            }
        }
    }

    fn check_ports_differ(&self, found: &mut Findings) {
        let listen = &self.listen;
        let pairs = [
            ("listen.peers", listen.peers, "listen.app", listen.app),
            ("listen.operations", listen.operations, "listen.app", listen.app),
            ("listen.operations", listen.operations, "listen.peers", listen.peers),
        ];
        for (field, address, other, taken) in pairs {
            if overlap(address, taken) {
                found.add(field, format!("{address} is taken by {other}: use another port"));
            }
        }
    }

    fn check_peers(&self, found: &mut Findings) {
        let peers = &self.discovery.static_peers.peers;
        if peers.len() > MAX_PEERS {
            found.add(
                "discovery.static.peers",
                format!(
                    "{} peers are more than the {MAX_PEERS} that one agent can have",
                    peers.len()
                ),
            );
        }
        if self.tls.is_some() || self.insecure_peers {
            return;
        }
        let mend = "set `tls`, use a loopback address, or, where the network keeps others out, set \
                    `insecurePeers: true`";
        if !self.listen.peers.ip().is_loopback() {
            found.add(
                "listen.peers",
                format!(
                    "{} is not loopback and there is no TLS, so anyone could join: {mend}",
                    self.listen.peers
                ),
            );
        }
        for (index, peer) in peers.iter().enumerate().filter(|(_, peer)| !peer.is_loopback()) {
            found.add(&format!("discovery.static.peers[{index}]"), format!(
                "{peer} is not loopback and there is no TLS, so the data would travel in the open: {mend}"
            ));
        }
    }
}

/// Whether two listeners would want the same port of the same address.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_ip
}

impl Group {
    /// All that is wrong with the values; empty: the group can be served.
    #[must_use]
    pub fn problems(&self) -> Vec<FieldProblem> {
        let mut found = Findings::default();
        check_group(self, &mut found);
        found.problems
    }
}

fn check_group(group: &Group, found: &mut Findings) {
    if !Group::is_name(&group.name) {
        found.add("name", format!(
            "{:?} is no group's name: use 1 to 40 lower-case letters, digits and hyphens, a letter first, \
             no hyphen last",
            group.name
        ));
    }
    if group.id.is_some_and(|id| id.is_nil()) {
        found.add("id", "is all zeroes: use a random UUID, or leave it out".to_owned());
    }
    found.range("sync.interval", group.sync.interval, bounds::SYNC_INTERVAL);
    found.range("snapshot.interval", group.snapshot.interval, bounds::SNAPSHOT_INTERVAL);
    found.range("snapshot.retain", u64::from(group.snapshot.retain), bounds::SNAPSHOT_RETAIN);
    found.range("storage.fsyncInterval", group.storage.fsync_interval, bounds::FSYNC_INTERVAL);
    let limits = &group.limits;
    found.range("limits.objects", limits.objects, bounds::ENTRIES);
    found.range("limits.elements", limits.elements, bounds::ENTRIES);
    found.range("limits.valueBytes", limits.value_bytes, bounds::VALUE_BYTES);
    found.range("limits.logBytes", limits.log_bytes, bounds::LOG_BYTES);
    found.range("limits.logAge", limits.log_age, bounds::LOG_AGE);
}

/// Collects problems below one path.
#[derive(Default)]
struct Findings {
    at: String,
    problems: Vec<FieldProblem>,
}

impl Findings {
    fn add(&mut self, field: &str, message: String) {
        self.problems.push(FieldProblem { path: format!("{}{field}", self.at), message });
    }

    fn range<T: Copy + PartialOrd + fmt::Display>(
        &mut self,
        field: &str,
        value: T,
        (least, most): (T, T),
    ) {
        if value < least || value > most {
            self.add(field, format!("{value} is out of bounds: use {least} to {most}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coppice_crdt::CrdtType;

    fn problems(change: impl FnOnce(&mut AgentConfig)) -> Vec<String> {
        let mut config = AgentConfig {
            groups: vec![Group::new("views", CrdtType::PNCounter)],
            ..AgentConfig::default()
        };
        change(&mut config);
        config.problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(problems(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn peers_beyond_loopback_need_tls_or_consent() {
        let open = |config: &mut AgentConfig| {
            config.listen.peers = "0.0.0.0:4438".parse().unwrap();
            config.discovery.static_peers.peers =
                ["127.0.0.1:5438", "agent-b:4438"].map(|peer| peer.parse().unwrap()).to_vec();
        };
        let found = problems(open);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("listen.peers: 0.0.0.0:4438 is not loopback"), "{found:?}");
        assert!(found[0].contains("`insecurePeers: true`"), "{found:?}");
        assert!(found[1].starts_with("discovery.static.peers[1]: agent-b:4438"), "{found:?}");

        let consented = problems(|config| {
            open(config);
            config.insecure_peers = true;
        });
        assert_eq!(consented, Vec::<String>::new());
    }

    #[test]
    fn each_problem_names_its_field_and_the_mend() {
        type Case = (fn(&mut AgentConfig), &'static str);
        let cases: [Case; 16] = [
            (
                |c| c.data_limit = Some(ByteSize::bytes(4096)),
                "dataLimit: 4Ki is out of bounds: use 1Mi to",
            ),
            (
                |c| c.replica.name = Some("a b".into()),
                "replica.name: \"a b\" is no replica's name: use",
            ),
            (|c| c.data_dir = "".into(), "dataDir: is empty: name"),
            (
                |c| c.listen.app = "0.0.0.0:4437".parse().unwrap(),
                "listen.app: 0.0.0.0:4437 is not loopback",
            ),
            (
                |c| c.listen.peers = c.listen.app,
                "listen.peers: 127.0.0.1:4437 is taken by listen.app",
            ),
            (
                |c| c.startup_wait = TextDuration::from_secs(7200),
                "startupWait: 2h is out of bounds: use 0s to 1h",
            ),
            (
                |c| c.groups[0].name = "Views".into(),
                "groups[0].name: \"Views\" is no group's name: use 1 to 40",
            ),
            (
                |c| c.groups.push(c.groups[0].clone()),
                "groups[1].name: \"views\" is the name of groups[0] too",
            ),
            (
                |c| {
                    let mut other = Group::new("other", CrdtType::GSet);
                    other.id = Some(c.groups[0].effective_id());
                    c.groups.push(other);
                },
                "groups[1].id: a7eb8c58-d549-5597-810b-59479d32cbf4 is the id of groups[0] too",
            ),
            (
                |c| c.groups[0].sync.interval = TextDuration::from_millis(1),
                "groups[0].sync.interval: 1ms is out of bounds",
            ),
            (
                |c| c.groups[0].snapshot.interval = TextDuration::from_millis(1),
                "groups[0].snapshot.interval: ",
            ),
            (
                |c| c.groups[0].snapshot.retain = 5000,
                "groups[0].snapshot.retain: 5000 is out of bounds: use 0 to 1000",
            ),
            (|c| c.groups[0].limits.objects = 0, "groups[0].limits.objects: 0 is out of bounds"),
            (
                |c| c.groups[0].limits.value_bytes = ByteSize::mebibytes(9),
                "groups[0].limits.valueBytes: 9Mi is out of bounds: use 1 to 8Mi",
            ),
            (
                |c| c.groups[0].limits.log_bytes = ByteSize::bytes(1),
                "groups[0].limits.logBytes: 1 is out of bounds: use 1Mi",
            ),
            (
                |c| c.groups[0].limits.log_age = TextDuration::default(),
                "groups[0].limits.logAge: 0s is out of bounds",
            ),
        ];
        for (change, expected) in cases {
            let found = problems(change);
            assert_eq!(found.len(), 1, "{expected}: {found:?}");
            assert!(found[0].starts_with(expected), "expected {expected:?}, found {found:?}");
        }
    }
}
