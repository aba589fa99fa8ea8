//! What a byte link has read: many lines per read, each taken where it lies; a line that is too long is skipped.

use std::ops::Range;

/// Room for one read, in bytes: what a pipe of Linux holds.
const READ_BYTES: usize = 64 << 10;
/// A buffer that has grown beyond this, in bytes, is given back once it is empty.
const KEPT_BYTES: usize = 1 << 20;
/// How much of a skipped line is kept to tell whose answer it was, in bytes, from its start and from its end.
const HEAD_BYTES: usize = 256;
const TAIL_BYTES: usize = 64;

/// The bytes that have come and were not taken.
pub(super) struct Lines {
    bytes: Vec<u8>,
    start: usize,
    searched: usize,
    line_bytes_max: usize,
    skipped: Option<Skipped>,
}

/// What [`Lines::next`] finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Where a line is that is not blank, without its end: for [`Lines::at`], until [`Lines::room`].
    Line(Range<usize>),
    /// The end of a line over the limit, and the request whose answer it was, if that can be told.
    TooLong(Option<u64>),
}

impl Lines {
    pub(super) fn new(line_bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, searched: 0, line_bytes_max, skipped: None }
    }

    /// Where the next read goes: behind what is there. All that is whole must have been taken before.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        if self.start == self.bytes.len() && self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..self.start);
        }
        self.searched -= self.start;
        self.start = 0;
        self.bytes.reserve(READ_BYTES);
        &mut self.bytes
    }

    /// The next whole line, looking at each byte once.
    pub(super) fn next(&mut self) -> Option<Found> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.bytes[self.searched..]) else {
                self.keep_or_skip();
                return None;
            };
            let line = self.start..self.searched + end;
            self.start = line.end + 1;
            self.searched = self.start;
            if let Some(mut skipped) = self.skipped.take() {
                skipped.push(&self.bytes[line]);
                return Some(Found::TooLong(skipped.id()));
            }
            let line = trimmed(&self.bytes, line);
            if line.len() > self.line_bytes_max {
                return Some(Found::TooLong(Skipped::new(&self.bytes[line]).id()));
            }
            if !line.is_empty() {
                return Some(Found::Line(line));
            }
        }
    }

    pub(super) fn at(&self, line: Range<usize>) -> &[u8] {
        &self.bytes[line]
    }

    /// No whole line is there: the rest stays, unless its line is too long already.
    fn keep_or_skip(&mut self) {
        self.searched = self.bytes.len();
        let rest = &self.bytes[self.start..];
        match &mut self.skipped {
            Some(skipped) => skipped.push(rest),
            None if rest.len() > self.line_bytes_max + 1 => self.skipped = Some(Skipped::new(rest)),
            None => return,
        }
        self.start = self.bytes.len();
    }
}

/// The line without blanks at its end; empty if there is nothing else.
fn trimmed(bytes: &[u8], line: Range<usize>) -> Range<usize> {
    let blanks = bytes[line.clone()].iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
    line.start..line.end - blanks
}

/// Start and end of a line that is too long to be kept.
pub(super) struct Skipped {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Skipped {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut skipped = Self { head: Vec::new(), tail: Vec::new() };
        skipped.push(bytes);
        skipped
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        self.tail.drain(..(self.tail.len() + last.len()).saturating_sub(TAIL_BYTES));
        self.tail.extend_from_slice(last);
    }

    /// The number of the request that the line answers: SDKs write the id in front of the result, or as the last member,
    /// or before the version that is the last.
    ///
    /// Only where JSON leaves no doubt that it is the message's own id: another's call must not fail for it.
    pub(super) fn id(&self) -> Option<u64> {
        let head: Vec<u8> = self.head.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let version: &[u8] = br#""jsonrpc":"2.0","#;
        let first = head.strip_prefix(b"{")?;
        let first = first.strip_prefix(version).unwrap_or(first);
        if let Some((id, b',')) = first.strip_prefix(br#""id":"#.as_slice()).and_then(number) {
            return Some(id);
        }
        let tail: Vec<u8> = self.tail.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        // The version may be last, and the id before it.
        let tail = tail.strip_suffix(br#","jsonrpc":"2.0"}"#).map_or(tail.clone(), |rest| [rest, b"}"].concat());
        let at = memchr::memmem::rfind(&tail, br#","id":"#)? + br#","id":"#.len();
        // The last brace of a line closes the message, so a number right before it is a member of the message itself.
        number(&tail[at..]).filter(|&(_, end)| end == b'}' && tail.ends_with(b"}")).and_then(|(id, _)| {
            let digits = tail[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            (at + digits + 1 == tail.len()).then_some(id)
        })
    }
}

/// The number at the start, and the byte behind it.
fn number(bytes: &[u8]) -> Option<(u64, u8)> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let id = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    Some((id, *bytes.get(digits)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found when `bytes` come in pieces of `piece` bytes.
    fn found(bytes: &[u8], piece: usize, max: usize) -> Vec<Result<String, Option<u64>>> {
        let mut lines = Lines::new(max);
        let mut all = Vec::new();
        for piece in bytes.chunks(piece) {
            lines.room().extend_from_slice(piece);
            while let Some(found) = lines.next() {
                all.push(match found {
                    Found::Line(line) => Ok(String::from_utf8_lossy(lines.at(line)).into_owned()),
                    Found::TooLong(id) => Err(id),
                });
            }
            assert!(lines.bytes.len() - lines.start <= max + 1 + piece.len(), "a long line is not kept");
        }
        all
    }

    #[test]
    fn lines_are_found_however_they_are_split_and_blank_ones_are_skipped() {
        for piece in 1..20 {
            assert_eq!(found(b"\r\n{1}\r\n \t\n\n{2}\n{3", piece, 10), [Ok("{1}".into()), Ok("{2}".into())]);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_found() {
        for piece in [1, 7, 64, 1000] {
            let text = format!("{{1}}\n{}\n{{2}}\n", "x".repeat(500));
            assert_eq!(found(text.as_bytes(), piece, 100), [Ok("{1}".into()), Err(None), Ok("{2}".into())]);
        }
    }

    #[test]
    fn a_line_of_just_the_limit_is_whole() {
        assert_eq!(found(b"12345\r\n123456\n", 1, 5), [Ok("12345".into()), Err(None)]);
    }

    #[test]
    fn a_skipped_answer_tells_whose_it_was_by_its_start_or_its_end() {
        let long = "x".repeat(500);
        for (line, id) in [
            (format!(r#"{{"jsonrpc":"2.0","id":17,"result":{{"text":"{long}"}}}}"#), Some(17)),
            (format!(r#"{{"id": 18, "jsonrpc": "2.0", "result": {{"text":"{long}"}}}}"#), Some(18)),
            (format!(r#"{{"result":{{"text":"{long}"}},"jsonrpc":"2.0","id":19}}"#), Some(19)),
            (format!(r#"{{"result":{{"text":"{long}"}}, "id": 23, "jsonrpc": "2.0"}}"#), Some(23)),
            (format!(r#"{{"result":{{"text":"{long}","id":24}},"jsonrpc":"2.0"}}"#), None),
            (format!(r#"{{"params":{{"text":"{long}","id":25,"jsonrpc":"2.0"}}}}"#), None),
            (format!(r#"{{"result":{{"text":"{long}","id":20}}}}"#), None),
            (format!(r#"{{"jsonrpc":"2.0","method":"x","params":{{"text":"{long}","id":21}}}}"#), None),
            (format!(r#"{{"jsonrpc":"2.0","id":"22","result":{{"text":"{long}"}}}}"#), None),
        ] {
            for piece in [1, 50, 10_000] {
                assert_eq!(found(format!("{line}\n").as_bytes(), piece, 100), [Err(id)], "{line}");
            }
        }
    }
}
