//! Writes Kubernetes events, so that what is said differently is another event.
//!
//! kube's [`Recorder`] counts up an event that it wrote of the same object with the same
//! reason in the last six minutes, whatever the words: those of the second would be lost.
//! So there is one recorder for each object, reason and words.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, Recorder, Reporter};
use tokio::time::Instant;

use crate::api_client::{CallError, call};

/// How long an event is counted up rather than written again, as kube has it.
const COUNTED: Duration = Duration::from_mins(6);
/// How many events are remembered; the oldest beyond are written again.
const REMEMBERED: usize = 2_048;

/// The API server takes no longer notes.
const NOTE_BYTES: usize = 1024;

/// The object's UID, the reason and the words.
type Key = (String, String, String);

/// Writes events. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    client: Client,
    reporter: Reporter,
    recorders: Arc<Mutex<Recorders<Recorder>>>,
}

/// What was written lately.
struct Recorders<R> {
    by_event: BTreeMap<Key, (R, Instant)>,
}

impl EventRecorder {
    /// Events that `reporter` writes.
    #[must_use]
    pub fn new(client: Client, reporter: Reporter) -> Self {
        let recorders = Recorders { by_event: BTreeMap::new() };
        Self { client, reporter, recorders: Arc::new(Mutex::new(recorders)) }
    }

    /// Writes an event about an object, or counts it up; of longer words than the API
    /// server takes only the first.
    ///
    /// # Errors
    ///
    /// If the API server does not take it.
    pub async fn publish(
        &self,
        mut event: Event,
        about: &ObjectReference,
    ) -> Result<(), CallError> {
        event.note = event.note.map(shortened);
        let uid = about.uid.clone().unwrap_or_default();
        let key = (uid, event.reason.clone(), event.note.clone().unwrap_or_default());
        let new = || Recorder::new(self.client.clone(), self.reporter.clone());
        let recorder = {
            let mut recorders = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
            recorders.of(key, Instant::now(), new)
        };
        call(recorder.publish(&event, about)).await
    }
}

impl std::fmt::Debug for EventRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventRecorder").finish_non_exhaustive()
    }
}

impl<R: Clone> Recorders<R> {
    /// The recorder of an event; `new` makes one of which nothing was written yet.
    fn of(&mut self, key: Key, now: Instant, new: impl FnOnce() -> R) -> R {
        self.by_event.retain(|_, (_, at)| now.duration_since(*at) < COUNTED);
        while self.by_event.len() >= REMEMBERED && !self.by_event.contains_key(&key) {
            let oldest = self.by_event.iter().min_by_key(|(_, (_, at))| *at);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            self.by_event.remove(&oldest);
        }
        let (recorder, at) = self.by_event.entry(key).or_insert_with(|| (new(), now));
        *at = now;
        recorder.clone()
    }
}

/// As much of a message as an event may hold.
fn shortened(message: String) -> String {
    if message.len() <= NOTE_BYTES {
        return message;
    }
    let end = (0..=NOTE_BYTES - '…'.len_utf8()).rev().find(|end| message.is_char_boundary(*end));
    format!("{}…", &message[..end.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_fits() {
        assert_eq!(shortened("short".to_owned()), "short");
        for letter in ["a", "ü", "…", "🌳"] {
            let cut = shortened(letter.repeat(NOTE_BYTES + 1));
            assert!(cut.len() <= NOTE_BYTES && cut.ends_with('…'), "{letter}: {}", cut.len());
        }
    }

    fn key(reason: &str, words: &str) -> Key {
        ("u".to_owned(), reason.to_owned(), words.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_same_words_are_counted_up() {
        let mut recorders = Recorders { by_event: BTreeMap::new() };
        let now = Instant::now();
        assert_eq!(recorders.of(key("AdmissionRejected", "quota"), now, || 1), 1);
        assert_eq!(recorders.of(key("AdmissionRejected", "limit"), now, || 2), 2);
        assert_eq!(recorders.of(key("AdmissionRejected", "quota"), now, || 3), 1);
        let later = now + COUNTED;
        assert_eq!(recorders.of(key("AdmissionRejected", "quota"), later, || 4), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_has_a_bound() {
        let mut recorders = Recorders { by_event: BTreeMap::new() };
        for at in 0..REMEMBERED + 50 {
            recorders.of(key("r", &at.to_string()), Instant::now(), || at);
        }
        assert_eq!(recorders.by_event.len(), REMEMBERED);
    }
}
