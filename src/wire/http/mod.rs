//! HTTP/1.1 as bytes: requests read, WebSocket upgrades checked, answers and event streams written.

mod answer;
pub mod event;
pub mod handshake;
mod head;
mod mirror;
mod origin;
mod reader;
mod refusal;
mod upgrade;

pub use answer::{Manner, open_events, write_continue, write_empty, write_preflight, write_whole};
pub use head::{Method, Request};
pub use mirror::mirrored;
pub use origin::{host_allowed, origin_allowed, page_of};
pub use reader::{Reader, Step, chunk_size, head_is_whole};
pub use refusal::{Refusal, write_refusal};
pub use upgrade::{Offers, SUBPROTOCOL, Upgrade, accept, read_upgrade, write_switching};

#[cfg(test)]
use super::Config;
#[cfg(test)]
mod tests;
