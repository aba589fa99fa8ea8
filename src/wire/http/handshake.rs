//! The client's half of a WebSocket upgrade: writes the request, checks the answer (RFC 6455, section 4.1).

use httparse::{Header, Status};

use super::head::HEADERS_MAX;
use super::{SUBPROTOCOL, accept};

/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Why there is no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Another status than 101.
    Status(u16),
    /// The head is too long, or no HTTP/1.1.
    HeadInvalid,
    /// `Upgrade`, `Connection` or `Sec-WebSocket-Accept` is missing or wrong: whoever answered did not read the request.
    NotAccepted,
    /// An extension or a subprotocol that was not offered.
    NotOffered,
}

/// A configured header that must not be sent, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderInvalid(pub usize);

/// Appends the request. `key` is 16 random bytes in base64; `headers` are sent beside what is needed.
///
/// # Errors
/// When a header's name is no token, or its value has control characters.
pub fn write_upgrade(
    out: &mut Vec<u8>,
    host: &str,
    target: &str,
    key: &[u8; 24],
    headers: &[(String, String)],
) -> Result<(), HeaderInvalid> {
    for part in [b"GET ", target.as_bytes(), b" HTTP/1.1\r\nHost: ", host.as_bytes()] {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(
        b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ",
    );
    for part in [SUBPROTOCOL.as_bytes(), b"\r\nSec-WebSocket-Key: ", key, b"\r\n"] {
        out.extend_from_slice(part);
    }
    for (at, (name, value)) in headers.iter().enumerate() {
        if !is_token(name) || value.chars().any(|letter| letter.is_control() && letter != '\t') {
            return Err(HeaderInvalid(at));
        }
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Checks the answer at the start of `buf`: its length, or none as long as it is incomplete. Frames may follow it.
///
/// # Errors
/// When the connection is no WebSocket now.
pub fn read_switching(buf: &[u8], key: &[u8; 24]) -> Result<Option<usize>, Rejection> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(buf) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if buf.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) | Err(_) => return Err(Rejection::HeadInvalid),
    };
    if response.code != Some(101) {
        return Err(response.code.map_or(Rejection::HeadInvalid, Rejection::Status));
    }
    let headers = &*response.headers;
    let accepted = values(headers, "sec-websocket-accept").eq([accept(key).as_slice()]);
    if !lists(headers, "upgrade", "websocket") || !lists(headers, "connection", "upgrade") || !accepted {
        return Err(Rejection::NotAccepted);
    }
    let is_ours = |value: &[u8]| value == SUBPROTOCOL.as_bytes();
    // A server that knows no subprotocols selects none.
    if !values(headers, "sec-websocket-protocol").all(is_ours)
        || values(headers, "sec-websocket-extensions").any(|value| !value.is_empty())
    {
        return Err(Rejection::NotOffered);
    }
    Ok(Some(length))
}

fn values<'h>(headers: &'h [Header<'h>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.trim_ascii())
}

fn lists(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    let is_token = |item: &[u8]| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes());
    values(headers, name).any(|value| value.split(|&byte| byte == b',').any(is_token))
}

/// RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::super::{read_upgrade, write_switching};
    use super::*;
    use crate::wire::Config;

    /// The key and the answer of RFC 6455, section 1.3.
    const KEY: &[u8; 24] = b"dGhlIHNhbXBsZSBub25jZQ==";
    const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    #[test]
    fn our_two_halves_understand_each_other() {
        let mut request = Vec::new();
        let headers = [("Authorization".to_owned(), "Bearer x".to_owned())];
        write_upgrade(&mut request, "127.0.0.1:7624", "/mcp", KEY, &headers).unwrap();
        assert!(String::from_utf8_lossy(&request).contains("\r\nAuthorization: Bearer x\r\n"));
        let upgrade = read_upgrade(&request, &Config::default()).unwrap().unwrap();
        assert!(upgrade.offers.mcp && upgrade.target == "/mcp" && upgrade.consumed == request.len());
        let mut answer = Vec::new();
        write_switching(&mut answer, &upgrade);
        let length = answer.len();
        answer.extend_from_slice(b"\x81\x02{}");
        assert_eq!(read_switching(&answer, KEY), Ok(Some(length)));
        assert!((0..length).all(|part| read_switching(&answer[..part], KEY) == Ok(None)));
    }

    #[test]
    fn an_answer_that_is_no_websocket_is_refused_by_name() {
        let read = |text: &str| read_switching(text.as_bytes(), KEY);
        assert!(read(&format!("{SWITCHING}\r\n")).is_ok_and(|length| length.is_some()));
        assert_eq!(read("HTTP/1.1 404 Not Found\r\n\r\n"), Err(Rejection::Status(404)));
        assert_eq!(read("SSH-2.0\r\n\r\n"), Err(Rejection::HeadInvalid));
        assert_eq!(read(&format!("HTTP/1.1 101 x\r\nA: {}", "x".repeat(20_000))), Err(Rejection::HeadInvalid));
        assert_eq!(read(&format!("{}\r\n", SWITCHING.replace("s3p", "S3p"))), Err(Rejection::NotAccepted));
        assert_eq!(read(&format!("{}\r\n", SWITCHING.replace("websocket", "h2c"))), Err(Rejection::NotAccepted));
        assert_eq!(read(&format!("{SWITCHING}Sec-WebSocket-Protocol: chat\r\n\r\n")), Err(Rejection::NotOffered));
        assert_eq!(read(&format!("{SWITCHING}Sec-WebSocket-Extensions: x\r\n\r\n")), Err(Rejection::NotOffered));
    }

    #[test]
    fn a_header_that_would_break_the_request_is_refused() {
        for (name, value) in [("a b", "c"), ("", "c"), ("a", "b\r\nc: d")] {
            let headers = [("ok".to_owned(), "ok".to_owned()), (name.to_owned(), value.to_owned())];
            assert_eq!(write_upgrade(&mut Vec::new(), "h", "/", KEY, &headers), Err(HeaderInvalid(1)));
        }
    }
}
