//! Logs, on stderr.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};

use coppice_api::{LogFormat, LogLevel};
use tracing_subscriber::EnvFilter;

/// What libraries say, beside what we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libraries {
    /// Logged at the level of ours.
    AsOurs,
    /// Logged from `warn` on, unless the level is `trace`: they tell each request.
    FromWarn,
}

/// Logging was already set up.
#[derive(Debug, thiserror::Error)]
#[error("logs were already set up")]
pub struct LogsAlreadySetUp(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Writes logs to stderr from now on.
///
/// # Errors
///
/// [`LogsAlreadySetUp`] on a second call; the first one stays in force.
pub fn init_logs(
    level: LogLevel,
    format: LogFormat,
    libraries: Libraries,
) -> Result<(), LogsAlreadySetUp> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives(level, libraries)))
        .with_ansi(shows_colours(io::stderr().is_terminal(), std::env::var_os("NO_COLOR")))
        .with_writer(io::stderr)
        // What cannot be logged is lost: the log may be on the volume that is full. To
        // say so, on stderr again, would end the thread.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(LogsAlreadySetUp)
}

/// Whether text is coloured: for a person who does not object (no-color.org).
fn shows_colours(is_terminal: bool, no_color: Option<OsString>) -> bool {
    is_terminal && no_color.is_none_or(|set| set.is_empty())
}

/// What is logged. The libraries that speak to Kubernetes say each failed call each time,
/// which is for those who look for details: ours say it once.
fn directives(level: LogLevel, libraries: Libraries) -> String {
    let is_detailed = matches!(level, LogLevel::Debug | LogLevel::Trace);
    let level = level.name();
    let mut directives = match (level, libraries) {
        ("info" | "debug", Libraries::FromWarn) => format!("warn,coppice={level}"),
        _ => level.to_owned(),
    };
    if !is_detailed {
        directives.push_str(",kube_client=off,kube_runtime=off");
    }
    directives
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing::{Level, enabled};

    use super::*;

    /// What is logged of one line of each kind.
    fn logged(level: LogLevel, libraries: Libraries) -> Vec<&'static str> {
        let filter = EnvFilter::try_new(directives(level, libraries)).unwrap();
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).finish();
        let lines = with_default(subscriber, || {
            [
                ("call", enabled!(target: "kube_client::client::builder", Level::ERROR)),
                ("watch", enabled!(target: "kube_runtime::watcher", Level::ERROR)),
                ("failure", enabled!(target: "coppice_operator::lease", Level::ERROR)),
                ("odd", enabled!(target: "hyper", Level::WARN)),
                ("stop", enabled!(target: "coppice_process::signals", Level::INFO)),
                ("request", enabled!(target: "hyper", Level::INFO)),
                ("link", enabled!(target: "coppice_agent::peer", Level::DEBUG)),
                ("frame", enabled!(target: "h2", Level::DEBUG)),
            ]
        });
        lines.into_iter().filter_map(|(line, is_logged)| is_logged.then_some(line)).collect()
    }

    #[test]
    fn only_people_see_colours() {
        assert!(shows_colours(true, None));
        assert!(shows_colours(true, Some(OsString::new())), "an empty variable says nothing");
        assert!(!shows_colours(true, Some("1".into())));
        assert!(!shows_colours(false, None), "a file is no terminal");
    }

    #[test]
    fn each_failed_call_is_for_those_who_look_for_details() {
        for libraries in [Libraries::AsOurs, Libraries::FromWarn] {
            assert_eq!(logged(LogLevel::Error, libraries), ["failure"]);
            assert_eq!(logged(LogLevel::Warn, libraries), ["failure", "odd"]);
            for detailed in [LogLevel::Debug, LogLevel::Trace] {
                assert_eq!(logged(detailed, libraries)[..2], ["call", "watch"], "{detailed:?}");
            }
        }
    }

    #[test]
    fn requests_are_told_where_they_are_few() {
        let few = logged(LogLevel::Info, Libraries::AsOurs);
        assert_eq!(few, ["failure", "odd", "stop", "request"]);
        let many = |level| logged(level, Libraries::FromWarn);
        assert_eq!(many(LogLevel::Info), ["failure", "odd", "stop"]);
        assert_eq!(many(LogLevel::Debug)[2..], ["failure", "odd", "stop", "link"]);
        assert_eq!(many(LogLevel::Trace).len(), 8, "everything");
    }
}
