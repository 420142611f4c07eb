//! Which replica leads: one writes, all serve.
//!
//! The leader renews a `Lease` every `PERIOD`. Another takes it over once it has seen
//! no renewal for `DURATION` by its own clock, so clocks need not agree. The leader
//! stops itself `DEADLINE` after the start of its last renewal that worked, which is
//! sooner; each write names the version it replaces, so of two that take over one wins.
//! (As in client-go's leader election; shorter, because a group should not wait half a
//! minute for its operator.)
//!
//! After a SIGKILL of the leader another one leads within `PERIOD + DURATION`, 10 s; after a
//! clean stop within `PERIOD`.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::api_client::{CallError, within};
use crate::names;
use crate::outage::Outage;

/// Between two looks at the lease, or two renewals.
const PERIOD: Duration = Duration::from_secs(2);
/// How long a lease that is not renewed is respected.
const DURATION: Duration = Duration::from_secs(8);
/// How long after its last renewal a leader goes on.
const DEADLINE: Duration = Duration::from_secs(6);
/// How long one call may take: two fit before the deadline.
const CALL: Duration = Duration::from_secs(2);

/// Takes part in the election.
#[derive(Debug)]
pub struct Election {
    api: Api<Lease>,
    me: String,
    /// The lease as this replica last saw or wrote it.
    seen: Option<Lease>,
    /// Since when it is like that.
    unchanged_since: Instant,
    /// Until when this replica leads; absent: it does not.
    leads_until: Option<Instant>,
    outage: Outage,
    leading: watch::Sender<bool>,
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Take it, or renew it.
    Write,
    /// It is another's: look again after this time.
    Wait(Duration),
}

impl Election {
    /// An election in `namespace` for the replica `me`, and whether it leads.
    #[must_use]
    pub fn new(client: Client, namespace: &str, me: &str) -> (Self, watch::Receiver<bool>) {
        let (leading, is_leading) = watch::channel(false);
        let election = Self {
            api: Api::namespaced(client, namespace),
            me: me.to_owned(),
            seen: None,
            unchanged_since: Instant::now(),
            leads_until: None,
            outage: Outage::default(),
            leading,
        };
        (election, is_leading)
    }

    /// Takes part until `stop`, then gives the lease back, if it is held.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let wait = self.round().await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => break,
            }
        }
        let had_led = self.leads_until.take().is_some();
        self.leading.send_replace(false);
        if had_led && let Err(error) = self.give_back().await {
            warn!(%error, "could not give the lease back: the next leader waits until it runs out");
        }
    }

    /// One look and at most one write; how long until the next.
    async fn round(&mut self) -> Duration {
        let started = Instant::now();
        let outcome = self.try_round(started).await;
        self.tell(&outcome);
        let wait = match outcome {
            Ok(wait) => wait,
            Err(error) if error.is_conflict() => {
                // Another wrote it meanwhile: see what.
                self.seen = None;
                PERIOD / 4
            }
            Err(_) => {
                // What is known of it may be old.
                self.seen = self.seen.take().filter(|_| self.leads_until.is_none());
                PERIOD / 2
            }
        };
        if self.leads_until.is_some_and(|until| until <= Instant::now()) {
            warn!("the lease could not be renewed in time: this replica leads no longer");
            self.leads_until = None;
            self.seen = None;
        }
        let leads = self.leads_until.is_some();
        if self.leading.send_if_modified(|led| std::mem::replace(led, leads) != leads) {
            info!(leads, "the election is decided");
        }
        match self.leads_until {
            // Never sleep past the moment from which on another may lead.
            Some(until) => wait.min(until.saturating_duration_since(Instant::now())),
            None => wait,
        }
    }

    /// Says that the API server cannot be asked: once, and that it can again.
    fn tell(&mut self, outcome: &Result<Duration, CallError>) {
        match outcome {
            Err(error) if !error.is_conflict() => {
                if self.outage.failed(error) {
                    let leads = self.leads_until.is_some();
                    warn!(%error, leads, "the lease cannot be read or written; trying again");
                } else {
                    debug!(%error, "the lease could not be read or written");
                }
            }
            _ if self.outage.worked() => info!("the lease can be read and written again"),
            _ => {}
        }
    }

    async fn try_round(&mut self, now: Instant) -> Result<Duration, CallError> {
        // Who leads writes at once: whether it was changed shows when it is written.
        if self.leads_until.is_none() || self.seen.is_none() {
            self.look(now).await?;
        }
        match step(self.seen.as_ref(), &self.me, self.unchanged_since, now) {
            Step::Write => {
                self.write(now).await?;
                self.leads_until = Some(now + DEADLINE);
                Ok(PERIOD)
            }
            Step::Wait(wait) => {
                self.leads_until = None;
                Ok(wait)
            }
        }
    }

    async fn look(&mut self, now: Instant) -> Result<(), CallError> {
        let found = within(self.limit(now), self.api.get_opt(names::LEASE)).await?;
        let version = |lease: &Option<Lease>| {
            lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone())
        };
        if version(&found) != version(&self.seen) {
            self.unchanged_since = now;
        }
        self.seen = found;
        Ok(())
    }

    async fn write(&mut self, now: Instant) -> Result<(), CallError> {
        let wanted = taken(self.seen.clone(), &self.me, Timestamp::now());
        let is_new = wanted.metadata.resource_version.is_none();
        let params = PostParams::default();
        let written = if is_new {
            within(self.limit(now), self.api.create(&params, &wanted)).await?
        } else {
            within(self.limit(now), self.api.replace(names::LEASE, &params, &wanted)).await?
        };
        self.seen = Some(written);
        Ok(())
    }

    /// How long a call may take: a leader must know in time that it is none any more.
    fn limit(&self, now: Instant) -> Duration {
        self.leads_until.map_or(CALL, |until| until.saturating_duration_since(now).min(CALL))
    }

    async fn give_back(&mut self) -> Result<(), CallError> {
        let Some(mut lease) = self.seen.take() else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        // The shortest that is valid.
        spec.lease_duration_seconds = Some(1);
        within(CALL, self.api.replace(names::LEASE, &PostParams::default(), &lease)).await?;
        Ok(())
    }
}

/// What `me` does about a lease that has been as it is since `unchanged_since`.
fn step(lease: Option<&Lease>, me: &str, unchanged_since: Instant, now: Instant) -> Step {
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    if holder.is_empty() || holder == me {
        return Step::Write;
    }
    // What its holder asked for, which may be of another release.
    let asked = spec.and_then(|spec| spec.lease_duration_seconds);
    let duration =
        asked.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DURATION, Duration::from_secs);
    let left = (unchanged_since + duration).saturating_duration_since(now);
    if left.is_zero() { Step::Write } else { Step::Wait(left.min(PERIOD)) }
}

/// The lease, held by `me` from `now` on.
fn taken(lease: Option<Lease>, me: &str, now: Timestamp) -> Lease {
    let new = || {
        let name = Some(names::LEASE.to_owned());
        Lease { metadata: ObjectMeta { name, ..ObjectMeta::default() }, spec: None }
    };
    let Lease { metadata, spec } = lease.unwrap_or_else(new);
    let before = spec.unwrap_or_default();
    let is_mine = before.holder_identity.as_deref() == Some(me);
    let transitions = before.lease_transitions.unwrap_or(0);
    let spec = LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if is_mine { before.acquire_time } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if is_mine { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    };
    Lease { metadata, spec: Some(spec) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> Lease {
        taken(None, holder, Timestamp::UNIX_EPOCH)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_taken_when_it_is_free_own_or_was_not_renewed() {
        let since = Instant::now();
        let after = |seconds| since + Duration::from_secs(seconds);
        assert_eq!(step(None, "a", since, since), Step::Write, "there is none");
        assert_eq!(step(Some(&Lease::default()), "a", since, since), Step::Write, "it is free");
        assert_eq!(step(Some(&held_by("a")), "a", since, after(100)), Step::Write, "it is mine");
        assert_eq!(step(Some(&held_by("b")), "a", since, after(1)), Step::Wait(PERIOD));
        assert_eq!(
            step(Some(&held_by("b")), "a", since, after(7)),
            Step::Wait(Duration::from_secs(1)),
            "the last wait ends with the lease"
        );
        assert_eq!(step(Some(&held_by("b")), "a", since, after(8)), Step::Write);
    }

    #[tokio::test(start_paused = true)]
    async fn the_holder_says_how_long_its_lease_lasts() {
        let since = Instant::now();
        let mut lease = held_by("b");
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(30);
        let at_20 = since + Duration::from_secs(20);
        assert_eq!(step(Some(&lease), "a", since, at_20), Step::Wait(PERIOD));
    }

    #[test]
    fn a_leader_stops_before_another_starts() {
        // It starts at the earliest DURATION after it saw a renewal, and the renewal was
        // begun before it could be seen.
        assert!(DEADLINE < DURATION);
        assert!(CALL * 2 < DEADLINE, "one renewal may fail");
        assert!(PERIOD + DURATION < Duration::from_secs(12), "a leader within 15 s, and a write");
    }

    #[test]
    fn taking_over_counts_and_renewing_does_not() {
        let first = held_by("a");
        let later = Timestamp::from_second(60).unwrap();
        let renewed = taken(Some(first.clone()), "a", later).spec.unwrap();
        assert_eq!(renewed.lease_transitions, Some(1));
        assert_eq!(renewed.acquire_time, first.spec.as_ref().unwrap().acquire_time);
        assert_eq!(renewed.renew_time, Some(MicroTime(later)));
        let taken_over = taken(Some(first), "b", later).spec.unwrap();
        assert_eq!(taken_over.lease_transitions, Some(2));
        assert_eq!(taken_over.acquire_time, Some(MicroTime(later)));
    }
}
