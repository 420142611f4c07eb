//! The comparison as a table for people, and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::contest::{Comparison, Figures, NAMES};
use super::sections::Section;
use super::workload::Workload;

/// What a whole run has shown.
#[derive(Debug)]
pub(super) struct Report {
    /// The version of redis.
    pub(super) redis: String,
    /// By section.
    pub(super) sections: Vec<Section>,
    /// How long it took.
    pub(super) seconds: u64,
}

/// Something that the figures should show, and whether they do.
#[derive(Debug)]
struct Aim {
    text: String,
    value: f64,
    is_reached: bool,
}

/// First aims, to be raised.
const RATIO_UNSYNCED: f64 = 0.6;
const RATIO_SYNCED: f64 = 0.5;
const CPU_US: f64 = 20.0;
const SET_GROWTH: f64 = 1.5;
const CONNECTIONS: usize = 64;

const HEADING: &str = "workload                    conn  server       ops/s  ratio            p50 ms  \
                       p99 ms  CPU us/op  load us/op  RSS MiB  peak MiB  syncs/op";

// === impl Report ===

impl Report {
    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            // Writing to a string does not fail.
            let _ = writeln!(text, "\n{}\n{HEADING}", section.title);
            for comparison in &section.comparisons {
                write_rows(&mut text, comparison);
            }
            if let Some([p50, p99]) = section.probe_us {
                let (p50, p99) = (milliseconds(p50), milliseconds(p99));
                let _ =
                    writeln!(text, "fdatasync alone, in between: p50 {p50:.2} ms, p99 {p99:.2} ms");
            }
        }
        let _ = writeln!(
            text,
            "\nratio: operations per one of redis in the same round, the median and (least-most). \
             CPU: the server's own;\nload: the load generator's. Other figures: medians of rounds; \
             latencies over all rounds."
        );
        for aim in self.aims() {
            let verdict = if aim.is_reached { "reached" } else { "MISSED" };
            let _ = writeln!(text, "{verdict:<8} {}: {:.2}", aim.text, aim.value);
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let sections = self.sections.iter().map(|section| {
            let comparisons = section.comparisons.iter().map(comparison_json);
            json!({
                "title": section.title,
                "fdatasyncP50Us": section.probe_us.map(|[p50, _]| p50),
                "fdatasyncP99Us": section.probe_us.map(|[_, p99]| p99),
                "comparisons": comparisons.collect::<Vec<_>>(),
            })
        });
        let aims = self
            .aims()
            .into_iter()
            .map(|aim| json!({"aim": aim.text, "value": aim.value, "reached": aim.is_reached}));
        let report = json!({
            "coppice": env!("CARGO_PKG_VERSION"),
            "redis": self.redis,
            "releaseProfile": !cfg!(debug_assertions),
            "seconds": self.seconds,
            "sections": sections.collect::<Vec<_>>(),
            "aims": aims.collect::<Vec<_>>(),
        });
        format!("{report:#}\n")
    }

    fn aims(&self) -> Vec<Aim> {
        let all = || self.sections.iter().flat_map(|section| &section.comparisons);
        let mut aims = Vec::new();
        for section in &self.sections {
            let least = if section.probe_us.is_some() { RATIO_SYNCED } else { RATIO_UNSYNCED };
            for comparison in &section.comparisons {
                if comparison.connections == CONNECTIONS {
                    aims.extend(aims_of(section.title, comparison, least));
                }
            }
        }
        let costs = all().filter(|comparison| is_set(comparison));
        let costs: Vec<f64> = costs.map(|comparison| comparison.figures[0].cpu_us).collect();
        if let Some(first) = costs.first() {
            let value = costs.iter().copied().fold(0.0, f64::max) / first.max(f64::MIN_POSITIVE);
            let text = format!(
                "CPU per operation of the dearest set, at most {SET_GROWTH} of the smallest one's"
            );
            aims.push(Aim { text, value, is_reached: value <= SET_GROWTH });
        }
        aims
    }
}

fn is_set(comparison: &Comparison) -> bool {
    matches!(comparison.workload, Workload::SetChanges { .. })
}

fn aims_of(title: &str, comparison: &Comparison, least: f64) -> [Aim; 2] {
    let name = format!("{}, {CONNECTIONS} connections, {title}", comparison.workload.name());
    let [_, ratio, _] = comparison.ratio;
    let cpu_us = comparison.figures[0].cpu_us;
    [
        Aim {
            text: format!("{name}: at least {least} of redis"),
            value: ratio,
            is_reached: ratio >= least,
        },
        Aim {
            text: format!("{name}: at most {CPU_US} CPU us/op"),
            value: cpu_us,
            is_reached: cpu_us <= CPU_US,
        },
    ]
}

fn write_rows(text: &mut String, comparison: &Comparison) {
    let [least, median, most] = comparison.ratio;
    let ratio = format!("{median:.2} ({least:.2}-{most:.2})");
    let name = comparison.workload.name();
    let connections = comparison.connections.to_string();
    let left = [[name.as_str(), &connections, &ratio], ["", "", ""]];
    for ((server, figures), [name, connections, ratio]) in
        NAMES.into_iter().zip(&comparison.figures).zip(left)
    {
        let _ = writeln!(
            text,
            "{name:<26}  {connections:>4}  {server:<8}  {:>8.0}  {ratio:<16} {:>6.2}  {:>6.2}  \
             {:>9.1}  {:>10.1}  {:>7.1}  {:>8.1}  {:>8}",
            figures.rate,
            milliseconds(figures.p50_us),
            milliseconds(figures.p99_us),
            figures.cpu_us,
            figures.load_cpu_us,
            mebibytes(figures.memory.resident_kib),
            mebibytes(figures.memory.peak_kib),
            figures.syncs.map_or_else(|| "-".to_owned(), |syncs| format!("{syncs:.3}")),
        );
    }
}

fn comparison_json(comparison: &Comparison) -> Value {
    let [least, median, most] = comparison.ratio;
    let [agent, redis] = &comparison.figures;
    json!({
        "workload": comparison.workload.name(),
        "connections": comparison.connections,
        "ratio": median,
        "ratioLeast": least,
        "ratioMost": most,
        NAMES[0]: figures_json(agent),
        NAMES[1]: figures_json(redis),
    })
}

fn figures_json(figures: &Figures) -> Value {
    json!({
        "operationsPerSecond": figures.rate,
        "p50Us": figures.p50_us,
        "p99Us": figures.p99_us,
        "serverCpuUsPerOperation": figures.cpu_us,
        "loadCpuUsPerOperation": figures.load_cpu_us,
        "residentKiB": figures.memory.resident_kib,
        "peakKiB": figures.memory.peak_kib,
        "syncsPerOperation": figures.syncs,
    })
}

fn milliseconds(microseconds: u32) -> f64 {
    f64::from(microseconds) / 1000.0
}

fn mebibytes(kibibytes: u64) -> f64 {
    f64::from(u32::try_from(kibibytes).unwrap_or(u32::MAX)) / 1024.0
}
