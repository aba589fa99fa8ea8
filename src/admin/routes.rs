//! What is served under which path: one function each.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::census::Census;
use super::{Unreloaded, Windows, catalogue, metrics, origin};

const INDEX: &str = "\
lakh admin

/health             whether the process answers
/ready              200 while new clients are welcome, 503 while starting or draining
/metrics            all counters and gauges, for Prometheus
/upstreams          the servers behind the gateway: state, era, version, calls, errors; ?format=text
/catalogue          what they offer together; ?format=text (as `lakh catalogue`)
/tree               the supervision tree and its restarts; ?format=text
/profile            where the memory is, trend and alarms; ?format=text (as `lakh profile`)
/profile/history    the snapshots of the profiler, oldest first
/capacity           how full the house is, what is full first, advice to scale; ?format=text
/connections        the largest and the busiest connections; ?most=20

POST /reload        read the configuration again; clients stay (as SIGHUP)
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
        .route("/upstreams", get(upstreams))
        .route("/catalogue", get(catalogue))
        .route("/reload", post(reload).fallback(only("POST", "Only POST is served at this path.\n")))
        .route("/tree", get(tree))
        .route("/profile", get(profile))
        .route("/profile/history", get(history))
        .route("/capacity", get(capacity))
        .route("/connections", get(async move |windows, asked| census(&connections, windows, asked).await))
        .fallback(async || (StatusCode::NOT_FOUND, format!("Nothing is served at this path.\n\n{INDEX}")))
        .method_not_allowed_fallback(only("GET, HEAD", "Only GET is served at this path.\n"))
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

/// The answer to another method.
fn only(allowed: &'static str, why: &'static str) -> (StatusCode, [(HeaderName, &'static str); 1], &'static str) {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allowed)], why)
}

async fn upstreams(State(windows): State<Arc<Windows>>, headers: HeaderMap, Query(asked): Query<Asked>) -> Response {
    let all = (windows.upstreams)().into_iter().map(|(view, _)| view);
    match asked.format(&headers) {
        Format::Json => Json(all.collect::<Vec<_>>()).into_response(),
        Format::Text => {
            let text: String = all.map(|view| view.to_string()).collect();
            if text.is_empty() { "No upstreams.\n".into() } else { text }.into_response()
        }
    }
}

async fn catalogue(State(windows): State<Arc<Windows>>, headers: HeaderMap, Query(asked): Query<Asked>) -> Response {
    let directory = windows.directories.load_full();
    match asked.format(&headers) {
        Format::Json => Json(catalogue::rows(&directory)).into_response(),
        Format::Text => catalogue::text(&directory).into_response(),
    }
}

/// It may wait for an upstream that ends; meanwhile others are answered.
async fn reload(State(windows): State<Arc<Windows>>) -> Response {
    let told = |status, why: String| (status, why + "\n").into_response();
    let reloaded = spawn_blocking(move || (windows.reload)()).await;
    match reloaded.unwrap_or_else(|error| Err(Unreloaded::Broken(error.to_string()))) {
        Ok(done) => ([(header::CONTENT_TYPE, "application/json")], done).into_response(),
        Err(why @ Unreloaded::NoSource) => told(StatusCode::CONFLICT, why.to_string()),
        Err(why @ Unreloaded::Refused(_)) => told(StatusCode::UNPROCESSABLE_ENTITY, why.to_string()),
        Err(why @ Unreloaded::Broken(_)) => told(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
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

async fn capacity(State(windows): State<Arc<Windows>>, headers: HeaderMap, Query(asked): Query<Asked>) -> Response {
    let report = windows.fullness.report.load();
    match asked.format(&headers) {
        Format::Json => Json(&**report).into_response(),
        Format::Text => report.to_string().into_response(),
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
