//! A real Prometheus, with the chart's rules.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coppice_tests::eventually::eventually_every;
use coppice_tests::trio::Failure;
use serde_json::{Value, json};
use tempfile::TempDir;

const START: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(200);

/// A process to scrape: its address, and its labels.
pub(crate) type Target = Value;

/// Killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    url: String,
    folder: TempDir,
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member has a parent").to_owned()
}

/// Runs a program in the root; what it printed, or its complaint.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    Err(format!("{program} {}: {said}", arguments.join(" ")))
}

impl Prometheus {
    /// One that scrapes nothing yet, each second.
    pub(crate) fn start() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("coppice-rules-").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("targets.json"), "[]")?;
        // JSON is YAML.
        let configuration = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "5s"},
            "rule_files": [root().join("charts/coppice/rules/coppice.yaml")],
            "scrape_configs": [{
                "job_name": "coppice",
                "file_sd_configs": [{"files": [path("targets.json")], "refresh_interval": "1s"}],
            }],
        });
        fs::write(path("prometheus.yaml"), configuration.to_string())?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let flag = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let child = Command::new("prometheus")
            .arg(flag("config.file", &path("prometheus.yaml")))
            .arg(flag("storage.tsdb.path", &path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log"))?)
            .spawn()
            .map_err(|error| format!("prometheus: {error}"))?;
        let prometheus = Self { child, url: format!("http://127.0.0.1:{port}"), folder };
        let is_ready = || run("curl", &["-fsS", &format!("{}/-/ready", prometheus.url)]).ok();
        if eventually_every(PAUSE, START, is_ready).is_none() {
            let log = fs::read_to_string(prometheus.folder.path().join("log"))?;
            return Err(format!("Prometheus was not ready in time: {log}").into());
        }
        Ok(prometheus)
    }

    /// From now on scrapes these, and no others.
    pub(crate) fn scrape(&self, targets: &[Target]) -> Result<(), Failure> {
        let file = self.folder.path().join("targets.json");
        // Whole or not at all: it is read when it changes.
        let next = file.with_extension("new");
        fs::write(&next, Value::from(targets).to_string())?;
        Ok(fs::rename(next, file)?)
    }

    /// Whether an expression has data; else why not. Not a number is no data.
    pub(crate) fn query(&self, expression: &str) -> Result<(), String> {
        let answer = self.get("query", &["--data-urlencode", &format!("query={expression}")])?;
        let samples = answer["result"].as_array().ok_or("no vector")?;
        if samples.iter().any(|sample| sample["value"][1] != "NaN") {
            return Ok(());
        }
        Err(if samples.is_empty() { "no data".to_owned() } else { "not a number".to_owned() })
    }

    /// The alerts that it has loaded: name and expression.
    pub(crate) fn alerts(&self) -> Result<Vec<(String, String)>, Failure> {
        let answer = self.get("rules", &[])?;
        let groups = answer["groups"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        Ok(rules.map(|rule| (text(&rule["name"]), text(&rule["query"]))).collect())
    }

    fn get(&self, path: &str, more: &[&str]) -> Result<Value, String> {
        let url = format!("{}/api/v1/{path}", self.url);
        let mut arguments = vec!["-sS", "--get", &url];
        arguments.extend(more);
        let answer: Value =
            serde_json::from_str(&run("curl", &arguments)?).map_err(|error| error.to_string())?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(answer["error"].to_string()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
