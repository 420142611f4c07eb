//! Writes of one object: POST an operation, PUT a value, DELETE.

use axum::body::Body;
use axum::http::header::{ETAG, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use coppice_crdt::{CrdtType, Header, Json, Operation, Outcome, RegisterWrite, parse_ttl};

use super::json::JsonBuffer;
use super::object::refuse_promises;
use super::params::Params;
use super::problem::{Answer, Problem};
use super::value::{self, Window};
use super::{Call, Phase, body, conditions, mark};
use crate::etag::EtagText;
use crate::replica_task::{SubmitError, WriteAnswer, WriteRequest, Written};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `POST /v1/groups/{group}/objects/{key}`
pub(crate) async fn post(call: Call<'_>, key: &str, body: Body) -> Answer<Response> {
    let stale = begin(call, &["stale"])?.flag("stale")?;
    let text = body::read_json(&call.parts.headers, body).await?;
    let json = Json::parse(&text).map_err(|error| Problem::json(&error))?;
    let operation = parse(call.group.crdt_type, &json)?;
    write(call, key, operation, stale).await
}

/// `PUT /v1/groups/{group}/objects/{key}`
pub(crate) async fn put(call: Call<'_>, key: &str, body: Body) -> Answer<Response> {
    if call.group.crdt_type != CrdtType::LWWRegister {
        return Err(method_not_allowed(call));
    }
    let params = begin(call, &["stale", "ttl"])?;
    let ttl_ms = params.get("ttl").map(|text| {
        let mend = "write a duration above zero such as 500ms, 30s, 5m or 1h";
        let malformed = || Problem::malformed(format!("the parameter \"ttl\" is {text:?}: {mend}"));
        parse_ttl(text).ok_or_else(malformed)
    });
    let ttl_ms = ttl_ms.transpose()?;
    let headers = &call.parts.headers;
    let content_type = body::content_type(headers)?.unwrap_or("application/octet-stream");
    let is_json = body::is_json(content_type);
    if is_json {
        body::refuse_other_charset(content_type)?;
    }
    let limit = body::Limit::of_value(call.group.value_bytes);
    let bytes = body::read(headers, body, limit).await?;
    if is_json {
        // What `set` would refuse: readers get both as JSON.
        let canonical = Json::parse(&bytes).and_then(|json| json.canonical());
        canonical.map_err(|error| Problem::json(&error))?;
    }
    let write_it =
        RegisterWrite { content_type: content_type.into(), bytes: (*bytes).into(), ttl_ms };
    write(call, key, Operation::Set(write_it), params.flag("stale")?).await
}

/// `DELETE /v1/groups/{group}/objects/{key}`
pub(crate) async fn delete(call: Call<'_>, key: &str, body: Body) -> Answer<Response> {
    let stale = begin(call, &["stale"])?.flag("stale")?;
    body::refuse(&body)?;
    let answer = submit(call, key, Operation::Delete, stale).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(mark(response, answer.incomplete))
}

/// 405 with what objects of the group's type have.
pub(crate) fn method_not_allowed(call: Call<'_>) -> Problem {
    let is_put = call.parts.method == Method::PUT;
    match (call.group.crdt_type, is_put) {
        (CrdtType::LWWRegister, _) => Problem::method_not_allowed(
            "GET, HEAD, POST, PUT, DELETE",
            "objects have only GET, HEAD, POST, PUT and DELETE",
        ),
        (crdt_type, true) => Problem::method_not_allowed(
            "GET, HEAD, POST, DELETE",
            format!(
                "PUT is for registers, and this group is of type {crdt_type}: POST an operation"
            ),
        ),
        (_, false) => Problem::method_not_allowed(
            "GET, HEAD, POST, DELETE",
            "objects have only GET, HEAD, POST and DELETE",
        ),
    }
}

/// What every write checks before its body is read.
pub(crate) fn begin<'a>(call: Call<'a>, known: &[&str]) -> Answer<Params<'a>> {
    if call.api.lifecycle.phase() == Phase::Stopping {
        return Err(Problem::submit(&SubmitError::ShuttingDown, false));
    }
    refuse_promises(call)?;
    conditions::refuse_times(&call.parts.headers)?;
    Params::parse(call.parts.uri.query(), known)
}

/// The operation that `json` asks for.
pub(crate) fn parse(crdt_type: CrdtType, json: &Json) -> Answer<Operation> {
    for member in ["context", "ack", "idempotencyKey"] {
        if json.member(member).is_some() {
            return Err(Problem::not_offered(&format!("the member {member:?}")));
        }
    }
    Operation::from_json(crdt_type, json).map_err(|error| Problem::operation(&error))
}

async fn submit(
    call: Call<'_>,
    key: &str,
    operation: Operation,
    allow_incomplete: bool,
) -> Answer<WriteAnswer> {
    let request = WriteRequest {
        operations: vec![(key.into(), operation)],
        precondition: conditions::condition(&call.parts.headers)?,
        allow_incomplete,
    };
    let answer = call.group.handle.write(request).await;
    answer.map_err(|error| Problem::submit(&error, false))
}

async fn write(call: Call<'_>, key: &str, operation: Operation, stale: bool) -> Answer<Response> {
    let answer = submit(call, key, operation, stale).await?;
    let incomplete = answer.incomplete;
    let written = answer.results.first();
    let etag = written.and_then(|written| written.header).map(|header| EtagText::new(header.etag));
    let Some(written) = written else {
        // The writer answers each operation.
        return Err(Problem::submit(&SubmitError::OutcomeUnknown, false));
    };
    let represented = match &written.outcome {
        Outcome::Set { changed, .. } | Outcome::Map { changed, .. }
            if wants_representation(&call.parts.headers) =>
        {
            represent(call, key, *changed).await
        }
        _ => None,
    };
    let mut response = represented.unwrap_or_else(|| {
        let mut json = JsonBuffer::with_capacity(160 + key.len());
        write_result(&mut json, call.group.crdt_type, key, written);
        json.into_response()
    });
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag.as_str()).ok()) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(mark(response, incomplete))
}

/// Writes `{"key","type","etag","result"}` of one operation.
pub(crate) fn write_result(
    json: &mut JsonBuffer,
    crdt_type: CrdtType,
    key: &str,
    written: &Written,
) {
    value::write_head(json, key, crdt_type);
    if let Some(header) = &written.header {
        json.text("etag", EtagText::new(header.etag).as_str());
    }
    match &written.outcome {
        Outcome::Counter(value) => value::write_counter(json, "result", *value),
        Outcome::Register(version) => {
            json.name("result");
            value::write_register(json, version);
        }
        outcome => {
            json.name("result");
            write_outcome(json, outcome);
        }
    }
    json.close(b'}');
}

fn write_outcome(json: &mut JsonBuffer, outcome: &Outcome) {
    match outcome {
        Outcome::Counter(value) => json.number(*value),
        Outcome::Flag(value) => json.bool(*value),
        Outcome::Register(version) => value::write_plain_register(json, version),
        Outcome::Set { changed, size } => {
            json.open(b'{');
            write_changed(json, *changed, *size);
            json.close(b'}');
        }
        Outcome::Map { changed, size, field } => {
            json.open(b'{');
            write_changed(json, *changed, *size);
            match field.as_deref() {
                Some(Outcome::Counter(value)) => value::write_counter(json, "value", *value),
                Some(field) => {
                    json.name("value");
                    write_outcome(json, field);
                }
                None => {}
            }
            json.close(b'}');
        }
        Outcome::Deleted | Outcome::Purged(_) => json.raw(b"{\"changed\":true}"),
    }
}

fn write_changed(json: &mut JsonBuffer, changed: bool, size: u64) {
    json.name("changed");
    json.bool(changed);
    json.name("size");
    json.number(size);
}

/// Whether the client asked for the object with the answer (RFC 7240, section 4.2).
fn wants_representation(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut returns = values.flat_map(|value| value.split(',')).filter_map(|preference| {
        // Parameters behind a semicolon are of the preference, and none is known.
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("return").then_some(value.trim().trim_matches('"'))
    });
    // Of several the first counts.
    returns.next() == Some("representation")
}

/// The answer with the first page of the collection as it is now: at least what
/// was just committed, and perhaps more of what others wrote. `None` if the object
/// is gone, or cannot be read: the write stands, and has its plain answer.
async fn represent(call: Call<'_>, key: &str, changed: bool) -> Option<Response> {
    let key = key.to_owned();
    let response = call.walk(move |view| {
        let object = view.entries(&key);
        let header = object.header()?.filter(Header::exists);
        let header = header.ok_or_else(|| Problem::absent(&key))?;
        let mut json = JsonBuffer::with_capacity(1024);
        value::write_head(&mut json, &key, header.crdt_type);
        json.name("result");
        json.open(b'{');
        json.name("changed");
        json.bool(changed);
        value::write_value(&mut json, &header, &*object, &Window::default())?;
        json.close(b'}');
        value::write_tail(&mut json, &header);
        Ok(json.into_response())
    });
    let mut response = response.await.ok()?;
    let applied = HeaderValue::from_static("return=representation");
    response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    Some(response)
}
