//! Logs.

use std::io::{self, IsTerminal as _};

use coppice_api::{LogFormat, LogLevel};
use tracing_subscriber::EnvFilter;

/// Logging was already set up.
#[derive(Debug, thiserror::Error)]
#[error("logs were already set up")]
pub struct LogsAlreadySetUp(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Writes logs to stderr from now on.
///
/// What `kube` and the HTTP stack say is shown from `warn` on, unless the level is
/// `trace`: they log each request.
///
/// # Errors
///
/// [`LogsAlreadySetUp`] on a second call; the first one stays in force.
pub fn init_logs(level: LogLevel, format: LogFormat) -> Result<(), LogsAlreadySetUp> {
    let is_person =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives(level)))
        .with_ansi(is_person)
        .with_writer(io::stderr)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(LogsAlreadySetUp)
}

const fn directives(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "warn,coppice_operator=info",
        LogLevel::Debug => "warn,coppice_operator=debug",
        LogLevel::Trace => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_a_filter() {
        for (_, level) in LogLevel::NAMES {
            assert!(EnvFilter::try_new(directives(level)).is_ok(), "{level:?}");
        }
    }
}
