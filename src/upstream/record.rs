//! What is kept of a call once it has ended, however it did: a line in the log, and a count under the name of its tool.

use std::time::Duration;

use super::handle::Upstream;
use crate::mcp::fault::excerpt;
use crate::mcp::{Method, Parcel};
use crate::wire::json;

/// A call, as its line tells of it.
pub(super) struct Line<'a> {
    /// Whose it was.
    pub(super) upstream: &'a str,
    pub(super) method: Method,
    /// What was called, by the server's own name for it.
    pub(super) name: &'a str,
    /// Bytes that were sent for it.
    pub(super) sent: usize,
}

/// Whether anybody reads these lines.
#[inline]
pub(super) fn is_logged() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

/// What became of a call that has this result: whether its tool says that it failed is looked for only where it is told.
pub(super) fn outcome(result: &str) -> &'static str {
    let failed = is_logged() && json::pick(result, ["isError"]).is_ok_and(|[it]| it == Some("true"));
    if failed { "tool_error" } else { "result" }
}

/// What a call is counted as: only tools by their own names, as of URIs there is no end.
pub(super) fn name(parcel: &Parcel) -> &str {
    if parcel.method == Method::CallTool { &parcel.name } else { parcel.method.as_str() }
}

impl Line<'_> {
    /// How long it took, bytes that came for it, and what became of it.
    pub(super) fn write(&self, took: Duration, got: usize, outcome: &'static str) {
        tracing::debug!(
            upstream = self.upstream,
            method = self.method.as_str(),
            tool = excerpt(self.name),
            micros = took.as_micros(),
            bytes_out = self.sent,
            bytes_in = got,
            outcome,
            "a call has ended"
        );
    }
}

impl Upstream {
    /// Whether calls of this kind are counted by their own name: clients may call what it has not, anything.
    pub(super) fn tells_apart(&self, parcel: &Parcel) -> bool {
        parcel.method != Method::CallTool || self.serves(parcel)
    }

    /// The one line of a call: how long it took from when it was sent, bytes sent and got, and what became of it.
    pub(super) fn log(&self, parcel: &Parcel, took: Duration, sent: u32, got: usize, outcome: &'static str) {
        let line = Line { upstream: &self.name, method: parcel.method, name: &parcel.name, sent: sent as usize };
        line.write(took, got, outcome);
    }

    /// Counts and logs a call that has failed before it was sent.
    pub(super) fn not_begun(&self, parcel: &Parcel, outcome: &'static str) {
        self.counts.count_use(name(parcel), || self.tells_apart(parcel));
        self.log(parcel, Duration::ZERO, 0, 0, outcome);
    }
}
