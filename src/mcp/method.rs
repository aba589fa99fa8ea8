//! The requests that reach a server, what they name, and what a server can offer.

use std::borrow::Cow;

/// A request that a server answers; everything else is answered here (`ping`, the lists) or changes what is kept here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `tools/call`.
    CallTool,
    /// `prompts/get`.
    GetPrompt,
    /// `resources/read`.
    ReadResource,
    /// `completion/complete`.
    Complete,
}

impl Method {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CallTool => "tools/call",
            Self::GetPrompt => "prompts/get",
            Self::ReadResource => "resources/read",
            Self::Complete => "completion/complete",
        }
    }

    /// Whether its answer may ask for input first (spec 2026-07-28 basic/patterns/mrtr#supported-requests).
    #[must_use]
    pub const fn may_require_input(self) -> bool {
        !matches!(self, Self::Complete)
    }

    /// Whether its modern answer carries `ttlMs` and `cacheScope` (spec 2026-07-28 server/utilities/caching).
    #[must_use]
    pub const fn is_cacheable(self) -> bool {
        matches!(self, Self::ReadResource)
    }
}

/// What a request names, by which its server is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target<'m> {
    /// A tool's name.
    Tool(Cow<'m, str>),
    /// A prompt's name.
    Prompt(Cow<'m, str>),
    /// A resource's URI, or a template's, where a completion refers to one.
    Resource(Cow<'m, str>),
}

impl Target<'_> {
    /// The name or URI.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Tool(name) | Self::Prompt(name) | Self::Resource(name) => name,
        }
    }
}

/// A list that servers offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum List {
    /// `tools/list`.
    Tools,
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
}

impl List {
    /// Every list.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// The method that asks for it.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    /// The member of the result that holds its entries.
    #[must_use]
    pub const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// The member of an entry by which it is named in requests.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }

    /// What a server must be able to do to have it.
    #[must_use]
    pub const fn feature(self) -> Features {
        match self {
            Self::Tools => Features::TOOLS,
            Self::Prompts => Features::PROMPTS,
            Self::Resources | Self::Templates => Features::RESOURCES,
        }
    }

    /// The place in [`List::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a server can do, a bit each (schemas `ServerCapabilities`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(u8);

impl Features {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// It has tools.
    pub const TOOLS: Self = Self(1);
    /// It has prompts.
    pub const PROMPTS: Self = Self(2);
    /// It has resources.
    pub const RESOURCES: Self = Self(4);
    /// It tells when a resource changes.
    pub const SUBSCRIBE: Self = Self(8);
    /// It logs to its clients.
    pub const LOGGING: Self = Self(16);
    /// It completes arguments.
    pub const COMPLETIONS: Self = Self(32);

    /// Whether it has all of `other`.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How much a log message matters, least first (spec 2025-11-25 server/utilities/logging#log-levels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    /// Every level, least first.
    pub const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// What a client wants that has not said: most servers tell as much by themselves (spec 2025-11-25
    /// server/utilities/logging#setting-log-level leaves it to them).
    pub const UNSAID: Self = Self::Info;

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }

    /// The level of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// Something that changed behind the gateway, which clients may ask to be told; a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Topics(pub u8);

impl Topics {
    /// The list of tools.
    pub const TOOLS: Self = Self(1);
    /// The list of prompts.
    pub const PROMPTS: Self = Self(2);
    /// The lists of resources and templates.
    pub const RESOURCES: Self = Self(4);
    /// One resource's content.
    pub const UPDATED: Self = Self(8);

    /// Whether any of `other` is among these.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Whether a change of the resource `uri` is one of `watched`: it may be a part of it (schema, all revisions:
/// `ResourceUpdatedNotificationParams`).
#[must_use]
pub fn is_part(uri: &str, watched: &str) -> bool {
    let part = |rest: &str| rest.is_empty() || watched.ends_with(ENDS) || rest.starts_with(ENDS);
    uri.strip_prefix(watched).is_some_and(part)
}

/// What stands between a resource and the name of a part of it.
const ENDS: [char; 3] = ['/', '?', '#'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_resource_are_behind_a_slash_a_query_or_a_fragment() {
        for (uri, watched, is) in [
            ("a://b", "a://b", true),
            ("a://b/c", "a://b", true),
            ("a://b/c/d", "a://b/", true),
            ("a://b?c", "a://b", true),
            ("a://b#c", "a://b", true),
            ("a://bc", "a://b", false),
            ("a://b", "a://b/c", false),
            ("a://b/", "a://b/", true),
        ] {
            assert_eq!(is_part(uri, watched), is, "{uri} {watched}");
        }
    }
}
