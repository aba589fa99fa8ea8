//! The plain HTTP answers with which a client is refused: why, and what to do next.

use std::io::Write;

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
        /// Not GET.
        Method = "method",
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
        /// The request's head did not come in time.
        Timeout = "timeout",
        /// The house is full.
        Full = "full",
    }
}

impl Refusal {
    /// The status code.
    pub fn status(self) -> u16 {
        match self {
            Self::HeadInvalid | Self::HostMissing | Self::Body | Self::Key => 400,
            Self::HostForbidden | Self::OriginForbidden => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::Timeout => 408,
            Self::NoUpgrade | Self::WebSocketVersion => 426,
            Self::HeadTooLong | Self::TooManyHeaders => 431,
            Self::Full => 503,
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
            Self::Method => "Only GET is served here. Connect by WebSocket, or send JSON-RPC lines over TCP.",
            Self::NotFound => "Nothing is served at this path. Connect to / or /mcp.",
            Self::Body => "An upgrade has no body. Send no Content-Length and no Transfer-Encoding.",
            Self::NoUpgrade => "This is an MCP gateway. Connect by WebSocket, or send JSON-RPC lines over TCP.",
            Self::WebSocketVersion => "WebSocket is spoken in version 13. Send Sec-WebSocket-Version: 13.",
            Self::Key => "Sec-WebSocket-Key must be 16 bytes in base64. Send a new one.",
            Self::Timeout => "The request did not come in time. Connect again and send it at once.",
            Self::Full => "The gateway is full. Wait, then connect again.",
        }
    }

    /// The header lines that tell what would be accepted.
    fn headers(self) -> &'static str {
        match self {
            Self::Method => "Connection: close\r\nAllow: GET\r\n",
            // A server that names a protocol to upgrade to lists it as a connection option (RFC 9110, section 7.8).
            Self::NoUpgrade => "Connection: close, Upgrade\r\nUpgrade: websocket\r\n",
            Self::WebSocketVersion => {
                "Connection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            }
            _ => "Connection: close\r\n",
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_temporary(self) -> bool {
        self == Self::Full
    }
}

/// Appends the whole answer; the connection is to be closed behind it. `retry_after` is in seconds and is written
/// where waiting helps.
pub fn write_refusal(out: &mut Vec<u8>, refusal: Refusal, retry_after: Option<u32>) {
    let (status, body) = (refusal.status(), refusal.body());
    let retry = retry_after.filter(|_| refusal.is_temporary());
    let retry = retry.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
    let written = write!(
        out,
        "HTTP/1.1 {status} {reason}\r\n{headers}{retry}Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\n\r\n{body}\n",
        reason = reason(status),
        headers = refusal.headers(),
        length = body.len() + 1,
    );
    debug_assert!(written.is_ok(), "a Vec takes everything");
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
