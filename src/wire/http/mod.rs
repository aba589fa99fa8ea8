//! Reads the head of an HTTP request, checks a WebSocket upgrade (RFC 6455, section 4.2) and writes the answer.

pub mod handshake;
mod origin;
mod refusal;

pub use origin::{host_allowed, origin_allowed};
pub use refusal::{Refusal, write_refusal};

use base64::prelude::{BASE64_STANDARD, Engine};
use httparse::{Error, Header, Status};
use sha1::{Digest, Sha1};

use super::Config;

/// Most header lines of a request; browsers send about 15.
const HEADERS_MAX: usize = 64;

/// The subprotocol that is selected when a client offers it.
pub const SUBPROTOCOL: &str = "mcp";

/// A WebSocket upgrade that may be accepted with [`write_switching`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade<'b> {
    /// The request's target as it was written, query included.
    pub target: &'b str,
    /// `Host`, which is allowed.
    pub host: &'b str,
    /// `Origin`, which is allowed; only browsers send it.
    pub origin: Option<&'b str>,
    /// The subprotocols that the client offers.
    pub offers: Offers<'b>,
    /// Length of the head in bytes; WebSocket frames may follow it.
    pub consumed: usize,
    key: [u8; 24],
}

/// The subprotocols of `Sec-WebSocket-Protocol` that mean something here. Only `mcp` is ever selected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offers<'b> {
    /// `mcp` is offered.
    pub mcp: bool,
    /// What stands behind the first `mcp.version.`.
    pub version: Option<&'b str>,
    /// What stands behind the first `mcp.auth.`; a credential, not to be logged.
    pub auth: Option<&'b str>,
}

/// Reads the upgrade at the start of `buf`; `None` as long as its head is incomplete.
///
/// `Host` and `Origin` are checked before anything else that the head says.
pub fn read_upgrade<'b>(buf: &'b [u8], config: &Config) -> Result<Option<Upgrade<'b>>, Refusal> {
    let Some(end) = head_end(buf)? else {
        return if buf.len() >= config.head_bytes_max { Err(Refusal::HeadTooLong) } else { Ok(None) };
    };
    if end > config.head_bytes_max {
        return Err(Refusal::HeadTooLong);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(&buf[..end]) {
        Ok(Status::Complete(_)) => {}
        Err(Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
        Err(Error::Version) => return Err(Refusal::HttpVersion),
        Ok(Status::Partial) | Err(_) => return Err(Refusal::HeadInvalid),
    }
    let head = Head(request.headers);
    let host = head.one("host")?.ok_or(Refusal::HostMissing)?;
    if !host_allowed(host, &config.hosts_allowed) {
        return Err(Refusal::HostForbidden);
    }
    let origin = head.one("origin")?;
    if !origin_allowed(origin, &config.origins_allowed) {
        return Err(Refusal::OriginForbidden);
    }
    if request.version != Some(1) {
        return Err(Refusal::HttpVersion);
    }
    if request.method != Some("GET") {
        return Err(Refusal::Method);
    }
    if head.one("content-length")?.is_some_and(|length| length != "0") || head.one("transfer-encoding")?.is_some() {
        return Err(Refusal::Body);
    }
    if !head.lists("upgrade", "websocket")? || !head.lists("connection", "upgrade")? {
        return Err(Refusal::NoUpgrade);
    }
    if head.one("sec-websocket-version")? != Some("13") {
        return Err(Refusal::WebSocketVersion);
    }
    let key = head.one("sec-websocket-key")?.and_then(checked_key).ok_or(Refusal::Key)?;
    let target = request.path.filter(|target| target.is_ascii()).ok_or(Refusal::HeadInvalid)?;
    Ok(Some(Upgrade { target, host, origin, offers: head.offers()?, consumed: end, key }))
}

/// Appends the answer that turns the connection into a WebSocket.
pub fn write_switching(out: &mut Vec<u8>, upgrade: &Upgrade<'_>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&accept(&upgrade.key));
    if upgrade.offers.mcp {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: mcp");
    }
    out.extend_from_slice(b"\r\n\r\n");
}

impl Upgrade<'_> {
    /// The target's path, without the query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }
}

/// The answer to a client's key (RFC 6455, section 4.2.2); a client compares it with what comes.
pub fn accept(key: &[u8; 24]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let mut text = [0; 28];
    // 20 bytes are 28 characters, so it fits.
    let written = BASE64_STANDARD.encode_slice(digest, &mut text);
    debug_assert_eq!(written, Ok(28));
    text
}

/// Where the head ends, if it does. A line that ends without a carriage return is refused: it is where two parsers
/// come to read two different requests.
fn head_end(buf: &[u8]) -> Result<Option<usize>, Refusal> {
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

fn checked_key(key: &str) -> Option<[u8; 24]> {
    let decoded = BASE64_STANDARD.decode(key).ok()?;
    (decoded.len() == 16).then(|| key.as_bytes().try_into().ok()).flatten()
}

/// The header lines of a request.
struct Head<'h, 'b>(&'h [Header<'b>]);

impl<'b> Head<'_, 'b> {
    /// The values of all lines of that name. A value that is no text is refused: nothing here may hold one.
    fn all(&self, name: &str) -> impl Iterator<Item = Result<&'b str, Refusal>> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| std::str::from_utf8(header.value).map_err(|_| Refusal::HeadInvalid))
    }

    /// The value of a line that may be there once.
    fn one(&self, name: &str) -> Result<Option<&'b str>, Refusal> {
        let mut values = self.all(name);
        let value = values.next().transpose()?;
        if values.next().is_some() { Err(Refusal::HeadInvalid) } else { Ok(value.map(trim)) }
    }

    /// Whether `token` is in the comma-separated list of that name.
    fn lists(&self, name: &str, token: &str) -> Result<bool, Refusal> {
        for value in self.all(name) {
            if value?.split(',').any(|item| trim(item).eq_ignore_ascii_case(token)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn offers(&self) -> Result<Offers<'b>, Refusal> {
        let mut offers = Offers::default();
        for value in self.all("sec-websocket-protocol") {
            for offer in value?.split(',').map(trim) {
                offers.mcp |= offer == SUBPROTOCOL;
                offers.version = offers.version.or(offer.strip_prefix("mcp.version."));
                offers.auth = offers.auth.or(offer.strip_prefix("mcp.auth."));
            }
        }
        Ok(offers)
    }
}

fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests;
