//! The MCP servers behind the gateway: the one that is built in, and those that it multiplexes its clients onto.

mod attend;
pub mod config;
pub mod directory;
mod door;
pub mod embedded;
pub mod front;
mod gather;
pub mod group;
pub mod handle;
pub mod life;
pub mod link;
mod lists;
pub mod loudness;
pub mod mcp_json;
pub mod minder;
pub mod mux;
pub mod offers;
mod probe;
mod record;
mod sessions;
pub mod shared;
pub mod trouble;
mod turn;

pub use directory::{Directories, Directory, Listed, Server};
pub use handle::{Client, Errand, Task, Upstream};
pub use loudness::{Loud, Loudness};
pub use offers::{Offers, Standing};
pub use shared::{Knobs, Shared};
