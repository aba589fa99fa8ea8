//! What an upstream says beside its messages, in the log under its name: bounded in length and in rate.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::time::Instant;

/// Longest line in the log, in bytes: a stack trace comes line by line, a picture must not come at all.
const LINE_BYTES_MAX: usize = 1 << 10;
/// Lines of one upstream that are logged at once, and how soon as many more may be: enough for a start that talks.
const BURST: u32 = 100;
const REFILL: Duration = Duration::from_secs(10);

/// The right of one upstream to lines in the log.
pub struct Gossip {
    upstream: String,
    left: u32,
    since: Instant,
    dropped: u64,
}

impl Gossip {
    /// For the upstream of that name.
    pub fn new(upstream: &str) -> Self {
        Self { upstream: upstream.to_owned(), left: BURST, since: Instant::now(), dropped: 0 }
    }

    /// Logs something odd: `why` says what is wrong with `words`.
    pub fn complain(&mut self, why: &str, words: &[u8]) {
        if self.may_speak() {
            tracing::warn!(upstream = %self.upstream, words = %shown(words), "{why}");
        }
    }

    /// Logs a line of its stderr.
    fn tell(&mut self, line: &[u8]) {
        if self.may_speak() {
            tracing::info!(upstream = %self.upstream, "{}", shown(line));
        }
    }

    fn may_speak(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.since) >= REFILL {
            if self.dropped > 0 {
                tracing::warn!(upstream = %self.upstream, lines = self.dropped, "said more than is logged");
            }
            (self.left, self.since, self.dropped) = (BURST, now, 0);
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => self.dropped += 1,
        }
        self.dropped == 0
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        if self.dropped > 0 {
            tracing::warn!(upstream = %self.upstream, lines = self.dropped, "said more than is logged");
        }
    }
}

/// Logs all that comes, line by line, until its end.
pub(super) async fn overhear(source: impl AsyncRead + Unpin, mut gossip: Gossip) {
    let mut source = BufReader::new(source);
    let (mut line, mut is_cut) = (Vec::new(), false);
    loop {
        let (took, ended) = match source.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(bytes) => {
                let end = memchr::memchr(b'\n', bytes);
                let piece = &bytes[..end.unwrap_or(bytes.len())];
                let room = LINE_BYTES_MAX - line.len();
                is_cut |= piece.len() > room;
                line.extend_from_slice(&piece[..piece.len().min(room)]);
                (piece.len() + usize::from(end.is_some()), end.is_some())
            }
        };
        source.consume(took);
        if ended {
            if is_cut {
                line.extend_from_slice("\u{2026}".as_bytes());
            }
            if !line.is_empty() {
                gossip.tell(&line);
            }
            line.clear();
            is_cut = false;
        }
    }
    if !line.is_empty() {
        gossip.tell(&line);
    }
}

/// On one line and without control characters, whatever comes: a log is read on terminals.
fn shown(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(&words[..words.len().min(LINE_BYTES_MAX + 3)]);
    let mut shown = String::with_capacity(text.len());
    for letter in text.trim_end().chars() {
        if letter.is_control() && letter != '\t' {
            let _ = write!(shown, "{}", letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_shown_on_one_line_without_control_characters() {
        assert_eq!(shown(b"a\nb\x1b[31mc\r\n"), "a\\nb\\u{1b}[31mc");
        assert!(shown(&vec![b'x'; 1 << 20]).len() < 2000);
    }

    #[tokio::test]
    async fn a_chatterbox_is_cut_short_and_allowed_again_later() {
        let mut gossip = Gossip::new("chatterbox");
        let told = (0..1000).filter(|_| gossip.may_speak()).count();
        assert_eq!((told, gossip.dropped), (BURST as usize, 900));
        gossip.since -= REFILL;
        assert!(gossip.may_speak());
        assert_eq!(gossip.dropped, 0);
    }

    #[tokio::test]
    async fn a_line_without_an_end_takes_no_more_memory_than_is_shown() {
        let endless = vec![b'x'; 4 << 20];
        overhear(&endless[..], Gossip::new("endless")).await;
    }
}
