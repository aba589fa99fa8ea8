//! What is served under which path: one function each.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::json;

use super::census::Census;
use super::{Windows, metrics, origin};

const INDEX: &str = "\
lakh admin

/health             whether the process answers
/ready              200 while new clients are welcome, 503 while starting or draining
/metrics            all counters and gauges, for Prometheus
/tree               the supervision tree and its restarts; ?format=text
/profile            where the memory is, trend and alarms; ?format=text (as `lakh profile`)
/profile/history    the snapshots of the profiler, oldest first
/connections        the largest and the busiest connections; ?most=20
";

/// Connections listed, as asked for by default and at most.
const MOST_DEFAULT: usize = 20;
const MOST_MAX: usize = 1_000;
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn router(windows: Arc<Windows>) -> Router {
    let connections = Arc::new(Census::default());
    let registry = Arc::new(metrics::registry(Arc::clone(&windows)));
    Router::new()
        .route("/", get(async || INDEX))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(async move || exposition(&registry)))
        .route("/tree", get(tree))
        .route("/profile", get(profile))
        .route("/profile/history", get(history))
        .route("/connections", get(async move |windows, asked| census(&connections, windows, asked).await))
        .fallback(async || (StatusCode::NOT_FOUND, format!("Nothing is served at this path.\n\n{INDEX}")))
        .method_not_allowed_fallback(async || {
            (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], "Only GET is served here.\n")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&windows), origin::check))
        .with_state(windows)
}

async fn health(State(windows): State<Arc<Windows>>) -> Response {
    Json(json!({
        "status": "ok",
        "version": windows.version,
        "uptime_s": windows.started.elapsed().as_secs(),
        "pid": std::process::id(),
        "connections": windows.connections_open(),
    }))
    .into_response()
}

async fn ready(State(windows): State<Arc<Windows>>) -> Response {
    let ready = windows.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready }))).into_response()
}

fn exposition(registry: &Registry) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn tree(State(windows): State<Arc<Windows>>, headers: HeaderMap, Query(asked): Query<Asked>) -> Response {
    let tree = (windows.tree)();
    match asked.format(&headers) {
        Format::Json => Json(tree).into_response(),
        Format::Text => tree.to_string().into_response(),
    }
}

async fn profile(State(windows): State<Arc<Windows>>, headers: HeaderMap, Query(asked): Query<Asked>) -> Response {
    match (windows.profiler(|profiler| profiler.report()), asked.format(&headers)) {
        (None, _) => profiler_is_held(),
        (Some(report), Format::Json) => Json(report).into_response(),
        (Some(report), Format::Text) => report.to_string().into_response(),
    }
}

async fn history(State(windows): State<Arc<Windows>>) -> Response {
    match windows.profiler(|profiler| profiler.history().snapshots().to_vec()) {
        None => profiler_is_held(),
        Some(snapshots) => Json(snapshots).into_response(),
    }
}

async fn census(census: &Census, State(windows): State<Arc<Windows>>, Query(asked): Query<AskedForMost>) -> Response {
    let most = asked.most.unwrap_or(MOST_DEFAULT).min(MOST_MAX);
    Json(census.take(&windows.berths, most).await).into_response()
}

fn profiler_is_held() -> Response {
    let why = "The profiler is busy or hangs: ask again, or look at /tree and /metrics.\n";
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], why).into_response()
}

#[derive(Deserialize)]
struct AskedForMost {
    most: Option<usize>,
}

#[derive(Deserialize)]
struct Asked {
    format: Option<Format>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Text,
}

impl Asked {
    /// What the query says, and else what `Accept` prefers; JSON if neither does.
    fn format(&self, headers: &HeaderMap) -> Format {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let prefers_text = accept.contains("text/") && !accept.contains("json");
        self.format.unwrap_or(if prefers_text { Format::Text } else { Format::Json })
    }
}
