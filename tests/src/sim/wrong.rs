//! What is wrong with a run, and what noticed it.

use std::fmt;

/// What noticed that a run went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noticed {
    /// Something is not as recorded visibility says.
    Oracle,
    /// Replicas do not become equal although all is healed.
    Patience,
    /// The code under test itself: a link closed, a store refused.
    Core,
    /// An assertion of the code under test.
    Panic,
}

/// Why a run fails.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    pub(super) noticed: Noticed,
    pub(super) text: String,
}

impl Wrong {
    pub(super) fn core(error: impl fmt::Display) -> Self {
        Self { noticed: Noticed::Core, text: error.to_string() }
    }

    pub(super) const fn patience(text: String) -> Self {
        Self { noticed: Noticed::Patience, text }
    }

    /// Says where.
    pub(super) fn at(self, place: impl fmt::Display) -> Self {
        Self { text: format!("{place}: {}", self.text), ..self }
    }
}

impl From<String> for Wrong {
    fn from(text: String) -> Self {
        Self { noticed: Noticed::Oracle, text }
    }
}

impl From<&str> for Wrong {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Noticed {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oracle => "oracle",
            Self::Patience => "never equal",
            Self::Core => "refused by the core",
            Self::Panic => "panic",
        }
    }
}
