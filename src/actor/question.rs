//! A request that goes the other way: a server asks a client, mostly the one of one of its calls.

use std::sync::Arc;

use super::Unread;

/// Whoever asks, as those see it who carry the question. Called on any thread: must be cheap.
pub trait Asks: Send + Sync {
    /// What became of the question under `slot`; told once.
    fn replied(&self, slot: u64, reply: Reply);

    /// A step of the client towards its reply: the members of `params` of a progress notification, without the token.
    /// `unread` is dropped when that is read.
    fn progressed(&self, slot: u64, fragment: String, unread: Unread);
}

/// Moved to the client's connection. [`Self::settle`] consumes it; dropping it replies [`Reply::Gone`], so that no server
/// waits for a client that has left.
#[must_use = "dropping a question tells the server that its client is gone"]
pub struct Question {
    /// The method, such as `elicitation/create`.
    pub method: Box<str>,
    /// The raw JSON of `params`.
    pub params: Option<Box<str>>,
    is: Name,
    steps: Unread,
    settled: bool,
}

/// Which question: who has asked it, and under which slot.
#[derive(Clone)]
pub struct Name {
    asker: Arc<dyn Asks>,
    slot: u64,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The raw JSON of `result`.
    Result(Vec<u8>),
    /// The raw JSON of `error`.
    Error(Vec<u8>),
    /// The client left, or cannot be asked this.
    Gone,
}

impl Name {
    /// `slot` must not be used again by `asker`.
    pub fn new(asker: Arc<dyn Asks>, slot: u64) -> Self {
        Self { asker, slot }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.slot == other.slot && Arc::ptr_eq(&self.asker, &other.asker)
    }
}

impl Question {
    /// What is asked, and which question it is.
    pub fn new(method: impl Into<Box<str>>, params: Option<Box<str>>, is: Name) -> Self {
        Self { method: method.into(), params, is, steps: Unread::default(), settled: false }
    }

    /// Whether it is the one of this name.
    #[must_use]
    pub fn is(&self, name: &Name) -> bool {
        self.is == *name
    }

    /// Hands the client's reply to whoever asked.
    pub fn settle(mut self, reply: Reply) {
        self.settled = true;
        self.is.asker.replied(self.is.slot, reply);
    }

    /// Whoever asked does not want to know any more.
    pub fn forget(mut self) {
        self.settled = true;
    }

    /// Tells whoever asked that the client is at work on it. Of more than [`super::Ticket::UNREAD_MAX`] steps that nobody
    /// has read the last are lost: the next one says the same, later.
    pub fn progress(&self, fragment: String) {
        if let Some(unread) = self.steps.mark() {
            self.is.asker.progressed(self.is.slot, fragment, unread);
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.settled {
            self.is.asker.replied(self.is.slot, Reply::Gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Asker {
        replies: Mutex<Vec<(u64, Reply)>>,
        steps: Mutex<Vec<(String, Unread)>>,
    }

    impl Asks for Asker {
        fn replied(&self, slot: u64, reply: Reply) {
            self.replies.lock().unwrap().push((slot, reply));
        }

        fn progressed(&self, _slot: u64, fragment: String, unread: Unread) {
            self.steps.lock().unwrap().push((fragment, unread));
        }
    }

    fn question(asker: &Arc<Asker>, slot: u64) -> Question {
        Question::new("roots/list", None, Name::new(Arc::clone(asker) as Arc<dyn Asks>, slot))
    }

    #[test]
    fn a_question_is_replied_to_once_also_when_it_is_dropped_and_not_when_it_is_taken_back() {
        let asker = Arc::new(Asker::default());
        question(&asker, 1).settle(Reply::Result(b"{}".to_vec()));
        drop(question(&asker, 2));
        question(&asker, 3).forget();
        assert_eq!(*asker.replies.lock().unwrap(), [(1, Reply::Result(b"{}".to_vec())), (2, Reply::Gone)]);
    }

    #[test]
    fn questions_of_two_servers_under_the_same_slot_are_two() {
        let [one, two] = [(); 2].map(|()| Arc::new(Asker::default()));
        let asked = question(&one, 1);
        assert!(asked.is(&Name::new(Arc::clone(&one) as Arc<dyn Asks>, 1)));
        assert!(!asked.is(&Name::new(Arc::clone(&one) as Arc<dyn Asks>, 2)));
        assert!(!asked.is(&Name::new(two, 1)));
    }

    #[test]
    fn steps_that_nobody_reads_are_bounded() {
        let asker = Arc::new(Asker::default());
        let question = question(&asker, 1);
        for step in 0..100 {
            question.progress(format!("\"progress\":{step}"));
        }
        let steps = std::mem::take(&mut *asker.steps.lock().unwrap());
        assert_eq!(steps.len(), super::super::Ticket::UNREAD_MAX as usize);
        drop(steps);
        question.progress("\"progress\":100".into());
        assert_eq!(asker.steps.lock().unwrap().len(), 1);
    }
}
