//! How an authority is replaced while everyone goes on, as a pure state machine.
//!
//! A new certificate is *published* first, so that all who verify believe both. When
//! they are known to, it takes over *signing*; the old one is *retired*, believed for
//! as long as what it signed may be in use, and then dropped.
//!
//! Each step starts from what the Secret holds and is written back on condition that
//! nobody else wrote meanwhile. Whoever stops in between, or believes to be the leader
//! and is not, leaves a Secret that is as before or one step further.
//!
//! Invariants: exactly one certificate signs; a certificate signs only after it was
//! published; it is believed until all that it signed has run out.

use time::{Duration, OffsetDateTime};

use super::authority::{Authority, AuthorityName, Ca, Phase};
use super::issue::{self, IssueError, PEER_LIFE};

/// Certificates of one authority at a time: what agents are told must stay small.
const MOST: usize = 4;

/// How long each step waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// From publication to signing, at least: so long may it take until a file of a
    /// `ConfigMap` changes in every pod.
    pub spread: Duration,
    /// From when all are known to hold it to signing.
    pub settle: Duration,
    /// From publication to signing even if some were not heard; none: never.
    pub give_up: Option<Duration>,
    /// From retirement to the end.
    pub keep: Duration,
}

/// What the leader sees of the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    /// The rotation that is asked for, carried out or not.
    pub(crate) requested: Option<&'a str>,
    /// Since when all who must are known to hold the published certificate.
    pub(crate) held_since: Option<OffsetDateTime>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make a certificate, and let it be believed.
    Publish,
    /// Let the published one sign, and retire the other.
    Switch,
    /// Believe the certificate at this place no longer.
    Drop(usize),
}

// === impl Timings ===

impl Timings {
    /// What `name` needs.
    #[must_use]
    pub fn of(name: AuthorityName) -> Self {
        match name {
            // A mounted file was seen to take 76 s to change.
            AuthorityName::Serving => Self {
                spread: Duration::minutes(2),
                settle: Duration::seconds(10),
                give_up: None,
                keep: Duration::minutes(10),
            },
            AuthorityName::Peers => Self {
                spread: Duration::ZERO,
                settle: Duration::ZERO,
                give_up: Some(Duration::minutes(10)),
                keep: PEER_LIFE.saturating_add(Duration::hours(1)),
            },
        }
    }
}

/// The next step, if it is time for one.
pub(crate) fn next_step(
    authority: &Authority,
    seen: Seen<'_>,
    timings: &Timings,
    now: OffsetDateTime,
) -> Option<Step> {
    let all = &authority.certificates;
    let done = |ca: &Ca| ca.phase == Phase::Retired && ca.since + timings.keep <= now;
    if let Some(at) = all.iter().position(done) {
        return Some(Step::Drop(at));
    }
    if let Some(published) = all.iter().find(|ca| ca.phase == Phase::Published) {
        return may_sign(published, seen, timings, now).then_some(Step::Switch);
    }
    let asked = seen.requested.is_some() && seen.requested != authority.obeyed.as_deref();
    let old = authority
        .signing()
        .and_then(Ca::validity)
        .is_some_and(|(from, until)| now >= from + (until - from) / 2);
    ((asked || old) && all.len() < MOST).then_some(Step::Publish)
}

fn may_sign(published: &Ca, seen: Seen<'_>, timings: &Timings, now: OffsetDateTime) -> bool {
    let known = seen.held_since.is_some_and(|since| since + timings.settle <= now);
    let spread = published.since + timings.spread <= now;
    let late = timings.give_up.is_some_and(|after| published.since + after <= now);
    (known && spread) || late
}

/// The authority after a step. A step that does not fit changes nothing.
pub(crate) fn take(
    mut authority: Authority,
    name: AuthorityName,
    (step, requested): (Step, Option<&str>),
    now: OffsetDateTime,
) -> Result<Authority, IssueError> {
    match step {
        Step::Publish => {
            authority.certificates.push(new_ca(name, Phase::Published, now)?);
            authority.obeyed = requested.map(ToOwned::to_owned).or(authority.obeyed);
        }
        Step::Switch => {
            if authority.certificates.iter().any(|ca| ca.phase == Phase::Published) {
                for ca in &mut authority.certificates {
                    switch(ca, now);
                }
            }
        }
        Step::Drop(at) => {
            let retired = |ca: &Ca| ca.phase == Phase::Retired;
            if authority.certificates.get(at).is_some_and(retired) {
                authority.certificates.remove(at);
            }
        }
    }
    Ok(authority)
}

fn switch(ca: &mut Ca, now: OffsetDateTime) {
    match ca.phase {
        Phase::Published => ca.phase = Phase::Signing,
        Phase::Signing => {
            ca.phase = Phase::Retired;
            ca.key = None;
        }
        Phase::Retired => return,
    }
    ca.since = now;
}

/// An authority that signs at once, for a cluster that has none yet.
pub(crate) fn first(
    name: AuthorityName,
    requested: Option<&str>,
    now: OffsetDateTime,
) -> Result<Authority, IssueError> {
    let mut authority = Authority::new(vec![new_ca(name, Phase::Signing, now)?]);
    authority.obeyed = requested.map(ToOwned::to_owned);
    Ok(authority)
}

fn new_ca(name: AuthorityName, phase: Phase, now: OffsetDateTime) -> Result<Ca, IssueError> {
    let issue::MadeAuthority { certificate, key } =
        issue::authority(&format!("coppice-{}", name.name()), now)?;
    Ok(Ca { phase, since: now, certificate, key: Some(key) })
}

/// What the annotation asks of an authority: the text after `serving=` or `peers=`.
pub(crate) fn requested(annotation: Option<&str>, name: AuthorityName) -> Option<&str> {
    annotation?.split(',').find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        (key.trim() == name.name()).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests;
