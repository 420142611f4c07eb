//! Errors as RFC 9457 problem documents.
//!
//! Each [`Kind`] has one status and one stable `type`; `detail` says what to do.
//! A request that gets one changed nothing, except where the kind is
//! [`Kind::OutcomeUnknown`].

use std::borrow::Cow;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use axum::response::Response;
use coppice_crdt::{CrdtType, JsonError, OperationError, Refusal};

use super::json::JsonBuffer;
use crate::query::QueryError;
use crate::replica_task::SubmitError;

/// What kind of problem it is: status, stable name and title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Malformed,
    NotOffered,
    Forbidden,
    UnknownPath,
    UnknownGroup,
    Absent,
    MethodNotAllowed,
    Conflict,
    PreconditionFailed,
    TooLarge,
    RequestTimeout,
    UnsupportedMediaType,
    Misdirected,
    NotOfThisType,
    LimitReached,
    Overloaded,
    Internal,
    NotImplemented,
    Bootstrapping,
    ShuttingDown,
    OutcomeUnknown,
    StoreUnavailable,
    DiskFull,
}

impl Kind {
    const fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Malformed => (400, "malformed", "Malformed request"),
            Self::NotOffered => (400, "not-offered", "Not offered by this version"),
            Self::Forbidden => (403, "forbidden", "Not for this client"),
            Self::UnknownPath => (404, "unknown-path", "Unknown path"),
            Self::UnknownGroup => (404, "unknown-group", "Unknown group"),
            Self::Absent => (404, "absent", "No such object"),
            Self::MethodNotAllowed => (405, "method-not-allowed", "Method not allowed"),
            Self::RequestTimeout => (408, "request-timeout", "The request took too long"),
            Self::Conflict => (409, "conflict", "Conflict"),
            Self::PreconditionFailed => (412, "precondition-failed", "Precondition failed"),
            Self::TooLarge => (413, "too-large", "Too large"),
            Self::UnsupportedMediaType => (415, "unsupported-media-type", "Wrong content type"),
            Self::Misdirected => (421, "misdirected", "Wrong host"),
            Self::NotOfThisType => (422, "not-of-this-type", "Not an operation of this type"),
            Self::LimitReached => (422, "limit-reached", "A limit is reached"),
            Self::Overloaded => (429, "overloaded", "Too many writes are waiting"),
            Self::Internal => (500, "internal", "Internal error"),
            Self::NotImplemented => (501, "not-implemented", "Not implemented"),
            Self::Bootstrapping => (503, "bootstrapping", "Still being filled by peers"),
            Self::ShuttingDown => (503, "shutting-down", "Stopping"),
            Self::OutcomeUnknown => (503, "outcome-unknown", "The outcome is unknown"),
            Self::StoreUnavailable => (503, "store-unavailable", "The store is being opened"),
            Self::DiskFull => (507, "disk-full", "The disk is full"),
        }
    }
}

/// Why a request is not carried out.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    index: Option<usize>,
    header: Option<(HeaderName, &'static str)>,
    retry_after_secs: Option<u64>,
}

pub(crate) type Answer<T> = Result<T, Problem>;

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), index: None, header: None, retry_after_secs: None }
    }

    /// 400.
    pub(crate) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Malformed, detail)
    }

    /// 400 for what a later version will offer: better than a silent half.
    pub(crate) fn not_offered(what: &str) -> Self {
        Self::new(Kind::NotOffered, format!("{what} is not offered by this version: leave it out"))
    }

    /// 404 for an object.
    pub(crate) fn absent(key: &str) -> Self {
        Self::new(Kind::Absent, format!("there is no object {key:?} in this group"))
    }

    /// 503 while the store is opened for the first time.
    pub(crate) fn opening() -> Self {
        Self {
            retry_after_secs: Some(1),
            ..Self::new(Kind::StoreUnavailable, "the store is being opened: retry")
        }
    }

    /// 405 with the methods that there are.
    pub(crate) fn method_not_allowed(
        allow: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { header: Some((ALLOW, allow)), ..Self::new(Kind::MethodNotAllowed, detail) }
    }

    /// 415 for a body that is compressed.
    pub(crate) fn encoded() -> Self {
        let detail = "send the body as it is, without Content-Encoding";
        Self {
            header: Some((ACCEPT_ENCODING, "identity")),
            ..Self::new(Kind::UnsupportedMediaType, detail)
        }
    }

    /// 501 for a body whose end cannot be told; the connection ends with it.
    pub(crate) fn unknown_framing() -> Self {
        let detail = "of transfer codings there is only chunked: send the body with that \
                      Transfer-Encoding, or with a Content-Length";
        Self { header: Some((CONNECTION, "close")), ..Self::new(Kind::NotImplemented, detail) }
    }

    /// 413.
    pub(crate) fn too_large(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::TooLarge, detail)
    }

    /// The same, saying more.
    pub(crate) fn adding(self, more: &str) -> Self {
        Self { detail: format!("{}{more}", self.detail).into(), ..self }
    }

    /// The same, about one operation of a batch.
    pub(crate) fn at(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    fn by_status(status: u16, detail: String) -> Self {
        let kind = match status {
            404 => Kind::Absent,
            409 => Kind::Conflict,
            413 => Kind::TooLarge,
            422 => Kind::NotOfThisType,
            _ => Kind::Malformed,
        };
        Self::new(kind, detail)
    }

    pub(crate) fn operation(error: &OperationError) -> Self {
        let problem = Self::by_status(error.status(), error.to_string());
        match error {
            OperationError::AmountTooLarge => Self { kind: Kind::LimitReached, ..problem },
            _ => problem,
        }
    }

    pub(crate) fn json(error: &JsonError) -> Self {
        Self::malformed(error.to_string())
    }

    fn refusal(refusal: &Refusal) -> Self {
        let problem = Self::by_status(refusal.status(), refusal.to_string());
        match refusal {
            Refusal::AmountLimit | Refusal::NeedsSteps { .. } => {
                Self { kind: Kind::LimitReached, ..problem }
            }
            _ => problem,
        }
    }

    /// What the writer says; the index is shown only for batches.
    pub(crate) fn submit(error: &SubmitError, is_batch: bool) -> Self {
        let (kind, index) = match error {
            SubmitError::Refused { index, refusal } => {
                let problem = Self::refusal(refusal);
                return if is_batch { problem.at(*index) } else { problem };
            }
            SubmitError::PreconditionFailed { .. } => (Kind::PreconditionFailed, None),
            SubmitError::LimitReached { .. } => (Kind::LimitReached, None),
            SubmitError::UnitTooLarge { .. } => (Kind::TooLarge, None),
            SubmitError::Bootstrapping => (Kind::Bootstrapping, None),
            SubmitError::Overloaded { .. } => (Kind::Overloaded, None),
            SubmitError::DiskFull | SubmitError::DataLimit { .. } => (Kind::DiskFull, None),
            SubmitError::ShuttingDown => (Kind::ShuttingDown, None),
            SubmitError::GroupGone => (Kind::UnknownGroup, None),
            SubmitError::WriterStopped => (Kind::StoreUnavailable, None),
            SubmitError::OutcomeUnknown => (Kind::OutcomeUnknown, None),
        };
        let retry_after_secs = error.retry_after().map(|after| after.as_secs().max(1));
        Self { index, retry_after_secs, ..Self::new(kind, error.to_string()) }
    }

    pub(crate) fn into_response(self) -> Response {
        let (status, name, title) = self.kind.parts();
        let mut json = JsonBuffer::with_capacity(192 + self.detail.len());
        json.open(b'{');
        json.name("type");
        json.raw(b"\"urn:coppice:problem:");
        json.raw(name.as_bytes());
        json.raw(b"\"");
        json.text("title", title);
        json.name("status");
        json.number(status);
        json.text("detail", &self.detail);
        if let Some(index) = self.index {
            json.name("index");
            json.number(index);
        }
        json.close(b'}');
        let mut response = Response::new(Body::from(json.into_bytes()));
        *response.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(seconds) = self.retry_after_secs {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Reopening => Self {
                retry_after_secs: Some(1),
                ..Self::new(Kind::StoreUnavailable, "the store is being opened again: retry")
            },
            QueryError::GroupGone => {
                Self::new(Kind::UnknownGroup, "the group is not served here any more")
            }
            QueryError::Store(cause) => {
                tracing::error!(error = &*cause, "a read of the store failed");
                Self::new(Kind::Internal, "the store could not be read: see the agent's log")
            }
        }
    }
}

/// 422 for a read that another type has.
pub(crate) fn not_of_this_type(what: &str, crdt_type: CrdtType) -> Problem {
    let mend = match crdt_type {
        CrdtType::GSet | CrdtType::ORSet => "ask for `element`, `size` or `view`",
        CrdtType::ORMap => "ask for `field`, `size` or `view`",
        CrdtType::GCounter | CrdtType::PNCounter | CrdtType::EWFlag | CrdtType::LWWRegister => {
            "read it without parameters, or with `view`"
        }
    };
    Problem::new(Kind::NotOfThisType, format!("{} has no {what}: {mend}", crdt_type.with_article()))
}
