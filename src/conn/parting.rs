//! Why connections end: one name, one counter, one log line each.

use crate::named;

named! {
    /// Why a connection ended.
    pub enum Parting {
        /// The client closed its side; nothing was unfinished.
        PeerClosed = "peer_closed",
        /// The client closed or reset in the middle of something.
        PeerVanished = "peer_vanished",
        /// The client closed its side while answers were on their way; they were sent, as far as it took them.
        PeerHalfClosed = "peer_half_closed",
        /// The client closed by the WebSocket closing handshake.
        PeerSaidGoodbye = "peer_said_goodbye",
        /// No whole first message or upgrade within the handshake deadline.
        HandshakeTimeout = "handshake_timeout",
        /// Nothing heard for the idle time.
        IdleTimeout = "idle_timeout",
        /// Pings stayed without any sign of life.
        KeepAliveTimeout = "keepalive_timeout",
        /// A message was begun and not finished in time.
        MessageTimeout = "message_timeout",
        /// Answers were not read in time, or more waited than may.
        SlowReader = "slow_reader",
        /// The first bytes were no dialect that is served.
        UnknownDialect = "unknown_dialect",
        /// An HTTP request that is not served was answered.
        HttpRefused = "http_refused",
        /// An HTTP answer was the last on its connection, as the client or its protocol's version wanted it.
        HttpDone = "http_done",
        /// A line over the limit.
        LineTooLong = "line_too_long",
        /// The WebSocket protocol was broken (which rule: the violations' own counters).
        WebSocketViolation = "websocket_violation",
        /// A binary WebSocket message, where MCP is text.
        BinaryMessage = "binary_message",
        /// No seat was free.
        Refused = "refused",
        /// All clients together buffer more than they may, and this one more than its share.
        BuffersFull = "buffers_full",
        /// Memory is short, and it was idle: those who have something to do need it more.
        MemoryShort = "memory_short",
        /// The gateway is going down.
        Drained = "drained",
        /// A bug: running the connection panicked.
        Panicked = "panicked",
        /// The kernel would not watch the socket.
        NotWatched = "not_watched",
        /// Its shard ended: by an order to stop, or by a panic that was not this connection's.
        ShardEnded = "shard_ended",
    }
}

impl Parting {
    /// Whether the client was sent a last word that it should get the time to read.
    pub(super) fn is_polite(self) -> bool {
        match self {
            Self::PeerSaidGoodbye
            | Self::PeerHalfClosed
            | Self::UnknownDialect
            | Self::HttpRefused
            | Self::HttpDone
            | Self::LineTooLong
            | Self::WebSocketViolation
            | Self::BinaryMessage
            | Self::Refused
            | Self::MemoryShort
            | Self::Drained
            | Self::HandshakeTimeout
            | Self::IdleTimeout
            | Self::MessageTimeout => true,
            Self::PeerClosed
            | Self::PeerVanished
            | Self::KeepAliveTimeout
            | Self::SlowReader
            | Self::BuffersFull
            | Self::Panicked
            | Self::NotWatched
            | Self::ShardEnded => false,
        }
    }
}
