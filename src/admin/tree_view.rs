//! The supervision tree as it is shown: data for JSON, and the drawing that a person reads.

use std::fmt;

use serde::Serialize;

/// The living tree at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TreeView {
    /// The groups under the root, in the order they are started.
    pub groups: Vec<Group>,
}

/// Children that are supervised together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// Its children, in the order they are started.
    pub children: Vec<Child>,
}

/// One long-lived service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Child {
    /// Its name, unique within its group.
    pub name: String,
    /// `running`, `restarting`, or what else the tree calls it.
    pub state: &'static str,
    /// Restarts since the process started.
    pub restarts: u64,
    /// Seconds since it came into this state.
    pub since_s: u64,
    /// Why it was restarted last.
    pub last_failure: Option<String>,
}

impl TreeView {
    /// Every child with the name of its group.
    pub fn children(&self) -> impl Iterator<Item = (&str, &Child)> {
        self.groups.iter().flat_map(|group| group.children.iter().map(|child| (group.name.as_str(), child)))
    }
}

impl fmt::Display for TreeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "lakh")?;
        let width = self.children().map(|(_, child)| child.name.chars().count()).max().unwrap_or(0);
        for (at, group) in self.groups.iter().enumerate() {
            let last = at + 1 == self.groups.len();
            writeln!(f, "{} {}", if last { "`--" } else { "|--" }, group.name)?;
            for (at, child) in group.children.iter().enumerate() {
                let trunk = if last { "    " } else { "|   " };
                let branch = if at + 1 == group.children.len() { "`--" } else { "|--" };
                write!(f, "{trunk}{branch} {:<width$}  {child}", child.name)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Child {
    /// All but the name, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let restarts = if self.restarts == 1 { "restart" } else { "restarts" };
        write!(f, "{} for {} s, {} {restarts}", self.state, self.since_s, self.restarts)?;
        if let Some(why) = &self.last_failure {
            // A panic's message may have many lines.
            write!(f, " (last: {})", why.lines().next().unwrap_or_default())?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawing_has_a_line_each_and_the_first_line_of_a_failure() {
        let child = |name: &str, restarts, why: Option<&str>| Child {
            name: name.into(),
            state: "running",
            restarts,
            since_s: 7,
            last_failure: why.map(Into::into),
        };
        let tree = TreeView {
            groups: vec![
                Group { name: "services".into(), children: vec![child("monitor", 0, None)] },
                Group {
                    name: "shards".into(),
                    children: vec![child("shard-0", 1, Some("panicked\nat x")), child("s-1", 2, None)],
                },
            ],
        };
        let expected = "\
lakh
|-- services
|   `-- monitor  running for 7 s, 0 restarts
`-- shards
    |-- shard-0  running for 7 s, 1 restart (last: panicked)
    `-- s-1      running for 7 s, 2 restarts
";
        assert_eq!(tree.to_string(), expected);
    }
}
