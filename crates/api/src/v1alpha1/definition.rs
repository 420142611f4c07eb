//! The custom resource's definition, as a cluster takes it.

use kube::CustomResourceExt;
use serde_json::Value;

use super::ReplicationGroup;

/// The `CustomResourceDefinition` of [`ReplicationGroup`], always with the same order
/// of fields.
///
/// # Panics
///
/// Never: the types of Kubernetes are JSON.
#[must_use]
pub fn definition() -> Value {
    let definition = serde_json::to_value(ReplicationGroup::crd());
    let mut definition = definition.expect("the types of Kubernetes are JSON");
    tidy(&mut definition);
    definition
}

/// Orders the fields, makes of descriptions the paragraphs that they are in the source, and of whole
/// numbers, which a bound's type holds as floating point, whole numbers, and takes out
/// that a field may be null.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A build may have serde_json keep the order of insertion.
            fields.sort_keys();
            // To leave a field out is the one way to have none.
            fields.remove("nullable");
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|number| number.fract() == 0.0) {
                #[expect(clippy::cast_possible_truncation, reason = "bounds are below 2^53")]
                let whole = whole as i64;
                *value = whole.into();
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
