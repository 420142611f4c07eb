//! One object written: what each type answers, preconditions, preferences.

use axum::http::StatusCode;
use coppice_crdt::CrdtType;
use serde_json::json;

use super::Fixture;
use crate::http::Phase;
use crate::replica_task::SubmitError;

#[tokio::test]
async fn a_counter_answers_its_value_and_etag() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let answer = fixture.operate("home", r#"{"op":"increment","by":5}"#).await;
    assert_eq!(answer.status, StatusCode::OK);
    let body = answer.json();
    assert_eq!(body["key"], "home");
    assert_eq!(body["type"], "PNCounter");
    assert_eq!(body["result"], 5);
    assert_eq!(body["etag"], answer.header("etag").unwrap());
    assert_eq!(answer.header("etag").unwrap().len(), 34);
    assert_eq!(body.get("version"), None, "absent, not empty");

    let answer = fixture.operate("home", r#"{"op":"decrement"}"#).await;
    assert_eq!(answer.json()["result"], 4);
}

#[tokio::test]
async fn a_counter_beyond_2_to_the_53_stands_beside_its_exact_value() {
    let fixture = Fixture::of(CrdtType::GCounter);
    let answer = fixture.operate("c", r#"{"op":"increment","by":"9223372036854775807"}"#).await;
    assert_eq!(answer.json()["exact"], "9223372036854775807");
    let read = fixture.get_object("c").await.json();
    assert_eq!(read["exact"], "9223372036854775807");
}

#[tokio::test]
async fn a_set_answers_what_changed_and_not_the_set() {
    let fixture = Fixture::of(CrdtType::ORSet);
    let answer = fixture.operate("s", r#"{"op":"add","elements":["x","y"]}"#).await;
    assert_eq!(answer.json()["result"], json!({"changed": true, "size": 2}));
    let answer = fixture.operate("s", r#"{"op":"add","element":"x"}"#).await;
    assert_eq!(answer.json()["result"], json!({"changed": false, "size": 2}));
}

#[tokio::test]
async fn a_client_may_prefer_the_representation() {
    let fixture = Fixture::of(CrdtType::ORSet);
    let headers = ["Content-Type: application/json", "Prefer: wait=1, return=representation"];
    let body = r#"{"op":"add","elements":["y","x"]}"#;
    let answer = fixture.send("POST /v1/groups/g/objects/s", &headers, body).await;
    let expected = json!({"changed": true, "value": ["x", "y"], "size": 2});
    assert_eq!(answer.json()["result"], expected);
    assert_eq!(answer.header("preference-applied"), Some("return=representation"));
}

#[tokio::test]
async fn preferences_are_read_as_their_standard_says() {
    let fixture = Fixture::of(CrdtType::ORSet);
    for (prefer, applied) in [
        ("Prefer: return=\"representation\"", true),
        ("Prefer: Return = representation; later=1", true),
        ("Prefer: return=representation, return=minimal", true),
        ("Prefer: return=minimal, return=representation", false),
        ("Prefer: handling=lenient; return=representation", false),
        ("Prefer: return", false),
    ] {
        let headers = ["Content-Type: application/json", prefer];
        let body = r#"{"op":"add","element":"x"}"#;
        let answer = fixture.send("POST /v1/groups/g/objects/s", &headers, body).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("preference-applied").is_some(), applied, "{prefer}");
        assert_eq!(answer.json()["result"].get("value").is_some(), applied, "{prefer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_stands_is_answered_though_it_cannot_be_shown() {
    let fixture = Fixture::of(CrdtType::ORSet);
    fixture.group.faults.lock().unwrap().views_reopening = 1_000;
    let headers = ["Content-Type: application/json", "Prefer: return=representation"];
    let body = r#"{"op":"add","element":"x"}"#;
    let answer = fixture.send("POST /v1/groups/g/objects/s", &headers, body).await;
    assert_eq!(answer.json()["result"], json!({"changed": true, "size": 1}));
    assert_eq!(answer.header("preference-applied"), None);
}

#[tokio::test]
async fn flags_and_maps_answer_their_values() {
    let flags = Fixture::of(CrdtType::EWFlag);
    assert_eq!(flags.operate("f", r#"{"op":"enable"}"#).await.json()["result"], true);

    let maps = Fixture::of(CrdtType::ORMap);
    let update = |field: &str, of: &str, operation: &str| {
        format!(r#"{{"op":"update","field":"{field}","type":"{of}","operation":{operation}}}"#)
    };
    let answer = maps.operate("m", &update("likes", "PNCounter", r#"{"op":"increment"}"#)).await;
    assert_eq!(answer.json()["result"], json!({"changed": true, "size": 1, "value": 1}));
    let answer = maps.operate("m", &update("t", "ORSet", r#"{"op":"add","element":1}"#)).await;
    let expected = json!({"changed": true, "size": 2, "value": {"changed": true, "size": 1}});
    assert_eq!(answer.json()["result"], expected);
    let answer =
        maps.operate("m", &update("n", "LWWRegister", r#"{"op":"set","value":{"a":1}}"#)).await;
    assert_eq!(answer.json()["result"]["value"], json!({"a": 1}));
}

#[tokio::test]
async fn put_stores_the_bytes_with_their_content_type() {
    let fixture = Fixture::of(CrdtType::LWWRegister);
    let put = |headers: &'static [&'static str], body: &'static str| {
        fixture.send("PUT /v1/groups/g/objects/a/b", headers, body)
    };
    let answer = put(&["Content-Type: text/plain"], "hello").await;
    assert_eq!(answer.json()["result"], json!({"contentType": "text/plain", "base64": "aGVsbG8="}));
    let read = fixture.get_object("a%2Fb").await;
    assert_eq!((read.text(), read.header("content-type")), ("hello", Some("text/plain")));

    put(&["Content-Type: application/json"], "{ \"a\": 1 }").await;
    assert_eq!(fixture.get_object("a/b").await.text(), "{ \"a\": 1 }", "JSON is stored verbatim");

    put(&[], "raw").await;
    let read = fixture.get_object("a/b").await;
    assert_eq!(read.header("content-type"), Some("application/octet-stream"));
}

#[tokio::test]
async fn a_value_with_a_ttl_is_absent_from_its_deadline_on() {
    let fixture = Fixture::of(CrdtType::LWWRegister);
    let answer = fixture.send("PUT /v1/groups/g/objects/k?ttl=30s", &[], "x").await;
    assert_eq!(answer.status, StatusCode::OK);
    fixture.clock.set(super::NOW_MS + 29_999);
    assert_eq!(fixture.get_object("k").await.status, StatusCode::OK);
    fixture.clock.set(super::NOW_MS + 30_000);
    fixture.get_object("k").await.problem(404, "absent");
    let listed = fixture.get("/v1/groups/g/objects").await.json();
    assert_eq!(listed, json!({"items": []}));
}

#[tokio::test]
async fn delete_answers_no_content_and_then_not_found() {
    for crdt_type in CrdtType::ALL {
        let fixture = Fixture::of(crdt_type);
        let create = match crdt_type {
            CrdtType::GCounter | CrdtType::PNCounter => r#"{"op":"increment"}"#,
            CrdtType::GSet | CrdtType::ORSet => r#"{"op":"add","element":1}"#,
            CrdtType::EWFlag => r#"{"op":"disable"}"#,
            CrdtType::LWWRegister => r#"{"op":"set","value":1}"#,
            CrdtType::ORMap => {
                r#"{"op":"update","field":"f","type":"EWFlag","operation":{"op":"enable"}}"#
            }
        };
        fixture.done("k", create).await;
        let answer = fixture.send("DELETE /v1/groups/g/objects/k", &[], "").await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{crdt_type}");
        assert!(answer.body.is_empty());
        let again = fixture.send("DELETE /v1/groups/g/objects/k", &[], "").await;
        again.problem(404, "absent");
        fixture.get_object("k").await.problem(404, "absent");
    }
}

#[tokio::test]
async fn preconditions_guard_writes() {
    let fixture = Fixture::of(CrdtType::LWWRegister);
    let put = async |header: &str, body: &'static str| {
        fixture.send("PUT /v1/groups/g/objects/k", &[header], body).await
    };
    put("If-Match: *", "a").await.problem(412, "precondition-failed");
    let created = put("If-None-Match: *", "a").await;
    assert_eq!(created.status, StatusCode::OK);
    put("If-None-Match: *", "b").await.problem(412, "precondition-failed");
    let etag = created.header("etag").unwrap().to_owned();
    put(&format!("If-Match: W/{etag}"), "b").await.problem(412, "precondition-failed");
    assert_eq!(put(&format!("If-Match: {etag}"), "b").await.status, StatusCode::OK);
    put(&format!("If-Match: {etag}"), "c").await.problem(412, "precondition-failed");
    put("If-Match: nothing", "c").await.problem(400, "malformed");
    assert_eq!(fixture.get_object("k").await.text(), "b");
}

#[tokio::test]
async fn what_the_writer_says_has_a_status_of_its_own() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let limit = SubmitError::LimitReached { what: "objects", setting: "objects", limit: 1 };
    for (error, status, name, retry_after) in [
        (limit, 422, "limit-reached", None),
        (SubmitError::UnitTooLarge { bytes: 17 << 20 }, 413, "too-large", None),
        (SubmitError::Bootstrapping, 503, "bootstrapping", Some("1")),
        (SubmitError::Overloaded { waiting: 9 }, 429, "overloaded", Some("1")),
        (SubmitError::DiskFull, 507, "disk-full", Some("5")),
        (SubmitError::WriterStopped, 503, "store-unavailable", Some("5")),
        (SubmitError::ShuttingDown, 503, "shutting-down", Some("1")),
        (SubmitError::GroupGone, 404, "unknown-group", None),
        (SubmitError::OutcomeUnknown, 503, "outcome-unknown", Some("5")),
    ] {
        fixture.group.faults.lock().unwrap().submit = Some(error);
        let answer = fixture.operate("k", r#"{"op":"increment"}"#).await;
        answer.problem(status, name);
        assert_eq!(answer.header("retry-after"), retry_after, "{name}");
    }
    assert_eq!(fixture.group.writes(), 0);
}

#[tokio::test]
async fn once_stopping_writes_are_refused_and_reads_are_answered() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    fixture.done("k", r#"{"op":"increment"}"#).await;
    fixture.api.lifecycle.enter(Phase::Stopping);
    let write = fixture.operate("k", r#"{"op":"increment"}"#).await;
    write.problem(503, "shutting-down");
    fixture.send("DELETE /v1/groups/g/objects/k", &[], "").await.problem(503, "shutting-down");
    let batch = r#"{"operations":[{"key":"k","op":"increment"}]}"#;
    fixture.post("/v1/groups/g/batch", batch).await.problem(503, "shutting-down");
    assert_eq!(fixture.get_object("k").await.json()["value"], 1);
    assert_eq!(fixture.get("/v1/health").await.status, StatusCode::OK);
}
