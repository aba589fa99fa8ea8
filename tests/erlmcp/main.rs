//! The erlmcp suite by its own names, but for two: what must be held against the allocator is in `erlmcp_allocator.rs`,
//! in a process where nobody else allocates; the load tests (`load_*`, `simulate_*`) are in `simulate.rs`.

#[path = "../peer/mod.rs"]
mod peer;
mod pool;
mod profiler;
mod state;
