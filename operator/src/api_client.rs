//! The client of the API server: every request counted, none retried behind our back.
//!
//! kube's own retries go on for minutes, while a lease runs out or a reconcile holds its
//! place; so they are off, what fails is tried again by whoever asked, and calls that are
//! no watch end within [`CALL`].

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::{Layer, Service};

use crate::metrics::Metrics;

/// How long one call may take.
pub const CALL: Duration = Duration::from_secs(10);
/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(5);

/// A call to the API server did not end well.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API server refused it, or could not be reached.
    #[error("{}", said(.0))]
    Failed(#[source] Box<kube::Error>),
    /// It took too long; whether it was done is not known.
    #[error("no answer from the API server within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// What is thrown when no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is neither a service account nor a kubeconfig.
    #[error("find the API server (in a pod: the service account's token; else: KUBECONFIG)")]
    NoConfig(#[from] kube::config::InferConfigError),
    /// The configuration is not usable.
    #[error("use the configuration of the API server")]
    Unusable(#[from] Box<kube::Error>),
}

/// A client by the pod's service account, or by `KUBECONFIG`.
///
/// # Errors
///
/// If neither is there or usable; the API server itself is not asked.
pub async fn connect(metrics: Metrics) -> Result<Client, ConnectError> {
    let mut config = Config::infer().await?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    let builder = ClientBuilder::try_from(config).map_err(Box::new)?;
    Ok(builder.with_layer(&Counting { metrics }).build())
}

/// Ends `call` after `limit`.
///
/// # Errors
///
/// As the call; [`CallError::TimedOut`] if there was no answer.
pub async fn within<T>(
    limit: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| CallError::Failed(Box::new(error))),
        Err(_) => Err(CallError::TimedOut(limit)),
    }
}

/// Ends `call` after [`CALL`].
///
/// # Errors
///
/// As [`within`].
pub async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    within(CALL, call).await
}

/// `call`, with "not there" as an answer.
///
/// # Errors
///
/// As [`within`], but not for a 404.
pub async fn call_opt<T>(
    call: impl Future<Output = kube::Result<T>>,
) -> Result<Option<T>, CallError> {
    match within(CALL, call).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

// === impl CallError ===

impl CallError {
    /// Whether the object was not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether the object was changed meanwhile, or is there already.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether it was reached, and will say the same until someone changes something:
    /// not that it was busy, or that the object was changed meanwhile.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.code().is_some_and(|code| (400..500).contains(&code) && ![409, 429].contains(&code))
    }

    /// The HTTP status that the API server answered with, if it did.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Failed(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::TimedOut(_) => None,
        }
    }
}

/// What the API server said, or what kept it from being asked.
fn said(error: &kube::Error) -> String {
    match error {
        // Its own words; the rest of a status repeats them.
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        error => error.to_string(),
    }
}

/// Counts requests by verb and status.
#[derive(Clone, Debug)]
struct Counting {
    metrics: Metrics,
}

/// A client's transport whose requests are counted.
#[derive(Clone, Debug)]
struct Counted<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: self.metrics.clone() }
    }
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let verb = verb(&request);
        let metrics = self.metrics.clone();
        let answering = self.inner.call(request);
        Box::pin(async move {
            let answered = answering.await;
            metrics.api_requested(
                verb,
                match &answered {
                    Ok(response) => class(response.status().as_u16()),
                    Err(_) => "0",
                },
            );
            answered
        })
    }
}

/// The verb that the API server's own metrics would give the request.
fn verb<B>(request: &Request<B>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    let is_apply =
        content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/apply"));
    match *request.method() {
        Method::GET if query.contains("watch=true") => "watch",
        // kube gives every list a limit or a selector, and no GET of one object either.
        Method::GET if !query.is_empty() => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH if is_apply => "apply",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

const fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1",
        2 => "2",
        3 => "3",
        4 => "4",
        5 => "5",
        _ => "0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_verbs_of_the_api_server() {
        let patch = |content_type| {
            Request::patch("/api/v1/namespaces/a/services/s?fieldManager=x")
                .header(http::header::CONTENT_TYPE, content_type)
                .body(())
                .unwrap()
        };
        assert_eq!(verb(&patch("application/apply-patch+yaml")), "apply");
        assert_eq!(verb(&patch("application/merge-patch+json")), "patch");
        for (uri, expected) in [
            ("/api/v1/pods?watch=true&resourceVersion=1", "watch"),
            ("/api/v1/pods?limit=500", "list"),
            ("/api/v1/namespaces/kube-system", "get"),
        ] {
            assert_eq!(verb(&Request::get(uri).body(()).unwrap()), expected, "{uri}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends() {
        let error = call::<()>(std::future::pending()).await.unwrap_err();
        assert!(matches!(error, CallError::TimedOut(_)), "{error}");
        assert_eq!(error.code(), None);
    }
}
