//! A pod that is being changed, and the JSON patch that changes it alike.
//!
//! Each change is made here as the API server will make it, so the patch is what was
//! seen to work. It is written by hand rather than as the difference of two pods: what
//! is put at the head of a list stays one operation, and an audit log shows what was
//! meant.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::Value;

/// A pod and the changes made to it so far.
#[derive(Debug)]
pub(super) struct Draft {
    pod: Value,
    operations: Vec<PatchOperation>,
}

/// The pod is not of the shape that the API server gives it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pod cannot be changed at {path}: {problem}")]
pub struct Malformed {
    path: String,
    problem: String,
}

// === impl Draft ===

impl Draft {
    pub(super) const fn new(pod: Value) -> Self {
        Self { pod, operations: Vec::new() }
    }

    /// What is at `path`; none for `null` too, which the API server takes for absent.
    pub(super) fn get(&self, path: &[&str]) -> Option<&Value> {
        let found = path.iter().try_fold(&self.pod, |value, token| match value {
            Value::Array(items) => items.get(token.parse::<usize>().ok()?),
            value => value.get(*token),
        });
        found.filter(|value| !value.is_null())
    }

    /// The list at `path`; empty if there is none.
    pub(super) fn list(&self, path: &[&str]) -> &[Value] {
        self.get(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Adds a field, replaces its value, or puts an item into a list (before the index,
    /// or at the end with `-`), as JSON patch's `add` does.
    pub(super) fn add(&mut self, path: &[&str], value: Value) -> Result<(), Malformed> {
        let operation = PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens(path.iter().copied()),
            value,
        });
        json_patch::patch(&mut self.pod, std::slice::from_ref(&operation)).map_err(|error| {
            Malformed { path: format!("/{}", path.join("/")), problem: error.to_string() }
        })?;
        self.operations.push(operation);
        Ok(())
    }

    /// Adds a field where there is none. Returns whether there was none.
    pub(super) fn add_missing(&mut self, path: &[&str], value: Value) -> Result<bool, Malformed> {
        if self.get(path).is_some() {
            return Ok(false);
        }
        self.add(path, value)?;
        Ok(true)
    }

    /// Appends to the list at `path`, which is made if there is none.
    pub(super) fn append(&mut self, path: &[&str], value: Value) -> Result<(), Malformed> {
        if self.add_missing(path, Value::Array(vec![value.clone()]))? {
            return Ok(());
        }
        self.add(&[path, &["-"]].concat(), value)
    }

    /// Puts in front of the list at `path`, which is made if there is none.
    pub(super) fn prepend(&mut self, path: &[&str], value: Value) -> Result<(), Malformed> {
        if self.add_missing(path, Value::Array(vec![value.clone()]))? {
            return Ok(());
        }
        self.add(&[path, &["0"]].concat(), value)
    }

    /// Sets an entry of the map at `path`, which is made if there is none.
    pub(super) fn set(&mut self, path: &[&str], key: &str, value: Value) -> Result<(), Malformed> {
        self.add_missing(path, Value::Object(serde_json::Map::new()))?;
        self.add(&[path, &[key]].concat(), value)
    }

    /// All changes.
    pub(super) fn into_patch(self) -> Patch {
        Patch(self.operations)
    }
}
