//! All that one server offers, list by list and page by page, as far as it makes sense and has an end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::mux::Heard;
use super::probe::Agreed;
use crate::mcp::param_headers::{self, ParamHeaders};
use crate::mcp::{Entry, Era, List, Offer, Topics, bridge};
use crate::wire::json;

/// Most pages of one list.
const PAGES_MAX: usize = 1_000;
/// Longest cursor, in bytes: all of one list are kept until it is read.
const CURSOR_BYTES_MAX: usize = 8 << 10;
/// Most bytes of all entries.
const BYTES_MAX: usize = 64 << 20;
/// Longest name, in bytes, and longest URI.
const NAME_BYTES_MAX: usize = 256;
const URI_BYTES_MAX: usize = 8 << 10;
/// Entries left out that are named in the log, for each list.
const COMPLAINTS_MAX: usize = 8;
/// The server does not know the request (JSON-RPC 2.0, section 5.1).
const METHOD_NOT_FOUND: i64 = -32601;

/// A gathering under way.
pub(super) struct Gather {
    upstream: Box<str>,
    offer: Offer,
    params: ParamHeaders,
    /// Whether tools with wrong header annotations are left out.
    strict: bool,
    entries_max: usize,
    bytes: usize,
    /// What was listed before: it stays where the new list cannot be had, and what is there again need not be read again.
    before: (Arc<Offer>, ParamHeaders),
    /// Whether that was so with any.
    pub(super) is_partial: bool,
    /// What is still to be listed; the last is next.
    left: Vec<List>,
    page: Page,
}

/// Where we are in one list.
#[derive(Default)]
struct Page {
    cursor: Option<Box<str>>,
    /// The cursors of this list that were used: one that comes again leads in a circle.
    used: HashSet<Box<str>>,
    keys: HashSet<Box<str>>,
    complaints: usize,
}

impl Gather {
    /// Lists what has changed, and takes the rest from `last`; all of it if there is none. What cannot be listed now stays
    /// as it was there. `http`: the link is HTTP.
    pub(super) fn new(
        upstream: &str,
        agreed: &Agreed,
        last: Option<&(Arc<Offer>, ParamHeaders)>,
        changed: Topics,
        entries_max: usize,
        http: bool,
    ) -> Self {
        let before = last.cloned().unwrap_or_default();
        let mut offer = Offer {
            features: agreed.features,
            beyond: agreed.beyond.clone(),
            server_info: agreed.server_info.clone(),
            instructions: agreed.instructions.clone(),
            ..Offer::default()
        };
        let wanted = |list: &List| last.is_none() || changed.meets(topic(*list));
        let (mut left, kept): (Vec<List>, Vec<List>) = List::ALL.into_iter().partition(wanted);
        left.reverse();
        for list in kept {
            offer.lists[list.index()].clone_from(&before.0.lists[list.index()]);
        }
        let params = if left.contains(&List::Tools) { ParamHeaders::default() } else { before.1.clone() };
        left.retain(|list| agreed.features.has(list.feature()));
        let bytes = offer.lists.iter().flatten().map(|entry| entry.text.len()).sum();
        let strict = http && agreed.revision.era() == Era::Modern;
        let upstream = upstream.into();
        let (is_partial, page) = (false, Page::default());
        Self { upstream, offer, params, strict, entries_max, bytes, before, is_partial, left, page }
    }

    /// What to ask for: a list, and the members of `params`. None: all is there.
    pub(super) fn next(&self) -> Option<(List, String)> {
        let list = *self.left.last()?;
        let params = self.page.cursor.as_ref().map_or_else(String::new, |cursor| format!("\"cursor\":{cursor}"));
        Some((list, params))
    }

    /// The answer to what [`Self::next`] gave.
    pub(super) fn take(&mut self, list: List, heard: &Heard) {
        if self.left.last() != Some(&list) {
            return;
        }
        let result = match heard {
            Heard::Result(result) => std::str::from_utf8(result).unwrap_or_default(),
            Heard::Error(error) => {
                let error = String::from_utf8_lossy(error);
                // It will not have it later either.
                let never = bridge::code(&error) == Some(METHOD_NOT_FOUND);
                return if never { self.do_without(list, &error) } else { self.give_up(list, &error) };
            }
            Heard::Failed(trouble) => return self.give_up(list, &trouble.to_string()),
        };
        let Ok([entries, cursor, ttl, scope]) =
            json::pick(result, [list.member(), "nextCursor", "ttlMs", "cacheScope"])
        else {
            return self.give_up(list, "a member of its answer is there twice");
        };
        let Some(entries) = entries.and_then(json::elements) else {
            return self.give_up(list, "its answer has no list");
        };
        if let Some(ttl) = ttl.and_then(|ttl| ttl.parse().ok()).map(Duration::from_millis) {
            self.offer.fresh = Some(self.offer.fresh.map_or(ttl, |known| known.min(ttl)));
        }
        self.offer.private |= scope.is_some_and(|scope| scope != "\"public\"");
        for entry in entries {
            if !self.put(list, entry) {
                return self.finish_list();
            }
        }
        match cursor.filter(|&cursor| cursor != "null") {
            None => self.finish_list(),
            Some(cursor) if cursor.len() > CURSOR_BYTES_MAX => {
                self.complain(list, "its cursor is too long; the rest is left out", cursor);
                self.finish_list();
            }
            Some(cursor) if self.page.used.len() >= PAGES_MAX || !self.page.used.insert(cursor.into()) => {
                self.complain(list, "its pages have no end; the rest is left out", "");
                self.finish_list();
            }
            Some(cursor) => self.page.cursor = Some(cursor.into()),
        }
    }

    /// All that was gathered.
    pub(super) fn finish(self) -> (Offer, ParamHeaders) {
        (self.offer, self.params)
    }

    /// Takes an entry, or leaves it out. False: no more fit.
    fn put(&mut self, list: List, text: &str) -> bool {
        if !self.fits(text) {
            self.complain(list, "it offers more than fits (entries_max); the rest is left out", "");
            return false;
        }
        // In the place of the same entry: a server that comes back mostly offers what it did.
        let place = self.offer.lists[list.index()].len();
        let known = self.before.0.lists[list.index()].get(place).filter(|known| *known.text == *text);
        let Some(key) = known.map(|known| known.key.clone()).or_else(|| usable(list, text)) else {
            self.complain(list, "an entry without a usable name is left out", text);
            return true;
        };
        if self.page.keys.contains(&key) {
            self.complain(list, "an entry that is there twice is left out", &key);
            return true;
        }
        if list == List::Tools && known.is_some() && !self.strict {
            self.params.insert(&key, self.before.1.of(&key).to_vec());
        } else if list == List::Tools {
            let schema = json::pick(text, ["inputSchema"]).ok().and_then(|[schema]| schema).unwrap_or("{}");
            match param_headers::read(schema) {
                Ok(headers) => self.params.insert(&key, headers),
                Err(why) if self.strict => {
                    self.complain(list, why, &key);
                    return true;
                }
                Err(_) => {}
            }
        }
        self.page.keys.insert(key.clone());
        self.bytes += text.len();
        self.offer.lists[list.index()].push(Entry { key, text: text.into() });
        true
    }

    fn fits(&self, text: &str) -> bool {
        let count: usize = self.offer.lists.iter().map(Vec::len).sum();
        count < self.entries_max && self.bytes + text.len() <= BYTES_MAX
    }

    fn do_without(&mut self, list: List, why: &str) {
        self.complain(list, "it does not list what it says it has", why);
        self.finish_list();
    }

    /// The list stays as it was before, for now.
    fn give_up(&mut self, list: List, why: &str) {
        self.is_partial = true;
        for entry in std::mem::take(&mut self.offer.lists[list.index()]) {
            self.bytes -= entry.text.len();
        }
        let before = Arc::clone(&self.before.0);
        for entry in &before.lists[list.index()] {
            if self.fits(&entry.text) {
                self.bytes += entry.text.len();
                self.offer.lists[list.index()].push(entry.clone());
            }
        }
        if list == List::Tools {
            self.params = std::mem::take(&mut self.before.1);
        }
        self.complain(list, "a list could not be had; it stays as it was, and is asked for again later", why);
        self.finish_list();
    }

    fn finish_list(&mut self) {
        self.left.pop();
        self.page = Page::default();
    }

    fn complain(&mut self, list: List, what: &'static str, about: &str) {
        self.page.complaints += 1;
        if self.page.complaints <= COMPLAINTS_MAX {
            let about = crate::mcp::fault::excerpt(about);
            tracing::warn!(upstream = &*self.upstream, list = list.method(), about = ?about, "{what}");
        }
    }
}

/// What an entry is asked for by, if that is something to ask for.
fn usable(list: List, text: &str) -> Option<Box<str>> {
    let key = json::pick(text, [list.key()]).ok().and_then(|[key]| json::string(key?))?;
    let most = if list.key() == "name" { NAME_BYTES_MAX } else { URI_BYTES_MAX };
    let is_usable = !key.is_empty() && key.len() <= most && !key.contains(char::is_control);
    is_usable.then(|| key.into())
}

/// What is told when a list changes.
const fn topic(list: List) -> Topics {
    match list {
        List::Tools => Topics::TOOLS,
        List::Prompts => Topics::PROMPTS,
        List::Resources | List::Templates => Topics::RESOURCES,
    }
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
