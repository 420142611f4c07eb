//! Names that no earlier run has used.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// Five letters and digits.
#[must_use]
pub fn suffix() -> String {
    // The only source of chance in the standard library: each state is another.
    let number = RandomState::new().build_hasher().finish();
    format!("{:05x}", number & 0xf_ffff)
}
