//! What a shard says of one of its actors when it is asked who is large and who is busy.

use serde::Serialize;

/// One live connection, measured at the moment of the question.
#[derive(Debug, Clone, Serialize)]
pub struct Resident {
    /// The shard it lives on.
    pub shard: u16,
    /// Its key there.
    pub key: u64,
    /// The client's address, while the kernel still knows it.
    pub peer: Option<String>,
    /// `line`, `websocket`, or what it is doing before it has chosen.
    pub dialect: &'static str,
    /// Seconds since it was admitted.
    pub age_s: u64,
    /// Messages received.
    pub messages_in: u64,
    /// Calls waiting for an answer.
    pub in_flight: usize,
    /// User memory in bytes, by part; shared memory (the client's profile, the catalogue) is not in it.
    pub bytes: Breakdown,
}

/// The user memory of one connection in bytes, by part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Breakdown {
    /// Its slot in the pool and its place in the timer wheel.
    pub slot: usize,
    /// What exists only while something is unfinished.
    pub active: usize,
    /// Received and not yet handled.
    pub inbound: usize,
    /// Fragments of a WebSocket message.
    pub assembly: usize,
    /// Written and not yet taken by the client.
    pub outbox: usize,
    /// Calls in flight.
    pub in_flight: usize,
    /// What it watches, where that belongs to its connection and not to a session of HTTP.
    pub interests: usize,
}

impl Breakdown {
    /// All parts together.
    pub fn total(&self) -> usize {
        self.slot + self.active + self.inbound + self.assembly + self.outbox + self.in_flight + self.interests
    }
}
