//! Operations as requests, and answers as values that a ledger can judge.

use coppice_crdt::CrdtType;
use serde_json::{Value, json};

use super::cluster::{Objects, group_name};
use crate::client::{Client, ClientError, Response};
use crate::ledger::{Change, Target};

/// The fields that every map of the demo may have, with their types.
pub(super) const FIELDS: [(&str, CrdtType); 4] = [
    ("count", CrdtType::PNCounter),
    ("tags", CrdtType::ORSet),
    ("flag", CrdtType::EWFlag),
    ("text", CrdtType::LWWRegister),
];

/// The type of a target in a group of `crdt_type`.
pub(super) fn type_of(target: &Target, crdt_type: CrdtType) -> CrdtType {
    let Some(field) = &target.field else { return crdt_type };
    let named = FIELDS.iter().find(|(name, _)| name == field);
    named.map_or(crdt_type, |(_, field_type)| *field_type)
}

/// Sends one operation.
pub(super) fn send(
    client: &mut Client,
    crdt_type: CrdtType,
    target: &Target,
    change: &Change,
) -> Result<Response, ClientError> {
    let path = format!("/v1/groups/{}/objects/{}", group_name(crdt_type), target.key);
    match (&target.field, change) {
        (None, Change::Delete) => client.send("DELETE", &path, None),
        (None, Change::Write(value)) => {
            let value = Value::from(value.as_str()).to_string();
            client.send("PUT", &path, Some(("application/json", value.as_bytes())))
        }
        (Some(field), Change::Delete) => {
            client.send_json("POST", &path, &json!({"op": "remove", "field": field}))
        }
        (Some(field), change) => {
            let field_type = type_of(target, crdt_type).name();
            let operation = operation(change);
            let update = json!({
                "op": "update", "field": field, "type": field_type, "operation": operation
            });
            client.send_json("POST", &path, &update)
        }
        (None, change) => client.send_json("POST", &path, &operation(change)),
    }
}

fn operation(change: &Change) -> Value {
    match change {
        Change::Add(by @ 0..) => json!({"op": "increment", "by": by}),
        Change::Add(by) => json!({"op": "decrement", "by": by.unsigned_abs()}),
        Change::Put(element) => json!({"op": "add", "element": element}),
        Change::Take(element) => json!({"op": "remove", "element": element}),
        Change::Enable => json!({"op": "enable"}),
        Change::Disable => json!({"op": "disable"}),
        Change::Write(value) => json!({"op": "set", "value": value}),
        Change::Clear | Change::Delete => json!({"op": "clear"}),
    }
}

/// What an agent shows of a target; `None` if it is absent.
pub(super) fn value_of<'a>(
    objects: &'a Objects,
    target: &Target,
    crdt_type: CrdtType,
) -> Option<&'a Value> {
    let value = objects.get(&target.key)?.get("value")?;
    match &target.field {
        Some(field) => value.get(field),
        // A register's value stands beside its content type.
        None if crdt_type == CrdtType::LWWRegister => value.get("value"),
        None => Some(value),
    }
}
