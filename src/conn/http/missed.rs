//! What changed while clients of sessions had no stream open: when each list and each resource did last, bounded.

use std::collections::HashMap;
use std::time::Instant;

use crate::actor::News;
use crate::conn::interests::{Interests, Watch};
use crate::mcp::Topics;

/// The lists that are told of.
const LISTS: [Topics; 3] = [Topics::TOOLS, Topics::PROMPTS, Topics::RESOURCES];
/// Resources that are known by name, and bytes of their URIs.
const UPDATED_MAX: usize = 1_024;
const UPDATED_BYTES_MAX: usize = 256 << 10;

/// One for the house. Whoever comes back asks it what has changed since; nothing is kept for each session.
pub(super) struct Missed {
    lists: [Option<Instant>; LISTS.len()],
    /// By URI, and by the one client that may be told, if not all may.
    updated: HashMap<(Box<str>, Option<u128>), Instant>,
    /// Bytes of the URIs.
    bytes: usize,
    /// What changed before is not known by name any more.
    forgotten: Option<Instant>,
}

impl Missed {
    pub(super) fn new() -> Self {
        Self { lists: [None; LISTS.len()], updated: HashMap::new(), bytes: 0, forgotten: None }
    }

    /// Notes what has changed.
    pub(super) fn note(&mut self, news: &News, now: Instant) {
        let Some(uri) = &news.subject else {
            for (change, list) in self.lists.iter_mut().zip(LISTS) {
                if list.meets(Topics(news.topic)) {
                    *change = Some(now);
                }
            }
            return;
        };
        if self.updated.insert((uri.clone(), news.only), now).is_none() {
            self.bytes += uri.len();
        }
        if self.updated.len() > UPDATED_MAX || self.bytes > UPDATED_BYTES_MAX {
            (self.updated, self.bytes, self.forgotten) = (HashMap::new(), 0, Some(now));
        }
    }

    /// The lists that have changed since then.
    pub(super) fn lists_since(&self, then: Instant) -> Vec<Topics> {
        let changed = self.lists.iter().zip(LISTS).filter(|(change, _)| change.is_some_and(|change| change >= then));
        changed.map(|(_, list)| list).collect()
    }

    /// The watched resources that have changed since then, or parts of them, each once; all, where that is not known any more:
    /// who reads one again that has not changed loses nothing.
    pub(super) fn watched_since(&self, then: Instant, interests: &Interests) -> Vec<Box<str>> {
        let all = self.forgotten.is_some_and(|forgotten| forgotten >= then);
        let recent: Vec<_> = self.updated.iter().filter(|(_, changed)| **changed >= then).map(|(key, _)| key).collect();
        let has_changed = |watch: &Watch| recent.iter().any(|(uri, only)| watch.is_told(uri, *only));
        interests.iter().filter(|watch| all || has_changed(watch)).map(|watch| watch.uri.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::guard::Seats;
    use crate::upstream::Upstream;

    fn updated(uri: impl Into<Box<str>>, only: Option<u128>) -> News {
        News { topic: Topics::UPDATED.0, subject: Some(uri.into()), only }
    }

    fn watching(uris: &[&str]) -> Interests {
        let (places, upstream) = (Seats::new(9), Arc::new(Upstream::new("it", false)));
        let mut interests = Interests::default();
        for uri in uris {
            interests.watch(Watch::new(&upstream, uri, 7, places.take().expect("room")));
        }
        interests
    }

    #[test]
    fn what_is_watched_and_has_changed_since_is_told_once_with_its_parts() {
        let (mut missed, began) = (Missed::new(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        for (uri, only, seconds) in [
            ("a:b", None, 1),
            ("a:c", None, 3),
            ("a:d/1", None, 3),
            ("a:d/2", None, 3),
            ("a:e", Some(7), 3),
            ("a:f", Some(8), 3),
        ] {
            missed.note(&updated(uri, only), at(seconds));
        }
        let interests = watching(&["a:b", "a:c", "a:d", "a:e", "a:f", "a:g"]);
        let since = |missed: &Missed, seconds| missed.watched_since(at(seconds), &interests).join(" ");
        assert_eq!(since(&missed, 2), "a:c a:d a:e");
        assert_eq!(since(&missed, 0), "a:b a:c a:d a:e");
        assert_eq!(since(&missed, 4), "");
        missed.note(&updated("a:b", None), at(5));
        assert_eq!(since(&missed, 4), "a:b");
    }

    #[test]
    fn what_is_too_much_to_be_known_by_name_is_told_as_all() {
        for (count, pad) in [(UPDATED_MAX + 1, 0), (255, 1_024)] {
            let (mut missed, began) = (Missed::new(), Instant::now());
            let interests = watching(&["a:b", "a:c"]);
            for number in 0..count {
                assert!(missed.watched_since(began, &interests).is_empty());
                missed.note(&updated(format!("x:{number}{}", "x".repeat(pad)), None), began);
            }
            assert!(missed.updated.is_empty() && missed.bytes == 0);
            assert_eq!(missed.watched_since(began, &interests).len(), 2);
            assert!(missed.watched_since(began + Duration::from_secs(1), &interests).is_empty());
        }
    }
}
