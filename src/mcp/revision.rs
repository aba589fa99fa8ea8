//! The five published revisions of MCP, their two eras, and what each of them has.

/// One published revision of the protocol, oldest first, so that `>=` reads "this one or later".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Revision {
    /// 2024-11-05: the first.
    V2024_11_05 = 0,
    /// 2025-03-26: tool annotations, progress messages, and the only one with batches.
    V2025_03_26 = 1,
    /// 2025-06-18: titles, output schemas, structured content.
    V2025_06_18 = 2,
    /// 2025-11-25: icons; bad tool arguments are tool errors, which a model may see and correct.
    V2025_11_25 = 3,
    /// 2026-07-28: stateless, every request says its own version.
    V2026_07_28 = 4,
}

/// How a revision says who speaks what (spec 2026-07-28 basic/versioning#terminology).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// A session opened by `initialize`.
    Legacy,
    /// No session: version and capabilities in the `_meta` of every request.
    Modern,
}

impl Revision {
    /// Every revision, oldest first.
    pub const ALL: [Self; 5] =
        [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];

    /// The revisions a request may name in its `_meta`, as a JSON array: what `server/discover` and an unsupported
    /// version are answered with.
    ///
    /// Only modern ones: clients put what they choose from this list into the `_meta` of the next request (spec
    /// 2026-07-28 server/discover#discoverresult), where a legacy revision has no meaning.
    pub const SUPPORTED_PER_REQUEST: &'static str = r#"["2026-07-28"]"#;

    /// The newest revision that is opened by `initialize`.
    pub const NEWEST_LEGACY: Self = Self::V2025_11_25;

    /// The newest revision.
    pub const NEWEST: Self = Self::V2026_07_28;

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// The revision of that name, if it is one of the five.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|revision| revision.as_str() == name)
    }

    /// The era this revision belongs to.
    #[must_use]
    pub const fn era(self) -> Era {
        match self {
            Self::V2026_07_28 => Era::Modern,
            _ => Era::Legacy,
        }
    }

    /// The revision to answer an `initialize` that asks for `requested`: the same when it is a legacy one, else the
    /// newest legacy one, because a modern one has no `initialize` (spec 2025-11-25 basic/lifecycle#version-negotiation).
    #[must_use]
    pub fn negotiate(requested: &str) -> Self {
        Self::parse(requested).filter(|revision| revision.era() == Era::Legacy).unwrap_or(Self::NEWEST_LEGACY)
    }

    /// The place in [`Revision::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether several messages may come as one JSON array (spec 2025-03-26 basic/index#batching; removed in 2025-06-18).
    #[must_use]
    pub const fn has_batches(self) -> bool {
        matches!(self, Self::V2025_03_26)
    }

    /// Whether an event stream begins with an event that has an id and no data (spec 2025-11-25
    /// basic/transports#sending-messages-to-the-server); older clients would read it as a message.
    #[must_use]
    pub fn has_priming_events(self) -> bool {
        self == Self::V2025_11_25
    }

    /// Whether a tool has `annotations` (schema 2025-03-26 `Tool`).
    #[must_use]
    pub fn has_annotations(self) -> bool {
        self >= Self::V2025_03_26
    }

    /// Whether progress notifications have a `message` (spec 2025-03-26 basic/utilities/progress).
    #[must_use]
    pub fn has_progress_messages(self) -> bool {
        self >= Self::V2025_03_26
    }

    /// Whether tools and implementations have a `title` (schema 2025-06-18 `BaseMetadata`).
    #[must_use]
    pub fn has_titles(self) -> bool {
        self >= Self::V2025_06_18
    }

    /// Whether tools have an `outputSchema` and results `structuredContent` (schema 2025-06-18 `Tool`, `CallToolResult`).
    #[must_use]
    pub fn has_structured_content(self) -> bool {
        self >= Self::V2025_06_18
    }

    /// Whether tools and implementations have `icons` (schema 2025-11-25 `Icon`).
    #[must_use]
    pub fn has_icons(self) -> bool {
        self >= Self::V2025_11_25
    }

    /// Whether bad tool arguments are a tool result with `isError` (spec 2025-11-25 server/tools#error-handling) rather
    /// than an invalid-params error (spec 2025-06-18 server/tools#error-handling).
    #[must_use]
    pub fn has_argument_errors_in_results(self) -> bool {
        self >= Self::V2025_11_25
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_places_match() {
        for (place, revision) in Revision::ALL.into_iter().enumerate() {
            assert_eq!(Revision::parse(revision.as_str()), Some(revision));
            assert_eq!(revision.index(), place);
        }
        assert_eq!(Revision::parse("2025-11-26"), None);
    }

    #[test]
    fn a_known_legacy_revision_is_agreed_to_and_anything_else_becomes_the_newest_legacy_one() {
        assert_eq!(Revision::negotiate("2024-11-05"), Revision::V2024_11_05);
        assert_eq!(Revision::negotiate("2025-06-18"), Revision::V2025_06_18);
        assert_eq!(Revision::negotiate("1.0.0"), Revision::V2025_11_25);
        assert_eq!(Revision::negotiate("2026-07-28"), Revision::V2025_11_25);
    }

    #[test]
    fn what_clients_may_put_into_meta_is_exactly_the_modern_revisions() {
        let listed: Vec<String> = serde_json::from_str(Revision::SUPPORTED_PER_REQUEST).unwrap();
        let modern: Vec<&str> =
            Revision::ALL.into_iter().filter(|it| it.era() == Era::Modern).map(Revision::as_str).collect();
        assert_eq!(listed, modern);
    }

    #[test]
    fn only_one_revision_has_batches() {
        let with: Vec<_> = Revision::ALL.into_iter().filter(|it| it.has_batches()).collect();
        assert_eq!(with, [Revision::V2025_03_26]);
    }
}
