//! Finds whole requests in a client's bytes, head and body, however they are cut; chunks are put together in place.

use super::head::{Framing, head_end, read_head};
use super::{Refusal, Request};
use crate::wire::Config;

/// Longest line that tells a chunk's size, extensions included: nobody who means well sends any.
const SIZE_LINE_MAX: usize = 256;

/// How far the request at the front of the buffer has been read. The buffer keeps its bytes until it is whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reader {
    /// The head's length; 0 as long as its end has not come.
    head: u32,
    /// The length of the body; or, of one in chunks, how many bytes of those before `at` are put together at its front.
    body: u32,
    /// How far the chunks are read, counted from the head's end; [`UNCHUNKED`] where there are none.
    at: u32,
}

/// Fits in 12 bytes, as a connection has one.
const UNCHUNKED: u32 = u32::MAX;

/// What the bytes hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// Not more than part of a head, or of a body whose head was told of.
    More,
    /// The head of a request whose body has not all come; told once.
    Head(Request<'b>),
    /// A whole request, `consumed` bytes long.
    Whole {
        /// Its head.
        request: Request<'b>,
        /// Its body, without the chunks around it.
        body: &'b [u8],
        /// How many bytes of the buffer it takes.
        consumed: usize,
    },
}

/// Whether the head at the start of `buf` is there as a whole.
///
/// # Errors
/// When it is none, or too long.
pub fn head_is_whole(buf: &[u8], config: &Config) -> Result<bool, Refusal> {
    match head_end(buf)? {
        None if buf.len() >= config.head_bytes_max => Err(Refusal::HeadTooLong),
        end => Ok(end.is_some()),
    }
}

impl Reader {
    /// Whether the head of the request is there, and not all of its body.
    pub fn is_in_body(&self) -> bool {
        self.head > 0
    }

    /// Reads on in `buf`, which begins where the request does and has all that came since; what this wrote into it must
    /// be kept. After [`Step::Whole`] the next request begins behind it.
    ///
    /// # Errors
    /// Why the request is refused; behind it nothing can be read.
    pub fn next<'b>(&mut self, buf: &'b mut [u8], config: &Config) -> Result<Step<'b>, Refusal> {
        let told = self.head > 0;
        if !told {
            let Some(request) = read_head(buf, config)? else { return Ok(Step::More) };
            self.head = request.head_bytes() as u32;
            (self.body, self.at) = match request.framing {
                Framing::Length(length) => (length, UNCHUNKED),
                Framing::Chunked => (0, 0),
            };
        }
        let (head, behind) = buf.split_at_mut(self.head as usize);
        let whole = self.advance(behind, config)?;
        if told && whole.is_none() {
            return Ok(Step::More);
        }
        // It was read before, so it is whole and right.
        let request = read_head(head, config)?.ok_or(Refusal::HeadInvalid)?;
        let Some((encoded, decoded)) = whole else { return Ok(Step::Head(request)) };
        *self = Self::default();
        Ok(Step::Whole { consumed: request.head_bytes() + encoded, request, body: &behind[..decoded] })
    }

    /// Reads on in the body; its length as it came and as it is meant, once it is whole.
    fn advance(&mut self, buf: &mut [u8], config: &Config) -> Result<Option<(usize, usize)>, Refusal> {
        if self.at == UNCHUNKED {
            let length = self.body as usize;
            return Ok((buf.len() >= length).then_some((length, length)));
        }
        let Self { at, body: decoded, .. } = self;
        loop {
            let rest = &buf[*at as usize..];
            let Some((size, line)) = chunk_size(rest)? else { return Ok(None) };
            if size == 0 {
                let Some(trailer) = trailer_end(&rest[line..], config)? else { return Ok(None) };
                return Ok(Some((*at as usize + line + trailer, *decoded as usize)));
            }
            let whole = *decoded as usize + size;
            // Chunks of a byte each take six: whoever does that does not mean well.
            if whole > config.message_bytes_max || *at as usize > 2 * config.message_bytes_max {
                return Err(Refusal::BodyTooLong);
            }
            let from = *at as usize + line;
            match buf.get(from + size..from + size + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(Refusal::ChunkInvalid),
                None => return Ok(None),
            }
            buf.copy_within(from..from + size, *decoded as usize);
            *decoded = whole as u32;
            *at = (from + size + 2) as u32;
        }
    }
}

/// The size of a chunk at the start of `buf` and the length of the line that tells it, once that has come.
///
/// # Errors
/// When the line is none, or longer than anybody who means well writes.
pub fn chunk_size(buf: &[u8]) -> Result<Option<(usize, usize)>, Refusal> {
    let Some(end) = memchr::memchr(b'\n', &buf[..buf.len().min(SIZE_LINE_MAX)]) else {
        return if buf.len() >= SIZE_LINE_MAX { Err(Refusal::ChunkInvalid) } else { Ok(None) };
    };
    let line = buf[..end].strip_suffix(b"\r").ok_or(Refusal::ChunkInvalid)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at(digits);
    let extension_ok = extension.first().is_none_or(|first| *first == b';')
        && extension.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    if !(1..=8).contains(&digits) || !extension_ok {
        return Err(Refusal::ChunkInvalid);
    }
    let size = size.iter().fold(0, |size, digit| size << 4 | (*digit as char).to_digit(16).unwrap_or(0) as usize);
    Ok(Some((size, end + 1)))
}

/// Where the trailer ends, once it has: header lines that mean nothing here, and a blank one.
fn trailer_end(buf: &[u8], config: &Config) -> Result<Option<usize>, Refusal> {
    let Some(end) = head_end(buf).map_err(|_| Refusal::ChunkInvalid)? else {
        return if buf.len() >= config.head_bytes_max { Err(Refusal::HeadTooLong) } else { Ok(None) };
    };
    let mut headers = [httparse::EMPTY_HEADER; 16];
    match httparse::parse_headers(&buf[..end], &mut headers) {
        Ok(httparse::Status::Complete(_)) if end <= config.head_bytes_max => Ok(Some(end)),
        _ => Err(Refusal::ChunkInvalid),
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
