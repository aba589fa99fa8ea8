//! Counting, and reading what this process and its host use: what everything above reports, nothing decides here.

pub mod allocator;
pub mod cgroup;
pub mod cpu;
pub mod descriptors;
pub mod host;
pub mod kernel;
pub mod lag;
pub mod plan;
pub mod process;
mod procfs;
pub mod shard;
pub mod shortfall;
pub mod tally;

pub use allocator::AllocatorMemory;
pub use host::Host;
pub use kernel::KernelMemory;
pub use lag::{Lag, LagCounts, LagSnapshot};
pub use plan::Plan;
pub use process::ProcessMemory;
pub use shard::{Gauge, Part, PartGauges, PoolGauges, PoolReading, ShardMeter};
pub use shortfall::{Limit, Shortfall};
pub use tally::{Named, Tally};
