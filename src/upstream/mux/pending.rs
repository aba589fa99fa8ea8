//! What waits for a server's answer, and what a server waits for.

use std::time::Instant;

use crate::actor::{Answer, Reply};
use crate::mcp::{List, Parcel};
use crate::upstream::handle::{Client, Task};

/// One request that the server has not answered.
pub(super) struct Pending {
    pub(super) work: Work,
    /// When it came.
    pub(super) arrived: Instant,
    /// How often it was sent, to any link.
    pub(super) attempts: u8,
    /// Whether its client has heard of it already.
    pub(super) told: bool,
    /// Whether its server had to wait for somebody.
    pub(super) waited: bool,
    /// When it was sent first.
    pub(super) since: Instant,
    /// When the server last said something about it.
    pub(super) heard: Instant,
    /// How much had been put on the link before it.
    pub(super) offset: u64,
    /// The length of its text.
    pub(super) bytes: u32,
    /// Whether it was sent once before, and surely not processed.
    pub(super) repeated: bool,
    /// How often a modern server has asked for input.
    pub(super) rounds: u8,
    /// How many questions of the server about it wait for a reply.
    pub(super) asked: u8,
    /// The input for the next round.
    pub(super) input: Option<Box<Input>>,
}

pub(super) enum Work {
    /// A client's call.
    Call(Box<Task>),
    /// A call of a modern client that was told what its legacy server asks; until the client tries again.
    Parked(Box<Parked>),
    /// Our own request.
    Own(Own, std::time::Duration),
}

pub(super) struct Parked {
    pub(super) parcel: Parcel,
    pub(super) client: Client,
    /// Until when the client may come back.
    pub(super) until: Instant,
    /// What its server has answered meanwhile.
    pub(super) answer: Option<Answer>,
}

/// What we ask for ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) enum Own {
    /// Which era, and what it can do.
    Probe,
    /// The same, asked before and not answered in time: a late word on it still counts.
    LateProbe,
    /// A page of a list.
    Page(List),
    /// A level of log messages.
    SetLevel,
    /// To be told when a resource changes.
    Subscribe(Box<str>),
    /// No longer.
    Unsubscribe(Box<str>),
    /// A stream of changes.
    Listen,
}

/// What a modern server has asked for, as far as it has come.
pub(super) struct Input {
    /// Each name, with the raw JSON of the response.
    pub(super) responses: Vec<(Box<str>, Option<Box<str>>)>,
    pub(super) missing: usize,
    /// The raw JSON string to give back.
    pub(super) state: Option<Box<str>>,
}

/// A question that waits for a client's reply.
pub(super) struct Asked {
    /// The call that it belongs to; on a session of a single client there may be none.
    pub(super) call: Option<u64>,
    pub(super) since: Instant,
    pub(super) by: By,
}

pub(super) enum By {
    /// A request of a legacy server, with the raw JSON of its id.
    Request { id: Box<str>, method: Box<str>, params: Option<Box<str>> },
    /// Part of a modern server's result: the place in [`Input::responses`].
    Result(usize),
}

/// What is to be said when the link can be written to again.
pub(super) enum Later {
    /// A response to the server.
    Respond(Vec<u8>),
    /// A call, once more.
    Resend(u64),
    /// That nobody waits for this number any more.
    Cancelled(u64),
}

impl Pending {
    pub(super) fn new(work: Work, now: Instant) -> Self {
        Self {
            work,
            arrived: now,
            attempts: 0,
            told: false,
            waited: false,
            since: now,
            heard: now,
            offset: 0,
            bytes: 0,
            repeated: false,
            rounds: 0,
            asked: 0,
            input: None,
        }
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(self.work, Work::Own(..))
    }

    pub(super) fn parcel(&self) -> Option<&Parcel> {
        match &self.work {
            Work::Call(task) => Some(&task.parcel),
            Work::Parked(parked) => Some(&parked.parcel),
            Work::Own(..) => None,
        }
    }

    pub(super) fn client(&self) -> Option<&Client> {
        match &self.work {
            Work::Call(task) => Some(&task.client),
            Work::Parked(parked) => Some(&parked.client),
            Work::Own(..) => None,
        }
    }
}

/// Appends the response to a server's request.
pub(super) fn respond(out: &mut Vec<u8>, id: &str, reply: &Reply) {
    let (key, value): (&[u8], &[u8]) = match reply {
        Reply::Result(result) => (br#","result":"#, result),
        Reply::Error(error) => (br#","error":"#, error),
        Reply::Gone => (br#","error":"#, br#"{"code":-32603,"message":"The client that could have replied is gone"}"#),
    };
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    out.push(b'}');
}
