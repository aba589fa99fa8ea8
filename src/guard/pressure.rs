//! How near the house is to its limits: the monitor says it, the guards and the loops act on it.

use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

use crate::meter::Named;

crate::named! {
    /// The share of a capacity in use, in four parts.
    #[derive(PartialOrd, Ord, Default, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Zone {
        /// Below all marks.
        #[default]
        Safe = "safe",
        /// Its operator should look.
        Warning = "warning",
        /// New sessions are refused.
        Critical = "critical",
        /// New work is refused.
        Emergency = "emergency",
    }
}

/// The zones the house is in, readable by any thread at the cost of a load.
#[derive(Debug, Default)]
pub struct Pressure {
    house: AtomicU8,
    memory: AtomicU8,
}

impl Pressure {
    /// The worst zone of all resources that the guards care for.
    #[must_use]
    pub fn house(&self) -> Zone {
        zone(&self.house)
    }

    /// The zone of memory: when that is what is short, idle clients go first.
    #[must_use]
    pub fn memory(&self) -> Zone {
        zone(&self.memory)
    }

    /// What the monitor has found.
    pub fn set(&self, house: Zone, memory: Zone) {
        self.house.store(house.index() as u8, Ordering::Relaxed);
        self.memory.store(memory.index() as u8, Ordering::Relaxed);
    }
}

fn zone(of: &AtomicU8) -> Zone {
    Zone::ALL[usize::from(of.load(Ordering::Relaxed)).min(Zone::ALL.len() - 1)]
}
