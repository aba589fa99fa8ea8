//! Bytes to messages to answers: the loop over what one socket brings, whatever its dialect.

use std::io::{self, Read};
use std::net::Shutdown;
use std::time::Duration;

use super::connection::{Connection, Stage};
use super::http::Http;
use super::service::{Message, Service};
use super::{Bench, Parting, last_words, outbox};
use crate::actor::{Desk, Readiness};
use crate::guard::Refusal;
use crate::mcp::Fault;
use crate::pool::Key;
use crate::wire::{line, ws};

/// Reads of one socket in one turn; after that the others have theirs.
const READS_A_TURN: usize = 4;

/// What one read brought.
enum Got {
    /// All there was.
    All,
    /// As much as there was room for.
    Full,
    /// Nothing: the socket is empty.
    Nothing,
}

impl<S: Service> Bench<S> {
    /// The socket is ready: send what waits, then read and serve.
    pub(super) fn ready(
        &mut self,
        conn: &mut Connection<S::Session>,
        desk: &mut Desk<'_>,
        key: Key,
        readiness: Readiness,
    ) -> Result<(), Parting> {
        if let Stage::Leaving { parting, .. } = conn.stage {
            return self.linger(conn, parting, desk, key);
        }
        if conn.is_detached() {
            return Ok(());
        }
        let mut readable = readiness.readable;
        if conn.has_more_requests() {
            self.serve_inbound(conn, desk, key)?;
        }
        if readiness.writable && conn.unsent() > 0 {
            outbox::send_rest(conn, &mut self.buffers, desk.now)?;
            if conn.is_paused() && conn.unsent() <= self.house.config.outbox_bytes_low {
                conn.active().paused = false;
                // Nobody listened meanwhile: its silence begins now.
                conn.heard = desk.now;
                conn.pinged = 0;
                // What came meanwhile was left in the buffer and in the socket, and no event will tell of it again.
                self.serve_inbound(conn, desk, key)?;
                readable = true;
            }
        }
        if !readable {
            return Ok(());
        }
        for _ in 0..READS_A_TURN {
            if conn.is_paused() || conn.has_pipelined_enough() || matches!(conn.stage, Stage::Leaving { .. }) {
                return Ok(());
            }
            match self.read(conn, desk, key)? {
                Got::Full => {}
                Got::All if readiness.read_closed => {}
                Got::All | Got::Nothing => return Ok(()),
            }
        }
        desk.again(key);
        Ok(())
    }

    /// One read and all that it completes; the answers leave in one write.
    fn read(&mut self, conn: &mut Connection<S::Session>, desk: &mut Desk<'_>, key: Key) -> Result<Got, Parting> {
        let n = match conn.socket.read(&mut self.scratch) {
            Ok(0) => return Err(at_the_end(conn)),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Got::Nothing),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Got::Full),
            Err(_) => return Err(Parting::PeerVanished),
        };
        self.counts.bytes_in += n as u64;
        conn.heard = desk.now;
        conn.pinged = 0;
        if conn.active.as_ref().is_some_and(|active| !active.inbound.is_empty()) {
            self.buffers.append(&mut conn.active().inbound, &self.scratch[..n]);
            self.serve_inbound(conn, desk, key)?;
        } else {
            // Taken out so that it can be lent beside `self`; a panic in between loses it, and `Bench` makes it anew.
            let mut scratch = std::mem::take(&mut self.scratch);
            let served = self.serve(conn, &mut scratch[..n], desk, key);
            self.scratch = scratch;
            let served = self.flush(conn, desk).and(served)?;
            if served < n {
                let mut inbound = self.buffers.take(n - served);
                inbound.extend_from_slice(&self.scratch[served..n]);
                conn.active().inbound = inbound;
            }
        }
        Ok(if n < self.scratch.len() { Got::All } else { Got::Full })
    }

    /// Serves what was kept.
    fn serve_inbound(
        &mut self,
        conn: &mut Connection<S::Session>,
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Parting> {
        let mut inbound = std::mem::take(&mut conn.active().inbound);
        let served = self.serve(conn, &mut inbound, desk, key);
        let served = self.flush(conn, desk).and(served);
        // Of one that parts nothing is wanted any more.
        inbound.drain(..*served.as_ref().unwrap_or(&inbound.len()));
        if inbound.is_empty() {
            self.buffers.give(inbound);
        } else {
            conn.active().inbound = inbound;
        }
        served.map(drop)
    }

    /// Serves the messages in `bytes`, in their order; how many bytes are done with.
    fn serve(
        &mut self,
        conn: &mut Connection<S::Session>,
        bytes: &mut [u8],
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<usize, Parting> {
        let mut at = 0;
        let messages_before = self.counts.messages_in;
        loop {
            if self.is_congested(conn, desk)? {
                let active = conn.active();
                active.paused = true;
                active.incomplete_since = None;
                return Ok(at);
            }
            let step = match &mut conn.stage {
                Stage::Opening => self.open(conn, &bytes[at..])?,
                Stage::Line(lines) => {
                    let step = lines.next(&bytes[at..], self.house.wire.message_bytes_max);
                    self.line(conn, step, desk, key)?
                }
                Stage::WebSocket(decoder) => {
                    let step = decoder.decode(&mut bytes[at..], &self.rules);
                    self.frame(conn, step, desk, key)?
                }
                Stage::Http(Http::Reading(reader)) => match reader.next(&mut bytes[at..], &self.house.wire) {
                    Ok(step) => self.request(conn, step, desk, key)?,
                    Err(refusal) => return Err(self.refuse_unread(refusal, &bytes[at..])),
                },
                // The next request waits until this one is answered.
                Stage::Http(_) => Step::More(0),
                Stage::Leaving { .. } => return Ok(bytes.len()),
            };
            match step {
                Step::Done(consumed) => at += consumed,
                Step::More(consumed) => {
                    at += consumed;
                    break;
                }
            }
        }
        self.note_incomplete(conn, at < bytes.len(), self.counts.messages_in > messages_before, desk);
        Ok(at)
    }

    fn line(
        &mut self,
        conn: &mut Connection<S::Session>,
        step: Result<line::Step<'_>, line::TooLong>,
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<Step, Parting> {
        match step {
            Ok(line::Step::Line { line, consumed }) => {
                self.message(conn, Message::Unchecked(line), desk, key)?;
                Ok(Step::Done(consumed))
            }
            Ok(line::Step::More { consumed }) => Ok(Step::More(consumed)),
            Err(line::TooLong) => {
                self.house.ledger.faults.add(Fault::TooLong);
                last_words::line_too_long(&mut self.out, self.house.wire.message_bytes_max);
                Err(Parting::LineTooLong)
            }
        }
    }

    fn frame(
        &mut self,
        conn: &mut Connection<S::Session>,
        step: Result<ws::Step<'_>, ws::Violation>,
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<Step, Parting> {
        let (frame, consumed) = match step {
            Ok(ws::Step::Frame { frame, consumed }) => (frame, consumed),
            Ok(ws::Step::More { .. }) => return Ok(Step::More(0)),
            Err(violation) => {
                self.house.ledger.violations.add(violation);
                ws::write_close(&mut self.out, violation.close_code(), violation.name());
                return Err(Parting::WebSocketViolation);
            }
        };
        match frame {
            ws::Frame::Text(text) => self.message(conn, Message::Text(text), desk, key)?,
            ws::Frame::Binary(bytes) => self.message(conn, Message::Binary(bytes), desk, key)?,
            ws::Frame::Piece { content, bytes, last } => {
                self.buffers.append(&mut conn.active().assembly, bytes);
                if last {
                    let whole = std::mem::take(&mut conn.active().assembly);
                    let message = match content {
                        ws::Content::Text => Message::Unchecked(&whole),
                        ws::Content::Binary => Message::Binary(&whole),
                    };
                    let handled = self.message(conn, message, desk, key);
                    self.buffers.give(whole);
                    handled?;
                }
            }
            ws::Frame::Ping(payload) => ws::write_frame(&mut self.out, ws::Opcode::Pong, payload),
            ws::Frame::Pong(_) => {}
            ws::Frame::Close(closing) => {
                match closing {
                    Some(closing) => ws::write_close(&mut self.out, closing.code, ""),
                    None => ws::write_frame(&mut self.out, ws::Opcode::Close, &[]),
                }
                return Err(Parting::PeerSaidGoodbye);
            }
        }
        Ok(Step::Done(consumed))
    }

    pub(super) fn message(
        &mut self,
        conn: &mut Connection<S::Session>,
        message: Message<'_>,
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Parting> {
        self.counts.messages_in += 1;
        conn.messages_in = conn.messages_in.wrapping_add(1);
        if let Some(refusal) = conn.refused {
            last_words::refused(&mut self.out, last_words::id_of(&message), refusal, self.house.retry_after());
            return Err(Parting::Refused);
        }
        let client = || conn.client(desk, key);
        if let Err((refusal, wait)) = self.house.guards.weigh(client, conn.tenant, message.bytes().len()) {
            return self.leave_unread(conn, &message, (refusal, wait), desk, key);
        }
        self.talk(conn, desk, key, |service, talk| service.message(talk, message))?
    }

    /// Refuses a message before it is looked into. One that asks for nothing is not answered, but for HTTP, where each is.
    fn leave_unread(
        &mut self,
        conn: &mut Connection<S::Session>,
        message: &Message<'_>,
        (refusal, wait): (Refusal, Duration),
        desk: &Desk<'_>,
        key: Key,
    ) -> Result<(), Parting> {
        self.house.seats.refusals.add(refusal);
        let id = last_words::id_of(message);
        if id.is_none() && !matches!(conn.stage, Stage::Http(_)) {
            return Ok(());
        }
        let error = last_words::error(refusal, wait);
        self.house.ledger.faults.add(error.fault);
        self.talk(conn, desk, key, |_, talk| talk.say(|_, out| error.write(out, id)))
    }

    /// Whether so much waits for the client that its next message must wait too.
    fn is_congested(&mut self, conn: &mut Connection<S::Session>, desk: &Desk<'_>) -> Result<bool, Parting> {
        if self.out.len() + conn.unsent() < self.house.config.outbox_bytes_high {
            return Ok(false);
        }
        self.flush(conn, desk)?;
        Ok(conn.unsent() >= self.house.config.outbox_bytes_high)
    }

    /// Sends what this turn has written.
    pub(super) fn flush(&mut self, conn: &mut Connection<S::Session>, desk: &Desk<'_>) -> Result<(), Parting> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.counts.bytes_out += self.out.len() as u64;
        let unsent_max = self.house.config.outbox_bytes_max;
        let sent = outbox::send(conn, &self.out, &mut self.buffers, unsent_max, desk.now);
        self.out.clear();
        self.out.shrink_to(2 * self.house.config.outbox_bytes_high);
        sent
    }

    fn note_incomplete(&self, conn: &mut Connection<S::Session>, rest: bool, progress: bool, desk: &Desk<'_>) {
        let assembling = matches!(&conn.stage, Stage::WebSocket(decoder) if decoder.is_assembling());
        if (rest && !conn.is_answering()) || assembling {
            let since = &mut conn.active().incomplete_since;
            if progress || since.is_none() {
                *since = Some(desk.now);
            }
        } else if let Some(active) = &mut conn.active {
            active.incomplete_since = None;
        }
    }

    /// Throws away what a leaving client still sends, until it has closed its side too.
    pub(super) fn linger(
        &mut self,
        conn: &mut Connection<S::Session>,
        parting: Parting,
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Parting> {
        if conn.unsent() > 0 {
            outbox::send_rest(conn, &mut self.buffers, desk.now).map_err(|_| parting)?;
            if conn.unsent() == 0 {
                let _ = conn.socket.shutdown(Shutdown::Write);
            }
        }
        // A client that sends as fast as it can must not keep the shard from the others.
        for _ in 0..READS_A_TURN {
            match conn.socket.read(&mut self.scratch) {
                // It reads still what it has asked for.
                Ok(0) if conn.unsent() > 0 => return Ok(()),
                Ok(0) => return Err(parting),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(parting),
            }
        }
        desk.again(key);
        Ok(())
    }
}

/// What the end of a client's bytes means: it leaves, which cancels its calls, but it may still read its answers.
fn at_the_end<T>(conn: &Connection<T>) -> Parting {
    match conn.unsent() {
        0 if conn.is_idle() => Parting::PeerClosed,
        0 => Parting::PeerVanished,
        _ => Parting::PeerHalfClosed,
    }
}

/// How far one step through the bytes has come.
pub(super) enum Step {
    /// So many bytes are done with; there may be more to do.
    Done(usize),
    /// So many bytes are done with; the rest is incomplete.
    More(usize),
}
