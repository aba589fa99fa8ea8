//! Requests however they are cut, and bodies that two parsers would end at two places.

use super::*;
use crate::wire::http::Method;

const HEAD: &str = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n";

/// All requests in `chunks`, fed one after another: path, body; and the refusal at the end.
fn read<'c>(chunks: impl IntoIterator<Item = &'c [u8]>, config: &Config) -> (Vec<(String, Vec<u8>)>, Option<Refusal>) {
    let (mut reader, mut buf, mut whole) = (Reader::default(), Vec::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        loop {
            match reader.next(&mut buf, config) {
                Ok(Step::More) => break,
                Ok(Step::Head(_)) => {}
                Ok(Step::Whole { request, body, consumed }) => {
                    whole.push((request.path().to_owned(), body.to_vec()));
                    buf.drain(..consumed);
                }
                Err(refusal) => return (whole, Some(refusal)),
            }
        }
    }
    (whole, None)
}

fn refused(more: &str) -> Option<Refusal> {
    read([format!("{HEAD}{more}").as_bytes()], &Config::default()).1
}

#[test]
fn requests_are_the_same_however_they_are_cut() {
    let stream = format!(
        "{HEAD}Content-Length: 2\r\n\r\n{{}}{HEAD}Transfer-Encoding: Chunked\r\n\r\n\
         1\r\n{{\r\n0A;x=y\r\n\"a\": true \r\n1\r\n}}\r\n000\r\nX-T: 1\r\n\r\n\
         GET /?a=b&c HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    );
    let config = Config::default();
    let whole = read([stream.as_bytes()], &config);
    assert_eq!(whole.1, None);
    let bodies: Vec<&[u8]> = whole.0.iter().map(|(_, body)| &body[..]).collect();
    assert_eq!(bodies, [&b"{}"[..], b"{\"a\": true }", b""]);
    assert_eq!(whole.0[2].0, "/");
    for size in 1..60 {
        assert_eq!(read(stream.as_bytes().chunks(size), &config), whole, "{size}");
    }
}

#[test]
fn a_head_is_told_before_its_body_and_only_once() {
    let mut reader = Reader::default();
    let mut buf = format!("{HEAD}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n").into_bytes();
    let Ok(Step::Head(request)) = reader.next(&mut buf, &Config::default()) else { panic!("a head") };
    assert!(request.expects_continue && request.accepts_events && request.accepts_json && request.keeps_alive);
    assert_eq!(request.method, Method::Post);
    buf.extend_from_slice(b"nul");
    assert_eq!(reader.next(&mut buf, &Config::default()), Ok(Step::More));
    assert!(reader.is_in_body());
    buf.extend_from_slice(b"lGET ");
    let length = buf.len();
    let Ok(Step::Whole { body, consumed, .. }) = reader.next(&mut buf, &Config::default()) else { panic!("whole") };
    assert_eq!((body, consumed), (&b"null"[..], length - 4));
}

#[test]
fn a_body_whose_end_is_in_doubt_is_refused() {
    use Refusal::*;
    for (more, refusal) in [
        ("Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", LengthAmbiguous),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", LengthAmbiguous),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", LengthAmbiguous),
        ("Content-Length: 2, 2\r\n\r\n{}", LengthInvalid),
        ("Content-Length: +2\r\n\r\n{}", LengthInvalid),
        ("Content-Length: -2\r\n\r\n{}", LengthInvalid),
        ("Content-Length: 0x2\r\n\r\n{}", LengthInvalid),
        ("Content-Length: \r\n\r\n{}", LengthInvalid),
        ("Content-Length: 99999999999\r\n\r\n", BodyTooLong),
        ("Content-Length: 4194305\r\n\r\n", BodyTooLong),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n", TransferCoding),
        ("Transfer-Encoding: identity\r\n\r\n", TransferCoding),
        ("Transfer-Encoding: xchunked\r\n\r\n", TransferCoding),
        ("Transfer-Encoding: chunked\r\n\r\nx\r\n", ChunkInvalid),
        ("Transfer-Encoding: chunked\r\n\r\n\r\n", ChunkInvalid),
        ("Transfer-Encoding: chunked\r\n\r\n1 \r\n", ChunkInvalid),
        ("Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n", ChunkInvalid),
        ("Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n", ChunkInvalid),
        ("Transfer-Encoding: chunked\r\n\r\n1\na\r\n", ChunkInvalid),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", ChunkInvalid),
        ("Transfer-Encoding: chunked\r\n\r\n1;\r\r\na\r\n", ChunkInvalid),
        ("Transfer-Encoding: chunked\r\n\r\n123456789\r\n", ChunkInvalid),
        ("Transfer-Encoding: chunked\r\n\r\nffffffff\r\n", BodyTooLong),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n", ChunkInvalid),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\nx: y\n\r\n", ChunkInvalid),
        ("Expect: the-worst\r\n\r\n", Expectation),
        ("Mcp-Session-Id: a\r\nMcp-Session-Id: b\r\n\r\n", HeadInvalid),
        ("MCP-Protocol-Version: a\r\nMcp-Protocol-Version: a\r\n\r\n", HeadInvalid),
    ] {
        assert_eq!(refused(more), Some(refusal), "{more:?}");
    }
    let old = HEAD.replace("HTTP/1.1", "HTTP/1.0") + "Transfer-Encoding: chunked\r\n\r\n";
    assert_eq!(read([old.as_bytes()], &Config::default()).1, Some(TransferCoding));
    let absolute = HEAD.replace("/mcp", "http://localhost/mcp") + "\r\n";
    assert_eq!(read([absolute.as_bytes()], &Config::default()).1, Some(HeadInvalid));
}

#[test]
fn a_body_in_crumbs_is_bounded_as_a_whole() {
    let config = Config { message_bytes_max: 100, ..Config::default() };
    let stream = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(99));
    assert_eq!(read([stream.as_bytes()], &config), (Vec::new(), Some(Refusal::BodyTooLong)));
    let line = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(SIZE_LINE_MAX));
    assert_eq!(read([line.as_bytes()], &config).1, Some(Refusal::ChunkInvalid));
}
