//! Who offers what: the catalogue that all clients see, and the server behind each name in it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::embedded::Embedded;
use super::handle::Upstream;
use crate::mcp::{Catalogue, Target};

/// All that is offered at one moment. Made anew, and swapped whole, when something changes.
pub struct Directory {
    /// The rendered lists.
    pub catalogue: Arc<Catalogue>,
    embedded: Option<Embedded>,
    upstreams: Vec<Arc<Upstream>>,
}

/// Where a request goes.
pub enum Server<'d> {
    /// To the server that is built in.
    Embedded(&'d Embedded),
    /// To one behind us.
    Upstream(&'d Arc<Upstream>),
}

/// The directory that is in force, for all shards.
pub type Directories = ArcSwap<Directory>;

impl Directory {
    /// Only what is built in.
    #[must_use]
    pub fn embedded(embedded: Embedded) -> Self {
        Self { catalogue: Arc::clone(embedded.catalogue()), embedded: Some(embedded), upstreams: Vec::new() }
    }

    /// The server for a target, and the name by which it knows it. `None` if nobody has it.
    #[must_use]
    pub fn route<'d>(&'d self, target: &'d Target<'_>) -> Option<(Server<'d>, &'d str)> {
        match (&self.embedded, target) {
            (Some(embedded), Target::Tool(name)) if embedded.has(name) => Some((Server::Embedded(embedded), name)),
            _ => None,
        }
    }

    /// Every upstream.
    #[must_use]
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }
}
