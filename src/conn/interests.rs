//! What a client wants to be told, or has going at a server, beyond its calls: each ends by being dropped.

use std::sync::Arc;

use crate::guard::Seat;
use crate::mcp;
use crate::upstream::{Errand, Loud, Upstream};

/// Of one client. Few have any, so it is there only for those.
#[derive(Default)]
pub(super) struct Interests {
    /// The resources it watches.
    watches: Vec<Watch>,
    /// Bytes of these.
    watched: usize,
    /// How talkative it wants the servers to be.
    pub(super) loud: Option<Loud>,
    /// The sessions of its own.
    visits: Vec<Visit>,
}

/// One resource that a client wants to be told of.
pub(super) struct Watch {
    pub(super) uri: Box<str>,
    upstream: Arc<Upstream>,
    client: u128,
    /// Held on until its server has heard that it is over: so many of these wait there at most.
    place: Option<Seat>,
}

/// A session of its own at one server.
struct Visit {
    upstream: Arc<Upstream>,
    client: u128,
}

impl Interests {
    /// Notes that the client has a session of its own there, so that it ends with the client.
    pub(super) fn visit(&mut self, upstream: &Arc<Upstream>, client: u128) {
        if !self.visits.iter().any(|visit| Arc::ptr_eq(&visit.upstream, upstream)) {
            self.visits.push(Visit { upstream: Arc::clone(upstream), client });
        }
    }

    /// Tells the servers with a session of its own that its roots have changed.
    pub(super) fn roots_changed(&self) {
        for visit in &self.visits {
            visit.upstream.post(Errand::RootsChanged { client: visit.client });
        }
    }

    /// It watches one more resource.
    pub(super) fn watch(&mut self, watch: Watch) {
        watch.hold();
        self.watched += watch.bytes();
        self.watches.push(watch);
    }

    /// The resources it watches.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Watch> {
        self.watches.iter()
    }

    /// How many resources it watches.
    pub(super) fn watching(&self) -> usize {
        self.watches.len()
    }

    /// Bytes that it takes; counted as they come and go, as it is asked for at each message.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.watched + self.visits.capacity() * size_of::<Visit>()
    }

    /// Whether it watches this resource.
    pub(super) fn watches(&self, uri: &str) -> bool {
        self.watches.iter().any(|watch| &*watch.uri == uri)
    }

    /// Whether it is told of this resource: `only` one client may be.
    pub(super) fn is_told(&self, uri: &str, only: Option<u128>) -> bool {
        self.watches.iter().any(|watch| watch.is_told(uri, only))
    }

    /// Whether it watches this resource there; what it watches at another server of that name is one of the past.
    pub(super) fn watches_at(&mut self, upstream: &Arc<Upstream>, uri: &str) -> bool {
        self.keep(|watch| &*watch.uri != uri || Arc::ptr_eq(&watch.upstream, upstream));
        self.watches(uri)
    }

    /// It watches this resource no longer.
    pub(super) fn forget(&mut self, uri: &str) {
        self.keep(|watch| &*watch.uri != uri);
    }

    fn keep(&mut self, stays: impl Fn(&Watch) -> bool) {
        let Self { watches, watched, .. } = self;
        for gone in watches.extract_if(.., |watch| !stays(watch)) {
            gone.let_go();
            *watched -= gone.bytes();
        }
    }
}

impl Watch {
    /// Counted by whoever asks the server: this only ends it.
    pub(super) fn new(upstream: &Arc<Upstream>, uri: &str, client: u128, place: Seat) -> Self {
        Self { uri: uri.into(), upstream: Arc::clone(upstream), client, place: Some(place) }
    }

    /// Whether it is about this resource, and its client may be told: all may, or `only` this one.
    pub(super) fn is_told(&self, uri: &str, only: Option<u128>) -> bool {
        mcp::is_part(uri, &self.uri) && only.is_none_or(|only| only == self.client)
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.uri.len()
    }

    fn hold(&self) {
        self.place.iter().for_each(|place| place.hold(self.bytes()));
    }

    fn let_go(&self) {
        self.place.iter().for_each(|place| place.let_go(self.bytes()));
    }
}

impl Drop for Interests {
    fn drop(&mut self) {
        self.keep(|_| false);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let (uri, place) = (std::mem::take(&mut self.uri), self.place.take());
        self.upstream.post(Errand::Unwatch { uri, client: self.client, place });
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.upstream.post(Errand::Leave { client: self.client });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Seats;

    #[test]
    fn what_is_watched_at_a_server_that_was_started_anew_is_asked_for_again() {
        let places = Seats::new(4);
        let [old, new] = [(); 2].map(|()| Arc::new(Upstream::new("it", false)));
        let mut interests = Interests::default();
        for uri in ["a:b", "a:c"] {
            interests.watch(Watch::new(&old, uri, 1, places.take().expect("room")));
        }
        assert!(interests.watches_at(&old, "a:b") && !interests.watches_at(&old, "a:d"));
        assert!(!interests.watches_at(&new, "a:b"));
        assert!(interests.watches("a:c") && !interests.watches("a:b"));
        assert_eq!(places.taken(), 2, "the one of the past is over as soon as its server has heard so");
        drop((interests, old));
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn its_bytes_are_counted_as_it_watches_and_no_longer() {
        let places = Seats::new(4);
        let upstream = Arc::new(Upstream::new("it", false));
        let (mut interests, none) = (Interests::default(), Interests::default().bytes());
        for uri in ["a:b", "a:longer"] {
            interests.watch(Watch::new(&upstream, uri, 1, places.take().expect("room")));
        }
        assert_eq!(places.held(), 2 * size_of::<Watch>() + 11);
        assert_eq!(interests.bytes() - none, places.held());
        interests.forget("a:b");
        interests.forget("a:b");
        assert_eq!((places.held(), interests.watching()), (size_of::<Watch>() + 8, 1));
        drop(interests);
        assert_eq!((places.held(), places.taken()), (0, 2), "its server has not heard of it");
        drop(upstream);
        assert_eq!(places.taken(), 0);
    }
}
