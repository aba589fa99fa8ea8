//! The body of an answer: which of the bytes that came are its own, and where it ends (RFC 9112, sections 6.3 and 7.1).

use bytes::{Buf, BytesMut};

use super::head::no_http;
use crate::upstream::trouble::Trouble;
use crate::wire::http::chunk_size;

/// Longest trailer behind the last chunk, in bytes: it means nothing here.
const TRAILER_BYTES_MAX: usize = 16 << 10;

/// How much is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes, never none.
    Length(u64),
    /// In chunks.
    Chunks(Chunk),
    /// All until the connection is closed.
    UntilClose,
    /// Nothing.
    Over,
}

/// What of a chunk comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    Size,
    /// So many bytes, never none.
    Data(u64),
    End,
    /// The lines behind the last one, of which so many bytes have come.
    Trailer(usize),
}

/// What the bytes hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The first so many are the body's.
    Data(usize),
    /// Nothing yet.
    More,
    /// The body is over.
    Over,
}

impl Body {
    pub(super) const CHUNKED: Self = Self::Chunks(Chunk::Size);

    pub(super) const fn of_length(bytes: u64) -> Self {
        if bytes == 0 { Self::Over } else { Self::Length(bytes) }
    }

    /// Looks at what has come, and takes what is not the body's own off its front. [`Step::Data`] is told once: whoever is
    /// told takes these bytes before the next step.
    pub(super) fn step(&mut self, came: &mut BytesMut) -> Result<Step, Trouble> {
        loop {
            match self {
                Self::Over => return Ok(Step::Over),
                _ if came.is_empty() => return Ok(Step::More),
                Self::UntilClose => return Ok(Step::Data(came.len())),
                Self::Length(left) => {
                    let piece = left_of(came, *left);
                    *self = Self::of_length(*left - piece as u64);
                    return Ok(Step::Data(piece));
                }
                Self::Chunks(Chunk::Data(left)) => {
                    let piece = left_of(came, *left);
                    *left -= piece as u64;
                    if *left == 0 {
                        *self = Self::Chunks(Chunk::End);
                    }
                    return Ok(Step::Data(piece));
                }
                Self::Chunks(chunk) => match chunk.advance(came)? {
                    Some(next) => *self = next,
                    None => return Ok(Step::More),
                },
            }
        }
    }
}

impl Chunk {
    /// Reads what is around the data; none as long as it has not come.
    fn advance(self, came: &mut BytesMut) -> Result<Option<Body>, Trouble> {
        let wrong = || no_http("a chunk that is none");
        match self {
            Self::Size => {
                let Some((size, line)) = chunk_size(came).map_err(|_| wrong())? else { return Ok(None) };
                came.advance(line);
                Ok(Some(Body::Chunks(if size == 0 { Self::Trailer(0) } else { Self::Data(size as u64) })))
            }
            Self::End if came.starts_with(b"\r\n") => {
                came.advance(2);
                Ok(Some(Body::CHUNKED))
            }
            Self::End if b"\r\n".starts_with(came) => Ok(None),
            Self::Trailer(before) => {
                let line = memchr::memchr(b'\n', came).map(|end| end + 1);
                let bytes = before + line.unwrap_or(came.len());
                match line {
                    _ if bytes > TRAILER_BYTES_MAX => Err(wrong()),
                    None => Ok(None),
                    Some(line) => {
                        let is_blank = matches!(came[..line], [b'\n'] | [b'\r', b'\n']);
                        came.advance(line);
                        Ok(Some(if is_blank { Body::Over } else { Body::Chunks(Self::Trailer(bytes)) }))
                    }
                }
            }
            Self::End | Self::Data(_) => Err(wrong()),
        }
    }
}

fn left_of(came: &BytesMut, left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(came.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole body, fed `size` bytes at a time; and what is left behind it.
    fn read(mut body: Body, text: &[u8], size: usize) -> Result<(Vec<u8>, usize), Trouble> {
        let (mut came, mut whole, mut fed) = (BytesMut::new(), Vec::new(), 0);
        loop {
            match body.step(&mut came)? {
                Step::Data(piece) => whole.extend_from_slice(&came.split_to(piece)),
                Step::Over => return Ok((whole, came.len() + text.len() - fed)),
                Step::More => {
                    let next = text.len().min(fed + size);
                    assert!(next > fed, "it waits for more than there is");
                    came.extend_from_slice(&text[fed..next]);
                    fed = next;
                }
            }
        }
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let chunks = b"3\r\nabc\r\n0a;x=y\r\ndefghijklm\r\n0\r\nTrailer: 1\r\n\r\nnext";
        for size in 1..=chunks.len() {
            assert_eq!(read(Body::CHUNKED, chunks, size), Ok((b"abcdefghijklm".to_vec(), 4)), "{size}");
            assert_eq!(read(Body::of_length(5), b"helloworld", size), Ok((b"hello".to_vec(), 5)), "{size}");
        }
        assert_eq!(read(Body::of_length(0), b"", 1), Ok((vec![], 0)));
    }

    #[test]
    fn chunks_that_are_none_are_refused() {
        let long = format!("0\r\n{}\r\n", "x: y\r\n".repeat(TRAILER_BYTES_MAX / 6 + 1));
        for text in ["x\r\n", "\r\n", "-1\r\n", "1\r\nab\r\n", "1\r\na\n", "123456789\r\n", &long] {
            assert!(read(Body::CHUNKED, text.as_bytes(), 7).is_err(), "{text}");
        }
    }
}
