//! Who offers what: the catalogue that all clients see, and the server behind each name in it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::embedded::Embedded;
use super::group::Group;
use super::handle::Upstream;
use crate::mcp::{Catalogue, List, Target};
use crate::wire::json;

/// All that is offered at one moment. Made anew, and swapped whole, when something changes.
pub struct Directory {
    /// The rendered lists. Its parts are the upstreams but for replicas, in their order, then what is built in.
    pub catalogue: Arc<Catalogue>,
    embedded: Option<Embedded>,
    upstreams: Vec<Arc<Upstream>>,
    parts: Arc<[Behind]>,
    /// Whether each upstream is there now.
    present: Vec<bool>,
}

/// Who is behind one part of the catalogue.
pub(super) struct Behind {
    /// The place of the upstream.
    pub(super) upstream: usize,
    /// It and its replicas, if it has some.
    pub(super) group: Option<Arc<Group>>,
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
        Self::new(Arc::clone(embedded.catalogue()), Some(embedded), Vec::new(), Arc::new([]), Vec::new())
    }

    /// `present` tells of each upstream whether it is there now.
    pub(super) fn new(
        catalogue: Arc<Catalogue>,
        embedded: Option<Embedded>,
        upstreams: Vec<Arc<Upstream>>,
        parts: Arc<[Behind]>,
        present: Vec<bool>,
    ) -> Self {
        Self { catalogue, embedded, upstreams, parts, present }
    }

    /// The same entries; `present` tells of each upstream whether it is there now.
    pub(super) fn with_presence(&self, present: Vec<bool>) -> Self {
        let (catalogue, upstreams) = (Arc::clone(&self.catalogue), self.upstreams.clone());
        Self::new(catalogue, self.embedded.clone(), upstreams, Arc::clone(&self.parts), present)
    }

    /// The server for a call, and the name by which it knows its target; of replicas that whose turn it is. `None` if
    /// nobody has it.
    ///
    /// What a server behind us does not list goes to it all the same if there is no other: it knows best, and its own
    /// refusal is what a client without a gateway would see.
    #[must_use]
    pub fn route<'d>(&'d self, target: &'d Target<'_>) -> Option<(Server<'d>, &'d str)> {
        let (part, name) = self.find(target)?;
        match self.parts.get(part) {
            Some(Behind { group: Some(group), .. }) => Some((Server::Upstream(group.pick()), name)),
            _ => Some((self.server(part)?, name)),
        }
    }

    /// The same for what is not over with its answer, as a subscription: always the same server, whoever has replicas.
    #[must_use]
    pub fn home<'d>(&'d self, target: &'d Target<'_>) -> Option<(Server<'d>, &'d str)> {
        let (part, name) = self.find(target)?;
        Some((self.server(part)?, name))
    }

    /// The part for a target, and the name that its server has for it.
    fn find<'d>(&'d self, target: &'d Target<'_>) -> Option<(usize, &'d str)> {
        let present = |part: usize| self.parts.get(part).is_some_and(|part| self.is_present(part));
        let only = || (self.parts.len() == 1 && self.embedded.is_none()).then(|| (0, target.name()));
        self.catalogue.route(target, present).or_else(only)
    }

    fn is_present(&self, part: &Behind) -> bool {
        let itself = || self.present.get(part.upstream).is_some_and(|&present| present);
        part.group.as_ref().map_or_else(itself, |group| group.is_there())
    }

    fn server(&self, part: usize) -> Option<Server<'_>> {
        match self.upstream_of(part) {
            Some(upstream) => Some(Server::Upstream(upstream)),
            None => self.embedded.as_ref().map(Server::Embedded),
        }
    }

    /// What is built in, where that is offered.
    #[must_use]
    pub const fn built_in(&self) -> Option<&Embedded> {
        self.embedded.as_ref()
    }

    /// The upstream of a part of the catalogue; none for what is built in.
    #[must_use]
    pub fn upstream_of(&self, part: usize) -> Option<&Arc<Upstream>> {
        self.upstreams.get(self.parts.get(part)?.upstream)
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
            let upstream = self.upstream_of(entry.part).map_or(Embedded::UPSTREAM, |upstream| &*upstream.name);
            Listed {
                list: entry.list,
                name: entry.name,
                upstream,
                own: entry.own,
                // What is built in does not go away.
                present: self.parts.get(entry.part).is_none_or(|part| self.is_present(part)),
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
