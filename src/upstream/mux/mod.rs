//! Stands in for the multiplexer until that is there.

pub mod tally;
