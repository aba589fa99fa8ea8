//! Who offers what: the catalogue that all clients see, and the server behind each name in it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::embedded::Embedded;
use super::handle::Upstream;
use crate::mcp::{Catalogue, List, Target};
use crate::wire::json;

/// All that is offered at one moment. Made anew, and swapped whole, when something changes.
pub struct Directory {
    /// The rendered lists. Its parts are the upstreams, in their order, then what is built in.
    pub catalogue: Arc<Catalogue>,
    embedded: Option<Embedded>,
    upstreams: Vec<Arc<Upstream>>,
    /// Whether each upstream is there now.
    present: Vec<bool>,
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

/// One entry of the catalogue, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<'d> {
    /// The list that it is in.
    pub list: List,
    /// The name or URI that clients have for it.
    pub name: &'d str,
    /// The name of its upstream.
    pub upstream: &'d str,
    /// The name or URI that its server has for it.
    pub own: &'d str,
    /// Whether its upstream is there now.
    pub present: bool,
    /// The first line of its description, without control characters; empty if it has none.
    pub description: String,
}

impl Directory {
    /// Only what is built in.
    #[must_use]
    pub fn embedded(embedded: Embedded) -> Self {
        Self::new(Arc::clone(embedded.catalogue()), Some(embedded), Vec::new(), Vec::new())
    }

    /// `present` tells of each upstream whether it is there now.
    pub(super) fn new(
        catalogue: Arc<Catalogue>,
        embedded: Option<Embedded>,
        upstreams: Vec<Arc<Upstream>>,
        present: Vec<bool>,
    ) -> Self {
        Self { catalogue, embedded, upstreams, present }
    }

    /// The same entries; `present` tells of each upstream whether it is there now.
    pub(super) fn with_presence(&self, present: Vec<bool>) -> Self {
        let (catalogue, upstreams) = (Arc::clone(&self.catalogue), self.upstreams.clone());
        Self::new(catalogue, self.embedded.clone(), upstreams, present)
    }

    /// The server for a target, and the name by which it knows it. `None` if nobody has it.
    ///
    /// What a server behind us does not list goes to it all the same if there is no other: it knows best, and its own
    /// refusal is what a client without a gateway would see.
    #[must_use]
    pub fn route<'d>(&'d self, target: &'d Target<'_>) -> Option<(Server<'d>, &'d str)> {
        let present = |part: usize| self.present.get(part).is_some_and(|&present| present);
        match self.catalogue.route(target, present) {
            Some((part, name)) => Some((self.server(part)?, name)),
            None => match (&self.upstreams[..], &self.embedded) {
                ([only], None) => Some((Server::Upstream(only), target.name())),
                _ => None,
            },
        }
    }

    fn server(&self, part: usize) -> Option<Server<'_>> {
        match self.upstreams.get(part) {
            Some(upstream) => Some(Server::Upstream(upstream)),
            None => self.embedded.as_ref().map(Server::Embedded),
        }
    }

    /// Every upstream, in the order of the configuration.
    #[must_use]
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// Whether each of them is there now.
    #[must_use]
    pub fn present(&self) -> &[bool] {
        &self.present
    }

    /// Every entry of the catalogue: list by list, in the order that clients see.
    pub fn listing(&self) -> impl Iterator<Item = Listed<'_>> {
        self.catalogue.listing().map(|entry| {
            let upstream = self.upstreams.get(entry.part).map_or(Embedded::UPSTREAM, |upstream| &*upstream.name);
            Listed {
                list: entry.list,
                name: entry.name,
                upstream,
                own: entry.own,
                // What is built in does not go away.
                present: self.present.get(entry.part).is_none_or(|&present| present),
                description: description(entry.text),
            }
        })
    }
}

fn description(entry: &[u8]) -> String {
    let entry = std::str::from_utf8(entry).unwrap_or_default();
    let description = json::pick(entry, ["description"]).ok().and_then(|[description]| description);
    let whole = description.and_then(json::string).unwrap_or_default();
    // It goes to a terminal, and a server may have written anything.
    whole.trim().lines().next().unwrap_or_default().trim().chars().filter(|it| !it.is_control()).collect()
}
