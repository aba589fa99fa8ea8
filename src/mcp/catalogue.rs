//! What is offered, rendered once per revision: the results of `initialize`, `server/discover` and `tools/list`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::mcp::method::{Features, List};
use crate::mcp::revision::{Era, Revision};

/// Who we are: `serverInfo` and what goes with it.
#[derive(Debug, Clone, Default)]
pub struct Server {
    /// The name for programs.
    pub name: String,
    /// The name for people, where the revision has one.
    pub title: Option<String>,
    /// The version of this software.
    pub version: String,
    /// Advice to the model on how to use this server.
    pub instructions: Option<String>,
}

/// One tool as it was defined; schemas and annotations stay the JSON they came as.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// Unique in the catalogue; 1 to 128 of `A-Z a-z 0-9 _ - .` (spec 2026-07-28 server/tools#tool-names).
    pub name: String,
    /// The name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON schema of its arguments, an object.
    pub input_schema: Box<RawValue>,
    /// The JSON schema of its structured content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Box<RawValue>>,
    /// Hints on its behaviour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Box<RawValue>>,
    /// Icons to show for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icons: Option<Box<RawValue>>,
}

impl Tool {
    /// This tool with only the fields that `revision` knows (schemas `Tool`).
    #[must_use]
    pub fn seen_by(&self, revision: Revision) -> Self {
        let mut seen = self.clone();
        seen.title = seen.title.filter(|_| revision.has_titles());
        seen.output_schema = seen.output_schema.filter(|_| revision.has_structured_content());
        seen.annotations = seen.annotations.filter(|_| revision.has_annotations());
        seen.icons = seen.icons.filter(|_| revision.has_icons());
        seen
    }
}

/// Every result that is the same for all clients, as JSON text; share it by `Arc`.
#[derive(Debug)]
pub struct Catalogue {
    initialize: [Box<str>; 5],
    tools: [Box<str>; 5],
    discover: Box<str>,
    opening: Box<str>,
}

impl Catalogue {
    /// Renders the catalogue. Clients may keep lists for `fresh` (spec 2026-07-28 server/utilities/caching); the order of
    /// `tools` is the order of the lists, for all clients the same.
    #[must_use]
    pub fn new(server: &Server, tools: &[Tool], fresh: Duration) -> Self {
        let tools = Revision::ALL.map(|revision| {
            let seen: Vec<Tool> = tools.iter().map(|tool| tool.seen_by(revision)).collect();
            format!(r#""tools":{}"#, json(&seen))
        });
        let opening = format!(
            r#"{{"resultType":"complete","_meta":{{"io.modelcontextprotocol/serverInfo":{}}},"#,
            server_info(server, Revision::NEWEST)
        );
        let instructions =
            server.instructions.as_ref().map(|text| format!(r#","instructions":{}"#, json(text))).unwrap_or_default();
        let cache = format!(r#","ttlMs":{},"cacheScope":"public"}}"#, fresh.as_millis());
        Self {
            initialize: Revision::ALL.map(|revision| initialize(server, revision, &instructions)),
            tools: Revision::ALL.map(|revision| {
                let list = &tools[revision.index()];
                match revision.era() {
                    Era::Legacy => format!("{{{list}}}").into(),
                    Era::Modern => format!("{opening}{list}{cache}").into(),
                }
            }),
            discover: format!(
                r#"{opening}"supportedVersions":{},"capabilities":{CAPABILITIES}{instructions}{cache}"#,
                Revision::SUPPORTED_PER_REQUEST
            )
            .into(),
            opening: opening.into(),
        }
    }

    /// The result of `initialize` in a legacy revision; of a modern one, which has none, that of the newest legacy one.
    #[must_use]
    pub fn initialize(&self, revision: Revision) -> &str {
        &self.initialize[revision.index()]
    }

    /// The result of `server/discover`.
    #[must_use]
    pub fn discover(&self) -> &str {
        &self.discover
    }

    /// What can be asked for.
    #[must_use]
    pub const fn features(&self) -> Features {
        Features::TOOLS
    }

    /// The result of a list, or of its page behind `cursor`; `None` if that cursor was never given out.
    #[must_use]
    pub fn page(&self, list: List, revision: Revision, cursor: Option<&str>) -> Option<&str> {
        (list == List::Tools && cursor.is_none()).then(|| self.tools(revision))
    }

    /// The result of `tools/list`, whole: there are no pages.
    #[must_use]
    pub fn tools(&self, revision: Revision) -> &str {
        &self.tools[revision.index()]
    }

    /// How every result of ours begins: `{`, and in the modern era `resultType` and our name in `_meta` (spec 2026-07-28
    /// basic/index#meta). At least one more member must follow, then `}`.
    #[must_use]
    pub fn result_opening(&self, revision: Revision) -> &str {
        match revision.era() {
            Era::Legacy => "{",
            Era::Modern => &self.opening,
        }
    }

    /// How many bytes the rendered texts take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let lists = self.initialize.iter().chain(&self.tools).map(|text| text.len()).sum::<usize>();
        lists + self.discover.len() + self.opening.len()
    }
}

/// Tools, which never change: no `listChanged`.
const CAPABILITIES: &str = r#"{"tools":{}}"#;

fn initialize(server: &Server, revision: Revision, instructions: &str) -> Box<str> {
    let revision = Revision::negotiate(revision.as_str());
    let info = server_info(server, revision);
    format!(
        r#"{{"protocolVersion":"{}","capabilities":{CAPABILITIES},"serverInfo":{info}{instructions}}}"#,
        revision.as_str()
    )
    .into()
}

fn server_info(server: &Server, revision: Revision) -> String {
    let title = server.title.as_ref().filter(|_| revision.has_titles());
    let title = title.map(|title| format!(r#""title":{},"#, json(title))).unwrap_or_default();
    format!(r#"{{"name":{},{title}"version":{}}}"#, json(&server.name), json(&server.version))
}

/// JSON of values that have one: strings, and lists of tools.
fn json<T: Serialize + ?Sized>(value: &T) -> String {
    let text = serde_json::to_string(value);
    debug_assert!(text.is_ok());
    text.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn catalogue() -> Catalogue {
        let server = Server {
            name: "lakh \"x\"".into(),
            title: Some("Lakh".into()),
            version: "1.2".into(),
            instructions: Some("Try\necho".into()),
        };
        let tool = Tool {
            name: "echo".into(),
            title: Some("Echo".into()),
            description: Some("Says it".into()),
            input_schema: raw(r#"{"type":"object","z":1,"a":2}"#),
            output_schema: Some(raw(r#"{"type":"object"}"#)),
            annotations: Some(raw(r#"{"readOnlyHint":true}"#)),
            icons: Some(raw(r#"[{"src":"data:,"}]"#)),
        };
        Catalogue::new(&server, &[tool], Duration::from_secs(300))
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    /// Schemas `Tool` of the five revisions.
    #[test]
    fn a_tool_shows_only_fields_its_revision_knows() {
        let catalogue = catalogue();
        let keys = |revision| {
            let list = parsed(catalogue.tools(revision));
            let tool = list["tools"][0].as_object().unwrap();
            tool.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(Revision::V2024_11_05), "description inputSchema name");
        assert_eq!(keys(Revision::V2025_03_26), "annotations description inputSchema name");
        assert_eq!(keys(Revision::V2025_06_18), "annotations description inputSchema name outputSchema title");
        let all = "annotations description icons inputSchema name outputSchema title";
        assert_eq!(keys(Revision::V2025_11_25), all);
        assert_eq!(keys(Revision::V2026_07_28), all);
    }

    #[test]
    fn a_schema_stays_the_text_it_was() {
        assert!(catalogue().tools(Revision::V2025_11_25).contains(r#"{"type":"object","z":1,"a":2}"#));
    }

    /// Spec 2025-11-25 basic/lifecycle#initialization, and schemas `Implementation`.
    #[test]
    fn initialize_is_answered_in_the_revision_agreed_on() {
        let catalogue = catalogue();
        let first = parsed(catalogue.initialize(Revision::V2024_11_05));
        assert_eq!(first["protocolVersion"], "2024-11-05");
        assert_eq!(first["serverInfo"], json!({"name":"lakh \"x\"","version":"1.2"}));
        assert_eq!(first["capabilities"], json!({"tools":{}}));
        assert_eq!(first["instructions"], "Try\necho");
        let last = parsed(catalogue.initialize(Revision::V2025_11_25));
        assert_eq!(last["serverInfo"]["title"], "Lakh");
        assert_eq!(parsed(catalogue.initialize(Revision::V2026_07_28)), last);
    }

    /// Spec 2026-07-28 server/discover#response, server/utilities/caching#cacheable-results.
    #[test]
    fn modern_results_are_complete_named_and_cacheable() {
        let catalogue = catalogue();
        let discovered = parsed(catalogue.discover());
        assert_eq!(discovered["supportedVersions"], json!(["2026-07-28"]));
        assert_eq!(discovered["capabilities"], json!({"tools":{}}));
        for result in [discovered, parsed(catalogue.tools(Revision::V2026_07_28))] {
            assert_eq!(result["resultType"], "complete");
            assert_eq!(result["ttlMs"], 300_000);
            assert_eq!(result["cacheScope"], "public");
            assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["version"], "1.2");
        }
    }

    #[test]
    fn legacy_results_have_none_of_the_modern_fields() {
        let catalogue = catalogue();
        for revision in Revision::ALL.into_iter().filter(|it| it.era() == Era::Legacy) {
            let list = parsed(catalogue.tools(revision));
            assert_eq!(list.as_object().unwrap().len(), 1);
            assert_eq!(catalogue.result_opening(revision), "{");
        }
    }
}
