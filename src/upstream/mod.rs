//! The MCP servers behind the gateway.

pub mod embedded;
pub mod link;
pub mod minder;
pub mod trouble;
