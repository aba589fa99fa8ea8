//! Finds newline-delimited messages (the raw TCP dialect) in a buffer, looking at each byte once.

/// How far the unfinished line at the start of a buffer was searched; all the state a connection needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lines {
    searched: u32,
}

/// What a buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// A line, without its `\n` or `\r\n`; go on behind `consumed` bytes.
    Line { line: &'b [u8], consumed: usize },
    /// No whole line. Drop `consumed` bytes (blank lines), keep the rest, and come back with more behind it.
    More { consumed: usize },
}

/// A line is longer than allowed; where the next one begins can't be told, so the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl Lines {
    /// How many bytes at the start of the buffer were searched: with [`Self::resumed`] for a hand-over.
    pub const fn searched(self) -> u32 {
        self.searched
    }

    /// Goes on where somebody else has searched so far.
    pub const fn resumed(searched: u32) -> Self {
        Self { searched }
    }

    /// The first line of `buf` that isn't blank.
    ///
    /// After [`Step::More`] the next call must be given the kept bytes again, with more behind them. A line of more
    /// than `line_bytes_max` bytes is refused as soon as that many have come, with or without its end.
    pub fn next<'b>(&mut self, buf: &'b [u8], line_bytes_max: usize) -> Result<Step<'b>, TooLong> {
        let mut from = 0;
        let mut search = (self.searched as usize).min(buf.len());
        self.searched = 0;
        while let Some(found) = memchr::memchr(b'\n', &buf[search..]) {
            let end = search + found;
            let line = without_return(&buf[from..end]);
            if line.len() > line_bytes_max {
                return Err(TooLong);
            }
            if !is_blank(line) {
                return Ok(Step::Line { line, consumed: end + 1 });
            }
            from = end + 1;
            search = from;
        }
        let rest = &buf[from..];
        if without_return(rest).len() > line_bytes_max {
            return Err(TooLong);
        }
        self.searched = u32::try_from(rest.len()).map_err(|_| TooLong)?;
        Ok(Step::More { consumed: from })
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_blank(line: &[u8]) -> bool {
    // The first byte decides for every real message.
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All lines of `chunks`, arriving one after another; and what is left.
    fn lines(chunks: &[&[u8]], max: usize) -> Result<(Vec<Vec<u8>>, Vec<u8>), TooLong> {
        let (mut state, mut buf, mut found) = (Lines::default(), Vec::new(), Vec::new());
        for chunk in chunks {
            buf.extend_from_slice(chunk);
            loop {
                match state.next(&buf, max)? {
                    Step::Line { line, consumed } => {
                        found.push(line.to_vec());
                        buf.drain(..consumed);
                    }
                    Step::More { consumed } => {
                        buf.drain(..consumed);
                        break;
                    }
                }
            }
        }
        Ok((found, buf))
    }

    #[test]
    fn gives_lines_and_skips_blank_ones() {
        let (found, rest) = lines(&[b"\r\n{1}\r\n \t\n\n{2}\n{3"], 10).unwrap();
        assert_eq!(found, [b"{1}", b"{2}"]);
        assert_eq!(rest, b"{3");
    }

    #[test]
    fn refuses_a_long_line_before_its_end_comes() {
        assert_eq!(lines(&[b"12345\r\n"], 5).unwrap().0, [b"12345"]);
        assert_eq!(lines(&[b"123456"], 5), Err(TooLong));
        assert_eq!(lines(&[b"123456\n"], 5), Err(TooLong));
        assert_eq!(lines(&[b"\n\n\n\n\n\n\n1\n"], 5).unwrap().0, [b"1"]);
    }

    #[test]
    fn does_not_search_the_same_bytes_again() {
        let mut state = Lines::default();
        assert_eq!(state.next(b"aaaa", 100), Ok(Step::More { consumed: 0 }));
        assert_eq!(state.searched, 4);
        // A newline hidden in what was searched already isn't found: the proof that it isn't looked at twice.
        assert_eq!(state.next(b"a\naab", 100), Ok(Step::More { consumed: 0 }));
        assert_eq!(state.searched, 5);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(text in "[ab\r\n]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..8)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(lines(&chunks, 100), lines(&[bytes], 100));
        }
    }
}
