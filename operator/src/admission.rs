//! The webhook: a pod that opted in gets its agent as it is created.
//!
//! What is done to a pod is decided in `inject`, a pure function of the pod, the
//! groups of its namespace and the operator's settings. Around it: the review that the
//! API server sends, what the pod's owner is told, and the HTTPS port.
//!
//! The webhook is registered with `failurePolicy: Ignore`. An error here therefore means
//! a pod without its sidecar, which the policy `coppice-injected` denies if the pod itself
//! opted in; it never holds up anything else in the cluster.

mod draft;
mod events;
mod facts;
mod inject;
mod metrics;
mod obstacle;
mod plan;
mod quantity;
mod resources;
mod review;
mod serve;
mod sidecar;
mod volumes;
mod windows;

pub use events::{EventWriter, OwnerEvents, Told, owner_events};
pub use facts::{DataVolume, INJECTION_ANNOTATION, InjectionFacts};
pub use inject::{Injected, InjectionSettings, Malformed, Outcome, Untouched, inject};
pub use metrics::AdmissionMetrics;
pub use obstacle::Obstacle;
pub use plan::{Notice, NoticeReason};
pub use review::{GroupSource, INJECT_PATH, Injector, router};
pub use serve::{ServeLimits, serve};
pub use windows::is_for_windows;
