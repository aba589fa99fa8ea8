//! The last events of one session, for a client that lost a stream and comes back for the rest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Config;
use crate::wire::http::event::EventId;

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

    /// Keeps an event; one that is larger than all that may be kept is not.
    pub(super) fn keep(&mut self, id: EventId, message: &[u8], now: u64, config: &Config) {
        let bytes = message.len() + size_of::<Event>();
        while self.events.len() >= config.replay_events_max || self.bytes + bytes > config.replay_bytes_max {
            if !self.drop_oldest() {
                return;
            }
        }
        if self.total.load(Ordering::Relaxed) + bytes > config.replay_bytes_total_max {
            return;
        }
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        self.events.push_back(Event { id, message: message.into(), at: now });
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
