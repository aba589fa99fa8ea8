//! What the head of an HTTP answer means: a message, a stream of them, or a trouble by its name.

use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};

use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::envelope::{self, Kind};

/// What to do with the body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// One message.
    Json,
    /// A stream of events.
    Events,
    /// An error status with JSON: the JSON-RPC error that says more, or else this.
    Refusal(Trouble),
}

/// Judges an answer by its head. `in_session`: the request named a session.
pub(super) fn judge(response: &Response<Incoming>, in_session: bool) -> Result<Body, Trouble> {
    judge_head(response.status().as_u16(), response.headers(), in_session)
}

fn judge_head(status: u16, headers: &HeaderMap, in_session: bool) -> Result<Body, Trouble> {
    let trouble = |kind, detail: &str| Trouble::new(kind, detail).with_status(status);
    let media = media_type(headers);
    let is_json = media.eq_ignore_ascii_case("application/json");
    match status {
        200..=299 if is_json => Ok(Body::Json),
        200..=299 if media.eq_ignore_ascii_case("text/event-stream") => Ok(Body::Events),
        202 | 204 => Err(trouble(TroubleKind::NotMcp, "a request was taken like a notification, without an answer")),
        200..=299 => Err(trouble(TroubleKind::NotMcp, &format!("content type {media:?}"))),
        300..=399 => Err(trouble(TroubleKind::Redirected, text(headers, LOCATION))),
        401 | 403 => Err(trouble(TroubleKind::Unauthorized, "")),
        // Whatever the body says (spec 2025-11-25 basic/transports#session-management).
        404 if in_session => Err(trouble(TroubleKind::SessionLost, "")),
        429 | 503 => Err(trouble(TroubleKind::Overloaded, "").with_retry_after(retry_after(headers))),
        _ if is_json => Ok(Body::Refusal(trouble(TroubleKind::HttpStatus, ""))),
        _ => Err(trouble(TroubleKind::HttpStatus, "")),
    }
}

/// Whether a text is, or holds, an answer.
pub(super) fn is_answer(text: &[u8]) -> bool {
    match envelope::parse(text) {
        Ok(envelope::Incoming::One(one)) => matches!(one.kind, Kind::Response { .. }),
        Ok(envelope::Incoming::Batch(mut batch)) => {
            batch.any(|one| one.is_ok_and(|one| matches!(one.kind, Kind::Response { .. })))
        }
        Err(_) => false,
    }
}

/// Whether a text is a JSON-RPC error.
pub(super) fn is_error(text: &[u8]) -> bool {
    matches!(envelope::parse(text), Ok(envelope::Incoming::One(one)) if matches!(one.kind, Kind::Response { error: Some(_), .. }))
}

/// Without parameters.
fn media_type(headers: &HeaderMap) -> &str {
    let value = text(headers, CONTENT_TYPE);
    value.split_once(';').map_or(value, |(media, _)| media).trim()
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// In seconds; a date would need a clock that agrees with theirs.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    text(headers, RETRY_AFTER).trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, media: &'static str, in_session: bool) -> Result<Body, TroubleKind> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, media.parse().unwrap());
        judge_head(status, &headers, in_session).map_err(|trouble| trouble.kind)
    }

    #[test]
    fn what_a_status_and_a_content_type_mean() {
        assert_eq!(judged(200, "Application/JSON; charset=utf-8", false), Ok(Body::Json));
        assert_eq!(judged(200, "text/event-stream", true), Ok(Body::Events));
        assert_eq!(judged(200, "text/html", false), Err(TroubleKind::NotMcp));
        assert_eq!(judged(202, "", false), Err(TroubleKind::NotMcp));
        assert_eq!(judged(307, "text/html", false), Err(TroubleKind::Redirected));
        assert_eq!(judged(404, "application/json", true), Err(TroubleKind::SessionLost));
        assert!(matches!(judged(404, "application/json", false), Ok(Body::Refusal(_))));
        assert_eq!(judged(500, "text/html", false), Err(TroubleKind::HttpStatus));
        assert_eq!(judged(401, "application/json", false), Err(TroubleKind::Unauthorized));
        assert_eq!(judged(503, "text/plain", false), Err(TroubleKind::Overloaded));
    }

    #[test]
    fn an_answer_is_told_from_what_comes_before_it() {
        assert!(is_answer(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        assert!(is_answer(br#"[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":1,"result":{}}]"#));
        assert!(!is_answer(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#));
        assert!(!is_answer(b"{"));
    }
}
