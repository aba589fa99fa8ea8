//! What goes beyond the core protocol: a server's `experimental` and `extensions` capabilities, and which of them can be
//! kept to with a gateway in between.

use crate::mcp::answer;
use crate::wire::json;

/// The extension that is not handed on, to either side: its results are handles that are polled for with requests of its
/// own (spec 2026-07-28 changelog, SEP-2663), which nobody here carries. The same is true of `tasks`, of 2025-11-25.
///
/// Others may have requests of their own, too. Which do, only their documents say; a client that asks for one is told that
/// there is no such method, and must do without (spec 2026-07-28 basic/versioning#extension-negotiation). What they put
/// into the requests, results and entries of the core passes untouched.
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Most bytes of what one server says of itself beyond the core: every client gets it.
const BYTES_MAX: usize = 16 << 10;

/// What one server, or several together, have beyond the core.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Experimental, non-standard capabilities (all revisions).
    experimental: Settings,
    /// Extensions (2026-07-28; earlier revisions do not forbid them).
    extensions: Settings,
}

/// Names with the raw JSON objects of their settings, each in one line.
type Settings = Vec<(Box<str>, Box<str>)>;

impl Beyond {
    /// Reads raw `ServerCapabilities`; what is misshapen, or too much, is left out.
    #[must_use]
    pub fn read(capabilities: &str) -> Self {
        let [experimental, extensions] =
            json::pick(capabilities, ["experimental", "extensions"]).unwrap_or_default().map(settings);
        let all = Self { experimental, extensions };
        let count = |settings: &Settings| settings.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if count(&all.experimental) + count(&all.extensions) > BYTES_MAX { Self::default() } else { all }
    }

    /// What several have together: all that any has, but nothing that two have differently.
    pub(super) fn union<'b>(all: impl Iterator<Item = &'b Self> + Clone) -> Self {
        Self {
            experimental: union(all.clone().map(|beyond| &beyond.experimental)),
            extensions: union(all.map(|beyond| &beyond.extensions)),
        }
    }

    /// As members of `ServerCapabilities`: names, and raw values.
    pub(super) fn members(&self) -> impl Iterator<Item = String> {
        let both = [("experimental", &self.experimental), ("extensions", &self.extensions)];
        both.into_iter().filter(|(_, settings)| !settings.is_empty()).map(|(name, settings)| {
            let mut text = Vec::new();
            settings.iter().for_each(|(name, value)| member(&mut text, name, value));
            format!("\"{name}\":{}}}", String::from_utf8_lossy(&text))
        })
    }
}

/// Those of a raw object that can be handed on.
fn settings(object: Option<&str>) -> Settings {
    let compact = |raw: &str| {
        let mut text = Vec::new();
        json::write_compact(&mut text, raw);
        String::from_utf8(text).unwrap_or_default().into()
    };
    let members = object.and_then(json::members).into_iter().flatten();
    let usable = members.filter(|(name, value)| name != TASKS && value.starts_with('{'));
    usable.map(|(name, value)| (name.into(), compact(value))).collect()
}

fn union<'s>(all: impl Iterator<Item = &'s Settings>) -> Settings {
    let mut together: Vec<(&str, Option<&str>)> = Vec::new();
    for (name, value) in all.flatten() {
        match together.iter_mut().find(|(known, _)| **known == **name) {
            Some((_, known)) if *known != Some(value) => *known = None,
            Some(_) => {}
            None => together.push((name, Some(value))),
        }
    }
    together.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into()))).collect()
}

/// Appends a member, its raw value in one line, to an object that lacks its closing brace.
pub(super) fn member(object: &mut Vec<u8>, name: &str, value: &str) {
    object.push(if object.is_empty() { b'{' } else { b',' });
    json::write_string(object, name);
    object.push(b':');
    json::write_compact(object, value);
}

/// What a client declares as `extensions`, but for [`TASKS`]; nothing if that is all.
pub(super) fn extensions(declared: &str) -> Option<String> {
    let mut kept = Vec::new();
    let others = json::members(declared).into_iter().flatten().filter(|(name, _)| name != TASKS);
    others.for_each(|(name, value)| member(&mut kept, &name, value));
    (!kept.is_empty()).then(|| kept.push(b'}'))?;
    String::from_utf8(kept).ok()
}

/// Appends the members of the `_meta` of a modern client's request for a modern server, as they came but for [`TASKS`] among
/// its extensions: a server would answer with what the client then cannot ask for.
pub fn meta_for_the_same(out: &mut Vec<u8>, meta: &str) {
    if memchr::memmem::find(meta.as_bytes(), TASKS.as_bytes()).is_none() {
        return out.extend_from_slice(meta.as_bytes());
    }
    for (at, (name, value)) in json::members_inside(meta).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        answer::string(out, &name);
        out.push(b':');
        if name != "io.modelcontextprotocol/clientCapabilities" {
            out.extend_from_slice(value.as_bytes());
            continue;
        }
        let mut kept = Vec::new();
        for (name, value) in json::members(value).into_iter().flatten() {
            match &*name {
                "extensions" => extensions(value).into_iter().for_each(|value| member(&mut kept, &name, &value)),
                _ => member(&mut kept, &name, value),
            }
        }
        out.extend_from_slice(if kept.is_empty() { b"{" } else { &kept });
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(beyond: &Beyond) -> String {
        beyond.members().collect::<Vec<_>>().join(",")
    }

    #[test]
    fn what_a_server_has_is_told_but_what_cannot_be_kept_to() {
        let own = r#"{"tools":{},"tasks":{"list":{}},"experimental":{"x": {"a":[1, 2]},"no":7},
            "extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/ui":{ }}}"#;
        let told = r#""experimental":{"x":{"a":[1,2]}},"extensions":{"io.modelcontextprotocol/ui":{}}"#;
        assert_eq!(shown(&Beyond::read(own)), told);
        for nothing in ["{}", "7", r#"{"experimental":[],"extensions":{"io.modelcontextprotocol/tasks":{}}}"#] {
            assert_eq!(Beyond::read(nothing), Beyond::default(), "{nothing}");
        }
    }

    #[test]
    fn what_a_server_says_of_itself_is_bounded() {
        for (more, kept) in [(0, true), (1, false)] {
            let filler = "x".repeat(BYTES_MAX - r#"n{"":""}"#.len() + more);
            let beyond = Beyond::read(&format!(r#"{{"experimental":{{"n":{{"":"{filler}"}}}}}}"#));
            assert_eq!(beyond != Beyond::default(), kept, "{more}");
        }
    }

    #[test]
    fn several_have_together_what_no_two_have_differently() {
        let one = Beyond::read(r#"{"experimental":{"a":{},"b":{"v":1}}}"#);
        let two = Beyond::read(r#"{"experimental":{"b":{"v":2},"a":{}},"extensions":{"x.y/z":{"k":0}}}"#);
        let together = r#""experimental":{"a":{}},"extensions":{"x.y/z":{"k":0}}"#;
        assert_eq!(shown(&Beyond::union([&one, &two, &one].into_iter())), together);
        assert_eq!(Beyond::union([&two].into_iter()), two);
    }

    #[test]
    fn a_modern_request_passes_as_it_came_but_for_tasks() {
        let passed = |meta: &str| {
            let mut out = Vec::new();
            meta_for_the_same(&mut out, meta);
            String::from_utf8(out).expect("text")
        };
        let key = r#""io.modelcontextprotocol/clientCapabilities""#;
        let plain = format!(r#"{key}:{{ "roots":{{}} }},"traceparent":"a""#);
        assert_eq!(passed(&plain), plain);
        let tasks = r#""io.modelcontextprotocol/tasks":{}"#;
        let both = format!(r#"{key}:{{"roots":{{}},"extensions":{{{tasks},"x/y":{{}}}}}},"t":[ ]"#);
        assert_eq!(passed(&both), format!(r#"{key}:{{"roots":{{}},"extensions":{{"x/y":{{}}}}}},"t":[ ]"#));
        assert_eq!(passed(&format!(r#"{key}:{{"extensions":{{{tasks}}}}}"#)), format!("{key}:{{}}"));
    }
}
