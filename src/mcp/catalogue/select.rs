//! What of all offers is in the catalogue, in which order, and what is left out and why.

use std::collections::HashMap;

use super::Part;
use super::view::{Members, What};
use crate::mcp::fault::excerpt;
use crate::mcp::method::List;
use crate::mcp::offer::Entry;
use crate::mcp::revision::Revision;
use crate::wire::json;

crate::named! {
    /// Why an entry is not in the catalogue.
    pub enum Omission {
        /// It is no JSON object.
        Malformed = "malformed",
        /// Its server has listed the same name or URI before.
        Twice = "twice",
        /// An upstream before it has the same URI.
        Taken = "taken",
        /// The catalogue is full (`catalogue.bytes_max`).
        Full = "full",
    }
}

/// Entries of one list of one upstream that are not in the catalogue, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Why.
    pub why: Omission,
    /// The upstream that offers them.
    pub upstream: Box<str>,
    /// The list.
    pub list: List,
    /// How many.
    pub count: usize,
    /// The beginning of the first one's name or URI.
    pub first: Box<str>,
}

/// An entry that is in the catalogue.
pub(super) struct Chosen<'o> {
    pub(super) part: usize,
    pub(super) entry: &'o Entry,
    /// What it has that not every revision knows.
    pub(super) members: Members,
}

/// What is in the catalogue, by [`List::index`].
pub(super) type Lists<'o> = [Vec<Chosen<'o>>; 4];

/// What an entry takes besides its texts and names: its places in the lists and maps, and what the allocator adds.
pub(super) const ENTRY_BYTES: usize = 160;

/// Chooses from the parts in their order. `bytes_max` bounds what the entries take, the texts of all revisions included.
pub(super) fn select<'o>(parts: &[Part<'o>], bytes_max: usize) -> (Lists<'o>, Vec<LeftOut>) {
    let mut left_out = Omissions { parts, all: Vec::new() };
    let (valid, views) = valid(parts, &mut left_out);
    let mut lists = Lists::default();
    let (mut spent, mut full) = (0_usize, false);
    for (list, chosen) in valid {
        let Entry { key, text } = chosen.entry;
        spent = spent.saturating_add(text.len() * views[list.index()] + 2 * key.len() + ENTRY_BYTES);
        // Once something is left out, all behind it is: or the catalogue would be one of what happens to be small.
        full |= spent > bytes_max;
        if full {
            left_out.note(Omission::Full, &chosen, list);
        } else {
            lists[list.index()].push(chosen);
        }
    }
    (lists, left_out.all)
}

/// All entries that could be in the catalogue, by part, list and place, and in how many versions each list is needed.
fn valid<'o>(parts: &[Part<'o>], left_out: &mut Omissions<'_>) -> (Vec<(List, Chosen<'o>)>, [usize; 4]) {
    let mut valid = Vec::new();
    let mut members = [Members::default(); 4];
    let mut owners: HashMap<(List, Option<usize>, &str), usize> = HashMap::new();
    for (part, Part { offer, .. }) in parts.iter().enumerate() {
        for list in List::ALL {
            for entry in offer.list(list) {
                let chosen = Chosen { part, entry, members: Members::of(&entry.text, What::from(list)) };
                if !entry.text.starts_with('{') || json::check(&entry.text).is_err() {
                    left_out.note(Omission::Malformed, &chosen, list);
                    continue;
                }
                // A name is unique in its server, a URI in the whole world.
                let within = matches!(list, List::Tools | List::Prompts).then_some(part);
                let owner = *owners.entry((list, within, &entry.key)).or_insert(usize::MAX);
                match owner {
                    usize::MAX => {
                        owners.insert((list, within, &entry.key), part);
                        members[list.index()] = members[list.index()].and(chosen.members);
                        valid.push((list, chosen));
                    }
                    owner => {
                        let why = if owner == part { Omission::Twice } else { Omission::Taken };
                        left_out.note(why, &chosen, list);
                    }
                }
            }
        }
    }
    (valid, members.map(views))
}

/// How many different texts of a list there are, if its entries have these members.
fn views(members: Members) -> usize {
    let mut hidden: Vec<Members> = Vec::with_capacity(Revision::ALL.len());
    for revision in Revision::ALL {
        let view = Members::unknown_to(revision).both(members);
        if !hidden.contains(&view) {
            hidden.push(view);
        }
    }
    hidden.len()
}

struct Omissions<'p> {
    parts: &'p [Part<'p>],
    all: Vec<LeftOut>,
}

impl Omissions<'_> {
    /// Counted by upstream, list and reason: a server with 100,000 bad entries is one line in the log.
    fn note(&mut self, why: Omission, chosen: &Chosen<'_>, list: List) {
        let upstream = self.parts[chosen.part].name;
        let same = |it: &&mut LeftOut| it.why == why && &*it.upstream == upstream && it.list == list;
        match self.all.iter_mut().find(same) {
            Some(known) => known.count += 1,
            None => {
                let first = excerpt(&chosen.entry.key).into();
                self.all.push(LeftOut { why, upstream: upstream.into(), list, count: 1, first });
            }
        }
    }
}
