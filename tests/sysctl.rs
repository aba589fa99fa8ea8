//! Holds `sysctl/` together: each knob that the file sets is explained, each that is explained is set, and all exist.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sysctl").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The knobs set, with their values; a leading dash forgives a host without the knob.
fn set_in(conf: &str) -> BTreeMap<String, String> {
    let lines = conf.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    lines
        .map(|line| {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no value: {line}"));
            (key.trim().trim_start_matches('-').to_owned(), value.trim().to_owned())
        })
        .collect()
}

/// The rows of the table below `## Knobs`, by knob.
fn rows_of(readme: &str) -> BTreeMap<String, Vec<String>> {
    let section = readme.split("\n## ").find(|section| section.starts_with("Knobs")).unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let mut cells =
            row.trim_end_matches(['|', ' ']).split(" | ").map(|cell| cell.trim_matches(['`', ' ']).to_owned());
        (cells.next().unwrap_or_default(), cells.collect())
    })
    .collect()
}

/// The numbers of a cell, without thousands separators: `4096 16384` and `16,384` alike.
fn starts_with_value(cell: &str, value: &str) -> bool {
    let plain = cell.replace(',', "");
    plain.starts_with(value) || (value == i64::MAX.to_string() && plain.starts_with("2^63 - 1"))
}

#[test]
fn each_knob_that_is_set_has_a_row_and_each_row_is_set() {
    let set: Vec<String> = set_in(&text("60-lakh.conf")).into_keys().collect();
    let explained: Vec<String> = rows_of(&text("README.md")).into_keys().collect();
    assert!(set.len() >= 10, "{set:?}");
    assert_eq!(set, explained, "left: 60-lakh.conf, right: README.md");
}

#[test]
fn each_row_has_a_default_our_value_a_formula_and_a_symptom() {
    let rows = rows_of(&text("README.md"));
    for (knob, value) in set_in(&text("60-lakh.conf")) {
        let cells = &rows[&knob];
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "{knob}: {cells:?}");
        assert!(starts_with_value(&cells[1], &value), "{knob}: the file sets {value}, the README says {}", cells[1]);
    }
}

#[test]
fn each_knob_exists_on_linux() {
    let conf = text("60-lakh.conf");
    for knob in set_in(&conf).into_keys() {
        let file = Path::new("/proc/sys").join(knob.replace('.', "/"));
        let forgiven = conf.contains(&format!("\n-{knob} ="));
        let room: PathBuf = file.parent().map(Path::to_path_buf).unwrap_or_default();
        // A container may hide a whole folder; a folder that is there without the knob means that we misspelt it.
        assert!(file.exists() || forgiven || !room.exists(), "no {}", file.display());
    }
}

#[test]
fn every_flag_of_the_original_has_its_counterpart() {
    let readme = text("README.md");
    for flag in ["+P", "+Q", "+zdbbl", "+SDPcpu", "+e", "+hms", "+hmbs"] {
        assert!(readme.contains(&format!("\n| `{flag}` |")), "{flag}");
    }
}

#[test]
fn the_service_gives_the_drain_its_time_and_the_table_its_descriptors() {
    let unit = text("lakh.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned);
    let number = |key: &str| value(key).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    assert!(number("TimeoutStopSec") > 30, "the drain takes up to 30 s");
    assert_eq!(value("KillSignal").as_deref(), Some("SIGTERM"));
    assert!(number("LimitNOFILE") > 1_000_000 + 128);
}

#[test]
fn the_sockets_have_the_names_and_the_addresses_that_the_gateway_has() {
    let lakh::config::Config { listen, admin, .. } = lakh::config::Config::default();
    for (unit, name, addr) in [("lakh.socket", "clients", listen), ("lakh-admin.socket", "admin", admin.listen)] {
        let text = text(unit);
        let has = |line: &str| text.lines().any(|known| known == line);
        assert!(has(&format!("FileDescriptorName={name}")) && has(&format!("ListenStream={addr}")), "{text}");
        // systemd starts the service of the same name, unless it is told.
        assert!(unit == "lakh.socket" || has("Service=lakh.service"), "{text}");
    }
}

#[test]
fn a_missing_row_would_be_found() {
    let conf = "# a comment\nfs.nr_open = 1\n-net.x = 2 3\n";
    let readme =
        "## Other\n| `a.b` | 1 |\n\n## Knobs\n| knob | default |\n|---|---|\n| `fs.nr_open` | 0 | 1 | f | s |\n";
    assert_eq!(set_in(conf).into_keys().collect::<Vec<_>>(), ["fs.nr_open", "net.x"]);
    assert_eq!(rows_of(readme).into_keys().collect::<Vec<_>>(), ["fs.nr_open"]);
    assert_eq!(rows_of(readme)["fs.nr_open"], ["0", "1", "f", "s"]);
}
