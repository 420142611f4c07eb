//! The steps one by one, and under crashes, two leaders and slow readers.

use std::collections::BTreeSet;

use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

fn phases(authority: &Authority) -> Vec<Phase> {
    authority.certificates.iter().map(|ca| ca.phase).collect()
}

/// Takes the step that is due, and says which.
fn turn(
    authority: &mut Authority,
    name: AuthorityName,
    seen: Seen<'_>,
    now: OffsetDateTime,
) -> Option<Step> {
    let step = next_step(authority, seen, &Timings::of(name), now)?;
    *authority = take(authority.clone(), name, (step, seen.requested), now).unwrap();
    Some(step)
}

#[test]
fn a_rotation_goes_through_its_steps_and_no_further() {
    let name = AuthorityName::Peers;
    let mut authority = first(name, None, START).unwrap();
    let asked = Seen { requested: Some("one"), held_since: None };
    assert_eq!(turn(&mut authority, name, Seen::default(), START), None, "all is well");

    assert_eq!(turn(&mut authority, name, asked, START), Some(Step::Publish));
    assert_eq!(phases(&authority), [Phase::Signing, Phase::Published]);
    let soon = START + Duration::minutes(9);
    assert_eq!(turn(&mut authority, name, asked, soon), None, "some agents do not know it yet");
    let known = Seen { held_since: Some(soon), ..asked };
    assert_eq!(turn(&mut authority, name, known, soon), Some(Step::Switch), "all of them do");
    assert_eq!(phases(&authority), [Phase::Retired, Phase::Signing]);
    assert_eq!(authority.certificates[0].key, None, "what is not needed is not kept");

    let later = soon + Duration::hours(73) - Duration::SECOND;
    assert_eq!(turn(&mut authority, name, asked, later), None, "its certificates may live");
    let end = later + Duration::SECOND;
    assert_eq!(turn(&mut authority, name, asked, end), Some(Step::Drop(0)));
    assert_eq!(phases(&authority), [Phase::Signing]);
    assert_eq!(turn(&mut authority, name, asked, end), None, "what was asked for is done");
    let again = Seen { requested: Some("two"), ..asked };
    assert_eq!(turn(&mut authority, name, again, end), Some(Step::Publish), "asked anew");
}

#[test]
fn peers_switch_after_ten_minutes_even_if_some_were_not_heard() {
    let name = AuthorityName::Peers;
    let mut authority = first(name, None, START).unwrap();
    let asked = Seen { requested: Some("x"), held_since: None };
    turn(&mut authority, name, asked, START);
    let late = START + Duration::minutes(10);
    assert_eq!(turn(&mut authority, name, asked, late - Duration::SECOND), None);
    assert_eq!(turn(&mut authority, name, asked, late), Some(Step::Switch));
}

#[test]
fn the_serving_authority_switches_only_when_the_api_server_believes_it() {
    let name = AuthorityName::Serving;
    let mut authority = first(name, None, START).unwrap();
    let asked = Seen { requested: Some("x"), held_since: None };
    turn(&mut authority, name, asked, START);
    let much_later = START + Duration::days(30);
    assert_eq!(turn(&mut authority, name, asked, much_later), None, "pods would be refused");
    let known = |since| Seen { held_since: Some(since), ..asked };
    let now = START + Duration::minutes(1);
    assert_eq!(turn(&mut authority, name, known(START), now), None, "files take two minutes");
    let now = much_later + Duration::seconds(9);
    assert_eq!(turn(&mut authority, name, known(much_later), now), None, "replicas lag");
    let now = much_later + Duration::seconds(10);
    assert_eq!(turn(&mut authority, name, known(much_later), now), Some(Step::Switch));
}

#[test]
fn an_authority_is_replaced_at_half_of_its_life() {
    let mut authority = first(AuthorityName::Serving, None, START).unwrap();
    let half = START + Duration::days(1_826);
    let before = half - Duration::hours(1);
    assert_eq!(turn(&mut authority, AuthorityName::Serving, Seen::default(), before), None);
    let step = turn(&mut authority, AuthorityName::Serving, Seen::default(), half);
    assert_eq!(step, Some(Step::Publish));
}

#[test]
fn only_so_many_certificates_are_believed_at_a_time() {
    let name = AuthorityName::Peers;
    let mut authority = first(name, None, START).unwrap();
    for at in 0..10 {
        let request = at.to_string();
        let seen = Seen { requested: Some(&request), held_since: Some(START) };
        while turn(&mut authority, name, seen, START + Duration::hours(1)).is_some() {}
    }
    assert_eq!(authority.certificates.len(), MOST, "impatience fills no ConfigMap");
}

#[test]
fn a_step_that_does_not_fit_changes_nothing() {
    let name = AuthorityName::Peers;
    let authority = first(name, None, START).unwrap();
    for step in [Step::Switch, Step::Drop(0), Step::Drop(7)] {
        let after = take(authority.clone(), name, (step, None), START).unwrap();
        assert_eq!(after, authority, "{step:?}");
    }
}

#[test]
fn a_request_is_read_from_the_annotation() {
    for (annotation, serving, peers) in [
        (None, None, None),
        (Some("serving=a"), Some("a"), None),
        (Some("serving=a, peers=b"), Some("a"), Some("b")),
        (Some(" peers = 2026-01-01 "), None, Some("2026-01-01")),
        (Some("nonsense"), None, None),
    ] {
        assert_eq!(requested(annotation, AuthorityName::Serving), serving, "{annotation:?}");
        assert_eq!(requested(annotation, AuthorityName::Peers), peers, "{annotation:?}");
    }
}

/// The Secret, and everyone who reads and writes it, each as far behind as it happens.
struct World {
    name: AuthorityName,
    now: OffsetDateTime,
    /// Version and content.
    secret: (u64, Authority),
    /// What two leaders read last.
    leaders: [(u64, Authority); 2],
    /// What each verifier believes, by fingerprint.
    verifiers: [BTreeSet<String>; 3],
    /// Signed leafs: by whom, and until when they are used.
    leafs: Vec<(String, OffsetDateTime)>,
    request: Option<String>,
}

#[derive(Clone, Debug)]
enum Event {
    Reads(usize),
    Turns(usize),
    Learns(usize),
    Signs,
    Waits(i64),
    Asks(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0_usize..2).prop_map(Event::Reads),
        4 => (0_usize..2).prop_map(Event::Turns),
        3 => (0_usize..3).prop_map(Event::Learns),
        2 => Just(Event::Signs),
        2 => (1_i64..4_000).prop_map(Event::Waits),
        1 => (200_000_i64..300_000).prop_map(Event::Waits),
        1 => (0_u8..4).prop_map(Event::Asks),
    ]
}

impl World {
    fn new(name: AuthorityName) -> Self {
        let authority = first(name, None, START).unwrap();
        let secret = (1, authority);
        let believed = prints(&secret.1);
        Self {
            name,
            now: START,
            leaders: [secret.clone(), secret.clone()],
            secret,
            verifiers: [believed.clone(), believed.clone(), believed],
            leafs: Vec::new(),
            request: None,
        }
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Reads(leader) => self.leaders[*leader] = self.secret.clone(),
            Event::Turns(leader) => self.turns(*leader),
            Event::Learns(verifier) => self.verifiers[*verifier] = prints(&self.secret.1),
            Event::Signs => {
                let signer = self.secret.1.signing().unwrap().fingerprint().unwrap();
                self.leafs.push((signer, self.now + self.leaf_life()));
            }
            Event::Waits(seconds) => {
                self.now += Duration::seconds(*seconds);
                // Nobody is behind for longer than that.
                if *seconds > 1_000 {
                    let believed = prints(&self.secret.1);
                    self.verifiers.fill(believed);
                }
            }
            Event::Asks(which) => self.request = Some(which.to_string()),
        }
        self.leafs.retain(|(_, until)| *until > self.now);
    }

    /// Peers use a leaf to its end; a replica replaces its own as soon as another signs.
    fn leaf_life(&self) -> Duration {
        match self.name {
            AuthorityName::Serving => Duration::minutes(9),
            AuthorityName::Peers => PEER_LIFE,
        }
    }

    /// A leader acts on what it read last, and writes only over that.
    fn turns(&mut self, leader: usize) {
        let (version, read) = self.leaders[leader].clone();
        let published = read.certificates.iter().find(|ca| ca.phase == Phase::Published);
        let held = published
            .and_then(Ca::fingerprint)
            .is_some_and(|print| self.verifiers.iter().all(|verifier| verifier.contains(&print)));
        // Held at this moment; the settling time is shown by the other tests.
        let seen = Seen { requested: self.request.as_deref(), held_since: held.then_some(START) };
        let Some(step) = next_step(&read, seen, &Timings::of(self.name), self.now) else { return };
        let next = take(read, self.name, (step, seen.requested), self.now).unwrap();
        if version == self.secret.0 {
            self.secret = (version + 1, next);
            self.leaders[leader] = self.secret.clone();
        }
    }

    fn check(&self) {
        let signing = |ca: &&Ca| ca.phase == Phase::Signing;
        let signers: Vec<_> = self.secret.1.certificates.iter().filter(signing).collect();
        assert_eq!(signers.len(), 1, "exactly one signs");
        assert!(self.secret.1.certificates.len() <= MOST);
        assert!(signers[0].signer().is_some(), "it has its key");
        let believed = prints(&self.secret.1);
        for (by, until) in &self.leafs {
            assert!(believed.contains(by), "{by} is used until {until} and not believed any more");
        }
        if self.name == AuthorityName::Serving {
            let signer = signers[0].fingerprint().unwrap();
            let all = self.verifiers.iter().all(|verifier| verifier.contains(&signer));
            assert!(all, "an API server would refuse the port's certificate");
        }
        let round_trip = super::super::authority::AuthoritySet {
            serving: self.secret.1.clone(),
            peers: self.secret.1.clone(),
        };
        let read = super::super::authority::AuthoritySet::read(&round_trip.write());
        assert_eq!(read, Ok(round_trip), "it can be read back");
    }
}

fn prints(authority: &Authority) -> BTreeSet<String> {
    authority.certificates.iter().filter_map(Ca::fingerprint).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whoever_stops_wherever_every_certificate_in_use_is_believed(
        peers in proptest::bool::ANY,
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let name = if peers { AuthorityName::Peers } else { AuthorityName::Serving };
        let mut world = World::new(name);
        for event in &events {
            world.happens(event);
            world.check();
        }
    }
}
