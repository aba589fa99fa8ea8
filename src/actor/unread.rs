//! A bound for letters that no ticket counts: how many of one origin wait to be read.

use std::sync::Arc;

use super::Ticket;

/// Whoever writes such letters keeps one, and puts a mark of it into each: the mark goes when the letter is read, or lost.
#[derive(Clone, Default)]
pub struct Unread(Arc<()>);

impl Unread {
    /// A mark for one more letter; none if as many wait as [`Ticket::UNREAD_MAX`].
    #[must_use]
    pub fn mark(&self) -> Option<Self> {
        // The one that is kept counts, too.
        (Arc::strong_count(&self.0) <= Ticket::UNREAD_MAX as usize).then(|| self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_wait_as_may_and_one_that_is_read_makes_room() {
        let unread = Unread::default();
        let mut marks: Vec<_> = std::iter::from_fn(|| unread.mark()).collect();
        assert_eq!(marks.len(), Ticket::UNREAD_MAX as usize);
        marks.pop();
        assert!(unread.mark().is_some());
    }
}
