//! What goes wrong with an upstream: one name each, whether a retry is safe, and the error that the waiting client gets.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::mcp::answer;
use crate::mcp::fault::{INTERNAL_ERROR, UNAVAILABLE};
use crate::meter::Named;

/// Longest detail, in bytes: much of it is the upstream's own words.
const DETAIL_BYTES_MAX: usize = 256;

crate::named! {
    /// How an upstream failed a request, or as a whole.
    pub enum TroubleKind {
        /// The command cannot be started.
        NotStarted = "not_started",
        /// The process ended, or closed its stdout.
        Exited = "exited",
        /// No connection: nobody listens, or the name is no good.
        Refused = "refused",
        /// The certificate of its end of TLS is not one that we trust, or there is nobody whom we trust.
        Untrusted = "untrusted",
        /// The connection broke.
        Lost = "lost",
        /// Nothing came in time.
        Mute = "mute",
        /// An answer over the limit.
        TooLong = "too_long",
        /// Bytes that are no message.
        Garbage = "garbage",
        /// A message that is no UTF-8 text.
        NotUtf8 = "not_utf8",
        /// An HTTP status that says no.
        HttpStatus = "http_status",
        /// An HTTP redirect: none is followed.
        Redirected = "redirected",
        /// An HTTP answer that is neither JSON nor an event stream.
        NotMcp = "not_mcp",
        /// The server does not know our session any more.
        SessionLost = "session_lost",
        /// The WebSocket upgrade was refused.
        Handshake = "handshake",
        /// 401 or 403: the configured credentials are missing or wrong.
        Unauthorized = "unauthorized",
        /// 429 or 503: it has no room now.
        Overloaded = "overloaded",
    }
}

/// One failure of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What to count.
    pub kind: TroubleKind,
    /// What happened in particular, at most 256 bytes, without control characters.
    pub detail: String,
    /// The HTTP status, where one came.
    pub status: Option<u16>,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
    unsent: bool,
    /// What it is called, if not by its kind.
    name: Option<&'static str>,
}

impl Trouble {
    /// `detail` may hold the upstream's own words: it is cut and cleaned here.
    pub fn new(kind: TroubleKind, detail: impl AsRef<str>) -> Self {
        Self { kind, detail: clean(detail.as_ref()), status: None, retry_after: None, unsent: false, name: None }
    }

    /// The same, with the HTTP status that came.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same, with the server's `Retry-After`.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// The same, with another detail.
    #[must_use]
    pub fn because(mut self, detail: impl AsRef<str>) -> Self {
        self.detail = clean(detail.as_ref());
        self
    }

    /// The same, by a name that says more than its kind.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name.unwrap_or(self.kind.name())
    }

    /// The same, of a request of which no byte was sent.
    #[must_use]
    pub fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }

    /// Whether the request surely was not processed, so that it may be sent again whatever it does.
    #[must_use]
    pub fn is_safe_to_repeat(&self) -> bool {
        self.unsent
            || match self.kind {
                TroubleKind::NotStarted
                | TroubleKind::Refused
                | TroubleKind::Untrusted
                | TroubleKind::Redirected
                | TroubleKind::SessionLost
                | TroubleKind::Handshake
                | TroubleKind::Unauthorized
                | TroubleKind::Overloaded => true,
                TroubleKind::Exited
                | TroubleKind::Lost
                | TroubleKind::Mute
                | TroubleKind::TooLong
                | TroubleKind::Garbage
                | TroubleKind::NotUtf8
                | TroubleKind::HttpStatus
                | TroubleKind::NotMcp => false,
            }
    }

    /// Whether it says something of the server, and not only of this request.
    #[must_use]
    pub fn is_its_own(&self) -> bool {
        match self.kind {
            // It has no room, which is no fault; its answer was too long for us; our session is another matter.
            TroubleKind::Overloaded | TroubleKind::TooLong | TroubleKind::SessionLost => false,
            TroubleKind::HttpStatus => self.status.is_none_or(|status| status >= 500),
            _ => true,
        }
    }

    /// Whether the same request may succeed if the client sends it again: not where only an operator can help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self.kind {
            TroubleKind::Redirected
            | TroubleKind::Unauthorized
            | TroubleKind::NotMcp
            | TroubleKind::TooLong
            | TroubleKind::Untrusted => false,
            TroubleKind::HttpStatus => self.status.is_none_or(|status| status >= 500),
            _ => true,
        }
    }

    /// Appends the JSON-RPC error object for a client that waited.
    ///
    /// `down_for` is set while the upstream is down: the code is then [`UNAVAILABLE`], with `data.retryAfterMs`.
    pub fn write_object(&self, out: &mut Vec<u8>, upstream: &str, down_for: Option<Duration>) {
        let wait = down_for.or(self.retry_after);
        let code = if wait.is_some() { UNAVAILABLE } else { INTERNAL_ERROR };
        let next = match (self.is_safe_to_repeat(), self.may_pass()) {
            (_, false) => "a retry will not help: tell the operator of the gateway",
            (true, true) => "the request was not processed; retry it",
            (false, true) => "the request may have had effects; retry it only if that is safe",
        };
        let message = format!("Upstream {upstream}: {self}; {next}");
        let mut data = serde_json::json!({
            "upstream": upstream, "reason": self.name(), "retry": self.may_pass(),
        });
        if let Some(wait) = wait {
            data["retryAfterMs"] = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into();
        }
        answer::error_object(out, code, &message, Some(&data.to_string()));
    }

    fn what(&self) -> &'static str {
        match self.kind {
            TroubleKind::NotStarted => "cannot be started",
            TroubleKind::Exited => "has ended",
            TroubleKind::Refused => "cannot be reached",
            TroubleKind::Untrusted => "its TLS certificate is not accepted",
            TroubleKind::Lost => "connection lost before an answer",
            TroubleKind::Mute => "no answer in time",
            TroubleKind::TooLong => "its answer is longer than message_bytes_max",
            TroubleKind::Garbage => "sent something that is no message",
            TroubleKind::NotUtf8 => "sent something that is not UTF-8",
            TroubleKind::HttpStatus => "answered with an HTTP error",
            TroubleKind::Redirected => "answered with a redirect, which is not followed; configure the new address",
            TroubleKind::NotMcp => "answered with something that is no MCP; check the address",
            TroubleKind::SessionLost => "does not know our session any more",
            TroubleKind::Handshake => "refused the WebSocket upgrade",
            TroubleKind::Unauthorized => "refused the configured credentials",
            TroubleKind::Overloaded => "has no room for this request now",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())?;
        if let Some(status) = self.status {
            write!(f, " (HTTP {status})")?;
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl std::error::Error for Trouble {}

/// Cut to the length that fits, and on one line whatever an upstream writes.
fn clean(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(DETAIL_BYTES_MAX)];
    let cut = cut.trim();
    let clean = if cut.contains(char::is_control) { cut.replace(char::is_control, " ").into() } else { Cow::from(cut) };
    clean.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(trouble: &Trouble, down_for: Option<Duration>) -> serde_json::Value {
        let mut out = Vec::new();
        trouble.write_object(&mut out, "files", down_for);
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn an_error_names_the_upstream_what_happened_and_whether_to_retry() {
        let error = object(&Trouble::new(TroubleKind::Exited, "exit code 3"), None);
        assert_eq!(error["code"], -32603);
        assert_eq!(error["data"], serde_json::json!({"upstream": "files", "reason": "exited", "retry": true}));
        let message = error["message"].as_str().expect("a text");
        assert!(message.starts_with("Upstream files: has ended: exit code 3; "), "{message}");
    }

    #[test]
    fn an_upstream_that_is_down_says_when_to_come_again() {
        let error = object(&Trouble::new(TroubleKind::Refused, ""), Some(Duration::from_millis(1500)));
        assert_eq!((&error["code"], &error["data"]["retryAfterMs"]), (&503.into(), &1500.into()));
    }

    #[test]
    fn what_only_an_operator_can_change_is_not_to_be_retried() {
        for kind in [TroubleKind::Redirected, TroubleKind::Unauthorized, TroubleKind::NotMcp, TroubleKind::Untrusted] {
            assert_eq!(object(&Trouble::new(kind, ""), None)["data"]["retry"], false, "{kind:?}");
        }
        assert!(!Trouble::new(TroubleKind::HttpStatus, "").with_status(400).may_pass());
        assert!(Trouble::new(TroubleKind::HttpStatus, "").with_status(500).may_pass());
    }

    #[test]
    fn a_lost_request_is_safe_to_repeat_only_if_no_byte_of_it_was_sent() {
        let lost = Trouble::new(TroubleKind::Lost, "reset");
        assert!(!lost.is_safe_to_repeat());
        assert!(lost.unsent().is_safe_to_repeat());
    }

    #[test]
    fn an_upstreams_words_are_cut_and_stay_on_one_line() {
        let trouble = Trouble::new(TroubleKind::NotMcp, format!("a\r\n\u{1b}[31m{}", "ä".repeat(500)));
        assert!(trouble.detail.len() <= 256 && !trouble.detail.contains(char::is_control), "{trouble}");
    }
}
