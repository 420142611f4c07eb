//! When to ask for a certificate. Pure: no clock, no IO.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::peer::Certified;

/// Why a certificate is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// There is none that peers take.
    None,
    /// It does not name a group that selects this pod.
    Groups,
    /// Half of its life is over.
    HalfLife,
}

impl Why {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none that peers take",
            Self::Groups => "a group that it does not name",
            Self::HalfLife => "half of its life",
        }
    }
}

/// Whether to ask now, in Unix seconds, and why. `after` is the part of a
/// certificate's life after which it is renewed.
pub(super) fn ask(
    certified: Option<&Certified>,
    ids: &BTreeMap<Uuid, bool>,
    (now, after): (u64, f64),
) -> Option<Why> {
    let Some(certified) = certified else { return Some(Why::None) };
    let Certified { not_before, not_after, .. } = *certified;
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    if now >= not_after {
        return Some(Why::None);
    }
    if lacks(certified, ids) {
        return Some(Why::Groups);
    }
    #[expect(clippy::cast_precision_loss, reason = "lives are some days, in seconds")]
    let is_due = (now - not_before) as f64 >= (not_after - not_before) as f64 * after;
    is_due.then_some(Why::HalfLife)
}

/// Whether it does not name a group that is published for this pod. What an orphan
/// lacks nobody can give.
pub(super) fn lacks(certified: &Certified, ids: &BTreeMap<Uuid, bool>) -> bool {
    ids.iter().any(|(id, asked)| *asked && !certified.groups.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified(groups: &[u128]) -> Certified {
        let groups = groups.iter().map(|id| Uuid::from_u128(*id)).collect();
        Certified { not_before: 1_000, not_after: 2_000, groups }
    }

    fn ids(ids: &[(u128, bool)]) -> BTreeMap<Uuid, bool> {
        ids.iter().map(|(id, asked)| (Uuid::from_u128(*id), *asked)).collect()
    }

    #[test]
    fn a_certificate_is_asked_for_when_it_is_due_or_lacks_a_group() {
        let one = certified(&[1]);
        let wanted = ids(&[(1, true)]);
        for (certified, wanted, now, expected) in [
            (None, &wanted, 1_000, Some(Why::None)),
            (Some(&one), &wanted, 1_000, None),
            (Some(&one), &wanted, 1_499, None),
            (Some(&one), &wanted, 1_500, Some(Why::HalfLife)),
            (Some(&one), &wanted, 2_000, Some(Why::None)),
            (Some(&one), &ids(&[(1, true), (2, true)]), 1_000, Some(Why::Groups)),
            (Some(&one), &ids(&[(1, false), (2, false)]), 1_000, None),
            (Some(&one), &ids(&[]), 1_000, None),
        ] {
            assert_eq!(ask(certified, wanted, (now, 0.5)), expected, "{wanted:?} at {now}");
        }
    }
}
