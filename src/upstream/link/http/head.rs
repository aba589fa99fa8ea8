//! The head of an answer: what of it is meant for us, and how the end of its body is told.

use std::time::Duration;

use httparse::{EMPTY_HEADER, Header, Response, Status};
use hyper::header::HeaderValue;

use super::body::Body;
use crate::upstream::trouble::{Trouble, TroubleKind};

/// Most header lines of an answer: servers behind several others add theirs.
const HEADERS_MAX: usize = 128;
/// Longest head, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;

/// What an answer's body is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Events,
    /// As the server calls it.
    Other(String),
}

/// What an answer's head says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) media: Media,
    /// `Mcp-Session-Id`.
    pub(super) session: Option<HeaderValue>,
    /// `Location`; empty if there is none.
    pub(super) location: String,
    /// In seconds; a date would need a clock that agrees with theirs.
    pub(super) retry_after: Option<Duration>,
}

/// A head that has come as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) head: Head,
    pub(super) body: Body,
    /// Whether another request may follow on the connection, once the body is over.
    pub(super) keeps_alive: bool,
    /// Its length in bytes.
    pub(super) bytes: usize,
}

/// Reads the head at the start of `came`; none as long as its end has not come. Interim answers are heads of their own.
pub(super) fn read(came: &[u8]) -> Result<Option<Read>, Trouble> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    let parsed = if is_whole(came) { response.parse(came) } else { Ok(Status::Partial) };
    let bytes = match parsed {
        Ok(Status::Complete(bytes)) => bytes,
        // Blank lines before it are read over, and are part of what it may take.
        Ok(Status::Partial) if came.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) => return Err(no_http("a head without an end")),
        Err(error) => return Err(no_http(&error.to_string())),
    };
    let is_old = response.version == Some(0);
    let status = response.code.unwrap_or_default();
    let mut lines = Lines::default();
    response.headers.iter().try_for_each(|header| lines.put(header))?;
    let body = lines.body(status, is_old)?;
    let keeps_alive = body != Body::UntilClose && !lines.closes && (!is_old || lines.keeps_alive);
    let Lines { media, session, location, retry_after, .. } = lines;
    let media = media.unwrap_or(Media::Other(String::new()));
    let head = Head { status, media, session, location: location.unwrap_or_default(), retry_after };
    Ok(Some(Read { head, body, keeps_alive, bytes }))
}

/// Whether a blank line has come. It may end in a bare line feed (RFC 9112, section 2.2): answers are not passed on as they
/// came, so nobody behind us can read them otherwise.
fn is_whole(came: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', came).any(|at| matches!(came[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

/// The header lines that mean something here, as they are found.
#[derive(Default)]
struct Lines {
    length: Option<u64>,
    coding: Option<bool>,
    closes: bool,
    keeps_alive: bool,
    media: Option<Media>,
    session: Option<HeaderValue>,
    location: Option<String>,
    retry_after: Option<Duration>,
}

impl Lines {
    fn put(&mut self, header: &Header<'_>) -> Result<(), Trouble> {
        let is = |known: &str| header.name.eq_ignore_ascii_case(known);
        // A value that is no text means nothing in any line that is read here.
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim_matches([' ', '\t']);
        // By length first: most lines are none of these.
        match header.name.len() {
            8 if is("location") => self.location = Some(value.to_owned()),
            10 if is("connection") => {
                let has = |word: &str| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(word));
                self.closes |= has("close");
                self.keeps_alive |= has("keep-alive");
            }
            11 if is("retry-after") => self.retry_after = value.parse().ok().map(Duration::from_secs),
            12 if is("content-type") => self.media = Some(media(value)),
            14 if is("mcp-session-id") => self.session = HeaderValue::from_bytes(header.value).ok(),
            14 if is("content-length") => {
                let length = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten();
                let length = length.ok_or_else(|| no_http("a length that is none"))?;
                if self.length.replace(length).is_some_and(|other| other != length) {
                    return Err(no_http("two lengths"));
                }
            }
            17 if is("transfer-encoding") => {
                self.coding = Some(self.coding.is_none() && value.eq_ignore_ascii_case("chunked"));
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112, section 6.3.
    fn body(&self, status: u16, is_old: bool) -> Result<Body, Trouble> {
        match (self.coding, self.length) {
            _ if matches!(status, 100..=199 | 204 | 304) => Ok(Body::Over),
            (Some(_), Some(_)) => Err(no_http("a length and a coding")),
            (Some(true), None) if !is_old => Ok(Body::CHUNKED),
            (Some(_), None) => Err(no_http("a transfer coding that was not asked for")),
            (None, Some(length)) => Ok(Body::of_length(length)),
            (None, None) => Ok(Body::UntilClose),
        }
    }
}

fn media(value: &str) -> Media {
    match value.split_once(';').map_or(value, |(media, _)| media).trim() {
        media if media.eq_ignore_ascii_case("application/json") => Media::Json,
        media if media.eq_ignore_ascii_case("text/event-stream") => Media::Events,
        media => Media::Other(media.to_owned()),
    }
}

/// What came is no HTTP/1 answer, or not one that can be read in one way only.
pub(super) fn no_http(why: &str) -> Trouble {
    Trouble::new(TroubleKind::Garbage, format!("no HTTP answer: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &str) -> Result<Option<Read>, Trouble> {
        read(format!("HTTP/1.1 {lines}\r\n\r\nrest").as_bytes())
    }

    fn framing(lines: &str) -> (Body, bool) {
        let read = head(&format!("200 OK\r\n{lines}")).expect("an answer").expect("whole");
        (read.body, read.keeps_alive)
    }

    #[test]
    fn a_head_says_what_it_says_however_it_is_cut() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Type: Application/JSON; charset=utf-8\r\nMCP-Session-Id: s1\r\n\
            Retry-After: 7\r\nLocation: /x\r\nContent-Length: 4\r\n\r\nrest";
        for cut in 0..text.len() - 4 {
            assert_eq!(read(&text[..cut]), Ok(None), "{cut}");
        }
        let Read { head, body, keeps_alive, bytes } = read(text).expect("an answer").expect("whole");
        assert_eq!((head.status, head.media, head.location.as_str()), (200, Media::Json, "/x"));
        assert_eq!(
            (head.session.expect("one").as_bytes(), head.retry_after),
            (&b"s1"[..], Some(Duration::from_secs(7)))
        );
        assert_eq!((body, keeps_alive, bytes), (Body::of_length(4), true, text.len() - 4));
    }

    #[test]
    fn the_end_of_a_body_is_told_in_one_way() {
        assert_eq!(framing("Content-Length: 0"), (Body::Over, true));
        assert_eq!(framing("Content-Length: 5\r\nContent-Length: 5"), (Body::of_length(5), true));
        assert_eq!(framing("Transfer-Encoding: Chunked"), (Body::CHUNKED, true));
        assert_eq!(framing("Content-Length: 5\r\nConnection: x, Close"), (Body::of_length(5), false));
        assert_eq!(framing("x: y"), (Body::UntilClose, false));
        assert_eq!(head("204 No").unwrap().unwrap().body, Body::Over);
        for lines in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: +5",
            "Content-Length: 99999999999999999999",
            "Content-Length:",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            assert!(head(&format!("200 OK\r\n{lines}")).is_err(), "{lines}");
        }
    }

    #[test]
    fn http_1_0_closes_unless_it_says_otherwise() {
        let old = |lines: &str| read(format!("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n{lines}\r\n").as_bytes());
        assert!(!old("").unwrap().unwrap().keeps_alive);
        assert!(old("Connection: Keep-Alive\r\n").unwrap().unwrap().keeps_alive);
        assert!(read(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_head_without_an_end_is_refused_and_one_of_bare_line_feeds_is_not() {
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
        assert!(read(endless.as_bytes()).is_err());
        assert!(read(&b"\r\n".repeat(HEAD_BYTES_MAX / 2)).is_err());
        assert!(read(b"HTTP/1.1 200 OK\nContent-Length: 1\n\n").unwrap().is_some());
        assert!(read(b"SMTP ready\r\n\r\n").is_err());
    }
}
