//! What the head of an HTTP answer means: a message, a stream of them, or a trouble by its name.

use super::head::{Head, Media};
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
pub(super) fn judge(head: &Head, in_session: bool) -> Result<Body, Trouble> {
    let status = head.status;
    let trouble = |kind, detail: &str| Trouble::new(kind, detail).with_status(status);
    match (status, &head.media) {
        (200..=299, Media::Json) => Ok(Body::Json),
        (200..=299, Media::Events) => Ok(Body::Events),
        (202 | 204, _) => {
            Err(trouble(TroubleKind::NotMcp, "a request was taken like a notification, without an answer"))
        }
        (200..=299, Media::Other(media)) => Err(trouble(TroubleKind::NotMcp, &format!("content type {media:?}"))),
        (300..=399, _) => Err(trouble(TroubleKind::Redirected, &head.location)),
        (401 | 403, _) => Err(trouble(TroubleKind::Unauthorized, "")),
        // Whatever the body says (spec 2025-11-25 basic/transports#session-management).
        (404, _) if in_session => Err(trouble(TroubleKind::SessionLost, "")),
        (429 | 503, _) => Err(trouble(TroubleKind::Overloaded, "").with_retry_after(head.retry_after)),
        (_, Media::Json) => Ok(Body::Refusal(trouble(TroubleKind::HttpStatus, ""))),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, media: Media, in_session: bool) -> Result<Body, TroubleKind> {
        let head = Head { status, media, session: None, location: String::new(), retry_after: None };
        judge(&head, in_session).map_err(|trouble| trouble.kind)
    }

    #[test]
    fn what_a_status_and_a_content_type_mean() {
        let other = |media: &str| Media::Other(media.into());
        assert_eq!(judged(200, Media::Json, false), Ok(Body::Json));
        assert_eq!(judged(200, Media::Events, true), Ok(Body::Events));
        assert_eq!(judged(200, other("text/html"), false), Err(TroubleKind::NotMcp));
        assert_eq!(judged(202, other(""), false), Err(TroubleKind::NotMcp));
        assert_eq!(judged(307, other("text/html"), false), Err(TroubleKind::Redirected));
        assert_eq!(judged(404, Media::Json, true), Err(TroubleKind::SessionLost));
        assert!(matches!(judged(404, Media::Json, false), Ok(Body::Refusal(_))));
        assert_eq!(judged(500, other("text/html"), false), Err(TroubleKind::HttpStatus));
        assert_eq!(judged(401, Media::Json, false), Err(TroubleKind::Unauthorized));
        assert_eq!(judged(503, other("text/plain"), false), Err(TroubleKind::Overloaded));
    }

    #[test]
    fn an_answer_is_told_from_what_comes_before_it() {
        assert!(is_answer(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        assert!(is_answer(br#"[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":1,"result":{}}]"#));
        assert!(!is_answer(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#));
        assert!(!is_answer(b"{"));
    }
}
