//! The file in which editors keep their MCP servers (`.mcp.json`, `mcp.json`), read as knobs of upstreams.
//!
//! Claude, Cursor and others write `mcpServers`, VS Code writes `servers`, with comments; nobody has specified it. So
//! unknown fields are passed over, and a server that cannot be served is left out with a warning: it shall not keep the
//! others away.

use std::path::Path;

use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::{Map, Value as Json};
use toml::{Table, Value};

use super::config::to_name;

/// What the file has.
#[derive(Debug, Default, PartialEq)]
pub struct Servers {
    /// A name and the knobs that the file sets, for each server.
    pub found: Vec<(String, Table)>,
    /// What was left out, and why.
    pub warnings: Vec<String>,
}

/// Reads the text of such a file; `folder` is where it is.
///
/// # Errors
/// Why it is no such file.
pub fn read(text: &str, folder: &Path) -> Result<Servers, String> {
    let json: Json = parse_to_serde_value(text, &ParseOptions::default()).map_err(|error| error.to_string())?;
    let listed = ["mcpServers", "servers"].iter().find_map(|key| json.get(key)?.as_object());
    let listed =
        listed.ok_or("it has neither `mcpServers` nor `servers`: name a file in which an editor keeps them")?;
    let mut servers = Servers::default();
    for (name, server) in listed {
        let told = |what: &str| format!("{name:?} {what}");
        let server = server.as_object().ok_or_else(|| "is no object; left out".to_owned());
        match server.and_then(|server| knobs(server, folder)) {
            Ok(Some(knobs)) => servers.found.push((to_name(name), knobs)),
            Ok(None) => servers.warnings.push(told("is disabled there; left out")),
            Err(why) => servers.warnings.push(told(&why)),
        }
    }
    Ok(servers)
}

/// What one server's object sets; nothing if it is switched off.
fn knobs(server: &Map<String, Json>, folder: &Path) -> Result<Option<Table>, String> {
    let flag = |key: &str| server.get(key).and_then(Json::as_bool);
    if flag("disabled") == Some(true) || flag("enabled") == Some(false) {
        return Ok(None);
    }
    let text = |key: &str| server.get(key).and_then(Json::as_str).map(|text| in_folder(text, folder));
    let command = text("command").filter(|command| !command.is_empty());
    let url = ["url", "serverUrl", "httpUrl"].iter().find_map(|key| text(key)).filter(|url| !url.is_empty());
    let kind = ["type", "transport"].iter().find_map(|key| text(key)).unwrap_or_default();
    let mut knobs = Table::new();
    let spoken = match (&command, &url) {
        (Some(_), None) => "command",
        (None, Some(url)) if url.starts_with("ws://") || url.starts_with("wss://") => "ws",
        (None, Some(_)) => "http",
        (None, None) => return Err("has neither a command nor a URL; left out".into()),
        (Some(_), Some(_)) => return Err("has a command and a URL; left out".into()),
    };
    let fits = match kind.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
        "" => true,
        "stdio" | "local" => spoken == "command",
        // HTTP+SSE of 2024-11-05 is found out when the server is asked.
        "http" | "streamablehttp" | "sse" | "remote" => spoken == "http",
        "ws" | "websocket" => spoken == "ws",
        _ => return Err(format!("is of the type {kind:?}, which is none that lakh speaks; left out")),
    };
    if !fits {
        return Err(format!("is of the type {kind:?} and has a {spoken:?} that does not fit to it; left out"));
    }
    if let Some(command) = command {
        let args = list(server, "args", folder)?;
        let words = shlex::try_join(std::iter::once(command.as_str()).chain(args.iter().map(String::as_str)));
        knobs.insert("command".into(), words.map_err(|_| "has a NUL in its command; left out")?.into());
        if let Some(cwd) = text("cwd") {
            knobs.insert("cwd".into(), cwd.into());
        }
        insert_pairs(&mut knobs, "env", server, folder)?;
    } else {
        knobs.insert(spoken.into(), url.unwrap_or_default().into());
        insert_pairs(&mut knobs, "headers", server, folder)?;
    }
    Ok(Some(knobs))
}

fn list(server: &Map<String, Json>, key: &str, folder: &Path) -> Result<Vec<String>, String> {
    let wrong = || format!("has {key} that are no list of texts; left out");
    let Some(value) = server.get(key).filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    value.as_array().ok_or_else(wrong)?.iter().map(|item| plain(item, folder).ok_or_else(wrong)).collect()
}

fn insert_pairs(knobs: &mut Table, key: &str, server: &Map<String, Json>, folder: &Path) -> Result<(), String> {
    let wrong = || format!("has {key} that are no object of texts; left out");
    let Some(value) = server.get(key).filter(|value| !value.is_null()) else { return Ok(()) };
    let mut pairs = Table::new();
    for (name, value) in value.as_object().ok_or_else(wrong)? {
        // A variable that is null is one that is not set.
        if !value.is_null() {
            pairs.insert(name.clone(), Value::String(plain(value, folder).ok_or_else(wrong)?));
        }
    }
    knobs.insert(key.into(), pairs.into());
    Ok(())
}

/// A text; people write ports and switches without quotes.
fn plain(value: &Json, folder: &Path) -> Option<String> {
    match value {
        Json::String(text) => Some(in_folder(text, folder)),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(bool) => Some(bool.to_string()),
        _ => None,
    }
}

/// The editors' own words for the folder that is open, the one the file is about, and for the home.
fn in_folder(text: &str, folder: &Path) -> String {
    if !text.contains("${") {
        return text.to_owned();
    }
    let is_editors = folder.file_name().is_some_and(|name| name == ".vscode" || name == ".cursor");
    let workspace = if is_editors { folder.parent().unwrap_or(folder) } else { folder };
    text.replace("${workspaceFolder}", &workspace.to_string_lossy()).replace("${userHome}", "${HOME}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Servers {
        read(text, Path::new("/work/.vscode")).expect(text)
    }

    #[test]
    fn each_editors_way_to_write_it_is_read() {
        let servers = found(
            r#"{
            // VS Code allows comments
            "servers": {
                "My Files": {"type": "stdio", "command": "npx", "args": ["-y", "a b", 7], "env": {"PORT": 1, "NO": null}, "cwd": "${workspaceFolder}/x"},
                "remote": {"type": "streamable-http", "url": "https://h/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}, "gallery": true},
                "windsurf": {"serverUrl": "http://h/sse", "transport": "sse"},
                "socket": {"url": "wss://h/mcp"},
            },
        }"#,
        );
        let expected = [
            ("my-files", "command = \"npx -y 'a b' 7\"\ncwd = \"/work/x\"\n[env]\nPORT = \"1\""),
            ("remote", "http = \"https://h/mcp\"\n[headers]\nAuthorization = \"Bearer ${TOKEN}\""),
            ("windsurf", "http = \"http://h/sse\""),
            ("socket", "ws = \"wss://h/mcp\""),
        ];
        let expected = expected.map(|(name, knobs)| (name.to_owned(), knobs.parse::<Table>().expect("TOML")));
        assert_eq!(servers.warnings, Vec::<String>::new());
        for pair in &expected {
            assert!(servers.found.contains(pair), "{pair:?} in {:?}", servers.found);
        }
        assert_eq!(servers.found.len(), expected.len());
        assert_eq!(found(r#"{"mcpServers": {}}"#), Servers::default());
    }

    #[test]
    fn a_server_that_cannot_be_served_is_left_out_by_name_and_keeps_nobody_away() {
        for (server, why) in [
            (r#"{"command": "a", "disabled": true}"#, "disabled"),
            (r#"{"command": "a", "enabled": false}"#, "disabled"),
            (r#"{"type": "stdio"}"#, "neither a command nor a URL"),
            (r#"{"command": "a", "url": "http://h"}"#, "a command and a URL"),
            (r#"{"url": "http://h", "type": "carrier-pigeon"}"#, "\"carrier-pigeon\""),
            (r#"{"url": "http://h", "type": "stdio"}"#, "does not fit"),
            (r#"{"command": "a", "args": "b"}"#, "args"),
            (r#"{"command": "a", "args": [{}]}"#, "args"),
            (r#"{"command": "a", "env": ["b"]}"#, "env"),
            (r#"{"command": "a\u0000"}"#, "NUL"),
            ("7", "no object"),
        ] {
            let servers = found(&format!(r#"{{"mcpServers": {{"bad": {server}, "good": {{"command": "a"}}}}}}"#));
            assert_eq!(servers.found.len(), 1, "{server}: {servers:?}");
            assert!(
                matches!(&*servers.warnings, [told] if told.contains("\"bad\"") && told.contains(why)),
                "{servers:?}"
            );
        }
    }

    #[test]
    fn a_file_of_another_kind_says_so() {
        for text in ["", "[]", "{", r#"{"mcp": 1}"#, r#"{"mcpServers": []}"#] {
            assert!(read(text, Path::new("/")).is_err(), "{text}");
        }
    }
}
