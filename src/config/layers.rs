//! Layers of knobs over the defaults: a file, `LAKH_*` variables, flags; each knob is checked where it is set.

use std::path::{Path, PathBuf};
use std::{fs, io};

use toml::{Table, Value};

use super::Config;

/// How a variable's name begins: `conn.keepalive_ms` is `LAKH_CONN_KEEPALIVE_MS`.
const PREFIX: &str = "LAKH_";

/// Knobs by their dotted names, from the lowest layer upwards.
pub struct Layers {
    knobs: Table,
}

/// Why a setting cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// The file is not there or not readable.
    #[error("{}: {error}; name a readable file with --config", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    /// The file is no TOML.
    #[error("{}: {error}", path.display())]
    NotToml { path: PathBuf, error: Box<toml::de::Error> },
    /// There is no such knob.
    #[error("{origin}: there is no knob `{knob}`{}; `lakh print-config` shows all", hint.as_ref().map_or_else(String::new, |hint| format!(", did you mean `{hint}`?")))]
    Unknown { origin: String, knob: String, hint: Option<String> },
    /// The value is of another type.
    #[error("{origin}: `{knob}` takes {takes}, not {value}")]
    WrongType { origin: String, knob: String, takes: &'static str, value: String },
    /// The value's form is right and its meaning is not.
    #[error("a knob's value cannot be used: {0}")]
    Unusable(Box<toml::de::Error>),
}

impl Default for Layers {
    fn default() -> Self {
        Self { knobs: Table::try_from(Config::default()).unwrap_or_default() }
    }
}

impl Layers {
    /// Lays a TOML file over what is there.
    ///
    /// # Errors
    /// When it cannot be read, or names an unknown knob, or gives one a value of another type.
    pub fn file(mut self, path: &Path) -> Result<Self, Rejected> {
        let text = fs::read_to_string(path).map_err(|error| Rejected::Unreadable { path: path.into(), error })?;
        let file: Table =
            text.parse().map_err(|error| Rejected::NotToml { path: path.into(), error: Box::new(error) })?;
        self.lay(&path.display().to_string(), "", file)?;
        Ok(self)
    }

    /// Lays the `LAKH_*` variables over what is there; others are none of ours.
    ///
    /// # Errors
    /// When one names an unknown knob, or gives one a value of another type.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Rejected> {
        let names = self.names();
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
            let name = |knob: &String| knob.replace('.', "_").to_uppercase();
            match names.iter().find(|knob| name(knob) == rest) {
                Some(knob) => self.set(&variable, knob, &value)?,
                None => {
                    let hint = nearest(rest, names.iter().map(name)).map(|name| format!("{PREFIX}{name}"));
                    return Err(Rejected::Unknown { origin: "environment".into(), knob: variable, hint });
                }
            }
        }
        Ok(self)
    }

    /// Sets one knob from a flag.
    ///
    /// # Errors
    /// When the value is of another type.
    pub fn flag(mut self, flag: &str, knob: &str, value: &str) -> Result<Self, Rejected> {
        self.set(flag, knob, value)?;
        Ok(self)
    }

    /// The knobs together.
    ///
    /// # Errors
    /// When a value has the right type and no meaning, such as an address that is none.
    pub fn config(self) -> Result<Config, Rejected> {
        self.knobs.try_into().map_err(|error| Rejected::Unusable(Box::new(error)))
    }

    /// Every knob's dotted name.
    fn names(&self) -> Vec<String> {
        fn collect(prefix: &str, table: &Table, names: &mut Vec<String>) {
            for (key, value) in table {
                match value {
                    Value::Table(inner) => collect(&format!("{prefix}{key}."), inner, names),
                    _ => names.push(format!("{prefix}{key}")),
                }
            }
        }
        let mut names = Vec::new();
        collect("", &self.knobs, &mut names);
        names
    }

    fn lay(&mut self, origin: &str, prefix: &str, layer: Table) -> Result<(), Rejected> {
        for (key, value) in layer {
            let knob = format!("{prefix}{key}");
            match (self.find(&knob).cloned(), value) {
                (Some(Value::Table(_)), Value::Table(inner)) => self.lay(origin, &format!("{knob}."), inner)?,
                (Some(old), value) if same_type(&old, &value) => self.replace(&knob, value),
                (Some(old), value) => {
                    let (origin, takes, value) = (origin.into(), kind(&old), value.to_string());
                    return Err(Rejected::WrongType { origin, knob, takes, value });
                }
                (None, _) => {
                    let hint = nearest(&knob, self.names().into_iter());
                    return Err(Rejected::Unknown { origin: origin.into(), knob, hint });
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, origin: &str, knob: &str, text: &str) -> Result<(), Rejected> {
        let old = self.find(knob).cloned();
        let wrong =
            |takes| Rejected::WrongType { origin: origin.into(), knob: knob.into(), takes, value: format!("{text:?}") };
        let value = match &old {
            Some(Value::String(_)) => Value::String(text.into()),
            Some(Value::Integer(_)) => Value::Integer(text.parse().map_err(|_| wrong("a whole number"))?),
            Some(Value::Float(_)) => Value::Float(text.parse().map_err(|_| wrong("a number"))?),
            Some(Value::Boolean(_)) => Value::Boolean(text.parse().map_err(|_| wrong("true or false"))?),
            Some(Value::Array(old)) => Value::Array(array(text, old.first()).ok_or_else(|| wrong("a list"))?),
            _ => return Err(Rejected::Unknown { origin: origin.into(), knob: knob.into(), hint: None }),
        };
        self.replace(knob, value);
        Ok(())
    }

    fn find(&self, knob: &str) -> Option<&Value> {
        let (sections, key) = knob.rsplit_once('.').unwrap_or(("", knob));
        let mut table = &self.knobs;
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            table = table.get(section)?.as_table()?;
        }
        table.get(key)
    }

    fn replace(&mut self, knob: &str, value: Value) {
        let (sections, key) = knob.rsplit_once('.').unwrap_or(("", knob));
        let mut table = &mut self.knobs;
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            let Some(inner) = table.get_mut(section).and_then(Value::as_table_mut) else { return };
            table = inner;
        }
        table.insert(key.into(), value);
    }
}

/// A comma-separated list, of whole numbers where the default has such.
fn array(text: &str, like: Option<&Value>) -> Option<Vec<Value>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| match like {
            Some(Value::Integer(_)) => part.parse().ok().map(Value::Integer),
            _ => Some(Value::String(part.into())),
        })
        .collect()
}

/// A whole number is taken where a fraction may stand.
fn same_type(old: &Value, new: &Value) -> bool {
    old.same_type(new) || (old.is_float() && new.is_integer())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
        Value::Datetime(_) => "a time",
    }
}

fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let likeness = |known: &String| (strsim::jaro_winkler(name, known) * 1000.0) as u32;
    names.max_by_key(likeness).filter(|known| likeness(known) > 800)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.into(), value.into()), ("PATH".into(), "x".into())]
    }

    #[test]
    fn a_flag_beats_a_variable_beats_a_file_beats_the_default() {
        let file = std::env::temp_dir().join(format!("lakh-layers-{}.toml", std::process::id()));
        fs::write(&file, "drain_ms = 1\nshards = 1\n[conn]\nidle_ms = 1\nkeepalive_ms = 1\n").unwrap();
        let layers = Layers::default().file(&file).unwrap();
        let layers = layers.environment(variable("LAKH_CONN_IDLE_MS", "2")).unwrap();
        let layers = layers.environment(variable("LAKH_SHARDS", "2")).unwrap();
        let config = layers.flag("--shards", "shards", "3").unwrap().config().unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!((config.shards, config.conn.idle_ms, config.conn.keepalive_ms, config.drain_ms), (3, 2, 1, 1));
        assert_eq!(config.guard, Config::default().guard);
    }

    #[test]
    fn every_knob_survives_its_own_file() {
        let knobs: Table = Config::default().to_toml().parse().unwrap();
        let mut layers = Layers { knobs: Table::try_from(Config::default()).unwrap() };
        layers.lay("print-config", "", knobs).unwrap();
        assert_eq!(layers.config().unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_knob_is_named_with_its_likeliest_meaning() {
        let error = Layers::default().environment(variable("LAKH_CONN_IDLE", "2")).err().unwrap().to_string();
        assert!(error.contains("LAKH_CONN_IDLE") && error.contains("LAKH_CONN_IDLE_MS"), "{error}");
        let mut layers = Layers::default();
        let error = layers.lay("f.toml", "", "[guard]\nconections_max = 5".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("`guard.conections_max`") && error.contains("`guard.connections_max`"), "{error}");
    }

    #[test]
    fn a_value_of_another_type_is_named() {
        let mut layers = Layers::default();
        let error = layers.lay("f.toml", "", "shards = \"two\"".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("`shards` takes a whole number"), "{error}");
        let error = Layers::default().flag("--listen", "listen", "nowhere").unwrap().config().unwrap_err().to_string();
        assert!(error.contains("listen") || error.contains("socket address"), "{error}");
    }

    #[test]
    fn lists_are_comma_separated_in_variables() {
        let layers =
            Layers::default().environment(variable("LAKH_WIRE_HOSTS_ALLOWED", "a.example, b.example")).unwrap();
        assert_eq!(layers.config().unwrap().wire.hosts_allowed, ["a.example", "b.example"]);
    }
}
