//! The one door into a shard: letters for its actors and orders for the shard itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

use crossbeam_queue::SegQueue;

use super::{Question, QuestionName, Resident, Unread};
use crate::pool::Key;

/// What may be posted to a shard.
pub enum Mail {
    /// A letter for one actor. Dropped when the actor is gone: its key finds nothing any more.
    Letter(Key, Letter),
    /// Something the shard itself is to do.
    Order(Order),
}

/// What an upstream tells the actor whose call it serves. `call` is the number on the [`super::Ticket`].
pub enum Letter {
    /// The call's one answer.
    Answer { call: u64, answer: Answer },
    /// A step on the way: the members of `params` of a progress notification, without the token.
    Progress { call: u64, fragment: String },
    /// A notification that belongs to the call: a whole JSON-RPC text.
    Notice { call: u64, message: Vec<u8> },
    /// The server asks the client something, for a call. Boxed: it is rare, and all mail is as large as the largest.
    Ask { call: u64, question: Box<Question> },
    /// Something beside the calls.
    Word(Word),
    /// From another connection of the same client: over HTTP one client has several. `to` says what it is for: the
    /// connection may serve another client when the letter comes.
    Sibling { to: u32, sibling: Sibling },
}

/// What a server says to a client without its being part of a call.
pub enum Word {
    /// It asks something that belongs to none of the client's calls.
    Ask(Box<Question>),
    /// It takes back what it has asked, for a call or for none; `reason` is a raw JSON string.
    TakeBack { question: QuestionName, reason: Option<Box<str>>, unread: Unread },
    /// A notification, a whole JSON-RPC text; with a level, for clients that want to hear so much. Which levels there are is
    /// the tenants' affair: a greater one matters more.
    Notice { message: Vec<u8>, level: Option<u8>, unread: Unread },
}

/// What one connection of a client tells another one of the same session.
pub enum Sibling {
    /// A message that came in there and belongs here: a cancellation, a reply to a question, or any message where this
    /// connection carries all answers.
    Message(Box<str>),
    /// The event with this number, of a POST's stream that is read on here; `last` ends it.
    Event { stream: u32, number: u32, message: Box<[u8]>, last: bool },
    /// A server says something to the client that belongs to none of its calls.
    Word(Word),
    /// Another stream of the client has taken this one's place, or what it carried is over.
    Replaced,
    /// The session has ended.
    Ended,
}

/// Something that changed, for all actors that asked to be told. Which topics there are is the tenants' affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// One bit.
    pub topic: u8,
    /// What it is about, where the topic has subjects.
    pub subject: Option<Box<str>>,
    /// The one client that it is for, where it is not for all who asked.
    pub only: Option<u128>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The raw JSON of `result`.
    Result(Vec<u8>),
    /// The raw JSON of `error`.
    Error(Vec<u8>),
    /// The ticket was dropped unanswered: whoever held it died.
    Abandoned,
}

/// What a shard itself can be told to do.
pub enum Order {
    /// Open the doors: take newcomers from now on.
    Open,
    /// Leave the doors to others who have them too: take no more newcomers, who wait for those.
    Leave,
    /// Shut the doors: take those who wait there, and refuse all after them.
    Shut,
    /// Let the first `per_mille` of the actors' slots go, as soon as nothing is owed to them; `gently`: not while they
    /// are talking. Once all have gone, end.
    Drain { per_mille: u16, gently: bool },
    /// End now.
    Stop,
    /// Report the `most` largest and the `most` busiest actors. Nobody waits for a shard that cannot answer: the
    /// channel closes.
    Census { most: usize, reply: SyncSender<Vec<Resident>> },
    /// Tell all actors that asked for it, from the one behind `after` on; a shard with many does it in several turns.
    Spread { news: Arc<News>, after: Option<Key> },
    /// Give back the memory that is kept for later: there is too little.
    Shrink,
    /// Memory is short: some of those who have nothing to do are to go.
    Relieve,
    /// Panic, as a bug would: the supervision tests inject it.
    Panic,
}

/// A many-producer queue with the shard's waker: however many letters arrive between two turns of the loop, they cost
/// one wake-up.
///
/// It needs no bound of its own: an answer is posted by a [`super::Ticket`], tickets are bounded by the calls in
/// flight, and a ticket lets only [`super::Ticket::UNREAD_MAX`] letters wait besides, as an [`Unread`] does of those
/// that belong to no call; whoever asks bounds what waits for a reply, and asks no more while as many of what it has
/// taken back are [`Unread`]; news are coalesced by whoever spreads them.
pub struct Inbox {
    mail: SegQueue<Mail>,
    waker: mio::Waker,
    /// True from the first letter after a collection until the next collection.
    rung: AtomicBool,
    waiting: AtomicUsize,
}

impl Inbox {
    /// The waker must have been made before any thread left the process's shared descriptor table (design.md section
    /// 4: a wake crosses tables by the eventfd's number).
    pub fn new(waker: mio::Waker) -> Self {
        Self { mail: SegQueue::new(), waker, rung: AtomicBool::new(false), waiting: AtomicUsize::new(0) }
    }

    /// Queues `mail` and wakes the shard.
    pub fn post(&self, mail: Mail) {
        self.push(mail);
        self.ring();
    }

    /// Queues `mail` for a shard that is rung for later.
    pub(super) fn push(&self, mail: Mail) {
        self.mail.push(mail);
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Wakes the shard if nobody else has since it last looked.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a shard could not be woken; its mail waits for its next tick");
        }
    }

    /// Letters and orders not yet collected.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// To be called before [`Self::collect`]: mail posted from here on rings again.
    pub(super) fn quiet(&self) {
        // A plain store may take effect behind the look at what waits: who posts between the two would see the bell rung, and
        // nobody would come. The swap reads what the last one to ring wrote, and so sees its mail.
        self.rung.swap(false, Ordering::AcqRel);
    }

    /// The next letter or order. For the shard, and for tests that stand in for one.
    pub(crate) fn collect(&self) -> Option<Mail> {
        let mail = self.mail.pop()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(mail)
    }
}
