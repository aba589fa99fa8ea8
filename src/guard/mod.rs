//! Guards: who may come in, and what is said to those who may not.

mod seats;

pub use seats::{Config, Refusal, Seat, Seats};
