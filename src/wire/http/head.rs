//! Reads the head of an HTTP/1.x request (RFC 9112), strictly: where two parsers could read two requests, it is refused.

use httparse::{Error, Header, Status};

use super::{Refusal, host_allowed, origin_allowed};
use crate::wire::Config;

/// Most header lines of a request; browsers send about 15.
pub(super) const HEADERS_MAX: usize = 64;

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// DELETE.
    Delete,
    /// OPTIONS, as browsers ask before a request across origins.
    Options,
    /// Anything else.
    Other,
}

/// How the end of a request's body is told (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u32),
    Chunked,
}

/// A request, but for its body. `Host` and `Origin` are allowed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'b> {
    /// What is to be done.
    pub method: Method,
    /// The target as it was written, query included; it begins with `/`.
    pub target: &'b str,
    /// Where the client believes to be.
    pub host: &'b str,
    /// The page that asks; only browsers send it.
    pub origin: Option<&'b str>,
    /// HTTP/1.0, which knows no chunks and no interim answers.
    pub is_old: bool,
    /// Whether more requests may follow on the connection.
    pub keeps_alive: bool,
    /// `Expect: 100-continue`: the body is sent when it is welcome.
    pub expects_continue: bool,
    /// `Upgrade: websocket` is asked for; [`Self::upgrade`] checks it.
    pub wants_websocket: bool,
    /// `application/json` is among the types accepted, or nothing is said.
    pub accepts_json: bool,
    /// `text/event-stream` is among the types accepted, by its own name.
    pub accepts_events: bool,
    /// Everything is among the types accepted, or nothing is said.
    pub accepts_all: bool,
    /// `Content-Type`.
    pub content_type: Option<&'b str>,
    /// `Mcp-Session-Id`.
    pub session: Option<&'b str>,
    /// `MCP-Protocol-Version`.
    pub version: Option<&'b str>,
    /// `Last-Event-ID`.
    pub last_event: Option<&'b str>,
    /// `Mcp-Method`.
    pub mcp_method: Option<&'b str>,
    /// `Mcp-Name`, as it was written.
    pub mcp_name: Option<&'b str>,
    pub(super) framing: Framing,
    pub(super) head: &'b [u8],
}

impl<'b> Request<'b> {
    /// The target's path, without the query.
    pub fn path(&self) -> &'b str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// Whether both forms of an answer are among the types accepted.
    pub fn accepts_both(&self) -> bool {
        self.accepts_json && self.accepts_events
    }

    /// The value of `name` in the query, as it was written.
    pub fn query(&self, name: &str) -> Option<&'b str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Hands every header line to `each`, in their order; for lines that few requests have.
    pub fn each_line(&self, mut each: impl FnMut(&'b str, &'b [u8])) {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        // It was read before.
        if request.parse(self.head).is_ok() {
            request.headers.iter().for_each(|header| each(header.name, header.value));
        }
    }

    /// The value of a line that may be there once; for lines that few requests have.
    ///
    /// # Errors
    /// When it is there twice or is no text.
    pub fn line(&self, name: &str) -> Result<Option<&'b str>, Refusal> {
        let (mut found, mut wrong) = (None, false);
        self.each_line(|line, value| {
            if line.eq_ignore_ascii_case(name) {
                wrong |= found.is_some() || std::str::from_utf8(value).is_err();
                found = std::str::from_utf8(value).ok().map(trim);
            }
        });
        if wrong { Err(Refusal::HeadInvalid) } else { Ok(found) }
    }

    /// The length of the head in bytes.
    pub(super) fn head_bytes(&self) -> usize {
        self.head.len()
    }
}

/// Where the head ends, if it does. A line that ends without a carriage return is refused: it is where two parsers
/// come to read two different requests.
pub(super) fn head_end(buf: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', buf) {
        match buf[start..end].strip_suffix(b"\r") {
            None => return Err(Refusal::HeadInvalid),
            Some([]) => return Ok(Some(end + 1)),
            Some(_) => start = end + 1,
        }
    }
    Ok(None)
}

/// Reads the head at the start of `buf`; `None` as long as it is incomplete.
///
/// `Host` and `Origin` are checked before anything else that the head says.
pub(super) fn read_head<'b>(buf: &'b [u8], config: &Config) -> Result<Option<Request<'b>>, Refusal> {
    let Some(end) = head_end(buf)? else {
        return if buf.len() >= config.head_bytes_max { Err(Refusal::HeadTooLong) } else { Ok(None) };
    };
    if end > config.head_bytes_max {
        return Err(Refusal::HeadTooLong);
    }
    let head = &buf[..end];
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(Status::Complete(_)) => {}
        Err(Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
        Err(Error::Version) => return Err(Refusal::HttpVersion),
        Ok(Status::Partial) | Err(_) => return Err(Refusal::HeadInvalid),
    }
    let mut lines = Lines::default();
    request.headers.iter().try_for_each(|header| lines.put(header))?;
    let host = lines.host.ok_or(Refusal::HostMissing)?;
    if !host_allowed(host, &config.hosts_allowed) {
        return Err(Refusal::HostForbidden);
    }
    if !origin_allowed(lines.origin, &config.origins_allowed) {
        return Err(Refusal::OriginForbidden);
    }
    let target = request.path.filter(|target| target.is_ascii() && target.starts_with('/'));
    let is_old = request.version == Some(0);
    let framing = lines.framing(config, is_old)?;
    let accepts_all = lines.accepts_all || !lines.has_accept;
    Ok(Some(Request {
        method: match request.method {
            Some("GET") => Method::Get,
            Some("POST") => Method::Post,
            Some("DELETE") => Method::Delete,
            Some("OPTIONS") => Method::Options,
            _ => Method::Other,
        },
        target: target.ok_or(Refusal::HeadInvalid)?,
        host,
        origin: lines.origin,
        is_old,
        keeps_alive: !is_old && !lines.closes,
        expects_continue: lines.expects(is_old)?,
        wants_websocket: lines.wants_websocket,
        accepts_json: lines.accepts_json || accepts_all,
        accepts_events: lines.accepts_events,
        accepts_all,
        content_type: lines.content_type,
        session: lines.session,
        version: lines.version,
        last_event: lines.last_event,
        mcp_method: lines.mcp_method,
        mcp_name: lines.mcp_name,
        framing,
        head,
    }))
}

/// The header lines that mean something here, as they are found.
#[derive(Default)]
struct Lines<'b> {
    host: Option<&'b str>,
    origin: Option<&'b str>,
    length: Option<&'b str>,
    coding: Option<&'b str>,
    expect: Option<&'b str>,
    content_type: Option<&'b str>,
    session: Option<&'b str>,
    version: Option<&'b str>,
    last_event: Option<&'b str>,
    mcp_method: Option<&'b str>,
    mcp_name: Option<&'b str>,
    closes: bool,
    wants_websocket: bool,
    has_accept: bool,
    accepts_json: bool,
    accepts_events: bool,
    accepts_all: bool,
}

impl<'b> Lines<'b> {
    fn put(&mut self, header: &Header<'b>) -> Result<(), Refusal> {
        let name = header.name;
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // By length first: most lines are none of these.
        let slot = match name.len() {
            4 if is("host") => &mut self.host,
            6 if is("origin") => &mut self.origin,
            6 if is("expect") => &mut self.expect,
            6 if is("accept") => return self.accept(text(header)?),
            7 if is("upgrade") => {
                self.wants_websocket |= items(text(header)?).any(|item| item.eq_ignore_ascii_case("websocket"));
                return Ok(());
            }
            8 if is("mcp-name") => &mut self.mcp_name,
            10 if is("connection") => {
                self.closes |= items(text(header)?).any(|item| item.eq_ignore_ascii_case("close"));
                return Ok(());
            }
            10 if is("mcp-method") => &mut self.mcp_method,
            12 if is("content-type") => &mut self.content_type,
            13 if is("last-event-id") => &mut self.last_event,
            14 if is("mcp-session-id") => &mut self.session,
            14 if is("content-length") => &mut self.length,
            17 if is("transfer-encoding") => &mut self.coding,
            20 if is("mcp-protocol-version") => &mut self.version,
            _ => return Ok(()),
        };
        match slot.replace(trim(text(header)?)) {
            None => Ok(()),
            Some(_) if is("content-length") || is("transfer-encoding") => Err(Refusal::LengthAmbiguous),
            Some(_) => Err(Refusal::HeadInvalid),
        }
    }

    /// A weight of zero is not looked for: nobody sends it for what it asks to be sent.
    fn accept(&mut self, list: &str) -> Result<(), Refusal> {
        self.has_accept = true;
        for item in items(list) {
            let kind = trim(item.split(';').next().unwrap_or(item));
            let is = |known: &str| kind.eq_ignore_ascii_case(known);
            self.accepts_json |= is("application/json") || is("application/*");
            self.accepts_events |= is("text/event-stream");
            self.accepts_all |= is("*/*");
        }
        Ok(())
    }

    fn framing(&self, config: &Config, is_old: bool) -> Result<Framing, Refusal> {
        match (self.length, self.coding) {
            (Some(_), Some(_)) => Err(Refusal::LengthAmbiguous),
            (None, None) => Ok(Framing::Length(0)),
            // RFC 9112, section 6.1: of an HTTP/1.0 message with a coding the end cannot be known.
            (None, Some(_)) if is_old => Err(Refusal::TransferCoding),
            (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            (None, Some(_)) => Err(Refusal::TransferCoding),
            (Some(length), None) if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err(Refusal::LengthInvalid)
            }
            (Some(length), None) => match length.parse::<u32>() {
                Ok(length) if length as usize <= config.message_bytes_max => Ok(Framing::Length(length)),
                _ => Err(Refusal::BodyTooLong),
            },
        }
    }

    fn expects(&self, is_old: bool) -> Result<bool, Refusal> {
        match self.expect {
            None => Ok(false),
            // RFC 9110, section 10.1.1: of HTTP/1.0 it is ignored.
            Some(_) if is_old => Ok(false),
            Some(what) if what.eq_ignore_ascii_case("100-continue") => Ok(true),
            Some(_) => Err(Refusal::Expectation),
        }
    }
}

/// A value that is no text is refused: nothing that is read here may hold one.
fn text<'b>(header: &Header<'b>) -> Result<&'b str, Refusal> {
    std::str::from_utf8(header.value).map_err(|_| Refusal::HeadInvalid)
}

/// The items of a comma-separated list.
pub(super) fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(trim)
}

pub(super) fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}
