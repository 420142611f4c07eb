//! The operations port: `/metrics`, `/livez`, `/readyz`.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder as _, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// How long open requests may take after the end of all else.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Shown {
    registry: Registry,
    readiness: Readiness,
}

/// Serves until `stop`.
///
/// `/livez` answers as long as the runtime runs: a lost task ends the process, so there
/// is nothing else to ask.
///
/// # Errors
///
/// If the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    readiness: Readiness,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let ended = stop.clone();
    let app = router(registry, readiness);
    let serving = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
    tokio::select! {
        served = serving => served,
        () = async { ended.cancelled().await; tokio::time::sleep(LAST_REQUESTS).await } => Ok(()),
    }
}

fn router(registry: Registry, readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Shown { registry, readiness })
}

async fn readyz(State(shown): State<Shown>) -> Response {
    match shown.readiness.check() {
        Ok(()) => "ok\n".into_response(),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing).into_response(),
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let mut text = Vec::with_capacity(16 * 1024);
    match TextEncoder::new().encode(&shown.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn probes_tell_apart_alive_and_ready() {
        let readiness = Readiness::default();
        let part = readiness.part("certificates");
        let registry = Registry::new();
        let counter = prometheus::IntCounter::new("coppice_operator_test", "One.").unwrap();
        registry.register(Box::new(counter)).unwrap();
        let router = router(registry, readiness);

        assert_eq!(get(&router, "/livez").await.0, StatusCode::OK);
        let (status, text) = get(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("certificates"), "{text}");
        part.set(true);
        assert_eq!(get(&router, "/readyz").await.0, StatusCode::OK);
        assert!(get(&router, "/metrics").await.1.contains("coppice_operator_test 0"));
    }
}
