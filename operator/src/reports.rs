//! What agents said when they were asked last, and what follows for their groups.
//!
//! Asked is a sample that moves on with each round, so that a large group is seen whole
//! over time. Pure but for the lock: rounds are put in, views taken out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use coppice_api::cluster::{AgentReport, GroupReport, RefusedGroup};
use uuid::Uuid;

use crate::pods::SeenPod;

/// What is known of all agents. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    state: Arc<Mutex<State>>,
}

/// What one agent answered, or that it did not.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who was asked.
    pub pod: Arc<SeenPod>,
    /// What it said.
    pub report: Option<AgentReport>,
}

/// What is known of one group's members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupView {
    /// How many were asked in the last round.
    pub asked: usize,
    /// Those of them that answered.
    pub answered: usize,
    /// Whether they agree; absent: nothing to compare with yet.
    pub agreement: Option<Agreement>,
    /// The id that pods hold data under instead of the group's, with the pods.
    pub refused: BTreeMap<Uuid, BTreeSet<String>>,
    /// Why pods cannot use the group as it is, with the pods.
    pub unused: BTreeMap<String, BTreeSet<String>>,
    /// Pods that answered and do not serve the group yet.
    pub unserved: BTreeSet<String>,
    /// The UIDs of the pods that were ever asked about the group.
    pub ever_asked: BTreeSet<String>,
    /// Pods that cannot write, and why.
    pub failing: BTreeMap<String, String>,
    /// Pods that refuse local writes because their volume is nearly full.
    pub full: BTreeSet<String>,
    /// Pods that are connected with no other member, although there are some.
    pub alone: BTreeSet<String>,
    /// How many of the live members run each release, of those ever asked.
    pub versions: BTreeMap<String, u32>,
}

/// Whether members had seen the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// All that were asked have seen what any had seen a round earlier.
    Agree,
    /// These had not.
    Behind(BTreeSet<String>),
}

/// What a round finds out about one group.
#[derive(Clone, Debug, Default)]
struct Round {
    /// All that any member had seen.
    seen: BTreeMap<String, u64>,
    id: Uuid,
    view: GroupView,
}

#[derive(Debug, Default)]
struct State {
    /// By the group's UID.
    rounds: BTreeMap<String, Round>,
    /// By the pod's UID.
    versions: BTreeMap<String, String>,
    /// By the pod's UID: the authorities that it verifies by.
    authorities: BTreeMap<String, BTreeSet<String>>,
}

/// A group as a round looks at it.
#[derive(Clone, Debug)]
pub struct Polled<'a> {
    /// The UID of its object.
    pub uid: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The id of its data.
    pub id: Uuid,
    /// All of its live members.
    pub members: &'a [Arc<SeenPod>],
    /// Whether a whole period passed since it was asked before: else whether members
    /// agree is not judged anew.
    pub is_in_time: bool,
}

impl Reports {
    /// Takes in what was answered by the members of one group; whether its view changed.
    pub fn take(&self, group: &Polled<'_>, answers: &[Answer]) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for answer in answers {
            if let Some(report) = &answer.report {
                state.versions.insert(answer.pod.uid.clone(), report.agent_version.clone());
                let held = report.authorities.iter().cloned().collect();
                state.authorities.insert(answer.pod.uid.clone(), held);
            }
        }
        let before = state.rounds.remove(group.uid);
        let mut round = judge(group, answers, before.as_ref());
        for member in group.members {
            if let Some(version) = state.versions.get(&member.uid) {
                *round.view.versions.entry(version.clone()).or_insert(0) += 1;
            }
        }
        let changed = before.is_none_or(|before| before.view != round.view);
        state.rounds.insert(group.uid.to_owned(), round);
        changed
    }

    /// What is known of a group's members; none before it was asked for.
    #[must_use]
    pub fn view(&self, uid: &str) -> Option<GroupView> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rounds.get(uid).map(|round| round.view.clone())
    }

    /// Whether some members of a group were not asked yet, or do not serve it yet.
    #[must_use]
    pub fn awaits(&self, uid: &str, members: &[Arc<SeenPod>]) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(round) = state.rounds.get(uid) else { return true };
        let is_new = |pod: &Arc<SeenPod>| !round.view.ever_asked.contains(&pod.uid);
        !round.view.unserved.is_empty() || members.iter().any(is_new)
    }

    /// The authorities that every one of these pods holds; none if one was never reached.
    #[must_use]
    pub fn held_by_all<'a>(&self, pods: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Option<BTreeSet<String>> = None;
        for pod in pods {
            let Some(held) = state.authorities.get(pod) else { return BTreeSet::new() };
            all = Some(match all {
                None => held.clone(),
                Some(all) => all.intersection(held).cloned().collect(),
            });
        }
        all.unwrap_or_default()
    }

    /// Forgets groups and pods that are gone.
    pub fn retain(&self, groups: &BTreeSet<String>, pods: &BTreeSet<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rounds.retain(|uid, _| groups.contains(uid));
        state.versions.retain(|uid, _| pods.contains(uid));
        state.authorities.retain(|uid, _| pods.contains(uid));
    }
}

/// What one round says of a group, given the round before.
fn judge(group: &Polled<'_>, answers: &[Answer], before: Option<&Round>) -> Round {
    let mut round = Round { id: group.id, ..Round::default() };
    // A group of another id has seen other things.
    let same = before.filter(|round| round.id == group.id);
    let earlier = same.filter(|round| !round.seen.is_empty());
    if let Some(same) = same {
        round.view.carry(&same.view, group.members);
    }
    let mut behind = BTreeSet::new();
    let mut compared = 0;
    for answer in answers {
        round.view.asked += 1;
        round.view.ever_asked.insert(answer.pod.uid.clone());
        let Some(report) = &answer.report else { continue };
        round.view.answered += 1;
        let pod = &answer.pod.name;
        round.view.unserved.remove(pod);
        // Of a group of this name that was deleted meanwhile an agent may speak for a while.
        let is_of_it =
            |refused: &&RefusedGroup| refused.name == group.name && refused.offered == group.id;
        for refused in report.refused.iter().filter(is_of_it) {
            round.view.refused.entry(refused.held).or_default().insert(pod.clone());
        }
        if let Some(why) = report.unused.get(group.name) {
            round.view.unused.entry(why.clone()).or_default().insert(pod.clone());
        }
        if let Some(problem) = &report.store.problem {
            round.view.failing.insert(pod.clone(), problem.clone());
        } else if report.store.limit_bytes.is_some_and(|limit| report.store.bytes >= limit) {
            round.view.full.insert(pod.clone());
        }
        let is_it = |served: &&GroupReport| served.name == group.name && served.id == group.id;
        let Some(served) = report.groups.iter().find(is_it) else {
            if !round.view.refused.values().any(|pods| pods.contains(pod)) {
                round.view.unserved.insert(pod.clone());
            }
            continue;
        };
        if served.connected == 0 && group.members.len() > 1 {
            round.view.alone.insert(pod.clone());
        }
        compared += 1;
        if earlier.is_some_and(|earlier| !has_seen(&served.seen, &earlier.seen)) {
            behind.insert(pod.clone());
        }
        for (actor, count) in &served.seen {
            let known = round.seen.entry(actor.clone()).or_insert(0);
            *known = (*known).max(*count);
        }
    }
    if !group.is_in_time
        && let Some(same) = same
    {
        round.seen.clone_from(&same.seen);
        round.view.agreement.clone_from(&same.view.agreement);
    } else if compared > 0 && same.is_some() {
        let agree = behind.is_empty();
        round.view.agreement =
            Some(if agree { Agreement::Agree } else { Agreement::Behind(behind) });
    }
    if compared == 0
        && let Some(earlier) = earlier
    {
        // Nobody answered: what was known is still what they are compared with.
        round.seen.clone_from(&earlier.seen);
    }
    round
}

impl GroupView {
    /// Takes over what stays known of members that are not asked now.
    fn carry(&mut self, before: &Self, members: &[Arc<SeenPod>]) {
        let has = |uid: &String| members.iter().any(|pod| pod.uid == *uid);
        self.ever_asked = before.ever_asked.iter().filter(|uid| has(uid)).cloned().collect();
        let is_member = |name: &String| members.iter().any(|pod| pod.name == *name);
        self.unserved = before.unserved.iter().filter(|name| is_member(name)).cloned().collect();
    }
}

fn has_seen(seen: &BTreeMap<String, u64>, all: &BTreeMap<String, u64>) -> bool {
    all.iter().all(|(actor, count)| seen.get(actor).is_some_and(|has| has >= count))
}

#[cfg(test)]
mod tests {
    use coppice_api::cluster::StoreReport;

    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn pod(name: &str) -> Arc<SeenPod> {
        let uid = format!("uid of {name}");
        Arc::new(SeenPod { name: name.to_owned(), uid, ..SeenPod::default() })
    }

    fn saw(pod: &Arc<SeenPod>, seen: &[(&str, u64)]) -> Answer {
        let seen = seen.iter().map(|(actor, count)| ((*actor).to_owned(), *count)).collect();
        let served = GroupReport {
            name: "views".into(),
            id: ID,
            connected: 1,
            seen,
            ..GroupReport::default()
        };
        let report = AgentReport {
            agent_version: "1".into(),
            authorities: vec!["x".into(), pod.name.clone()],
            groups: vec![served],
            ..AgentReport::default()
        };
        Answer { pod: pod.clone(), report: Some(report) }
    }

    fn take(reports: &Reports, members: &[Arc<SeenPod>], answers: &[Answer]) -> GroupView {
        let group = Polled { uid: "g", name: "views", id: ID, members, is_in_time: true };
        reports.take(&group, answers);
        reports.view("g").unwrap()
    }

    #[test]
    fn members_agree_when_each_has_seen_what_any_had_seen_a_round_ago() {
        let (reports, a, b) = (Reports::default(), pod("a"), pod("b"));
        let members = [a.clone(), b.clone()];
        let first = take(&reports, &members, &[saw(&a, &[("x", 5)]), saw(&b, &[("y", 3)])]);
        assert_eq!(first.agreement, None, "there is nothing to compare with");

        let second = [saw(&a, &[("x", 9), ("y", 3)]), saw(&b, &[("x", 5), ("y", 3)])];
        let view = take(&reports, &members, &second);
        assert_eq!(view.agreement, Some(Agreement::Agree), "b lacks only what is new since");

        let third = [saw(&a, &[("x", 9), ("y", 3)]), saw(&b, &[("x", 5), ("y", 3)])];
        let view = take(&reports, &members, &third);
        assert_eq!(view.agreement, Some(Agreement::Behind([String::from("b")].into())));
    }

    #[test]
    fn agents_that_do_not_answer_say_nothing() {
        let (reports, a) = (Reports::default(), pod("a"));
        let members = [a.clone()];
        take(&reports, &members, &[saw(&a, &[("x", 5)])]);
        let silent = [Answer { pod: a.clone(), report: None }];
        let view = take(&reports, &members, &silent);
        assert_eq!((view.asked, view.answered, view.agreement), (1, 0, None));
        assert_eq!(view.versions["1"], 1, "its release does not change while it is silent");
        let view = take(&reports, &members, &[saw(&a, &[("x", 4)])]);
        assert_eq!(
            view.agreement,
            Some(Agreement::Behind([String::from("a")].into())),
            "what was seen before the silence still counts"
        );
    }

    #[test]
    fn members_that_have_seen_nothing_agree() {
        let (reports, a) = (Reports::default(), pod("a"));
        take(&reports, std::slice::from_ref(&a), &[saw(&a, &[])]);
        let view = take(&reports, std::slice::from_ref(&a), &[saw(&a, &[])]);
        assert_eq!(view.agreement, Some(Agreement::Agree));
    }

    #[test]
    fn what_is_wrong_with_an_agent_is_kept_by_pod() {
        let (reports, a, b) = (Reports::default(), pod("a"), pod("b"));
        let held = Uuid::from_u128(1);
        let mut refusing = saw(&a, &[]);
        let report = refusing.report.as_mut().unwrap();
        report.groups.clear();
        let of = |offered, held| RefusedGroup { name: "views".into(), offered, held };
        report.refused = vec![of(ID, held), of(Uuid::from_u128(2), ID)];
        report.store = StoreReport { bytes: 9, limit_bytes: Some(8), problem: None };
        let mut failing = saw(&b, &[]);
        failing.report.as_mut().unwrap().store.problem = Some("no space".into());
        failing.report.as_mut().unwrap().groups[0].connected = 0;

        let view = take(&reports, &[a, b], &[refusing, failing]);
        assert_eq!(view.refused[&held], [String::from("a")].into());
        assert_eq!(view.refused.len(), 1, "the other is about a group that was deleted");
        assert_eq!(view.full, [String::from("a")].into());
        assert_eq!(view.failing["b"], "no space");
        assert_eq!(view.alone, [String::from("b")].into());
    }

    #[test]
    fn who_does_not_serve_yet_is_known_until_it_says_otherwise() {
        let (reports, a, b) = (Reports::default(), pod("a"), pod("b"));
        let members = [a.clone(), b.clone()];
        assert!(reports.awaits("g", &members), "nobody was asked");
        let mut without = saw(&a, &[]);
        without.report.as_mut().unwrap().groups.clear();
        let view = take(&reports, &members, std::slice::from_ref(&without));
        assert_eq!(view.unserved, [String::from("a")].into());
        let view = take(&reports, &members, &[saw(&b, &[])]);
        assert_eq!(view.unserved, [String::from("a")].into(), "it was not asked this time");
        assert!(reports.awaits("g", &members));
        let view = take(&reports, &members, &[saw(&a, &[])]);
        assert!(view.unserved.is_empty() && !reports.awaits("g", &members));
        take(&reports, &members, &[without]);
        let view = take(&reports, std::slice::from_ref(&b), &[saw(&b, &[])]);
        assert!(view.unserved.is_empty(), "it is gone");
    }

    #[test]
    fn what_a_pod_cannot_use_is_kept_with_its_reason() {
        let (reports, a) = (Reports::default(), pod("a"));
        let mut answer = saw(&a, &[]);
        let unused = [(String::from("views"), String::from("no")), ("b".into(), "c".into())];
        answer.report.as_mut().unwrap().unused = unused.into();
        let view = take(&reports, std::slice::from_ref(&a), &[answer]);
        assert_eq!(view.unused, [(String::from("no"), [String::from("a")].into())].into());
    }

    #[test]
    fn members_are_compared_only_after_a_whole_period() {
        let (reports, a) = (Reports::default(), pod("a"));
        let members = [a.clone()];
        take(&reports, &members, &[saw(&a, &[("x", 5)])]);
        let soon = Polled { uid: "g", name: "views", id: ID, members: &members, is_in_time: false };
        reports.take(&soon, &[saw(&a, &[("x", 4)])]);
        assert_eq!(reports.view("g").unwrap().agreement, None);
        let view = take(&reports, &members, &[saw(&a, &[("x", 5)])]);
        assert_eq!(view.agreement, Some(Agreement::Agree), "with what it had seen at first");
    }

    #[test]
    fn authorities_count_when_every_pod_holds_them() {
        let (reports, a, b) = (Reports::default(), pod("a"), pod("b"));
        let uids = ["uid of a", "uid of b"];
        take(&reports, &[a.clone(), b.clone()], &[saw(&a, &[])]);
        assert!(reports.held_by_all(uids.into_iter()).is_empty(), "b was not reached yet");
        take(&reports, &[a.clone(), b.clone()], &[saw(&b, &[])]);
        assert_eq!(reports.held_by_all(uids.into_iter()), [String::from("x")].into());
        reports.retain(&BTreeSet::new(), &BTreeSet::new());
        assert!(reports.view("g").is_none());
    }
}
