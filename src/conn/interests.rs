//! What a client wants to be told, or has going at a server, beyond its calls: each ends by being dropped.

use std::sync::Arc;

use crate::guard::Seat;
use crate::upstream::{Errand, Loud, Upstream};

/// Of one client. Few have any, so it is there only for those.
#[derive(Default)]
pub(super) struct Interests {
    /// The resources it watches.
    pub(super) watches: Vec<Watch>,
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
    _place: Seat,
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
        self.watches.retain(|watch| &*watch.uri != uri || Arc::ptr_eq(&watch.upstream, upstream));
        self.watches(uri)
    }

    /// It watches this resource no longer.
    pub(super) fn forget(&mut self, uri: &str) {
        self.watches.retain(|watch| &*watch.uri != uri);
    }
}

impl Watch {
    /// Counted by whoever asks the server: this only ends it.
    pub(super) fn new(upstream: &Arc<Upstream>, uri: &str, client: u128, place: Seat) -> Self {
        Self { uri: uri.into(), upstream: Arc::clone(upstream), client, _place: place }
    }

    /// Whether it is about this resource, and its client may be told: all may, or `only` this one.
    pub(super) fn is_told(&self, uri: &str, only: Option<u128>) -> bool {
        &*self.uri == uri && only.is_none_or(|only| only == self.client)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.upstream.post(Errand::Unwatch { uri: std::mem::take(&mut self.uri), client: self.client });
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
            interests.watches.push(Watch::new(&old, uri, 1, places.take().expect("room")));
        }
        assert!(interests.watches_at(&old, "a:b") && !interests.watches_at(&old, "a:d"));
        assert!(!interests.watches_at(&new, "a:b"));
        assert!(interests.watches("a:c") && !interests.watches("a:b"));
        assert_eq!(places.taken(), 1, "the one of the past is over");
    }
}
