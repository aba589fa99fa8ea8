//! What an upstream is called where nobody has named it: by its package, its program or its host.

/// Longest name: a tool's name of 64 characters is to have room for it (`{upstream}_{tool}`).
pub const NAME_CHARS_MAX: usize = 32;

/// Programs that only start another one, which is what a person would call the server.
const LAUNCHERS: [&str; 14] =
    ["bun", "bunx", "deno", "node", "npm", "npx", "pipx", "pnpm", "pnpx", "python", "python3", "uv", "uvx", "yarn"];
/// Words between a launcher and what it starts.
const LAUNCHER_WORDS: [&str; 5] = ["dlx", "exec", "run", "tool", "x"];
/// Endings that say what a file is, not what it is about.
const ENDINGS: [&str; 6] = [".cjs", ".js", ".mjs", ".py", ".sh", ".ts"];

/// Whether an upstream may be called so: 1 to 32 characters of `[a-z0-9_-]`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// The nearest name to any text.
#[must_use]
pub fn to_name(text: &str) -> String {
    let mut name = String::new();
    for char in text.chars().map(|char| char.to_ascii_lowercase()) {
        let kept = if is_name(char.encode_utf8(&mut [0; 4])) { char } else { '-' };
        if name.len() < NAME_CHARS_MAX && !(kept == '-' && (name.is_empty() || name.ends_with('-'))) {
            name.push(kept);
        }
    }
    name.truncate(name.trim_end_matches('-').len());
    if name.is_empty() { "upstream".to_owned() } else { name }
}

/// What a command is called: `npx -y @scope/server-memory@1.2` is `server-memory`.
#[must_use]
pub fn from_command(words: &[String]) -> String {
    let program = words.first().map_or("", |word| base(word));
    let started = words.iter().skip(1).map(String::as_str);
    let started = started.filter(|word| !word.starts_with('-') && !LAUNCHER_WORDS.contains(word)).map(base).next();
    to_name(if LAUNCHERS.contains(&program) { started.unwrap_or(program) } else { program })
}

/// What an address or a URL is called: its host.
#[must_use]
pub fn from_url(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let has_port = host.rfind(':').is_some_and(|colon| !host[colon..].contains(']'));
    to_name(if has_port { host.rsplit_once(':').map_or(host, |(host, _)| host) } else { host })
}

/// The last part of a path, without scope, version and ending.
fn base(word: &str) -> &str {
    let word = word.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let word = word.find('@').filter(|&at| at > 0).map_or(word, |at| &word[..at]);
    ENDINGS.iter().find_map(|ending| word.strip_suffix(ending)).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_called_by_what_it_starts() {
        for (command, name) in [
            ("npx -y @modelcontextprotocol/server-everything stdio", "server-everything"),
            ("npx -y server-memory@1.2.3", "server-memory"),
            ("uvx mcp-server-fetch", "mcp-server-fetch"),
            ("uv run tool/Weather.py", "weather"),
            ("python3 -m my_server.main", "my_server-main"),
            ("/opt/bin/Files --all /tmp", "files"),
            ("node", "node"),
            ("docker run -i mcp/fetch", "docker"),
            ("", "upstream"),
        ] {
            let words: Vec<String> = command.split_whitespace().map(Into::into).collect();
            assert_eq!(from_command(&words), name, "{command}");
        }
    }

    #[test]
    fn an_address_is_called_by_its_host() {
        for (url, name) in [
            ("https://user@api.example.com:8443/mcp?key=1", "api-example-com"),
            ("127.0.0.1:9000", "127-0-0-1"),
            ("[::1]:9000", "1"),
            ("ws://localhost", "localhost"),
            ("http://", "upstream"),
        ] {
            assert_eq!(from_url(url), name, "{url}");
        }
    }

    #[test]
    fn every_text_has_a_name_that_is_one() {
        for text in ["", "---", "My Server!", "Ünïcödé", &"long".repeat(50), "a\nb", "@"] {
            assert!(is_name(&to_name(text)), "{text}: {}", to_name(text));
        }
        assert_eq!(to_name("My  Server!"), "my-server");
        for name in ["a", "a-b_9", &"x".repeat(32)] {
            assert!(is_name(name) && to_name(name) == name, "{name}");
        }
        for no_name in ["", "A", "a.b", "a b", &"x".repeat(33)] {
            assert!(!is_name(no_name), "{no_name}");
        }
    }
}
