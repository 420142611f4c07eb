//! What a pod was given, as its annotation keeps it.
//!
//! Volume and resources are fixed when a pod is made, and groups are not: the status of
//! a group compares what it wants now with what each of its pods got.

use coppice_api::ByteSize;
use coppice_api::v1alpha1::{VolumeKind, VolumeSpec};
use serde::{Deserialize, Serialize};

/// The annotation that holds an [`InjectionFacts`], as JSON.
pub const INJECTION_ANNOTATION: &str = "coppice.dev/injection";

/// What a pod was given, or why it was given nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InjectionFacts {
    /// The operator's release.
    pub version: String,
    /// Why there is no sidecar: the name of an [`Obstacle`](super::Obstacle).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The same in words, with what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where the data is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<DataVolume>,
    /// How much of it is for Coppice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// The groups that selected the pod, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// Where a pod's data is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataVolume {
    /// What kind of volume.
    pub kind: VolumeKind,
    /// With `EphemeralClaim`: the claim's class, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// With `PodVolume`: the pod's volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_name: Option<String>,
}

// === impl InjectionFacts ===

impl InjectionFacts {
    /// What an annotation says; none if it says nothing of the kind.
    #[must_use]
    pub fn read(annotation: &str) -> Option<Self> {
        serde_json::from_str(annotation).ok()
    }

    /// As an annotation.
    #[must_use]
    pub fn write(&self) -> String {
        // Strings and numbers always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }
}

// === impl DataVolume ===

impl DataVolume {
    /// What a group asks for. Fields that do not go with the kind are left out.
    #[must_use]
    pub fn of(spec: &VolumeSpec) -> Self {
        let (class, name) = match spec.volume {
            VolumeKind::EmptyDir => (None, None),
            VolumeKind::EphemeralClaim => (spec.storage_class_name.clone(), None),
            VolumeKind::PodVolume => (None, spec.volume_name.clone()),
        };
        Self { kind: spec.volume, storage_class_name: class, volume_name: name }
    }
}

impl std::fmt::Display for DataVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind.name();
        match self.volume_name.as_ref().or(self.storage_class_name.as_ref()) {
            Some(detail) => write!(f, "{kind} {detail}"),
            None => f.write_str(kind),
        }
    }
}
