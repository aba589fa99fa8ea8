//! Checks a WebSocket upgrade (RFC 6455, section 4.2) and writes the answer that accepts it.

use base64::prelude::{BASE64_STANDARD, Engine};
use sha1::{Digest, Sha1};

use super::head::{Framing, items, read_head};
use super::{Method, Refusal, Request};
use crate::wire::Config;

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
    read_head(buf, config)?.map(|request| request.upgrade()).transpose()
}

impl<'b> Request<'b> {
    /// This request as an upgrade to a WebSocket.
    ///
    /// # Errors
    /// What is missing for that.
    pub fn upgrade(&self) -> Result<Upgrade<'b>, Refusal> {
        if self.is_old {
            return Err(Refusal::HttpVersion);
        }
        if self.method != Method::Get {
            return Err(Refusal::Method);
        }
        if self.framing != Framing::Length(0) {
            return Err(Refusal::Body);
        }
        if !self.wants_websocket || !self.lists("connection", "upgrade") {
            return Err(Refusal::NoUpgrade);
        }
        if self.line("sec-websocket-version")? != Some("13") {
            return Err(Refusal::WebSocketVersion);
        }
        let key = self.line("sec-websocket-key")?.and_then(checked_key).ok_or(Refusal::Key)?;
        Ok(Upgrade {
            target: self.target,
            host: self.host,
            origin: self.origin,
            offers: self.offers()?,
            consumed: self.head_bytes(),
            key,
        })
    }

    /// Whether `token` is in the comma-separated list of that name.
    fn lists(&self, name: &str, token: &str) -> bool {
        let mut found = false;
        self.each_line(|line, value| {
            found |= line.eq_ignore_ascii_case(name)
                && std::str::from_utf8(value)
                    .is_ok_and(|list| items(list).any(|item| item.eq_ignore_ascii_case(token)));
        });
        found
    }

    fn offers(&self) -> Result<Offers<'b>, Refusal> {
        let (mut offers, mut wrong) = (Offers::default(), false);
        self.each_line(|line, value| {
            if !line.eq_ignore_ascii_case("sec-websocket-protocol") {
                return;
            }
            let Ok(list) = std::str::from_utf8(value) else { return wrong = true };
            for offer in items(list) {
                offers.mcp |= offer == SUBPROTOCOL;
                offers.version = offers.version.or(offer.strip_prefix("mcp.version."));
                offers.auth = offers.auth.or(offer.strip_prefix("mcp.auth."));
            }
        });
        if wrong { Err(Refusal::HeadInvalid) } else { Ok(offers) }
    }
}

impl Upgrade<'_> {
    /// The target's path, without the query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }
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

/// The answer to a client's key (RFC 6455, section 4.2.2); a client compares it with what comes.
pub fn accept(key: &[u8; 24]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let mut text = [0; 28];
    // 20 bytes are 28 characters, so it fits.
    let written = BASE64_STANDARD.encode_slice(digest, &mut text);
    debug_assert_eq!(written, Ok(28));
    text
}

fn checked_key(key: &str) -> Option<[u8; 24]> {
    let decoded = BASE64_STANDARD.decode(key).ok()?;
    (decoded.len() == 16).then(|| key.as_bytes().try_into().ok()).flatten()
}
