//! What one server offers, as it has listed it: the bytes that came, and by which name each entry goes.

use std::time::Duration;

use crate::mcp::beyond::Beyond;
use crate::mcp::method::{Features, List};

/// Everything that one server offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// What it can do.
    pub features: Features,
    /// What it has beyond the core protocol.
    pub beyond: Beyond,
    /// The raw JSON object that it calls itself (`serverInfo`).
    pub server_info: Option<Box<str>>,
    /// Its advice to the model.
    pub instructions: Option<Box<str>>,
    /// Its lists, by [`List::index`], in its own order.
    pub lists: [Vec<Entry>; 4],
    /// How long its lists may be kept, where it says so (`ttlMs`): the shortest of all.
    pub fresh: Option<Duration>,
    /// Whether it says that its lists are for this client only (`cacheScope` is not `public`).
    pub private: bool,
}

/// One tool, prompt, resource or template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, URI or URI template.
    pub key: Box<str>,
    /// The whole raw JSON object.
    pub text: Box<str>,
}

impl Offer {
    /// One of its lists.
    #[must_use]
    pub fn list(&self, list: List) -> &[Entry] {
        &self.lists[list.index()]
    }
}
