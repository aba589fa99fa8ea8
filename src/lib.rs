//! lakh: an MCP gateway that holds 100,000 live clients in one small process.
//!
//! A house of rooms on floors: a room uses only rooms below it, and two on one floor never meet (`tests/floors.rs`
//! reads the source and holds that). Read `tree`, `conn` and `conn/turn.rs`, and you know where everything is.

// 0: bytes to frames to envelopes; reused memory; counting. Pure, but for reading the host.
pub mod meter;
pub mod pool;
pub mod wire;

// 1: shards, tickets, inboxes; limits; the protocol's rules.
pub mod actor;
pub mod guard;
pub mod mcp;

// 2: how are we.
pub mod monitor;

// 3: the servers behind us.
pub mod upstream;

// 4: the story: the life of one connection.
pub mod conn;

pub mod admin;
pub mod cli;

// 6: every room's knobs gathered.
pub mod config;

// 7: who lives here, and who restarts whom.
pub mod tree;
