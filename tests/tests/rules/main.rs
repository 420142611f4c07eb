//! Alerts and dashboards, asked of a real Prometheus.
//!
//! `make rules` runs all of this. Three agents on loopback are scraped while they are
//! used, and, where `KUBECONFIG` names a cluster with Coppice, its operators and the
//! sidecars of three pods. Every expression of a dashboard must return data, and every
//! figure of an alert: what stands before its bound. (That the bound is right, the unit
//! tests in `tests/rules/alerts.yaml` say.)

mod documents;
mod expressions;
mod fleet;
mod members;
mod prometheus;

use std::collections::BTreeMap;
use std::time::Duration;

use coppice_tests::cluster::{self, lacks};
use coppice_tests::eventually::eventually_every;
use coppice_tests::progress::say;
use coppice_tests::trio::Failure;

use expressions::Figure;
use fleet::Fleet;
use prometheus::{Prometheus, root, run};

/// Until the last figure is there: a rate needs two scrapes, a snapshot its interval.
const LIMIT: Duration = Duration::from_mins(2);
const BETWEEN: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs Prometheus: make rules"]
fn rules_are_sound_and_pass_their_unit_tests() {
    for arguments in [
        ["check", "rules", "charts/coppice/rules/coppice.yaml"],
        ["test", "rules", "tests/rules/alerts.yaml"],
    ] {
        run("promtool", &arguments).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
#[ignore = "needs Prometheus: make rules"]
fn every_figure_of_agents_has_data() -> Result<(), Failure> {
    let mut fleet = Fleet::start()?;
    let prometheus = Prometheus::start()?;
    prometheus.scrape(&fleet.targets())?;

    let (of_clusters, of_agents) = split(figures(&prometheus)?);
    say(&format!("--- {} figures of agents", of_agents.len()));
    wait_for_data(&prometheus, of_agents, || fleet.work())?;
    if std::env::var_os("KUBECONFIG").is_none() {
        let list: Vec<_> = of_clusters.iter().map(|figure| format!("\n  {figure}")).collect();
        lacks(
            "every_figure_of_agents_has_data",
            &format!(
                "KUBECONFIG names no cluster, so {} figures were NOT CHECKED:{}",
                list.len(),
                list.concat()
            ),
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs Prometheus: make rules"]
fn every_figure_has_data_in_a_cluster() {
    cluster::test("rules", |cluster, space| {
        let failed = |error: Failure| cluster::Failure(error.to_string());
        let prometheus = Prometheus::start().map_err(failed)?;
        let proxy = members::Proxy::start().map_err(failed)?;
        // From the start, so that what happens when pods are made is seen.
        let mut targets = members::operators(&proxy)?;
        prometheus.scrape(&targets).map_err(failed)?;
        let mut members = members::Members::start(cluster, space)?;
        targets.extend(members.targets(&proxy));
        prometheus.scrape(&targets).map_err(failed)?;

        let all = figures(&prometheus).map_err(failed)?;
        say(&format!("--- {} figures, of {} processes", all.len(), targets.len()));
        wait_for_data(&prometheus, all, || members.work()).map_err(failed)
    })
    .unwrap_or_else(|failure| panic!("{}", failure.0));
}

/// Of every rule that Prometheus has loaded, and of every dashboard.
fn figures(prometheus: &Prometheus) -> Result<Vec<Figure>, Failure> {
    let mut all = expressions::of_rules(prometheus.alerts()?);
    let alerts = all.len();
    all.extend(expressions::of_dashboards(&root().join("charts/coppice/dashboards"))?);
    assert!(alerts >= 20 && all.len() > alerts + 30, "{alerts} of alerts, {} in all", all.len());
    Ok(all)
}

fn split(all: Vec<Figure>) -> (Vec<Figure>, Vec<Figure>) {
    all.into_iter().partition(Figure::is_of_clusters_only)
}

/// Works and asks until each figure had data once.
fn wait_for_data(
    prometheus: &Prometheus,
    mut missing: Vec<Figure>,
    mut work: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    let done = eventually_every(BETWEEN, LIMIT, || {
        if let Err(error) = work() {
            say(&format!("--- a request failed: {error}"));
        }
        missing.retain(|figure| match prometheus.query(&figure.expression) {
            Ok(()) => false,
            Err(why) => {
                said.insert(figure.to_string(), why);
                true
            }
        });
        missing.is_empty().then_some(())
    });
    if done.is_some() {
        return Ok(());
    }
    let list: Vec<_> =
        missing.iter().map(|figure| format!("{figure}: {}", said[&figure.to_string()])).collect();
    Err(format!("without data after {} s:\n{}", LIMIT.as_secs(), list.join("\n")).into())
}
