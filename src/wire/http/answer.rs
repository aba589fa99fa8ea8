//! Writes the heads of HTTP answers, and whole answers.

use std::io::Write;

use super::Request;

/// How an answer is to leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner<'a> {
    /// Whether the connection stays open for the next request.
    pub keep: bool,
    /// Whether the body of unknown length comes in chunks.
    pub chunked: bool,
    /// The page that may read the answer; it is an allowed one.
    pub origin: Option<&'a str>,
}

impl<'a> Manner<'a> {
    /// As the request asks for it.
    pub fn of(request: &Request<'a>) -> Self {
        Self { keep: request.keeps_alive, chunked: !request.is_old, origin: request.origin }
    }
}

/// Appends the interim answer that asks for the body (RFC 9110, section 15.2.1).
pub fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Makes what stands in `out` from `from` on the JSON body of an answer; `more` are further header lines, each with its
/// end.
pub fn write_whole(out: &mut Vec<u8>, from: usize, status: u16, manner: Manner<'_>, more: &str) {
    let length = out.len() - from;
    let mut head = Vec::with_capacity(192);
    write_head(
        &mut head,
        status,
        manner,
        format_args!("Content-Type: application/json\r\nContent-Length: {length}\r\n{more}"),
    );
    out.splice(from..from, head);
}

/// Appends an answer without a body.
pub fn write_empty(out: &mut Vec<u8>, status: u16, manner: Manner<'_>, more: &str) {
    // RFC 9110, section 8.6: none in an answer that never has a body.
    let length = if status == 204 { "" } else { "Content-Length: 0\r\n" };
    write_head(out, status, manner, format_args!("{length}{more}"));
}

/// Appends the head of an event stream.
pub fn open_events(out: &mut Vec<u8>, manner: Manner<'_>, more: &str) {
    let coding = if manner.chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
    // Without chunks the end of the connection is the end of the stream.
    let manner = Manner { keep: manner.keep && manner.chunked, ..manner };
    let lines = "Content-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n";
    write_head(out, 200, manner, format_args!("{lines}{coding}{more}"));
}

/// Appends the answer to a browser that asks whether its page may send a request; `headers` are those it wants to send.
pub fn write_preflight(out: &mut Vec<u8>, manner: Manner<'_>, allow: &str, headers: &str) {
    write_head(
        out,
        204,
        manner,
        format_args!(
            "Access-Control-Allow-Methods: {allow}\r\nAccess-Control-Allow-Headers: {headers}\r\n\
             Access-Control-Max-Age: 7200\r\n"
        ),
    );
}

pub(super) fn write_head(out: &mut Vec<u8>, status: u16, manner: Manner<'_>, lines: std::fmt::Arguments<'_>) {
    let written = write!(out, "HTTP/1.1 {status} {}\r\n{lines}", reason(status));
    debug_assert!(written.is_ok(), "a Vec takes everything");
    if !manner.keep {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    write_sharing(out, manner.origin);
    out.extend_from_slice(b"\r\n");
}

/// Lets the page read the answer (Fetch Standard, section 3.2.2).
pub(super) fn write_sharing(out: &mut Vec<u8>, origin: Option<&str>) {
    let Some(origin) = origin else { return };
    let written = write!(
        out,
        "Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n\
         Access-Control-Expose-Headers: Mcp-Session-Id, MCP-Protocol-Version, Retry-After, WWW-Authenticate\r\n"
    );
    debug_assert!(written.is_ok(), "a Vec takes everything");
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
