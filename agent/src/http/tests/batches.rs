//! Batches: all or none.

use axum::http::StatusCode;
use coppice_crdt::CrdtType;
use serde_json::json;

use super::Fixture;

const BATCH: &str = "/v1/groups/g/batch";

#[tokio::test]
async fn a_batch_answers_each_operation() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let body = r#"{"operations":[{"key":"a","op":"increment","by":2},{"key":"a","op":"decrement"},
                   {"key":"b","op":"increment"},{"key":"b","op":"delete"}]}"#;
    let answer = fixture.post(BATCH, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let results = answer.json()["results"].clone();
    let figures: Vec<_> = (0..4).map(|at| results[at]["result"].clone()).collect();
    assert_eq!(figures, [json!(2), json!(1), json!(1), json!({"changed": true})]);
    assert_eq!(results[3].get("etag"), None, "the object is gone");
    assert_eq!(fixture.get_object("a").await.json()["value"], 1);
    fixture.get_object("b").await.problem(404, "absent");
}

#[tokio::test]
async fn a_refused_batch_names_the_operation_and_changes_nothing() {
    let fixture = Fixture::of(CrdtType::ORSet);
    let first = r#"{"key":"a","op":"add","element":1}"#;
    for (second, status, name) in [
        (r#"{"key":"b","op":"remove","element":1}"#, 404, "absent"),
        (r#"{"key":"b","op":"increment"}"#, 422, "not-of-this-type"),
        (r#"{"key":"b","op":"add"}"#, 400, "malformed"),
        (r#"{"key":"","op":"add","element":1}"#, 400, "malformed"),
        (r#"{"key":"a/..","op":"add","element":1}"#, 400, "malformed"),
        (r#"{"op":"add","element":1}"#, 400, "malformed"),
        (r#"{"key":1,"op":"add","element":1}"#, 400, "malformed"),
        (r#"{"key":"b","op":"add","element":9007199254740993}"#, 400, "malformed"),
        (r#"{"key":"b","op":"remove","element":1,"context":"x"}"#, 400, "not-offered"),
    ] {
        let body = format!(r#"{{"operations":[{first},{second}]}}"#);
        let problem = fixture.post(BATCH, &body).await.problem(status, name);
        assert_eq!(problem["index"], 1, "{second}");
    }
    assert_eq!(fixture.group.writes(), 0);
}

#[tokio::test]
async fn a_batch_has_a_shape_and_a_limit() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    for body in
        ["{}", "[]", r#"{"operations":{}}"#, r#"{"operations":[]}"#, r#"{"operations":[1],"x":1}"#]
    {
        fixture.post(BATCH, body).await.problem(400, "malformed");
    }
    let context = r#"{"operations":[{"key":"a","op":"increment"}],"context":"t"}"#;
    fixture.post(BATCH, context).await.problem(400, "not-offered");

    let one = r#"{"key":"a","op":"increment"},"#;
    let many = |count| format!(r#"{{"operations":[{}]}}"#, one.repeat(count).trim_end_matches(','));
    fixture.post(BATCH, &many(1_001)).await.problem(413, "too-large");
    assert_eq!(fixture.group.writes(), 0);
    assert_eq!(fixture.post(BATCH, &many(1_000)).await.status, StatusCode::OK);

    let headers = ["Content-Type: application/json", "If-Match: *"];
    let answer = fixture.send("POST /v1/groups/g/batch", &headers, many(1)).await;
    answer.problem_saying((400, "malformed"), "writes of one object");
}
