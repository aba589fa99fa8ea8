//! Servers behind the gateway as a user names them, in flags and files, through the real program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder of its own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("lakh-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        path.to_str().expect("text").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn lakh(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
    command.args(args).envs(variables.iter().copied()).current_dir(Path::new("/")).output().expect("lakh runs")
}

#[track_caller]
fn printed(args: &[&str], variables: &[(&str, &str)]) -> toml::Table {
    let output = lakh(&[&["print-config"], args].concat(), variables);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").parse().expect("TOML")
}

#[track_caller]
fn refused(args: &[&str], variables: &[(&str, &str)], words: &[&str]) {
    let output = lakh(&[&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], args].concat(), variables);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    for word in words {
        assert!(told.contains(word), "{word:?} in\n{told}");
    }
}

#[test]
fn files_and_flags_mix_and_what_is_printed_is_read_back() {
    let folder = Folder::new("mix");
    let ours = folder.file("lakh.toml", "[upstreams.time]\ncommand = \"time-server\"\nenv.ZONE = \"${TZ:-UTC}\"\n");
    let editors = folder.file(".mcp.json", r#"{"mcpServers": {"Memory": {"command": "npx", "args": ["memory"]}}}"#);
    let line = ["--config", &ours, "--mcp-json", &editors, "--stdio", "npx -y everything stdio", "--tcp", "h:1"];
    let config =
        printed(&line, &[("LAKH_UPSTREAMS_MEMORY_SHARING", "per-session"), ("LAKH_UPSTREAMS_TIME_CALL_MS", "9")]);
    let upstreams = config["upstreams"].as_table().expect("a section");
    let names: Vec<&str> = upstreams.keys().map(String::as_str).collect();
    assert_eq!(names, ["everything", "h", "memory", "time"]);
    assert_eq!(upstreams["memory"]["sharing"].as_str(), Some("per-session"));
    assert_eq!(upstreams["time"]["call_ms"].as_integer(), Some(9));
    assert_eq!(upstreams["time"]["env"]["ZONE"].as_str(), Some("${TZ:-UTC}"), "a reference stays one");
    let again = folder.file("again.toml", &config.to_string());
    assert_eq!(printed(&["--config", &again], &[]), config);
}

#[test]
fn a_start_is_refused_with_everything_that_is_wrong() {
    let folder = Folder::new("wrong");
    let file = folder.file(
        "lakh.toml",
        "[upstreams.a]\n[upstreams.B]\ntcp = \"h:1\"\n[upstreams.c]\nhttp = \"http://h\"\nheaders.Key = \"${LAKHS_NO_SUCH}\"",
    );
    refused(
        &["--config", &file],
        &[],
        &[
            "`upstreams.a` does not say where",
            "`upstreams.B`",
            "call it b",
            "`upstreams.c.headers.Key`",
            "${LAKHS_NO_SUCH}",
        ],
    );
    let kin = folder.file(
        "kin.toml",
        "[upstreams.a]\ntcp = \"h:1\"\nfallback = [\"b\"]\n[upstreams.b]\ntcp = \"h:2\"\nfallback = [\"a\"]\n\
         [upstreams.c]\ntcp = \"h:3\"\nreplica_of = \"nobody\"\nweight = 0",
    );
    let words =
        ["(a -> b -> a)", "`upstreams.c.replica_of` names \"nobody\"", "`upstreams.c.weight` is not from 1 to 1000"];
    refused(&["--config", &kin], &[], &words);
    let unknown = folder.file("unknown.toml", "[upstreams.a]\nurl = \"http://h\"");
    refused(&["--config", &unknown], &[], &["unknown.toml", "`upstreams.a.url`", "print-config"]);
    refused(&["--mcp-json", "/no/such.json"], &[], &["/no/such.json"]);
    refused(&["--http", "ftp://h"], &[], &["`upstreams.h.http`", "ftp://h", "http://"]);
    refused(&["--http", "http://me:hush@h"], &[], &["`upstreams.h.http`", "as a header"]);
    refused(&["--stdio", "sh -c 'true"], &[], &["--stdio", "quote"]);
}

#[test]
fn a_server_that_an_editors_file_describes_badly_is_a_warning() {
    let folder = Folder::new("warning");
    let editors =
        folder.file("mcp.json", r#"{"servers": {"a": {"type": "dde"}, "b": {"url": "http://h"}}, "inputs": []}"#);
    let output = lakh(&["print-config", "--mcp-json", &editors], &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("mcp.json: \"a\""), "{told}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("[upstreams.b]"));
}
