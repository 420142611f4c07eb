//! An agent in a pod of a cluster: its configuration from what the operator and
//! Kubernetes mount, followed live.
//!
//! `pod` is who it is, `published` what the namespace's `ConfigMap` says, `labels` what
//! the pod's labels are, `memory` what an earlier life of this container knew;
//! `standing` makes of these what is served, and is where the rules are. `watch` looks
//! once a second and hands on an [`AgentConfig`], as the watch of a file does, and a
//! [`View`] for those who need more than a file tells. `state` shows it to people, to
//! Prometheus and to the operator.
//!
//! Nothing that is missing ends an agent here: it serves what it can, and looks again.

mod labels;
mod memory;
mod metrics;
mod pod;
mod published;
mod standing;
mod state;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coppice_api::cluster::{
    APP_PORT, GROUPS_DIR, LABELS_FILE, OPERATIONS_PORT, OPERATOR_TOKEN_FILE, PEERS_PORT,
    PublishedOperator, RefusedGroup,
};
use coppice_api::{AgentConfig, Listen, Replica, Tls};
use tracing::warn;
use uuid::Uuid;

use self::labels::Labels;
use self::memory::Memory;
use self::published::{Files, Published};
use self::standing::Standing;
use crate::args::{Overrides, PodArgs};
use crate::discovery::{PeerAddress, Scope};
use crate::identity::IdentityFiles;

pub use self::metrics::ClusterMetrics;
pub use self::pod::{Pod, PodError};
pub use self::state::ClusterState;
pub use self::watch::{ClusterWatch, Followed};

/// What is mounted, and what is made of it.
#[derive(Debug)]
pub struct Cluster {
    pod: Pod,
    /// Where the operator's and Kubernetes' files are.
    folder: PathBuf,
    overrides: Overrides,
    /// What was read last of the mounted `ConfigMap`.
    files: Files,
    published: Option<Published>,
    labels: Option<Labels>,
    standing: Standing,
    memory: Memory,
    /// Why the file of an earlier life is not used.
    forgotten: Option<memory::Forgotten>,
}

/// What an agent knows of its cluster at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Where the operator signs.
    pub operator: Option<PublishedOperator>,
    /// What verifies the operator's own port, as PEM.
    pub serving_authorities: Option<String>,
    /// What verifies peers, as PEM.
    pub peers_authorities: Option<String>,
    /// The ids of what is served, and whether a published group asks for it: the others
    /// are of orphans.
    pub ids: BTreeMap<Uuid, bool>,
    /// The names of orphans.
    pub orphans: Vec<String>,
    /// Published groups that are not served, for other data by their name.
    pub refused: Vec<RefusedGroup>,
    /// Published groups that cannot be used as they are, by name, and why.
    pub unused: BTreeMap<String, String>,
    /// What else is published and cannot be used.
    pub problems: Vec<String>,
    /// Published fields that this release does not know.
    pub unknown_fields: usize,
}

impl View {
    /// All that is published and cannot be used.
    pub fn all_problems(&self) -> impl Iterator<Item = &String> {
        self.problems.iter().chain(self.unused.values())
    }
}

impl Cluster {
    /// Reads what is there: all of it may come later.
    ///
    /// # Errors
    ///
    /// If the container does not say which pod it is of.
    pub fn open((folder, pod): (&Path, &PodArgs), overrides: Overrides) -> Result<Self, PodError> {
        let mut cluster = Self {
            pod: Pod::read(pod)?,
            folder: folder.to_owned(),
            overrides,
            files: Files::new(),
            published: None,
            labels: None,
            standing: Standing::default(),
            memory: Memory::default(),
            forgotten: None,
        };
        cluster.memory = Memory::of(&cluster.pod.uid);
        match Memory::read(&cluster.data_dir(), &cluster.pod.uid) {
            Ok(None) => {}
            Ok(Some(memory)) => {
                let kept = memory.groups.iter().map(|kept| (kept.group.name.clone(), kept.clone()));
                cluster.standing.kept = kept.collect();
                cluster.memory = memory;
            }
            Err(forgotten) => cluster.forgotten = Some(forgotten),
        }
        cluster.look();
        Ok(cluster)
    }

    /// The pod.
    #[must_use]
    pub const fn pod(&self) -> &Pod {
        &self.pod
    }

    /// Where this agent's key and certificates are kept.
    #[must_use]
    pub fn identity_files(&self) -> IdentityFiles {
        IdentityFiles::in_folder(&self.pod.identity_dir)
    }

    /// The token that the operator knows this pod by.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.folder.join(OPERATOR_TOKEN_FILE)
    }

    /// The peers of an earlier life of this container.
    #[must_use]
    pub fn saved_peers(&self) -> BTreeMap<PeerAddress, Scope> {
        self.memory.peers()
    }

    /// The configuration that follows.
    #[must_use]
    pub fn config(&self) -> AgentConfig {
        let any = self.pod.any_address();
        let IdentityFiles { key, certificate, authorities } = self.identity_files();
        let mut config = AgentConfig {
            replica: Replica { name: Some(self.pod.replica_name()) },
            data_dir: self.pod.data_dir(),
            listen: Listen {
                app: ([127, 0, 0, 1], APP_PORT).into(),
                peers: (any, PEERS_PORT).into(),
                operations: (any, OPERATIONS_PORT).into(),
            },
            tls: Some(Tls { ca: authorities, certificate, key }),
            groups: self.standing.groups(),
            ..AgentConfig::default()
        };
        self.overrides.apply(&mut config);
        config
    }

    fn data_dir(&self) -> PathBuf {
        self.overrides.data_dir.clone().unwrap_or_else(|| self.pod.data_dir())
    }

    /// Reads again; whether anything is not as it was.
    fn look(&mut self) -> bool {
        let files = published::read(&self.folder.join(GROUPS_DIR));
        // What cannot be read is being replaced, or was never there: what was read stays.
        let is_new = match files {
            Ok(files) if files != self.files => {
                // An empty folder is a `ConfigMap` that is not there: that changes nothing.
                let published = Published::from(&files);
                self.files = files;
                let is_there = published.is_some();
                self.published = published.or_else(|| self.published.take());
                is_there
            }
            Ok(_) | Err(_) => false,
        };
        let text = std::fs::read_to_string(self.folder.join(LABELS_FILE)).ok();
        let labels = text.and_then(|text| labels::parse(&text).ok());
        let is_moved = labels.is_some() && labels != self.labels;
        if is_moved {
            self.labels = labels;
        }
        if !is_new && !is_moved {
            return false;
        }
        let next = self.standing.next(self.published.as_ref(), self.labels.as_ref());
        self.remember(&next);
        self.standing = next;
        true
    }

    fn remember(&mut self, standing: &Standing) {
        fn put<T: Clone>(field: &mut Option<T>, newer: Option<&T>) {
            if newer.is_some() {
                *field = newer.cloned();
            }
        }
        let Self { memory, published, .. } = self;
        memory.groups = standing.kept.values().cloned().collect();
        if let Some(published) = published {
            put(&mut memory.operator, published.operator.as_ref());
            put(&mut memory.serving_authorities, published.serving_authorities.as_ref());
            put(&mut memory.peers_authorities, published.peers_authorities.as_ref());
        }
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self) -> View {
        let Self { memory, standing, published, .. } = self;
        let orphans = standing.kept.iter().filter(|(_, kept)| kept.orphan);
        View {
            operator: memory.operator.clone(),
            serving_authorities: memory.serving_authorities.clone(),
            peers_authorities: memory.peers_authorities.clone(),
            ids: standing.ids(),
            orphans: orphans.map(|(name, _)| name.clone()).collect(),
            refused: standing.refused.clone(),
            unused: standing.unused.clone(),
            problems: published.as_ref().map(|of| of.problems.clone()).unwrap_or_default(),
            unknown_fields: published.as_ref().map_or(0, |published| published.unknown_fields),
        }
    }

    /// Says why an earlier life's file is not used, once.
    fn tell_forgotten(&mut self) {
        if let Some(forgotten) = self.forgotten.take() {
            warn!("what an earlier agent remembered here is not used: {forgotten}");
        }
    }
}

#[cfg(test)]
mod tests;
