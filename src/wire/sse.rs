//! Reads a stream of server-sent events as it comes (the WHATWG HTML standard, section 9.2), bounded.

/// Longest event name and id, in bytes; longer ones are cut off, so that they match nothing.
const NAME_BYTES_MAX: usize = 256;
const ID_BYTES_MAX: usize = 1 << 10;

/// The reading half of one stream: the unfinished line and event.
#[derive(Debug)]
pub struct Decoder {
    event_bytes_max: usize,
    line: Vec<u8>,
    data: Vec<u8>,
    name: Vec<u8>,
    id: Vec<u8>,
    retry_ms: Option<u64>,
    /// The last byte was a CR: a LF behind it belongs to it.
    after_return: bool,
    /// Nothing has come: a byte order mark may.
    at_start: bool,
    has_data: bool,
    is_too_long: bool,
    /// The event was handed out: the next byte begins another.
    is_taken: bool,
}

/// What a chunk brings.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'d> {
    /// An event is whole.
    Event(Event<'d>),
    /// An event was over the limit; it was skipped.
    TooLong,
    /// The chunk is used up.
    More,
}

/// A whole event.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'d> {
    /// What it is called; `message` if it has no name.
    pub name: &'d [u8],
    /// Its data lines, joined by line feeds.
    pub data: &'d [u8],
}

impl Decoder {
    /// `event_bytes_max` is the longest event data, in bytes.
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            line: Vec::new(),
            data: Vec::new(),
            name: Vec::new(),
            id: Vec::new(),
            retry_ms: None,
            after_return: false,
            at_start: true,
            has_data: false,
            is_too_long: false,
            is_taken: false,
        }
    }

    /// The id of the last event, for `Last-Event-ID`; it may have come with an event that has no data.
    pub fn last_id(&self) -> Option<&[u8]> {
        Some(&*self.id).filter(|id| !id.is_empty())
    }

    /// How long to wait before the next connection, if the server has said that, in milliseconds.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Whether the event that has begun is over the limit already, however it ends.
    pub fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// Goes on with another connection: what was unfinished is dropped, the last id and the retry time stay.
    pub fn restart(&mut self) {
        let (id, retry_ms) = (std::mem::take(&mut self.id), self.retry_ms);
        *self = Self { id, retry_ms, ..Self::new(self.event_bytes_max) };
    }

    /// Takes bytes off the front of `chunk` until an event is whole.
    pub fn decode(&mut self, chunk: &mut &[u8]) -> Step<'_> {
        if std::mem::take(&mut self.is_taken) {
            self.data.clear();
            self.name.clear();
            self.has_data = false;
        }
        while !chunk.is_empty() {
            if std::mem::take(&mut self.after_return)
                && let Some(rest) = chunk.strip_prefix(b"\n")
            {
                *chunk = rest;
                continue;
            }
            let end = memchr::memchr2(b'\n', b'\r', chunk);
            self.keep(&chunk[..end.unwrap_or(chunk.len())]);
            let Some(end) = end else {
                *chunk = &[];
                break;
            };
            self.after_return = chunk[end] == b'\r';
            *chunk = &chunk[end + 1..];
            if !self.end_line() {
                continue;
            }
            if std::mem::take(&mut self.is_too_long) {
                self.is_taken = true;
                return Step::TooLong;
            }
            if self.has_data {
                self.is_taken = true;
                let name = if self.name.is_empty() { b"message".as_slice() } else { &self.name };
                return Step::Event(Event { name, data: &self.data });
            }
            self.name.clear();
        }
        Step::More
    }

    fn keep(&mut self, piece: &[u8]) {
        // The longest field name, its colon and its blank come on top of the data.
        if self.line.len() + piece.len() > self.event_bytes_max + 8 {
            self.is_too_long = true;
            self.line.clear();
            self.data = Vec::new();
        }
        if !self.is_too_long {
            self.line.extend_from_slice(piece);
        } else if self.line.is_empty() && !piece.is_empty() {
            // Something: that the line is not blank must be known at its end.
            self.line.push(b':');
        }
    }

    /// Whether the line was blank, so that an event ends here.
    fn end_line(&mut self) -> bool {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        let is_blank = line.is_empty();
        if !self.is_too_long {
            self.take_field(&line);
        }
        line.clear();
        self.line = line;
        is_blank
    }

    fn take_field(&mut self, line: &[u8]) {
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, [].as_slice()),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.data.len() + value.len() + 1 > self.event_bytes_max + 1 {
                    self.is_too_long = true;
                    self.data = Vec::new();
                    return;
                }
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => replace(&mut self.name, value, NAME_BYTES_MAX),
            b"id" if !value.contains(&0) => replace(&mut self.id, value, ID_BYTES_MAX),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.retry_ms = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            }
            // A comment, or a field that the standard does not know.
            _ => {}
        }
    }
}

fn replace(kept: &mut Vec<u8>, value: &[u8], bytes_max: usize) {
    kept.clear();
    kept.extend_from_slice(&value[..value.len().min(bytes_max)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(chunks: &[&[u8]], max: usize) -> (Vec<String>, Decoder) {
        let (mut decoder, mut found) = (Decoder::new(max), Vec::new());
        for mut chunk in chunks.iter().copied() {
            loop {
                match decoder.decode(&mut chunk) {
                    Step::Event(Event { name, data }) => {
                        found.push(format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(data)));
                    }
                    Step::TooLong => found.push("too long".into()),
                    Step::More => break,
                }
            }
            assert!(decoder.line.len() + decoder.data.len() <= 2 * max + 9, "bounded");
        }
        (found, decoder)
    }

    #[test]
    fn events_have_names_data_lines_ids_and_comments_are_skipped() {
        let text = b"\xef\xbb\xbf: hello\n\nevent: endpoint\ndata: /x\n\ndata:{\"a\":1}\r\ndata: {}\r\nid: 7\r\nretry: 250\r\n\r\n";
        let (found, decoder) = events(&[text], 100);
        assert_eq!(found, ["endpoint=/x", "message={\"a\":1}\n{}"]);
        assert_eq!((decoder.last_id(), decoder.retry_ms()), (Some(b"7".as_slice()), Some(250)));
    }

    #[test]
    fn an_id_without_data_primes_and_is_no_event() {
        let (found, decoder) = events(&[b"id: 5\n\nevent: x\n\ndata: 1\n\n"], 100);
        assert_eq!(found, ["message=1"]);
        assert_eq!(decoder.last_id(), Some(b"5".as_slice()));
    }

    #[test]
    fn an_empty_data_line_is_an_event_without_text() {
        assert_eq!(events(&[b"data\n\ndata:\n\n"], 100).0, ["message=", "message="]);
    }

    #[test]
    fn an_event_that_never_ends_is_skipped_and_the_next_one_is_found() {
        let long = format!("data: {}\ndata: more\n\ndata: 1\n\n", "x".repeat(1000));
        let many = format!("{}\ndata: 1\n\n", "data: 12345\n".repeat(100));
        for text in [long, many] {
            for piece in [1, 10, 5000] {
                let chunks: Vec<&[u8]> = text.as_bytes().chunks(piece).collect();
                assert_eq!(events(&chunks, 50).0, ["too long", "message=1"], "{piece}");
            }
        }
        assert_eq!(events(&[b"data: 12345\n\ndata: 123456\n\n"], 5).0, ["message=12345", "too long"]);
    }

    #[test]
    fn the_unfinished_event_of_a_stream_that_ends_is_none() {
        assert!(events(&[b"data: 1\n"], 100).0.is_empty());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(text in "(data|id|event|x|:| |\r|\n|\r\n){0,60}", cut in 1_usize..9) {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            prop_assert_eq!(events(&chunks, 20).0, events(&[text.as_bytes()], 20).0);
        }
    }
}
