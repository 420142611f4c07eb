//! Asking agents how they are: a sample of each group, every half minute, by mutual TLS.
//!
//! A pod is asked once for all of its groups. The sample moves on with each round, so
//! that every member has its turn, and its size is bounded for each group and for all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coppice_api::cluster::{AgentReport, PEERS_PORT, REPORT_PATH};
use coppice_api::v1alpha1::ReplicationGroup;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::certificates::{Authorities, PollIdentity};
use crate::context::Context;
use crate::pods::SeenPod;
use crate::reports::{Answer, Polled};
use crate::schedule::Requests;
use crate::watched::Key;

/// Between two rounds.
const PERIOD: Duration = Duration::from_secs(30);
/// How long until it is looked whether someone is to be asked before the next round: new
/// agents, and those of a new group that they do not serve yet, so that people need not
/// wait for it.
const SOON: Duration = Duration::from_secs(3);
/// For how long a group is new: a kubelet brings it to running pods within 76 s.
const NEW: i64 = 180;
/// How long one agent may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many members of one group are asked in a round.
const OF_A_GROUP: usize = 10;
/// How many agents are asked in a round.
const OF_ALL: usize = 500;
/// How many at once: all of a round that do not answer fit into a period.
const AT_ONCE: usize = 64;
/// The longest report that is read.
const REPORT_BYTES: usize = 4 << 20;
/// What every connection speaks.
const ALPN: &[u8] = b"h2";

/// Why an agent said nothing.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error("it has no address")]
    NoAddress,
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    #[error("connect: {0}")]
    Connect(#[from] std::io::Error),
    #[error("the operator's own certificate: {0}")]
    Identity(#[from] rustls::Error),
    #[error("ask: {0}")]
    Ask(#[from] hyper::Error),
    #[error("it answered {0}")]
    Status(http::StatusCode),
    #[error("read its report: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("understand its report: {0}")]
    Report(#[from] serde_json::Error),
}

/// Asks agents, for as long as this replica leads.
pub async fn run(context: Context, authorities: Authorities, groups: Requests<Key>) {
    let mut ticks = interval(SOON);
    let mut last_round: Option<Instant> = None;
    let mut turns = Turns::default();
    loop {
        ticks.tick().await;
        let Some(identity) = authorities.poll_identity() else { continue };
        let is_due = last_round.is_none_or(|last| last.elapsed() >= PERIOD);
        if is_due {
            last_round = Some(Instant::now());
        }
        let planned = Round::plan(&context, &mut turns, is_due);
        ask_all(&context, &identity, &planned, &groups).await;
        if is_due {
            settle(&context, &authorities, &planned);
        }
    }
}

/// Asks everyone of a round, and takes in what they say.
async fn ask_all(
    context: &Context,
    identity: &PollIdentity,
    rounds: &Round,
    groups: &Requests<Key>,
) {
    let asked = rounds.pods.values().cloned().collect::<Vec<_>>();
    let answers: BTreeMap<String, Answer> = futures_util::stream::iter(asked)
        .map(|pod| async move {
            let asked = timeout(PATIENCE, ask(identity, &pod)).await;
            let result = asked.unwrap_or(Err(PollError::TimedOut));
            context.metrics.polled(if result.is_ok() { "ok" } else { "error" });
            if let Err(error) = &result {
                debug!(namespace = pod.namespace, pod = pod.name, %error, "an agent was not reached");
            }
            (pod.uid.clone(), Answer { pod, report: result.ok() })
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;

    for group in &rounds.groups {
        if group.asked.is_empty() && !group.had_no_one {
            // Its turn comes in a later round; until then it stands as it stood.
            continue;
        }
        let of_group: Vec<Answer> =
            group.asked.iter().filter_map(|uid| answers.get(uid).cloned()).collect();
        let polled = Polled {
            uid: &group.uid,
            name: &group.key.1,
            id: group.id,
            members: &group.members,
            is_in_time: group.is_in_time,
        };
        if context.reports.take(&polled, &of_group) {
            groups.ask(group.key.clone()).await;
        }
    }
}

/// After a round of all: forgets who is gone, and tells what all hold.
fn settle(context: &Context, authorities: &Authorities, rounds: &Round) {
    let uids: BTreeSet<String> = rounds.groups.iter().map(|group| group.uid.clone()).collect();
    let all = context.pods.watched().all();
    let live: BTreeSet<String> =
        all.values().filter(|pod| pod.is_live()).map(|pod| pod.uid.clone()).collect();
    context.reports.retain(&uids, &live);
    let agents = all.values().filter(|pod| pod.is_live() && pod.is_started());
    authorities.agents_hold(context.reports.held_by_all(agents.map(|pod| pod.uid.as_str())));
}

/// Who is asked, and on whose behalf.
#[derive(Debug, Default)]
struct Round {
    pods: BTreeMap<String, Arc<SeenPod>>,
    groups: Vec<GroupRound>,
}

#[derive(Debug)]
struct GroupRound {
    key: Key,
    uid: String,
    id: uuid::Uuid,
    members: Vec<Arc<SeenPod>>,
    asked: BTreeSet<String>,
    /// Whether no agent of it has started.
    had_no_one: bool,
    /// Whether its members are to be compared with what they had seen the last time.
    is_in_time: bool,
}

/// Whose turn it is: first the groups that were left out the last time.
#[derive(Debug, Default)]
struct Turns {
    /// By the group's UID: how often it was asked.
    times: BTreeMap<String, usize>,
    /// By the group's UID: when its members were compared last.
    compared: BTreeMap<String, Instant>,
}

impl Turns {
    fn retain(&mut self, groups: &BTreeSet<&str>) {
        self.times.retain(|uid, _| groups.contains(uid.as_str()));
        self.compared.retain(|uid, _| groups.contains(uid.as_str()));
    }

    /// Whether a group is compared now: the first time, and a period after each.
    fn is_in_time(&mut self, uid: &str) -> bool {
        let now = Instant::now();
        // Rounds are not to the second.
        let is_early = |at: &Instant| now.duration_since(*at) < PERIOD.mul_f64(0.9);
        if self.compared.get(uid).is_some_and(is_early) {
            return false;
        }
        self.compared.insert(uid.to_owned(), now);
        true
    }
}

impl Round {
    fn plan(context: &Context, turns: &mut Turns, is_whole: bool) -> Self {
        let mut round = Self::default();
        let mut namespaces: BTreeMap<String, Vec<Arc<SeenPod>>> = BTreeMap::new();
        let mut all: Vec<_> = context.groups.watched().all().into_iter().collect();
        turns.retain(&all.iter().map(|(_, seen)| seen.uid()).collect());
        all.sort_by_cached_key(|(_, seen)| turns.times.get(seen.uid()).copied().unwrap_or(0));
        for (key, seen) in all {
            let Some(group) = seen.standing() else { continue };
            let Some(id) = group.effective_id() else { continue };
            let pods = namespaces
                .entry(key.0.clone())
                .or_insert_with(|| context.pods.in_namespace(&key.0));
            let labels = &group.spec.selector.match_labels;
            let is_member =
                |pod: &&Arc<SeenPod>| pod.is_live() && pod.is_injected() && pod.matches(labels);
            let members: Vec<_> = pods.iter().filter(is_member).cloned().collect();
            let started: Vec<_> = members.iter().filter(|pod| pod.is_started()).cloned().collect();
            let uid = seen.uid().to_owned();
            let is_soon =
                || is_young(context, group, &started) && context.reports.awaits(&uid, &started);
            if !(is_whole || is_soon()) {
                continue;
            }
            let times = turns.times.entry(uid.clone()).or_insert(0);
            let sample: Vec<_> = sample(&started, *times).cloned().collect();
            let new = sample.iter().filter(|pod| !round.pods.contains_key(&pod.uid)).count();
            let mut asked = BTreeSet::new();
            // All of a group's sample or none: half of it would say other things each time.
            if round.pods.len() + new <= OF_ALL {
                *times += 1;
                asked.extend(sample.iter().map(|pod| pod.uid.clone()));
                round.pods.extend(sample.into_iter().map(|pod| (pod.uid.clone(), pod)));
            }
            let had_no_one = started.is_empty();
            let is_in_time = !asked.is_empty() && turns.is_in_time(&uid);
            round.groups.push(GroupRound { key, uid, id, members, asked, had_no_one, is_in_time });
        }
        round
    }
}

/// Whether the group, or an agent of it, is new.
fn is_young(context: &Context, group: &ReplicationGroup, started: &[Arc<SeenPod>]) -> bool {
    let now = context.now().as_second();
    let groups = group.metadata.creation_timestamp.iter().map(|time| time.0);
    let mut all = groups.chain(started.iter().filter_map(|pod| pod.created));
    all.any(|created| now - created.as_second() < NEW)
}

/// Some of all, others each turn, until each had its turn.
fn sample<T>(all: &[T], turn: usize) -> impl Iterator<Item = &T> {
    let first = (turn * OF_A_GROUP) % all.len().max(1);
    all.iter().cycle().skip(first).take(all.len().min(OF_A_GROUP))
}

/// One agent's report.
async fn ask(identity: &PollIdentity, pod: &SeenPod) -> Result<AgentReport, PollError> {
    let ip = pod.ips.first().ok_or(PollError::NoAddress)?;
    let stream = TcpStream::connect(SocketAddr::new(*ip, PEERS_PORT)).await?;
    let config = Arc::new(identity.client_config((&pod.namespace, &pod.uid), ALPN)?);
    let name = ServerName::from(*ip);
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let asking = async {
        let request = http::Request::get(format!("https://agent{REPORT_PATH}"))
            .body(Empty::<bytes::Bytes>::new())
            .unwrap_or_default();
        let response = sender.send_request(request).await?;
        if response.status() != http::StatusCode::OK {
            return Err(PollError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), REPORT_BYTES).collect().await;
        Ok(serde_json::from_slice(&body.map_err(PollError::Body)?.to_bytes())?)
    };
    tokio::pin!(connection);
    tokio::select! {
        report = asking => report,
        ended = &mut connection => Err(match ended {
            Err(error) => PollError::Ask(error),
            Ok(()) => PollError::TimedOut,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn members_are_compared_a_period_apart() {
        let mut turns = Turns::default();
        assert!(turns.is_in_time("a") && turns.is_in_time("b"));
        tokio::time::advance(SOON).await;
        assert!(!turns.is_in_time("a"));
        tokio::time::advance(PERIOD).await;
        assert!(turns.is_in_time("a"));
        turns.retain(&BTreeSet::from(["b"]));
        assert!(turns.is_in_time("a"), "it is another of that UID");
    }

    #[test]
    fn every_member_has_its_turn() {
        let all: Vec<u32> = (0..25).collect();
        let mut asked = BTreeSet::new();
        for turn in 0..5 {
            let sample: Vec<_> = sample(&all, turn).copied().collect();
            assert_eq!(sample.len(), OF_A_GROUP);
            asked.extend(sample);
        }
        assert_eq!(asked.len(), all.len());
        assert_eq!(sample(&[1, 2], 7).count(), 2, "few are asked all");
        assert_eq!(sample::<u32>(&[], 7).count(), 0);
    }
}
