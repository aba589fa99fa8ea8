//! The catalogue as it is shown: a row for each tool, prompt, resource and template, in the order that clients see.

use std::fmt::Write;

use serde::Serialize;

use crate::mcp::List;
use crate::upstream::Directory;

/// One entry.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    kind: &'static str,
    /// The name or URI that clients have for it.
    name: String,
    upstream: String,
    /// The name or URI that its server has for it, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    own: Option<String>,
    /// False while its upstream is gone.
    present: bool,
    description: String,
}

/// All that is offered, as `/catalogue` tells it: as JSON, or a line each for people.
#[must_use]
pub fn listing(directory: &Directory, as_json: bool) -> String {
    // Rows of texts and truths can always be written as JSON.
    if as_json { serde_json::to_string(&rows(directory)).unwrap_or_default() } else { text(directory) }
}

pub(super) fn rows(directory: &Directory) -> Vec<Row> {
    let row = |entry: crate::upstream::Listed<'_>| Row {
        kind: match entry.list {
            List::Tools => "tool",
            List::Prompts => "prompt",
            List::Resources => "resource",
            List::Templates => "template",
        },
        name: entry.name.to_owned(),
        upstream: entry.upstream.to_owned(),
        own: (entry.own != entry.name).then(|| entry.own.to_owned()),
        present: entry.present,
        description: entry.description,
    };
    directory.listing().map(row).collect()
}

/// A line each, in columns.
pub(super) fn text(directory: &Directory) -> String {
    let rows = rows(directory);
    if rows.is_empty() {
        return "Nothing is offered (yet): /upstreams tells why.\n".into();
    }
    let longest = |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0);
    let (names, upstreams) = (longest(|row| &row.name).min(64), longest(|row| &row.upstream));
    let mut text = String::new();
    for Row { kind, name, upstream, present, description, .. } in &rows {
        // A URI may hold anything that its server has put there.
        let name: String = name.chars().filter(|char| !char.is_control()).collect();
        let gone = if *present { "" } else { "(gone) " };
        let line = format!("{kind:<8}  {name:<names$}  {upstream:<upstreams$}  {gone}{description}");
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
