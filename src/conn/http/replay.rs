//! The last events of one session, for a client that lost a stream and comes back for the rest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Config;
use crate::mcp::Fault;
use crate::wire::envelope::{self, Incoming, Kind};
use crate::wire::http::event::EventId;

/// What is said where the answer would be.
const UNKEPT: &str = "Internal error: the answer was larger than what is kept for a client that lost its stream \
                      (conn.http.replay_bytes_max); the call was made, and may have had effects";

/// Bounded in events, bytes and time, and by what all sessions may keep; the oldest go first.
pub(super) struct Replay {
    events: VecDeque<Event>,
    bytes: usize,
    total: Arc<AtomicUsize>,
}

/// One event as it was sent.
pub(super) struct Event {
    pub(super) id: EventId,
    pub(super) message: Box<[u8]>,
    /// When it was sent, in milliseconds of the house.
    at: u64,
}

impl Replay {
    pub(super) fn new(total: Arc<AtomicUsize>) -> Self {
        Self { events: VecDeque::new(), bytes: 0, total }
    }

    /// Keeps an event; one that is larger than all that may be kept is not. An answer that is not kept leaves an error in
    /// its place: whoever comes back for it would hear nothing, and wait.
    pub(super) fn keep(&mut self, id: EventId, message: &[u8], now: u64, config: &Config) {
        // The last part is for those errors.
        let most = config.replay_bytes_total_max - config.replay_bytes_total_max / 8;
        if self.put(id, message, now, (config, most)) {
            return;
        }
        let in_place = unkept(message);
        if !in_place.is_empty() {
            self.put(id, &in_place, now, (config, config.replay_bytes_total_max));
        }
    }

    /// False if it is too large, or all sessions together keep too much.
    fn put(&mut self, id: EventId, message: &[u8], now: u64, (config, total_most): (&Config, usize)) -> bool {
        let bytes = message.len() + size_of::<Event>();
        if bytes > config.replay_bytes_max || config.replay_events_max == 0 {
            return false;
        }
        while self.events.len() >= config.replay_events_max || self.bytes + bytes > config.replay_bytes_max {
            self.drop_oldest();
        }
        if self.total.load(Ordering::Relaxed) + bytes > total_most {
            return false;
        }
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        self.events.push_back(Event { id, message: message.into(), at: now });
        true
    }

    /// The events of the stream behind `after`, in their order.
    pub(super) fn behind(&self, after: EventId) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.id.stream == after.stream && event.id.number > after.number)
    }

    /// Lets go of what was sent before `then`. True if nothing is left.
    pub(super) fn forget_before(&mut self, then: u64) -> bool {
        while self.events.front().is_some_and(|event| event.at < then) {
            self.drop_oldest();
        }
        self.events.is_empty()
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(event) = self.events.pop_front() else { return false };
        let bytes = event.message.len() + size_of::<Event>();
        self.bytes -= bytes;
        self.total.fetch_sub(bytes, Ordering::Relaxed);
        true
    }
}

/// What is kept in place of an answer, or of a batch of them, that is not: an error for each id. Nothing for what is none.
fn unkept(message: &[u8]) -> Vec<u8> {
    let refusal = Fault::Abandoned.because(UNKEPT);
    let mut out = Vec::new();
    let mut write = |kind: Kind<'_>| {
        if let Kind::Response { id: Some(id), .. } = kind {
            out.push(if out.is_empty() { b'[' } else { b',' });
            refusal.write(&mut out, Some(id));
        }
    };
    match envelope::parse(message) {
        Ok(Incoming::One(one)) => {
            write(one.kind);
            out.drain(..out.len().min(1));
        }
        Ok(Incoming::Batch(batch)) => {
            batch.flatten().for_each(|one| write(one.kind));
            out.extend_from_slice(if out.is_empty() { b"" } else { b"]" });
        }
        Err(_) => {}
    }
    out
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(stream: u32, number: u32) -> EventId {
        EventId { stream, number }
    }

    #[test]
    fn what_is_kept_is_bounded_and_comes_back_in_order() {
        let config = Config { replay_events_max: 4, ..Config::default() };
        let total = Arc::new(AtomicUsize::new(0));
        let mut replay = Replay::new(Arc::clone(&total));
        for number in 1..=3 {
            replay.keep(id(1, number), b"{}", u64::from(number), &config);
            replay.keep(id(2, number), b"[]", u64::from(number), &config);
        }
        let numbers = |replay: &Replay, after| replay.behind(after).map(|event| event.id.number).collect::<Vec<_>>();
        assert_eq!(numbers(&replay, id(1, 0)), [2, 3]);
        assert_eq!(numbers(&replay, id(2, 2)), [3]);
        assert!(!replay.forget_before(3));
        assert_eq!(numbers(&replay, id(1, 0)), [3]);
        assert!(replay.forget_before(4));
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_answer_that_is_too_large_leaves_an_error_and_the_events_before_it() {
        let config = Config { replay_bytes_max: 1_000, ..Config::default() };
        let total = Arc::new(AtomicUsize::new(0));
        let answer = |pad: usize| format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"x":"{}"}}}}"#, "x".repeat(pad));
        let fits = 1_000 - size_of::<Event>() - answer(0).len();
        for (pad, whole) in [(fits - 1, true), (fits, true), (fits + 1, false)] {
            let mut replay = Replay::new(Arc::clone(&total));
            replay.keep(id(1, 1), answer(pad).as_bytes(), 0, &config);
            let kept: Vec<_> = replay.behind(id(1, 0)).map(|event| event.message.clone()).collect();
            let kept: serde_json::Value = serde_json::from_slice(&kept[0]).unwrap();
            assert_eq!((&kept["id"], kept["result"].is_object()), (&7.into(), whole), "{pad}");
            assert_eq!(kept["error"]["code"].is_i64(), !whole);
        }
        let mut replay = Replay::new(Arc::clone(&total));
        replay.keep(id(1, 1), b"{}", 0, &config);
        replay.keep(id(1, 2), &[b'x'; 2_000], 0, &config);
        replay.keep(id(1, 3), answer(2_000).as_bytes(), 0, &config);
        replay.keep(id(1, 4), format!("[{},{}]", answer(2_000), answer(1)).as_bytes(), 0, &config);
        let kept: Vec<_> = replay.behind(id(1, 0)).map(|event| event.id.number).collect();
        assert_eq!(kept, [1, 3, 4], "what is no answer is left out");
        let both: serde_json::Value = serde_json::from_slice(&replay.events[2].message).unwrap();
        assert_eq!(both.as_array().unwrap().iter().filter(|one| one["error"].is_object() && one["id"] == 7).count(), 2);
    }

    #[test]
    fn an_answer_that_all_sessions_together_have_no_room_for_leaves_an_error() {
        let config = Config { replay_bytes_total_max: 8_000, ..Config::default() };
        let total = Arc::new(AtomicUsize::new(6_990));
        let mut replay = Replay::new(Arc::clone(&total));
        replay.keep(id(1, 1), br#"{"jsonrpc":"2.0","method":"m"}"#, 0, &config);
        replay.keep(id(1, 2), br#"{"jsonrpc":"2.0","id":7,"result":{}}"#, 0, &config);
        let kept: Vec<_> = replay.behind(id(1, 0)).map(|event| event.message.clone()).collect();
        assert!(kept.len() == 1 && kept[0].starts_with(br#"{"jsonrpc":"2.0","id":7,"error""#));
        assert!(total.load(Ordering::Relaxed) <= 8_000);
    }

    #[test]
    fn what_all_sessions_keep_is_bounded_and_given_back() {
        let config = Config { replay_bytes_total_max: 200, replay_bytes_max: 1 << 20, ..Config::default() };
        let total = Arc::new(AtomicUsize::new(0));
        let mut replays = [Replay::new(Arc::clone(&total)), Replay::new(Arc::clone(&total))];
        for number in 1..10 {
            replays.iter_mut().for_each(|replay| replay.keep(id(1, number), &[b'x'; 20], 0, &config));
        }
        assert!((1..=200).contains(&total.load(Ordering::Relaxed)));
        drop(replays);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }
}
