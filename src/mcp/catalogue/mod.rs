//! What is offered, rendered once per revision for all clients: `initialize`, `server/discover`, the lists, and whose
//! each name is.

mod config;
mod names;
mod opening;
mod routes;
mod select;
mod shelf;
mod view;

use crate::mcp::method::{Features, List, Target};
use crate::mcp::offer::Offer;
use crate::mcp::param_headers::{self, ParamHeaders};
use crate::mcp::revision::{Era, Revision};
use crate::wire::json;

pub use config::{CatalogueConfig, Prefix};
pub use select::{LeftOut, Omission};

use opening::Openings;
use routes::Routes;
use shelf::Shelf;

/// What one upstream brings.
#[derive(Debug, Clone, Copy)]
pub struct Part<'o> {
    /// The name of the upstream.
    pub name: &'o str,
    /// What it offers; nothing so far, if it has not come yet.
    pub offer: &'o Offer,
}

/// Every result that is the same for all clients; share it by `Arc`.
#[derive(Debug)]
pub struct Catalogue {
    upstreams: Box<[Box<str>]>,
    features: Features,
    openings: Openings,
    /// By [`List::index`].
    shelves: [Shelf; 4],
    routes: Routes,
    param_headers: ParamHeaders,
    left_out: Vec<LeftOut>,
    page_entries: usize,
    page_bytes: usize,
}

/// One page of a list.
#[derive(Debug)]
pub struct Page<'c> {
    opening: &'c str,
    list: List,
    entries: &'c [u8],
    next: Option<String>,
    closing: &'c str,
}

/// One entry, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<'c> {
    /// The list that it is in.
    pub list: List,
    /// The name or URI that clients have for it.
    pub name: &'c str,
    /// The place of its upstream among the parts.
    pub part: usize,
    /// The name or URI that its server has for it.
    pub own: &'c str,
    /// The raw JSON object that clients of the newest revision see.
    pub text: &'c [u8],
}

impl Catalogue {
    /// Renders the parts, in their order (that of the configuration), each in its own.
    ///
    /// One part is shown as it is, so that no client can tell whether a gateway stands in between. Of several, names are
    /// made unique, and of two with the same URI the first wins; what is left out is in [`Self::left_out`].
    #[must_use]
    pub fn new(parts: &[Part<'_>], config: &CatalogueConfig) -> Self {
        // Places in the texts are kept in 32 bits.
        let (lists, left_out) = select::select(parts, config.bytes_max.min(1 << 31));
        let shelf = |list: List| Shelf::new(list, &lists[list.index()], parts, config.prefix);
        let shelves = List::ALL.map(shelf);
        let features = parts.iter().fold(Features::NONE, |all, part| all.and(part.offer.features));
        Self {
            upstreams: parts.iter().map(|part| part.name.into()).collect(),
            features,
            openings: Openings::new(parts, features),
            routes: Routes::new(parts, &shelves[List::Resources.index()], &shelves[List::Templates.index()]),
            param_headers: param_headers(&shelves[List::Tools.index()]),
            shelves,
            left_out,
            page_entries: config.page_entries,
            page_bytes: config.page_bytes,
        }
    }

    /// The result of `initialize` in a legacy revision; of a modern one, which has none, that of the newest legacy one.
    #[must_use]
    pub fn initialize(&self, revision: Revision) -> &str {
        &self.openings.initialize[revision.index()]
    }

    /// The result of `server/discover`.
    #[must_use]
    pub fn discover(&self) -> &str {
        &self.openings.discover
    }

    /// What can be asked for.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// The first page of a list, or the one behind `cursor`; `None` if that names nothing that is there.
    ///
    /// A cursor names its upstream and the last entry before it (spec 2026-07-28 server/utilities/pagination wants it
    /// stable): whatever changes around that entry, who goes on from it sees every other that stays exactly once.
    #[must_use]
    pub fn page(&self, list: List, revision: Revision, cursor: Option<&str>) -> Option<Page<'_>> {
        let shelf = &self.shelves[list.index()];
        let part = |upstream: &str| self.upstreams.iter().position(|known| **known == *upstream);
        let from = cursor.map_or(Some(0), |cursor| shelf.behind(cursor, part))?;
        let (entries, to) = shelf.page(from, revision, self.page_entries, self.page_bytes);
        let next =
            (to < shelf.items().len()).then(|| shelf.cursor(to - 1, &self.upstreams[shelf.items()[to - 1].part]));
        let closing = match revision.era() {
            Era::Legacy => "}",
            Era::Modern => &self.openings.cache,
        };
        Some(Page { opening: self.result_opening(revision), list, entries, next, closing })
    }

    /// How every result of ours begins: `{`, and in the modern era `resultType` and our name in `_meta` (spec 2026-07-28
    /// basic/index#meta). At least one more member must follow, then `}`.
    #[must_use]
    pub fn result_opening(&self, revision: Revision) -> &str {
        opening::result_opening(&self.openings, revision)
    }

    /// Whose a target is: the place of its part, and the name that its server has for it. `present` tells whether the
    /// server of a part is there now; it matters only for a resource that nobody lists.
    #[must_use]
    pub fn route<'c>(&'c self, target: &'c Target<'_>, present: impl Fn(usize) -> bool) -> Option<(usize, &'c str)> {
        let find = |list: List, name| self.shelves[list.index()].find(name).map(|item| (item.part, &*item.own));
        match target {
            Target::Tool(name) => find(List::Tools, name),
            Target::Prompt(name) => find(List::Prompts, name),
            // A completion names a template as it is written (spec 2025-11-25 server/utilities/completion#reference-types).
            Target::Resource(uri) => find(List::Resources, uri)
                .or_else(|| find(List::Templates, uri))
                .or_else(|| Some((self.routes.find(uri, present)?, uri))),
        }
    }

    /// Which arguments of which tools HTTP requests carry in headers, too.
    #[must_use]
    pub const fn param_headers(&self) -> &ParamHeaders {
        &self.param_headers
    }

    /// Every entry, in order.
    pub fn listing(&self) -> impl Iterator<Item = Listed<'_>> {
        List::ALL.into_iter().flat_map(|list| {
            let shelf = &self.shelves[list.index()];
            shelf.items().iter().enumerate().map(move |(at, item)| Listed {
                list,
                name: &item.name,
                part: item.part,
                own: &item.own,
                text: shelf.text(at, Revision::NEWEST),
            })
        })
    }

    /// What was offered and is not here, and why.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Whether a list looks to any client as it does in `other`.
    #[must_use]
    pub fn looks_like(&self, other: &Self, list: List) -> bool {
        self.shelves[list.index()].looks_like(&other.shelves[list.index()])
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.openings.bytes() + self.shelves.iter().map(Shelf::bytes).sum::<usize>()
    }
}

/// What the tools' schemas ask for. One that cannot be read is in no list: its server's side has left it out.
fn param_headers(tools: &Shelf) -> ParamHeaders {
    let mut headers = ParamHeaders::default();
    for (at, item) in tools.items().iter().enumerate() {
        let text = std::str::from_utf8(tools.text(at, Revision::NEWEST)).unwrap_or_default();
        let schema = json::pick(text, ["inputSchema"]).ok().and_then(|[schema]| schema);
        headers.insert(&item.name, schema.and_then(|schema| param_headers::read(schema).ok()).unwrap_or_default());
    }
    headers
}

impl Page<'_> {
    /// Appends the whole result.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.opening.as_bytes());
        for part in [b"\"".as_slice(), self.list.member().as_bytes(), b"\":[", self.entries, b"]"] {
            out.extend_from_slice(part);
        }
        if let Some(next) = &self.next {
            out.extend_from_slice(br#","nextCursor":""#);
            out.extend_from_slice(next.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(self.closing.as_bytes());
    }
}

#[cfg(test)]
mod tests;
