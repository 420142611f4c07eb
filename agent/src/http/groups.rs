//! What is served here, who else serves it, and exchanging now.

use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use axum::response::Response;
use coppice_crdt::VersionVector;

use super::json::JsonBuffer;
use super::operation;
use super::params::Params;
use super::problem::{Answer, Problem};
use super::{AppApi, Call, Parts, Phase, body};
use crate::query::ServedGroup;
use crate::replica_task::{GroupStatus, MemberStatus};

/// How long `sync` waits for its peers where the request does not say.
const SYNC_WAIT: Duration = Duration::from_secs(2);

/// `GET /v1/health`: 200 once the store is open, until the end.
pub(crate) fn health(api: &AppApi, parts: &Parts) -> Answer<Response> {
    expect_get(parts)?;
    if api.lifecycle.phase() == Phase::Opening {
        return Err(Problem::opening());
    }
    let mut json = JsonBuffer::default();
    json.raw(b"{\"status\":\"ok\"}");
    Ok(json.into_response())
}

/// `GET /v1/groups`
pub(crate) fn list(api: &AppApi, parts: &Parts) -> Answer<Response> {
    expect_get(parts)?;
    let mut json = JsonBuffer::default();
    json.open(b'{');
    json.name("items");
    json.open(b'[');
    for group in api.groups.all() {
        let status = group.handle.status();
        json.item();
        json.open(b'{');
        write_group(&mut json, &group, &status);
        json.name("members");
        // This replica is one.
        json.number(current(&status).count() + 1);
        json.close(b'}');
    }
    json.close(b']');
    json.close(b'}');
    Ok(json.into_response())
}

/// `GET /v1/groups/{group}/members`
pub(crate) fn members(call: Call<'_>) -> Answer<Response> {
    Params::parse(call.parts.uri.query(), &[])?;
    let status = call.group.handle.status();
    let mut json = JsonBuffer::default();
    json.open(b'{');
    json.name("items");
    json.open(b'[');
    for member in &status.members {
        json.item();
        write_member(&mut json, member);
    }
    json.close(b']');
    json.name("seen");
    write_vector(&mut json, &status.vector);
    json.close(b'}');
    Ok(json.into_response())
}

/// `POST /v1/groups/{group}/sync`
pub(crate) async fn sync(call: Call<'_>, body: Body) -> Answer<Response> {
    let wait = operation::begin(call, &["wait"])?.wait()?.unwrap_or(SYNC_WAIT);
    body::refuse(&body)?;
    let results = call.group.handle.sync(wait).await;
    let results = results.map_err(|error| Problem::submit(&error, false))?;
    let mut json = JsonBuffer::default();
    json.open(b'{');
    json.name("peers");
    json.open(b'[');
    for result in results {
        json.item();
        json.open(b'{');
        json.text("name", &result.name);
        json.text("opening", &result.opening);
        if let Some(address) = &result.address {
            json.text("address", address);
        }
        json.text("result", result.outcome.name());
        for (name, writes) in
            [("sent", result.sent), ("received", result.received), ("lag", result.lag_deltas)]
        {
            json.name(name);
            json.number(writes);
        }
        json.close(b'}');
    }
    json.close(b']');
    json.close(b'}');
    Ok(json.into_response())
}

/// Writes the members that tell readers and operators of a group.
pub(crate) fn write_group(json: &mut JsonBuffer, group: &ServedGroup, status: &GroupStatus) {
    json.text("name", &group.name);
    json.text("type", group.crdt_type.name());
    json.text("id", &uuid::Uuid::from_bytes(group.id).to_string());
    json.name("lag");
    json.number(lag(status));
    for (name, figure) in
        [("objects", status.objects), ("entries", status.entries), ("logBytes", status.log_bytes)]
    {
        json.name(name);
        json.number(figure);
    }
    json.name("bootstrapping");
    json.bool(status.bootstrapping);
}

/// Writes a member as other agents see it.
pub(crate) fn write_member(json: &mut JsonBuffer, member: &MemberStatus) {
    json.open(b'{');
    json.text("name", &member.name);
    json.text("opening", &member.opening);
    json.name("address");
    match &member.address {
        Some(address) => json.string(address),
        None => json.raw(b"null"),
    }
    json.name("connected");
    json.bool(member.connected);
    json.name("direct");
    json.bool(member.direct);
    json.name("former");
    json.bool(member.former);
    json.name("lag");
    json.number(member.lag_deltas);
    if let Some(ms) = member.heard_ms_ago {
        json.name("heardMsAgo");
        json.number(ms);
    }
    json.name("acknowledged");
    write_vector(json, &member.acknowledged);
    json.close(b'}');
}

/// Writes a vector as an object: actor to number of its writes.
pub(crate) fn write_vector(json: &mut JsonBuffer, vector: &VersionVector) {
    let mut actor_text = String::with_capacity(32);
    json.open(b'{');
    for (actor, n) in vector.iter() {
        actor_text.clear();
        let _ = write!(actor_text, "{actor}");
        json.name(&actor_text);
        json.number(n);
    }
    json.close(b'}');
}

/// The members that are not what another one of their name was before.
fn current(status: &GroupStatus) -> impl Iterator<Item = &MemberStatus> {
    status.members.iter().filter(|member| !member.former)
}

/// Writes that are here and that the member furthest behind has not reported.
fn lag(status: &GroupStatus) -> u64 {
    current(status).map(|member| member.lag_deltas).max().unwrap_or(0)
}

fn expect_get(parts: &Parts) -> Answer<()> {
    Params::parse(parts.uri.query(), &[])?;
    match parts.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::method_not_allowed("GET, HEAD", "this resource has only GET, HEAD")),
    }
}
