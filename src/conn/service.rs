//! What is done with whole messages: MCP in the gateway, an echo where the framing itself is tested.

use std::sync::Arc;

use super::Parting;
use super::calls::Calls;
use super::connection::{Active, Connection, Stage};
use crate::actor::{Desk, Inbox, Letter, News};
use crate::guard::{Seat, Tenant};
use crate::pool::Key;
use crate::wire::http::event;
use crate::wire::ws;

/// Handles the messages of a shard's connections. Lives on the shard's thread; no call may block.
pub trait Service {
    /// What it remembers of each client.
    type Session: Default;

    /// A whole message.
    ///
    /// # Errors
    /// When the connection is over; a last word may be in `talk`.
    fn message(&mut self, talk: &mut Talk<'_, Self::Session>, message: Message<'_>) -> Result<(), Parting>;

    /// The MCP session of a client, for HTTP to keep between its requests; a service without one is not on HTTP.
    fn guest(_session: &mut Self::Session) -> Option<&mut super::Guest> {
        None
    }

    /// Bytes that it remembers of a client beside its slot. Cheap: asked before and behind each message.
    fn session_bytes(_session: &Self::Session) -> usize {
        0
    }

    /// What header lines must say of a call's arguments besides the body (spec 2026-07-28
    /// basic/transports/streamable-http#custom-headers-from-tool-parameters): names behind `Mcp-Param-`, and values.
    /// `params` is the raw JSON object.
    fn param_headers(&mut self, _tool: &str, _params: &str) -> Vec<(String, String)> {
        Vec::new()
    }

    /// A letter from whoever serves a call.
    fn letter(&mut self, talk: &mut Talk<'_, Self::Session>, letter: Letter);

    /// Whether a client is to be told the news. Cheap: all clients of the shard are asked.
    fn is_told(_session: &Self::Session, _calls: Option<&Calls>, _news: &News) -> bool {
        false
    }

    /// News that the client is to be told.
    fn news(&mut self, _talk: &mut Talk<'_, Self::Session>, _news: &News) {}

    /// A turn of the shard is over: whatever was put off to its end is due.
    fn turned(&mut self) {}

    /// The connection is about to be closed by us: whatever is open is to be ended in form.
    fn last_words(&mut self, _talk: &mut Talk<'_, Self::Session>) {}
}

/// A whole message, as it came.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// Known to be UTF-8.
    Text(&'a str),
    /// Meant as text, not checked (the raw TCP dialect), or checked piece by piece.
    Unchecked(&'a [u8]),
    /// A binary WebSocket message.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// All of it.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        match *self {
            Self::Text(text) => text.as_bytes(),
            Self::Unchecked(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

/// One connection, as its service sees it while it handles something.
pub struct Talk<'a, T> {
    /// Who is talking.
    pub caller: Caller<'a, T>,
    websocket: bool,
    out: &'a mut Vec<u8>,
    messages_out: &'a mut u64,
}

/// The client at the other end of a [`Talk`].
pub struct Caller<'a, T> {
    /// What the service remembers of it.
    pub session: &'a mut T,
    /// Names its connection on this shard.
    pub key: Key,
    /// Unique among all clients that live: its connection, or its session where it may have several.
    pub client: u128,
    /// Whether its next request may come on another connection without anything that tells whose it is (2026-07-28 over
    /// HTTP).
    pub stateless: bool,
    /// On whose account it asks.
    pub tenant: Tenant,
    pub(super) seat: &'a Seat,
    /// Where tickets for its calls post to.
    pub inbox: &'a Arc<Inbox>,
    pub(super) active: &'a mut Option<Box<Active>>,
}

/// What a client without a session is told by from others: a key is never used again while its shard lives.
pub(super) fn number_of(shard: u16, key: Key) -> u128 {
    u128::from(shard + 1) << 64 | u128::from(key.to_bits())
}

/// Where the client is that has this number, if it could be one of [`number_of`]: those of sessions are random.
pub(super) fn place_of(client: u128) -> Option<(u16, Key)> {
    let shard = u16::try_from(client >> 64).ok()?.checked_sub(1)?;
    Some((shard, Key::from_bits(client as u64)))
}

impl<'a, T> Talk<'a, T> {
    pub(super) fn new(
        conn: &'a mut Connection<T>,
        out: &'a mut Vec<u8>,
        messages_out: &'a mut u64,
        desk: &'a Desk<'_>,
        key: Key,
    ) -> Self {
        let websocket = matches!(conn.stage, Stage::WebSocket(_));
        let stateless = conn.stage.session_number().is_none() && matches!(conn.stage, Stage::Http(_));
        let (client, tenant) = (conn.client(desk, key), conn.tenant);
        let (session, seat, active) = (&mut conn.session, &conn.seat, &mut conn.active);
        let caller = Caller { session, key, client, stateless, tenant, seat, inbox: desk.inbox, active };
        Self { caller, websocket, out, messages_out }
    }

    /// Sends what `write` appends as one text message; nothing if it appends nothing.
    #[inline]
    pub fn say<R>(&mut self, write: impl FnOnce(&mut Caller<'a, T>, &mut Vec<u8>) -> R) -> R {
        let frame = self.websocket.then(|| ws::open_frame(self.out));
        let start = self.out.len();
        let result = write(&mut self.caller, self.out);
        match (self.out.len() > start, frame) {
            (true, Some(frame)) => ws::seal_frame(self.out, frame, ws::Opcode::Text),
            (true, None) => {
                // Text of a server may have line breaks between its tokens.
                event::flatten(&mut self.out[start..]);
                self.out.push(b'\n');
            }
            (false, Some(frame)) => ws::discard_frame(self.out, frame),
            (false, None) => {}
        }
        *self.messages_out += u64::from(self.out.len() > start);
        result
    }

    /// Sends a whole message as it is, even an empty one; binary, where the dialect knows such.
    pub fn repeat(&mut self, message: Message<'_>) {
        let (opcode, payload) = match message {
            Message::Text(text) => (ws::Opcode::Text, text.as_bytes()),
            Message::Unchecked(bytes) => (ws::Opcode::Text, bytes),
            Message::Binary(bytes) => (ws::Opcode::Binary, bytes),
        };
        if self.websocket {
            ws::write_frame(self.out, opcode, payload);
        } else {
            self.out.extend_from_slice(payload);
            self.out.push(b'\n');
        }
        *self.messages_out += 1;
    }

    /// Says why the connection ends, where the dialect has a frame for that.
    pub fn close(&mut self, code: u16, reason: &str) {
        if self.websocket {
            ws::write_close(self.out, code, reason);
        }
    }
}

impl<T> Caller<'_, T> {
    pub(super) fn calls(&mut self) -> &mut Calls {
        &mut self.active.get_or_insert_default().calls
    }
}
