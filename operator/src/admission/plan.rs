//! What a pod's groups, taken together, ask of its one agent.
//!
//! Sizes add up; resources and log level are the largest and most telling; of volume
//! and image a pod has one, so where groups disagree the oldest has its way and the
//! others are told.

use coppice_api::v1alpha1::ReplicationGroup;
use coppice_api::{ByteSize, LogLevel};
use k8s_openapi::api::core::v1::ResourceRequirements;

use super::facts::DataVolume;
use super::inject::InjectionSettings;
use super::resources::largest;

/// The volume of a pod that no group selects yet.
const WITHOUT_GROUP: ByteSize = ByteSize::mebibytes(1024);

/// What one pod gets.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Oldest first.
    pub(super) groups: Vec<String>,
    pub(super) volume: DataVolume,
    pub(super) size: ByteSize,
    pub(super) image: String,
    pub(super) log_level: LogLevel,
    pub(super) resources: ResourceRequirements,
    pub(super) notices: Vec<Notice>,
}

/// Something that whoever made the pod should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What kind of thing.
    pub reason: NoticeReason,
    /// The words.
    pub message: String,
}

/// What kind of thing someone should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeReason {
    /// No group selects the pod yet.
    NoGroup,
    /// Groups ask for different things that a pod has one of.
    SelectorConflict,
    /// The pod got a group for its volumes.
    FsGroupAdded,
    /// The pod's successor will not find the data on the claim that both declare.
    DataStaysBehind,
}

// === impl Plan ===

impl Plan {
    /// What `groups` ask for: those that select the pod, oldest first.
    pub(super) fn of(groups: &[&ReplicationGroup], settings: &InjectionSettings) -> Self {
        let names: Vec<String> = groups.iter().map(|group| name(group).to_owned()).collect();
        let resources: Vec<_> = groups.iter().map(|group| &group.spec.agent.resources).collect();
        let levels = groups.iter().map(|group| group.spec.agent.log_level);
        let mut plan = Self {
            groups: names,
            volume: DataVolume::default(),
            size: WITHOUT_GROUP,
            image: settings.image.clone(),
            log_level: levels.max_by_key(|level| *level as u8).unwrap_or_default(),
            resources: largest(&resources, &settings.resources),
            notices: Vec::new(),
        };
        plan.choose_volume(groups);
        plan.choose_image(groups);
        plan
    }

    fn choose_volume(&mut self, groups: &[&ReplicationGroup]) {
        let Some((oldest, others)) = groups.split_first() else {
            self.notices.push(Notice {
                reason: NoticeReason::NoGroup,
                message: format!(
                    "no ReplicationGroup of the namespace selects this pod yet: its agent waits \
                     for one, with an EmptyDir of {WITHOUT_GROUP}"
                ),
            });
            return;
        };
        self.volume = DataVolume::of(&oldest.spec.storage);
        let bytes = groups.iter().map(|group| group.spec.storage.size.get());
        self.size = ByteSize::bytes(bytes.fold(0, u64::saturating_add));
        for other in others {
            let wanted = DataVolume::of(&other.spec.storage);
            if wanted != self.volume {
                let (other, oldest, got) = (name(other), name(oldest), &self.volume);
                self.conflict(format!(
                    "ReplicationGroup {other} asks for the volume {wanted} and the older {oldest} \
                     for {got}: a pod has one, so {other} is kept there too"
                ));
            }
        }
    }

    fn choose_image(&mut self, groups: &[&ReplicationGroup]) {
        let image = |group: &ReplicationGroup| group.spec.agent.image.clone();
        let mut asked = groups.iter().filter_map(|group| Some((name(group), image(group)?)));
        let Some((oldest, chosen)) = asked.next() else { return };
        let others: Vec<_> = asked.filter(|(_, image)| *image != chosen).collect();
        for (other, image) in others {
            self.conflict(format!(
                "ReplicationGroup {other} asks for the agent {image} and the older {oldest} for \
                 {chosen}: a pod has one agent, and this one runs {chosen}"
            ));
        }
        self.image = chosen;
    }

    fn conflict(&mut self, message: String) {
        self.notices.push(Notice { reason: NoticeReason::SelectorConflict, message });
    }
}

// === impl NoticeReason ===

impl NoticeReason {
    /// Whether someone should change something.
    pub(super) const fn is_warning(self) -> bool {
        match self {
            Self::NoGroup | Self::FsGroupAdded => false,
            Self::SelectorConflict | Self::DataStaysBehind => true,
        }
    }

    /// A stable name, as the reason of an event.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoGroup => "NoGroup",
            Self::SelectorConflict => "SelectorConflict",
            Self::FsGroupAdded => "FsGroupAdded",
            Self::DataStaysBehind => "DataStaysBehind",
        }
    }
}

fn name(group: &ReplicationGroup) -> &str {
    group.metadata.name.as_deref().unwrap_or_default()
}
