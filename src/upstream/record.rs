//! What is kept of a call once it has ended, however it did: a line in the log, and a count under the name of its tool.

use std::time::Duration;

use super::handle::Upstream;
use crate::mcp::fault::excerpt;
use crate::mcp::{Method, Parcel};

/// What a call is counted as: only tools by their own names, as of URIs there is no end.
pub(super) fn name(parcel: &Parcel) -> &str {
    if parcel.method == Method::CallTool { &parcel.name } else { parcel.method.as_str() }
}

impl Upstream {
    /// Whether calls of this kind are counted by their own name: clients may call what it has not, anything.
    pub(super) fn tells_apart(&self, parcel: &Parcel) -> bool {
        parcel.method != Method::CallTool || self.serves(parcel)
    }

    /// The one line of a call: how long it took from when it was sent, bytes sent and got, and what became of it.
    pub(super) fn log(&self, parcel: &Parcel, took: Duration, sent: u32, got: usize, outcome: &'static str) {
        tracing::debug!(
            upstream = &*self.name,
            method = parcel.method.as_str(),
            tool = excerpt(&parcel.name),
            micros = took.as_micros(),
            bytes_out = sent,
            bytes_in = got,
            outcome,
            "a call has ended"
        );
    }

    /// Counts and logs a call that has failed before it was sent.
    pub(super) fn not_begun(&self, parcel: &Parcel, outcome: &'static str) {
        self.counts.count_use(name(parcel), || self.tells_apart(parcel));
        self.log(parcel, Duration::ZERO, 0, 0, outcome);
    }
}
