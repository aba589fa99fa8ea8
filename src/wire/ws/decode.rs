//! Reads WebSocket frames where they lie, one at a time; holds no bytes of its own.

use super::utf8::Utf8;
use super::{Content, Opcode, Role, Violation, close};

/// What is allowed; shared by all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    pub role: Role,
    /// Longest payload of one frame, in bytes.
    pub frame_bytes_max: usize,
    /// Longest message, in bytes, with all its fragments.
    pub message_bytes_max: usize,
}

/// The reading half of one connection: what must be remembered between frames.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    /// Bytes of the fragments that have come.
    assembled: u32,
    /// What the unfinished message is made of, if there is one.
    unfinished: Option<Content>,
    utf8: Utf8,
}

const _: () = assert!(size_of::<Decoder>() <= 12, "every idle WebSocket connection pays for this");

/// What a buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// No whole frame. Keep the bytes as they are and come back with at least `total` of them.
    More { total: usize },
    /// A frame; go on behind `consumed` bytes. The payload lies unmasked in the buffer.
    Frame { frame: Frame<'b>, consumed: usize },
}

/// A frame that broke no rule.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'b> {
    /// A whole text message.
    Text(&'b str),
    /// A whole binary message.
    Binary(&'b [u8]),
    /// A fragment: append it to the message's buffer, which is complete with the `last` one. The bytes of a whole
    /// text message are UTF-8; a fragment may end within a character.
    Piece {
        content: Content,
        bytes: &'b [u8],
        last: bool,
    },
    /// Must be answered with a pong of the same payload (at most 125 bytes).
    Ping(&'b [u8]),
    Pong(&'b [u8]),
    /// The peer's last frame: answer with a close frame, unless one was sent, and decode no further.
    Close(Option<Closing<'b>>),
}

/// Why the peer closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing<'b> {
    pub code: u16,
    pub reason: &'b str,
}

impl Decoder {
    /// Reads the frame at the start of `buf`.
    ///
    /// A frame is touched once, when the last of its bytes is there; before, only its header is read, and what breaks
    /// a rule there is refused at once. After a violation the connection is over.
    pub fn decode<'b>(&mut self, buf: &'b mut [u8], rules: &Rules) -> Result<Step<'b>, Violation> {
        let header = match Header::read(buf, rules.role)? {
            Ok(header) => header,
            Err(total) => return Ok(Step::More { total }),
        };
        self.check_order(&header, rules)?;
        let consumed = header.bytes + header.payload;
        let Some(payload) = buf.get_mut(header.bytes..consumed) else {
            return Ok(Step::More { total: consumed });
        };
        if let Some(key) = header.key {
            mask(payload, key);
        }
        let frame = self.accept(&header, payload)?;
        Ok(Step::Frame { frame, consumed })
    }

    /// Length of [`Self::to_bytes`].
    pub const BYTES: usize = 9;

    /// All that it remembers, for a hand-over: `content 1 (0: none, 1: text, 2: binary) · assembled 4 (little endian) ·
    /// bytes of the unfinished character 1 · that character 3`.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let content = match self.unfinished {
            None => 0,
            Some(Content::Text) => 1,
            Some(Content::Binary) => 2,
        };
        let [a, b, c, d] = self.assembled.to_le_bytes();
        let [length, x, y, z] = self.utf8.to_bytes();
        [content, a, b, c, d, length, x, y, z]
    }

    /// What [`Self::to_bytes`] gave; nothing if it can't have given that.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let [content, a, b, c, d, length, x, y, z] = bytes;
        let utf8 = Utf8::from_bytes([length, x, y, z])?;
        let assembled = u32::from_le_bytes([a, b, c, d]);
        let unfinished = match content {
            0 if assembled == 0 && length == 0 => None,
            1 if assembled >= u32::from(length) => Some(Content::Text),
            2 if length == 0 => Some(Content::Binary),
            _ => return None,
        };
        Some(Self { assembled, unfinished, utf8 })
    }

    /// Bytes of the fragments that have come of an unfinished message.
    pub fn assembled(&self) -> usize {
        self.assembled as usize
    }

    /// Whether a message has begun and is not complete.
    pub fn is_assembling(&self) -> bool {
        self.unfinished.is_some()
    }

    /// What can be said about a frame before its payload has come.
    #[inline]
    fn check_order(&self, header: &Header, rules: &Rules) -> Result<(), Violation> {
        if header.opcode.is_control() {
            return Ok(());
        }
        match (header.opcode, self.unfinished) {
            (Opcode::Continuation, None) => return Err(Violation::ContinuationUnexpected),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Violation::ContinuationMissing),
            _ => {}
        }
        if header.payload > rules.frame_bytes_max {
            return Err(Violation::FrameTooBig);
        }
        // The count is 32 bits wide, so that is a limit too.
        let message = header.payload.saturating_add(self.assembled as usize);
        if message > rules.message_bytes_max.min(u32::MAX as usize) {
            return Err(Violation::MessageTooBig);
        }
        Ok(())
    }

    #[inline]
    fn accept<'b>(&mut self, header: &Header, payload: &'b [u8]) -> Result<Frame<'b>, Violation> {
        match header.opcode {
            Opcode::Text if header.last => crate::wire::utf8(payload).map(Frame::Text).ok_or(Violation::TextNotUtf8),
            Opcode::Binary if header.last => Ok(Frame::Binary(payload)),
            Opcode::Text => self.assemble(Content::Text, payload, header.last),
            Opcode::Binary => self.assemble(Content::Binary, payload, header.last),
            Opcode::Continuation => {
                self.assemble(self.unfinished.ok_or(Violation::ContinuationUnexpected)?, payload, header.last)
            }
            Opcode::Ping => Ok(Frame::Ping(payload)),
            Opcode::Pong => Ok(Frame::Pong(payload)),
            Opcode::Close => Closing::read(payload).map(Frame::Close),
        }
    }

    fn assemble<'b>(&mut self, content: Content, bytes: &'b [u8], last: bool) -> Result<Frame<'b>, Violation> {
        if content == Content::Text && !self.utf8.push(bytes, last) {
            return Err(Violation::TextNotUtf8);
        }
        self.assembled += bytes.len() as u32;
        self.unfinished = Some(content);
        if last {
            *self = Self::default();
        }
        Ok(Frame::Piece { content, bytes, last })
    }
}

impl<'b> Closing<'b> {
    fn read(payload: &'b [u8]) -> Result<Option<Self>, Violation> {
        let (code, reason) = match payload {
            [] => return Ok(None),
            [_] => return Err(Violation::CloseTooShort),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        if !close::is_valid(code) {
            return Err(Violation::CloseCodeInvalid);
        }
        let reason = std::str::from_utf8(reason).map_err(|_| Violation::ReasonNotUtf8)?;
        Ok(Some(Self { code, reason }))
    }
}

/// The front of a frame (RFC 6455, section 5.2).
struct Header {
    opcode: Opcode,
    last: bool,
    key: Option<[u8; 4]>,
    /// Length of the header itself, in bytes.
    bytes: usize,
    /// Length of the payload, in bytes.
    payload: usize,
}

impl Header {
    /// The header, or how many bytes must be there to read it.
    #[inline]
    fn read(buf: &[u8], role: Role) -> Result<Result<Self, usize>, Violation> {
        let Some(&[first, second]) = buf.first_chunk() else {
            return Ok(Err(2));
        };
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(Violation::ReservedOpcode)?;
        let (last, masked, short) = (first & 0x80 != 0, second & 0x80 != 0, second & 0x7f);
        match role {
            Role::Server if !masked => return Err(Violation::MaskMissing),
            Role::Client if masked => return Err(Violation::MaskUnexpected),
            _ => {}
        }
        if opcode.is_control() {
            if !last {
                return Err(Violation::ControlFragmented);
            }
            if short > 125 {
                return Err(Violation::ControlTooLong);
            }
        }
        let (at, payload) = match short {
            126 => match buf.get(2..).and_then(|rest| rest.first_chunk()) {
                Some(&long) => (4, long_length(u16::from_be_bytes(long).into(), 126)?),
                None => return Ok(Err(4)),
            },
            127 => match buf.get(2..).and_then(|rest| rest.first_chunk()) {
                Some(&long) => (10, long_length(u64::from_be_bytes(long), 1 << 16)?),
                None => return Ok(Err(10)),
            },
            short => (2, usize::from(short)),
        };
        if !masked {
            return Ok(Ok(Self { opcode, last, key: None, bytes: at, payload }));
        }
        Ok(match buf.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(&key) => Ok(Self { opcode, last, key: Some(key), bytes: at + 4, payload }),
            None => Err(at + 4),
        })
    }
}

/// A length that doesn't fit into fewer bytes and leaves room for the header.
fn long_length(length: u64, least: u64) -> Result<usize, Violation> {
    if length < least || length > i64::MAX as u64 {
        return Err(Violation::LengthInvalid);
    }
    // A header is 14 bytes at most: headroom for the sum where pointers are small.
    usize::try_from(length).ok().filter(|&length| length < usize::MAX - 14).ok_or(Violation::FrameTooBig)
}

/// Masks or unmasks `payload` in place (the same thing, RFC 6455, section 5.3).
#[inline]
pub(super) fn mask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    // Eight is a multiple of four, so the tail begins with the key's first byte.
    for (byte, key) in tail.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}
