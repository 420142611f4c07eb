//! An agent's identity against a small operator that signs.

mod operator;

use std::collections::BTreeMap;
use std::time::Duration;

use coppice_api::cluster::{CONTRACT_VERSION, PublishedOperator};
use prometheus::Registry;
use tokio::time::timeout;

use self::operator::{Authority, Operator};
use super::*;
use crate::clock::SystemClock;
use crate::peer::examine;

const CLUSTER: &str = "c1";

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

struct Pod {
    folder: tempfile::TempDir,
    operator: Operator,
    view: watch::Sender<Arc<View>>,
    state: watch::Receiver<IdentityState>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Pod {
    /// A pod of one group, whose operator is published.
    async fn start() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), Operator::start(CLUSTER).await, true)
    }

    fn in_folder(folder: tempfile::TempDir, operator: Operator, is_published: bool) -> Self {
        std::fs::write(folder.path().join("token"), "the-token\n").unwrap();
        let view = watch::Sender::new(Arc::new(View::default()));
        if is_published {
            view.send_replace(Arc::new(view_of(&operator, &[(1, true)])));
        }
        let settings = IdentitySettings {
            files: IdentityFiles::in_folder(&folder.path().join("identity")),
            token_file: folder.path().join("token"),
            clock: Arc::new(SystemClock::new()),
        };
        let metrics = IdentityMetrics::register(&Registry::new()).unwrap();
        let (identity, state) = Identity::new(settings, view.subscribe(), metrics);
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the test waits for the task itself")]
        let running = tokio::spawn(identity.run(stop.clone()));
        Self { folder, operator, view, state, stop, running }
    }

    fn files(&self) -> IdentityFiles {
        IdentityFiles::in_folder(&self.folder.path().join("identity"))
    }

    fn publish(&self, change: impl FnOnce(&mut View)) {
        self.view.send_modify(|view| change(Arc::make_mut(view)));
    }

    /// Waits until the state is as it should be.
    async fn until(&mut self, what: &str, holds: impl Fn(&IdentityState) -> bool) {
        let waiting = timeout(DEADLINE, self.state.wait_for(|state| holds(state)));
        let Ok(found) = waiting.await else {
            panic!("{what}: {:?}", self.state.borrow());
        };
        found.expect("the task goes on");
    }

    /// Ends the container; the pod's volume stays.
    async fn restart(self) -> (tempfile::TempDir, Operator) {
        self.stop.cancel();
        self.running.await.unwrap();
        (self.folder, self.operator)
    }

    fn certificate(&self) -> String {
        std::fs::read_to_string(self.files().certificate).unwrap()
    }
}

fn view_of(operator: &Operator, ids: &[(u128, bool)]) -> View {
    View {
        operator: Some(PublishedOperator {
            version: CONTRACT_VERSION,
            cluster: CLUSTER.to_owned(),
            address: operator.address,
            server_name: operator::NAME.to_owned(),
        }),
        serving_authorities: Some(operator.serving.clone()),
        peers_authorities: Some(operator.peers()),
        ids: groups(ids),
        ..View::default()
    }
}

fn groups(ids: &[(u128, bool)]) -> BTreeMap<Uuid, bool> {
    ids.iter().map(|(id, asked)| (Uuid::from_u128(*id), *asked)).collect()
}

fn names(state: &IdentityState, ids: &[u128]) -> bool {
    state.not_after.is_some() && ids.iter().all(|id| state.groups.contains(&Uuid::from_u128(*id)))
}

#[tokio::test]
async fn a_pod_gets_a_certificate_that_its_peers_take() {
    let mut pod = Pod::start().await;
    pod.until("a certificate", |state| names(state, &[1])).await;
    let files = pod.files();
    let read = |path| std::fs::read_to_string(path).unwrap();
    let certified =
        examine(&read(files.authorities), &read(files.certificate), &read(files.key)).unwrap();
    assert_eq!(certified.groups, [Uuid::from_u128(1)]);
    let asked = pod.operator.asked();
    assert_eq!(asked.len(), 1, "once is enough");
    assert_eq!(asked[0].token, "the-token");
    assert!(asked[0].request.previous.is_none());
}

#[tokio::test]
async fn a_new_group_is_asked_for_at_once_with_the_same_key_and_the_last_certificate() {
    let mut pod = Pod::start().await;
    pod.until("a certificate", |state| names(state, &[1])).await;
    let first = pod.certificate();
    pod.operator.sign_for(&[1, 2]);
    pod.publish(|view| view.ids = groups(&[(1, true), (2, true)]));
    pod.until("both groups", |state| names(state, &[1, 2])).await;
    let asked = pod.operator.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].request.previous.as_ref(), Some(&first));
    assert_eq!(asked[0].key(), asked[1].key());
}

#[tokio::test]
async fn an_orphan_asks_for_nothing() {
    let mut pod = Pod::start().await;
    pod.until("a certificate", |state| names(state, &[1])).await;
    pod.publish(|view| view.ids = groups(&[(1, false), (9, false)]));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(pod.operator.asked().len(), 1);
}

#[tokio::test]
async fn an_operator_that_comes_later_is_asked_then() {
    let operator = Operator::start(CLUSTER).await;
    let mut pod = Pod::in_folder(tempfile::tempdir().unwrap(), operator, false);
    pod.until("why there is none", |state| {
        state.problem.as_ref().is_some_and(|problem| problem.contains("has not published"))
    })
    .await;
    let view = view_of(&pod.operator, &[(1, true)]);
    pod.publish(|current| *current = view);
    pod.until("a certificate", |state| names(state, &[1]) && state.problem.is_none()).await;
}

#[tokio::test]
async fn a_refusal_is_told_and_asking_goes_on() {
    let operator = Operator::start(CLUSTER).await;
    operator.refuse(Some("no such pod"));
    let mut pod = Pod::in_folder(tempfile::tempdir().unwrap(), operator, true);
    pod.until("why there is none", |state| {
        state.problem.as_ref().is_some_and(|problem| problem.contains("403"))
    })
    .await;
    let problem = pod.state.borrow().problem.clone().unwrap();
    assert!(problem.contains("no such pod"), "{problem}");
    pod.operator.refuse(None);
    pod.until("a certificate", |state| names(state, &[1]) && state.problem.is_none()).await;
}

#[tokio::test]
async fn a_server_that_is_not_the_operator_gets_no_token() {
    let operator = Operator::start(CLUSTER).await;
    let mut view = view_of(&operator, &[(1, true)]);
    view.serving_authorities = Some(Authority::new("another").pem());
    let mut pod = Pod::in_folder(tempfile::tempdir().unwrap(), operator, false);
    pod.publish(|current| *current = view);
    pod.until("why there is none", |state| {
        state.problem.as_ref().is_some_and(|problem| problem.contains("is not reached"))
    })
    .await;
    assert!(pod.operator.asked().is_empty());
}

#[tokio::test]
async fn a_restarted_container_goes_on_with_its_certificate_while_nobody_is_there() {
    let mut pod = Pod::start().await;
    pod.until("a certificate", |state| names(state, &[1])).await;
    let first = pod.certificate();
    let (folder, operator) = pod.restart().await;
    operator.refuse(Some("down"));
    let mut pod = Pod::in_folder(folder, operator, false);
    pod.until("the certificate", |state| names(state, &[1])).await;
    assert_eq!(pod.certificate(), first);
    assert_eq!(pod.operator.asked().len(), 1, "it needs nothing");
}

#[tokio::test]
async fn authorities_are_followed_and_a_certificate_of_a_dropped_one_is_replaced() {
    let mut pod = Pod::start().await;
    pod.until("a certificate", |state| names(state, &[1])).await;
    let old = pod.operator.peers();
    pod.operator.rotate();
    let new = pod.operator.peers();
    let both = format!("{old}{new}");
    pod.publish(|view| view.peers_authorities = Some(both.clone()));
    let path = pod.files().authorities;
    let written = async {
        while std::fs::read_to_string(&path).ok().as_ref() != Some(&both) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, written).await.expect("both are trusted");
    assert_eq!(pod.operator.asked().len(), 1, "its certificate is good with both");
    let first = pod.certificate();
    pod.publish(|view| view.peers_authorities = Some(new));
    let replaced = async {
        while pod.certificate() == first {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, replaced).await.expect("one of the new authority");
    pod.until("a certificate", |state| names(state, &[1])).await;
}

#[tokio::test]
async fn a_certificate_for_another_key_is_not_taken() {
    let operator = Operator::start(CLUSTER).await;
    operator.sign_another_key(true);
    let mut pod = Pod::in_folder(tempfile::tempdir().unwrap(), operator, true);
    pod.until("why there is none", |state| {
        state.problem.as_ref().is_some_and(|problem| problem.contains("cannot be used"))
    })
    .await;
    assert!(!pod.files().certificate.exists(), "nothing was written");
    pod.operator.sign_another_key(false);
    pod.until("a certificate", |state| names(state, &[1])).await;
}
