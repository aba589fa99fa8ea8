//! On whose account a client asks.

/// A tenant, by its place among the configured ones; 0 is everybody who is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(pub u16);

/// What of a tenant's plan matters in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Its part of what is there, against the others' weights.
    pub weight: u16,
    /// Higher ones are served first; equal ones share by weight.
    pub priority: u8,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: 1, priority: 0 }
    }
}
