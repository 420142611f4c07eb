//! What the owner of a pod is told: a `ReplicaSet`, a `Job`, whatever made it.
//!
//! A pod that is being made has no UID yet, and one that is denied never gets one, so
//! events are about its owner. They are worth having and nothing more: the webhook
//! drops one into a bounded queue and goes on, and a full queue loses it. What an owner
//! was told is not said again for ten minutes, so that a thousand pods make one event.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::metrics::AdmissionMetrics;
use crate::recorder::EventRecorder;

/// Events that wait to be written.
const QUEUE: usize = 256;
/// How long an owner is not told the same again.
const SILENCE: Duration = Duration::from_mins(10);
/// What is remembered as told; beyond it the oldest is forgotten.
const REMEMBERED: usize = 4_096;

/// Takes events without waiting. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OwnerEvents {
    queue: mpsc::Sender<Told>,
    metrics: AdmissionMetrics,
}

/// One thing that an owner is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Whom.
    pub owner: ObjectReference,
    /// Whether something is to be done about it.
    pub is_warning: bool,
    /// In one word.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
}

/// Writes the events of a queue.
#[derive(Debug)]
pub struct EventWriter {
    queue: mpsc::Receiver<Told>,
    metrics: AdmissionMetrics,
    told: BTreeMap<(String, &'static str, String), Instant>,
}

/// A queue, and who empties it.
#[must_use]
pub fn owner_events(metrics: &AdmissionMetrics) -> (OwnerEvents, EventWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let events = OwnerEvents { queue: sender, metrics: metrics.clone() };
    let writer = EventWriter { queue: receiver, metrics: metrics.clone(), told: BTreeMap::new() };
    (events, writer)
}

// === impl OwnerEvents ===

impl OwnerEvents {
    /// Has an owner told, if there is room.
    pub fn tell(&self, told: Told) {
        if self.queue.try_send(told).is_err() {
            self.metrics.event("lost");
        }
    }
}

// === impl EventWriter ===

impl EventWriter {
    /// Writes events until `shutdown` fires or the last [`OwnerEvents`] is gone.
    pub async fn run(mut self, recorder: EventRecorder, shutdown: CancellationToken) {
        loop {
            let told = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                told = self.queue.recv() => match told { Some(told) => told, None => return },
            };
            if self.is_repeated(&told, Instant::now()) {
                self.metrics.event("repeated");
                continue;
            }
            let event = Event {
                type_: if told.is_warning { EventType::Warning } else { EventType::Normal },
                reason: told.reason.to_owned(),
                note: Some(told.message),
                action: "Inject".to_owned(),
                secondary: None,
            };
            match recorder.publish(event, &told.owner).await {
                Ok(()) => self.metrics.event("written"),
                Err(error) => {
                    self.metrics.event("failed");
                    debug!(%error, "an event about injection could not be written");
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn next_told(&mut self) -> Option<Told> {
        self.queue.try_recv().ok()
    }

    /// Whether the owner was told lately; remembers that it is now.
    fn is_repeated(&mut self, told: &Told, now: Instant) -> bool {
        let owner = told.owner.uid.clone().unwrap_or_default();
        let key = (owner, told.reason, told.message.clone());
        if self.told.get(&key).is_some_and(|last| now.duration_since(*last) < SILENCE) {
            return true;
        }
        self.told.insert(key, now);
        if self.told.len() > REMEMBERED {
            self.told.retain(|_, last| now.duration_since(*last) < SILENCE);
        }
        while self.told.len() > REMEMBERED {
            let oldest = self.told.iter().min_by_key(|(_, last)| **last);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { break };
            self.told.remove(&key);
        }
        false
    }
}

/// The object that made the pod; none for a pod that someone made by hand.
pub(super) fn owner_of(pod: &Value, namespace: &str) -> Option<ObjectReference> {
    let owners = pod["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let text = |key: &str| owner[key].as_str().map(ToOwned::to_owned);
    Some(ObjectReference {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name: text("name"),
        namespace: Some(namespace.to_owned()),
        uid: text("uid"),
        ..ObjectReference::default()
    })
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    fn told(uid: &str, message: &str) -> Told {
        let owner = ObjectReference { uid: Some(uid.to_owned()), ..ObjectReference::default() };
        Told { owner, is_warning: false, reason: "Injected", message: message.to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_is_told_the_same_once_in_ten_minutes() {
        let metrics = AdmissionMetrics::register(&Registry::new()).unwrap();
        let (_events, mut writer) = owner_events(&metrics);
        let start = Instant::now();
        assert!(!writer.is_repeated(&told("a", "x"), start));
        assert!(writer.is_repeated(&told("a", "x"), start + Duration::from_mins(9)));
        assert!(!writer.is_repeated(&told("b", "x"), start), "another owner");
        assert!(!writer.is_repeated(&told("a", "y"), start), "something else");
        assert!(!writer.is_repeated(&told("a", "x"), start + Duration::from_mins(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_has_a_bound() {
        let metrics = AdmissionMetrics::register(&Registry::new()).unwrap();
        let (_events, mut writer) = owner_events(&metrics);
        let now = Instant::now();
        for at in 0..REMEMBERED + 50 {
            writer.is_repeated(&told(&at.to_string(), "x"), now);
        }
        assert_eq!(writer.told.len(), REMEMBERED);
    }

    #[tokio::test]
    async fn a_full_queue_loses_events_and_never_waits() {
        let metrics = AdmissionMetrics::register(&Registry::new()).unwrap();
        let (events, _writer) = owner_events(&metrics);
        for at in 0..QUEUE + 5 {
            events.tell(told(&at.to_string(), "x"));
        }
        assert_eq!(events.queue.capacity(), 0);
    }
}
