//! Takes edits of the configuration into force while the agent runs.
//!
//! The file is read once a second and compared by content, which sees every way
//! of replacing it (editors, symbolic links of mounted volumes) at the cost of
//! one small read. It may be read while it is being written, and the first half of a
//! list is a list too: only what two reads in a row have found is judged. A broken
//! edit leaves the running configuration in force. Whether the store can serve what
//! is asked for is not judged here: only the writer knows what it holds, and what it
//! refused may be asked for again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coppice_api::AgentConfig;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{ConfigError, ConfigSource, resolve, written};
use crate::telemetry::ConfigMetrics;

const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Watches one configuration file.
#[derive(Debug)]
pub struct ConfigWatch {
    source: ConfigSource,
    metrics: ConfigMetrics,
    running: watch::Sender<Arc<AgentConfig>>,
    /// What the agent started with: fields that are not followed are as here.
    started: AgentConfig,
    /// The file's own fields as they were last accepted, without flags.
    written: Option<AgentConfig>,
    /// What the last look found, and what was last judged; `None`: nothing that
    /// can be read.
    found: Option<Vec<u8>>,
    judged: Option<Vec<u8>>,
}

impl ConfigWatch {
    /// A watch over the file that `running` was loaded from, and the receiver of
    /// what takes force later.
    #[must_use]
    pub fn new(
        source: ConfigSource,
        running: AgentConfig,
        metrics: ConfigMetrics,
    ) -> (Self, watch::Receiver<Arc<AgentConfig>>) {
        let text = source.source.config.as_ref().and_then(|path| std::fs::read(path).ok());
        let mut watch = Self {
            source,
            metrics,
            started: running.clone(),
            running: watch::Sender::new(Arc::new(running)),
            written: None,
            found: None,
            judged: None,
        };
        watch.begin(text);
        let receiver = watch.running.subscribe();
        (watch, receiver)
    }

    /// Takes this for what was loaded, unless it was edited since: then it is
    /// judged like any edit.
    fn begin(&mut self, text: Option<Vec<u8>>) {
        let loaded = text.filter(|text| {
            resolve(text, &self.source.overrides).is_ok_and(|config| config == self.started)
        });
        self.written = loaded.as_deref().and_then(written);
        self.found.clone_from(&loaded);
        self.judged = loaded;
    }

    /// Looks once a second until `shutdown` fires; without a file, only waits.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let Some(path) = self.source.source.config.clone() else {
            return shutdown.cancelled().await;
        };
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        // Two looks are never closer than the interval, even after a pause.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.look(&path, tokio::fs::read(&path).await);
        }
    }

    /// Judges what the file holds, once two looks in a row have found it.
    fn look(&mut self, path: &Path, read: std::io::Result<Vec<u8>>) {
        let (found, error) = match read {
            Ok(text) => (Some(text), None),
            Err(source) => (None, Some(ConfigError::Read { path: path.to_owned(), source })),
        };
        let is_settled = found == self.found;
        self.found = found;
        if !is_settled || self.found == self.judged {
            return;
        }
        self.judged.clone_from(&self.found);
        let judged = match (&self.judged, error) {
            (Some(text), _) => self.judge(text),
            (None, Some(error)) => Err(error),
            (None, None) => return,
        };
        match judged {
            Ok((next, fields)) => self.accept(path, next, fields),
            Err(error) => {
                self.metrics.refused();
                self.metrics.file_is_current(false);
                warn!(%error, "the edit of the configuration is refused; what ran before stays in force");
            }
        }
    }

    /// The configuration that an edit asks for, and the fields that it lists.
    fn judge(&self, text: &[u8]) -> Result<(AgentConfig, Option<AgentConfig>), ConfigError> {
        let next = resolve(text, &self.source.overrides)?;
        if next.groups.is_empty() && !self.running.borrow().groups.is_empty() {
            return Err(ConfigError::NoGroupLeft);
        }
        Ok((next, written(text)))
    }

    fn accept(&mut self, path: &Path, next: AgentConfig, fields: Option<AgentConfig>) {
        for (field, remark) in self.remarks(&next, fields.as_ref()) {
            warn!(field, "{remark}");
        }
        self.written = fields;
        self.metrics.file_is_current(differing(&self.started, &next).is_empty());
        if next == **self.running.borrow() {
            return;
        }
        self.running.send_replace(Arc::new(next));
        self.metrics.applied();
        info!(file = %path.display(), "the configuration was read again");
    }

    /// The fields that were edited without effect, and why.
    fn remarks(
        &self,
        next: &AgentConfig,
        fields: Option<&AgentConfig>,
    ) -> Vec<(&'static str, String)> {
        let overrides = &self.source.overrides;
        let hidden = self.written.as_ref().zip(fields);
        let hidden = hidden.map(|(before, now)| overrides.hidden(before, now));
        let hidden = hidden.into_iter().flatten().map(|(field, given_by)| {
            (
                field,
                format!("the edit of this field changes nothing: {given_by} wins over the file"),
            )
        });
        let edited = differing(&self.running.borrow(), next);
        let waiting = differing(&self.started, next).into_iter();
        let waiting = waiting.filter(|field| edited.contains(field)).map(|field| {
            (field, "the edit of this field takes effect at the next start".to_owned())
        });
        hidden.chain(waiting).collect()
    }
}

/// The fields in which two configurations differ and that a running agent cannot
/// follow.
fn differing(one: &AgentConfig, other: &AgentConfig) -> Vec<&'static str> {
    let fields = [
        ("replica.name", one.replica != other.replica),
        ("dataDir", one.data_dir != other.data_dir),
        ("dataLimit", one.data_limit != other.data_limit),
        ("listen", one.listen != other.listen),
        ("appUrl", one.app_url != other.app_url),
        ("tls", one.tls != other.tls),
        ("insecurePeers", one.insecure_peers != other.insecure_peers),
        ("startupWait", one.startup_wait != other.startup_wait),
        ("log", one.log != other.log),
    ];
    fields.into_iter().filter_map(|(field, changed)| changed.then_some(field)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Overrides, Source};
    use crate::telemetry::encode_metrics;

    const ONE: &str = "groups: [{name: a, crdt: {type: GSet}}]";
    const TWO: &str = "groups: [{name: a, crdt: {type: GSet}}, {name: b, crdt: {type: ORSet}}]";

    struct Edited {
        watch: ConfigWatch,
        running: watch::Receiver<Arc<AgentConfig>>,
        registry: prometheus::Registry,
    }

    impl Edited {
        fn from(text: &str) -> Self {
            Self::with(text, Overrides::default())
        }

        fn with(text: &str, overrides: Overrides) -> Self {
            let registry = prometheus::Registry::new();
            let metrics = ConfigMetrics::new(&registry).unwrap();
            let config = resolve(text.as_bytes(), &overrides).unwrap();
            let source = ConfigSource { overrides, ..ConfigSource::default() };
            let (mut watch, running) = ConfigWatch::new(source, config, metrics);
            watch.begin(Some(text.as_bytes().to_vec()));
            Self { watch, running, registry }
        }

        fn look(&mut self, text: &str) {
            self.watch.look(Path::new("agent.yaml"), Ok(text.as_bytes().to_vec()));
        }

        fn edit(&mut self, text: &str) {
            self.look(text);
            self.look(text);
        }

        /// Edits, and gives what the log says of single fields.
        fn remarks(&mut self, text: &str) -> Vec<String> {
            let (next, fields) = self.watch.judge(text.as_bytes()).unwrap();
            let remarks = self.watch.remarks(&next, fields.as_ref());
            self.edit(text);
            remarks.into_iter().map(|(field, remark)| format!("{field}: {remark}")).collect()
        }

        /// `coppice_config_current`.
        fn is_current(&self) -> bool {
            let text = String::from_utf8(encode_metrics(&self.registry).unwrap()).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("coppice_config_current "));
            line.unwrap() == "1"
        }

        fn groups(&self) -> usize {
            self.running.borrow().groups.len()
        }

        fn reloads(&self, result: &str) -> u64 {
            let text = String::from_utf8(encode_metrics(&self.registry).unwrap()).unwrap();
            let name = format!("coppice_config_reloads_total{{result=\"{result}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap().parse().unwrap()
        }
    }

    #[test]
    fn an_edit_takes_force() {
        let mut edited = Edited::from(ONE);
        edited.edit(ONE);
        assert_eq!(edited.reloads("applied"), 0, "the file is as it was");
        edited.edit(TWO);
        assert_eq!((edited.groups(), edited.reloads("applied")), (2, 1));
    }

    #[test]
    fn a_broken_edit_leaves_the_running_configuration_and_is_counted_once() {
        let mut edited = Edited::from(ONE);
        for _ in 0..3 {
            edited.edit("groups: [{name: a, crdt: {type: Nothing}}]");
        }
        assert_eq!((edited.groups(), edited.reloads("refused")), (1, 1));
        edited.edit(TWO);
        assert_eq!((edited.groups(), edited.reloads("applied")), (2, 1), "a mended file is taken");
    }

    #[test]
    fn a_file_that_vanishes_is_said_once() {
        let mut edited = Edited::from(ONE);
        let vanished = || Err(std::io::ErrorKind::NotFound.into());
        edited.watch.look(Path::new("agent.yaml"), vanished());
        assert_eq!(edited.reloads("refused"), 0, "it may be about to be replaced");
        for _ in 0..2 {
            edited.watch.look(Path::new("agent.yaml"), vanished());
        }
        assert_eq!((edited.groups(), edited.reloads("refused")), (1, 1));
        assert!(!edited.is_current());
        edited.edit(ONE);
        assert!(edited.is_current());
    }

    #[test]
    fn what_is_found_once_only_is_half_of_an_edit() {
        let mut edited = Edited::from(TWO);
        for half in ["", ONE, "groups: [{name: a, cr"] {
            edited.look(half);
            edited.look(TWO);
            assert_eq!(edited.groups(), 2, "{half}");
        }
        edited.look("");
        edited.look(ONE);
        assert_eq!(edited.groups(), 2, "it is still growing");
        assert_eq!((edited.reloads("applied"), edited.reloads("refused")), (0, 0));
        edited.look(ONE);
        assert_eq!(edited.groups(), 1, "it is all there");
    }

    #[test]
    fn an_edit_that_lists_no_group_is_refused_unless_none_is_served() {
        let mut edited = Edited::from(ONE);
        for (count, empty) in ["", "groups: []", "log: {level: warn}"].into_iter().enumerate() {
            edited.edit(empty);
            let refused = (edited.groups(), edited.reloads("refused"));
            assert_eq!(refused, (1, count as u64 + 1), "{empty:?}");
        }
        let error = edited.watch.judge(b"groups: []").unwrap_err().to_string();
        assert!(error.contains("lists no group") && error.contains("stop the agent"), "{error}");

        let mut edited = Edited::from("");
        edited.edit("groups: []");
        edited.edit(TWO);
        assert_eq!((edited.groups(), edited.reloads("refused")), (2, 0));
    }

    #[test]
    fn the_gauge_tells_whether_the_file_is_in_force() {
        let mut edited = Edited::from(ONE);
        let with = |fields: &str| format!("{fields}\n{ONE}");
        assert!(edited.is_current());
        for (text, is_current) in [
            ("nonsense", false),
            (ONE, true),
            (&with("dataDir: ./elsewhere"), false),
            (TWO, true),
            ("groups: []", false),
            (TWO, true),
        ] {
            edited.edit(text);
            assert_eq!(edited.is_current(), is_current, "{text}");
        }
    }

    #[test]
    fn a_field_that_waits_for_the_next_start_is_named_until_it_is_set_back() {
        let with = |fields: &str| format!("{fields}\n{ONE}");
        let mut edited = Edited::from(ONE);
        let waits = |field: &str| {
            vec![format!("{field}: the edit of this field takes effect at the next start")]
        };
        assert_eq!(edited.remarks(&with("dataDir: ./elsewhere")), waits("dataDir"));
        let both = with("dataDir: ./elsewhere\nstartupWait: 1s");
        assert_eq!(edited.remarks(&both), waits("startupWait"), "the other is known");
        assert!(edited.remarks(&with("dataDir: ./data")).is_empty(), "both are as they run");
        assert!(edited.is_current());
    }

    #[test]
    fn an_edit_of_a_field_that_a_flag_gives_is_told_once() {
        let peers =
            |port: u16| format!("discovery: {{static: {{peers: [127.0.0.1:{port}]}}}}\n{ONE}");
        let given = vec!["127.0.0.1:1".parse().unwrap()];
        let overrides = Overrides { peers: Some(given), ..Overrides::default() };
        let mut edited = Edited::with(&peers(2), overrides);
        let told = "discovery.static.peers: the edit of this field changes nothing: \
                    --peer (COPPICE_PEERS) wins over the file";
        assert_eq!(edited.remarks(&peers(3)), [told]);
        assert!(edited.is_current(), "a flag that wins is no mistake");
        let other = format!("{}\nstartupWait: 10s", peers(3));
        assert!(edited.remarks(&other).is_empty(), "no such field was edited");
        assert_eq!(edited.remarks(&peers(2)), [told]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_file_on_disk_is_followed_until_shutdown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.yaml");
        std::fs::write(&path, ONE).unwrap();
        let source = Source { config: Some(path.clone()), ..Source::default() };
        let source = ConfigSource { source, overrides: Overrides::default() };
        let config = super::super::load(&source).unwrap();
        let metrics = ConfigMetrics::new(&prometheus::Registry::new()).unwrap();
        let (watch, mut running) = ConfigWatch::new(source, config, metrics);

        std::fs::write(&path, TWO).unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let followed = async {
            running.changed().await.unwrap();
            stop.cancel();
            running.borrow().groups.len()
        };
        let ((), groups) = tokio::join!(watch.run(shutdown), followed);
        assert_eq!(groups, 2);
    }
}
