//! The door: a socket gets a seat, or a place in the lobby where it will be told why not, or is turned away.

use std::io::Write;
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::{House, last_words};
use crate::guard::{Refusal, Seat};

/// A socket that has just been accepted.
pub(super) struct Arrival {
    pub(super) socket: TcpStream,
    pub(super) from: SocketAddr,
}

/// One that may come in, holding its seat until it parts. Only [`Arrival::admit`] makes it.
pub(super) struct Admitted {
    pub(super) socket: TcpStream,
    pub(super) seat: Seat,
    /// Set in the lobby: a few places for those who must be told why they may not come in. To tell them properly (HTTP
    /// 503, a JSON-RPC error with their id) their first message must be read.
    pub(super) refused: Option<Refusal>,
}

impl Arrival {
    /// What it meets is in [`crate::guard::Guards::admit`].
    pub(super) fn admit(self, house: &House) -> Result<Admitted, (Self, Refusal)> {
        match house.guards.admit(self.from.ip(), &house.pressure) {
            Ok(seat) => Ok(Admitted { socket: self.socket, seat, refused: None }),
            Err(refusal) => match house.lobby.take() {
                Some(seat) => {
                    house.seats.refusals.add(refusal);
                    Ok(Admitted { socket: self.socket, seat, refused: Some(refusal) })
                }
                None => Err((self, refusal)),
            },
        }
    }

    /// Closes it at once, with a line that says why: what it speaks is not known.
    pub(super) fn turn_away(mut self, house: &House, refusal: Refusal) {
        house.seats.refusals.add(refusal);
        let mut out = Vec::new();
        last_words::refused(&mut out, None, refusal, house.retry_after());
        // It is a courtesy; a socket just accepted takes so few bytes or is gone.
        let _ = self.socket.write(&out);
    }
}
