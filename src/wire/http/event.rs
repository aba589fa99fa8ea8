//! Writes server-sent events (HTML Living Standard, section 9.2), each in a chunk of its own where the answer has chunks.

use std::fmt;
use std::io::Write;

/// Where an event stands: which stream of a session, and the how-manieth event of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The stream; 0 is the one that a GET opens.
    pub stream: u32,
    /// Counted from 1; 0 is the place before the first, where a priming event stands.
    pub number: u32,
}

impl EventId {
    /// The id that a client sends back as `Last-Event-ID`; `None` if it is none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (stream, number) = text.split_once('-')?;
        let digits = |part: &str| {
            let plain = part.len() <= 10 && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse().ok()).flatten()
        };
        Some(Self { stream: digits(stream)?, number: digits(number)? })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stream, self.number)
    }
}

/// Appends one event with a message. A JSON text may have line breaks, but only between its tokens: they become spaces.
pub fn write_message(out: &mut Vec<u8>, chunked: bool, id: Option<EventId>, message: &[u8]) {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let parts: [&[u8]; 2] = [id.as_bytes(), b"event: message\ndata: "];
    write(out, chunked, &parts, message, b"\n\n");
}

/// Appends the event that says where messages are to be posted (spec 2024-11-05 basic/transports#http-with-sse).
pub fn write_endpoint(out: &mut Vec<u8>, chunked: bool, path: &str, id: &str) {
    let uri = format!("{path}?sessionId={id}");
    write(out, chunked, &[b"event: endpoint\ndata: "], uri.as_bytes(), b"\n\n");
}

/// Appends the event that gives a client the id to resume at, and the time after which to try: an id, `retry` in
/// milliseconds, and empty data (spec 2025-11-25 basic/transports#sending-messages-to-the-server).
pub fn write_priming(out: &mut Vec<u8>, chunked: bool, id: EventId, retry_ms: u64) {
    let text = format!("id: {id}\nretry: {retry_ms}\ndata: \n\n");
    write(out, chunked, &[], text.as_bytes(), b"");
}

/// Appends a comment, which keeps proxies from taking the stream for dead.
pub fn write_comment(out: &mut Vec<u8>, chunked: bool) {
    write(out, chunked, &[], b":\n\n", b"");
}

/// Appends the end of the stream, where the answer has chunks; else the end of the connection is it.
pub fn write_end(out: &mut Vec<u8>, chunked: bool) {
    if chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

fn write(out: &mut Vec<u8>, chunked: bool, before: &[&[u8]], text: &[u8], behind: &[u8]) {
    let bytes = before.iter().map(|part| part.len()).sum::<usize>() + text.len() + behind.len();
    if chunked {
        let written = write!(out, "{bytes:x}\r\n");
        debug_assert!(written.is_ok(), "a Vec takes everything");
    }
    before.iter().for_each(|part| out.extend_from_slice(part));
    let from = out.len();
    out.extend_from_slice(text);
    if !behind.is_empty() {
        flatten(&mut out[from..]);
    }
    out.extend_from_slice(behind);
    if chunked {
        out.extend_from_slice(b"\r\n");
    }
}

/// Puts a JSON text on one line.
pub fn flatten(text: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'\n', b'\r', &text[at..]) {
        at += found;
        text[at] = b' ';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_chunk_and_its_message_one_line() {
        let mut out = Vec::new();
        write_message(&mut out, true, Some(EventId { stream: 3, number: 7 }), b"{\n\"a\":\r1}");
        assert_eq!(out, b"28\r\nid: 3-7\nevent: message\ndata: { \"a\": 1}\n\n\r\n");
        out.clear();
        write_message(&mut out, false, None, b"{}");
        write_comment(&mut out, false);
        write_end(&mut out, false);
        assert_eq!(out, b"event: message\ndata: {}\n\n:\n\n");
    }

    #[test]
    fn an_id_comes_back_as_it_was_and_no_other_does() {
        let id = EventId { stream: 0, number: u32::MAX };
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        for wrong in ["", "-", "1", "1-", "-1", "+1-1", "1-1-1", "99999999999-1", "1- 1"] {
            assert_eq!(EventId::parse(wrong), None, "{wrong}");
        }
    }
}
