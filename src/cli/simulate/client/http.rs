//! HTTP as a simulated client speaks it: requests, answers, and streams of events, with no state of their own.

use std::borrow::Cow;
use std::io::Write;

use memchr::memmem;

use super::refusal;
use super::script::{Who, excerpt};
use super::speech::MESSAGE_MAX;
use crate::cli::simulate::order::{Cause, Death};
use crate::wire::sse;

/// An answer's head is short; more bytes without its end are none (bytes).
const HEAD_MAX: usize = 8 << 10;
pub(super) const HEADERS_MAX: usize = 32;
/// How a server names a body that is a stream of events.
const EVENTS: &str = "text/event-stream";

/// What a request says about itself beside its body.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    /// The first request of a session: there is nothing to say.
    First,
    /// A request of a session of 2025-11-25, with its id if the gateway gave one.
    Session(Option<&'a str>),
    /// A request of 2026-07-28: its method, and what it names.
    Modern(&'a str, Option<&'a str>),
}

/// The data of some events, one message each.
pub(super) type Messages = Vec<Vec<u8>>;

/// Appends a request to the MCP endpoint; `body` is empty but for POST.
pub(super) fn request(verb: &str, who: Who, about: About<'_>, body: &[u8], out: &mut Vec<u8>) {
    let accept = if verb == "POST" { "application/json, text/event-stream" } else { EVENTS };
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{verb} /mcp HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n", who.target);
    if verb == "POST" {
        let _ = write!(out, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    let _ = match about {
        About::First => Ok(()),
        About::Session(id) => {
            let id = id.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
            write!(out, "MCP-Protocol-Version: 2025-11-25\r\n{id}")
        }
        About::Modern(method, name) => {
            let name = name.map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
            write!(out, "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{name}")
        }
    };
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

/// What an answer of the gateway is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// One that ends; of a stream that ends, the last message.
    Whole { status: u16, session: Option<&'a str>, body: Cow<'a, [u8]> },
    /// The head of a stream that stays open.
    Stream { chunked: bool },
}

/// The answer at the start of `bytes` and its length, or `None` while it is not complete. Where a stream is asked for, its
/// head is all.
pub(super) fn answer(bytes: &[u8], asks_for_stream: bool) -> Result<Option<(Answer<'_>, usize)>, Death> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let Some((response, start)) = head(bytes, &mut headers)? else { return Ok(None) };
    let header = |name: &str| header(&response, name).and_then(|value| std::str::from_utf8(value).ok());
    let status = response.code.unwrap_or_default();
    let body = bytes.get(start..).unwrap_or_default();
    if !(200..300).contains(&status) {
        let detail = format!("HTTP status {status}: {}", excerpt(if body.is_empty() { bytes } else { body }));
        return Err(Death::refused(refusal::of_response(&response), detail));
    }
    let is_events = header("Content-Type").is_some_and(|kind| kind.starts_with(EVENTS));
    let chunked = header("Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    if asks_for_stream && is_events {
        return Ok(Some((Answer::Stream { chunked }, start)));
    }
    let (body, length) = match header("Content-Length").and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => match body.get(..length) {
            Some(body) => (Cow::Borrowed(body), length),
            None if length <= MESSAGE_MAX => return Ok(None),
            None => return Err(wrong("a body too long", bytes)),
        },
        None if status == 204 => (Cow::Borrowed(&b""[..]), 0),
        None if chunked => match chunks(body, |_, ended| ended)? {
            Some((text, length)) => (Cow::Owned(text), length),
            None => return Ok(None),
        },
        None => return Err(wrong("an answer without a length", bytes)),
    };
    let body = if is_events { Cow::Owned(data(&body).pop().unwrap_or_default()) } else { body };
    let session = header("Mcp-Session-Id");
    Ok(Some((Answer::Whole { status, session, body }, start + length)))
}

/// The data of the events at the start of a stream, and the bytes that they take, or `None` while none is whole.
pub(super) fn events(chunked: bool, bytes: &[u8]) -> Result<Option<(Messages, usize)>, Death> {
    let is_whole = |text: &[u8]| text.ends_with(b"\n\n") || text.ends_with(b"\r\n\r\n");
    let taken = if chunked {
        chunks(bytes, |text, ended| ended || is_whole(text))?.map(|(text, end)| (Cow::Owned(text), end))
    } else {
        let ends = [memmem::rfind(bytes, b"\n\n").map(|at| at + 2), memmem::rfind(bytes, b"\r\n\r\n").map(|at| at + 4)];
        ends.into_iter().max().flatten().and_then(|end| Some((Cow::Borrowed(bytes.get(..end)?), end)))
    };
    match taken {
        // The last chunk came, behind whole events or in the middle of one.
        Some((text, _)) if !is_whole(&text) => Err(Death::new(Cause::Closed, "the stream was ended by the gateway")),
        Some((text, length)) => Ok(Some((data(&text), length))),
        None if bytes.len() > MESSAGE_MAX => Err(wrong("an event without end", bytes)),
        None => Ok(None),
    }
}

/// The head at the start of `bytes` with its length, or `None` while it is not complete.
pub(super) fn head<'h, 'b>(
    bytes: &'b [u8],
    headers: &'h mut [httparse::Header<'b>],
) -> Result<Option<(httparse::Response<'h, 'b>, usize)>, Death> {
    let mut response = httparse::Response::new(headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Ok(Some((response, length))),
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => Ok(None),
        _ => Err(wrong("no HTTP", bytes)),
    }
}

/// The value of the first header of this name.
pub(super) fn header<'b>(response: &httparse::Response<'_, 'b>, name: &str) -> Option<&'b [u8]> {
    response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// Joins chunks until `enough`, which is told the text so far and whether the last chunk has come.
fn chunks(bytes: &[u8], enough: impl Fn(&[u8], bool) -> bool) -> Result<Option<(Vec<u8>, usize)>, Death> {
    let (mut text, mut at) = (Vec::new(), 0);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete((start, size))) if size <= MESSAGE_MAX as u64 => (start, size as usize),
            Ok(httparse::Status::Partial) => return Ok(None),
            _ => return Err(wrong("a broken chunk", rest)),
        };
        let Some(chunk) = rest.get(start..start + size + 2) else { return Ok(None) };
        at += start + size + 2;
        text.extend_from_slice(chunk.get(..size).unwrap_or_default());
        if text.len() > MESSAGE_MAX {
            return Err(wrong("a body too long", &text));
        }
        if enough(&text, size == 0) {
            return Ok(Some((text, at)));
        }
    }
}

/// The data of whole events; those without data (a comment, say) are none.
fn data(mut text: &[u8]) -> Messages {
    let (mut decoder, mut all) = (sse::Decoder::new(MESSAGE_MAX), Vec::new());
    loop {
        match decoder.decode(&mut text) {
            sse::Step::Event(event) if event.data.is_empty() => {}
            sse::Step::Event(event) => all.push(event.data.to_vec()),
            // The text is no longer than an event may be.
            sse::Step::TooLong => {}
            sse::Step::More => return all,
        }
    }
}

fn wrong(what: &str, bytes: &[u8]) -> Death {
    Death::new(Cause::WrongAnswer, format!("{what}: {}", excerpt(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: abc\r\nContent-Length: 2\r\n\r\n{}rest";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
          e\r\nid: 1\r\ndata: \n\r\n1\r\n\n\r\n9\r\ndata: {}\n\r\n1\r\n\n\r\n0\r\n\r\nrest";

    #[test]
    fn a_request_tells_its_session_or_its_method() {
        let said = |verb, about, body: &[u8]| {
            let mut out = Vec::new();
            request(verb, Who::example(1), about, body, &mut out);
            String::from_utf8(out).expect("text")
        };
        assert!(!said("POST", About::First, b"{}").contains("Mcp-"));
        assert!(said("GET", About::Session(Some("abc")), b"").ends_with("Mcp-Session-Id: abc\r\n\r\n"));
        let call = said("POST", About::Modern("tools/call", Some("echo")), b"{}");
        assert!(call.contains("Mcp-Method: tools/call\r\nMcp-Name: echo\r\n\r\n{}"), "{call}");
    }

    #[test]
    fn answers_are_read_whole_with_length_or_chunks() {
        for (bytes, session) in [(JSON, Some("abc")), (CHUNKED, None)] {
            let (whole, length) = answer(bytes, false).expect("right").expect("whole");
            assert_eq!(whole, Answer::Whole { status: 200, session, body: b"{}"[..].into() });
            assert_eq!(length, bytes.len() - 4);
        }
        for (whole, rest) in [(JSON, 4), (CHUNKED, 4)] {
            for cut in 0..whole.len() - rest {
                assert!(answer(&whole[..cut], false).expect("right").is_none(), "{cut}");
            }
        }
    }

    #[test]
    fn a_stream_is_its_head_and_then_events_that_may_be_cut_anywhere() {
        let (opened, length) = answer(CHUNKED, true).expect("right").expect("whole");
        assert_eq!(opened, Answer::Stream { chunked: true });
        let stream = &CHUNKED[length..];
        let (first, taken) = events(true, stream).expect("right").expect("an event");
        assert!(first.is_empty(), "a priming event has no data");
        let (second, more) = events(true, &stream[taken..]).expect("right").expect("an event");
        assert_eq!(second, [b"{}"]);
        assert_eq!(events(true, &stream[taken + more..]).expect_err("the end").cause, Cause::Closed);
        assert!(events(true, &stream[..taken - 1]).expect("right").is_none());
        let cut_short = events(true, b"8\r\ndata: {}\r\n0\r\n\r\n").expect_err("the end within an event");
        assert_eq!(cut_short.cause, Cause::Closed);
        let plain = b": hello\n\ndata: 1\ndata: 2\r\n\r\ndata: 3";
        assert_eq!(events(false, plain).expect("right"), Some((vec![b"1\n2".to_vec()], plain.len() - 7)));
    }

    #[test]
    fn a_refusal_and_what_is_no_http_are_deaths() {
        let refused = answer(b"HTTP/1.1 404 Not Found\r\n\r\nunknown session", true).expect_err("refused");
        assert!(refused.cause == Cause::Refused && refused.detail.contains("unknown session"));
        assert_eq!(answer(b"{\"jsonrpc\"", false).expect_err("no HTTP").cause, Cause::WrongAnswer);
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\n\r\n{}", false).expect_err("no length").cause, Cause::WrongAnswer);
        assert_eq!(events(true, b"zz\r\n").expect_err("no chunk").cause, Cause::WrongAnswer);
    }
}
