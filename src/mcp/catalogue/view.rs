//! What each revision sees of a definition: the text that came, without the members that the revision does not know.

use crate::mcp::method::List;
use crate::mcp::revision::{Era, Revision};
use crate::wire::json;

/// What is defined; the same member may be known to a revision in one definition and not in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A schema `Tool`.
    Tool,
    /// A schema `Prompt`, `Resource` or `ResourceTemplate`.
    Other,
    /// A schema `Implementation`.
    Server,
}

/// Members that some revision does not know, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Members(u8);

impl Members {
    /// Since 2025-06-18 (schema `BaseMetadata`).
    const TITLE: Self = Self(1);
    /// Of a tool, since 2025-03-26; resources have had others from the first revision on.
    const ANNOTATIONS: Self = Self(2);
    /// A tool's `outputSchema` of an object, since 2025-06-18.
    const OUTPUT: Self = Self(4);
    /// A tool's `outputSchema` of anything else, since 2026-07-28.
    const ANY_OUTPUT: Self = Self(8);
    /// And what else is new in 2025-11-25: `websiteUrl` and `description` of an implementation.
    const ICONS: Self = Self(16);
    /// A tool's, only in 2025-11-25: the tasks of that revision.
    const EXECUTION: Self = Self(32);

    /// The members that a revision does not know.
    pub(super) fn unknown_to(revision: Revision) -> Self {
        let unknown = [
            (Self::TITLE, !revision.has_titles()),
            (Self::ANNOTATIONS, !revision.has_annotations()),
            (Self::OUTPUT, !revision.has_structured_content()),
            (Self::ANY_OUTPUT, revision.era() == Era::Legacy),
            (Self::ICONS, !revision.has_icons()),
            (Self::EXECUTION, revision != Revision::V2025_11_25),
        ];
        unknown.into_iter().filter(|(_, is)| *is).fold(Self::default(), |all, (member, _)| all.and(member))
    }

    /// Those that `definition` has.
    pub(super) fn of(definition: &str, what: What) -> Self {
        let members = json::members(definition).into_iter().flatten();
        members.fold(Self::default(), |all, (key, value)| all.and(Self::member(what, &key, value)))
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn member(what: What, key: &str, value: &str) -> Self {
        match (key, what) {
            ("title", _) => Self::TITLE,
            ("icons", _) | ("websiteUrl" | "description", What::Server) => Self::ICONS,
            ("annotations", What::Tool) => Self::ANNOTATIONS,
            ("outputSchema", What::Tool) if is_of_an_object(value) => Self::OUTPUT,
            ("outputSchema", What::Tool) => Self::ANY_OUTPUT,
            ("execution", What::Tool) => Self::EXECUTION,
            _ => Self::default(),
        }
    }
}

impl From<List> for What {
    fn from(list: List) -> Self {
        if list == List::Tools { Self::Tool } else { Self::Other }
    }
}

/// Whether a schema says `"type":"object"`, as legacy revisions want it.
fn is_of_an_object(schema: &str) -> bool {
    let kind = json::pick(schema, ["type"]).ok().and_then(|[kind]| kind);
    kind.and_then(json::string).is_some_and(|kind| kind == "object")
}

/// Appends a definition as the text that came, in one line: without the members in `hidden`, and by another `name`.
///
/// What is new inside of a member (a prompt argument's title) stays: all schemas allow members that they do not know, and
/// only those of the definition itself change what a client does with it.
pub(super) fn write(out: &mut Vec<u8>, what: What, definition: &str, hidden: Members, name: Option<&str>) {
    if hidden == Members::default() && name.is_none() {
        return push(out, definition);
    }
    out.push(b'{');
    let mut first = true;
    for (key, value) in json::members(definition).into_iter().flatten() {
        if Members::member(what, &key, value).both(hidden) != Members::default() {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        json::write_string(out, &key);
        out.push(b':');
        match name {
            Some(name) if key == "name" => json::write_string(out, name),
            _ => push(out, value),
        }
    }
    out.push(b'}');
}

/// A line break, which ends a message on byte streams, can only be whitespace in JSON.
fn push(out: &mut Vec<u8>, json: &str) {
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_none() {
        return out.extend_from_slice(json.as_bytes());
    }
    out.extend(json.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(what: What, definition: &str, revision: Revision, name: Option<&str>) -> String {
        let mut out = Vec::new();
        write(&mut out, what, definition, Members::unknown_to(revision).both(Members::of(definition, what)), name);
        String::from_utf8(out).unwrap()
    }

    fn keys(what: What, definition: &str, revision: Revision) -> String {
        let text = seen(what, definition, revision, None);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    }

    /// Schemas `Tool` of the five revisions; what none knows is somebody's extension.
    #[test]
    fn a_tool_shows_only_members_its_revision_knows_and_those_that_none_does() {
        let tool = r#"{"name":"x","title":"X","description":"d","inputSchema":{},"outputSchema":{"type":"object"},
            "annotations":{},"icons":[],"execution":{},"_meta":{},"x-own":1}"#;
        let keys = |revision| keys(What::Tool, tool, revision);
        assert_eq!(keys(Revision::V2024_11_05), "_meta description inputSchema name x-own");
        assert_eq!(keys(Revision::V2025_03_26), "_meta annotations description inputSchema name x-own");
        let third = "_meta annotations description inputSchema name outputSchema title x-own";
        assert_eq!(keys(Revision::V2025_06_18), third);
        let fourth = "_meta annotations description execution icons inputSchema name outputSchema title x-own";
        assert_eq!(keys(Revision::V2025_11_25), fourth);
        let fifth = "_meta annotations description icons inputSchema name outputSchema title x-own";
        assert_eq!(keys(Revision::V2026_07_28), fifth);
    }

    /// Schemas `Prompt`, `Resource`, `ResourceTemplate`: annotations from the first revision on.
    #[test]
    fn what_is_no_tool_keeps_its_annotations_and_has_titles_and_icons_where_tools_have() {
        let resource = r#"{"uri":"a:b","name":"x","title":"X","annotations":{},"icons":[],"size":1}"#;
        let keys = |revision| keys(What::Other, resource, revision);
        assert_eq!(keys(Revision::V2024_11_05), "annotations name size uri");
        assert_eq!(keys(Revision::V2025_06_18), "annotations name size title uri");
        assert_eq!(keys(Revision::V2026_07_28), "annotations icons name size title uri");
    }

    /// Schema 2026-07-28 `Tool.outputSchema` may be any schema, up to 2025-11-25 it is one of an object.
    #[test]
    fn an_output_schema_of_no_object_is_for_the_modern_era() {
        for schema in [r#"{"type":"array"}"#, r#"{"anyOf":[]}"#, "true", r#"{"type":["object","null"]}"#] {
            let tool = format!(r#"{{"name":"x","outputSchema":{schema}}}"#);
            assert_eq!(keys(What::Tool, &tool, Revision::V2025_11_25), "name", "{schema}");
            assert_eq!(keys(What::Tool, &tool, Revision::V2026_07_28), "name outputSchema", "{schema}");
        }
    }

    /// Schemas `Implementation`.
    #[test]
    fn a_server_is_introduced_as_its_revision_knows_it() {
        let info = r#"{"name":"s","version":"1","title":"S","description":"d","websiteUrl":"u","icons":[]}"#;
        assert_eq!(keys(What::Server, info, Revision::V2025_03_26), "name version");
        assert_eq!(keys(What::Server, info, Revision::V2025_06_18), "name title version");
        assert_eq!(keys(What::Server, info, Revision::V2025_11_25), "description icons name title version websiteUrl");
    }

    #[test]
    fn what_stays_is_the_text_that_came_in_one_line() {
        let tool = "{ \"inputSchema\": {\"z\":1.0,\n\"a\":\"\\u0041\"} ,\r\n\"n\\u0061me\":\"x\"}";
        let same = "{ \"inputSchema\": {\"z\":1.0,\"a\":\"\\u0041\"} ,\"n\\u0061me\":\"x\"}";
        assert_eq!(seen(What::Tool, tool, Revision::V2025_11_25, None), same);
        let renamed = r#"{"inputSchema":{"z":1.0,"a":"\u0041"},"name":"b_\"x"}"#;
        assert_eq!(seen(What::Tool, tool, Revision::V2025_11_25, Some("b_\"x")), renamed);
    }
}
