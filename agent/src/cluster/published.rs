//! What the operator publishes, as it is mounted: a file for each key of a
//! `ConfigMap`.
//!
//! Kubernetes replaces all files at once, by a symbolic link `..data`: they are read
//! through one reading of it, so that nothing is taken from two versions. The
//! `ConfigMap` counts as present if it names the operator: an empty folder is one that
//! is not there, or not yet. A key that makes no sense is told of and takes nothing
//! from the others.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use coppice_api::cluster::{
    CONTRACT_VERSION, OPERATOR_KEY, PEERS_AUTHORITIES_KEY, PublishedGroup, PublishedOperator,
    SERVING_AUTHORITIES_KEY, group_of_key,
};
use coppice_api::{AgentConfig, CrdtSpec, Limits, Snapshot, Storage, Sync};
use coppice_crdt::CrdtType;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

/// No legal file is longer: a `ConfigMap` has at most so many bytes.
const MAX_FILE_BYTES: u64 = 2 << 20;

/// The link that Kubernetes swaps.
const CURRENT: &str = "..data";

/// The content of each file, by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A present `ConfigMap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) operator: Option<PublishedOperator>,
    /// PEM with at least one certificate.
    pub(super) serving_authorities: Option<String>,
    pub(super) peers_authorities: Option<String>,
    /// By name; what is wrong, where it cannot be used.
    pub(super) groups: BTreeMap<String, Result<PublishedGroup, String>>,
    /// What is wrong with other keys.
    pub(super) problems: Vec<String>,
    /// Fields that this release does not know.
    pub(super) unknown_fields: usize,
}

/// Reads a mounted folder.
///
/// # Errors
///
/// If it, or a file in it, cannot be read: it may be replaced just now.
pub(super) fn read(folder: &Path) -> io::Result<Files> {
    let current = folder.join(CURRENT);
    let folder = match current.canonicalize() {
        Ok(current) => current,
        Err(error) if error.kind() == io::ErrorKind::NotFound => folder.to_owned(),
        Err(error) => return Err(error),
    };
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with("..") || !std::fs::metadata(entry.path())?.is_file() {
            continue;
        }
        if std::fs::metadata(entry.path())?.len() > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("{name} is longer than 2 MiB")));
        }
        files.insert(name, std::fs::read(entry.path())?);
    }
    Ok(files)
}

impl Published {
    /// What the files say; `None`: there is no `ConfigMap`.
    pub(super) fn from(files: &Files) -> Option<Self> {
        let mut published = Self::default();
        match parse::<PublishedOperator>(files.get(OPERATOR_KEY)?, &operator_example()) {
            Ok((operator, unknown)) => {
                published.operator = Some(operator);
                published.unknown_fields += unknown;
            }
            Err(problem) => published.problems.push(format!("{OPERATOR_KEY}: {problem}")),
        }
        published.serving_authorities = published.pem(files, SERVING_AUTHORITIES_KEY);
        published.peers_authorities = published.pem(files, PEERS_AUTHORITIES_KEY);
        for (key, content) in files {
            let Some(name) = group_of_key(key) else { continue };
            let group = group(name, content).map(|(group, unknown)| {
                published.unknown_fields += unknown;
                group
            });
            let group = group.map_err(|problem| format!("{key}: {problem}"));
            published.groups.insert(name.to_owned(), group);
        }
        Some(published)
    }

    fn pem(&mut self, files: &Files, key: &str) -> Option<String> {
        let content = files.get(key)?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
        let is_good = all.is_ok_and(|all| !all.is_empty());
        let text = String::from_utf8(content.clone()).ok().filter(|_| is_good);
        if text.is_none() {
            self.problems.push(format!("{key}: holds no certificate as PEM"));
        }
        text
    }
}

/// The group of this name, and how many of its fields are not known here.
fn group(name: &str, content: &[u8]) -> Result<(PublishedGroup, usize), String> {
    let (group, unknown) = parse::<PublishedGroup>(content, &group_example())?;
    if group.name != name {
        return Err(format!("is of a group {:?}", group.name));
    }
    if let Some(problem) = problem(&group) {
        return Err(problem);
    }
    Ok((group, unknown))
}

/// What is wrong with a group's values.
pub(super) fn problem(group: &PublishedGroup) -> Option<String> {
    let config = AgentConfig { groups: vec![group.group()], ..AgentConfig::default() };
    let all: Vec<String> = config.problems().iter().map(ToString::to_string).collect();
    let plain = |text: &String| text.replacen("groups[0].", "", 1);
    (!all.is_empty()).then(|| all.iter().map(plain).collect::<Vec<_>>().join("; "))
}

/// Reads JSON without the fields that this release does not know, and counts those:
/// settings are strict where people write them, and the operator may be newer.
fn parse<T: DeserializeOwned>(content: &[u8], example: &Value) -> Result<(T, usize), String> {
    let mut value: Value = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    let unknown = drop_unknown(&mut value, example);
    let read = serde_path_to_error::deserialize(&value).map_err(|error| {
        let path = error.path().to_string();
        format!("{path}: {}", error.into_inner())
    })?;
    Ok((read, unknown))
}

fn drop_unknown(value: &mut Value, example: &Value) -> usize {
    let (Value::Object(fields), Value::Object(known)) = (value, example) else { return 0 };
    // A map of labels, whose keys are anyone's.
    if known.is_empty() {
        return 0;
    }
    let before = fields.len();
    fields.retain(|name, _| known.contains_key(name));
    let here = before - fields.len();
    let below = fields
        .iter_mut()
        .filter_map(|(name, value)| known.get(name).map(|example| drop_unknown(value, example)));
    here + below.sum::<usize>()
}

/// A group with all fields that there are.
fn group_example() -> Value {
    example(&PublishedGroup {
        version: CONTRACT_VERSION,
        name: String::new(),
        id: Uuid::nil(),
        match_labels: BTreeMap::new(),
        crdt: CrdtSpec { crdt_type: CrdtType::PNCounter },
        sync: Sync::default(),
        snapshot: Snapshot::default(),
        storage: Storage::default(),
        limits: Limits::default(),
    })
}

fn operator_example() -> Value {
    example(&PublishedOperator {
        version: CONTRACT_VERSION,
        cluster: String::new(),
        address: ([0, 0, 0, 0], 0).into(),
        server_name: String::new(),
    })
}

fn example<T: Serialize>(of: &T) -> Value {
    // A type of ours, whose keys are all text.
    serde_json::to_value(of).unwrap_or_default()
}

#[cfg(test)]
mod tests;
