//! What a client is told before it is parted, in the words of its dialect.

use std::time::Duration;

use super::connection::{Connection, Stage};
use super::service::{Message, Service};
use super::{Bench, Parting};
use crate::actor::Desk;
use crate::guard::Refusal;
use crate::mcp::Fault;
use crate::meter::Named;
use crate::pool::Key;
use crate::wire::dialect::Stranger;
use crate::wire::envelope::{self, Id, Incoming, Kind};
use crate::wire::{http, ws};

impl<S: Service> Bench<S> {
    /// For partings that we begin: an error, a close frame or an HTTP answer, as far as the dialect is known.
    pub(super) fn say_last_words(
        &mut self,
        conn: &mut Connection<S::Session>,
        parting: Parting,
        desk: &Desk<'_>,
        key: Key,
    ) {
        let (error, close_code) = match parting {
            Parting::HandshakeTimeout | Parting::MessageTimeout => (Some(Fault::TooSlow.into()), ws::close::POLICY),
            Parting::IdleTimeout => (None, ws::close::NORMAL),
            Parting::Drained => (None, ws::close::GOING_AWAY),
            Parting::MemoryShort => {
                let message = "memory is short and you were idle; connect again after data.retryAfterMs";
                let error = Fault::Busy.retry_after(self.house.retry_after());
                (Some(crate::mcp::Refusal { message: message.into(), ..error }), ws::close::TRY_AGAIN)
            }
            _ => return,
        };
        // It parts in any case.
        let _ = self.talk(conn, desk, key, |service, talk| service.last_words(talk));
        match &conn.stage {
            Stage::WebSocket(_) => ws::write_close(&mut self.out, close_code, parting.name()),
            Stage::Http(_) => self.end_http(conn, parting),
            Stage::Opening if speaks_http(conn) => {
                // It parts in any case.
                let _ = self.refuse_unread(http::Refusal::Timeout, conn.inbound());
            }
            // It may have waited at the door for long, and has had no chance to ask.
            Stage::Opening if parting == Parting::Drained => {
                let wait = self.house.retry_after();
                line(&mut self.out, |out| Fault::Draining.retry_after(wait).write(out, None));
            }
            Stage::Opening | Stage::Line(_) => {
                if let Some(error) = error {
                    self.house.ledger.faults.add(error.fault);
                    line(&mut self.out, |out| error.write(out, None));
                }
            }
            Stage::Leaving { .. } => {}
        }
    }
}

/// Only HTTP begins with a capital.
fn speaks_http<T>(conn: &Connection<T>) -> bool {
    conn.inbound().first().is_some_and(u8::is_ascii_uppercase)
}

/// The line is longer than `bytes_max`.
pub(super) fn line_too_long(out: &mut Vec<u8>, bytes_max: usize) {
    let message = format!("Invalid request: the message is longer than {bytes_max} bytes (wire.message_bytes_max)");
    line(out, |out| Fault::TooLong.because(message).write(out, None));
}

/// What it speaks is not served here.
pub(super) fn stranger(out: &mut Vec<u8>, stranger: Stranger) {
    line(out, |out| Fault::UnknownDialect.because(stranger.advice()).write(out, None));
}

/// The id of a message that is refused as a whole, if it is a request.
pub(super) fn id_of<'m>(message: &Message<'m>) -> Option<Id<'m>> {
    match envelope::parse(message.bytes()) {
        Ok(Incoming::One(envelope::Envelope { kind: Kind::Request { id, .. }, .. })) => Some(id),
        _ => None,
    }
}

/// A JSON-RPC error with the time after which it may go better, as a line.
pub(super) fn refused(out: &mut Vec<u8>, id: Option<Id<'_>>, refusal: Refusal, wait: Duration) {
    line(out, |out| error(refusal, wait).write(out, id));
}

/// The error for what may go better later.
pub(super) fn error(refusal: Refusal, wait: Duration) -> crate::mcp::Refusal<'static> {
    let fault = match refusal {
        Refusal::ClientInFlight | Refusal::ClientWatches => Fault::TooManyInFlight,
        hasty if hasty.is_for_haste() => Fault::TooOften,
        _ => Fault::Busy,
    };
    crate::mcp::Refusal { message: refusal.message().into(), ..fault.retry_after(wait) }
}

fn line(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    write(out);
    out.push(b'\n');
}
