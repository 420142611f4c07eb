//! An element of a set: a JSON value in canonical form, of bounded size.
//!
//! Two elements are the same if their canonical texts are: `1e3` and `1000`, an
//! object whose members come in another order. They are ordered by the bytes of
//! those texts, which is how stores keep and listings show them.
//!
//! Source: RFC 8785.

use std::fmt;

use crate::{Json, JsonError};

/// The canonical text of a set's element, at most [`Element::MAX_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element(Box<str>);

/// Why a value cannot be an element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// It has no canonical form, or is no JSON at all.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Its canonical form is too long.
    #[error(
        "an element may have {} bytes in canonical form, and this one has {bytes}",
        Element::MAX_BYTES
    )]
    TooLarge {
        /// The length of the canonical form.
        bytes: usize,
    },
}

impl Element {
    /// The most bytes a canonical form may have: 4 KiB.
    pub const MAX_BYTES: usize = 4 * 1024;

    /// The element that a value is.
    ///
    /// # Errors
    ///
    /// [`ElementError`]: the client is told.
    pub fn new(value: &Json) -> Result<Self, ElementError> {
        let text = value.canonical()?;
        if text.len() > Self::MAX_BYTES {
            return Err(ElementError::TooLarge { bytes: text.len() });
        }
        Ok(Self(text.into()))
    }

    /// The element that `bytes` are a JSON text of, canonical or not.
    ///
    /// # Errors
    ///
    /// [`ElementError`]: the client is told.
    pub fn parse(bytes: &[u8]) -> Result<Self, ElementError> {
        Self::new(&Json::parse(bytes)?)
    }

    /// The element whose canonical text an entry's key holds. Bytes that only a
    /// damaged peer can have put there are shown as well as they can be.
    #[must_use]
    pub fn from_key(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(bytes).into())
    }

    /// The canonical JSON text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes of the canonical JSON text, as they stand in an entry's key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ElementError {
    /// The HTTP status that tells a client this.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Json(_) => 400,
            Self::TooLarge { .. } => 413,
        }
    }
}
