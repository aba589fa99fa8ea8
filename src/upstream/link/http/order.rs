//! The requests that we send, as text: what all of a session have in common is written once, and the body's fields are
//! mirrored where a revision asks for it, encoded so that nothing leaks out.

use std::borrow::Cow;
use std::io::Write as _;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};

use crate::mcp::{Era, Revision};
use crate::upstream::link::Purpose;
use crate::upstream::trouble::{Trouble, TroubleKind};

/// Names that are ours to send: a configured line with one of them is left out.
const OURS: [&str; 11] = [
    "host",
    "accept",
    "connection",
    "content-type",
    "content-length",
    "transfer-encoding",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
    "last-event-id",
];

/// What all requests of a session have in common.
#[derive(Clone)]
pub(super) struct Common {
    lines: Vec<u8>,
    agreed: Option<Revision>,
    /// Whether they name a session.
    pub(super) is_in_session: bool,
}

/// A request, as it is sent.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) text: Bytes,
    /// Whether it may be sent twice without harm.
    pub(super) is_repeatable: bool,
}

impl Common {
    /// Our own lines and the configured ones.
    pub(super) fn new(host: &str, configured: &[(String, String)]) -> Result<Self, Trouble> {
        let wrong =
            |name: &str| Trouble::new(TroubleKind::Refused, format!("the header {name:?} cannot be sent")).unsent();
        let mut common = Self { lines: Vec::new(), agreed: None, is_in_session: false };
        common.add("host", HeaderValue::from_str(host).map_err(|_| wrong("host"))?.as_bytes());
        for (name, value) in configured {
            let key: HeaderName = name.parse().map_err(|_| wrong(name))?;
            let value: HeaderValue = value.parse().map_err(|_| wrong(name))?;
            if !OURS.contains(&key.as_str()) {
                common.add(key.as_str(), value.as_bytes());
            }
        }
        Ok(common)
    }

    /// The same with the session and the revision that `initialize` has agreed on.
    pub(super) fn with_agreed(&self, session: Option<&HeaderValue>, agreed: Option<Revision>) -> Self {
        let mut common = Self { agreed, ..self.clone() };
        if let Some(session) = session {
            common.add("mcp-session-id", session.as_bytes());
            common.is_in_session = true;
        }
        common
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
    }

    /// A message that is posted.
    pub(super) fn post(&self, target: &str, purpose: &Purpose<'_>, message: &[u8]) -> Order {
        let revision = match purpose {
            Purpose::Request { revision, .. } | Purpose::Notification { revision, .. }
                if revision.era() == Era::Modern =>
            {
                Some(*revision)
            }
            _ => self.agreed,
        };
        let mut text = self.begin("POST", target, revision);
        text.reserve(256 + message.len());
        text.extend_from_slice(b"accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n");
        mirror(purpose, &mut text);
        let is_repeatable = !matches!(purpose, Purpose::Request { method: "tools/call", .. });
        put(&mut text, format_args!("content-length: {}\r\n\r\n", message.len()));
        text.extend_from_slice(message);
        Order { text: text.into(), is_repeatable }
    }

    /// A stream of events that is asked for.
    pub(super) fn listen(&self, target: &str, last: Option<&HeaderValue>) -> Order {
        let mut common = self.clone();
        if let Some(last) = last {
            common.add("last-event-id", last.as_bytes());
        }
        common.add("accept", b"text/event-stream");
        let text = common.begin("GET", target, self.agreed);
        Order { text: [&*text, b"\r\n"].concat().into(), is_repeatable: true }
    }

    /// The end of the session.
    pub(super) fn delete(&self, target: &str) -> Order {
        let text = self.begin("DELETE", target, self.agreed);
        Order { text: [&*text, b"\r\n"].concat().into(), is_repeatable: false }
    }

    /// The first lines. Of the revisions the later ones are named (spec 2025-11-25 basic/transports#protocol-version-header).
    fn begin(&self, verb: &str, target: &str, revision: Option<Revision>) -> Vec<u8> {
        let mut text = Vec::with_capacity(64 + target.len() + self.lines.len());
        put(&mut text, format_args!("{verb} {target} HTTP/1.1\r\n"));
        text.extend_from_slice(&self.lines);
        if let Some(revision) = revision.filter(|&revision| revision >= Revision::V2025_06_18) {
            put(&mut text, format_args!("mcp-protocol-version: {}\r\n", revision.as_str()));
        }
        text
    }
}

/// Adds what 2026-07-28 mirrors from the body (spec 2026-07-28 basic/transports/streamable-http#request-metadata).
fn mirror(purpose: &Purpose<'_>, text: &mut Vec<u8>) {
    let (Purpose::Request { method, revision, .. } | Purpose::Notification { method, revision }) = purpose else {
        return;
    };
    if revision.era() != Era::Modern {
        return;
    }
    put(text, format_args!("mcp-method: {}\r\n", encoded(method)));
    let Purpose::Request { name, params, .. } = purpose else { return };
    if let Some(name) = name {
        put(text, format_args!("mcp-name: {}\r\n", encoded(name)));
    }
    for (name, value) in *params {
        // A name that is no token was to be left out of the catalogue.
        if let Ok(key) = HeaderName::try_from(format!("mcp-param-{name}")) {
            put(text, format_args!("{key}: {}\r\n", encoded(value)));
        }
    }
}

fn put(text: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    // Memory takes all that is written.
    let _ = text.write_fmt(what);
}

/// A value as it may stand in a header (spec 2026-07-28 basic/transports/streamable-http#value-encoding).
fn encoded(value: &str) -> Cow<'_, str> {
    let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && value.trim_matches(' ').len() == value.len()
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    if is_plain { value.into() } else { format!("=?base64?{}?=", BASE64_STANDARD.encode(value)).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(order: &Order) -> &str {
        std::str::from_utf8(&order.text).expect("text")
    }

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
        let post = |revision| {
            let purpose = Purpose::Request {
                number: 1,
                method: "tools/call",
                name: Some("execute_sql"),
                params: &params,
                revision,
            };
            Common::new("x:1", &[]).unwrap().post("/mcp", &purpose, b"{}")
        };
        let [first, types, end] = [
            "POST /mcp HTTP/1.1\r\nhost: x:1\r\n",
            "accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n",
            "content-length: 2\r\n\r\n{}",
        ];
        assert_eq!(text(&post(Revision::V2025_11_25)), format!("{first}{types}{end}"));
        let version = "mcp-protocol-version: 2026-07-28\r\n";
        let mirrored = "mcp-method: tools/call\r\nmcp-name: execute_sql\r\nmcp-param-region: us-west1\r\n";
        assert_eq!(text(&post(Revision::V2026_07_28)), format!("{first}{version}{types}{mirrored}{end}"));
        assert!(!post(Revision::V2025_11_25).is_repeatable);
    }

    #[test]
    fn what_is_agreed_on_is_said_from_then_on() {
        let session = HeaderValue::from_static("s1");
        let common = Common::new("x", &[]).unwrap().with_agreed(Some(&session), Some(Revision::V2025_11_25));
        assert!(common.is_in_session);
        assert_eq!(
            text(&common.listen("/", Some(&HeaderValue::from_static("e1")))),
            "GET / HTTP/1.1\r\nhost: x\r\nmcp-session-id: s1\r\nlast-event-id: e1\r\naccept: text/event-stream\r\n\
             mcp-protocol-version: 2025-11-25\r\n\r\n"
        );
        // Only later revisions know the header.
        let former = Common::new("x", &[]).unwrap().with_agreed(None, Some(Revision::V2025_03_26));
        assert_eq!(text(&former.delete("/")), "DELETE / HTTP/1.1\r\nhost: x\r\n\r\n");
    }

    #[test]
    fn a_configured_header_with_a_line_break_is_refused_by_name_and_its_value_is_not_told() {
        let trouble = Common::new("x", &[("authorization".into(), "a\r\nb: secret".into())]).err().unwrap();
        assert!(trouble.detail.contains("authorization") && !trouble.detail.contains("secret"), "{trouble}");
    }

    #[test]
    fn configured_headers_do_not_replace_ours() {
        let configured = [("Accept".into(), "text/html".into()), ("X-Key".into(), "k".into())];
        let common = Common::new("x:1", &configured).unwrap();
        assert_eq!(common.lines, b"host: x:1\r\nx-key: k\r\n");
    }
}
