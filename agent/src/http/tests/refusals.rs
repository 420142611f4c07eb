//! Bad input: each gets its status, says what to do, and changes nothing.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Request;
use coppice_crdt::CrdtType;
use hyper::body::Frame;

use super::Fixture;

#[tokio::test]
async fn bad_operations_are_refused() {
    for (crdt_type, body, problem) in [
        (CrdtType::PNCounter, "{", (400, "malformed")),
        (CrdtType::PNCounter, "", (400, "malformed")),
        (CrdtType::PNCounter, "\u{feff}{}", (400, "malformed")),
        (CrdtType::PNCounter, "[]", (400, "malformed")),
        (CrdtType::PNCounter, "{}", (400, "malformed")),
        (CrdtType::PNCounter, r#"{"op":5}"#, (400, "malformed")),
        (CrdtType::PNCounter, r#"{"op":"increment","op":"decrement"}"#, (400, "malformed")),
        (CrdtType::PNCounter, r#"{"op":"increment","by":1.5}"#, (400, "malformed")),
        (CrdtType::PNCounter, r#"{"op":"increment","b":2}"#, (400, "malformed")),
        (CrdtType::PNCounter, r#"{"op":"increment"} x"#, (400, "malformed")),
        (
            CrdtType::PNCounter,
            r#"{"op":"increment","by":9007199254740993}"#,
            (422, "limit-reached"),
        ),
        (
            CrdtType::PNCounter,
            r#"{"op":"increment","by":"9223372036854775808"}"#,
            (422, "limit-reached"),
        ),
        (CrdtType::PNCounter, r#"{"op":"add","element":1}"#, (422, "not-of-this-type")),
        (CrdtType::GCounter, r#"{"op":"increment","by":-1}"#, (422, "not-of-this-type")),
        (CrdtType::GCounter, r#"{"op":"increment","by":"-0"}"#, (422, "not-of-this-type")),
        (CrdtType::GCounter, r#"{"op":"increment","by":"+1"}"#, (400, "malformed")),
        (CrdtType::GCounter, r#"{"op":"decrement"}"#, (422, "not-of-this-type")),
        (CrdtType::GSet, r#"{"op":"remove","element":1}"#, (422, "not-of-this-type")),
        (CrdtType::GSet, r#"{"op":"add","element":"\ud800"}"#, (400, "malformed")),
        (CrdtType::GSet, r#"{"op":"add","element":9007199254740993}"#, (400, "malformed")),
        (CrdtType::GSet, r#"{"op":"add","element":1e400}"#, (400, "malformed")),
        (CrdtType::ORSet, r#"{"op":"remove","element":1}"#, (404, "absent")),
        (CrdtType::ORSet, r#"{"op":"clear","context":"token"}"#, (400, "not-offered")),
        (CrdtType::LWWRegister, r#"{"op":"set","value":1,"ttl":"soon"}"#, (400, "malformed")),
        (
            CrdtType::ORMap,
            r#"{"op":"update","field":"f","type":"Nothing","operation":{}}"#,
            (400, "malformed"),
        ),
        (
            CrdtType::ORMap,
            r#"{"op":"update","field":"f","type":"ORMap","operation":{"op":"clear"}}"#,
            (422, "not-of-this-type"),
        ),
        (
            CrdtType::ORMap,
            r#"{"op":"update","field":"f","type":"LWWRegister","operation":{"op":"set","value":1,"ttl":"1s"}}"#,
            (422, "not-of-this-type"),
        ),
    ] {
        let fixture = Fixture::of(crdt_type);
        fixture.operate("k", body).await.problem(problem.0, problem.1);
        assert_eq!(fixture.group.writes(), 0, "{body}");
    }
}

#[tokio::test]
async fn deep_json_and_large_elements_are_refused() {
    let fixture = Fixture::of(CrdtType::ORSet);
    let deep = format!(r#"{{"op":"add","element":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    fixture.operate("k", &deep).await.problem_saying((400, "malformed"), "deeper than 64");
    let large = format!(r#"{{"op":"add","element":"{}"}}"#, "x".repeat(4095));
    fixture.operate("k", &large).await.problem(413, "too-large");
    assert_eq!(fixture.group.writes(), 0);
}

#[tokio::test]
async fn a_field_of_another_type_is_a_conflict() {
    let fixture = Fixture::of(CrdtType::ORMap);
    let update = |of: &str, op: &str| {
        format!(r#"{{"op":"update","field":"f","type":"{of}","operation":{{"op":"{op}"}}}}"#)
    };
    fixture.done("m", &update("EWFlag", "enable")).await;
    fixture.operate("m", &update("PNCounter", "increment")).await.problem(409, "conflict");
}

#[tokio::test]
async fn a_counter_at_its_limit_is_refused() {
    let fixture = Fixture::of(CrdtType::GCounter);
    fixture.done("c", r#"{"op":"increment","by":"9223372036854775807"}"#).await;
    fixture.operate("c", r#"{"op":"increment"}"#).await.problem(422, "limit-reached");
}

#[tokio::test]
async fn bad_keys_are_refused() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    for (key, detail) in [
        (String::new(), "empty"),
        ("a".repeat(513), "513 bytes"),
        ("%C3%28".into(), "not UTF-8"),
        ("%FF".into(), "not UTF-8"),
        ("a%2".into(), "%25"),
        ("a%zz".into(), "%25"),
        (".".into(), "segment"),
        ("..".into(), "segment"),
        ("a/../b".into(), "segment"),
        ("%2e%2E".into(), "segment"),
        ("a%2F..%2Fb".into(), "segment"),
        ("a/.".into(), "segment"),
    ] {
        for answer in [
            fixture.get_object(&key).await,
            fixture.operate(&key, r#"{"op":"increment"}"#).await,
            fixture.send(&format!("DELETE /v1/groups/g/objects/{key}"), &[], "").await,
        ] {
            answer.problem_saying((400, "malformed"), detail);
        }
    }
    assert_eq!(fixture.group.writes(), 0);
}

#[tokio::test]
async fn a_slash_and_its_escape_are_one_key() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    fixture.done("a/b", r#"{"op":"increment"}"#).await;
    let answer = fixture.operate("a%2Fb", r#"{"op":"increment"}"#).await;
    assert_eq!((&answer.json()["result"], &answer.json()["key"]), (&2.into(), &"a/b".into()));
}

#[tokio::test]
async fn unknown_groups_and_paths_are_named() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let answer = fixture.get("/v1/groups/other/objects/k").await;
    answer.problem_saying((404, "unknown-group"), "this agent serves g");
    for path in [
        "/",
        "/v1",
        "/v1/groups/",
        "/v1/health/",
        "/v1/groups/g/sync/",
        "/v1/groups/g",
        "/v1/groups/g/changes",
        "/v1/stream/x",
        "/v2/groups",
    ] {
        fixture.get(path).await.problem(404, "unknown-path");
    }
}

#[tokio::test]
async fn wrong_methods_are_told_the_right_ones() {
    let counters = Fixture::of(CrdtType::PNCounter);
    let registers = Fixture::of(CrdtType::LWWRegister);
    for (fixture, line, allow) in [
        (&counters, "PUT /v1/groups/g/objects/k", "GET, HEAD, POST, DELETE"),
        (&counters, "PATCH /v1/groups/g/objects/k", "GET, HEAD, POST, DELETE"),
        (&registers, "PATCH /v1/groups/g/objects/k", "GET, HEAD, POST, PUT, DELETE"),
        (&counters, "OPTIONS /v1/groups/g/objects/k", "GET, HEAD, POST, DELETE"),
        (&counters, "POST /v1/groups/g/objects", "GET, HEAD"),
        (&counters, "GET /v1/groups/g/batch", "POST"),
        (&counters, "GET /v1/groups/g/read", "POST"),
        (&counters, "GET /v1/groups/g/sync", "POST"),
        (&counters, "DELETE /v1/groups/g/members", "GET, HEAD"),
        (&counters, "POST /v1/groups", "GET, HEAD"),
        (&counters, "POST /v1/health", "GET, HEAD"),
    ] {
        let answer = fixture.send(line, &[], "").await;
        answer.problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), Some(allow), "{line}");
    }
}

#[tokio::test]
async fn json_has_to_be_called_json() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let body = r#"{"op":"increment"}"#;
    for headers in [
        &[][..],
        &["Content-Type: text/plain"],
        &["Content-Type: application/x-www-form-urlencoded"],
        &["Content-Type: application/json", "Content-Encoding: gzip"],
        &["Content-Type: application/jsonl"],
        &["Content-Type: application/json; charset=utf-16"],
    ] {
        for line in
            ["POST /v1/groups/g/objects/k", "POST /v1/groups/g/batch", "POST /v1/groups/g/read"]
        {
            fixture.send(line, headers, body).await.problem(415, "unsupported-media-type");
        }
    }
    let headers = ["Content-Type: Application/JSON; charset=utf-8"];
    let answer = fixture.send("POST /v1/groups/g/objects/k", &headers, body).await;
    assert_eq!(answer.status.as_u16(), 200);
}

#[tokio::test]
async fn bodies_that_are_encoded_or_framed_otherwise_are_refused() {
    let fixture = Fixture::of(CrdtType::LWWRegister);
    let line = "PUT /v1/groups/g/objects/k";
    for coding in ["gzip, chunked", "gzip", "identity", "chunked, chunked", ""] {
        let header = format!("Transfer-Encoding: {coding}");
        let answer = fixture.send(line, &[&header], "x").await;
        answer.problem_saying((501, "not-implemented"), "only chunked");
        assert_eq!(answer.header("connection"), Some("close"), "who knows where its body ends");
    }
    let twice = ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"];
    fixture.send(line, &twice, "x").await.problem(501, "not-implemented");
    for encoding in ["gzip", "br", "identity, gzip"] {
        let answer = fixture.send(line, &[&format!("Content-Encoding: {encoding}")], "x").await;
        answer.problem_saying((415, "unsupported-media-type"), "without Content-Encoding");
        assert_eq!(answer.header("accept-encoding"), Some("identity"));
    }
    assert_eq!(fixture.group.writes(), 0);
    for header in ["Transfer-Encoding: Chunked", "Content-Encoding: identity"] {
        assert_eq!(fixture.send(line, &[header], "x").await.status.as_u16(), 200, "{header}");
    }
}

#[tokio::test]
async fn a_write_that_depends_on_a_time_is_refused() {
    let fixture = Fixture::of(CrdtType::LWWRegister);
    let since = "If-Unmodified-Since: Sat, 21 Nov 2026 10:00:00 GMT";
    let put = "PUT /v1/groups/g/objects/k";
    for line in [put, "DELETE /v1/groups/g/objects/k"] {
        let answer = fixture.send(line, &[since], "").await;
        answer.problem_saying((400, "malformed"), "send If-Match");
    }
    assert_eq!(fixture.group.writes(), 0);
    let answer = fixture.send(put, &[since, "If-Match: *"], "x").await;
    answer.problem_saying((412, "precondition-failed"), "the object does not exist");
    assert_eq!(fixture.send(put, &[], "x").await.status.as_u16(), 200);
    let answer = fixture.send("GET /v1/groups/g/objects/k", &[since], "").await;
    assert_eq!(answer.status.as_u16(), 200, "a read loses nothing");
}

#[tokio::test]
async fn parts_of_objects_are_asked_for_where_they_are() {
    let maps = Fixture::of(CrdtType::ORMap);
    let update = r#"{"op":"update","field":"a b","type":"EWFlag","operation":{"op":"enable"}}"#;
    maps.done("m/n", update).await;
    let answer = maps.get_object("m/n/a%20b").await;
    answer.problem_saying(
        (404, "absent"),
        "of the map \"m/n\" is read at that key with ?field=a%20b",
    );
    let detail = maps.get_object("other/f").await.problem(404, "absent");
    assert!(!detail.to_string().contains("?field"), "there is no such map: {detail}");
    let answer = maps.get_object("m/n?element=1").await;
    let said = "an ORMap has no elements: ask for `field`";
    answer.problem_saying((422, "not-of-this-type"), said);

    let sets = Fixture::of(CrdtType::ORSet);
    sets.done("s", r#"{"op":"add","element":"x"}"#).await;
    let answer = sets.get_object("s/x").await;
    answer.problem_saying((404, "absent"), "with ?element=%22x%22");
    let answer = sets.get_object("s?field=x").await;
    answer.problem_saying((422, "not-of-this-type"), "an ORSet has no fields: ask for `element`");

    let counters = Fixture::of(CrdtType::PNCounter);
    let answer = counters.get_object("c?size=true").await;
    let said = "a PNCounter has no size: read it without parameters";
    answer.problem_saying((422, "not-of-this-type"), said);
    let answer = counters.get_object("c?limit=5").await;
    answer.problem_saying((422, "not-of-this-type"), "a PNCounter has no pages");
}

#[tokio::test]
async fn large_bodies_are_refused_announced_or_not() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let large = vec![b' '; (1 << 20) + 1];
    for path in ["objects/k", "batch", "read"] {
        let line = format!("POST /v1/groups/g/{path}");
        let headers = ["Content-Type: application/json"];
        fixture.send(&line, &headers, large.clone()).await.problem(413, "too-large");
        let chunks: Vec<_> = large.chunks(100_000).map(Bytes::copy_from_slice).collect();
        let streamed = Body::new(Chunks(chunks.into_iter()));
        fixture.send(&line, &headers, streamed).await.problem(413, "too-large");
    }
    let registers = Fixture::of(CrdtType::LWWRegister);
    let put = |bytes: usize| registers.send("PUT /v1/groups/g/objects/k", &[], vec![b'x'; bytes]);
    put(65).await.problem_saying((413, "too-large"), "limit of 64 bytes (`limits.valueBytes`)");
    assert_eq!(put(64).await.status.as_u16(), 200);
    let set = format!(r#"{{"op":"set","value":"{}"}}"#, "x".repeat(63));
    registers.operate("k", &set).await.problem_saying((413, "too-large"), "limits.valueBytes");
}

/// A body that does not say how long it is.
struct Chunks(std::vec::IntoIter<Bytes>);

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.next().map(|chunk| Ok(Frame::data(chunk))))
    }
}

#[tokio::test]
async fn bad_values_are_refused() {
    let fixture = Fixture::of(CrdtType::LWWRegister);
    let line = "PUT /v1/groups/g/objects/k";
    let json = ["Content-Type: application/json"];
    let set = |value: &str| format!(r#"{{"op":"set","value":{value}}}"#);
    for body in
        ["{", "{\"a\":1,\"a\":2}", "\"\\ud800\"", "1 2", "[9007199254740993]", "1e20", "1e400"]
    {
        fixture.send(line, &json, body).await.problem(400, "malformed");
        fixture.operate("k", &set(body)).await.problem(400, "malformed");
    }
    let utf_16 = ["Content-Type: application/problem+json; charset=utf-16"];
    let answer = fixture.send(line, &utf_16, "{}").await;
    answer.problem_saying((415, "unsupported-media-type"), "JSON is UTF-8");
    let twice = ["Content-Type: text/plain", "Content-Type: text/html"];
    fixture.send(line, &twice, "x").await.problem_saying((400, "malformed"), "given twice");
    for content_type in ["Content-Type: nothing", "Content-Type: a/b/c", "Content-Type: /"] {
        fixture
            .send(line, &[content_type], "x")
            .await
            .problem_saying((400, "malformed"), "media type");
    }
    for ttl in ["30", "0s", "-1s", "soon"] {
        let answer = fixture.send(&format!("{line}?ttl={ttl}"), &[], "x").await;
        answer.problem_saying((400, "malformed"), "such as 500ms");
    }
    assert_eq!(fixture.group.writes(), 0);
}

#[tokio::test]
async fn foreign_hosts_are_refused_before_anything_else() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let headers = ["Host: evil.example:4437", "Content-Type: application/json"];
    let body = r#"{"op":"increment"}"#;
    let answer = fixture.send("POST /v1/groups/g/objects/k", &headers, body).await;
    answer.problem_saying((421, "misdirected"), "evil.example");
    let answer = fixture.send("POST /v1/groups/g/objects/k", &headers, body).await;
    answer.problem_saying((421, "misdirected"), "or set `appUrl`");
    fixture.send("GET http://evil.example/v1/health", &[], "").await.problem(421, "misdirected");
    let mut known = fixture.api.clone();
    known.also_host = Some("coppice.local".into());
    let request = Request::builder().uri("/v1/health").header("Host", "coppice.local:4437");
    let answer = known.answer(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status().as_u16(), 200, "the host of COPPICE_URL is ours");
    assert_eq!(fixture.group.writes(), 0);
}

#[tokio::test]
async fn promises_of_later_versions_are_refused_not_ignored() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let json = "Content-Type: application/json";
    for header in ["Idempotency-Key: 1", "Coppice-Min-Version: x", "Coppice-Version: x"] {
        let line = "POST /v1/groups/g/objects/k";
        let answer = fixture.send(line, &[json, header], r#"{"op":"increment"}"#).await;
        answer.problem_saying((400, "not-offered"), "not offered by this version");
        fixture.send("GET /v1/groups/g/objects/k", &[header], "").await.problem(400, "not-offered");
        fixture.send("GET /v1/groups/g/objects", &[header], "").await.problem(400, "not-offered");
    }
    for query in ["ack=all", "timeout=5s", "wait=2s"] {
        let target = format!("/v1/groups/g/objects/k?{query}");
        fixture.post(&target, r#"{"op":"increment"}"#).await.problem(400, "not-offered");
    }
    assert_eq!(fixture.group.writes(), 0);
}

#[tokio::test]
async fn parameters_are_known_given_once_and_within_bounds() {
    let fixture = Fixture::of(CrdtType::ORSet);
    fixture.done("k", r#"{"op":"add","element":1}"#).await;
    for (target, detail) in [
        ("objects?limits=1", "unknown parameter \"limits\": expected one of prefix, limit"),
        ("objects?limit=1001", "write 1 to 1000"),
        ("objects?limit=0", "write 1 to 1000"),
        ("objects?limit=x", "write 1 to 1000"),
        ("objects?limit=+5", "write 1 to 1000"),
        ("objects?limit=", "write 1 to 1000"),
        ("objects?limit=1&limit=2", "given twice"),
        ("objects?values=yes", "write true or false"),
        ("objects/k?view=all", "write value, envelope or state"),
        ("objects/k?size=true&view=state", "give one of"),
        ("objects/k?after=%FF", "not UTF-8"),
        ("objects/k?after=AA", "pass that unchanged"),
        ("members?x=1", "this request takes none"),
    ] {
        let answer = fixture.get(&format!("/v1/groups/g/{target}")).await;
        answer.problem_saying((400, "malformed"), detail);
    }
    fixture.get_object("k?field=f").await.problem(422, "not-of-this-type");
    let counters = Fixture::of(CrdtType::PNCounter);
    counters.get_object("k?size=true").await.problem(422, "not-of-this-type");
}

#[tokio::test]
async fn bodies_are_refused_where_none_is_expected() {
    let fixture = Fixture::of(CrdtType::PNCounter);
    let context = r#"{"context":"x"}"#;
    fixture.send("DELETE /v1/groups/g/objects/k", &[], context).await.problem(400, "malformed");
    fixture.send("POST /v1/groups/g/sync", &[], "{}").await.problem(400, "malformed");
}
