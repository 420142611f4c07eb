//! What command lines have in common: how they end early, and how logs are asked for.

use std::process::ExitCode;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use coppice_api::{LogFormat, LogLevel};

/// The exit code of a wrong command line.
pub const EX_USAGE: u8 = 64;

/// A command line that asks for nothing to be run: help, or a mistake.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NothingToRun(#[from] clap::Error);

// === impl NothingToRun ===

impl NothingToRun {
    /// 0 for help and version, else [`EX_USAGE`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.0.use_stderr() { EX_USAGE } else { 0 }
    }

    /// Writes the help or the mistake to where it belongs; the exit code for it.
    pub fn tell(&self) -> ExitCode {
        // Nobody is left to tell if the terminal is gone.
        let _ = self.0.print();
        ExitCode::from(self.exit_code())
    }
}

/// Reads the least severe level that is logged.
#[must_use]
pub fn log_level() -> impl TypedValueParser<Value = LogLevel> {
    let names = PossibleValuesParser::new(LogLevel::NAMES.map(|(name, _)| name));
    names.map(|given| {
        let named = LogLevel::NAMES.into_iter().find(|(name, _)| *name == given);
        // It is one of them.
        named.map_or_else(LogLevel::default, |(_, level)| level)
    })
}

/// Reads the shape of a log line.
#[must_use]
pub fn log_format() -> impl TypedValueParser<Value = LogFormat> {
    let text = PossibleValue::new("text").help("For people");
    let json = PossibleValue::new("json").help("One JSON object a line");
    PossibleValuesParser::new([text, json])
        .map(|given| if given == "json" { LogFormat::Json } else { LogFormat::Text })
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    fn read(words: &[&str]) -> Result<(LogLevel, LogFormat), NothingToRun> {
        let command = Command::new("program")
            .no_binary_name(true)
            .arg(Arg::new("level").long("level").value_parser(log_level()))
            .arg(Arg::new("format").long("format").value_parser(log_format()));
        let matches = command.try_get_matches_from(words)?;
        let level = matches.get_one("level").copied().unwrap_or_default();
        Ok((level, matches.get_one("format").copied().unwrap_or_default()))
    }

    #[test]
    fn levels_and_formats_are_read_by_their_names() {
        for (name, level) in LogLevel::NAMES {
            assert_eq!(read(&["--level", name]).unwrap().0, level);
        }
        assert_eq!(read(&["--format", "json"]).unwrap().1, LogFormat::Json);
        assert_eq!(read(&["--format", "text"]).unwrap().1, LogFormat::Text);
    }

    #[test]
    fn mistakes_end_with_the_code_for_usage_and_help_does_not() {
        for (words, expected) in [
            (["--level", "loud"], "possible values: error, warn, info, debug, trace"),
            (["--format", "xml"], "possible values: text, json"),
        ] {
            let mistake = read(&words).unwrap_err();
            assert_eq!(mistake.exit_code(), EX_USAGE, "{words:?}");
            assert!(mistake.to_string().contains(expected), "{mistake}");
        }
        assert_eq!(read(&["--help"]).unwrap_err().exit_code(), 0);
    }
}
