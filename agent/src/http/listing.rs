//! Many objects at once: listings in the order of keys, and reads by key.

use axum::body::Body;
use axum::response::Response;
use coppice_crdt::{Header, Json};

use super::json::JsonBuffer;
use super::object::{refuse_promises, window};
use super::params::Params;
use super::problem::{Answer, Problem};
use super::value::{self, Cursor, PAGE_BYTES, Window};
use super::{Call, body, key};
use crate::query::{GroupView, ListRequest};

/// The most keys of one `POST …/read`.
const MAX_KEYS: usize = 1_000;

/// The most bytes of an answer to `POST …/read`, which cannot end early.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// `GET /v1/groups/{group}/objects`
pub(crate) async fn list(call: Call<'_>) -> Answer<Response> {
    refuse_promises(call)?;
    let known = ["prefix", "limit", "after", "values", "stale"];
    let params = Params::parse(call.parts.uri.query(), &known)?;
    let prefix = params.get("prefix").unwrap_or_default().to_owned();
    if prefix.len() > key::MAX_BYTES {
        let detail =
            format!("the parameter \"prefix\" has over {} bytes, and no key has", key::MAX_BYTES);
        return Err(Problem::malformed(detail));
    }
    let listing = Listing {
        prefix,
        window: window(&params)?,
        values: params.flag("values")?,
        now_ms: call.api.clock.now_ms(),
    };
    call.walk(move |view| listing.run(view)).await
}

struct Listing {
    prefix: String,
    window: Window,
    values: bool,
    now_ms: u64,
}

impl Listing {
    fn run(&self, view: &dyn GroupView) -> Answer<Response> {
        let after = self.window.after.as_ref().map(|Cursor(last)| last.as_str());
        let (prefix, limit, now_ms) = (self.prefix.as_str(), self.window.limit, self.now_ms);
        let page = view.list(&ListRequest { prefix, after, limit, now_ms })?;
        let mut json = JsonBuffer::with_capacity(64 * page.items.len() + 64);
        json.open(b'{');
        json.name("items");
        json.open(b'[');
        let mut last = None;
        let mut more = page.more;
        for (at, (key, header)) in page.items.iter().enumerate() {
            if self.values {
                let object = view.entries(key);
                let shown = (&Window::default(), now_ms);
                value::write_envelope(&mut json, (key, header), &*object, shown)?;
            } else {
                json.item();
                json.open(b'{');
                json.text("key", key);
                json.close(b'}');
            }
            last = Some(key);
            if json.len() > PAGE_BYTES && at + 1 < page.items.len() {
                more = true;
                break;
            }
        }
        json.close(b']');
        if let Some(last) = last.filter(|_| more) {
            Cursor::write_next(&mut json, last);
        }
        json.close(b'}');
        Ok(json.into_response())
    }
}

/// `POST /v1/groups/{group}/read`
pub(crate) async fn read_many(call: Call<'_>, body: Body) -> Answer<Response> {
    refuse_promises(call)?;
    Params::parse(call.parts.uri.query(), &["stale"])?;
    let text = body::read_json(&call.parts.headers, body).await?;
    let keys = parse_keys(Json::parse(&text).map_err(|error| Problem::json(&error))?)?;
    let now_ms = call.api.clock.now_ms();
    call.walk(move |view| show_many(view, &keys, now_ms)).await
}

fn parse_keys(mut json: Json) -> Answer<Vec<String>> {
    let shape =
        || Problem::malformed("the body is {\"keys\":[…]}, with the keys as strings, and no more");
    let Some(Json::Array(given)) = json.take_member("keys") else { return Err(shape()) };
    if json != Json::Object(Vec::new()) {
        return Err(shape());
    }
    if given.len() > MAX_KEYS {
        return Err(Problem::malformed(format!(
            "{} keys are over the limit of {MAX_KEYS}: read them in parts",
            given.len()
        )));
    }
    let keys = given.into_iter().map(|key| match key {
        Json::String(key) => key::check(&key).map(|()| key),
        _ => Err(shape()),
    });
    keys.collect()
}

/// `{"items":[envelopes],"missing":[keys]}`, in the order of the keys given.
fn show_many(view: &dyn GroupView, keys: &[String], now_ms: u64) -> Answer<Response> {
    let mut json = JsonBuffer::with_capacity(128 * keys.len() + 64);
    json.open(b'{');
    json.name("items");
    json.open(b'[');
    let mut missing = Vec::new();
    for key in keys {
        let object = view.entries(key);
        let window = Window::default();
        let shown = match object.header()?.filter(Header::exists) {
            Some(header) => {
                value::write_envelope(&mut json, (key, &header), &*object, (&window, now_ms))?
            }
            None => false,
        };
        if !shown {
            missing.push(key);
        }
        if json.len() > MAX_ANSWER_BYTES {
            return Err(Problem::too_large(
                "the answer would be over 16 MiB: read fewer keys at once",
            ));
        }
    }
    json.close(b']');
    json.name("missing");
    json.open(b'[');
    for key in missing {
        json.item();
        json.string(key);
    }
    json.close(b']');
    json.close(b'}');
    Ok(json.into_response())
}
