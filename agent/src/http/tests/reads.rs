//! Objects read: forms, pages, conditions, many at once.

use axum::http::StatusCode;
use coppice_crdt::CrdtType;
use serde_json::{Value, json};

use super::Fixture;

/// All items of a paged resource, page by page.
async fn pages(fixture: &Fixture, target: &str, items: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let page = fixture.get(&format!("{target}{after}")).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        let page = page.json();
        all.extend(page[items].as_array().unwrap().iter().cloned());
        match page.get("next") {
            Some(next) => after = format!("&after={}", next.as_str().unwrap()),
            None => return all,
        }
    }
}

#[tokio::test]
async fn a_set_is_read_by_page_in_canonical_order() {
    let fixture = Fixture::of(CrdtType::ORSet);
    fixture.done("s", r#"{"op":"add","elements":[3,"b","a",10,{"x":1},[true]]}"#).await;
    let whole = fixture.get_object("s").await.json();
    assert_eq!(whole["value"], json!(["a", "b", 10, 3, [true], {"x": 1}]));
    assert_eq!((&whole["size"], whole.get("next")), (&json!(6), None));

    let paged = pages(&fixture, "/v1/groups/g/objects/s?limit=4", "value").await;
    assert_eq!(json!(paged), whole["value"]);
    let exact = pages(&fixture, "/v1/groups/g/objects/s?limit=3", "value").await;
    assert_eq!(exact.len(), 6, "a full last page has no next");

    let bare = fixture.get_object("s?view=value&limit=2").await;
    assert_eq!(bare.json(), json!(["a", "b"]));
    let next = bare.header("coppice-next").unwrap();
    let behind = fixture.get_object(&format!("s?view=value&after={next}")).await;
    assert_eq!(behind.json(), json!([10, 3, [true], {"x": 1}]));
    assert_eq!(behind.header("coppice-next"), None);
}

#[tokio::test]
async fn size_and_membership_are_answered_without_the_set() {
    let fixture = Fixture::of(CrdtType::GSet);
    fixture.done("s", r#"{"op":"add","elements":["x","y"]}"#).await;
    let size = fixture.get_object("s?size=true").await;
    let etag = size.header("etag").unwrap();
    assert_eq!(size.json(), json!({"key": "s", "type": "GSet", "size": 2, "etag": etag}));
    let present = fixture.get_object("s?element=%22x%22").await.json();
    assert_eq!(present, json!({"key": "s", "type": "GSet", "present": true}));
    assert_eq!(fixture.get_object("s?element=1").await.json()["present"], false);
    fixture.get_object("t?element=1").await.problem(404, "absent");
    fixture.get_object("s?element=x").await.problem_saying((400, "malformed"), "percent-encoded");
}

#[tokio::test]
async fn a_maps_value_is_plain_and_its_fields_can_be_read_alone() {
    let fixture = Fixture::of(CrdtType::ORMap);
    for (field, of, operation) in [
        ("likes", "PNCounter", r#"{"op":"increment","by":3}"#),
        ("tags", "ORSet", r#"{"op":"add","elements":["x","y"]}"#),
        ("on", "EWFlag", r#"{"op":"enable"}"#),
        ("doc", "LWWRegister", r#"{"op":"set","value":{"a":[1]}}"#),
    ] {
        let body =
            format!(r#"{{"op":"update","field":"{field}","type":"{of}","operation":{operation}}}"#);
        fixture.done("m", &body).await;
    }
    let map = fixture.get_object("m").await.json();
    let expected = json!({"doc": {"a": [1]}, "likes": 3, "on": true, "tags": ["x", "y"]});
    assert_eq!((&map["value"], &map["size"]), (&expected, &json!(4)));
    assert_eq!(map.get("conflicts"), None);
    assert_eq!(fixture.get_object("m?view=value").await.json(), expected);

    let first = fixture.get_object("m?limit=2").await.json();
    assert_eq!(first["value"], json!({"doc": {"a": [1]}, "likes": 3}));
    let next = first["next"].as_str().unwrap();
    let second = fixture.get_object(&format!("m?limit=2&after={next}")).await.json();
    assert_eq!(second["value"], json!({"on": true, "tags": ["x", "y"]}));
    assert_eq!(second.get("next"), None);

    let field = fixture.get_object("m?field=likes").await.json();
    assert_eq!(field, json!({"key": "m", "field": "likes", "type": "PNCounter", "value": 3}));
    let field = fixture.get_object("m?field=tags&limit=1").await.json();
    assert_eq!((&field["value"], &field["size"]), (&json!(["x"]), &json!(2)));
    fixture.get_object("m?field=none").await.problem_saying((404, "absent"), "no field \"none\"");
}

#[tokio::test]
async fn a_register_inside_json_names_its_content_type() {
    let fixture = Fixture::of(CrdtType::LWWRegister);
    fixture.done("j", r#"{"op":"set","value":{"b":2,"a":1}}"#).await;
    fixture.send("PUT /v1/groups/g/objects/t", &["Content-Type: text/plain"], "hi").await;
    assert_eq!(
        fixture.get_object("j").await.text(),
        r#"{"a":1,"b":2}"#,
        "set stores canonical JSON"
    );
    let envelope = fixture.get_object("j?view=envelope").await.json();
    let expected = json!({"contentType": "application/json", "value": {"a": 1, "b": 2}});
    assert_eq!(envelope["value"], expected);

    let listed = fixture.get("/v1/groups/g/objects?values=true").await.json();
    assert_eq!(listed["items"][0], envelope);
    assert_eq!(listed["items"][1]["value"], json!({"contentType": "text/plain", "base64": "aGk="}));
}

#[tokio::test]
async fn listings_are_paged_in_key_order_under_a_prefix() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    for key in ["a/2", "a/1", "b", "a/3", "a"] {
        fixture.done(key, r#"{"op":"increment"}"#).await;
    }
    let keys = pages(&fixture, "/v1/groups/g/objects?limit=2", "items").await;
    let keys: Vec<_> = keys.iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a", "a/1", "a/2", "a/3", "b"]);
    let under = pages(&fixture, "/v1/groups/g/objects?limit=1&prefix=a%2F", "items").await;
    assert_eq!(under, [json!({"key": "a/1"}), json!({"key": "a/2"}), json!({"key": "a/3"})]);
    let values = fixture.get("/v1/groups/g/objects?prefix=b&values=true").await.json();
    assert_eq!(values["items"][0]["value"], 1);
    fixture.get("/v1/groups/g/objects?after=%21").await.problem(400, "malformed");
}

#[tokio::test]
async fn many_keys_are_read_at_once() {
    let fixture = Fixture::of(CrdtType::EWFlag);
    fixture.done("a", r#"{"op":"enable"}"#).await;
    let answer = fixture.post("/v1/groups/g/read", r#"{"keys":["x","a"]}"#).await.json();
    assert_eq!(answer["missing"], json!(["x"]));
    assert_eq!(answer["items"][0], fixture.get_object("a").await.json());
    for body in ["{}", r#"{"keys":[1]}"#, r#"{"keys":[""]}"#, r#"{"keys":[],"x":1}"#, "[]"] {
        fixture.post("/v1/groups/g/read", body).await.problem(400, "malformed");
    }
}

#[tokio::test]
async fn an_unchanged_object_need_not_be_sent_again() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    fixture.done("k", r#"{"op":"increment"}"#).await;
    let etag = fixture.get_object("k").await.header("etag").unwrap().to_owned();
    let line = "GET /v1/groups/g/objects/k";
    let fresh = fixture.send(line, &[&format!("If-None-Match: \"x\", {etag}")], "").await;
    assert_eq!((fresh.status, fresh.header("etag")), (StatusCode::NOT_MODIFIED, Some(&*etag)));
    assert!(fresh.body.is_empty());
    fixture.done("k", r#"{"op":"increment"}"#).await;
    let changed = fixture.send(line, &[&format!("If-None-Match: {etag}")], "").await;
    assert_eq!(changed.status, StatusCode::OK);
    let stale = fixture.send(line, &[&format!("If-Match: {etag}")], "").await;
    stale.problem(412, "precondition-failed");
}

#[tokio::test]
async fn a_replica_being_filled_says_so_and_answers_conditions_only_if_told() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    fixture.done("k", r#"{"op":"increment"}"#).await;
    fixture.group.change_status(|status| status.bootstrapping = true);
    let plain = fixture.get_object("k").await;
    assert_eq!(plain.header("coppice-incomplete"), Some("bootstrapping"));
    let line = "GET /v1/groups/g/objects/k";
    fixture.send(line, &["If-None-Match: \"x\""], "").await.problem(503, "bootstrapping");
    let stale = fixture.send(&format!("{line}?stale=true"), &["If-None-Match: \"x\""], "").await;
    assert_eq!(stale.status, StatusCode::OK);
    let absent = fixture.get_object("on-its-way").await;
    absent.problem(404, "absent");
    assert_eq!(absent.header("coppice-incomplete"), Some("bootstrapping"));
    fixture.group.change_status(|status| status.bootstrapping = false);
    assert_eq!(fixture.get_object("absent").await.header("coppice-incomplete"), None);
}

#[tokio::test(start_paused = true)]
async fn reads_wait_a_second_for_a_store_that_is_opened_again() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    fixture.done("k", r#"{"op":"increment"}"#).await;
    fixture.group.faults.lock().unwrap().views_reopening = 50;
    assert_eq!(fixture.get_object("k").await.status, StatusCode::OK);
    fixture.group.faults.lock().unwrap().views_reopening = 1_000;
    fixture.get_object("k").await.problem(503, "store-unavailable");
}

#[tokio::test]
async fn head_has_the_headers_of_get() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    fixture.done("k", r#"{"op":"increment"}"#).await;
    let get = fixture.get_object("k").await;
    let head = fixture.send("HEAD /v1/groups/g/objects/k", &[], "").await;
    assert_eq!(head.header("etag"), get.header("etag"));
    assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
    assert!(head.body.is_empty());

    let etag = format!("If-None-Match: {}", get.header("etag").unwrap());
    let unchanged = fixture.send("HEAD /v1/groups/g/objects/k", &[&etag], "").await;
    assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED);
    assert_eq!(unchanged.header("content-length"), None, "the object has not become empty");
}

#[tokio::test]
async fn the_state_view_shows_the_entries() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    fixture.done("k", r#"{"op":"increment","by":2}"#).await;
    let state = fixture.get_object("k?view=state&limit=1").await.json();
    assert_eq!(state["entries"].as_array().unwrap().len(), 1);
    let next = state["next"].as_str().unwrap();
    let rest = fixture.get_object(&format!("k?view=state&after={next}")).await.json();
    assert_eq!(rest["entries"][0]["cells"][0]["up"], 2);
    assert_eq!(rest.get("next"), None);
}

#[tokio::test]
async fn groups_members_and_sync_tell_who_is_there() {
    let fixture = Fixture::of(CrdtType::ORSet);
    let groups = fixture.get("/v1/groups").await.json();
    assert_eq!(groups["items"][0]["name"], "g");
    assert_eq!(groups["items"][0]["type"], "ORSet");
    assert_eq!(groups["items"][0]["members"], 1);
    assert_eq!(groups["items"][0]["id"], "01010101-0101-0101-0101-010101010101");
    assert_eq!(fixture.get("/v1/groups/g/members").await.json(), json!({"items": [], "seen": {}}));
    let synced = fixture.send("POST /v1/groups/g/sync", &[], "").await.json();
    let exchanged = json!({
        "name": "b", "opening": "0b", "address": "127.0.0.1:5438",
        "result": "exchanged", "sent": 1, "received": 2, "lag": 3,
    });
    assert_eq!(synced, json!({"peers": [exchanged]}), "it waits for 2 s where nothing is said");
    for (wait, result) in [("0s", "unreachable"), ("1m", "timed-out")] {
        let synced = fixture.send(&format!("POST /v1/groups/g/sync?wait={wait}"), &[], "").await;
        assert_eq!(synced.json()["peers"][0]["result"], result);
    }
    for wait in ["61s", "2", "soon", ""] {
        let refused = fixture.send(&format!("POST /v1/groups/g/sync?wait={wait}"), &[], "").await;
        refused.problem(400, "malformed");
    }
}
