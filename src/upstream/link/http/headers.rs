//! The headers of what we send: the body's fields mirrored where a revision asks for it, encoded so that nothing leaks out.

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};

use crate::mcp::{Era, Revision};
use crate::upstream::link::Purpose;
use crate::upstream::trouble::{Trouble, TroubleKind};

pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// What goes out with every request: our own headers, and the configured ones, which may not replace ours.
pub(super) fn base(host: &str, configured: &[(String, String)]) -> Result<HeaderMap, Trouble> {
    let wrong = |name: &str| Trouble::new(TroubleKind::Refused, format!("the header {name:?} cannot be sent")).unsent();
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in configured {
        let key: HeaderName = name.parse().map_err(|_| wrong(name))?;
        let mut value: HeaderValue = value.parse().map_err(|_| wrong(name))?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    headers.insert(HOST, host.parse().map_err(|_| wrong("host"))?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(headers)
}

/// The headers of a GET that listens.
pub(super) fn listening(mut headers: HeaderMap) -> HeaderMap {
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    headers.remove(CONTENT_TYPE);
    headers
}

/// Adds the session and the revision that `initialize` has agreed on (spec 2025-11-25
/// basic/transports#protocol-version-header).
pub(super) fn add_agreed(headers: &mut HeaderMap, session: Option<&HeaderValue>, agreed: Option<Revision>) {
    if let Some(session) = session {
        headers.insert(SESSION, session.clone());
    }
    if let Some(revision) = agreed.filter(|&revision| revision >= Revision::V2025_06_18) {
        headers.insert(VERSION, HeaderValue::from_static(revision.as_str()));
    }
}

/// Adds what 2026-07-28 mirrors from the body (spec 2026-07-28 basic/transports/streamable-http#request-metadata).
pub(super) fn add_mirrored(headers: &mut HeaderMap, purpose: &Purpose<'_>) {
    let (Purpose::Request { method, revision, .. } | Purpose::Notification { method, revision }) = purpose else {
        return;
    };
    if revision.era() != Era::Modern {
        return;
    }
    headers.insert(VERSION, HeaderValue::from_static(revision.as_str()));
    headers.insert(METHOD, encoded(method));
    if let Purpose::Request { name, params, .. } = purpose {
        if let Some(name) = name {
            headers.insert(NAME, encoded(name));
        }
        for (name, value) in *params {
            // A name that is no token was to be left out of the catalogue.
            if let Ok(key) = HeaderName::try_from(format!("mcp-param-{name}")) {
                headers.insert(key, encoded(value));
            }
        }
    }
}

/// A value as it may stand in a header (spec 2026-07-28 basic/transports/streamable-http#value-encoding).
fn encoded(value: &str) -> HeaderValue {
    let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && value.trim_matches(' ').len() == value.len()
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    let plain = || HeaderValue::from_str(value).ok();
    if let Some(plain) = is_plain.then(plain).flatten() {
        return plain;
    }
    let text = format!("=?base64?{}?=", BASE64_STANDARD.encode(value));
    // Base64 is made of letters that a header may have.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_the_page_shows() {
        for (value, shown) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(encoded(value), shown, "{value}");
        }
    }

    #[test]
    fn a_modern_request_mirrors_its_body_and_a_legacy_one_does_not() {
        let params = [("Region".to_owned(), "us-west1".to_owned())];
        let request = |revision| Purpose::Request {
            number: 1,
            method: "tools/call",
            name: Some("execute_sql"),
            params: &params,
            revision,
        };
        let mut headers = HeaderMap::new();
        add_mirrored(&mut headers, &request(Revision::V2025_11_25));
        assert!(headers.is_empty());
        add_mirrored(&mut headers, &request(Revision::V2026_07_28));
        let mut all: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        all.sort();
        assert_eq!(
            all,
            [
                "mcp-method: tools/call",
                "mcp-name: execute_sql",
                "mcp-param-region: us-west1",
                "mcp-protocol-version: 2026-07-28"
            ]
        );
    }

    #[test]
    fn a_configured_header_with_a_line_break_is_refused_by_name_and_its_value_is_not_told() {
        let trouble = base("x", &[("authorization".into(), "a\r\nb: secret".into())]).unwrap_err();
        assert!(trouble.detail.contains("authorization") && !trouble.detail.contains("secret"), "{trouble}");
    }

    #[test]
    fn configured_headers_do_not_replace_ours() {
        let headers = base("x:1", &[("Accept".into(), "text/html".into()), ("X-Key".into(), "k".into())]).unwrap();
        assert_eq!(headers.get_all(ACCEPT).iter().count(), 1);
        assert_eq!(
            (headers[ACCEPT].to_str().unwrap(), &headers["x-key"]),
            ("application/json, text/event-stream", &HeaderValue::from_static("k"))
        );
    }
}
