//! The plain HTTP answers with which a client is refused: why, and what to do next.

use std::io::Write;

use super::Manner;
use super::answer::write_head;

listed! {
    /// One way for an HTTP request to be refused.
    pub enum Refusal {
        /// The head is no HTTP.
        HeadInvalid = "head_invalid",
        /// The head is longer than the limit.
        HeadTooLong = "head_too_long",
        /// The head has more than 64 header lines.
        TooManyHeaders = "too_many_headers",
        /// Not HTTP/1.1.
        HttpVersion = "http_version",
        /// No `Host`.
        HostMissing = "host_missing",
        /// `Host` is neither loopback nor allowed.
        HostForbidden = "host_forbidden",
        /// `Origin` is neither loopback nor allowed.
        OriginForbidden = "origin_forbidden",
        /// A method that is not served at the path.
        Method = "method",
        /// The same, of a request that is made in 2026-07-28.
        MethodModern = "method_modern",
        /// The same, where the streams of 2024-11-05 are.
        MethodOfOldStream = "method_old_stream",
        /// The same, where their messages are posted.
        MethodOfOldMessage = "method_old_message",
        /// A path that is not served.
        NotFound = "not_found",
        /// An upgrade request with a body.
        Body = "body",
        /// A GET that asks for no WebSocket.
        NoUpgrade = "no_upgrade",
        /// `Sec-WebSocket-Version` is not 13.
        WebSocketVersion = "websocket_version",
        /// `Sec-WebSocket-Key` is not 16 bytes in base64.
        Key = "websocket_key",
        /// Two lengths of the body, or a length and chunks.
        LengthAmbiguous = "length_ambiguous",
        /// `Content-Length` is no number.
        LengthInvalid = "length_invalid",
        /// A transfer coding other than `chunked`.
        TransferCoding = "transfer_coding",
        /// A chunk that is none.
        ChunkInvalid = "chunk_invalid",
        /// The body is longer than a message may be.
        BodyTooLong = "body_too_long",
        /// `Expect` asks for something else than `100-continue`.
        Expectation = "expectation",
        /// `Accept` does not list what may be answered.
        NotAcceptable = "not_acceptable",
        /// The body is not said to be JSON.
        ContentType = "content_type",
        /// A message for a stream of 2024-11-05 that is no UTF-8 text.
        InvalidUtf8 = "invalid_utf8",
        /// `MCP-Protocol-Version` names no revision that is served, or not that of the session.
        ProtocolVersion = "protocol_version",
        /// A request that belongs to a session does not name it.
        SessionMissing = "session_missing",
        /// The session is not there, or not any more.
        SessionUnknown = "session_unknown",
        /// A response to what was never asked.
        ReplyUnasked = "reply_unasked",
        /// There are as many sessions as there may be.
        SessionsFull = "sessions_full",
        /// The same of one tenant.
        TenantSessionsFull = "tenant_sessions_full",
        /// More messages wait for a stream than may.
        StreamBusy = "stream_busy",
        /// The request did not come in time.
        Timeout = "timeout",
        /// The house is full.
        Full = "full",
        /// The house is nearly full, and takes nobody new.
        Critical = "critical",
        /// Too many are connected from one address.
        AddressFull = "address_full",
        /// Too many of one tenant are connected.
        TenantFull = "tenant_full",
        /// Too many connect at once.
        TooManyArrivals = "too_many_arrivals",
    }
}

impl Refusal {
    /// The status code.
    pub fn status(self) -> u16 {
        match self {
            Self::HeadInvalid
            | Self::HostMissing
            | Self::Body
            | Self::Key
            | Self::LengthAmbiguous
            | Self::LengthInvalid
            | Self::TransferCoding
            | Self::ChunkInvalid
            | Self::InvalidUtf8
            | Self::ProtocolVersion
            | Self::SessionMissing
            | Self::ReplyUnasked => 400,
            Self::HostForbidden | Self::OriginForbidden => 403,
            Self::NotFound | Self::SessionUnknown => 404,
            Self::Method | Self::MethodModern | Self::MethodOfOldStream | Self::MethodOfOldMessage => 405,
            Self::NotAcceptable => 406,
            Self::Timeout => 408,
            Self::BodyTooLong => 413,
            Self::ContentType => 415,
            Self::Expectation => 417,
            Self::StreamBusy | Self::TooManyArrivals => 429,
            Self::NoUpgrade | Self::WebSocketVersion => 426,
            Self::HeadTooLong | Self::TooManyHeaders => 431,
            Self::Full
            | Self::SessionsFull
            | Self::TenantSessionsFull
            | Self::Critical
            | Self::AddressFull
            | Self::TenantFull => 503,
            Self::HttpVersion => 505,
        }
    }

    /// The body: why, and what to do next.
    pub fn body(self) -> &'static str {
        match self {
            Self::HeadInvalid => "This is not valid HTTP/1.1. Send header lines as RFC 9112 has them.",
            Self::HeadTooLong => "The request's head is too long. Send fewer or shorter header lines.",
            Self::TooManyHeaders => "The request has more than 64 header lines. Send fewer.",
            Self::HttpVersion => "Only HTTP/1.1 is spoken here. Repeat the request as HTTP/1.1.",
            Self::HostMissing => "The request has no Host header. Send one.",
            Self::HostForbidden => "This Host is not allowed. Use a loopback name, or add it to hosts_allowed.",
            Self::OriginForbidden => "This Origin is not allowed. Add it to origins_allowed.",
            Self::Method => "This method is not served here. Use one of those in Allow.",
            Self::MethodModern => {
                "There are no sessions in 2026-07-28. POST your requests; subscriptions/listen opens a stream."
            }
            Self::MethodOfOldStream => "Here streams of 2024-11-05 are opened. GET one, or POST to conn.path.",
            Self::MethodOfOldMessage => "Here messages for streams of 2024-11-05 are posted. POST one.",
            Self::NotFound => "Nothing is served at this path. Connect to / or to conn.path (/mcp if it is not set).",
            Self::Body => "An upgrade has no body. Send no Content-Length and no Transfer-Encoding.",
            Self::NoUpgrade => "The upgrade is incomplete. Send Connection: Upgrade and Upgrade: websocket.",
            Self::WebSocketVersion => "WebSocket is spoken in version 13. Send Sec-WebSocket-Version: 13.",
            Self::Key => "Sec-WebSocket-Key must be 16 bytes in base64. Send a new one.",
            Self::Timeout => "The request did not come in time. Connect again and send it at once.",
            Self::LengthAmbiguous => "The body's length is told twice. Send one Content-Length, or chunks.",
            Self::LengthInvalid => "Content-Length is no number. Send the body's length in bytes.",
            Self::TransferCoding => "This Transfer-Encoding is not understood. Send a Content-Length, or chunks.",
            Self::ChunkInvalid => "A chunk of the body is malformed. Send chunks as RFC 9112 has them.",
            Self::BodyTooLong => "The body is too long (wire.message_bytes_max). Send large content by reference.",
            Self::Expectation => "Only 100-continue may be expected. Repeat the request without Expect.",
            Self::NotAcceptable => {
                "This is an MCP gateway. Send Accept: application/json, text/event-stream with a POST, and Accept: \
                 text/event-stream with a GET; or connect by WebSocket, or send JSON-RPC lines over TCP."
            }
            Self::ContentType => "A message is JSON. Send Content-Type: application/json.",
            Self::InvalidUtf8 => "The message is not valid UTF-8. Send JSON encoded as UTF-8.",
            Self::ProtocolVersion => {
                "MCP-Protocol-Version is none that is served here. Send the one that initialize agreed on."
            }
            Self::SessionMissing => "Mcp-Session-Id is missing. Send initialize first, then its answer's session id.",
            Self::SessionUnknown => "This session is not there any more. Send initialize without a session id.",
            Self::ReplyUnasked => {
                "This responds to nothing that was asked here. Send responses with the ids of requests."
            }
            Self::SessionsFull => "There are too many sessions (guard.sessions_max). Wait, then initialize again.",
            Self::TenantSessionsFull => "Your tenant has too many sessions. End some, or wait, then initialize again.",
            Self::StreamBusy => "Too many messages wait for this session's stream. Wait, then send again.",
            Self::Full => "The gateway is full. Wait, then connect again.",
            Self::Critical => "The gateway takes nobody new until others have left. Wait, then try again.",
            Self::AddressFull => {
                "Too many clients are connected from your address. Close some, or wait, then connect again."
            }
            Self::TenantFull => {
                "Too many clients of your tenant are connected. Close some, or wait, then connect again."
            }
            Self::TooManyArrivals => "Too many clients connect at once. Wait, then connect again.",
        }
    }

    /// The header lines that tell what would be accepted.
    fn headers(self) -> &'static str {
        match self {
            Self::Method => "Allow: GET, POST, DELETE, OPTIONS\r\n",
            Self::MethodModern | Self::MethodOfOldMessage => "Allow: POST, OPTIONS\r\n",
            Self::MethodOfOldStream => "Allow: GET, OPTIONS\r\n",
            // A server that names a protocol to upgrade to lists it as a connection option (RFC 9110, section 7.8).
            Self::NoUpgrade => "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            Self::WebSocketVersion => "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => "",
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::SessionsFull | Self::TenantSessionsFull | Self::StreamBusy) || self.is_of_connections()
    }

    /// Whether it is the connection that there is no room for, so that it should not stay.
    pub fn is_of_connections(self) -> bool {
        matches!(self, Self::Full | Self::Critical | Self::AddressFull | Self::TenantFull | Self::TooManyArrivals)
    }
}

/// Appends the whole answer. `retry_after` is in seconds and is written where waiting helps.
pub fn write_refusal(out: &mut Vec<u8>, refusal: Refusal, retry_after: Option<u32>, manner: Manner<'_>) {
    let body = refusal.body();
    let retry = retry_after.filter(|_| refusal.is_temporary());
    let retry = retry.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
    let headers = refusal.headers();
    write_head(
        out,
        refusal.status(),
        manner,
        format_args!(
            "{headers}{retry}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n",
            body.len() + 1
        ),
    );
    let written = writeln!(out, "{body}");
    debug_assert!(written.is_ok(), "a Vec takes everything");
}
