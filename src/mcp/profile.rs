//! Who the clients say they are, kept once per kind of client however many of them there are.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::mcp::beyond::{self, member};
use crate::meter::Named;
use crate::wire::json;

/// How much is remembered of who the clients are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most kinds of clients (name, version, capabilities) that one shard tells apart; the rest count as one.
    pub profiles_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        // Far more kinds of clients than there are; 1.3 MiB per shard if all are invented, each as long as can be.
        Self { profiles_max: 1024 }
    }
}

/// What a client says of itself: shared by all clients that say the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Profile {
    /// `clientInfo.name`, at most [`NAME_MAX`] bytes of it.
    pub name: Box<str>,
    /// `clientInfo.version`, at most [`VERSION_MAX`] bytes of it.
    pub version: Box<str>,
    /// What the client can do, a bit for each [`Capability`].
    pub capabilities: u16,
    /// What servers are told that it can do: the raw JSON of `capabilities` in one line, at most [`DECLARED_MAX`] bytes; empty
    /// where that is nothing. Without what nobody here carries ([`beyond::TASKS`]). Of what is longer, only what is known is
    /// kept.
    pub declared: Box<str>,
}

/// Names longer than this many bytes are cut.
pub const NAME_MAX: usize = 64;
/// Versions longer than this many bytes are cut.
pub const VERSION_MAX: usize = 32;
/// Most bytes of capabilities as they were declared: thrice what a client with every extension of today says.
pub const DECLARED_MAX: usize = 1024;

crate::named! {
    /// A capability that a client can declare (schemas `ClientCapabilities`), as far as it matters here.
    pub enum Capability {
        /// It lists its file system roots.
        Roots = "roots",
        /// It tells when they change.
        RootsListChanged = "roots_list_changed",
        /// It samples from a model.
        Sampling = "sampling",
        /// It asks its user for a form.
        Elicitation = "elicitation",
        /// It runs requests as tasks (2025-11-25).
        Tasks = "tasks",
        /// It declares something experimental.
        Experimental = "experimental",
        /// It declares extensions (2026-07-28).
        Extensions = "extensions",
        /// This bit is ours: the table of profiles was full, so this one stands for all the others.
        Unlisted = "unlisted",
    }
}

impl Profile {
    /// Reads `clientInfo` and `capabilities`, both raw JSON values; what is missing or misshapen is left empty, because
    /// it serves display only.
    #[must_use]
    pub fn read(client_info: Option<&str>, capabilities: Option<&str>) -> Self {
        let (mut name, mut version) = (Cow::Borrowed(""), Cow::Borrowed(""));
        for (key, value) in client_info.and_then(json::members).into_iter().flatten() {
            match key.as_ref() {
                "name" => name = json::string(value).unwrap_or_default(),
                "version" => version = json::string(value).unwrap_or_default(),
                _ => {}
            }
        }
        let flags = flags(capabilities);
        let declared = declared(capabilities, flags);
        Self { name: cut(&name, NAME_MAX), version: cut(&version, VERSION_MAX), capabilities: flags, declared }
    }

    /// Whether raw capabilities declare it.
    pub(super) fn declares(capabilities: &str, capability: Capability) -> bool {
        flags(Some(capabilities)) & bit(capability) != 0
    }

    /// Whether the client declared it.
    #[must_use]
    pub const fn can(&self, capability: Capability) -> bool {
        self.capabilities & bit(capability) != 0
    }

    /// The one that stands for all clients beyond the limit of the table.
    pub(super) fn unlisted() -> Self {
        Self { name: "".into(), version: "".into(), capabilities: bit(Capability::Unlisted), declared: "".into() }
    }
}

const fn bit(capability: Capability) -> u16 {
    1 << capability as u16
}

fn cut(text: &str, most: usize) -> Box<str> {
    text[..text.floor_char_boundary(most)].into()
}

fn flags(capabilities: Option<&str>) -> u16 {
    let mut flags = 0;
    for (key, value) in capabilities.and_then(json::members).into_iter().flatten() {
        flags |= match key.as_ref() {
            "roots" => {
                let tells = json::members(value).into_iter().flatten();
                let tells = tells.into_iter().any(|(key, value)| key == "listChanged" && value == "true");
                bit(Capability::Roots) | if tells { bit(Capability::RootsListChanged) } else { 0 }
            }
            "sampling" => bit(Capability::Sampling),
            "elicitation" => bit(Capability::Elicitation),
            "tasks" => bit(Capability::Tasks),
            "experimental" => bit(Capability::Experimental),
            "extensions" => bit(Capability::Extensions),
            _ => 0,
        };
    }
    flags
}

/// See [`Profile::declared`].
fn declared(capabilities: Option<&str>, flags: u16) -> Box<str> {
    let mut text = Vec::new();
    for (key, value) in capabilities.and_then(json::members).into_iter().flatten() {
        match &*key {
            "tasks" => {}
            "extensions" => {
                beyond::extensions(value).into_iter().for_each(|kept| member(&mut text, "extensions", &kept));
            }
            _ if value.starts_with('{') => member(&mut text, &key, value),
            _ => {}
        }
    }
    if text.len() >= DECLARED_MAX {
        text.clear();
        for known in [Capability::Roots, Capability::Sampling, Capability::Elicitation] {
            if flags & bit(known) != 0 {
                member(&mut text, known.name(), "{}");
            }
        }
    }
    if !text.is_empty() {
        text.push(b'}');
    }
    String::from_utf8(text).unwrap_or_default().into()
}

/// The table of profiles of one shard: bounded, whatever clients claim to be.
///
/// Beyond its limit, profiles that no session holds any more make room; when all are held, a new kind of client gets
/// the shared profile with the bit [`Capability::Unlisted`].
#[derive(Debug)]
pub struct Profiles {
    known: HashSet<Arc<Profile>>,
    unlisted: Arc<Profile>,
    limit: usize,
    /// How many strangers are turned away before the full table is searched for room again: a search costs as much as the
    /// table is large, and must not be had for every one of them.
    until_search: usize,
}

impl Profiles {
    /// A table of at most `limit` different profiles, of at most some 1,300 bytes each.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { known: HashSet::new(), unlisted: Arc::new(Profile::unlisted()), limit, until_search: 0 }
    }

    /// The shared copy of `profile`.
    pub fn intern(&mut self, profile: Profile) -> Arc<Profile> {
        if let Some(known) = self.known.get(&profile) {
            return Arc::clone(known);
        }
        if profile.can(Capability::Unlisted) {
            return Arc::clone(&self.unlisted);
        }
        if self.known.len() >= self.limit && !self.make_room() {
            return Arc::clone(&self.unlisted);
        }
        let profile = Arc::new(profile);
        self.known.insert(Arc::clone(&profile));
        profile
    }

    /// Drops the profiles that no session holds, now and then.
    fn make_room(&mut self) -> bool {
        if self.until_search > 0 {
            self.until_search -= 1;
            return false;
        }
        self.until_search = self.limit;
        self.known.retain(|known| Arc::strong_count(known) > 1);
        self.known.len() < self.limit
    }

    /// How many different profiles are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// How many bytes the table holds, near enough.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts: usize = self.known.iter().map(|it| it.name.len() + it.version.len() + it.declared.len()).sum();
        texts + self.known.len() * (size_of::<Profile>() + 16) + self.known.capacity() * (size_of::<usize>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Profile {
        Profile { name: name.into(), version: "1".into(), capabilities: 0, declared: "".into() }
    }

    #[test]
    fn equal_clients_share_one_profile() {
        let mut profiles = Profiles::new(4);
        let one = profiles.intern(Profile::read(Some(r#"{"version":"1","name":"\u0061gent"}"#), Some("{}")));
        let two = profiles.intern(Profile::read(Some(r#"{"name":"agent","version":"1"}"#), None));
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(&*one.name, "agent");
    }

    #[test]
    fn capabilities_become_flags_and_are_told_as_they_were_declared() {
        let declared = r#"{ "roots" : {"listChanged": true},
            "elicitation":{"url":{}},"magic":{"a ":[1, 2]},"unlisted":{} }"#;
        let profile = Profile::read(None, Some(declared));
        let can: Vec<_> = [Capability::Roots, Capability::RootsListChanged, Capability::Elicitation]
            .into_iter()
            .filter(|&it| profile.can(it))
            .collect();
        assert_eq!(can.len(), 3);
        assert_eq!(profile.capabilities.count_ones(), 3);
        let told = r#"{"roots":{"listChanged":true},"elicitation":{"url":{}},"magic":{"a ":[1,2]},"unlisted":{}}"#;
        assert_eq!(&*profile.declared, told);
        let told = |declared: &str| Profile::read(None, Some(declared)).declared.into_string();
        assert_eq!(told(r#"{"tasks":{"list":{}},"sampling":7}"#), "");
        assert_eq!(told(r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#), "");
        let ui = r#"{"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["text/html"]}}}"#;
        assert_eq!(told(ui), ui);
    }

    #[test]
    fn what_is_declared_is_bounded() {
        for (more, kept) in [(0, true), (1, false)] {
            let filler = "x".repeat(DECLARED_MAX - r#"{"roots":{},"x":{"":""}}"#.len() + more);
            let declared = format!(r#"{{"roots":{{}},"x":{{"":"{filler}"}}}}"#);
            let profile = Profile::read(None, Some(&declared));
            assert_eq!(&*profile.declared, if kept { &declared } else { r#"{"roots":{}}"# });
        }
    }

    #[test]
    fn misshapen_claims_are_empty_and_long_ones_are_cut() {
        assert_eq!(Profile::read(Some("[1]"), Some("\"all\"")), Profile::read(None, None));
        let long = format!(r#"{{"name":"{}","version":7}}"#, "é".repeat(10_000));
        let profile = Profile::read(Some(&long), None);
        assert_eq!((profile.name.len(), &*profile.version), (NAME_MAX, ""));
    }

    #[test]
    fn hostile_variety_does_not_grow_the_table() {
        let mut profiles = Profiles::new(8);
        let held: Vec<_> = (0..1000).map(|n| profiles.intern(named(&n.to_string()))).collect();
        assert_eq!(profiles.len(), 8);
        assert!(!held[7].can(Capability::Unlisted));
        assert!(held[8..].iter().all(|it| Arc::ptr_eq(it, &held[999]) && it.can(Capability::Unlisted)));
    }

    #[test]
    fn room_is_made_from_profiles_that_nobody_holds() {
        let mut profiles = Profiles::new(2);
        let held = profiles.intern(named("held"));
        drop(profiles.intern(named("gone")));
        assert!(!profiles.intern(named("new")).can(Capability::Unlisted));
        assert!(Arc::ptr_eq(&held, &profiles.intern(named("held"))));
        let unlisted = (0..9).map(|n| profiles.intern(named(&n.to_string()))).filter(|it| it.can(Capability::Unlisted));
        assert_eq!(unlisted.count(), 6, "one search for two turned away");
    }
}
