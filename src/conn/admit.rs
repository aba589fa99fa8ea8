//! The door: a socket gets a seat, or a place in the lobby where it will be told why not, or is turned away.

use std::io::Write;

use mio::net::TcpStream;

use super::{House, last_words};
use crate::guard::{Refusal, Seat};

/// A socket that has just been accepted.
pub(super) struct Arrival(pub(super) TcpStream);

/// One that may come in, holding its seat until it parts. Only [`Arrival::admit`] makes it.
pub(super) struct Admitted {
    pub(super) socket: TcpStream,
    pub(super) seat: Seat,
    /// False in the lobby: a few places for those who must be told that the house is full. To tell them properly (HTTP
    /// 503, a JSON-RPC error with their id) their first message must be read.
    pub(super) welcome: bool,
}

impl Arrival {
    pub(super) fn admit(self, house: &House) -> Result<Admitted, (Self, Refusal)> {
        if let Some(seat) = house.seats.take() {
            return Ok(Admitted { socket: self.0, seat, welcome: true });
        }
        match house.lobby.take() {
            Some(seat) => {
                house.seats.refusals.add(Refusal::HouseFull);
                Ok(Admitted { socket: self.0, seat, welcome: false })
            }
            None => Err((self, Refusal::HouseFull)),
        }
    }

    /// Closes it at once, with a line that says why: what it speaks is not known.
    pub(super) fn turn_away(mut self, house: &House, refusal: Refusal) {
        house.seats.refusals.add(refusal);
        let mut out = Vec::new();
        last_words::refused(&mut out, None, refusal, house.retry_after_ms);
        // It is a courtesy; a socket just accepted takes so few bytes or is gone.
        let _ = self.0.write(&out);
    }
}
