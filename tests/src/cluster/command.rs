//! Commands that the environment names.

use std::env;
use std::process::Command;

use super::{Failure, lacks};

/// A command in an environment variable: words separated by spaces, to which
/// arguments are added.
#[derive(Clone, Debug)]
pub struct Environment {
    variable: &'static str,
    words: Vec<String>,
}

impl Environment {
    /// The command that the variable names.
    #[must_use]
    pub fn named(variable: &'static str) -> Option<Self> {
        let text = env::var(variable).ok()?;
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        (!words.is_empty()).then_some(Self { variable, words })
    }

    /// The same, for a test that cannot do without.
    #[must_use]
    pub fn needed(variable: &'static str, test: &str) -> Option<Self> {
        let found = Self::named(variable);
        if found.is_none() {
            lacks(test, &format!("{variable} names no command"));
        }
        found
    }

    /// Runs it with one more argument.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or fails.
    pub fn run(&self, argument: &str) -> Result<String, Failure> {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).arg(argument);
        run_command(&mut command).map_err(|error| Failure(format!("{}: {error:?}", self.variable)))
    }
}

/// Runs a command to its end; what it printed.
///
/// # Errors
///
/// If it cannot be started, or fails: with what it said.
pub fn run_command(command: &mut Command) -> Result<String, Failure> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| Failure(format!("{shown}: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure(format!("{shown}: {}: {}", output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
