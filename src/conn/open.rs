//! The first bytes: which dialect.

use super::connection::{Connection, Stage};
use super::http::Http;
use super::serve::Step;
use super::{Bench, Parting, last_words};
use crate::conn::service::Service;
use crate::guard::{Refusal, Tenant};
use crate::mcp::Fault;
use crate::wire::dialect::{self, Dialect};
use crate::wire::{http, line};

impl<S: Service> Bench<S> {
    /// It is known now on whose account a client is here. One in the lobby is told why when it has asked something.
    ///
    /// # Errors
    /// When that tenant has no seat left. It is counted.
    pub(super) fn recognize(&self, conn: &mut Connection<S::Session>, tenant: Tenant) -> Result<(), Refusal> {
        conn.tenant = tenant;
        if conn.refused.is_some() {
            return Ok(());
        }
        let told = self.house.guards.tell_tenant(&mut conn.seat, tenant);
        told.inspect_err(|refusal| self.house.seats.refusals.add(*refusal))
    }

    /// Moves the connection to the stage of its dialect, as soon as `bytes`, all that have come, tell.
    ///
    /// # Errors
    /// When what it speaks is not served here; a last word is in `out`.
    pub(super) fn open(&mut self, conn: &mut Connection<S::Session>, bytes: &[u8]) -> Result<Step, Parting> {
        match dialect::sniff(bytes) {
            Dialect::More => Ok(Step::More(0)),
            Dialect::Line => {
                conn.stage = Stage::Line(line::Lines::default());
                // There is no place for a key in this dialect.
                self.recognize(conn, Tenant::default()).map_err(|refusal| {
                    last_words::refused(&mut self.out, None, refusal, self.house.retry_after());
                    Parting::Refused
                })?;
                Ok(Step::Done(0))
            }
            Dialect::Http => match http::head_is_whole(bytes, &self.house.wire) {
                Ok(false) => Ok(Step::More(0)),
                Ok(true) => {
                    conn.stage = Stage::Http(Http::waiting());
                    Ok(Step::Done(0))
                }
                Err(refusal) => Err(self.refuse_unread(refusal, bytes)),
            },
            Dialect::Unknown(stranger) => {
                self.house.ledger.strangers.add(stranger);
                self.house.ledger.faults.add(Fault::UnknownDialect);
                last_words::stranger(&mut self.out, stranger);
                Err(Parting::UnknownDialect)
            }
        }
    }
}
