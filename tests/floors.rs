//! The house rules that no compiler checks, from the source text: which room may use which, and how a file looks.

#[path = "floors/source.rs"]
mod source;

use source::{NamedPath, paths, tokens};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms by floor: a room uses only rooms on floors below its own.
const FLOORS: [&[&str]; 8] = [
    &["wire", "meter", "pool"],
    &["mcp", "actor", "guard"],
    &["route", "cache", "monitor"],
    &["upstream", "cluster"],
    &["conn"],
    &["admin", "cli"],
    &["config"],
    &["tree"],
];
/// What lies at the root of the crate and is no room: macros.
const ROOT_ITEMS: [&str; 1] = ["named"];
/// Rooms and files that know no socket, clock, thread, file or runtime: what they need of these is an argument.
const PURE: [&str; 5] = ["wire/", "pool/", "mcp/", "monitor/capacity/", "monitor/trend.rs"];
const IMPURE_PATHS: [&[&str]; 5] = [&["std", "net"], &["std", "thread"], &["std", "fs"], &["tokio"], &["mio"]];
/// Addresses are plain values; what connects to them is not.
const PURE_NET: [&str; 5] = ["AddrParseError", "IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr"];
const CLOCKS: [&str; 2] = ["Instant", "SystemTime"];
/// Names that say where code was put, not what it is.
const EMPTY_NAMES: [&str; 9] = ["utils", "util", "common", "helpers", "helper", "types", "manager", "managers", "misc"];
const LINES_MOST: usize = 500;
/// What may lie at the top of the repository besides dotfiles, licences and what git ignores.
const TOP_LEVEL: [&str; 9] =
    ["Cargo.toml", "Cargo.lock", "src", "tests", "profiling", "sysctl", "README.md", "CHANGELOG.md", "deny.toml"];

#[test]
fn the_house_is_in_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 10, "found only {} files under src", files.len());
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable source file");
        let name = file.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
        found.extend(violations(&name, &text));
    }
    assert!(found.is_empty(), "{} against the rules of the house:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let names = fs::read_dir(root)
        .expect("a readable folder")
        .map(|entry| entry.expect("a readable entry").file_name().to_string_lossy().into_owned());
    let strange: Vec<String> = names.filter(|name| !belongs_on_top(name, &ignored)).collect();
    assert!(strange.is_empty(), "does not belong at the top level: {strange:?}");
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn belongs_on_top(name: &str, ignored: &str) -> bool {
    let by_git = ignored.lines().any(|pattern| {
        let pattern = pattern.trim().trim_matches('/');
        pattern == name || pattern.strip_prefix('*').is_some_and(|end| !end.is_empty() && name.ends_with(end))
    });
    name.starts_with('.')
        || name.starts_with("LICENSE-")
        || name == "clippy.toml"
        || TOP_LEVEL.contains(&name)
        || by_git
}

/// What the file `name` (below `src`) does against the rules, one line each.
fn violations(name: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let paths = paths(&tokens);
    let mut found = Vec::new();
    look(name, text, &mut found);
    for (at, token) in tokens.iter().enumerate() {
        let declared = at > 0 && tokens[at - 1].text == "mod";
        if declared && EMPTY_NAMES.contains(&token.text.as_str()) {
            found.push(format!("{name}:{}: a module called {} says nothing", token.line, token.text));
        }
        if token.text == "bastion" && room_of(name) != Some("tree") {
            found.push(format!("{name}:{}: only tree may name bastion", token.line));
        }
    }
    for path in &paths {
        found.extend(climbs(name, path));
        found.extend(impure(name, path));
    }
    found
}

/// How the file looks: its first sentence, its length, its name.
fn look(name: &str, text: &str, found: &mut Vec<String>) {
    let opening: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//! ")).collect();
    if !opening.last().is_some_and(|line| line.trim_end().ends_with(['.', '!', '?'])) {
        found.push(format!("{name}:1: does not start with a `//!` sentence that says what it is"));
    }
    let lines = text.lines().count();
    if lines > LINES_MOST {
        found.push(format!("{name}: {lines} lines, {LINES_MOST} at most"));
    }
    for part in name.trim_end_matches(".rs").split('/') {
        if EMPTY_NAMES.contains(&part) {
            found.push(format!("{name}: `{part}` says nothing about what is in it"));
        }
    }
    if room_of(name).is_some_and(|room| floor_of(room).is_none()) {
        found.push(format!("{name}: this room stands on no floor"));
    }
}

/// The room a file belongs to; `None` for `lib.rs` and `main.rs`, which stand above all.
fn room_of(name: &str) -> Option<&str> {
    let room = name.split('/').next()?.trim_end_matches(".rs");
    (!matches!(name, "lib.rs" | "main.rs")).then_some(room)
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Whether this path leads to a room that is not strictly below.
fn climbs(name: &str, path: &NamedPath) -> Option<String> {
    let room = room_of(name)?;
    let target = target_room(name, path)?;
    if target == room || ROOT_ITEMS.contains(&target) {
        return None;
    }
    let complaint = match (floor_of(room), floor_of(target)) {
        (Some(own), Some(other)) if other < own => return None,
        (Some(own), Some(other)) => format!("{room} (floor {own}) uses {target} (floor {other})"),
        _ => format!("{room} uses crate::{target}, which is no room"),
    };
    Some(format!("{name}:{}: {complaint}", path.line))
}

/// The first segment below the root of the crate; `None` where the path does not come from there.
fn target_room<'p>(name: &str, path: &'p NamedPath) -> Option<&'p str> {
    let mut segments = path.segments.iter().map(String::as_str).peekable();
    if segments.peek() == Some(&"crate") {
        segments.next();
        return Some(segments.next().unwrap_or("(itself)"));
    }
    let mut above = module_depth(name) + path.inside.len();
    let mut climbed = false;
    while let Some(&word @ ("self" | "super")) = segments.peek() {
        segments.next();
        if word == "super" {
            above = above.checked_sub(1)?;
            climbed = true;
        }
    }
    (climbed && above == 0).then(|| segments.next().unwrap_or("(itself)"))
}

/// How many modules deep the file is: `conn/mod.rs` is 1, `conn/turn.rs` is 2.
fn module_depth(name: &str) -> usize {
    let own = usize::from(!name.ends_with("/mod.rs"));
    name.matches('/').count() + own
}

/// Whether a pure file names the outside world; its tests may.
fn impure(name: &str, path: &NamedPath) -> Option<String> {
    let pure = PURE.iter().any(|pure| name.starts_with(pure) || name == format!("{}.rs", pure.trim_end_matches('/')));
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let address = segments.starts_with(&["std", "net"]) && segments.get(2).is_some_and(|name| PURE_NET.contains(name));
    let outside = IMPURE_PATHS.iter().any(|prefix| segments.starts_with(prefix)) && !address
        || segments.iter().any(|segment| CLOCKS.contains(segment));
    let in_test = path.in_test || name.ends_with("/tests.rs");
    (pure && outside && !in_test).then(|| format!("{name}:{}: pure, yet names {}", path.line, segments.join("::")))
}

mod self_tests {
    use super::*;

    fn complaints(name: &str, code: &str) -> Vec<String> {
        violations(name, &format!("//! What it is.\n{code}"))
    }

    #[track_caller]
    fn refuses(name: &str, code: &str, why: &str) {
        let found = complaints(name, code);
        assert!(found.len() == 1 && found[0].contains(why), "{name}: {code}\nwanted {why}, found {found:?}");
    }

    #[track_caller]
    fn allows(name: &str, code: &str) {
        assert_eq!(complaints(name, code), Vec::<String>::new(), "{name}: {code}");
    }

    #[test]
    fn arrows_that_climb_are_refused_however_they_are_written() {
        let why = "wire (floor 0) uses conn (floor 4)";
        refuses("wire/line.rs", "use crate::conn;", why);
        refuses("wire/line.rs", "use crate::conn::{Parting};", why);
        refuses("wire/line.rs", "use crate::{wire::json, conn::turn};", why);
        refuses("wire/line.rs", "use crate::{wire::{json, ws}, conn};", why);
        refuses("wire/line.rs", "use {std::fmt, crate::conn::turn};", why);
        refuses("wire/line.rs", "fn f() -> Option<crate::conn::Parting> { None }", why);
        refuses("wire/line.rs", "fn f() { let x = crate::conn::turn::<u8>(); }", why);
        refuses("wire/line.rs", "fn f(a: &'static crate::conn::A) {}", why);
        refuses("wire/line.rs", "pub(in crate::conn) fn f() {}", why);
        refuses("wire/line.rs", "use super::super::conn;", why);
        refuses("wire/line.rs", "use super::{super::conn::turn, json};", why);
        refuses("wire/mod.rs", "use super::conn;", why);
        refuses("wire/line.rs", "mod tests { use super::super::super::conn; }", why);
        refuses("wire/line.rs", "const X: &str = \"\\\"\"; use crate::conn;", why);
        refuses("wire/line.rs", "const X: char = '\"'; use crate::conn; // \"", why);
        refuses("wire/line.rs", "macro_rules! m { () => { $crate::conn::turn() } }", why);
    }

    #[test]
    fn rooms_on_one_floor_never_meet_and_the_root_is_no_way_round() {
        refuses("mcp/fault.rs", "use crate::actor::Ticket;", "mcp (floor 1) uses actor (floor 1)");
        refuses("tree.rs", "use crate::cellar;", "no room");
        refuses("mcp/fault.rs", "use crate::*;", "no room");
        refuses("mcp/fault.rs", "use crate as everything;", "no room");
        refuses("cellar/rats.rs", "", "stands on no floor");
    }

    #[test]
    fn arrows_that_point_down_or_stay_are_allowed() {
        allows("conn/turn.rs", "use crate::{mcp::{Session, answer}, wire::json as j, upstream};");
        allows("conn/turn.rs", "use super::{Parting, open}; use crate::conn::serve;");
        allows("wire/ws/mask.rs", "use super::super::json; use super::frame;");
        allows("wire/line.rs", "mod tests { use super::super::json; use super::*; }");
        allows("wire/fault.rs", "crate::named! { pub enum E { A = \"conn\" } }");
        allows("main.rs", "use lakh::tree; use crate::anything;");
        allows("tree.rs", "use bastion::prelude::*; use crate::{config, conn};");
        allows("tree/services.rs", "use bastion::Bastion;");
    }

    #[test]
    fn comments_and_text_are_no_code() {
        allows("wire/line.rs", "/// crate::conn\n// use crate::conn;\n/* /* crate::conn */ tokio::spawn */\nfn f() {}");
        allows(
            "wire/line.rs",
            r####"const X: &str = r##"use crate::conn; "# tokio::x"##; const Y: &[u8] = b"mio::x";"####,
        );
        allows("wire/line.rs", "fn f<'a>(x: &'a str) -> char { '\\'' }");
    }

    #[test]
    fn pure_rooms_name_no_outside_world() {
        refuses("wire/line.rs", "use std::net::TcpStream;", "pure");
        refuses("wire/line.rs", "use std::{fmt, time::{Duration, Instant}};", "std::time::Instant");
        refuses("pool/slab.rs", "use std::thread;", "pure");
        refuses("pool/slab.rs", "fn f() { tokio::spawn(async {}); }", "tokio::spawn");
        refuses("mcp/session.rs", "fn f(t: std::time::SystemTime) {}", "SystemTime");
        refuses("mcp/session.rs", "use mio;", "pure");
        refuses("mcp/session.rs", "use ::mio;", "pure");
        refuses("mcp/session.rs", "fn f() { ::mio::Poll::new() }", "pure");
        refuses("mcp/session.rs", "extern crate mio;", "pure");
        refuses("monitor/trend.rs", "use std::fs::File;", "pure");
        allows("monitor/profiler.rs", "use std::time::Instant;");
        allows("wire/origin.rs", "use std::net::{IpAddr, Ipv4Addr};");
        refuses("wire/origin.rs", "use std::net::{IpAddr, TcpStream};", "std::net::TcpStream");
        allows("wire/json/tests.rs", "use std::fs;");
        allows("pool/slab.rs", "use std::time::Duration; #[cfg(test)] mod tests { use std::thread; }");
        refuses("pool/slab.rs", "#[cfg(test)] mod tests { } use std::thread;", "pure");
        refuses("pool/slab.rs", "#[cfg(test)] use x::y; mod inner { use std::thread; }", "pure");
    }

    #[test]
    fn bastion_stays_in_the_tree() {
        refuses("monitor/profiler.rs", "use bastion::prelude::*;", "only tree");
        refuses("actor/shard.rs", "fn f() { ::bastion::Bastion::init(); }", "only tree");
    }

    #[test]
    fn a_file_says_what_it_is_and_is_not_long() {
        assert_eq!(violations("wire/line.rs", "use std::fmt;\n").len(), 1);
        assert_eq!(violations("wire/line.rs", "//! under construction\n").len(), 1);
        assert_eq!(violations("wire/line.rs", "//! One sentence\n//! in two lines.\n"), Vec::<String>::new());
        refuses("wire/line.rs", &"\n".repeat(500), "501 lines");
        allows("wire/line.rs", &"\n".repeat(499));
        refuses("conn/utils.rs", "", "says nothing");
        refuses("conn/turn.rs", "mod helpers;", "says nothing");
    }

    #[test]
    fn the_top_level_is_read_with_gits_eyes() {
        let ignored = "/target\n*.profraw\nnode_modules\n";
        for name in [".ci", "LICENSE-MIT", "Cargo.lock", "clippy.toml", "target", "x.profraw", "node_modules"] {
            assert!(belongs_on_top(name, ignored), "{name}");
        }
        for name in ["docs", "scripts", "Makefile", "LICENSE", "targets", "notes.md"] {
            assert!(!belongs_on_top(name, ignored), "{name}");
        }
    }
}
