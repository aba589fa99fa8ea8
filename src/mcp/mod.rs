//! The protocol's rules, pure: five revisions of MCP as values in and JSON texts out, with no socket, clock or thread.

pub mod answer;
pub mod beyond;
pub mod bridge;
pub mod catalogue;
pub mod fault;
pub mod method;
pub mod offer;
pub mod param_headers;
mod params;
pub mod parcel;
pub mod profile;
pub mod progress;
pub mod request;
pub mod request_state;
pub mod revision;
pub mod session;
pub mod snapshot;
pub mod uri_template;

pub use beyond::Beyond;
pub use catalogue::{Catalogue, CatalogueConfig};
pub use fault::{Fault, Refusal};
pub use method::{Features, Level, List, Method, Target, Topics, is_part};
pub use offer::{Entry, Offer};
pub use parcel::Parcel;
pub use profile::{Capability, Config, Profile, Profiles};
pub use request::{Call, Listen, SUBSCRIPTIONS_MAX};
pub use revision::{Era, Revision};
pub use session::{Ignored, Phase, Session, Verdict};
