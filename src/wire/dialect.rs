//! Tells from a connection's first bytes what the client speaks.

/// Most whitespace tolerated in front of the first message, in bytes.
const SPACE_MAX: usize = 16;

/// The request methods by which HTTP is known, with the space behind them.
const METHODS: [&[u8]; 10] =
    [b"GET ", b"POST ", b"DELETE ", b"OPTIONS ", b"HEAD ", b"PUT ", b"PATCH ", b"TRACE ", b"CONNECT ", b"PRI "];

/// What the first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Too few bytes to tell.
    More,
    /// Newline-delimited JSON.
    Line,
    /// An HTTP request, maybe a WebSocket upgrade.
    Http,
    /// Nothing that is served here.
    Unknown(Stranger),
}

listed! {
    /// What a client that is not served here seems to speak.
    pub enum Stranger {
        /// A TLS ClientHello.
        Tls = "tls",
        /// A HAProxy PROXY header, version 1 or 2.
        ProxyHeader = "proxy_header",
        /// SSH.
        Ssh = "ssh",
        /// JSON-RPC framed with `Content-Length` headers, as language servers do.
        ContentLength = "content_length",
        /// A byte order mark.
        ByteOrderMark = "byte_order_mark",
        /// Some other text.
        Text = "text",
        /// Something that is no text.
        Binary = "binary",
    }
}

impl Stranger {
    /// What to tell the client, or the operator who reads the log.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Tls => "this port does not speak TLS: connect without it, or terminate TLS in front of the gateway",
            Self::ProxyHeader => "the PROXY protocol is not understood here: switch it off in the load balancer",
            Self::Ssh => "this is not an SSH server",
            Self::ContentLength => "messages end with a newline here: send each as one line, without Content-Length",
            Self::ByteOrderMark => "send UTF-8 without a byte order mark",
            Self::Text | Self::Binary => "send JSON-RPC, one message a line, or a WebSocket upgrade",
        }
    }
}

/// Tells the dialect; `first` is everything that has come so far.
pub fn sniff(first: &[u8]) -> Dialect {
    const STRANGERS: [(&[u8], Stranger); 6] = [
        (b"\x16\x03", Stranger::Tls),
        (b"\r\n\r\n\0\r\nQUIT\n", Stranger::ProxyHeader),
        (b"PROXY ", Stranger::ProxyHeader),
        (b"SSH-", Stranger::Ssh),
        (b"Content-", Stranger::ContentLength),
        (b"\xef\xbb\xbf", Stranger::ByteOrderMark),
    ];
    let space = first.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    match first.get(space) {
        Some(b'{' | b'[') if space <= SPACE_MAX => return Dialect::Line,
        None if space <= SPACE_MAX => return Dialect::More,
        _ => {}
    }
    if METHODS.iter().any(|method| first.starts_with(method)) {
        return Dialect::Http;
    }
    if let Some((_, stranger)) = STRANGERS.iter().find(|(mark, _)| first.starts_with(mark)) {
        return Dialect::Unknown(*stranger);
    }
    let mut marks = METHODS.iter().copied().chain(STRANGERS.map(|(mark, _)| mark));
    if marks.any(|mark| mark.starts_with(first)) {
        return Dialect::More;
    }
    // As far as it goes it is text: a character cut off at the end doesn't make it binary.
    let text = std::str::from_utf8(first).map_or_else(|error| error.error_len().is_none(), |_| true);
    let control = first.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace());
    Dialect::Unknown(if text && !control { Stranger::Text } else { Stranger::Binary })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_newline_delimited_even_behind_a_little_whitespace() {
        assert_eq!(sniff(b"{"), Dialect::Line);
        assert_eq!(sniff(b"\r\n [{"), Dialect::Line);
        assert_eq!(sniff(&[b' '; SPACE_MAX]), Dialect::More);
        assert_eq!(sniff(&[b' '; SPACE_MAX + 1]), Dialect::Unknown(Stranger::Text));
    }

    #[test]
    fn every_method_is_http_and_its_beginnings_wait() {
        for method in METHODS {
            assert_eq!(sniff(method), Dialect::Http);
            for cut in 0..method.len() {
                assert_eq!(sniff(&method[..cut]), Dialect::More, "{:?}", &method[..cut]);
            }
        }
        assert_eq!(sniff(b"GETS"), Dialect::Unknown(Stranger::Text));
        assert_eq!(sniff(b"get "), Dialect::Unknown(Stranger::Text));
    }

    #[test]
    fn strangers_are_known_by_name() {
        for (first, stranger) in [
            (&b"\x16\x03\x01\x02\x00\x01"[..], Stranger::Tls),
            (b"PROXY TCP4 1.2.3.4", Stranger::ProxyHeader),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", Stranger::ProxyHeader),
            (b"SSH-2.0-x", Stranger::Ssh),
            (b"Content-Length: 40\r\n", Stranger::ContentLength),
            (b"\xef\xbb\xbf{}", Stranger::ByteOrderMark),
            (b"hello\n", Stranger::Text),
            (b"\"text\"", Stranger::Text),
            (b"\x00\x01", Stranger::Binary),
            (b"\xff\xfe{", Stranger::Binary),
        ] {
            assert_eq!(sniff(first), Dialect::Unknown(stranger), "{first:?}");
            assert!(!stranger.advice().is_empty());
        }
    }
}
