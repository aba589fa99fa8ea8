//! The life of a client over Streamable HTTP: requests and their answers, one after the other, then an open stream.
//!
//! What it says while its connection is that stream goes over a messenger's: a ping of its session, the end of it; in
//! 2026-07-28, which has neither sessions nor pings, another call.

use super::super::http::{self, About, Answer};
use super::super::script::{self, Heard, Who};
use super::{Life, Phase};
use crate::cli::simulate::Dialect;
use crate::cli::simulate::order::{Cause, Death};

impl Life {
    /// The first request: a handshake, or the call where there is none.
    pub(super) fn begin(&mut self, who: Who, out: &mut Vec<u8>) {
        if self.dialect == Dialect::Http {
            self.phase = Phase::Initializing;
            self.post(who, About::First, script::initialize, out);
        } else {
            self.phase = Phase::Calling;
            self.call(who, out);
        }
    }

    /// Asks for an answer that only a living session gives, or any gateway of 2026-07-28.
    pub(super) fn ask(&self, who: Who, out: &mut Vec<u8>) {
        if self.dialect == Dialect::Http {
            self.post(who, self.about(), |out| script::ping(out, who), out);
        } else {
            self.call(who, out);
        }
    }

    /// Asks for the end of its session; false if it has none.
    pub(super) fn end_session(&self, who: Who, out: &mut Vec<u8>) -> bool {
        if self.session.is_some() {
            http::request("DELETE", who, self.about(), b"", out);
        }
        self.session.is_some()
    }

    /// What came on this client's own connection: answers until there is a stream, then events.
    pub(super) fn hear_http(&mut self, bytes: &[u8], who: Who, out: &mut Vec<u8>) -> Result<usize, Death> {
        match self.phase {
            // The stream ends with the session.
            Phase::Leaving => Ok(bytes.len()),
            Phase::Subscribing | Phase::Idle | Phase::Awaiting => self.hear_events(bytes, who),
            Phase::Pinging | Phase::Recalling | Phase::Fetching | Phase::Mistaken => self.hear_events(bytes, who),
            _ => self.hear_answer(bytes, who, out),
        }
    }

    /// What came on a messenger's connection: the answer to [`Life::ping`] or [`Life::leave`].
    pub(in super::super) fn hear_errand(&mut self, bytes: &[u8], who: Who) -> Result<usize, Death> {
        let Some((Answer::Whole { body, .. }, length)) = http::answer(bytes, false)? else { return Ok(0) };
        match (self.phase, self.dialect) {
            (Phase::Leaving, _) => self.phase = Phase::Gone,
            (Phase::Fetching, _) => {
                only(script::hear_blob(&body, who, &mut Vec::new())?, &body)?;
                self.phase = Phase::Idle;
            }
            (Phase::Mistaken, _) => {
                only(script::hear_refusal(&body, who, &mut Vec::new())?, &body)?;
                self.phase = Phase::Idle;
            }
            (Phase::Pinging, Dialect::Http) => {
                only(script::hear_ping(&body, who, &mut Vec::new())?, &body)?;
                self.phase = Phase::Idle;
            }
            _ => {
                only(script::hear_call(&body, who, &mut Vec::new())?, &body)?;
                self.phase = Phase::Idle;
            }
        }
        Ok(length)
    }

    fn hear_answer(&mut self, bytes: &[u8], who: Who, out: &mut Vec<u8>) -> Result<usize, Death> {
        let Some((answer, length)) = http::answer(bytes, self.phase == Phase::Opening)? else { return Ok(0) };
        match (self.phase, answer) {
            (Phase::Initializing, Answer::Whole { session, body, .. }) => {
                only(script::hear_initialize(&body, &mut Vec::new())?, &body)?;
                self.session = session.map(Box::from);
                self.phase = Phase::Confirming;
                self.post(who, self.about(), script::initialized, out);
            }
            (Phase::Confirming, Answer::Whole { status: 202, .. }) => {
                self.phase = Phase::Calling;
                self.call(who, out);
            }
            (Phase::Calling, Answer::Whole { body, .. }) => {
                only(script::hear_call(&body, who, &mut Vec::new())?, &body)?;
                self.phase = Phase::Opening;
                self.open(who, out);
            }
            (Phase::Opening, Answer::Stream { chunked }) => {
                self.chunked = chunked;
                self.phase = if self.dialect == Dialect::Http { Phase::Idle } else { Phase::Subscribing };
            }
            (phase, _) => {
                let detail = format!("while {phase:?}: {}", script::excerpt(bytes));
                return Err(Death::new(Cause::WrongAnswer, detail));
            }
        }
        Ok(length)
    }

    fn hear_events(&mut self, bytes: &[u8], who: Who) -> Result<usize, Death> {
        let Some((events, length)) = http::events(self.chunked, bytes)? else { return Ok(0) };
        for message in events {
            if self.phase == Phase::Subscribing {
                script::hear_acknowledged(&message, who)?;
                self.phase = Phase::Idle;
            } else if !self.is_told(&message, who)? {
                // What the gateway asks on the stream stays without an answer.
                script::hear_idle(&message, &mut Vec::new())?;
            }
        }
        Ok(length)
    }

    pub(super) fn post_tool(&self, who: Who, tool: script::Tool, out: &mut Vec<u8>) {
        let modern = self.dialect == Dialect::Listen;
        let about = if modern { About::Modern("tools/call", Some(tool.name)) } else { self.about() };
        self.post(who, about, |out| script::call_tool(out, who, tool, modern), out);
    }

    pub(super) fn call(&self, who: Who, out: &mut Vec<u8>) {
        let modern = self.dialect == Dialect::Listen;
        let about = if modern { About::Modern("tools/call", Some("echo")) } else { self.about() };
        self.post(who, about, |out| script::call(out, who, modern), out);
    }

    fn open(&self, who: Who, out: &mut Vec<u8>) {
        if self.dialect == Dialect::Http {
            http::request("GET", who, self.about(), b"", out);
        } else {
            self.post(who, About::Modern("subscriptions/listen", None), |out| script::listen(out, who), out);
        }
    }

    fn about(&self) -> About<'_> {
        About::Session(self.session.as_deref())
    }

    fn post(&self, who: Who, about: About<'_>, write: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(512);
        write(&mut body);
        http::request("POST", who, about, &body, out);
    }
}

/// The one message of an answer must be what was asked for.
fn only(heard: Heard, body: &[u8]) -> Result<(), Death> {
    match heard {
        Heard::Answer => Ok(()),
        Heard::Aside => Err(Death::new(Cause::WrongAnswer, format!("no answer: {}", script::excerpt(body)))),
    }
}
