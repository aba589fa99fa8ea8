//! Guards: who may come in, and what is said to those who may not.
//!
//! In the order in which a client meets them:
//!
//! ```text
//! connection   the zone of the house; seats in all, of one address, of one tenant; arrivals a second    door.rs
//! session      the zone; seats in all, of one tenant
//! message      bytes of one client a minute                                                              toll.rs
//! call         the zone; memory in outboxes; calls a minute of one client at what is slow or sensitive,
//!              from one address, of one tenant, in all; calls in flight of one client, of one tenant,
//!              in all                                                                          conn/gate.rs
//! ```
//!
//! One client is a session over HTTP, and a connection otherwise (2026-07-28 knows no sessions): who connects anew begins
//! anew, which the limits of addresses and tenants are for.
//!
//! [`Guards`] asks them (guards.rs), by the [`Rules`] in force (rules.rs); each refusal has a name (refusal.rs) and is
//! counted. A tenant's [`Plan`] says what
//! differs from tenant to tenant (tenant.rs). A rate remembers only who is in debt to it (rate.rs). A guard that is broken
//! itself lets pass, and counts that ([`Lapse`]); one that knows that the house is full does not.

mod address;
mod config;
mod door;
mod guards;
mod keys;
mod plan;
mod pressure;
mod rate;
mod refusal;
mod rules;
mod seats;
mod tenant;
mod toll;

pub use address::Address;
pub use config::Config;
pub use guards::Guards;
pub use keys::{KeyHash, Keys};
pub use plan::Plan;
pub use pressure::{Pressure, Zone};
pub use rate::{Debtor, Debts, Hold, Rate};
pub use refusal::{Lapse, Refusal};
pub use rules::Rules;
pub use seats::{Seat, Seats};
pub use tenant::{Account, Accounts, EVERYBODY, Roster, Share, Tenant, TenantConfig, TooManyTenants};
pub use toll::{Asker, Toll};
