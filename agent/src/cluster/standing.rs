//! Which groups this pod serves: from what is published, its labels, and what it
//! served before.
//!
//! A published group that selects the pod is served. What was served once is served
//! until the pod ends: a group that is gone, or that the labels left, becomes an
//! *orphan*, with its id and settings as they were. A group of the same name with
//! another id is other data, and would come up empty beside what is here: it is
//! refused until it has the old id. What cannot be read changes nothing.
//!
//! Invariants: a name is served with one id for as long as the pod lives, and an id
//! under one name at a time. Nothing but a published group of the same id changes the
//! settings of a group.
//!
//! Pure: no clock, no IO.

use std::collections::BTreeMap;

use coppice_api::Group;
use coppice_api::cluster::{PublishedGroup, RefusedGroup};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::labels::Labels;
use super::published::Published;

/// A group that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    /// As it was published last for this pod.
    pub(super) group: PublishedGroup,
    /// Whether no published group selects this pod with this id any more.
    pub(super) orphan: bool,
}

/// The groups of this pod at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// What is served, by name.
    pub(super) kept: BTreeMap<String, Kept>,
    /// What is published and not served, because there is other data by its name.
    pub(super) refused: Vec<RefusedGroup>,
    /// Published groups that cannot be used as they are, by name, and why: they change
    /// nothing.
    pub(super) unused: BTreeMap<String, String>,
}

impl Standing {
    /// What is to be served next. `None` for what is not there, or cannot be read.
    pub(super) fn next(&self, published: Option<&Published>, labels: Option<&Labels>) -> Self {
        let (Some(published), Some(labels)) = (published, labels) else {
            return self.clone();
        };
        let mut next = Self::default();
        for (name, kept) in &self.kept {
            next.keep(name, kept, (published, labels));
        }
        for (name, group) in &published.groups {
            match group {
                Err(problem) => {
                    next.unused.insert(name.clone(), problem.clone());
                }
                Ok(group) if group.selects(labels) && !next.kept.contains_key(name) => {
                    next.add(name, group);
                }
                Ok(_) => {}
            }
        }
        next
    }

    /// Goes on with a group that was served before.
    fn keep(&mut self, name: &str, kept: &Kept, (published, labels): (&Published, &Labels)) {
        let mut kept = kept.clone();
        match published.groups.get(name) {
            // It may be mended as it may be removed: until then nothing is known.
            Some(Err(_)) => {}
            Some(Ok(group)) if !group.selects(labels) => kept.orphan = true,
            Some(Ok(group)) if group.id != kept.group.id => {
                kept.orphan = true;
                let (offered, held) = (group.id, kept.group.id);
                self.refused.push(RefusedGroup { name: name.to_owned(), offered, held });
            }
            Some(Ok(group)) if group.crdt != kept.group.crdt => {
                let problem = format!(
                    "group {name}: its type is published as {}, and the data of its id is {}: a \
                     group's type never changes",
                    group.crdt.crdt_type,
                    kept.group.crdt.crdt_type.with_article()
                );
                self.unused.insert(name.to_owned(), problem);
            }
            Some(Ok(group)) => kept = Kept { group: group.clone(), orphan: false },
            None => kept.orphan = true,
        }
        self.kept.insert(name.to_owned(), kept);
    }

    /// Takes on a group whose name is new here.
    fn add(&mut self, name: &str, group: &PublishedGroup) {
        let holder = self.kept.iter().find(|(_, kept)| kept.group.id == group.id);
        let holder = holder.map(|(name, kept)| (name.clone(), kept.orphan, kept.group.crdt));
        match holder {
            Some((other, true, crdt)) if crdt == group.crdt => {
                // Its data goes by another name now.
                self.kept.remove(&other);
            }
            Some((other, ..)) => {
                let problem = format!(
                    "group {name}: its id {} is that of group {other}, and an id is one group's: \
                     give it another, or none",
                    group.id
                );
                self.unused.insert(name.to_owned(), problem);
                return;
            }
            None => {}
        }
        self.kept.insert(name.to_owned(), Kept { group: group.clone(), orphan: false });
    }

    /// What is served, as the agent's configuration lists it.
    pub(super) fn groups(&self) -> Vec<Group> {
        self.kept.values().map(|kept| kept.group.group()).collect()
    }

    /// The ids that a certificate is to name, and whether a published group asks for it.
    pub(super) fn ids(&self) -> BTreeMap<Uuid, bool> {
        self.kept.values().map(|kept| (kept.group.id, !kept.orphan)).collect()
    }
}

#[cfg(test)]
mod tests;
