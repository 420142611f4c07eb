//! Why a certificate is refused, and what to do about it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use coppice_api::cluster::{INJECTED_LABEL, SIGNING_AUDIENCE};
use serde_json::json;

use crate::api_client::CallError;

/// Why no certificate was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No bearer token.
    #[error("show the pod's token of audience {SIGNING_AUDIENCE} as `Authorization: Bearer`")]
    NoToken,
    /// The API server does not vouch for it.
    #[error(
        "the token is refused: {0}; read it anew from its volume, and if this goes on look \
         whether the pod still exists"
    )]
    TokenRefused(String),
    /// It is somebody's, but no pod's.
    #[error(
        "the token is bound to no pod; use the one that Kubernetes projects into the sidecar \
         (volume coppice-operator-token)"
    )]
    NotAPod,
    /// There is no such pod, or another of its name.
    #[error("pod {0} is gone, or is another one by now; this one needs no certificate")]
    NoSuchPod(String),
    /// Its containers have ended.
    #[error("pod {0} has finished; it needs no certificate")]
    Finished(String),
    /// It was not injected.
    #[error(
        "pod {0} lacks the label {INJECTED_LABEL}: \"true\", which injection sets; leave that \
         label on it, or start the pod anew"
    )]
    NotInjected(String),
    /// The body is no request.
    #[error("the body is no certificate request: {0}")]
    Malformed(String),
    /// The key cannot be certified.
    #[error("the request's key cannot be certified: {0}")]
    BadKey(String),
    /// The body is too long.
    #[error("the body is longer than 64 KiB, and no request is")]
    TooLarge,
    /// The body took too long.
    #[error("the body took longer than 10 s to arrive; try again")]
    TooSlow,
    /// Too much is going on.
    #[error("too many requests at a time; try again in a second")]
    Overloaded,
    /// This replica has not read authorities or groups yet.
    #[error("this replica is starting; try again in a second")]
    NotReady,
    /// The API server was needed, and did not answer.
    #[error("the operator cannot ask the API server: {0}; try again in a few seconds")]
    ApiServer(String),
}

// === impl Refusal ===

impl Refusal {
    pub(super) fn api(error: &CallError) -> Self {
        Self::ApiServer(error.to_string())
    }

    /// A stable name: the problem's type, and a metric's label.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.parts().1
    }

    const fn parts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "no-token", "No token"),
            Self::TokenRefused(_) => {
                (StatusCode::UNAUTHORIZED, "token-refused", "The token is refused")
            }
            Self::NotAPod => (StatusCode::FORBIDDEN, "not-a-pod", "Not a pod's token"),
            Self::NoSuchPod(_) => (StatusCode::FORBIDDEN, "no-such-pod", "No such pod"),
            Self::Finished(_) => (StatusCode::FORBIDDEN, "finished", "The pod has finished"),
            Self::NotInjected(_) => {
                (StatusCode::FORBIDDEN, "not-injected", "The pod is not injected")
            }
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed", "Malformed request"),
            Self::BadKey(_) => (StatusCode::BAD_REQUEST, "bad-key", "The key cannot be certified"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large"),
            Self::TooSlow => {
                (StatusCode::REQUEST_TIMEOUT, "request-timeout", "The request took too long")
            }
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded"),
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready yet"),
            Self::ApiServer(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "api-server", "The API server does not answer")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, name, title) = self.parts();
        let problem = json!({
            "type": format!("urn:coppice:problem:{name}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let mut response = (status, problem.to_string()).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
