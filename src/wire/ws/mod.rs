//! WebSocket framing (RFC 6455, both roles, no extensions) over buffers that the caller owns.

mod decode;
mod encode;
mod utf8;

pub use decode::{Closing, Decoder, Frame, Rules, Step};
pub use encode::{Open, discard_frame, open_frame, seal_frame, write_close, write_frame, write_masked};

/// Which end of the connection we are: a server reads masked frames only, a client unmasked ones only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Server,
    Client,
}

/// What a message is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Text,
    Binary,
}

/// What a frame is for (RFC 6455, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

listed! {
    /// One way for a peer to break the protocol; the connection is closed with [`close_code`](Self::close_code).
    pub enum Violation {
        /// A reserved bit is set, though no extension was agreed.
        ReservedBits = "reserved_bits",
        /// An opcode that has no meaning.
        ReservedOpcode = "reserved_opcode",
        /// A control frame in fragments.
        ControlFragmented = "control_fragmented",
        /// A control frame with more than 125 bytes.
        ControlTooLong = "control_too_long",
        /// A client's frame without a mask.
        MaskMissing = "mask_missing",
        /// A server's frame with a mask.
        MaskUnexpected = "mask_unexpected",
        /// A length that is not written in the fewest bytes, or has its highest bit set.
        LengthInvalid = "length_invalid",
        /// A continuation where no message has begun.
        ContinuationUnexpected = "continuation_unexpected",
        /// A new message before the last one's end.
        ContinuationMissing = "continuation_missing",
        /// A frame over the limit.
        FrameTooBig = "frame_too_big",
        /// A message over the limit, with all its fragments.
        MessageTooBig = "message_too_big",
        /// A text that is not UTF-8.
        TextNotUtf8 = "text_not_utf8",
        /// A close frame with half a code.
        CloseTooShort = "close_too_short",
        /// A close code that must not be sent.
        CloseCodeInvalid = "close_code_invalid",
        /// A close reason that is not UTF-8.
        ReasonNotUtf8 = "reason_not_utf8",
    }
}

impl Violation {
    /// The code to close with (RFC 6455, section 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::TextNotUtf8 | Self::ReasonNotUtf8 => close::NOT_UTF8,
            Self::FrameTooBig | Self::MessageTooBig => close::TOO_BIG,
            _ => close::PROTOCOL_ERROR,
        }
    }
}

/// Close codes (RFC 6455, section 7.4.1, and its registry).
pub mod close {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const UNSUPPORTED: u16 = 1003;
    pub const NOT_UTF8: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const INTERNAL: u16 = 1011;
    pub const RESTART: u16 = 1012;
    pub const TRY_AGAIN: u16 = 1013;

    /// Whether a peer may send this code: 1004 to 1006 and 1015 only stand for what happened without a close frame.
    pub fn is_valid(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

#[cfg(test)]
mod tests;
