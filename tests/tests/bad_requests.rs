//! Requests that an agent refuses: the status and the problem that
//! `docs/api.md` promises, and nothing changed.

use std::time::Duration;

use coppice_tests::agents::{Agent, AgentSpec};
use coppice_tests::client::{Client, Content, Response};
use coppice_tests::eventually::eventually;
use coppice_tests::trio::{Failure, batch, read, with_configuration, write_configuration};
use serde_json::{Value, json};
use tempfile::TempDir;

const GROUPS: [(&str, &str); 6] = [
    ("hits", "PNCounter"),
    ("views", "GCounter"),
    ("tags", "ORSet"),
    ("seen", "GSet"),
    ("notes", "LWWRegister"),
    ("pages", "ORMap"),
];
const LIMIT: Duration = Duration::from_mins(1);
const JSON: &str = "application/json";
const INCREMENT: &str = r#"{"op":"increment"}"#;

/// A request, and what is to become of it.
struct Case {
    what: &'static str,
    request: (&'static str, String),
    body: Option<(&'static str, Vec<u8>)>,
    host: &'static str,
    problem: (u16, &'static str),
}

#[test]
fn bad_requests_are_refused_with_a_problem_and_change_nothing() -> Result<(), Failure> {
    let (agent, _folder) = start()?;
    let before = state(&agent)?;
    let mut cases = bad_bodies();
    cases.extend(bad_keys());
    cases.extend(bad_heads());
    for case in cases {
        let answer = ask(&agent, &case)?;
        let (status, problem) = case.problem;
        let shown = format!("{}: {} {}", case.what, answer.status, answer.text());
        assert_eq!(answer.status, status, "{shown}");
        assert_eq!(answer.content_type.as_deref(), Some("application/problem+json"), "{shown}");
        let told = answer.json();
        assert_eq!(told["type"], format!("urn:coppice:problem:{problem}"), "{shown}");
        assert_eq!(told["status"], status, "{shown}");
        assert!(told["title"].as_str().is_some_and(|title| !title.is_empty()), "{shown}");
        assert!(told["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{shown}");
        assert_eq!(state(&agent)?, before, "{}: nothing may have changed", case.what);
    }
    // What an agent says of its vector comes a little later: by the time it has
    // this write, it would have any of those before.
    let good = (JSON, INCREMENT.as_bytes());
    let answer = agent.client().send("POST", &object("hits", "home"), Some(good))?;
    assert!(answer.is_success(), "{}", answer.text());
    wait_for_writes(&agent, &[2, 1, 1, 1, 1, 1])
}

/// What is wrong, the group, the body of an operation on its object, the problem.
type BadOperation = (&'static str, &'static str, &'static str, (u16, &'static str));

const BAD_OPERATIONS: [BadOperation; 18] = [
    ("malformed JSON", "hits", r#"{"op":"incr"#, (400, "malformed")),
    ("no JSON", "hits", "", (400, "malformed")),
    ("a member given twice", "hits", r#"{"op":"increment","op":"decrement"}"#, (400, "malformed")),
    ("a misspelt member", "hits", r#"{"op":"increment","bye":2}"#, (400, "malformed")),
    (
        "a set's operation on a counter",
        "hits",
        r#"{"op":"add","element":1}"#,
        (422, "not-of-this-type"),
    ),
    (
        "a decrement of a growing counter",
        "views",
        r#"{"op":"decrement"}"#,
        (422, "not-of-this-type"),
    ),
    (
        "a removal from a growing set",
        "seen",
        r#"{"op":"remove","element":1}"#,
        (422, "not-of-this-type"),
    ),
    (
        "a map inside a map",
        "pages",
        r#"{"op":"update","field":"f","type":"ORMap","operation":{"op":"clear"}}"#,
        (422, "not-of-this-type"),
    ),
    (
        "a field of another type",
        "pages",
        r#"{"op":"update","field":"f","type":"ORSet","operation":{"op":"add","element":1}}"#,
        (409, "conflict"),
    ),
    (
        "an element beyond 2^53",
        "tags",
        r#"{"op":"add","element":9007199254740993}"#,
        (400, "malformed"),
    ),
    (
        "one inside an element",
        "tags",
        r#"{"op":"add","element":[{"a":-9007199254740993}]}"#,
        (400, "malformed"),
    ),
    ("a lone surrogate", "tags", r#"{"op":"add","element":"\ud800"}"#, (400, "malformed")),
    ("a negative increment", "hits", r#"{"op":"increment","by":-1}"#, (422, "not-of-this-type")),
    ("half an increment", "hits", r#"{"op":"increment","by":1.5}"#, (400, "malformed")),
    (
        "an increment beyond 2^53",
        "hits",
        r#"{"op":"increment","by":9007199254740993}"#,
        (422, "limit-reached"),
    ),
    ("a counter at its limit", "hits", r#"{"op":"increment","by":1}"#, (422, "limit-reached")),
    (
        "a growing counter at its limit",
        "views",
        r#"{"op":"increment","by":1}"#,
        (422, "limit-reached"),
    ),
    (
        "a value above limits.valueBytes",
        "notes",
        r#"{"op":"set","value":"0123456789012345678901234567890123456789012345678901234567890123"}"#,
        (413, "too-large"),
    ),
];

fn bad_bodies() -> Vec<Case> {
    let mut cases: Vec<_> = BAD_OPERATIONS
        .into_iter()
        .map(|(what, group, body, problem)| post(what, object(group, "full"), body.into(), problem))
        .collect();
    let set = |bytes: usize| format!(r#"{{"op":"add","element":"{}"}}"#, "x".repeat(bytes));
    let deep = format!(r#"{{"op":"add","element":{}{}}}"#, "[".repeat(80), "]".repeat(80));
    let half = json!({"operations": [
        {"key": "full", "op": "add", "element": "new"},
        {"key": "full", "op": "increment"},
    ]});
    cases.extend([
        post(
            "JSON that is not UTF-8",
            object("tags", "full"),
            b"{\"op\":\"\xff\"}".to_vec(),
            (400, "malformed"),
        ),
        post("a body over 1 MiB", object("tags", "full"), set(1 << 20).into(), (413, "too-large")),
        post(
            "an element over 4 KiB",
            object("tags", "full"),
            set(5_000).into(),
            (413, "too-large"),
        ),
        post("JSON 80 deep", object("tags", "full"), deep.into(), (400, "malformed")),
        post(
            "a batch of which half can be done",
            "/v1/groups/tags/batch".into(),
            half.to_string().into(),
            (422, "not-of-this-type"),
        ),
    ]);
    cases
}

fn bad_keys() -> Vec<Case> {
    let keys = [
        ("a key of 513 bytes", "a".repeat(513)),
        ("no key", String::new()),
        ("a dot for a key", ".".into()),
        ("two dots in a key", "a/../b".into()),
        ("two dots, escaped", "a%2F%2e%2E%2Fb".into()),
        ("a key that is not UTF-8", "%ff".into()),
        ("an escape cut off", "a%2".into()),
    ];
    let refused = (400, "malformed");
    let each = |(what, key): (&'static str, String)| {
        let path = object("hits", &key);
        let bare = |method| Case {
            request: (method, path.clone()),
            body: None,
            ..post(what, String::new(), Vec::new(), refused)
        };
        [post(what, path.clone(), INCREMENT.into(), refused), bare("GET"), bare("DELETE")]
    };
    keys.into_iter().flat_map(each).collect()
}

fn bad_heads() -> Vec<Case> {
    let increment = |what, path, problem| post(what, path, INCREMENT.into(), problem);
    let home = || object("hits", "home");
    let foreign = |host| Case { host, ..increment("a foreign host", home(), (421, "misdirected")) };
    let typed = |kind| Case {
        body: Some((kind, INCREMENT.into())),
        ..increment("another content type", home(), (415, "unsupported-media-type"))
    };
    vec![
        increment("an unknown group", object("other", "home"), (404, "unknown-group")),
        increment("an unknown path", "/v1/groups/hits/things".into(), (404, "unknown-path")),
        increment("an unknown parameter", format!("{}?sizes=1", home()), (400, "malformed")),
        increment("a parameter of later", format!("{}?ack=all", home()), (400, "not-offered")),
        typed("text/plain"),
        typed("application/x-www-form-urlencoded"),
        foreign("evil.example"),
        foreign("evil.example:4437"),
        foreign("127.0.0.1.evil.example"),
        Case {
            request: ("PUT", home()),
            ..increment("a method of registers", home(), (405, "method-not-allowed"))
        },
        Case {
            request: ("DELETE", object("hits", "nothing")),
            body: None,
            ..increment("an absent object", home(), (404, "absent"))
        },
    ]
}

fn post(what: &'static str, path: String, body: Vec<u8>, problem: (u16, &'static str)) -> Case {
    Case { what, request: ("POST", path), body: Some((JSON, body)), host: "127.0.0.1", problem }
}

fn object(group: &str, key: &str) -> String {
    format!("/v1/groups/{group}/objects/{key}")
}

fn ask(agent: &Agent, case: &Case) -> Result<Response, Failure> {
    let (method, path) = &case.request;
    let content: Option<Content<'_>> = case.body.as_ref().map(|(kind, body)| (*kind, &body[..]));
    let answer = agent.client().naming(case.host).send(method, path, content);
    answer.map_err(|error| format!("{}: {error}", case.what).into())
}

/// An agent with counters at their limits and something in each other group.
fn start() -> Result<(Agent, TempDir), Failure> {
    let folder = tempfile::tempdir()?;
    let group = |(name, kind): (&str, &str)| {
        format!("  - {{name: {name}, crdt: {{type: {kind}}}, limits: {{valueBytes: 64}}}}\n")
    };
    let text = format!("groups:\n{}", GROUPS.map(group).concat());
    let file = write_configuration(folder.path(), "agent.yaml", &text)?;
    let agent = AgentSpec::new("a", folder.path(), with_configuration(&file))?.start()?;
    let most = json!({"key": "full", "op": "increment", "by": i64::MAX.to_string()});
    let add = json!({"key": "full", "op": "add", "element": 1});
    let enable = json!({"op": "enable"});
    let field =
        json!({"key": "full", "op": "update", "field": "f", "type": "EWFlag", "operation": enable});
    let set = json!({"key": "full", "op": "set", "value": 1});
    for (group, operation) in [
        ("hits", &most),
        ("views", &most),
        ("tags", &add),
        ("seen", &add),
        ("notes", &set),
        ("pages", &field),
    ] {
        batch(&mut agent.client(), group, std::slice::from_ref(operation))?;
    }
    wait_for_writes(&agent, &[1; GROUPS.len()])?;
    Ok((agent, folder))
}

/// Waits until the agent says that it has seen so many writes of each group.
fn wait_for_writes(agent: &Agent, expected: &[u64]) -> Result<(), Failure> {
    let mut last = Vec::new();
    let all_seen = eventually(LIMIT, || {
        let mut client = agent.client();
        last = GROUPS.iter().map(|(group, _)| writes_of(&mut client, group)).collect();
        last.iter().flatten().eq(expected).then_some(())
    });
    all_seen.ok_or_else(|| format!("writes seen: {last:?} instead of {expected:?}").into())
}

fn writes_of(client: &mut Client, group: &str) -> Option<u64> {
    let members = read(client, &format!("/v1/groups/{group}/members"))?;
    members["seen"].as_object()?.values().map(Value::as_u64).sum()
}

/// All that a write could change: each object with its value and etag, and each
/// group's vector and figures.
fn state(agent: &Agent) -> Result<Value, Failure> {
    let mut client = agent.client();
    let listings: Option<Vec<_>> = GROUPS
        .iter()
        .map(|(group, _)| read(&mut client, &format!("/v1/groups/{group}/objects?values=true")))
        .collect();
    let status = read(&mut agent.operations(), "/status").ok_or("no status")?;
    Ok(json!({"objects": listings.ok_or("no listing")?, "groups": status["groups"]}))
}
