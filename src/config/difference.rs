//! Which knobs of two configurations differ.

use toml::{Table, Value};

use super::Config;

impl Config {
    /// The names of the knobs that are not as in `other`, in the order of their sections' names. A section that only one
    /// of them has is named itself.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Vec<String> {
        let [this, that] = [self, other].map(|config| Table::try_from(config).unwrap_or_default());
        let mut names = Vec::new();
        compare("", &this, &that, &mut names);
        names
    }
}

fn compare(prefix: &str, this: &Table, that: &Table, names: &mut Vec<String>) {
    let missing = that.keys().filter(|key| !this.contains_key(*key));
    for key in this.keys().chain(missing) {
        let name = format!("{prefix}{key}");
        match (this.get(key), that.get(key)) {
            (Some(Value::Table(this)), Some(Value::Table(that))) => compare(&format!("{name}."), this, that, names),
            (this, that) if this == that => {}
            _ => names.push(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_named_and_sections_that_came_or_went() {
        let (mut before, mut after) = (Config::default(), Config::default());
        assert_eq!(before.difference(&after), Vec::<String>::new());
        before.upstreams.insert("gone".into(), crate::upstream::config::Config::default());
        after.upstreams.insert("new".into(), crate::upstream::config::Config::default());
        after.shards = 7;
        after.conn.idle_ms += 1;
        assert_eq!(after.difference(&before), ["conn.idle_ms", "shards", "upstreams.new", "upstreams.gone"]);
    }
}
