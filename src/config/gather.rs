//! All that a user has said, in files, variables and flags, gathered into one configuration.

use std::path::Path;

use toml::Table;

use super::layers::{UPSTREAMS, read};
use super::{Config, Layers, Rejected};
use crate::cli::Serve;
use crate::upstream::config::{from_command, from_url, is_name};
use crate::upstream::mcp_json;

/// A configuration, and what was not taken into it.
#[derive(Debug)]
pub struct Gathered {
    /// The knobs.
    pub config: Config,
    /// Servers of editors' files that were left out, and why.
    pub warnings: Vec<String>,
}

/// Default < file < environment < flag; the files of editors are files.
///
/// # Errors
/// When something cannot be read, is unknown, or has no meaning.
pub fn gather(flags: &Serve, variables: impl IntoIterator<Item = (String, String)>) -> Result<Gathered, Rejected> {
    let mut layers = Layers::default();
    if let Some(file) = &flags.config {
        layers = layers.file(file)?;
    }
    let mut warnings = Vec::new();
    for file in &flags.servers.mcp_json {
        layers.mcp_json(file, &mut warnings)?;
    }
    layers = layers.environment(variables)?;
    for (flag, knob, value) in flags.knobs() {
        layers = layers.flag(flag, knob, &value)?;
    }
    for (flag, knob, value) in flags.servers.each() {
        layers.server(flag, knob, value)?;
    }
    Ok(Gathered { config: layers.config()?, warnings })
}

impl Layers {
    /// Adds the servers of an editor's file. One that has the name of a section which says no place completes it.
    fn mcp_json(&mut self, path: &Path, warnings: &mut Vec<String>) -> Result<(), Rejected> {
        // A reference to its folder means the same wherever lakh is started.
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = absolute.parent().unwrap_or(Path::new("/"));
        let servers = mcp_json::read(&read(path)?, folder);
        let servers = servers.map_err(|why| Rejected::NotMcpJson { path: path.into(), why })?;
        let origin = path.display().to_string();
        for (name, knobs) in servers.found {
            let name = if self.has_place(&name) { self.free_name(&name) } else { name };
            self.upstream(&origin, &name, knobs)?;
        }
        warnings.extend(servers.warnings.iter().map(|warning| format!("{origin}: {warning}")));
        Ok(())
    }

    /// Adds the server of a flag such as `--http URL` or `--http NAME=URL`.
    fn server(&mut self, flag: &'static str, knob: &str, value: &str) -> Result<(), Rejected> {
        let wrong = |why| Rejected::Server { flag, value: value.to_owned(), why };
        let named = value.split_once('=').filter(|(name, _)| is_name(name));
        let place = named.map_or(value, |(_, place)| place);
        if place.trim().is_empty() {
            return Err(wrong("names no server"));
        }
        let name = match named {
            Some((name, _)) if self.has_place(name) => return Err(wrong("there is an upstream of that name already")),
            Some((name, _)) => name.to_owned(),
            None if knob == "command" => {
                let words = shlex::split(place).ok_or_else(|| wrong("has a quote that is not closed"))?;
                self.free_name(&from_command(&words))
            }
            None => self.free_name(&from_url(place)),
        };
        self.upstream(flag, &name, Table::from_iter([(knob.to_owned(), place.into())]))
    }

    /// Whether the section says already where its server is.
    fn has_place(&self, name: &str) -> bool {
        let section = self.knobs.get(UPSTREAMS).and_then(|upstreams| upstreams.get(name));
        let is_set =
            |knob| section.and_then(|section| section.get(knob)?.as_str()).is_some_and(|text| !text.is_empty());
        ["command", "http", "tcp", "ws"].into_iter().any(is_set)
    }

    /// `name`, or else `name-2`, `name-3` and so on.
    fn free_name(&self, name: &str) -> String {
        let is_free = |name: &String| self.knobs.get(UPSTREAMS).is_none_or(|upstreams| upstreams.get(name).is_none());
        let numbered = (2..).map(|number: u32| {
            let suffix = format!("-{number}");
            let room = crate::upstream::config::NAME_CHARS_MAX - suffix.len();
            format!("{}{suffix}", &name[..name.len().min(room)])
        });
        std::iter::once(name.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use clap::Parser;

    use crate::cli::{Cli, Command};

    fn gathered(line: &[&str]) -> Result<Gathered, String> {
        let cli = Cli::parse_from(["lakh", "serve"].iter().chain(line));
        let Some(Command::Serve(flags)) = cli.command else { panic!("serve") };
        gather(&flags, []).map_err(|error| error.to_string())
    }

    fn places(config: &Config) -> Vec<(&str, &str, &str)> {
        let upstreams = config.upstreams.iter();
        upstreams
            .flat_map(|(name, one)| one.transports().into_iter().map(move |(k, v)| (name.as_str(), k, v)))
            .collect()
    }

    #[test]
    fn flags_mix_and_repeat_and_names_are_made_of_what_they_say() {
        let line = ["--stdio", "npx -y @a/server-x 'b c'", "--stdio", "server-x", "--http", "http://h:1/mcp"];
        let more = ["--http", "mine=https://h?a=b", "--tcp", "h:9", "--ws", "ws://h"];
        let config = gathered(&[&line[..], &more].concat()).unwrap().config;
        let expected = [
            ("h", "http", "http://h:1/mcp"),
            ("h-2", "tcp", "h:9"),
            ("h-3", "ws", "ws://h"),
            ("mine", "http", "https://h?a=b"),
            ("server-x", "command", "npx -y @a/server-x 'b c'"),
            ("server-x-2", "command", "server-x"),
        ];
        assert_eq!(places(&config), expected);
    }

    #[test]
    fn flags_that_describe_no_server_are_told() {
        for (line, words) in [
            (["--stdio", ""], "--stdio \"\": names no server"),
            (["--stdio", "a 'b"], "a quote that is not closed"),
            (["--http", "x="], "names no server"),
        ] {
            let error = gathered(&line).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let twice = gathered(&["--tcp", "x=h:1", "--http", "x=http://h"]).unwrap_err();
        assert!(twice.contains("--http") || twice.contains("--tcp"), "{twice}");
        assert!(twice.contains("already"), "{twice}");
    }

    #[test]
    fn an_editors_file_fills_the_sections_of_ours_and_makes_room_for_two_of_a_name() {
        let folder = std::env::temp_dir().join(format!("lakh-gather-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [ours, one, two] = ["lakh.toml", "one.json", "two.json"].map(|name| folder.join(name));
        fs::write(&ours, "[upstreams.files]\ncall_ms = 5").unwrap();
        fs::write(&one, r#"{"mcpServers": {"Files": {"command": "f", "args": ["${workspaceFolder}"]}, "x": {}}}"#)
            .unwrap();
        fs::write(&two, r#"{"mcpServers": {"files": {"url": "http://h"}}}"#).unwrap();
        let [ours, one, two] = [&ours, &one, &two].map(|path| path.to_str().unwrap());
        let Gathered { config, warnings } =
            gathered(&["--config", ours, "--mcp-json", one, "--mcp-json", two]).unwrap();
        let command = format!("f {}", folder.display());
        assert_eq!(places(&config), [("files", "command", command.as_str()), ("files-2", "http", "http://h")]);
        assert_eq!(config.upstreams["files"].call_ms, 5);
        assert!(matches!(&*warnings, [told] if told.contains("one.json") && told.contains("\"x\"")), "{warnings:?}");
        fs::write(two, "[]").unwrap();
        let error = gathered(&["--mcp-json", two]).unwrap_err();
        assert!(error.contains("two.json") && error.contains("mcpServers"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }
}
