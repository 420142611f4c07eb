//! Reads of one object.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use axum::response::Response;
use coppice_crdt::query::{self, FieldValue};
use coppice_crdt::{CrdtType, Element, Header, Version};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::conditions::{self, Verdict};
use super::json::JsonBuffer;
use super::params::Params;
use super::problem::{Answer, Kind, Problem, not_of_this_type};
use super::value::{self, Cursor, Object, Window};
use super::{Call, state};
use crate::etag::EtagText;
use crate::query::GroupView;
use crate::replica_task::Precondition;

const PARAMS: [&str; 7] = ["view", "size", "element", "field", "limit", "after", "stale"];

/// Where the next page begins, for answers that are a bare value.
const NEXT: HeaderName = HeaderName::from_static("coppice-next");

/// What of the object is asked for.
#[derive(Debug)]
enum Wanted {
    /// The type's own form: a register's bytes, else the envelope.
    Plain,
    Value,
    Envelope,
    State,
    Size,
    Element(Element),
    Field(String),
}

/// One read, ready to run on any thread.
#[derive(Debug)]
struct Read {
    key: String,
    wanted: Wanted,
    window: Window,
    condition: Option<Precondition>,
    now_ms: u64,
}

/// `GET /v1/groups/{group}/objects/{key}`
pub(crate) async fn read(call: Call<'_>, key: &str) -> Answer<Response> {
    refuse_promises(call)?;
    let params = Params::parse(call.parts.uri.query(), &PARAMS)?;
    let crdt_type = call.group.crdt_type;
    let condition = conditions::condition(&call.parts.headers)?;
    if condition.is_some() && call.bootstrapping() && !params.flag("stale")? {
        return Err(Problem::submit(&crate::replica_task::SubmitError::Bootstrapping, false));
    }
    let read = Read {
        key: key.to_owned(),
        wanted: wanted(&params, crdt_type)?,
        window: window(&params)?,
        condition,
        now_ms: call.api.clock.now_ms(),
    };
    let walks = match read.wanted {
        Wanted::Plain | Wanted::Value | Wanted::Envelope => {
            crdt_type.is_set() || crdt_type == CrdtType::ORMap
        }
        Wanted::State | Wanted::Field(_) => true,
        Wanted::Size | Wanted::Element(_) => false,
    };
    if walks { call.walk(move |view| read.run(view)).await } else { read.run(&*call.view().await?) }
}

/// Refuses headers whose promise this version cannot keep.
pub(crate) fn refuse_promises(call: Call<'_>) -> Answer<()> {
    for name in ["idempotency-key", "coppice-min-version", "coppice-version", "coppice-context"] {
        if call.parts.headers.contains_key(name) {
            return Err(Problem::not_offered(&format!("the header {name}")));
        }
    }
    Ok(())
}

pub(crate) fn window(params: &Params<'_>) -> Answer<Window> {
    let after = params.get("after").map(Cursor::parse).transpose()?;
    Ok(Window { after, limit: params.limit()? })
}

fn wanted(params: &Params<'_>, crdt_type: CrdtType) -> Answer<Wanted> {
    let is_collection = crdt_type.is_set() || crdt_type == CrdtType::ORMap;
    let mut wanted = Vec::with_capacity(1);
    match params.get("view") {
        None => {}
        Some("value") => wanted.push(Wanted::Value),
        Some("envelope") => wanted.push(Wanted::Envelope),
        Some("state") => wanted.push(Wanted::State),
        Some(other) => {
            return Err(Problem::malformed(format!(
                "the parameter \"view\" is {other:?}: write value, envelope or state"
            )));
        }
    }
    let pages = ["limit", "after"].into_iter().any(|name| params.get(name).is_some());
    if pages && !is_collection && params.get("view") != Some("state") {
        return Err(not_of_this_type("pages", crdt_type));
    }
    if params.flag("size")? {
        wanted.push(Wanted::Size);
        if !is_collection {
            return Err(not_of_this_type("size", crdt_type));
        }
    }
    if let Some(text) = params.get("element") {
        if !crdt_type.is_set() {
            return Err(not_of_this_type("elements", crdt_type));
        }
        let element = Element::parse(text.as_bytes()).map_err(|error| {
            let mend = "it is percent-encoded JSON, as in ?element=%22x%22";
            let kind = if error.status() == 413 { Kind::TooLarge } else { Kind::Malformed };
            Problem::new(kind, format!("the parameter \"element\": {error}; {mend}"))
        })?;
        wanted.push(Wanted::Element(element));
    }
    if let Some(field) = params.get("field") {
        if crdt_type != CrdtType::ORMap {
            return Err(not_of_this_type("fields", crdt_type));
        }
        wanted.push(Wanted::Field(field.to_owned()));
    }
    match (wanted.pop(), wanted.is_empty()) {
        (None, _) => Ok(Wanted::Plain),
        (Some(wanted), true) => Ok(wanted),
        (Some(_), false) => Err(Problem::malformed("give one of view, size, element and field")),
    }
}

impl Read {
    fn run(&self, view: &dyn GroupView) -> Answer<Response> {
        let object = view.entries(&self.key);
        let object: &Object<'_> = &*object;
        let header = object.header()?.filter(Header::exists);
        let Some(header) = header else { return Err(self.absent(view)) };
        let register = match header.crdt_type {
            CrdtType::LWWRegister => {
                let version = query::register(object, self.now_ms)?;
                Some(version.ok_or_else(|| Problem::absent(&self.key))?)
            }
            _ => None,
        };
        let etag = EtagText::new(header.etag);
        let mut response = match conditions::judge(self.condition.as_ref(), &etag)? {
            Verdict::Proceed => self.show(&header, object, register)?,
            Verdict::NotModified => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            }
        };
        if let Ok(etag) = HeaderValue::from_str(etag.as_str()) {
            response.headers_mut().insert(ETAG, etag);
        }
        Ok(response)
    }

    fn show(
        &self,
        header: &Header,
        object: &Object<'_>,
        register: Option<Version>,
    ) -> Answer<Response> {
        let mut json = JsonBuffer::with_capacity(192 + self.key.len());
        match (&self.wanted, register) {
            (Wanted::Plain | Wanted::Value, Some(version)) => return Ok(bytes(version)),
            (Wanted::Envelope, Some(version)) => {
                value::write_head(&mut json, &self.key, header.crdt_type);
                json.name("value");
                value::write_register(&mut json, &version);
                value::write_tail(&mut json, header);
            }
            (Wanted::Plain | Wanted::Envelope, None) => {
                value::write_head(&mut json, &self.key, header.crdt_type);
                value::write_value(&mut json, header, object, &self.window)?;
                value::write_tail(&mut json, header);
            }
            (Wanted::Value, None) => {
                let next = value::write_bare(&mut json, header, object, &self.window)?;
                let mut response = json.into_response();
                if let Some(next) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
                    response.headers_mut().insert(NEXT, next);
                }
                return Ok(response);
            }
            (Wanted::State, _) => {
                value::write_head(&mut json, &self.key, header.crdt_type);
                state::write(&mut json, object, &self.window)?;
                value::write_tail(&mut json, header);
            }
            (Wanted::Size, _) => {
                value::write_head(&mut json, &self.key, header.crdt_type);
                json.name("size");
                json.number(query::size(object)?.unwrap_or(0));
                value::write_tail(&mut json, header);
            }
            (Wanted::Element(element), _) => {
                value::write_head(&mut json, &self.key, header.crdt_type);
                json.name("present");
                json.bool(query::contains(object, element)?.unwrap_or(false));
                json.close(b'}');
            }
            (Wanted::Field(name), _) => self.show_field(&mut json, object, name)?,
        }
        Ok(json.into_response())
    }

    /// 404; where the path seems to lead into an object, with how its parts are read.
    fn absent(&self, view: &dyn GroupView) -> Problem {
        let absent = Problem::absent(&self.key);
        let Some((object, part)) = self.key.rsplit_once('/') else { return absent };
        let header = view.entries(object).header().ok().flatten().filter(Header::exists);
        let part = utf8_percent_encode(part, NON_ALPHANUMERIC);
        let (of, read_with) = match header.map(|header| header.crdt_type) {
            Some(CrdtType::ORMap) => ("a field of the map", format!("?field={part}")),
            Some(CrdtType::GSet | CrdtType::ORSet) => {
                ("an element of the set", format!("?element=%22{part}%22"))
            }
            _ => return absent,
        };
        absent.adding(&format!("; {of} {object:?} is read at that key with {read_with}"))
    }

    fn show_field(&self, json: &mut JsonBuffer, object: &Object<'_>, name: &str) -> Answer<()> {
        let absent = || {
            let detail = format!("the map {:?} has no field {name:?}", self.key);
            Problem::new(Kind::Absent, detail)
        };
        let field = query::field(object, name)?.ok_or_else(absent)?;
        json.open(b'{');
        json.text("key", &self.key);
        json.text("field", name);
        json.text("type", field.crdt_type.name());
        match &field.value {
            FieldValue::Counter(value) => value::write_counter(json, "value", *value),
            FieldValue::Set { size, .. } => {
                let after = value::element_after(&self.window)?;
                let limit = self.window.limit;
                let page = query::field_elements(object, name, after.as_ref(), limit)?;
                value::write_elements(json, page, *size);
            }
            plain => {
                json.name("value");
                value::write_field_value(json, plain);
            }
        }
        if !field.conflicts.is_empty() {
            json.name("conflicts");
            value::write_types(json, &field.conflicts);
        }
        json.close(b'}');
        Ok(())
    }
}

/// A register's bytes as they were stored.
fn bytes(version: Version) -> Response {
    let mut response = Response::new(Body::from(version.bytes.into_vec()));
    // What is stored was a header once; what a damaged peer sent may be none.
    let content_type = HeaderValue::from_str(&version.content_type);
    let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
