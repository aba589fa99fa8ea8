//! A request that goes the other way: a server asks the client of one of its calls.

/// Moved to the client's connection. [`Self::settle`] consumes it; dropping it replies [`Reply::Gone`], so that no server
/// waits for a client that has left.
#[must_use = "dropping a question tells the server that its client is gone"]
pub struct Question {
    /// The method, such as `elicitation/create`.
    pub method: Box<str>,
    /// The raw JSON of `params`.
    pub params: Option<Box<str>>,
    reply: Option<Box<dyn FnOnce(Reply) + Send>>,
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

impl Question {
    /// `reply` is called once, on any thread, and must be cheap.
    pub fn new(
        method: impl Into<Box<str>>,
        params: Option<Box<str>>,
        reply: impl FnOnce(Reply) + Send + 'static,
    ) -> Self {
        Self { method: method.into(), params, reply: Some(Box::new(reply)) }
    }

    /// Hands the client's reply to whoever asked.
    pub fn settle(mut self, reply: Reply) {
        self.reply_with(reply);
    }

    fn reply_with(&mut self, reply: Reply) {
        if let Some(tell) = self.reply.take() {
            tell(reply);
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.reply_with(Reply::Gone);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_question_is_replied_to_once_also_when_it_is_dropped() {
        let (tell, told) = mpsc::sync_channel(2);
        let question = |tell: mpsc::SyncSender<Reply>| {
            Question::new("roots/list", None, move |reply| tell.try_send(reply).expect("one reply"))
        };
        question(tell.clone()).settle(Reply::Result(b"{}".to_vec()));
        drop(question(tell));
        assert_eq!(told.into_iter().collect::<Vec<_>>(), [Reply::Result(b"{}".to_vec()), Reply::Gone]);
    }
}
