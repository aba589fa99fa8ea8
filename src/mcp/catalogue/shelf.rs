//! One list of the catalogue: its entries in order, their texts as each revision sees them, and its pages.

use std::collections::HashMap;
use std::sync::Arc;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};

use super::Part;
use super::config::Prefix;
use super::names::{self, Nameless};
use super::select::Chosen;
use super::view::{self, Members, What};
use crate::mcp::method::List;
use crate::mcp::revision::Revision;

/// One list.
#[derive(Debug)]
pub(super) struct Shelf {
    items: Box<[Item]>,
    /// The places of the items by the names shown.
    places: HashMap<Arc<str>, u32>,
    /// The places of the items, ordered by part and own name: where a cursor is found.
    ordered: Box<[u32]>,
    /// By [`Revision::index`]; the same where revisions see the same.
    texts: [Arc<Texts>; 5],
}

/// One entry.
#[derive(Debug)]
pub(super) struct Item {
    /// Whose it is.
    pub(super) part: usize,
    /// The name or URI that its server has for it.
    pub(super) own: Arc<str>,
    /// The name or URI that clients have for it.
    pub(super) name: Arc<str>,
}

/// The texts of all items, with a comma between two: any run of items is one slice.
#[derive(Debug, Default, PartialEq, Eq)]
struct Texts {
    all: Box<[u8]>,
    ends: Box<[u32]>,
}

impl Shelf {
    pub(super) fn new(list: List, chosen: &[Chosen<'_>], parts: &[Part<'_>], prefix: Prefix) -> Self {
        let owners = chosen.iter().map(|it| Nameless { upstream: parts[it.part].name, own: &it.entry.key });
        let named = matches!(list, List::Tools | List::Prompts);
        let names = named.then(|| names::name(&owners.collect::<Vec<_>>(), parts.len() > 1, prefix));
        let items: Box<[Item]> = (0..chosen.len())
            .map(|at| {
                let own: Arc<str> = Arc::from(&*chosen[at].entry.key);
                let name = names.as_ref().map_or(&*own, |names| &names[at]);
                let name = if *name == *own { Arc::clone(&own) } else { Arc::from(name) };
                Item { part: chosen[at].part, own, name }
            })
            .collect();
        let mut places = HashMap::with_capacity(items.len());
        for (item, at) in items.iter().zip(0..) {
            places.entry(Arc::clone(&item.name)).or_insert(at);
        }
        let mut ordered: Box<[u32]> = (0..).take(items.len()).collect();
        ordered.sort_unstable_by_key(|&at| items[at as usize].order());
        let texts = texts(list, chosen, &items);
        Self { items, places, ordered, texts }
    }

    /// The entries, in order.
    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    /// The place of the entry that is shown by this name.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).map(|&at| at as usize)
    }

    /// The entry that is shown by this name.
    pub(super) fn find(&self, name: &str) -> Option<&Item> {
        self.place(name).map(|at| &self.items[at])
    }

    /// One entry's text.
    pub(super) fn text(&self, at: usize, revision: Revision) -> &[u8] {
        self.texts[revision.index()].slice(at, at + 1)
    }

    /// Whether clients of any revision see a difference.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        self.texts == other.texts
    }

    /// The place of the first entry behind a cursor; `None` if it names no entry that is here.
    pub(super) fn behind(&self, cursor: &str, part: impl Fn(&str) -> Option<usize>) -> Option<usize> {
        let cursor = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (upstream, own) = std::str::from_utf8(&cursor).ok()?.split_once('\n')?;
        let wanted = (part(upstream)?, own);
        let found = self.ordered.binary_search_by_key(&wanted, |&at| self.items[at as usize].order()).ok()?;
        Some(self.ordered[found] as usize + 1)
    }

    /// The cursor behind the entry at `at`: it names the entry, and so outlives changes of the catalogue around it.
    pub(super) fn cursor(&self, at: usize, upstream: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(format!("{upstream}\n{}", self.items[at].own))
    }

    /// The texts of the page that begins at `from`, and where it ends.
    pub(super) fn page(&self, from: usize, revision: Revision, most: usize, bytes_most: usize) -> (&[u8], usize) {
        let texts = &self.texts[revision.index()];
        let to = texts.page_end(from, most, bytes_most);
        (texts.slice(from, to), to)
    }

    /// Bytes held, but for what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        let mut texts: Vec<&Arc<Texts>> = Vec::new();
        for one in &self.texts {
            if !texts.iter().any(|known| Arc::ptr_eq(known, one)) {
                texts.push(one);
            }
        }
        let names = |item: &Item| item.own.len() + if item.name == item.own { 0 } else { item.name.len() };
        texts.iter().map(|texts| texts.all.len() + size_of_val(&*texts.ends)).sum::<usize>()
            + self.items.iter().map(|item| size_of::<Item>() + names(item)).sum::<usize>()
            + size_of_val(&*self.ordered)
            + self.places.capacity() * size_of::<(Arc<str>, u32)>()
    }
}

impl Item {
    fn order(&self) -> (usize, &str) {
        (self.part, &self.own)
    }
}

/// The texts for each revision, rendered once for those that see the same.
fn texts(list: List, chosen: &[Chosen<'_>], items: &[Item]) -> [Arc<Texts>; 5] {
    let members = chosen.iter().fold(Members::default(), |all, it| all.and(it.members));
    let mut rendered: Vec<(Members, Arc<Texts>)> = Vec::new();
    Revision::ALL.map(|revision| {
        let hidden = Members::unknown_to(revision).both(members);
        if let Some((_, known)) = rendered.iter().find(|(known, _)| *known == hidden) {
            return Arc::clone(known);
        }
        let texts = Arc::new(Texts::render(What::from(list), chosen, items, hidden));
        rendered.push((hidden, Arc::clone(&texts)));
        texts
    })
}

impl Texts {
    fn render(what: What, chosen: &[Chosen<'_>], items: &[Item], hidden: Members) -> Self {
        let mut all = Vec::with_capacity(chosen.iter().map(|it| it.entry.text.len() + 1).sum());
        let mut ends = Vec::with_capacity(chosen.len());
        for (Chosen { entry, members, .. }, item) in chosen.iter().zip(items) {
            if !all.is_empty() {
                all.push(b',');
            }
            let name = (item.name != item.own).then_some(&*item.name);
            view::write(&mut all, what, &entry.text, hidden.both(*members), name);
            // `catalogue.bytes_max` is far below 4 GiB, and checked.
            ends.push(u32::try_from(all.len()).unwrap_or(u32::MAX));
        }
        Self { all: all.into(), ends: ends.into() }
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.ends[before] as usize + 1)
    }

    fn slice(&self, from: usize, to: usize) -> &[u8] {
        if from >= to { &[] } else { &self.all[self.start(from)..self.ends[to - 1] as usize] }
    }

    /// Where a page ends: after `most` entries, or before it is over `bytes_most`, but not before its first entry.
    fn page_end(&self, from: usize, most: usize, bytes_most: usize) -> usize {
        let last = from.saturating_add(most.max(1)).min(self.ends.len());
        if from >= last {
            return last;
        }
        let bytes_end = self.start(from).saturating_add(bytes_most);
        let fitting = self.ends[from..last].partition_point(|&end| end as usize <= bytes_end);
        from + fitting.max(1)
    }
}
