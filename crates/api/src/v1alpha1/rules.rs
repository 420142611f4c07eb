//! What a schema cannot say by shape: rules in CEL, each with what to do instead.
//!
//! The API server evaluates them when an object is made or changed; those that name
//! `oldSelf` only when it is changed. Every rule has its cases in
//! `tests/crd_rules/cases.rs` of this crate, which run without a cluster and, by
//! `tests/tests/crd_rules.rs`, against a real API server.

use serde_json::{Value, json};

use crate::cluster::SIDECAR_VOLUMES;

/// Group names, and so object names: a label's value and part of a `Service`'s name.
pub(super) const NAME: &str = "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$";
/// UUIDs as Kubernetes writes them.
pub(super) const UUID: &str = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";
/// What `TextDuration` takes, with numbers that a 64-bit duration can hold.
pub(super) const DURATION: &str = "^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$";
/// What `ByteSize` takes.
pub(super) const SIZE: &str = "^[0-9]{1,16}(Ki|Mi|Gi|Ti)?$";
/// What Kubernetes takes for a container's amount of something: a quantity that is not
/// negative, its exponent one that fits eight bits.
pub(super) const AMOUNT: &str =
    "^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$";
/// What a container may ask for. Of huge pages and devices an agent has no use, and with
/// one of them alone no pod could be made.
pub(super) const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// One entry of `x-kubernetes-validations`.
fn rule(rule: impl Into<String>, message: impl Into<String>) -> Value {
    json!({ "rule": rule.into(), "message": message.into() })
}

/// On the whole object: the name is the group's.
pub(super) fn name() -> kube::core::Rule {
    kube::core::Rule::new(format!("self.metadata.name.matches('{NAME}')")).message(
        "the name is no group's name: use 1 to 40 lower-case letters, digits and hyphens, a letter \
         first, no hyphen last",
    )
}

/// On the spec: what decides whose data this is.
pub(super) fn id_stays() -> Value {
    json!([rule(
        "has(self.id) == has(oldSelf.id) && (!has(self.id) || self.id == oldSelf.id)",
        "the id never changes, nor does it come or go, since it says whose data this is: delete the \
         group and make it anew with the id that you want",
    )])
}

/// On an id that is given.
pub(super) fn id() -> Value {
    json!([rule(
        format!("self.matches('{UUID}') && self != '00000000-0000-0000-0000-000000000000'"),
        "is no UUID in lower case, or all zeroes: use one such as \
         6ba7b810-9dad-11d1-80b4-00c04fd430c8, or leave it out",
    )])
}

/// On the labels to match.
pub(super) fn match_labels() -> Value {
    json!([
        rule(
            "self.all(key, !format.qualifiedName().validate(key).hasValue())",
            "a key is no label's key: use one that your pods carry, as in app or example.com/app",
        ),
        rule(
            "!('coppice.dev/injected' in self)",
            "coppice.dev/injected is set by Coppice itself: select by the labels of your app",
        ),
    ])
}

/// On the CRDT type.
pub(crate) fn type_stays() -> Value {
    json!([rule(
        "self == oldSelf",
        "the type of a group never changes: make a group with another name, and write the data to it",
    )])
}

/// Words as a list in CEL.
fn list(words: &[&str]) -> String {
    format!("['{}']", words.join("', '"))
}

/// On the storage.
pub(super) fn volume() -> Value {
    json!([
        rule(
            format!("!has(self.volumeName) || !(self.volumeName in {})", list(&SIDECAR_VOLUMES)),
            "volumeName is the name of a volume that comes with the sidecar: name one that the pods \
             declare themselves",
        ),
        rule(
            "self.volume != 'PodVolume' || has(self.volumeName)",
            "PodVolume needs volumeName: name the volume of the pods that keeps the data",
        ),
        rule(
            "self.volume == 'PodVolume' || !has(self.volumeName)",
            "volumeName is for PodVolume only: leave it out, or make a group with volume: PodVolume",
        ),
        rule(
            "self.volume == 'EphemeralClaim' || !has(self.storageClassName)",
            "storageClassName is for EphemeralClaim only: leave it out, or make a group with volume: \
             EphemeralClaim",
        ),
    ])
}

/// On the kind of volume.
pub(super) fn volume_stays() -> Value {
    json!([rule(
        "self == oldSelf",
        "the kind of volume never changes, since running pods keep theirs: make a group with another \
         name, or delete this one and make it anew with spec.id set to status.id",
    )])
}

/// On a duration.
pub(super) fn duration_between(least: &str, most: &str) -> Value {
    json!([rule(
        format!(
            "self.matches('{DURATION}') && self != '' && duration(self) >= duration('{least}') && \
             duration(self) <= duration('{most}')"
        ),
        format!(
            "is no duration from {least} to {most}: write whole numbers with h, m, s or ms, as in 5s, \
             100ms or 1h30m"
        ),
    )])
}

/// On a size, which is a number or text.
pub(super) fn size_between(least: &str, most: &str) -> Value {
    json!([rule(
        format!(
            "string(self).matches('{SIZE}') && quantity(string(self)).compareTo(quantity('{least}')) \
             >= 0 && quantity(string(self)).compareTo(quantity('{most}')) <= 0"
        ),
        format!(
            "is no size from {least} to {most}: write a whole number of bytes, or one with Ki, Mi, Gi \
             or Ti, as in 64Mi"
        ),
    )])
}

/// On the agent's requests, and on its limits: what would make every pod of the group
/// invalid.
pub(super) fn amounts() -> Value {
    json!([
        rule(
            format!("self.all(name, name in {})", list(&RESOURCES)),
            "names a resource that an agent has no use for: use cpu, memory and ephemeral-storage",
        ),
        rule(
            format!("self.all(name, string(self[name]).matches('{AMOUNT}'))"),
            "an amount is negative or none at all: write a number, with a unit if it needs one, as in \
             100m for cpu and 64Mi for memory",
        ),
    ])
}

/// On the agent's resources: what would make every pod of the group invalid.
pub(super) fn resources() -> Value {
    // An amount that is none is told where it stands.
    let compared = "!isQuantity(string(self.requests[name])) || \
         !isQuantity(string(self.limits[name])) || \
         quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0";
    json!([rule(
        format!(
            "!has(self.requests) || !has(self.limits) || \
             self.requests.all(name, !(name in self.limits) || {compared})"
        ),
        "a request is above its limit, and no pod could be made: raise the limit, or lower the request",
    )])
}
