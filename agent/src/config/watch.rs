//! Takes edits of the configuration into force while the agent runs.
//!
//! The file is read once a second and compared by content, which sees every way
//! of replacing it (editors, symbolic links of mounted volumes) at the cost of
//! one small read. A broken edit leaves the running configuration in force. Whether
//! the store can serve what is asked for is not judged here: only the writer knows
//! what it holds, and what it refused may be asked for again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coppice_api::AgentConfig;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{ConfigError, ConfigSource, resolve};
use crate::telemetry::ConfigMetrics;

const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Watches one configuration file.
#[derive(Debug)]
pub struct ConfigWatch {
    source: ConfigSource,
    metrics: ConfigMetrics,
    running: watch::Sender<Arc<AgentConfig>>,
    /// What the file held when it was last judged; `None`: it could not be read.
    judged: Option<Vec<u8>>,
}

impl ConfigWatch {
    /// A watch over the file that `running` was loaded from, and the receiver of
    /// what takes force later. The first look takes the file as it is.
    #[must_use]
    pub fn new(
        source: ConfigSource,
        running: AgentConfig,
        metrics: ConfigMetrics,
    ) -> (Self, watch::Receiver<Arc<AgentConfig>>) {
        let judged = source.source.config.as_ref().and_then(|path| std::fs::read(path).ok());
        let (running, receiver) = watch::channel(Arc::new(running));
        (Self { source, metrics, running, judged }, receiver)
    }

    /// Looks once a second until `shutdown` fires; without a file, only waits.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let Some(path) = self.source.source.config.clone() else {
            return shutdown.cancelled().await;
        };
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.look(&path, tokio::fs::read(&path).await);
        }
    }

    /// Judges what the file holds now, if that is new.
    fn look(&mut self, path: &Path, read: std::io::Result<Vec<u8>>) {
        let text = match read {
            Ok(text) if self.judged.as_ref() == Some(&text) => return,
            Ok(text) => text,
            Err(source) => {
                // Said once, not each second.
                if self.judged.take().is_some() {
                    self.refuse(&ConfigError::Read { path: path.to_owned(), source });
                }
                return;
            }
        };
        let judged = self.judged.insert(text);
        let running = self.running.borrow().clone();
        match resolve(judged, &self.source.overrides) {
            Ok(next) if next == *running => {}
            Ok(next) => {
                for field in needing_restart(&running, &next) {
                    warn!(field, "the edit of this field takes effect at the next start");
                }
                self.running.send_replace(Arc::new(next));
                self.metrics.applied();
                info!(file = %path.display(), "the configuration was read again");
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&self, error: &ConfigError) {
        self.metrics.refused();
        warn!(%error, "the edit of the configuration is refused; what ran before stays in force");
    }
}

/// The changed fields that a running agent cannot follow.
fn needing_restart(running: &AgentConfig, next: &AgentConfig) -> Vec<&'static str> {
    let fields = [
        ("replica.name", running.replica != next.replica),
        ("dataDir", running.data_dir != next.data_dir),
        ("listen", running.listen != next.listen),
        ("appUrl", running.app_url != next.app_url),
        ("tls", running.tls != next.tls),
        ("insecurePeers", running.insecure_peers != next.insecure_peers),
        ("startupWait", running.startup_wait != next.startup_wait),
        ("log", running.log != next.log),
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
            let registry = prometheus::Registry::new();
            let metrics = ConfigMetrics::new(&registry).unwrap();
            let config = resolve(text.as_bytes(), &Overrides::default()).unwrap();
            let (mut watch, running) = ConfigWatch::new(ConfigSource::default(), config, metrics);
            watch.judged = Some(text.as_bytes().to_vec());
            Self { watch, running, registry }
        }

        fn edit(&mut self, text: &str) {
            self.watch.look(Path::new("agent.yaml"), Ok(text.as_bytes().to_vec()));
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
        for _ in 0..2 {
            edited.watch.look(Path::new("agent.yaml"), Err(std::io::ErrorKind::NotFound.into()));
        }
        assert_eq!((edited.groups(), edited.reloads("refused")), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_file_on_disk_is_followed_until_shutdown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.yaml");
        std::fs::write(&path, ONE).unwrap();
        let source = Source { config: Some(path.clone()), group: Vec::new() };
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
