//! Guards: who may come in, and what is said to those who may not.

mod pressure;
mod seats;
mod tenant;

pub use pressure::{Pressure, Zone};
pub use seats::{Config, Refusal, Seat, Seats};
pub use tenant::{Share, Tenant};
