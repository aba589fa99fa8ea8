//! What comes for a client from elsewhere: answers, progress, notices, questions, news.

use super::calls::{Asked, Calls, Pending, Work};
use super::service::Talk;
use super::turn::{Guest, Mcp};
use crate::actor::{Answer, Letter, News, Question, Word};
use crate::mcp::{Fault, Level, Phase, Topics, answer, progress};
use crate::wire::envelope::Id;

/// Questions that may wait for one client's replies.
const ASKED_MAX: usize = 16;

impl Guest {
    /// Whether a legacy client is told: of a resource that it watches, of anything else once it is ready.
    fn is_told_without_listening(&self, news: &News) -> bool {
        match &news.subject {
            None => matches!(self.session.phase(), Phase::Ready(_)),
            Some(uri) => self.interests.as_ref().is_some_and(|interests| interests.is_told(uri, news.only)),
        }
    }
}

impl Mcp {
    /// A letter from whoever serves a call.
    pub(super) fn read(&mut self, talk: &mut Talk<'_, Guest>, letter: Letter) {
        match letter {
            Letter::Answer { call, answer } => self.hand_over(talk, call, &answer),
            Letter::Progress { call, fragment } => talk.say(|caller, out| {
                let Some(active) = caller.active else { return };
                if let Some(Work::Call { cancel, progress_token, .. }) = active.calls.find(call) {
                    cancel.letter_read();
                    if let Some(token) = progress_token {
                        answer::progress(out, token, &fragment);
                    }
                }
            }),
            Letter::Notice { call, message } => talk.say(|caller, out| {
                let Some(active) = caller.active else { return };
                if let Some(Work::Call { cancel, .. }) = active.calls.find(call) {
                    cancel.letter_read();
                    out.extend_from_slice(&message);
                }
            }),
            Letter::Ask { call, question } => self.ask(talk, Some(call), *question),
            Letter::Word(word) => self.hear(talk, word),
            // Read by the connection itself.
            Letter::Sibling { .. } => {}
        }
    }

    /// What a server says beside the calls.
    fn hear(&mut self, talk: &mut Talk<'_, Guest>, word: Word) {
        match word {
            Word::Ask(question) => self.ask(talk, None, *question),
            Word::TakeBack { question, reason, .. } => {
                let calls = talk.caller.active.as_mut().map(|active| &mut active.calls);
                if let Some(number) = calls.and_then(|calls| calls.take_back(&question)) {
                    talk.say(|_, out| answer::cancelled(out, number, reason.as_deref()));
                }
            }
            Word::Notice { message, level, .. } => {
                let least = talk.caller.session.session.level().unwrap_or(Level::UNSAID);
                if level.is_none_or(|level| level >= least as u8) {
                    talk.say(|_, out| out.extend_from_slice(&message));
                }
            }
        }
    }

    /// The one answer of a call. Not waited for any more: it was cancelled meanwhile.
    fn hand_over(&mut self, talk: &mut Talk<'_, Guest>, call: u64, answer: &Answer) {
        // Whatever else was asked for it is void: the client need not go on with that.
        let void = talk.caller.active.as_mut().map(|active| active.calls.forget_asked(call));
        for number in void.into_iter().flatten() {
            talk.say(|_, out| answer::cancelled(out, number, Some("\"The call is over\"")));
        }
        talk.say(|caller, out| {
            let Some(active) = caller.active else { return };
            let Some(mut pending) = active.calls.take(call) else { return };
            if let Work::Call { watch, .. } = &mut pending.work
                && let Some(watch) = watch.take()
                && matches!(answer, Answer::Result(_))
            {
                caller.session.interests.get_or_insert_default().watch(watch);
            }
            let write = |out: &mut Vec<u8>| self.answer(out, &pending, answer);
            match pending.batch {
                None => write(out),
                Some(number) => {
                    if let Some(answers) = active.calls.settle_batched(number, write) {
                        out.extend_from_slice(&answers);
                    }
                }
            }
        });
    }

    /// A server asks the client; one that has let go of the call, or was asked too much, is gone for it.
    fn ask(&mut self, talk: &mut Talk<'_, Guest>, call: Option<u64>, question: Question) {
        let calls = talk.caller.calls();
        if call.is_some_and(|call| calls.find(call).is_none()) {
            return;
        }
        if calls.asked() >= ASKED_MAX {
            let Some(oldest) = calls.forget_unowned() else { return };
            talk.say(|_, out| answer::cancelled(out, oldest, Some("\"Too many questions wait\"")));
        }
        let number = self.number();
        talk.say(|caller, out| {
            // Other servers may have the same token.
            let params = question.params.as_deref();
            let own = params.and_then(|params| progress::with_token(params, number));
            answer::request(out, number, &question.method, own.as_deref().or(params));
            caller.calls().ask(Asked { number, call, question });
        });
    }

    /// Whether a client is to be told the news: it has asked for them, or is of the era that is told unasked.
    pub(super) fn wants(guest: &Guest, calls: Option<&Calls>, news: &News) -> bool {
        guest.is_told_without_listening(news) || calls.is_some_and(|calls| calls.listening(news).next().is_some())
    }

    /// Tells the news, once for each way in which the client has asked for them.
    pub(super) fn tell(&mut self, talk: &mut Talk<'_, Guest>, news: &News) {
        let (topic, uri) = (Topics(news.topic), news.subject.as_deref());
        if talk.caller.session.is_told_without_listening(news) {
            talk.say(|_, out| answer::changed(out, topic, uri, None));
        }
        let calls = talk.caller.active.as_ref().map(|active| &active.calls);
        let ids: Vec<Box<str>> =
            calls.into_iter().flat_map(|calls| calls.listening(news)).map(|id| id.raw().into()).collect();
        for id in ids {
            talk.say(|_, out| answer::changed(out, topic, uri, Id::from_raw(&id).ok()));
        }
    }

    /// We end: the subscriptions are closed in form.
    pub(super) fn end_subscriptions(&mut self, talk: &mut Talk<'_, Guest>) {
        let Some(active) = talk.caller.active.as_mut() else { return };
        for id in active.calls.take_listens() {
            talk.say(|_, out| {
                if let Ok(id) = Id::from_raw(&id) {
                    answer::listen_closed(out, id);
                }
            });
        }
    }

    fn answer(&self, out: &mut Vec<u8>, pending: &Pending, answer: &Answer) {
        let Ok(id) = Id::from_raw(&pending.id) else { return };
        match answer {
            Answer::Result(result) => answer::result(out, id, result),
            Answer::Error(error) => answer::error_around(out, id, error),
            Answer::Abandoned => self.fault(out, Some(id), Fault::Abandoned),
        }
    }
}
