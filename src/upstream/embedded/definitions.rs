//! The embedded server's tools as clients see them: names, words, schemas, and the limits in them.

use serde::{Deserialize, Serialize};

use crate::mcp::{Entry, Features, Offer};

/// The name before its tools where there are other upstreams.
pub(super) const UPSTREAM: &str = "embedded";

/// What the embedded tools may cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether its tools are offered.
    pub offered: Offered,
    /// Longest sleep a client can ask for, in milliseconds.
    pub sleep_ms_max: u64,
    /// Shortest time between two progress notifications of a sleep, in milliseconds.
    pub progress_ms_min: u64,
    /// Largest blob a client can ask for, in bytes.
    pub blob_bytes_max: u64,
}

/// When the embedded server's tools are offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offered {
    /// While there is no upstream: they are for trying the gateway.
    #[default]
    Auto,
    /// Beside those of the upstreams.
    Always,
    /// Not at all.
    Never,
}

impl Offered {
    /// Whether they are offered with, or without, upstreams beside them.
    #[must_use]
    pub const fn is_offered(self, beside_upstreams: bool) -> bool {
        match self {
            Self::Auto => !beside_upstreams,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            offered: Offered::default(),
            // Longer than any client waits for a tool, so that timeouts can be tried too.
            sleep_ms_max: 600_000,
            // 50 a second are smooth to look at; more would be a flood (spec 2026-07-28 basic/patterns/progress).
            progress_ms_min: 20,
            // Large enough to fill socket buffers and meet the marks of an outbox, small enough to hold in memory.
            blob_bytes_max: 1 << 20,
        }
    }
}

/// All that the embedded server offers. It never changes; clients ask again now and then, as an update may bring other
/// tools.
#[must_use]
pub(super) fn offer(config: &Config) -> Offer {
    let version = env!("CARGO_PKG_VERSION");
    let info = format!(r#"{{"name":"lakh","title":"Lakh embedded server","version":"{version}"}}"#);
    Offer {
        features: Features::TOOLS,
        server_info: Some(info.into()),
        instructions: Some(INSTRUCTIONS.into()),
        lists: [tools(config), Vec::new(), Vec::new(), Vec::new()],
        ..Offer::default()
    }
}

const INSTRUCTIONS: &str = "Tools to try a gateway and to load it: echo returns a text, add adds, sleep takes its time, \
     blob is large, stats tells about the gateway itself.";

/// The tools, in the order they are listed.
fn tools(config: &Config) -> Vec<Entry> {
    let Config { sleep_ms_max, progress_ms_min, blob_bytes_max, offered: _ } = config;
    vec![
        tool(
            "echo",
            "Echo",
            "Returns the text it is given.",
            r#"{"type":"object","properties":{"text":{"type":"string","description":"What to return"}},"required":["text"],"additionalProperties":false}"#,
            None,
        ),
        tool(
            "add",
            "Add",
            "Adds two numbers.",
            r#"{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"number"}},"required":["a","b"],"additionalProperties":false}"#,
            Some(r#"{"type":"object","properties":{"sum":{"type":"number"}},"required":["sum"]}"#),
        ),
        tool(
            "sleep",
            "Sleep",
            "Answers after the given time, and tells its progress to a caller that asked for it. Can be cancelled.",
            &format!(
                r#"{{"type":"object","properties":{{"ms":{{"type":"integer","minimum":0,"maximum":{sleep_ms_max},"description":"How long, in milliseconds"}},"progressEvery":{{"type":"integer","minimum":{progress_ms_min},"description":"Milliseconds between two progress notifications; a tenth of ms if left out"}}}},"required":["ms"],"additionalProperties":false}}"#
            ),
            Some(r#"{"type":"object","properties":{"sleptMs":{"type":"integer"}},"required":["sleptMs"]}"#),
        ),
        tool(
            "blob",
            "Blob",
            "Returns a text of the given size.",
            &format!(
                r#"{{"type":"object","properties":{{"bytes":{{"type":"integer","minimum":0,"maximum":{blob_bytes_max},"description":"How many bytes"}}}},"required":["bytes"],"additionalProperties":false}}"#
            ),
            None,
        ),
        tool(
            "stats",
            "Gateway statistics",
            "Tells how many clients this gateway holds, and what it has done so far.",
            r#"{"type":"object","additionalProperties":false}"#,
            Some(r#"{"type":"object"}"#),
        ),
    ]
}

/// No tool here changes anything, and none looks outside.
const ANNOTATIONS: &str = r#"{"readOnlyHint":true,"openWorldHint":false}"#;

fn tool(name: &str, title: &str, description: &str, input: &str, output: Option<&str>) -> Entry {
    let output = output.map(|schema| format!(r#","outputSchema":{schema}"#)).unwrap_or_default();
    let text = format!(
        r#"{{"name":"{name}","title":"{title}","description":"{description}","inputSchema":{input}{output},"annotations":{ANNOTATIONS}}}"#
    );
    Entry { key: name.into(), text: text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_definition_is_whole_and_its_limits_are_those_of_the_knobs() {
        let config = Config { sleep_ms_max: 7, progress_ms_min: 3, blob_bytes_max: 9, ..Config::default() };
        let tools: Vec<Value> = tools(&config).iter().map(|tool| serde_json::from_str(&tool.text).unwrap()).collect();
        let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["echo", "add", "sleep", "blob", "stats"]);
        for tool in &tools {
            assert_eq!(tool["inputSchema"]["type"], "object");
            assert_eq!(tool["inputSchema"]["additionalProperties"], false);
            assert!(tool["outputSchema"].is_null() || tool["outputSchema"]["type"] == "object");
        }
        let properties = |place: usize| &tools[place]["inputSchema"]["properties"];
        assert_eq!(properties(2)["ms"]["maximum"], 7);
        assert_eq!(properties(2)["progressEvery"]["minimum"], 3);
        assert_eq!(properties(3)["bytes"]["maximum"], 9);
    }

    #[test]
    fn an_unknown_knob_is_an_error() {
        assert!(serde_json::from_str::<Config>(r#"{"sleep_ms_max":5}"#).is_ok());
        assert!(serde_json::from_str::<Config>(r#"{"sleep_max":5}"#).is_err());
    }
}
