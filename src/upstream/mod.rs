//! The MCP servers behind the gateway.

pub mod embedded;
