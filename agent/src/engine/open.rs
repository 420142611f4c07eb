//! From a store to an engine: identity of the store, slots of groups, recovery.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use coppice_crdt::ActorId;
use coppice_crdt::mutant::{self, Mutant};
use coppice_replication::{
    DecodeError, Decoder, Encoder, Identity, Now, Recovered, RecoveryError, Replica,
    ReplicaSettings,
};

use super::group::{Group, GroupSettings};
use super::named::{Claims, Named, OtherGroup};
use super::{Engine, EngineError};
use crate::records::{GroupRecords, RecordError};
use crate::store::keys::{self, Slot};
use crate::store::{Batch, Durability, Store, StoreError, Table};

/// Log bytes read at once while recovering.
const RECOVERY_BYTES: usize = 4 << 20;

/// Who a store is, across its openings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreIdentity {
    /// Drawn at random when the store was made. A copy of the disk has the same.
    pub id: [u8; 16],
    /// How often it was opened.
    pub openings: u64,
}

/// Who an opening of a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The store.
    pub store: StoreIdentity,
    /// This opening, drawn at random: the actor of all that is written in it.
    pub actor: ActorId,
    /// The replica's name, for people.
    pub name: Arc<str>,
}

/// Why an engine or a group did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store's own record is damaged.
    #[error("the store's own record is damaged: {0}")]
    Identity(DecodeError),
    /// What is stored is not what this replica can go on from.
    #[error("group {name}: {error}")]
    Group {
        /// The group's name.
        name: String,
        /// Why.
        error: RecoveryError,
    },
    /// The store holds another group under this name. Nothing was changed.
    #[error("{0}")]
    OtherGroup(Box<OtherGroup>),
}

/// Why groups are not served. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// Not because of one of them.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Because of these, by index: the others may be served without them.
    #[error("{}", self.with_mend())]
    Groups(Vec<(usize, OpenError)>),
}

/// What to do about a damaged store.
const MEND_DAMAGE: &str = "; move the data folder away, and peers fill a new one with all that \
     they have. What no peer has may be in a snapshot: an exported one is whole, while those in \
     FOLDER/snapshots, the moved folder's, share its files, so try them with `coppice-agent \
     snapshot verify FOLDER/snapshots/NAME`, and then `coppice-agent snapshot restore \
     FOLDER/snapshots/NAME --group GROUP=TYPE --data-dir THE-NEW-FOLDER`";

/// What to do about a store that may not be read or written.
const MEND_PERMISSIONS: &str = "; give the folder and all in it to the user that the agent runs \
     as (chown -R), and have it on a volume that can be written";

/// What to do about a full volume.
const MEND_FULL: &str = "; free space there or grow the volume, and start the agent again";

impl AddError {
    /// What it says, and what to do where that is known.
    #[must_use]
    pub fn with_mend(&self) -> String {
        match self {
            Self::Store(error) => error.with_mend(),
            Self::Groups(refused) => {
                let said: Vec<_> = refused.iter().map(|(_, error)| error.with_mend()).collect();
                said.join("; ")
            }
        }
    }

    /// Whether the volume is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Store(OpenError::Store(error)) if error.is_disk_full())
    }
}

impl OpenError {
    /// What it says, and for a damaged store, on which no other attempt and no
    /// setting helps, what to do.
    #[must_use]
    pub fn with_mend(&self) -> String {
        let mend = match self {
            _ if self.is_damage() => MEND_DAMAGE,
            Self::Store(error) if error.is_not_allowed() => MEND_PERMISSIONS,
            Self::Store(error) if error.is_disk_full() => MEND_FULL,
            _ => "",
        };
        format!("{self}{mend}")
    }

    /// The field of a group that is to be changed, where one is.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::OtherGroup(other) => Some(other.field()),
            Self::Group { .. } | Self::Store(_) | Self::Record(_) | Self::Identity(_) => None,
        }
    }

    /// The id of the data that is held by the group's name, if that is why.
    pub(crate) fn held(&self) -> Option<[u8; 16]> {
        match self {
            Self::OtherGroup(other) => Some(other.stored.id),
            Self::Group { .. } | Self::Store(_) | Self::Record(_) | Self::Identity(_) => None,
        }
    }

    fn is_damage(&self) -> bool {
        let is_damaged = |error: &DecodeError| !matches!(error, DecodeError::UnsupportedVersion(_));
        match self {
            Self::Store(error) | Self::Record(RecordError::Store(error)) => error.is_corrupt(),
            Self::Record(RecordError::Damaged { error, .. }) | Self::Identity(error) => {
                is_damaged(error)
            }
            Self::Group { error, .. } => match error {
                RecoveryError::LogGap { .. } | RecoveryError::DamagedHead => true,
                RecoveryError::TypeMismatch { .. } => false,
            },
            Self::OtherGroup(_) => false,
        }
    }
}

impl From<OtherGroup> for OpenError {
    fn from(other: OtherGroup) -> Self {
        Self::OtherGroup(Box::new(other))
    }
}

impl From<EngineError> for OpenError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => Self::Store(error),
            EngineError::Record(error) => Self::Record(error),
        }
    }
}

impl<S: Store, T> Engine<S, T> {
    /// Opens a store: counts the opening and gives it an identity.
    ///
    /// `random` are 32 fresh random bytes: half for a new store's id, half for
    /// this opening's actor.
    ///
    /// # Errors
    ///
    /// If the store fails or its record is damaged. Nothing is served then.
    pub fn open(mut store: S, name: Arc<str>, random: [u8; 32]) -> Result<Self, OpenError> {
        let opening = Opening::record(&mut store, name, random)?;
        Ok(Self::over(store, opening))
    }

    /// An engine over a store whose opening is recorded.
    pub fn over(store: S, opening: Opening) -> Self {
        Self {
            store,
            opening,
            groups: BTreeMap::new(),
            by_link: BTreeMap::new(),
            answers: Vec::new(),
            effects: VecDeque::new(),
            removals: VecDeque::new(),
            batch: Batch::new(),
            unsynced_since_ms: None,
            sync_owed_ms: None,
        }
    }

    /// Serves groups, all or none: recovers their replicas, or begins empty ones.
    /// Those that are served already take their settings. The slots, in order.
    ///
    /// # Errors
    ///
    /// [`AddError`]; nothing was changed, in the store or here.
    pub fn add_groups(
        &mut self,
        groups: &[(&str, Named, GroupSettings)],
        now: Now,
    ) -> Result<Vec<Slot>, AddError> {
        let named: Vec<_> = groups.iter().map(|&(name, named, _)| (name, named)).collect();
        let Claims { slots, batch } = self.judge(&named)?.map_err(|refused| {
            let refused = refused.into_iter().map(|(index, other)| (index, other.into()));
            AddError::Groups(refused.collect())
        })?;
        let (mut recovered, mut failed) = (Vec::new(), Vec::new());
        for (index, (&slot, (name, named, settings))) in slots.iter().zip(groups).enumerate() {
            if self.groups.contains_key(&slot) {
                continue;
            }
            match self.recovered((name, *named), (slot, settings.replica), now) {
                Ok(replica) => recovered.push((slot, replica, *settings)),
                Err(error) => failed.push((index, error)),
            }
        }
        if !failed.is_empty() {
            return Err(AddError::Groups(failed));
        }
        if !batch.is_empty() {
            self.store.commit(&batch, Durability::Sync).map_err(OpenError::from)?;
        }
        for (&slot, (_, _, settings)) in slots.iter().zip(groups) {
            self.set_settings(slot, *settings);
        }
        for (slot, replica, settings) in recovered {
            let serving = BTreeMap::new();
            self.groups.insert(slot, Group { slot, replica, settings, serving, before: None });
        }
        Ok(slots)
    }

    fn recovered(
        &self,
        (name, named): (&str, Named),
        (slot, settings): (Slot, ReplicaSettings),
        now: Now,
    ) -> Result<Replica, OpenError> {
        let identity = Identity {
            group_id: named.id,
            crdt_type: named.crdt_type,
            store: self.opening.store.id,
            opening: self.opening.actor,
            opening_number: self.opening.store.openings,
            name: Arc::clone(&self.opening.name),
        };
        let failed = |error| OpenError::Group { name: name.to_owned(), error };
        let records = GroupRecords { store: &self.store, slot };
        let (head, repair) = (records.head()?, records.repair()?);
        let mut recovered = Recovered::new(identity, settings, head, repair).map_err(failed)?;
        let mut seq = recovered.first_seq();
        loop {
            let page = records.log(seq, RECOVERY_BYTES)?;
            let Some((last, _, _)) = page.last() else { break };
            let next = last + 1;
            for (at, record, bytes) in &page {
                recovered.replay(*at, record, *bytes as u64).map_err(failed)?;
            }
            seq = next;
        }
        let mut replica = recovered.finish(now).map_err(failed)?;
        replica.resume_sweeps(records.sweeps()?);
        Ok(replica)
    }
}

impl Opening {
    /// Counts an opening of `store` in its own record, and gives it an identity.
    ///
    /// # Errors
    ///
    /// As [`Engine::open`]; the store is the caller's to open again.
    pub fn record<S: Store>(
        store: &mut S,
        name: Arc<str>,
        random: [u8; 32],
    ) -> Result<Self, OpenError> {
        let (fresh_store, fresh_actor) = random.split_at(16);
        let mut id = [0; 16];
        id.copy_from_slice(fresh_store);
        let mut actor = [0; 16];
        actor.copy_from_slice(fresh_actor);
        let known = store.get(Table::Meta, keys::STORE)?;
        let known = known.map(|bytes| StoreIdentity::decode(&bytes)).transpose();
        let mut identity =
            known.map_err(OpenError::Identity)?.unwrap_or(StoreIdentity { id, openings: 0 });
        identity.openings += 1;
        if mutant::is(Mutant::DotUsedTwice) {
            actor = identity.id;
        }
        let mut batch = Batch::new();
        batch.put(Table::Meta, keys::STORE, &identity.encode());
        store.commit(&batch, Durability::Sync)?;
        Ok(Self { store: identity, actor: ActorId::from_bytes(actor), name })
    }
}

impl StoreIdentity {
    fn encode(self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.byte(1);
        out.fixed128(u128::from_be_bytes(self.id));
        out.varint(self.openings);
        let mut bytes = Vec::new();
        out.finish_into(&mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut body = Decoder::new(bytes)?;
        match body.byte()? {
            1 => {
                let identity = Self { id: body.array()?, openings: body.varint()? };
                body.end()?;
                Ok(identity)
            }
            version => Err(DecodeError::UnsupportedVersion(version)),
        }
    }
}
