//! The two dialects of messages both ways, as a client speaks them: lines on raw TCP, masked text frames on WebSocket.

use std::io::Write;

use super::http::{HEADERS_MAX, head, header};
use super::refusal;
use super::script::{Who, excerpt, mix};
use crate::cli::simulate::key_of;
use crate::cli::simulate::order::{Cause, Death};
use crate::wire::http;
use crate::wire::ws::{Decoder, Frame, Opcode, Role, Rules, Step, close as code, write_masked};

/// A message of the gateway longer than this is a wrong answer (bytes); the scripted answers are below 4 KiB.
pub(super) const MESSAGE_MAX: usize = 1 << 20;
const RULES: Rules = Rules { role: Role::Client, frame_bytes_max: MESSAGE_MAX, message_bytes_max: MESSAGE_MAX };
/// What every client asks with; it need not be secret, only echoed in the right way (RFC 6455, section 1.3).
const KEY: &[u8; 24] = b"bGFraC1zaW11bGF0ZS0wMQ==";
/// Stands for a close frame without a code (RFC 6455, section 7.1.5).
const NO_CODE: u16 = 1005;

/// One thing the gateway said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spoken<'a> {
    Message(&'a [u8]),
    Ping(&'a [u8]),
    /// A close frame with its code.
    Close(u16),
    /// A pong or an empty line.
    Nothing,
}

/// Appends one message that `write` writes, framed.
pub(super) fn say(ws: bool, who: Who, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    if ws {
        let mut text = Vec::with_capacity(256);
        write(&mut text);
        frame(who, Opcode::Text, &text, out);
    } else {
        write(out);
        out.push(b'\n');
    }
}

pub(super) fn pong(who: Who, payload: &[u8], out: &mut Vec<u8>) {
    frame(who, Opcode::Pong, payload, out);
}

pub(super) fn close(who: Who, out: &mut Vec<u8>) {
    frame(who, Opcode::Close, &code::NORMAL.to_be_bytes(), out);
}

/// Appends the request for a WebSocket.
pub(super) fn upgrade(who: Who, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "GET /mcp HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mcp",
        who.target
    );
    if let Some(tenant) = who.tenant {
        let _ = write!(out, ", mcp.auth.{}", key_of(tenant));
    }
    out.extend_from_slice(b"\r\nSec-WebSocket-Key: ");
    out.extend_from_slice(KEY);
    out.extend_from_slice(b"\r\n\r\n");
}

/// The length of the gateway's answer to [`upgrade`], or `None` while it is not complete.
pub(super) fn upgraded(bytes: &[u8]) -> Result<Option<usize>, Death> {
    if bytes.first() == Some(&b'{') {
        let whole = bytes.contains(&b'\n');
        return match refusal::of_line(bytes) {
            Some(refusal) => Err(Death::refused(refusal, excerpt(bytes))),
            None if !whole && bytes.len() < MESSAGE_MAX => Ok(None),
            None => Err(Death::new(Cause::WrongAnswer, excerpt(bytes))),
        };
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let Some((response, length)) = head(bytes, &mut headers)? else { return Ok(None) };
    if response.code != Some(101) {
        return Err(Death::refused(refusal::of_response(&response), excerpt(bytes)));
    }
    let accepted = header(&response, "Sec-WebSocket-Accept") == Some(&http::accept(KEY)[..]);
    let protocol = header(&response, "Sec-WebSocket-Protocol").is_none_or(|name| name == http::SUBPROTOCOL.as_bytes());
    if accepted && protocol { Ok(Some(length)) } else { Err(Death::new(Cause::WrongAnswer, excerpt(bytes))) }
}

/// The next whole thing at the start of `bytes` and its length, or `None` while it is not complete.
pub(super) fn next(ws: bool, bytes: &mut [u8]) -> Result<Option<(Spoken<'_>, usize)>, Death> {
    if ws {
        return next_frame(bytes);
    }
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return if bytes.len() > MESSAGE_MAX {
            Err(Death::new(Cause::WrongAnswer, format!("a line without end: {}", excerpt(bytes))))
        } else {
            Ok(None)
        };
    };
    let line = bytes.get(..end).unwrap_or_default().trim_ascii();
    let spoken = if line.is_empty() { Spoken::Nothing } else { Spoken::Message(line) };
    Ok(Some((spoken, end + 1)))
}

/// Every answer of the script is one short frame. So an idle client keeps no decoder, and fragments are a wrong answer.
fn next_frame(bytes: &mut [u8]) -> Result<Option<(Spoken<'_>, usize)>, Death> {
    let broken = |what: &str| Death::new(Cause::WrongAnswer, format!("WebSocket: {what}"));
    let step = Decoder::default().decode(bytes, &RULES).map_err(|violation| broken(violation.name()))?;
    let Step::Frame { frame, consumed } = step else {
        return Ok(None);
    };
    let spoken = match frame {
        Frame::Text(text) => Spoken::Message(text.as_bytes()),
        Frame::Ping(payload) => Spoken::Ping(payload),
        Frame::Pong(_) => Spoken::Nothing,
        Frame::Close(closing) => Spoken::Close(closing.map_or(NO_CODE, |closing| closing.code)),
        Frame::Binary(_) => return Err(broken("a binary message")),
        Frame::Piece { .. } => return Err(broken("a short answer in fragments")),
    };
    Ok(Some((spoken, consumed)))
}

fn frame(who: Who, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let key = mix(who.seed ^ u64::from(who.number) ^ (out.len() as u64) << 32) as u32;
    write_masked(out, opcode, true, payload, key.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ws::write_frame;

    const ME: Who = Who::example(5);

    fn answer(accept: &[u8]) -> Vec<u8> {
        [b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: ", accept, b"\r\n\r\nrest"].concat()
    }

    #[test]
    fn only_the_right_accept_opens_the_websocket() {
        let right = answer(&http::accept(KEY));
        assert_eq!(upgraded(&right).expect("right"), Some(right.len() - 4));
        assert_eq!(upgraded(&right[..40]).expect("half"), None);
        assert_eq!(
            upgraded(&answer(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")).expect_err("another key's").cause,
            Cause::WrongAnswer
        );
        let full = upgraded(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n").expect_err("full");
        assert!(full.cause == Cause::Refused && full.detail.contains("503"));
        assert_eq!(full.refusal.and_then(|told| told.again), Some(std::time::Duration::from_secs(5)));
    }

    #[test]
    fn the_request_is_one_that_our_own_gateway_takes() {
        let mut request = Vec::new();
        upgrade(ME, &mut request);
        let read = http::read_upgrade(&request, &crate::wire::Config::default()).expect("allowed").expect("whole");
        assert!(read.offers.mcp && read.consumed == request.len());
        let mut tenants = Vec::new();
        upgrade(Who { tenant: Some(3), ..ME }, &mut tenants);
        assert!(String::from_utf8_lossy(&tenants).contains("Protocol: mcp, mcp.auth.simulate-3\r\n"));
        http::read_upgrade(&tenants, &crate::wire::Config::default()).expect("allowed").expect("whole");
    }

    #[test]
    fn what_a_client_says_is_masked_and_what_it_hears_is_not() {
        let mut said = Vec::new();
        say(true, ME, &mut said, |out| out.extend_from_slice(b"hello"));
        assert!(!said.ends_with(b"hello"));
        let rules = Rules { role: Role::Server, ..RULES };
        let Ok(Step::Frame { frame, .. }) = Decoder::default().decode(&mut said, &rules) else { panic!("a frame") };
        assert_eq!(frame, Frame::Text("hello"));
        let mut heard = Vec::new();
        write_frame(&mut heard, Opcode::Text, b"hello");
        assert_eq!(next(true, &mut heard).expect("a frame"), Some((Spoken::Message(b"hello"), 7)));
        assert_eq!(next(true, &mut heard[..3]).expect("half"), None);
        assert!(next(true, &mut said).is_err(), "a masked frame is none of a server");
    }
}
