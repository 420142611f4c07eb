//! What apps say was acknowledged, while pods come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Kubectl, Namespace, Workload};
use crate::eventually::eventually;

/// Between two looks for new pods.
const PERIOD: Duration = Duration::from_millis(500);

type Acked = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

/// Follows the logs of all pods of a workload of writers, from their first line on.
#[derive(Debug)]
pub struct Ledger {
    acked: Acked,
    is_over: Arc<AtomicBool>,
    following: Option<JoinHandle<()>>,
}

impl Ledger {
    /// Begins to follow.
    #[must_use]
    pub fn follow(space: &Namespace, writers: &Workload) -> Self {
        let (acked, is_over) = (Acked::default(), Arc::new(AtomicBool::new(false)));
        let (kubectl, writers) = (space.kubectl.clone(), writers.clone());
        let (into, end) = (Arc::clone(&acked), Arc::clone(&is_over));
        let following = Some(thread::spawn(move || follow_all(&kubectl, &writers, &into, &end)));
        Self { acked, is_over, following }
    }

    /// What was acknowledged until now, by pod.
    #[must_use]
    pub fn acked(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many were acknowledged until now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.acked().values().map(BTreeSet::len).sum()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(following) = self.following.take() {
            let _ = following.join();
        }
    }
}

fn follow_all(kubectl: &Kubectl, writers: &Workload, acked: &Acked, is_over: &AtomicBool) {
    // By pod and start: a container that starts again has another log.
    let mut logs: BTreeMap<String, (Child, JoinHandle<()>)> = BTreeMap::new();
    while !is_over.load(Ordering::SeqCst) {
        for pod in kubectl.list("pods", &format!("app={}", writers.name)).unwrap_or_default() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let mut states = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
            let app = states.find(|state| state["name"] == "app").cloned().unwrap_or_default();
            let Some(start) = app["state"]["running"]["startedAt"].as_str() else { continue };
            let key = format!("{name} {start}");
            if logs.contains_key(&key) {
                continue;
            }
            let mut command = kubectl.command(&["logs", "--follow", name, "--container", "app"]);
            command.stdout(Stdio::piped()).stderr(Stdio::null());
            let Ok(mut child) = command.spawn() else { continue };
            let Some(lines) = child.stdout.take() else { continue };
            let (into, name) = (Arc::clone(acked), name.to_owned());
            let reading = thread::spawn(move || {
                for line in BufReader::new(lines).lines().map_while(Result::ok) {
                    if let Some(element) = line.strip_prefix("acked ") {
                        let mut acked = into.lock().unwrap_or_else(PoisonError::into_inner);
                        acked.entry(name.clone()).or_default().insert(element.to_owned());
                    }
                }
            });
            logs.insert(key, (child, reading));
        }
        let _ = eventually(PERIOD, || is_over.load(Ordering::SeqCst).then_some(()));
    }
    for (mut child, reading) in logs.into_values() {
        let _ = child.kill();
        let _ = child.wait();
        let _ = reading.join();
    }
}
