//! Turns of leaders against an API server of two objects.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use time::Duration as Span;

use super::*;
use crate::certificates::NotReady;
use crate::certificates::WallClock;
use crate::certificates::authority::Ca;
use crate::certificates::bundle::ObservedBundles;
use crate::certificates::testing::{NOW, authorities_of};

/// The Secret and the webhook configuration, with versions that are checked.
#[derive(Debug, Default)]
struct Cluster {
    secret: Option<Value>,
    webhook: Option<Value>,
    version: u64,
}

type Shared = Arc<Mutex<Cluster>>;

impl Cluster {
    fn answer(&mut self, method: &Method, path: &str, body: &Value) -> Result<Value, StatusCode> {
        let is_secret = path.contains("/secrets");
        if is_secret && *method == Method::POST {
            if self.secret.is_some() {
                return Err(StatusCode::CONFLICT);
            }
            self.secret = Some(body.clone());
        } else if is_secret && *method == Method::PATCH {
            let secret = self.secret.as_mut().ok_or(StatusCode::NOT_FOUND)?;
            if body["metadata"]["resourceVersion"] != secret["metadata"]["resourceVersion"] {
                return Err(StatusCode::CONFLICT);
            }
            json_patch::merge(secret, body);
        } else if *method == Method::PATCH {
            let webhook = self.webhook.as_mut().ok_or(StatusCode::NOT_FOUND)?;
            let patch: json_patch::Patch = serde_json::from_value(body.clone()).unwrap();
            json_patch::patch(webhook, &patch).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
        }
        self.version += 1;
        let object = if is_secret { &mut self.secret } else { &mut self.webhook };
        let object = object.as_mut().ok_or(StatusCode::NOT_FOUND)?;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        Ok(object.clone())
    }
}

/// An API server over `cluster`.
fn client(cluster: &Shared) -> Client {
    let cluster = Arc::clone(cluster);
    let service = tower::service_fn(move |request: Request<Body>| {
        let cluster = Arc::clone(&cluster);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let answer = cluster.lock().unwrap().answer(&parts.method, parts.uri.path(), &body);
            let (status, answer) = match answer {
                Ok(object) => (StatusCode::OK, object),
                Err(status) => (
                    status,
                    json!({
                        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "message": "refused", "reason": "Refused", "code": status.as_u16(),
                    }),
                ),
            };
            let response = Response::builder().status(status);
            Ok::<_, std::io::Error>(
                response.body(Body::from(answer.to_string().into_bytes())).unwrap(),
            )
        }
    });
    Client::new(service, "default")
}

fn cluster() -> Shared {
    let entry = |name: &str| {
        json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "coppice-operator", "namespace": "coppice-system"}},
        })
    };
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "coppice-injector", "resourceVersion": "0"},
        "webhooks": [entry("pods.inject.coppice.dev"), entry("namespaces.inject.coppice.dev")],
    });
    Arc::new(Mutex::new(Cluster { secret: None, webhook: Some(webhook), version: 0 }))
}

/// One replica, which may lead.
struct Replica {
    authorities: Authorities,
    cluster: Shared,
    clock: WallClock,
    held: HeldSince,
}

impl Replica {
    fn new(cluster: &Shared, clock: &WallClock) -> Self {
        Self {
            authorities: authorities_of(client(cluster), clock.clone()),
            cluster: Arc::clone(cluster),
            clock: clock.clone(),
            held: HeldSince::default(),
        }
    }

    /// What the watches would show now.
    fn looks(&self) {
        let (secret, webhook) = {
            let cluster = self.cluster.lock().unwrap();
            (cluster.secret.clone(), cluster.webhook.clone())
        };
        self.authorities.change(|state| {
            let secret = secret.map(|secret| serde_json::from_value(secret).unwrap());
            state.see_secret(secret.as_ref());
            state.bundles = webhook.map(|webhook| {
                let webhook: MutatingWebhookConfiguration =
                    serde_json::from_value(webhook).unwrap();
                ObservedBundles::of(&webhook)
            });
        });
    }

    async fn turns(&mut self) -> Result<bool, TurnError> {
        let state = self.authorities.shared.state.borrow().clone();
        self.authorities.turn(&state, &mut self.held).await
    }

    /// Looks and turns until nothing is due.
    async fn settles(&mut self) {
        for _ in 0..20 {
            self.looks();
            if !self.turns().await.unwrap() {
                return;
            }
        }
        panic!("it never settles");
    }

    fn phases(&self, name: AuthorityName) -> Vec<Phase> {
        let state = self.authorities.shared.state.borrow();
        let loaded = state.loaded.as_ref().unwrap();
        loaded.set.get(name).certificates.iter().map(|ca| ca.phase).collect()
    }

    fn asks(&self, annotation: &str) {
        let mut cluster = self.cluster.lock().unwrap();
        let secret = cluster.secret.as_mut().unwrap();
        secret["metadata"]["annotations"]["coppice.dev/rotate"] = annotation.into();
    }

    fn waits(&self, span: Span) {
        self.clock.set(self.clock.now() + span);
    }
}

#[tokio::test]
async fn from_nothing_a_leader_makes_all_replicas_ready() {
    let (cluster, clock) = (cluster(), WallClock::manual(NOW));
    let mut leader = Replica::new(&cluster, &clock);
    let follower = Replica::new(&cluster, &clock);
    follower.looks();
    assert!(!follower.authorities.is_ready(), "there is nothing to serve with");
    leader.settles().await;
    assert_eq!(leader.authorities.readiness(), Ok(()));
    follower.looks();
    assert_eq!(follower.authorities.readiness(), Ok(()), "it signs its own by the same authority");
    let published = follower.authorities.published().borrow().clone();
    assert_eq!(published, *leader.authorities.published().borrow());
}

#[tokio::test]
async fn the_serving_authority_is_replaced_without_a_replica_that_is_not_believed() {
    let (cluster, clock) = (cluster(), WallClock::manual(NOW));
    let mut leader = Replica::new(&cluster, &clock);
    let follower = Replica::new(&cluster, &clock);
    leader.settles().await;
    leader.asks("serving=one");
    leader.settles().await;
    assert_eq!(leader.phases(AuthorityName::Serving), [Phase::Signing, Phase::Published]);
    assert_eq!(leader.phases(AuthorityName::Peers), [Phase::Signing], "they go by themselves");
    for _ in 0..30 {
        leader.waits(Span::seconds(5));
        leader.settles().await;
        follower.looks();
        for replica in [&leader, &follower] {
            assert_eq!(replica.authorities.readiness(), Ok(()));
        }
    }
    assert_eq!(leader.phases(AuthorityName::Serving), [Phase::Retired, Phase::Signing]);
    leader.waits(Span::minutes(10));
    leader.settles().await;
    assert_eq!(leader.phases(AuthorityName::Serving), [Phase::Signing]);
    assert_eq!(leader.authorities.readiness(), Ok(()));
}

#[tokio::test]
async fn the_peers_authority_goes_on_as_soon_as_all_agents_report_it() {
    let (cluster, clock) = (cluster(), WallClock::manual(NOW));
    let mut leader = Replica::new(&cluster, &clock);
    leader.settles().await;
    leader.asks("peers=one");
    leader.settles().await;
    leader.waits(Span::minutes(1));
    leader.settles().await;
    assert_eq!(leader.phases(AuthorityName::Peers), [Phase::Signing, Phase::Published]);
    let known = {
        let state = leader.authorities.shared.state.borrow();
        let loaded = state.loaded.as_ref().unwrap();
        loaded.set.peers.certificates.iter().filter_map(Ca::fingerprint).collect()
    };
    leader.authorities.agents_hold(known);
    leader.settles().await;
    assert_eq!(leader.phases(AuthorityName::Peers), [Phase::Retired, Phase::Signing]);
}

#[tokio::test]
async fn a_leader_that_does_not_know_it_is_none_any_more_changes_nothing() {
    let (cluster, clock) = (cluster(), WallClock::manual(NOW));
    let mut old = Replica::new(&cluster, &clock);
    let mut new = Replica::new(&cluster, &clock);
    new.looks();
    old.looks();
    new.turns().await.unwrap();
    let error = old.turns().await.unwrap_err();
    assert!(matches!(error, TurnError::Call(error) if error.is_conflict()), "two first ones");
    new.settles().await;
    new.asks("serving=one");
    old.looks();
    new.looks();
    new.turns().await.unwrap();
    let error = old.turns().await.unwrap_err();
    assert!(matches!(error, TurnError::Call(error) if error.is_conflict()), "two second ones");
    new.looks();
    assert_eq!(new.phases(AuthorityName::Serving), [Phase::Signing, Phase::Published]);
}

#[tokio::test]
async fn a_damaged_secret_is_told_and_left_alone() {
    let (cluster, clock) = (cluster(), WallClock::manual(NOW));
    let mut leader = Replica::new(&cluster, &clock);
    leader.settles().await;
    let good = cluster.lock().unwrap().secret.clone();
    let damaged = {
        let mut cluster = cluster.lock().unwrap();
        let secret = cluster.secret.as_mut().unwrap();
        secret["data"]["peers.json"] = serde_json::to_value(ByteString(b"{}".to_vec())).unwrap();
        secret["metadata"]["annotations"]["coppice.dev/rotate"] = "serving=x".into();
        cluster.secret.clone()
    };
    leader.settles().await;
    assert_eq!(cluster.lock().unwrap().secret, damaged, "the keys may still be mended");
    assert_eq!(leader.authorities.readiness(), Ok(()), "what was read before is in force");

    let mut starting = Replica::new(&cluster, &clock);
    starting.settles().await;
    let NotReady::Damaged(why) = starting.authorities.readiness().unwrap_err() else {
        panic!("{:?}", starting.authorities.readiness())
    };
    assert!(why.contains("peers.json"), "{why}");
    assert_eq!(cluster.lock().unwrap().secret, damaged, "nor by one that knows nothing else");

    cluster.lock().unwrap().secret = good;
    starting.settles().await;
    assert_eq!(starting.authorities.readiness(), Ok(()), "and it goes on once it is mended");
}

#[tokio::test]
async fn a_deleted_secret_is_written_back() {
    let (cluster, clock) = (cluster(), WallClock::manual(NOW));
    let mut leader = Replica::new(&cluster, &clock);
    leader.settles().await;
    let data = |cluster: &Shared| cluster.lock().unwrap().secret.clone().unwrap()["data"].clone();
    let before = data(&cluster);
    cluster.lock().unwrap().secret = None;
    leader.settles().await;
    assert_eq!(data(&cluster), before, "else no pod's certificate would hold any more");
}

#[tokio::test]
async fn what_an_upgrade_of_the_chart_takes_away_is_put_back() {
    let (cluster, clock) = (cluster(), WallClock::manual(NOW));
    let mut leader = Replica::new(&cluster, &clock);
    leader.settles().await;
    {
        let mut cluster = cluster.lock().unwrap();
        let webhook = cluster.webhook.as_mut().unwrap();
        webhook["metadata"]["resourceVersion"] = "again".into();
        webhook["webhooks"][1]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    }
    leader.looks();
    assert_eq!(leader.authorities.readiness(), Err(NotReady::NotBelieved));
    leader.settles().await;
    assert_eq!(leader.authorities.readiness(), Ok(()));
}

#[tokio::test]
async fn without_a_webhook_configuration_nobody_is_ready() {
    let (cluster, clock) = (cluster(), WallClock::manual(NOW));
    cluster.lock().unwrap().webhook = None;
    let mut leader = Replica::new(&cluster, &clock);
    leader.settles().await;
    assert_eq!(leader.authorities.readiness(), Err(NotReady::NoWebhook));
}
