//! Every way a message can be refused: its name for the counters, its JSON-RPC code, and what the sender can do next.

use std::borrow::Cow;
use std::time::Duration;

use crate::mcp::answer;
use crate::mcp::revision::{Era, Revision};
use crate::wire::envelope::{Defect, Id, Malformed};

crate::named! {
    /// Why a message was answered with an error. The connection lives on; a reason to end it is a parting.
    pub enum Fault {
        /// The message is no UTF-8 text.
        InvalidUtf8 = "invalid_utf8",
        /// The message is no JSON text.
        NotJson = "not_json",
        /// The message is nested deeper than the parser goes.
        TooDeep = "too_deep",
        /// The message is JSON but no JSON-RPC 2.0 message.
        InvalidRequest = "invalid_request",
        /// A message longer than the limit, after which the next one's beginning is lost.
        TooLong = "too_long",
        /// A message, or a handshake, that was begun and not finished in time.
        TooSlow = "too_slow",
        /// Bytes that are no dialect of this gateway.
        UnknownDialect = "unknown_dialect",
        /// A request with the id `null`.
        IdNull = "id_null",
        /// A request whose id is still in use by an earlier one.
        DuplicateId = "duplicate_id",
        /// A JSON array where the revision in use has no batches.
        BatchNotAllowed = "batch_not_allowed",
        /// A request on a connection that has not said in which way it speaks MCP.
        NotInitialized = "not_initialized",
        /// A second `initialize`.
        AlreadyInitialized = "already_initialized",
        /// A method the revision in use does not have, or a feature this server does not offer.
        UnknownMethod = "unknown_method",
        /// Parameters that do not fit the method.
        InvalidParams = "invalid_params",
        /// A `_meta` that names a revision which cannot be served per request.
        UnsupportedVersion = "unsupported_version",
        /// A header line of an HTTP request does not say what its body says, or is missing.
        HeaderMismatch = "header_mismatch",
        /// A call of a tool that is not in the list.
        UnknownTool = "unknown_tool",
        /// A request for a prompt that is not in the list.
        UnknownPrompt = "unknown_prompt",
        /// A request for a resource that no server has.
        UnknownResource = "unknown_resource",
        /// The server behind the gateway failed, or is not there; the error says which and how.
        Upstream = "upstream",
        /// The gateway, or the server behind it, has no room for this request now.
        Busy = "busy",
        /// The gateway takes no new requests because it is about to stop.
        Draining = "draining",
        /// This connection waits for too many answers already.
        TooManyInFlight = "too_many_in_flight",
        /// This client, or others with it, ask more in a time than they may.
        TooOften = "too_often",
        /// Whoever was to answer gave up without an answer.
        Abandoned = "abandoned",
    }
}

/// JSON-RPC: the text is no JSON.
pub const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: the JSON is no request.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: there is no such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC: the parameters do not fit.
pub const INVALID_PARAMS: i32 = -32602;
/// JSON-RPC: the server failed.
pub const INTERNAL_ERROR: i32 = -32603;
/// MCP: a resource that is not there, up to 2025-11-25 (spec 2025-11-25 server/resources#error-handling); later
/// [`INVALID_PARAMS`].
pub const RESOURCE_NOT_FOUND: i32 = -32002;
/// MCP: `MissingRequiredClientCapability` (spec 2026-07-28 basic/index#error-codes).
pub const MISSING_CAPABILITY: i32 = -32021;
/// MCP: `UnsupportedProtocolVersion` (spec 2026-07-28 basic/index#error-codes).
pub const UNSUPPORTED_VERSION: i32 = -32022;
/// MCP: `HeaderMismatch` (spec 2026-07-28 basic/transports/streamable-http#server-validation).
pub const HEADER_MISMATCH: i32 = -32020;
/// Ours: no room now, retry later. MCP asks for codes outside the range JSON-RPC reserves (spec 2026-07-28
/// basic/index#error-codes), so we take the number HTTP gives the same condition.
pub const UNAVAILABLE: i32 = 503;
/// Ours: this client asks too much at once; chosen like [`UNAVAILABLE`].
pub const TOO_MANY: i32 = 429;

impl Fault {
    /// The JSON-RPC error code, as far as it is the same in all revisions.
    ///
    /// A request before any `initialize` and without a `_meta` is [`INVALID_PARAMS`]: a request that lacks the required
    /// `_meta` fields MUST be refused so (spec 2026-07-28 basic/index#meta), and probing clients of both eras expect it
    /// (spec 2026-07-28 basic/transports/stdio#backward-compatibility).
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::InvalidUtf8 | Self::NotJson | Self::TooDeep | Self::UnknownDialect => PARSE_ERROR,
            Self::InvalidRequest
            | Self::TooLong
            | Self::TooSlow
            | Self::IdNull
            | Self::DuplicateId
            | Self::BatchNotAllowed
            | Self::AlreadyInitialized => INVALID_REQUEST,
            Self::UnknownMethod => METHOD_NOT_FOUND,
            Self::NotInitialized
            | Self::InvalidParams
            | Self::UnknownTool
            | Self::UnknownPrompt
            | Self::UnknownResource => INVALID_PARAMS,
            Self::UnsupportedVersion => UNSUPPORTED_VERSION,
            Self::HeaderMismatch => HEADER_MISMATCH,
            Self::Busy | Self::Draining => UNAVAILABLE,
            Self::TooManyInFlight | Self::TooOften => TOO_MANY,
            Self::Abandoned | Self::Upstream => INTERNAL_ERROR,
        }
    }

    /// What is wrong and what to do next, in general; [`Fault::because`] says it in particular.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::InvalidUtf8 => "Parse error: the message is not valid UTF-8; send JSON encoded as UTF-8",
            Self::NotJson => {
                "Parse error: the message is not valid JSON; send one complete JSON-RPC object per message"
            }
            Self::TooDeep => "Parse error: the JSON is nested too deep; flatten the message",
            Self::InvalidRequest => {
                "Invalid request: send a JSON-RPC 2.0 object with \"jsonrpc\":\"2.0\", \"method\" and, for a request, \"id\""
            }
            Self::TooLong => "Invalid request: the message is too long; send large content by reference",
            Self::TooSlow => "Invalid request: the message was not finished in time; send it at once",
            Self::UnknownDialect => "Parse error: send JSON-RPC, one message a line, or a WebSocket upgrade",
            Self::IdNull => "Invalid request: the id must not be null; use a string or an integer",
            Self::DuplicateId => {
                "Invalid request: a request with this id is still being answered; use an id that is not in use"
            }
            Self::BatchNotAllowed => {
                "Invalid request: batches exist only after initialize with 2025-03-26; send one message at a time"
            }
            Self::NotInitialized => {
                "Invalid params: this connection is not initialized; send initialize first (revisions up to 2025-11-25), or \
                 put io.modelcontextprotocol/protocolVersion \"2026-07-28\" and io.modelcontextprotocol/clientCapabilities \
                 into params._meta of each request"
            }
            Self::AlreadyInitialized => {
                "Invalid request: this connection is already initialized; open another one to negotiate anew"
            }
            Self::UnknownMethod => "Method not found: this server has no such method",
            Self::InvalidParams => "Invalid params",
            Self::HeaderMismatch => "Header mismatch: a header line does not say what the body says",
            Self::UnsupportedVersion => "Unsupported protocol version: use one of data.supported",
            Self::UnknownTool => "Unknown tool: see tools/list for the names",
            Self::UnknownPrompt => "Unknown prompt: see prompts/list for the names",
            Self::UnknownResource => "Resource not found: see resources/list for what there is",
            Self::Upstream => "Internal error: the server behind the gateway failed",
            Self::Busy => "Busy: no room for this request now; retry after data.retryAfterMs",
            Self::Draining => "Draining: this gateway is about to stop; connect again after data.retryAfterMs",
            Self::TooManyInFlight => {
                "Too many requests in flight on this connection; wait for answers before sending more"
            }
            Self::TooOften => "Too many requests in this time; retry after data.retryAfterMs",
            Self::Abandoned => "Internal error: the request was given up without an answer; it may have had effects",
        }
    }

    /// The fault of a message that the parser refused; [`Refusal::from`] takes its words too.
    #[must_use]
    pub const fn of(defect: Defect) -> Self {
        match defect {
            Defect::InvalidUtf8 => Self::InvalidUtf8,
            Defect::NotJson => Self::NotJson,
            Defect::TooDeep => Self::TooDeep,
            Defect::IdNull => Self::IdNull,
            _ => Self::InvalidRequest,
        }
    }

    /// This fault with a message of its own.
    #[must_use]
    pub fn because<'a>(self, message: impl Into<Cow<'a, str>>) -> Refusal<'a> {
        Refusal { fault: self, code: self.code(), message: message.into(), data: None }
    }

    /// This fault with `data.retryAfterMs`.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Refusal<'static> {
        let data = format!(r#"{{"retryAfterMs":{}}}"#, wait.as_millis());
        Refusal { data: Some(data), ..self.into() }
    }

    /// The refusal of a resource that no server has: of up to 8 KiB, as `data` repeats it (spec 2025-11-25
    /// server/resources#error-handling, and the same of 2026-07-28 with another code).
    #[must_use]
    pub fn unknown_resource(uri: &str, revision: Revision) -> Refusal<'static> {
        let code = match revision.era() {
            Era::Legacy => RESOURCE_NOT_FOUND,
            Era::Modern => INVALID_PARAMS,
        };
        let message = format!("Resource not found: {}; see resources/list for what there is", excerpt(uri));
        let data = format!(r#"{{"uri":{}}}"#, serde_json::Value::from(uri));
        Refusal { code, data: Some(data), ..Self::UnknownResource.because(message) }
    }

    /// The refusal of a `_meta` that asks for a revision we do not serve per request; `requested` is its JSON token.
    #[must_use]
    pub fn unsupported_version(requested: &str) -> Refusal<'static> {
        let supported = Revision::SUPPORTED_PER_REQUEST;
        let data = format!(r#"{{"supported":{supported},"requested":{requested}}}"#);
        Refusal { data: Some(data), ..Self::UnsupportedVersion.into() }
    }
}

/// A fault made out in full: what is counted, what is said, and the data that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// What to count.
    pub fault: Fault,
    /// The JSON-RPC error code.
    pub code: i32,
    /// What to say.
    pub message: Cow<'a, str>,
    /// A raw JSON value for `error.data`.
    pub data: Option<String>,
}

impl Refusal<'_> {
    /// Appends the whole JSON-RPC error response. Without an id (it could not be read) the response has none.
    pub fn write(&self, out: &mut Vec<u8>, id: Option<Id<'_>>) {
        answer::error(out, id, self.code, &self.message, self.data.as_deref());
    }

    /// Appends the error object alone: what a ticket is settled with.
    pub fn write_object(&self, out: &mut Vec<u8>) {
        answer::error_object(out, self.code, &self.message, self.data.as_deref());
    }
}

impl From<Malformed<'_>> for Refusal<'static> {
    fn from(malformed: Malformed<'_>) -> Self {
        Fault::of(malformed.what).because(malformed.what.message())
    }
}

impl From<Fault> for Refusal<'static> {
    fn from(fault: Fault) -> Self {
        Self { fault, code: fault.code(), message: Cow::Borrowed(fault.message()), data: None }
    }
}

/// A client's own words, cut short, for a message that names them: no client makes us say more than 64 bytes of its own.
#[must_use]
pub(crate) fn excerpt(words: &str) -> &str {
    &words[..words.floor_char_boundary(64)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Named;

    #[test]
    fn no_code_is_one_the_specification_forbids() {
        for &fault in Fault::ALL {
            let code = fault.code();
            let json_rpc = matches!(code, PARSE_ERROR | INTERNAL_ERROR..=INVALID_REQUEST);
            let defined = [UNSUPPORTED_VERSION, HEADER_MISMATCH].contains(&code);
            let free = !(-32768..=-32000).contains(&code);
            assert!(json_rpc || defined || free, "{} has {code}", fault.name());
        }
    }

    #[test]
    fn a_malformed_message_is_refused_with_the_code_and_the_words_of_its_defect() {
        for &what in Defect::ALL {
            let refusal = Refusal::from(Malformed { what, id: None });
            assert_eq!(refusal.fault.code(), what.code(), "{what:?}");
            assert_eq!(refusal.message, what.message());
        }
    }

    #[test]
    fn an_unsupported_version_lists_what_is_supported() {
        let mut out = Vec::new();
        Fault::unsupported_version("\"1900-01-01\"").write(&mut out, None);
        let error: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(error["error"]["code"], -32022);
        assert_eq!(error["error"]["data"]["supported"], serde_json::json!(["2026-07-28"]));
        assert_eq!(error["error"]["data"]["requested"], "1900-01-01");
    }

    #[test]
    fn a_busy_gateway_says_when_to_retry() {
        let mut out = Vec::new();
        Fault::Busy.retry_after(Duration::from_millis(1500)).write_object(&mut out);
        let error: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(error["code"], 503);
        assert_eq!(error["data"]["retryAfterMs"], 1500);
    }

    #[test]
    fn an_unknown_resource_has_the_code_of_the_revision_and_is_named() {
        for (revision, code) in [(Revision::V2025_11_25, -32002), (Revision::V2026_07_28, -32602)] {
            let mut out = Vec::new();
            Fault::unknown_resource("a:\"b\"", revision).write_object(&mut out);
            let error: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!((&error["code"], &error["data"]), (&code.into(), &serde_json::json!({"uri": "a:\"b\""})));
        }
    }

    #[test]
    fn an_excerpt_ends_between_characters() {
        assert_eq!(excerpt("short"), "short");
        assert_eq!(excerpt(&"ä".repeat(100)).len(), 64);
        assert_eq!(excerpt(&format!("x{}", "ä".repeat(100))).len(), 63);
    }
}
