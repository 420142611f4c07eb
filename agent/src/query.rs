//! How the rest of the agent reads groups: consistent views beside the writer.
//!
//! Reads never wait for the writer thread. A [`GroupView`] is one snapshot of one
//! group: all that is read through it belongs to the same commit. [`Groups`] is
//! the list of what is served; groups appear and vanish in it at runtime.

mod stored;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use coppice_crdt::{CrdtType, Entries, Header};

use crate::replica_task::GroupHandle;

pub use stored::StoredGroup;

/// Why a read was not answered. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The store is being opened again; a repeat within a second may succeed.
    #[error("the store is being opened again")]
    Reopening,
    /// The group is not served here any more.
    #[error("the group is not served here any more")]
    GroupGone,
    /// The store failed, or holds a record that cannot be right.
    #[error("read the store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Which keys a listing asks for.
#[derive(Clone, Copy, Debug)]
pub struct ListRequest<'a> {
    /// Only keys that begin with it.
    pub prefix: &'a str,
    /// Only keys behind it.
    pub after: Option<&'a str>,
    /// At most so many.
    pub limit: usize,
    /// Wall time: registers whose value expired by then are left out.
    pub now_ms: u64,
}

/// Some keys in order.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Existing objects, by ascending bytes of their keys.
    pub items: Vec<(String, Header)>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// One consistent snapshot of one group.
pub trait GroupView: Send {
    /// The object under `key`; absent objects have no header.
    fn entries<'a>(&'a self, key: &'a str) -> Box<dyn Entries<Error = QueryError> + 'a>;

    /// Existing objects in the order of their keys.
    ///
    /// # Errors
    ///
    /// As [`QueryError`].
    fn list(&self, request: &ListRequest<'_>) -> Result<ListPage, QueryError>;
}

/// Where views of one group come from.
pub trait ViewSource: Send + Sync {
    /// A view of the group as of its last commit.
    ///
    /// # Errors
    ///
    /// As [`QueryError`].
    fn view(&self) -> Result<Box<dyn GroupView>, QueryError>;
}

/// One group that is served here.
#[derive(Clone)]
pub struct ServedGroup {
    /// Its name.
    pub name: Arc<str>,
    /// What its objects are.
    pub crdt_type: CrdtType,
    /// The identity of its data.
    pub id: [u8; 16],
    /// `limits.valueBytes`: the most bytes of one value.
    pub value_bytes: u64,
    /// Where writes go.
    pub handle: GroupHandle,
    /// Where reads come from.
    pub views: Arc<dyn ViewSource>,
}

impl fmt::Debug for ServedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedGroup")
            .field("name", &self.name)
            .field("crdt_type", &self.crdt_type)
            .finish_non_exhaustive()
    }
}

/// The groups served here, by name.
///
/// Readers take the list as it is at that moment and are never held up by a
/// change; a request that found a group keeps it until it is answered.
#[derive(Debug, Default)]
pub struct Groups {
    served: ArcSwap<BTreeMap<Arc<str>, Arc<ServedGroup>>>,
}

impl Groups {
    /// A list of no groups.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves these groups from now on, and no others.
    pub fn replace(&self, groups: impl IntoIterator<Item = ServedGroup>) {
        let by_name = groups.into_iter().map(|group| (group.name.clone(), Arc::new(group)));
        self.served.store(Arc::new(by_name.collect()));
    }

    /// The group of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<ServedGroup>> {
        self.served.load().get(name).cloned()
    }

    /// Every group, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ServedGroup>> {
        self.served.load().values().cloned().collect()
    }
}
