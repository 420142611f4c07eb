//! The metrics that a running agent shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use coppice_tests::eventually::eventually;
use coppice_tests::trio::{Failure, Trio};

use super::{HITS, LIMIT, increment, metrics_of};

/// The metrics of the design and their labels. All that are named there are
/// here; what is shown beyond them is in the README.
const DESIGNED: [(&str, &[&str]); 25] = [
    ("coppice_http_requests_total", &["method", "route", "status"]),
    ("coppice_http_request_duration_seconds", &["method", "route", "status"]),
    ("coppice_deltas_sent_total", &["group"]),
    ("coppice_deltas_received_total", &["group"]),
    ("coppice_deltas_merged_total", &["group"]),
    ("coppice_peer_bytes_sent_total", &["group"]),
    ("coppice_peer_bytes_received_total", &["group"]),
    ("coppice_peers", &["group", "state"]),
    ("coppice_peer_lag_deltas", &["group", "peer"]),
    ("coppice_peer_lag_seconds", &["group", "peer"]),
    ("coppice_digest_mismatches_total", &["group"]),
    ("coppice_repairs_total", &["group", "kind"]),
    ("coppice_objects", &["group"]),
    ("coppice_actors", &["group", "state"]),
    ("coppice_log_bytes", &["group"]),
    ("coppice_store_bytes", &[]),
    ("coppice_commit_duration_seconds", &[]),
    ("coppice_commit_operations", &[]),
    ("coppice_fsyncs_total", &[]),
    ("coppice_snapshot_age_seconds", &[]),
    ("coppice_hlc_skew_seconds", &["group", "peer"]),
    ("coppice_links_closed_total", &["reason"]),
    ("coppice_config_reloads_total", &["result"]),
    ("coppice_certificate_expiry_timestamp_seconds", &[]),
    ("coppice_build_info", &["version"]),
];

/// The metrics in `text`, with the labels of their series.
fn shown(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let named = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut metrics: BTreeMap<&str, BTreeSet<&str>> =
        named.filter_map(|line| Some((line.split(' ').next()?, BTreeSet::new()))).collect();
    for series in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = series.split_once('{') else { continue };
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts.iter().find_map(|part| name.strip_suffix(part));
        let name = whole.filter(|whole| metrics.contains_key(whole)).unwrap_or(name);
        // Routes hold braces.
        let labels = labels.rsplit_once("} ").map_or("", |(labels, _)| labels);
        // No value of ours holds a comma or an equals sign.
        let names = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0));
        metrics.entry(name).or_default().extend(names.filter(|name| *name != "le"));
    }
    metrics
}

/// The metrics that the README's table names.
fn documented() -> Result<BTreeSet<String>, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("a member's folder")?;
    let readme = std::fs::read_to_string(root.join("README.md"))?;
    let rows = readme.lines().filter(|line| line.starts_with("| `coppice_"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let names = cells.flat_map(|cell| cell.split('`')).filter(|name| name.starts_with("coppice_"));
    Ok(names.map(str::to_owned).collect())
}

#[test]
fn every_metric_is_shown_with_its_labels_and_documented() -> Result<(), Failure> {
    let trio = Trio::start("groups: [{name: hits, crdt: {type: PNCounter}}]\n")?;
    let [a, ..] = &trio.agents[..] else { return Err("there are three".into()) };
    assert_eq!(increment(a, HITS)?, 200);
    let mut missing = Vec::new();
    let complete = eventually(LIMIT, || {
        let text = metrics_of(a).ok()?;
        let shown = shown(&text);
        missing = DESIGNED
            .iter()
            .filter(|(name, labels)| shown.get(name) != Some(&labels.iter().copied().collect()))
            .map(|(name, _)| format!("{name}: {:?}", shown.get(name)))
            .collect();
        missing.is_empty().then_some(text)
    });
    let text = complete.ok_or_else(|| format!("not as designed: {missing:?}"))?;

    let ours = shown(&text).into_keys().filter(|name| name.starts_with("coppice_"));
    let ours: BTreeSet<String> = ours.map(str::to_owned).collect();
    assert_eq!(documented()?, ours, "the README's table lists what there is");
    Ok(())
}

#[test]
fn an_agent_that_lost_its_disk_is_one_peer() -> Result<(), Failure> {
    let mut trio = Trio::start("groups: [{name: hits, crdt: {type: PNCounter}}]\n")?;
    let [a, b, _] = &mut trio.agents[..] else { return Err("there are three".into()) };
    assert_eq!(increment(a, HITS)?, 200);
    b.kill();
    std::fs::remove_dir_all(b.spec().data())?;
    b.restart()?;
    let name = b.spec().name.clone();
    assert_eq!(increment(a, HITS)?, 200);

    let lag = format!("coppice_peer_lag_deltas{{group=\"hits\",peer=\"{name}\"}} 0\n");
    let former = "coppice_peers{group=\"hits\",state=\"former\"} 1\n";
    let mut text = String::new();
    let settled = eventually(LIMIT, || {
        text = metrics_of(a).ok()?;
        (text.contains(&lag) && text.contains(former)).then_some(())
    });
    settled.ok_or_else(|| format!("no {lag} or {former} in {text}"))?;

    let members = a.client().get("/v1/groups/hits/members")?.json();
    let items = members["items"].as_array().ok_or("members")?;
    let of_name: Vec<_> = items.iter().filter(|item| item["name"] == *name).collect();
    let former = of_name.iter().filter(|item| item["former"] == true).count();
    assert_eq!((of_name.len(), former), (2, 1), "{members}");
    let groups = a.client().get("/v1/groups")?.json();
    assert_eq!(groups["items"][0]["members"], 3, "{groups}");
    assert_eq!(groups["items"][0]["lag"], 0, "{groups}");
    let synced = a.client().send("POST", "/v1/groups/hits/sync", None)?.json();
    let peers = synced["peers"].as_array().ok_or("peers")?;
    assert_eq!(peers.len(), 2, "who lost its disk is not unreachable: {synced}");
    Ok(())
}
