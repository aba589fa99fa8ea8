//! A WebSocket to a server: one message per text frame, pings answered, closed by the closing handshake.

use std::collections::hash_map::RandomState;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::address::{Address, Stream};
use super::gossip::Gossip;
use super::lines::Skipped;
use super::outbox::Outbox;
use super::pipe::lost;
use super::{Arrived, Limits, What};
use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::http::handshake::{Rejection, read_switching, write_upgrade};
use crate::wire::ws::{Content, Decoder, Frame, Opcode, Role, Rules, Step, Violation, close, write_masked};

/// Room for one read, in bytes.
const READ_BYTES: usize = 64 << 10;
/// A buffer that has grown beyond this, in bytes, is given back once it is empty.
const KEPT_BYTES: usize = 1 << 20;
/// With more unsent than this, in bytes, pings stay without a pong: a peer that reads nothing sees none anyway.
const PONGS_MAX: usize = 64 << 10;
/// How long the closing handshake may take.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// One WebSocket, the client's end.
pub(super) struct WsLink {
    stream: Stream,
    /// What has come; what is before `start` was taken.
    bytes: Vec<u8>,
    start: usize,
    decoder: Decoder,
    rules: Rules,
    /// The fragments of a message.
    assembled: Vec<u8>,
    /// A frame over the limit is on its way: how much of it is to come, and its ends.
    skipping: Option<(u64, Skipped)>,
    outbox: Outbox,
    masks: Masks,
    gossip: Gossip,
    over: Option<Trouble>,
}

/// What [`WsLink::step`] finds.
enum Found {
    /// A message in [`WsLink::bytes`].
    At(Range<usize>),
    /// A message in [`WsLink::assembled`].
    Assembled,
    /// A request whose answer was too long.
    TooLong(u64),
    Nothing,
}

impl WsLink {
    pub(super) async fn open(
        address: &Address,
        headers: &[(String, String)],
        limits: &Limits,
        gossip: Gossip,
    ) -> Result<Self, Trouble> {
        let mut masks = Masks::default();
        let key = masks.handshake_key();
        let mut request = Vec::new();
        write_upgrade(&mut request, &address.host, &address.target, &key, headers).map_err(|refused| {
            let name = &headers[refused.0].0;
            Trouble::new(TroubleKind::Refused, format!("the header {name:?} cannot be sent")).unsent()
        })?;
        let mut stream = address.connect().await?;
        let broken = |error: std::io::Error| lost(&error).unsent();
        stream.write_all(&request).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let mut bytes = Vec::new();
        let start = loop {
            if let Some(length) = read_switching(&bytes, &key).map_err(rejected)? {
                break length;
            }
            if stream.read_buf(&mut bytes).await.map_err(broken)? == 0 {
                return Err(Trouble::new(TroubleKind::Handshake, "closed in the middle of it"));
            }
        };
        let most = limits.message_bytes_max;
        Ok(Self {
            stream,
            bytes,
            start,
            decoder: Decoder::default(),
            rules: Rules { role: Role::Client, frame_bytes_max: most, message_bytes_max: most },
            assembled: Vec::new(),
            skipping: None,
            outbox: Outbox::default(),
            masks,
            gossip,
            over: None,
        })
    }

    pub(super) fn put(&mut self, text: &[u8]) {
        self.send(Opcode::Text, text);
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.over.is_none() {
            write_masked(self.outbox.bytes(), opcode, true, payload, self.masks.key());
        }
    }

    pub(super) fn unsent(&self) -> usize {
        self.outbox.unsent()
    }

    pub(super) fn taken(&self) -> u64 {
        self.outbox.taken()
    }

    pub(super) async fn flush(&mut self) -> Result<(), Trouble> {
        poll_fn(|cx| self.outbox.poll_send(Pin::new(&mut self.stream), cx)).await.map_err(|error| lost(&error))
    }

    /// Sends what waits, and returns when something has come or all that was stuck is sent.
    pub(super) async fn fill(&mut self) -> Result<(), Trouble> {
        if let Some(trouble) = self.over.clone() {
            // Our half of the closing handshake.
            let _ = timeout(CLOSE_MAX, self.flush()).await;
            return Err(trouble);
        }
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Trouble>> {
        let was_stuck = self.outbox.is_stuck();
        let sent = self.outbox.poll_send(Pin::new(&mut self.stream), cx);
        self.make_room();
        match pin!(self.stream.read_buf(&mut self.bytes)).poll(cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Trouble::new(TroubleKind::Lost, "closed without a goodbye"))),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(lost(&error))),
            Poll::Pending => match sent {
                Poll::Ready(Err(error)) => Poll::Ready(Err(lost(&error))),
                _ if was_stuck && !self.outbox.is_stuck() => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            },
        }
    }

    fn make_room(&mut self) {
        if self.start == self.bytes.len() && self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..self.start);
        }
        self.start = 0;
        self.bytes.reserve(READ_BYTES);
    }

    pub(super) fn next(&mut self) -> Option<Arrived<'_>> {
        if !self.decoder.is_assembling() {
            self.assembled.clear();
        }
        let message = |text| Some(Arrived { on: None, what: What::Message(text) });
        match self.step() {
            Found::At(range) => message(&self.bytes[range]),
            Found::Assembled => message(&self.assembled),
            Found::TooLong(on) => {
                let trouble = Trouble::new(TroubleKind::TooLong, "");
                Some(Arrived { on: Some(on), what: What::Failed(trouble) })
            }
            Found::Nothing => None,
        }
    }

    /// Reads frames until there is something to give.
    fn step(&mut self) -> Found {
        while self.over.is_none() {
            if self.skipping.is_some() {
                match self.skip() {
                    Some(Some(request)) => return Found::TooLong(request),
                    Some(None) => continue,
                    None => return Found::Nothing,
                }
            }
            let (frame, consumed) = match self.decoder.decode(&mut self.bytes[self.start..], &self.rules) {
                Ok(Step::Frame { frame, consumed }) => (frame, consumed),
                Ok(Step::More { .. }) => return Found::Nothing,
                Err(violation) => {
                    let is_long = matches!(violation, Violation::FrameTooBig | Violation::MessageTooBig);
                    if !(is_long && self.begin_skip()) {
                        self.break_off(violation);
                    }
                    continue;
                }
            };
            let end = self.start + consumed;
            self.start = end;
            match frame {
                Frame::Text(text) => return Found::At(end - text.len()..end),
                Frame::Piece { content: Content::Text, bytes, last } => {
                    self.assembled.extend_from_slice(bytes);
                    if last {
                        return Found::Assembled;
                    }
                }
                Frame::Binary(bytes) => self.gossip.complain("sent a binary message, where MCP is text", bytes),
                Frame::Piece { .. } => self.gossip.complain("sent a binary message, where MCP is text", b""),
                Frame::Ping(payload) => {
                    if self.outbox.unsent() < PONGS_MAX {
                        write_masked(self.outbox.bytes(), Opcode::Pong, true, payload, self.masks.key());
                    }
                }
                Frame::Pong(_) => {}
                Frame::Close(closing) => {
                    let detail = closing.map(|closing| format!("closed with {} {}", closing.code, closing.reason));
                    let code = closing.map_or(close::NORMAL, |closing| closing.code);
                    self.send(Opcode::Close, &code.to_be_bytes());
                    self.over = Some(Trouble::new(TroubleKind::Lost, detail.unwrap_or_else(|| "closed".into())));
                }
            }
        }
        Found::Nothing
    }

    /// A whole message in one frame can be skipped: the next frame's beginning is known.
    fn begin_skip(&mut self) -> bool {
        let frame = &self.bytes[self.start..];
        let &[first, second, ref rest @ ..] = frame else { return false };
        let is_whole = first & 0x80 != 0 && !self.decoder.is_assembling();
        let (header, payload) = match (second & 0x7f, rest) {
            (126, &[a, b, ..]) => (4, u64::from(u16::from_be_bytes([a, b]))),
            (127, &[a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => return false,
        };
        if is_whole {
            self.start += header;
            self.skipping = Some((payload, Skipped::new(b"")));
        }
        is_whole
    }

    /// At the end of the frame: the request that it answered, if that can be told.
    fn skip(&mut self) -> Option<Option<u64>> {
        let (left, skipped) = self.skipping.as_mut()?;
        let there = &self.bytes[self.start..];
        let now = usize::try_from(*left).map_or(there.len(), |left| left.min(there.len()));
        skipped.push(&there[..now]);
        self.start += now;
        *left -= now as u64;
        if *left > 0 {
            return None;
        }
        let (_, skipped) = self.skipping.take()?;
        self.gossip.complain("sent a message over message_bytes_max, which was skipped", b"");
        Some(skipped.id())
    }

    fn break_off(&mut self, violation: Violation) {
        self.send(Opcode::Close, &violation.close_code().to_be_bytes());
        let kind = match violation {
            Violation::FrameTooBig | Violation::MessageTooBig => TroubleKind::TooLong,
            Violation::TextNotUtf8 | Violation::ReasonNotUtf8 => TroubleKind::NotUtf8,
            _ => TroubleKind::Garbage,
        };
        self.over = Some(Trouble::new(kind, format!("it broke the WebSocket protocol: {}", violation.name())));
    }

    pub(super) async fn end(mut self) {
        self.send(Opcode::Close, &close::NORMAL.to_be_bytes());
        let goodbye = async {
            while self.fill().await.is_ok() {
                while self.next().is_some() {}
            }
        };
        let _ = timeout(CLOSE_MAX, goodbye).await;
    }
}

fn rejected(rejection: Rejection) -> Trouble {
    let trouble = |kind, detail: &str| Trouble::new(kind, detail);
    match rejection {
        Rejection::Status(status @ (401 | 403)) => trouble(TroubleKind::Unauthorized, "").with_status(status),
        Rejection::Status(status @ 300..=399) => trouble(TroubleKind::Redirected, "").with_status(status),
        Rejection::Status(status @ (429 | 503)) => trouble(TroubleKind::Overloaded, "").with_status(status),
        Rejection::Status(status) => trouble(TroubleKind::Handshake, "").with_status(status),
        Rejection::HeadInvalid => trouble(TroubleKind::Handshake, "its answer is no HTTP/1.1"),
        Rejection::NotAccepted => trouble(TroubleKind::Handshake, "its 101 does not answer our request"),
        Rejection::NotOffered => trouble(TroubleKind::Handshake, "it chose what we did not offer"),
    }
}

/// Masking keys that nobody can guess (RFC 6455, section 10.3): a counter, hashed with the random keys of the host.
#[derive(Default)]
struct Masks {
    state: RandomState,
    count: u64,
}

impl Masks {
    fn random(&mut self) -> u64 {
        self.count += 1;
        self.state.hash_one(self.count)
    }

    fn key(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.random().to_ne_bytes();
        [a, b, c, d]
    }

    fn handshake_key(&mut self) -> [u8; 24] {
        let nonce = [self.random().to_ne_bytes(), self.random().to_ne_bytes()].concat();
        let mut key = [b'A'; 24];
        // 16 bytes are 24 letters.
        let written = BASE64_STANDARD.encode_slice(nonce, &mut key);
        debug_assert_eq!(written, Ok(24));
        key
    }
}

#[cfg(test)]
mod tests;
