//! The MCP server that is built in: enough to try a gateway and to load it.
//!
//! What is quick is answered on the shard that asks, straight into its buffer; what takes time is served on the
//! upstreams' runtime, and its ticket is settled from there.

mod arguments;
mod counts;
mod definitions;
mod tools;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::actor::{Answer, Ticket};
use crate::guard::Seat;
use crate::mcp::{Call, Catalogue, Method, Offer};
use crate::upstream::mux::tally::Uses;
use crate::upstream::record::{self, Line};
use crate::wire::json;
use counts::Counts;

pub use definitions::{Config, Offered};
pub use tools::{Run, Sleep, Tools};

/// The one tool that takes its time.
const SLEEP: &str = "sleep";

/// The embedded server as a shard sees it.
#[derive(Clone)]
pub struct Embedded {
    tools: Arc<Tools>,
    runtime: Handle,
    counts: Arc<Counts>,
}

impl Embedded {
    /// `runtime` serves what takes time; so many `shards` call it.
    #[must_use]
    pub fn new(tools: Arc<Tools>, runtime: Handle, shards: usize) -> Self {
        Self { tools, runtime, counts: Arc::new(Counts::new(shards)) }
    }

    /// Its name among the upstreams; none in the configuration may have it.
    pub const UPSTREAM: &str = definitions::UPSTREAM;

    /// What it offers.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        self.tools.offer()
    }

    /// The same, rendered: the catalogue of a gateway with nothing else behind it.
    #[must_use]
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        self.tools.catalogue()
    }

    /// What each tool was used for. What was answered at once has taken no time worth a look at the clock.
    #[must_use]
    pub fn uses(&self) -> Uses {
        self.counts.uses()
    }

    /// Calls that have not ended.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.counts.in_flight()
    }

    /// Answers a call at once, refusals included, or gives what [`Self::serve`] needs. For the thread of this shard alone.
    #[inline]
    pub fn call(&self, call: &Call<'_>, shard: usize, out: &mut Vec<u8>) -> Run {
        let began = record::is_logged().then(Instant::now);
        let from = out.len();
        let run = self.tools.answer(call, out);
        let name = call.target.name();
        let (failed, outcome) = match run {
            Run::Done => (false, "result"),
            Run::Refused(_) => (true, "error"),
            Run::Later(_) => return run,
        };
        self.counts.count(shard, name, failed);
        if let Some(began) = began {
            let line = Line { upstream: Self::UPSTREAM, method: call.method, name, sent: call.params.len() };
            let said = std::str::from_utf8(&out[from..]).ok().and_then(|said| json::pick(said, ["result"]).ok());
            let outcome = said.and_then(|[result]| result).map_or(outcome, record::outcome);
            line.write(began.elapsed(), out.len() - from, outcome);
        }
        run
    }

    /// Serves what takes time; a client that cancels or leaves ends it, through `cancelled`. `place` is held until it has ended: a client that
    /// calls and cancels faster than calls end would heap them up otherwise.
    #[allow(clippy::disallowed_methods)] // An upstream owns its tasks: each ends with its ticket.
    pub fn serve(&self, sleep: Sleep, ticket: Ticket, cancelled: Arc<Notify>, place: Seat) {
        self.counts.begin();
        let counts = Arc::clone(&self.counts);
        self.runtime.spawn(async move {
            let _place = place;
            let began = Instant::now();
            let result = if ticket.serve_as(0) { run(&sleep, &ticket, &cancelled).await } else { None };
            let took = began.elapsed();
            counts.end(took);
            let line = Line { upstream: Self::UPSTREAM, method: Method::CallTool, name: SLEEP, sent: sleep.asked() };
            let outcome = if result.is_some() { "result" } else { "cancelled" };
            line.write(took, result.as_ref().map_or(0, Vec::len), outcome);
            match result {
                Some(result) => ticket.settle(Answer::Result(result)),
                None => ticket.discard(),
            }
        });
    }
}

/// Tells the progress, and gives the result; none once nobody waits for it.
async fn run(sleep: &Sleep, ticket: &Ticket, cancelled: &Notify) -> Option<Vec<u8>> {
    let began = Instant::now();
    for step in 1.. {
        let progress = sleep.progress(step);
        let pause = match &progress {
            Some(_) => sleep.every().saturating_mul(u32::try_from(step).unwrap_or(u32::MAX)),
            None => sleep.total(),
        };
        tokio::select! {
            () = sleep_until(began + pause) => {}
            () = cancelled.notified() => return None,
        }
        match progress {
            Some(progress) => ticket.progress(progress),
            None => break,
        }
    }
    let mut result = Vec::new();
    sleep.result_into(&mut result);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::Inbox;
    use crate::guard::Seats;
    use crate::mcp::Revision;
    use crate::pool::Key;

    #[test]
    fn a_cancelled_call_has_its_place_until_it_has_ended() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let tools = Arc::new(Tools::new(Config::default(), String::new));
        let poll = mio::Poll::new().expect("a poll");
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
        let inbox = Arc::new(Inbox::new(waker));
        let places = Seats::new(1);
        let Run::Later(sleep) =
            tools.run_into("sleep", Some(r#"{"ms":60000}"#), Revision::V2025_11_25, &mut Vec::new())
        else {
            panic!("a sleep takes its time")
        };
        let cancelled = Arc::new(Notify::new());
        let (ticket, cancel) = Ticket::new(inbox, Key::from_bits(1), 1, cancelled.clone());
        Embedded::new(tools, runtime.handle().clone(), 1).serve(
            sleep,
            ticket,
            cancelled,
            places.take().expect("a place"),
        );
        drop(cancel);
        assert_eq!(places.taken(), 1, "nothing has run yet that could have ended it");
        runtime.block_on(tokio::task::yield_now());
        assert_eq!(places.taken(), 0);
    }
}
