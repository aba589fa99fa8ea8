//! Bad input over real sockets: each kind gets its error or close code and its counter, and every neighbour is answered.

mod crowds;
mod first_bytes;
mod frames;
mod greed;
mod messages;
#[path = "../peer/mod.rs"]
mod peer;
mod silence;
mod timing;
