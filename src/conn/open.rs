//! The first bytes: which dialect, and for a WebSocket its handshake.

use super::connection::{Connection, Stage};
use super::serve::Step;
use super::{Bench, Parting, last_words};
use crate::conn::service::Service;
use crate::mcp::Fault;
use crate::wire::dialect::{self, Dialect};
use crate::wire::{http, line, ws};

impl<S: Service> Bench<S> {
    /// Moves the connection to the stage of its dialect, as soon as `bytes`, all that have come, tell.
    ///
    /// # Errors
    /// When what it speaks is not served here; a last word is in `out`.
    pub(super) fn open(&mut self, conn: &mut Connection<S::Session>, bytes: &[u8]) -> Result<Step, Parting> {
        match dialect::sniff(bytes) {
            Dialect::More => Ok(Step::More(0)),
            Dialect::Line => {
                conn.stage = Stage::Line(line::Lines::default());
                Ok(Step::Done(0))
            }
            Dialect::Http => self.upgrade(conn, bytes),
            Dialect::Unknown(stranger) => {
                self.house.ledger.strangers.add(stranger);
                self.house.ledger.faults.add(Fault::UnknownDialect);
                last_words::stranger(&mut self.out, stranger);
                Err(Parting::UnknownDialect)
            }
        }
    }

    fn upgrade(&mut self, conn: &mut Connection<S::Session>, bytes: &[u8]) -> Result<Step, Parting> {
        let upgrade = match http::read_upgrade(bytes, &self.house.wire) {
            Ok(None) => return Ok(Step::More(0)),
            Ok(Some(upgrade)) if ![&*self.house.config.path, "/"].contains(&upgrade.path()) => {
                return Err(self.refuse(http::Refusal::NotFound));
            }
            Ok(Some(_)) if !conn.welcome => return Err(self.refuse(http::Refusal::Full)),
            Ok(Some(upgrade)) => upgrade,
            Err(refusal) => return Err(self.refuse(refusal)),
        };
        http::write_switching(&mut self.out, &upgrade);
        conn.stage = Stage::WebSocket(ws::Decoder::default());
        Ok(Step::Done(upgrade.consumed))
    }

    fn refuse(&mut self, refusal: http::Refusal) -> Parting {
        self.house.ledger.http_refusals.add(refusal);
        let seconds = self.house.retry_after_ms.div_ceil(1000);
        http::write_refusal(&mut self.out, refusal, u32::try_from(seconds).ok(), http::Manner::default());
        if refusal == http::Refusal::Full { Parting::Refused } else { Parting::HttpRefused }
    }
}
