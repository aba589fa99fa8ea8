//! What becomes of a post to the webhook: taken, tried again later, or given up.

use std::time::Duration;

/// The first pause before another try; it doubles from try to try.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

crate::named! {
    /// What became of a post.
    pub enum Posting {
        /// The receiver has it.
        Taken = "taken",
        /// It failed, and was tried again.
        Retried = "retried",
        /// The receiver does not want it: to try again would not help.
        Refused = "refused",
        /// It failed as often as it may.
        GivenUp = "given_up",
        /// Too many waited; it was never tried.
        Dropped = "dropped",
    }
}

/// The tries of one post.
#[derive(Debug)]
pub struct Tries {
    left: u32,
    pause: Duration,
}

/// What to do after a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is over.
    End(Posting),
    /// Try again after this time, and somewhat more, so that many do not come at once.
    Again(Duration),
}

impl Tries {
    /// So many, but one at least.
    #[must_use]
    pub const fn new(most: u32) -> Self {
        Self { left: most.saturating_sub(1), pause: PAUSE }
    }

    /// The status that the receiver answered, or nothing where it did not.
    pub fn tried(&mut self, status: Option<u16>) -> Next {
        match status {
            Some(200..=299) => return Next::End(Posting::Taken),
            // Too slow, too early, too many, or trouble of its own: it may pass.
            None | Some(408 | 425 | 429 | 500..=599) => {}
            Some(_) => return Next::End(Posting::Refused),
        }
        if self.left == 0 {
            return Next::End(Posting::GivenUp);
        }
        self.left -= 1;
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        Next::Again(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_ever_later_and_given_up_in_the_end() {
        let mut tries = Tries::new(8);
        let pauses: Vec<u64> = (0..7)
            .map(|_| match tries.tried(Some(503)) {
                Next::Again(pause) => pause.as_secs(),
                Next::End(end) => panic!("{end:?}"),
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(tries.tried(None), Next::End(Posting::GivenUp));
        assert_eq!(Tries::new(0).tried(None), Next::End(Posting::GivenUp));
    }

    #[test]
    fn what_is_taken_or_not_wanted_is_not_tried_again() {
        for (status, end) in [
            (200, Posting::Taken),
            (204, Posting::Taken),
            (301, Posting::Refused),
            (400, Posting::Refused),
            (404, Posting::Refused),
        ] {
            assert_eq!(Tries::new(5).tried(Some(status)), Next::End(end), "{status}");
        }
        for status in [408, 429, 500, 503] {
            assert!(matches!(Tries::new(5).tried(Some(status)), Next::Again(_)), "{status}");
        }
    }
}
