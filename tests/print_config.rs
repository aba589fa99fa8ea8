//! The knobs as a user sees them: names and defaults that others have written into files do not change unnoticed.

use std::path::Path;
use std::process::Command;

use clap::Parser;
use lakh::cli::{self, Cli, fetch::Admin};
use lakh::config::Config;

/// What `lakh print-config ARGS` prints where nobody has set a knob.
fn printed(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("LAKH_") {
            command.env_remove(variable);
        }
    }
    let output = command.arg("print-config").args(args).output().expect("lakh runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_default_configuration_is_the_committed_one() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/print-config.toml");
    let committed = std::fs::read_to_string(&file).expect("the committed file");
    let printed = printed(&[]);
    let change = |mark: char, these: &str, those: &str| -> String {
        let those: Vec<&str> = those.lines().collect();
        these.lines().filter(|line| !those.contains(line)).map(|line| format!("\n{mark} {line}")).collect()
    };
    assert!(
        printed == committed,
        "`lakh print-config` has changed (or the order of its lines):{}{}\n\
         If that is meant, run `cargo run -- print-config > tests/print-config.toml`, and tell users in CHANGELOG.md.",
        change('-', &committed, &printed),
        change('+', &printed, &committed)
    );
}

#[test]
fn what_is_printed_is_read_back_as_it_was() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/print-config.toml");
    assert_eq!(printed(&["--config", file]), printed(&[]));
    let changed = printed(&["--config", file, "--shards", "3", "--admin", "[::1]:9"]);
    assert!(changed.contains("shards = 3\n") && changed.contains("listen = \"[::1]:9\"\n"), "{changed}");
}

#[test]
fn profile_asks_where_the_gateway_answers_by_default() {
    let Some(cli::Command::Profile(args)) = Cli::parse_from(["lakh", "profile"]).command else { panic!("profile") };
    let answers = Config::default().admin.listen;
    assert_eq!(args.admin, format!("http://{answers}"));
    let without_port = format!("http://{}", answers.ip());
    assert_eq!(Admin::parse(&without_port).expect("an address"), Admin::parse(&args.admin).expect("an address"));
}

#[test]
fn the_help_tells_the_defaults_that_are_used() {
    let help = Command::new(env!("CARGO_BIN_EXE_lakh")).args(["serve", "--help"]).output().expect("lakh runs").stdout;
    let help = String::from_utf8(help).expect("text");
    let Config { listen, shards, guard, admin, .. } = Config::default();
    let defaults =
        [listen.to_string(), admin.listen.to_string(), guard.connections_max.to_string(), shards.to_string()];
    for default in defaults {
        assert!(help.contains(&format!("[default: {default}]")), "{default} in\n{help}");
    }
}
