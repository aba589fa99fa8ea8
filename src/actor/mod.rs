//! Actors: shards that run them, addresses that find them, inboxes that reach them, tickets that answer for them.
//!
//! An actor here is a slot in a shard's pool: it owns no task, thread, timer or queue. Its shard runs it when bytes, a
//! letter or a deadline arrive ([`Tenants`]), on the one thread that may touch it. What must cross threads crosses as
//! [`Mail`] through the shard's [`Inbox`].

mod census;
mod doors;
mod inbox;
mod question;
mod shard;
mod table;
mod ticket;
mod unread;
mod wheel;

pub use census::{Breakdown, Resident};
pub use doors::Doors;
pub use inbox::{Answer, Inbox, Letter, Mail, News, Order, Sibling, Word};
pub use question::{Asks, Name as QuestionName, Question, Reply};
pub use shard::{Berth, Desk, Readiness, Tenants, run};
pub use table::CommonDescriptors;
pub use ticket::{Bells, CancelHandle, Serves, Ticket};
pub use unread::Unread;
pub use wheel::{TICK, Tick, Wheel};
