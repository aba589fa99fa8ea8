//! Writes WebSocket frames: the payload first, in its place, then the header in front of it.

use super::decode::mask;
use super::{Opcode, close};

/// Bytes left free for the header; enough for payloads of up to 125 bytes, the common case.
const SHORT_HEADER: usize = 2;

/// A frame whose payload is being written; to be ended by [`seal_frame`] or [`discard_frame`].
#[derive(Debug)]
#[must_use = "the frame has no header until it is sealed"]
pub struct Open(usize);

/// Begins a frame of a server: what is appended to `out` from now on is its payload.
#[inline]
pub fn open_frame(out: &mut Vec<u8>) -> Open {
    let start = out.len();
    out.extend_from_slice(&[0; SHORT_HEADER]);
    Open(start)
}

/// Ends the frame. A payload of more than 125 bytes is moved by 2 or 8 bytes to make room for its length.
#[inline]
pub fn seal_frame(out: &mut Vec<u8>, open: Open, opcode: Opcode) {
    let payload = out.len() - open.0 - SHORT_HEADER;
    if payload <= 125 {
        out[open.0] = 0x80 | opcode as u8;
        out[open.0 + 1] = payload as u8;
    } else {
        seal_long(out, open.0, payload, opcode);
    }
}

/// Takes back a frame that was opened, with all that was written into it.
pub fn discard_frame(out: &mut Vec<u8>, open: Open) {
    out.truncate(open.0);
}

/// Appends a whole frame of a server.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    write_header(out, opcode, true, 0, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a server's close frame; a reason of more than 123 bytes is cut at a character.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    debug_assert!(close::is_valid(code), "{code} must not be sent");
    let reason = &reason[..reason.floor_char_boundary(123)];
    write_header(out, Opcode::Close, true, 0, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a frame of a client, masked with `key` (which should be hard to guess, RFC 6455, section 10.3); `last`
/// tells that no fragment follows.
pub fn write_masked(out: &mut Vec<u8>, opcode: Opcode, last: bool, payload: &[u8], key: [u8; 4]) {
    write_header(out, opcode, last, 0x80, payload.len());
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[start..], key);
}

#[cold]
fn seal_long(out: &mut Vec<u8>, start: usize, payload: usize, opcode: Opcode) {
    let mut header = Vec::with_capacity(10);
    write_header(&mut header, opcode, true, 0, payload);
    out.splice(start..start + SHORT_HEADER, header);
}

fn write_header(out: &mut Vec<u8>, opcode: Opcode, last: bool, masked: u8, payload: usize) {
    out.push(u8::from(last) << 7 | opcode as u8);
    match payload {
        0..=125 => out.push(masked | payload as u8),
        126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
}
