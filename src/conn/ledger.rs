//! What all connections of the house have counted, by name.

use crate::mcp::{Fault, Ignored};
use crate::meter::{Named, Tally};
use crate::wire::dialect::Stranger;
use crate::wire::envelope::Defect;
use crate::wire::ws::Violation;

use super::Parting;

/// One for the house: these are counted when something ends or goes wrong, never for a message that is well.
#[derive(Default)]
pub struct Ledger {
    /// How connections ended.
    pub partings: Tally<Parting>,
    /// Messages answered with an error of ours.
    pub faults: Tally<Fault>,
    /// Notifications and responses without any effect.
    pub ignored: Tally<Ignored>,
    /// What was wrong with malformed messages.
    pub defects: Tally<Defect>,
    /// Which WebSocket rules were broken.
    pub violations: Tally<Violation>,
    /// What those spoke who spoke nothing that is served.
    pub strangers: Tally<Stranger>,
    /// Why HTTP requests were refused.
    pub http_refusals: Tally<crate::wire::http::Refusal>,
}

/// The names that `wire` gives itself count here: `wire` and `meter` are on one floor.
macro_rules! counted {
    ($($name:ty),+) => {
        $(impl Named for $name {
            const ALL: &'static [Self] = <$name>::ALL;

            fn index(self) -> usize {
                <$name>::index(self)
            }

            fn name(self) -> &'static str {
                <$name>::name(self)
            }
        })+
    };
}

counted!(Defect, Violation, Stranger, crate::wire::http::Refusal);
