//! Who is answered: those who ask for this machine by a name of its own, and no page of somebody else's.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Windows;
use crate::wire::http::{host_allowed, origin_allowed};

/// Passes on what may be answered, and refuses the rest: DNS rebinding and foreign pages.
pub(super) async fn check(State(windows): State<Arc<Windows>>, request: Request, next: Next) -> Response {
    match refusal(&request, &windows.config.hosts_allowed) {
        Some((status, why)) => (status, why).into_response(),
        None => next.run(request).await,
    }
}

fn refusal(request: &Request, allowed: &[String]) -> Option<(StatusCode, &'static str)> {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let Some(host) = header(header::HOST) else {
        return Some((StatusCode::BAD_REQUEST, "The request has no Host header. Send one.\n"));
    };
    // `GET http://name/path` names a host too, and RFC 9112 section 3.2.2 lets it win.
    let target = request.uri().authority().map(axum::http::uri::Authority::as_str);
    if !host_allowed(host, allowed) || target.is_some_and(|target| !host_allowed(target, allowed)) {
        let why = "This Host is not allowed. Ask by a loopback name, or add the name to admin.hosts_allowed.\n";
        return Some((StatusCode::FORBIDDEN, why));
    }
    // No page needs this address, but one that came from here (a dashboard on loopback) does no harm.
    if !origin_allowed(header(header::ORIGIN), &[]) {
        return Some((StatusCode::FORBIDDEN, "Pages of this Origin are not allowed here.\n"));
    }
    None
}
