//! Why a test of the cluster ends.

use std::fmt;

/// What went wrong, in words. Its `Debug` is its text, for that is what a test that
/// returns it prints.
#[derive(Clone)]
pub struct Failure(pub String);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
