//! What the API server must accept and refuse, and what it must say.
//!
//! A table without code around it, so that it runs twice: here on the rules alone,
//! without a cluster, and in `tests/tests/crd_rules.rs` against a real API server.

use serde_json::{Value, json};

/// An object, or a change of one.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What is there before, as a merge patch over [`smallest`]; none: it is made.
    pub(crate) before: Option<Value>,
    /// What is asked for, in the same form.
    pub(crate) asked: Value,
    pub(crate) answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    /// By a rule, at this field, with this in its message.
    Rule(&'static str, &'static str),
    /// By the schema's shape, which only the API server looks at.
    Shape(&'static str, &'static str),
}

/// A group with nothing but what it needs.
pub(crate) fn smallest() -> Value {
    json!({
        "apiVersion": "coppice.dev/v1alpha1",
        "kind": "ReplicationGroup",
        "metadata": { "name": "views" },
        "spec": { "selector": { "matchLabels": { "app": "web" } }, "crdt": { "type": "GSet" } },
    })
}

const ID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

pub(crate) fn cases() -> Vec<Case> {
    let all = [names(), ids(), selectors(), types(), settings(), volumes(), agents()];
    all.into_iter().flatten().collect()
}

/// A spec that is asked for anew.
fn made(spec: &Value, answer: Answer) -> Case {
    Case { before: None, asked: json!({ "spec": spec }), answer }
}

/// A spec that is changed.
fn changed(before: &Value, after: &Value, answer: Answer) -> Case {
    let before = Some(json!({ "spec": before }));
    Case { before, asked: json!({ "spec": after }), answer }
}

use Answer::{Accepted, Rule, Shape};

fn names() -> Vec<Case> {
    let named = |name: &str, answer| {
        let asked = json!({ "metadata": { "name": name } });
        Case { before: None, asked, answer }
    };
    let refused = Rule("", "the name is no group's name: use 1 to 40");
    let longest = "a".repeat(40);
    vec![
        named("a", Accepted),
        named("page-views-2", Accepted),
        named(&longest, Accepted),
        named(&format!("{longest}a"), refused),
        named("2-views", refused),
        named("page.views", refused),
    ]
}

fn ids() -> Vec<Case> {
    let at = "spec.id";
    let no_id = "is no UUID in lower case, or all zeroes: use one such as";
    let other = "7d2f0f52-6a6c-4f0e-9a59-0f6a2c1f4b11";
    let stays = Rule("spec", "the id never changes, nor does it come or go");
    vec![
        made(&json!({ "id": ID }), Accepted),
        made(&json!({ "id": "views" }), Rule(at, no_id)),
        made(&json!({ "id": "" }), Rule(at, no_id)),
        made(&json!({ "id": ID.to_uppercase() }), Rule(at, no_id)),
        made(&json!({ "id": "00000000-0000-0000-0000-000000000000" }), Rule(at, no_id)),
        changed(&json!({ "id": ID }), &json!({ "id": ID, "paused": true }), Accepted),
        changed(&json!({ "id": ID }), &json!({ "id": other }), stays),
        changed(&json!({ "id": ID }), &json!({}), stays),
        changed(&json!({}), &json!({ "id": ID }), stays),
    ]
}

fn selectors() -> Vec<Case> {
    let labels = |labels: Value, answer| {
        // A merge patch: without null, `app` would stay.
        let mut labels = labels;
        if labels.get("app").is_none() {
            labels["app"] = Value::Null;
        }
        made(&json!({ "selector": { "matchLabels": labels } }), answer)
    };
    let at = "spec.selector.matchLabels";
    let no_key = Rule(at, "a key is no label's key: use one that your pods carry");
    vec![
        labels(json!({ "app.kubernetes.io/name": "web", "tier": "" }), Accepted),
        labels(json!({ "coppice.dev/inject": "true" }), Accepted),
        labels(json!({ "app/": "web" }), no_key),
        labels(json!({ "a b": "web" }), no_key),
        labels(json!({ "x".repeat(64): "web" }), no_key),
        labels(
            json!({ "coppice.dev/injected": "true" }),
            Rule(at, "coppice.dev/injected is set by Coppice itself"),
        ),
        labels(json!({}), Shape(at, "at least 1 properties")),
        labels(json!({ "app": "a b" }), Shape("spec.selector.matchLabels.app", "should match")),
        made(&json!({ "selector": null }), Shape("spec.selector", "Required value")),
        changed(
            &json!({}),
            &json!({ "selector": { "matchLabels": { "tier": "front" } } }),
            Accepted,
        ),
    ]
}

fn types() -> Vec<Case> {
    let stays = Rule("spec.crdt.type", "the type of a group never changes: make a group with");
    let crdt = |crdt_type: &str| json!({ "crdt": { "type": crdt_type } });
    let known = ["GCounter", "PNCounter", "GSet", "ORSet", "EWFlag", "LWWRegister", "ORMap"];
    let mut cases: Vec<_> =
        known.iter().map(|crdt_type| made(&crdt(crdt_type), Accepted)).collect();
    cases.extend([
        made(&crdt("Counter"), Shape("spec.crdt.type", "Unsupported value: \"Counter\"")),
        made(&json!({ "crdt": null }), Shape("spec.crdt", "Required value")),
        changed(&crdt("ORSet"), &crdt("GSet"), stays),
    ]);
    cases
}

fn settings() -> Vec<Case> {
    let interval = |interval: &str, answer| {
        made(&json!({ "sync": { "interval": interval, "eager": false } }), answer)
    };
    let sync = Rule("spec.sync.interval", "is no duration from 100ms to 1h: write whole numbers");
    let limits = |field: &str, value: Value, answer| {
        let mut limits = json!({});
        limits[field] = value;
        made(&json!({ "limits": limits }), answer)
    };
    let value = Rule("spec.limits.valueBytes", "is no size from 1 to 8Mi: write a whole number");
    let log = Rule("spec.limits.logBytes", "is no size from 1Mi to 1Ti: write a whole number");
    vec![
        interval("100ms", Accepted),
        interval("59m59s999ms", Accepted),
        interval("1h", Accepted),
        interval("99ms", sync),
        interval("1h1ms", sync),
        interval("5 seconds", sync),
        interval("1.5s", sync),
        interval("5s1m", sync),
        interval("999999h", sync),
        made(&json!({ "snapshot": { "interval": "720h", "retain": 0 } }), Accepted),
        made(
            &json!({ "snapshot": { "interval": "721h" } }),
            Rule("spec.snapshot.interval", "is no duration from 1s to 720h"),
        ),
        made(&json!({ "snapshot": { "retain": 1001 } }), Shape("spec.snapshot.retain", "1000")),
        made(
            &json!({ "storage": { "fsyncInterval": "2m" } }),
            Rule("spec.storage.fsyncInterval", "is no duration from 1ms to 1m"),
        ),
        made(
            &json!({ "storage": { "durability": "Sometimes" } }),
            Shape("spec.storage.durability", "Unsupported value: \"Sometimes\""),
        ),
        made(
            &json!({ "limits": { "logAge": "500ms" } }),
            Rule("spec.limits.logAge", "is no duration from 1s to 720h"),
        ),
        limits("valueBytes", json!(4096), Accepted),
        limits("valueBytes", json!("8Mi"), Accepted),
        limits("valueBytes", json!(0), value),
        limits("valueBytes", json!(-1), value),
        limits("valueBytes", json!("9Mi"), value),
        limits("valueBytes", json!("1MB"), value),
        limits("logBytes", json!("1Ti"), Accepted),
        limits("logBytes", json!("1023Ki"), log),
        limits("logBytes", json!("9999999999999999Ti"), log),
        limits("objects", json!(0), Shape("spec.limits.objects", "greater than or equal to 1")),
        changed(
            &json!({}),
            &json!({ "sync": { "interval": "1s" }, "limits": { "logBytes": "8Mi" } }),
            Accepted,
        ),
    ]
}

fn volumes() -> Vec<Case> {
    let at = "spec.storage";
    let storage = |storage: Value, answer| made(&json!({ "storage": storage }), answer);
    let size = Rule("spec.storage.size", "is no size from 64Mi to 64Ti");
    vec![
        storage(json!({ "volume": "PodVolume", "volumeName": "data" }), Accepted),
        storage(json!({ "volume": "EphemeralClaim" }), Accepted),
        storage(json!({ "volume": "EphemeralClaim", "storageClassName": "fast" }), Accepted),
        storage(json!({ "size": "10Gi" }), Accepted),
        storage(json!({ "size": 1 }), size),
        storage(json!({ "size": "65Ti" }), size),
        storage(
            json!({ "volume": "PodVolume" }),
            Rule(at, "PodVolume needs volumeName: name the volume of the pods"),
        ),
        storage(json!({ "volumeName": "data" }), Rule(at, "volumeName is for PodVolume only")),
        storage(
            json!({ "volume": "PodVolume", "volumeName": "coppice-data" }),
            Rule(at, "volumeName is the name of a volume that comes with the sidecar: name one"),
        ),
        storage(json!({ "volume": "PodVolume", "volumeName": "coppice-store" }), Accepted),
        storage(
            json!({ "storageClassName": "fast" }),
            Rule(at, "storageClassName is for EphemeralClaim only"),
        ),
        storage(
            json!({ "volume": "PodVolume", "volumeName": "Data" }),
            Shape("spec.storage.volumeName", "should match"),
        ),
        storage(json!({ "volume": "Disk" }), Shape("spec.storage.volume", "Unsupported value")),
        changed(
            &json!({ "storage": { "volume": "EphemeralClaim" } }),
            &json!({}),
            Rule("spec.storage.volume", "the kind of volume never changes"),
        ),
        changed(&json!({}), &json!({ "storage": { "size": "2Gi" } }), Accepted),
    ]
}

fn agents() -> Vec<Case> {
    let resources = |requests: Value, limits: Value, answer| {
        let resources = json!({ "requests": requests, "limits": limits });
        made(&json!({ "agent": { "resources": resources } }), answer)
    };
    let at = "spec.agent.resources.requests";
    let no_amount = "an amount is negative or none at all: write a number";
    let no_use = "names a resource that an agent has no use for: use cpu, memory and";
    let requests =
        |name: &str, amount: Value, answer| resources(json!({ name: amount }), json!({}), answer);
    let above = Rule("spec.agent.resources", "a request is above its limit, and no pod could be");
    vec![
        resources(json!({ "cpu": "25m", "memory": "64Mi" }), json!({ "cpu": 1 }), Accepted),
        resources(json!({ "memory": "64Mi" }), json!({ "memory": "64Mi" }), Accepted),
        resources(json!({ "cpu": "1100m" }), json!({ "cpu": 1 }), above),
        resources(json!({ "memory": "1Gi" }), json!({ "memory": "1G" }), above),
        requests("ephemeral-storage", json!("1.5Gi"), Accepted),
        requests("cpu", json!("1e-2"), Accepted),
        requests("cpu", json!(0), Accepted),
        requests("cpu", json!("much"), Rule(at, no_amount)),
        requests("cpu", json!(-1), Rule(at, no_amount)),
        requests("memory", json!("-64Mi"), Rule(at, no_amount)),
        requests("memory", json!("1e400"), Rule(at, no_amount)),
        requests("memory", json!("1e1.5"), Rule(at, no_amount)),
        requests("memory", json!("64MiB"), Rule(at, no_amount)),
        requests("memroy", json!("64Mi"), Rule(at, no_use)),
        requests("hugepages-2Mi", json!("2Mi"), Rule(at, no_use)),
        requests("example.com/device", json!(1), Rule(at, no_use)),
        resources(
            json!({}),
            json!({ "cpu": "-1" }),
            Rule("spec.agent.resources.limits", no_amount),
        ),
        resources(json!({}), json!({ "pods": 1 }), Rule("spec.agent.resources.limits", no_use)),
        made(&json!({ "agent": { "logLevel": "debug", "image": "a/b:1" } }), Accepted),
        made(
            &json!({ "agent": { "logLevel": "loud" } }),
            Shape("spec.agent.logLevel", "Unsupported value: \"loud\""),
        ),
        made(&json!({ "agent": { "image": "a b" } }), Shape("spec.agent.image", "should match")),
    ]
}
