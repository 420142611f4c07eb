//! What is wrong with a group's members, as they tell it or as they were made.

use std::collections::BTreeSet;
use std::sync::Arc;

use coppice_api::v1alpha1::{ConditionReason, ReplicationGroup};

use super::super::facts::{Facts, differ, is_where_wanted, remake, some};
use super::Obstacle;
use crate::pods::{DataVolume, SeenPod};

/// Local writes stop at this part of a pod's summed sizes.
const USABLE_PERCENT: u64 = 80;

/// Members hold data of a group of this name that was deleted.
pub(super) fn orphaned_data(facts: &Facts) -> Option<Obstacle> {
    let (held, pods) = facts.view.as_ref()?.refused.first_key_value()?;
    let name = facts.seen.name();
    let message = format!(
        "{} hold data of a deleted group {name} with the id {held}, and go on with that one; to take \
         it over, delete this group and make it anew with spec.id: {held}; to drop it, {}",
        some(pods.iter().map(String::as_str)),
        drop_data(facts, pods)
    );
    Some(Obstacle::new(ConditionReason::OrphanedData, message))
}

/// How the data of these pods is dropped: a volume that a pod declares outlives it, and
/// brings the data to the next pod of that name.
fn drop_data(facts: &Facts, pods: &BTreeSet<String>) -> String {
    let namespace = facts.namespace();
    let own_volume = facts.injected().find_map(|pod| {
        let agent = pod.agent.as_ref().filter(|_| pods.contains(&pod.name))?;
        match agent.volume.as_ref()? {
            DataVolume::PodVolume(volume) => Some((pod, volume)),
            DataVolume::EmptyDir | DataVolume::EphemeralClaim => None,
        }
    });
    let Some((pod, volume)) = own_volume else {
        let members: Vec<_> = facts.injected().collect();
        return format!("restart the pods: {}", remake(members, namespace));
    };
    format!(
        "a restart is not enough, since new pods of the same name find it on the volume {volume} that \
         the pods declare: remove its folder coppice/{} and so on while the pods are away, or delete \
         claims and pods one by one, if nothing else is on them: kubectl get pvc -n {namespace}",
        pod.name
    )
}

/// Members cannot use the group as it is, and go on with what was before.
pub(super) fn unused(facts: &Facts) -> Option<Obstacle> {
    let (why, pods) = facts.view.as_ref()?.unused.first_key_value()?;
    let (namespace, name) = (facts.namespace(), facts.seen.name());
    let message = format!(
        "{} do not use what is asked for, and go on with what was before: {why}; see: kubectl get \
         replicationgroup {name} -n {namespace} -o yaml",
        some(pods.iter().map(String::as_str))
    );
    Some(Obstacle::new(ConditionReason::InvalidSpec, message))
}

/// An older group has its way about what a pod has one of.
///
/// Of each pod it is the oldest of its groups that decides: one in between that did not
/// get its way is no rival.
pub(super) fn conflict(facts: &Facts) -> Option<Obstacle> {
    let group = facts.group()?;
    let (namespace, name) = (facts.namespace(), facts.seen.name());
    let (rival, what) = facts.pods.iter().find_map(|pod| rival(facts, group, pod))?;
    let other = rival.metadata.name.as_deref().unwrap_or_default();
    let selects = |pod: &&Arc<SeenPod>| pod.matches(&rival.spec.selector.match_labels);
    let common = facts.pods.iter().filter(selects);
    let message = format!(
        "{} are of the older group {other} too, which asks for another {what}: a pod has one, and \
         the older group's is used; ask for the same, or select other pods: kubectl get \
         replicationgroup {other} {name} -n {namespace} -o yaml",
        some(common.map(|pod| pod.name.as_str()))
    );
    Some(Obstacle::new(ConditionReason::SelectorConflict, message))
}

/// The group that decides of a pod in place of this one, and what they disagree about.
fn rival<'a>(
    facts: &'a Facts,
    group: &ReplicationGroup,
    pod: &SeenPod,
) -> Option<(&'a ReplicationGroup, &'static str)> {
    let mut elders =
        facts.older.iter().filter(|older| pod.matches(&older.spec.selector.match_labels));
    let eldest = elders.clone().next()?;
    if differ(&eldest.spec.storage, &group.spec.storage) {
        return Some((eldest, "volume (spec.storage)"));
    }
    let image = group.spec.agent.image.as_ref()?;
    let chooser = elders.find(|elder| elder.spec.agent.image.is_some())?;
    let is_other = chooser.spec.agent.image.as_ref() != Some(image);
    is_other.then_some((chooser, "image (spec.agent.image)"))
}

/// Members were made when less, or something else, was asked for.
pub(super) fn restart_required(facts: &Facts) -> Option<Obstacle> {
    let group = facts.group()?;
    let made_with = |test: IsOutdated| -> Vec<_> {
        facts.injected().filter(|pod| test(pod, group, &facts.older)).collect()
    };
    let (mut outdated, mut what) = (made_with(has_other_volume), "volume");
    if outdated.is_empty() {
        (outdated, what) = (made_with(has_other_image), "agent's image");
    }
    outdated.first()?;
    let namespace = facts.namespace();
    let message = format!(
        "{} were made before the group asked for its {what}, and serve it with the one they have; to \
         give it to them: {}",
        some(outdated.iter().map(|pod| pod.name.as_str())),
        remake(outdated.iter().copied(), namespace)
    );
    Some(Obstacle::new(ConditionReason::RestartRequired, message))
}

/// Whether a pod was made otherwise than a group asks, given the older ones.
type IsOutdated = fn(&SeenPod, &ReplicationGroup, &[Arc<ReplicationGroup>]) -> bool;

fn has_other_volume(
    pod: &SeenPod,
    group: &ReplicationGroup,
    older: &[Arc<ReplicationGroup>],
) -> bool {
    let Some(agent) = &pod.agent else { return false };
    let selecting: Vec<_> =
        older.iter().filter(|older| pod.matches(&older.spec.selector.match_labels)).collect();
    // Of the volume's kind the oldest group decides.
    let is_elsewhere = selecting.is_empty()
        && agent
            .volume
            .as_ref()
            .is_some_and(|volume| !is_where_wanted(volume, &group.spec.storage));
    let sizes = selecting.iter().map(|older| older.spec.storage.size.get());
    let asked = sizes.fold(group.spec.storage.size.get(), u64::saturating_add);
    let usable = asked / 100 * USABLE_PERCENT;
    // Rounding aside.
    let is_small = agent.data_limit.is_some_and(|limit| limit.saturating_add(asked / 50) < usable);
    is_elsewhere || is_small
}

/// Of the image the oldest group that names one decides. The operator's own may differ:
/// an upgrade restarts no pod.
fn has_other_image(
    pod: &SeenPod,
    group: &ReplicationGroup,
    older: &[Arc<ReplicationGroup>],
) -> bool {
    let (Some(agent), Some(asked)) = (&pod.agent, &group.spec.agent.image) else { return false };
    let is_chooser = |older: &Arc<ReplicationGroup>| {
        older.spec.agent.image.is_some() && pod.matches(&older.spec.selector.match_labels)
    };
    !older.iter().any(is_chooser) && !is_same_image(asked, &agent.image)
}

/// Whether a pod has the image that was asked for: some clusters put a mirror's address
/// before the names of all images, or a digest behind them.
fn is_same_image(asked: &str, has: &str) -> bool {
    let name_from = |image: &str| image.rfind('/').map_or(0, |slash| slash + 1);
    let (asked, has) = (&asked[name_from(asked)..], &has[name_from(has)..]);
    asked == has || has.split_once('@').is_some_and(|(tagged, _)| tagged == asked)
}

/// Members cannot write.
pub(super) fn storage(facts: &Facts) -> Option<Obstacle> {
    let view = facts.view.as_ref()?;
    let namespace = facts.namespace();
    if let Some((pod, problem)) = view.failing.first_key_value() {
        let message = format!(
            "{}: {problem}; see: kubectl logs {pod} -n {namespace} -c coppice-agent",
            some(view.failing.keys().map(String::as_str))
        );
        return Some(Obstacle::new(ConditionReason::StorageFailed, message));
    }
    if !view.full.is_empty() {
        let message = format!(
            "{} use 80 % of spec.storage.size and refuse local writes with 507: delete objects, or ask \
             for more and restart: {}",
            some(view.full.iter().map(String::as_str)),
            remake(facts.injected().collect::<Vec<_>>(), namespace)
        );
        return Some(Obstacle::new(ConditionReason::VolumeFull, message));
    }
    None
}
