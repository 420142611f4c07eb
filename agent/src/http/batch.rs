//! `POST /v1/groups/{group}/batch`: many operations, all or none.

use axum::body::Body;
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::response::Response;
use coppice_crdt::{CrdtType, Json};

use super::json::JsonBuffer;
use super::problem::{Answer, Problem};
use super::{Call, body, key, mark, operation};
use crate::replica_task::{KeyedOperation, WriteRequest};

/// The most operations of one batch.
const MAX_OPERATIONS: usize = 1_000;

pub(crate) async fn write(call: Call<'_>, body: Body) -> Answer<Response> {
    let headers = &call.parts.headers;
    let stale = operation::begin(call, &["stale"])?.flag("stale")?;
    if headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH) {
        return Err(Problem::malformed(
            "If-Match and If-None-Match are for writes of one object: leave them out of a batch",
        ));
    }
    let text = body::read_json(headers, body).await?;
    let json = Json::parse(&text).map_err(|error| Problem::json(&error))?;
    let operations = parse(call.group.crdt_type, json)?;
    let keys: Vec<_> = operations.iter().map(|(key, _)| key.clone()).collect();
    let request = WriteRequest { operations, precondition: None, allow_incomplete: stale };
    let answer = call.group.handle.write(request).await;
    let answer = answer.map_err(|error| Problem::submit(&error, true))?;

    let mut json = JsonBuffer::with_capacity(128 * keys.len());
    json.open(b'{');
    json.name("results");
    json.open(b'[');
    for (key, written) in keys.iter().zip(&answer.results) {
        operation::write_result(&mut json, call.group.crdt_type, key, written);
    }
    json.close(b']');
    json.close(b'}');
    Ok(mark(json.into_response(), answer.incomplete))
}

fn parse(crdt_type: CrdtType, mut json: Json) -> Answer<Vec<KeyedOperation>> {
    let shape = "a batch is {\"operations\":[{\"key\":…,\"op\":…},…]}";
    let Some(Json::Array(operations)) = json.take_member("operations") else {
        return Err(Problem::malformed(format!(
            "it has no member \"operations\", an array: {shape}"
        )));
    };
    if let Json::Object(others) = &json {
        match others.first().map(|(name, _)| name.as_str()) {
            None => {}
            Some(name @ ("context" | "ack" | "idempotencyKey")) => {
                return Err(Problem::not_offered(&format!("the member {name:?}")));
            }
            Some(name) => {
                return Err(Problem::malformed(format!("a batch has no member {name:?}: {shape}")));
            }
        }
    }
    if operations.is_empty() {
        return Err(Problem::malformed("the batch is empty: give at least one operation"));
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(Problem::too_large(format!(
            "the batch has {} operations, and the limit is {MAX_OPERATIONS}: split it",
            operations.len()
        )));
    }
    let keyed = |(index, mut json): (usize, Json)| {
        let parsed = match json.take_member("key") {
            Some(Json::String(key)) => key::check(&key).and_then(|()| {
                let operation = operation::parse(crdt_type, &json)?;
                Ok((key.into(), operation))
            }),
            _ => Err(Problem::malformed("each operation of a batch needs \"key\", a string")),
        };
        parsed.map_err(|problem| problem.at(index))
    };
    operations.into_iter().enumerate().map(keyed).collect()
}
