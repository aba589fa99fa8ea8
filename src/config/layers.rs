//! Layers of knobs over the defaults: files, `LAKH_*` variables, flags; each knob is checked where it is set.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;
use toml::{Table, Value};

use super::Config;
use crate::{guard, upstream};

/// How a variable's name begins: `conn.keepalive_ms` is `LAKH_CONN_KEEPALIVE_MS`.
const PREFIX: &str = "LAKH_";
/// The section of sections that a user names.
pub(super) const UPSTREAMS: &str = "upstreams";

/// Knobs by their names, from the lowest layer upwards.
pub struct Layers {
    pub(super) knobs: Table,
    /// Sections with nothing set, of the sections whose parts a user names.
    blank: [(&'static str, Table); 3],
}

/// A knob's name in parts: sections, then the knob. Parts that a user names may hold dots.
type Knob = [String];

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
    /// The file of an editor is none.
    #[error("{}: {why}", path.display())]
    NotMcpJson { path: PathBuf, why: String },
    /// A flag that names or describes a server, and does not.
    #[error("{flag} {value:?}: {why}")]
    Server { flag: &'static str, value: String, why: &'static str },
}

impl Default for Layers {
    fn default() -> Self {
        fn blank(section: impl Serialize) -> Table {
            Table::try_from(section).unwrap_or_default()
        }
        let blanks = [
            (UPSTREAMS, blank(upstream::config::Config::default())),
            ("plans", blank(guard::Plan::default())),
            ("tenants", blank(guard::TenantConfig::default())),
        ];
        Self { knobs: blank(Config::default()), blank: blanks }
    }
}

impl Layers {
    /// Lays a TOML file over what is there.
    ///
    /// # Errors
    /// When it cannot be read, or names an unknown knob, or gives one a value of another type.
    pub fn file(mut self, path: &Path) -> Result<Self, Rejected> {
        let file: Table =
            read(path)?.parse().map_err(|error| Rejected::NotToml { path: path.into(), error: Box::new(error) })?;
        self.lay(&path.display().to_string(), &[], file)?;
        Ok(self)
    }

    /// Lays the `LAKH_*` variables over what is there; others are none of ours.
    ///
    /// # Errors
    /// When one names an unknown knob, or gives one a value of another type.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Rejected> {
        let names = self.names();
        let name = |knob: &Vec<String>| knob.join("_").replace(['-', '.'], "_").to_uppercase();
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
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
        let knob: Vec<String> = knob.split('.').map(Into::into).collect();
        self.set(flag, &knob, value)?;
        Ok(self)
    }

    /// Lays some knobs over the section of one upstream, which need not be there yet.
    ///
    /// # Errors
    /// When one is unknown, or its value is of another type.
    pub(super) fn upstream(&mut self, origin: &str, name: &str, knobs: Table) -> Result<(), Rejected> {
        let section = Table::from_iter([(name.to_owned(), Value::Table(knobs))]);
        self.lay(origin, &[UPSTREAMS.to_owned()], section)
    }

    /// The knobs together.
    ///
    /// # Errors
    /// When a value has the right type and no meaning, such as an address that is none.
    pub fn config(self) -> Result<Config, Rejected> {
        self.knobs.try_into().map_err(|error| Rejected::Unusable(Box::new(error)))
    }

    /// Every knob's name.
    fn names(&self) -> Vec<Vec<String>> {
        fn collect(section: &Knob, table: &Table, names: &mut Vec<Vec<String>>) {
            for (key, value) in table {
                let knob = below(section, key);
                match value {
                    Value::Table(inner) => collect(&knob, inner, names),
                    _ => names.push(knob),
                }
            }
        }
        let mut names = Vec::new();
        collect(&[], &self.knobs, &mut names);
        names
    }

    fn lay(&mut self, origin: &str, section: &Knob, layer: Table) -> Result<(), Rejected> {
        for (key, value) in layer {
            let knob = below(section, &key);
            match (self.find(&knob), value) {
                (Some(Value::Table(section)), Value::Table(inner)) => {
                    self.replace(&knob, Value::Table(section));
                    self.lay(origin, &knob, inner)?;
                }
                (Some(old), value) if same_type(&old, &value) => self.replace(&knob, value),
                (Some(Value::String(_)), Value::Array(words)) if is_command(&knob) => {
                    let words = words.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
                    let line = words.and_then(|words| shlex::try_join(words).ok());
                    let wrong = || wrong_type(origin, &knob, "a command, or a list of its words", "another list");
                    self.replace(&knob, Value::String(line.ok_or_else(wrong)?));
                }
                (Some(old), value) => return Err(wrong_type(origin, &knob, kind(&old), value)),
                (None, _) => {
                    let hint = nearest(&knob.join("."), self.names().iter().map(|knob| knob.join(".")));
                    return Err(Rejected::Unknown { origin: origin.into(), knob: knob.join("."), hint });
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, origin: &str, knob: &Knob, text: &str) -> Result<(), Rejected> {
        let wrong = |takes| wrong_type(origin, knob, takes, format!("{text:?}"));
        let value = match self.find(knob) {
            Some(Value::String(_)) => Value::String(text.into()),
            Some(Value::Integer(_)) => Value::Integer(text.parse().map_err(|_| wrong("a whole number"))?),
            Some(Value::Float(_)) => Value::Float(text.parse().map_err(|_| wrong("a number"))?),
            Some(Value::Boolean(_)) => Value::Boolean(text.parse().map_err(|_| wrong("true or false"))?),
            Some(Value::Array(old)) => Value::Array(array(text, old.first()).ok_or_else(|| wrong("a list"))?),
            _ => return Err(Rejected::Unknown { origin: origin.into(), knob: knob.join("."), hint: None }),
        };
        self.replace(knob, value);
        Ok(())
    }

    /// What a knob or a section is now, and what it would begin with where the user names it.
    fn find(&self, knob: &Knob) -> Option<Value> {
        let (key, sections) = knob.split_last()?;
        let mut table = Some(&self.knobs);
        for section in sections {
            table = table.and_then(|table| table.get(section)?.as_table());
        }
        table.and_then(|table| table.get(key)).cloned().or_else(|| self.begin(knob))
    }

    fn begin(&self, knob: &Knob) -> Option<Value> {
        let parts: Vec<&str> = knob.iter().map(String::as_str).collect();
        match *parts {
            [section, _] => {
                let blank = self.blank.iter().find(|(named, _)| *named == section);
                blank.map(|(_, blank)| Value::Table(blank.clone()))
            }
            [UPSTREAMS, _, "env" | "headers", _] => Some(Value::String(String::new())),
            _ => None,
        }
    }

    fn replace(&mut self, knob: &Knob, value: Value) {
        let Some((key, sections)) = knob.split_last() else { return };
        let mut table = &mut self.knobs;
        for section in sections {
            let Some(inner) = table.get_mut(section).and_then(Value::as_table_mut) else { return };
            table = inner;
        }
        table.insert(key.clone(), value);
    }
}

pub(super) fn read(path: &Path) -> Result<String, Rejected> {
    fs::read_to_string(path).map_err(|error| Rejected::Unreadable { path: path.into(), error })
}

fn below(section: &Knob, key: &str) -> Vec<String> {
    section.iter().map(String::as_str).chain([key]).map(Into::into).collect()
}

fn is_command(knob: &Knob) -> bool {
    matches!(knob, [section, _, key] if section == UPSTREAMS && key == "command")
}

fn wrong_type(origin: &str, knob: &Knob, takes: &'static str, value: impl ToString) -> Rejected {
    Rejected::WrongType { origin: origin.into(), knob: knob.join("."), takes, value: value.to_string() }
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
        let mut layers = Layers::default();
        layers.lay("print-config", &[], knobs).unwrap();
        assert_eq!(layers.config().unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_knob_is_named_with_its_likeliest_meaning() {
        let error = Layers::default().environment(variable("LAKH_CONN_IDLE", "2")).err().unwrap().to_string();
        assert!(error.contains("LAKH_CONN_IDLE") && error.contains("LAKH_CONN_IDLE_MS"), "{error}");
        let mut layers = Layers::default();
        let error = layers.lay("f.toml", &[], "[guard]\nconections_max = 5".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("`guard.conections_max`") && error.contains("`guard.connections_max`"), "{error}");
    }

    #[test]
    fn a_value_of_another_type_is_named() {
        let mut layers = Layers::default();
        let error = layers.lay("f.toml", &[], "shards = \"two\"".parse().unwrap()).unwrap_err().to_string();
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

    fn laid(file: &str) -> Result<Layers, String> {
        let mut layers = Layers::default();
        layers.lay("f.toml", &[], file.parse().unwrap()).map_err(|error| error.to_string())?;
        Ok(layers)
    }

    #[test]
    fn upstreams_have_names_of_the_users_own() {
        let layers =
            laid("[upstreams.a-b]\ncommand = [\"run\", \"x y\"]\nenv.\"A.B\" = \"1\"\n[upstreams.c]\ntcp = \"h:1\"");
        let set =
            vec![("LAKH_UPSTREAMS_A_B_CALL_MS".into(), "7".into()), ("LAKH_UPSTREAMS_A_B_ENV_A_B".into(), "2".into())];
        let config = layers.unwrap().environment(set).unwrap().config().unwrap();
        let one = &config.upstreams["a-b"];
        assert_eq!((one.command.as_str(), one.call_ms, one.env.0["A.B"].as_str()), ("run 'x y'", 7, "2"));
        assert_eq!(config.upstreams["c"].call_ms, upstream::config::Config::default().call_ms);
        let again = laid(&config.to_toml()).unwrap().config().unwrap();
        assert_eq!(again, config, "it survives its own file");
    }

    #[test]
    fn plans_and_tenants_have_names_of_the_users_own() {
        let layers =
            laid("[plans.gold]\nweight = 4\n[plans.default]\nslow_calls_per_minute = 9\n[tenants.a]\nplan = \"gold\"");
        let set = vec![
            ("LAKH_TENANTS_A_KEYS".into(), "one, two".into()),
            ("LAKH_PLANS_GOLD_PRIORITY".into(), "7".into()),
            ("LAKH_PLANS_DEFAULT_WEIGHT".into(), "2".into()),
        ];
        let config = layers.unwrap().environment(set).unwrap().config().unwrap();
        assert_eq!((config.plans["gold"].weight, config.plans["gold"].priority), (4, 7));
        assert_eq!((config.plans["default"].weight, config.plans["default"].slow_calls_per_minute), (2, 9));
        assert_eq!(config.tenants["a"].keys.0, ["one", "two"]);
        let again = laid(&config.to_toml()).unwrap().config().unwrap();
        assert_eq!(again.roster().unwrap(), config.roster().unwrap(), "it survives its own file");
        let error = laid("[plans.gold]\nwait = 1").err().unwrap();
        assert!(error.contains("no knob `plans.gold.wait`, did you mean `plans."), "{error}");
        assert!(laid("[tenants.a]\nkeys = \"one\"").err().unwrap().contains("`tenants.a.keys` takes a list"));
    }

    #[test]
    fn knobs_of_upstreams_are_held_to_the_same() {
        for (file, words) in [
            (
                "[upstreams.a]\ncomand = \"x\"",
                "f.toml: there is no knob `upstreams.a.comand`, did you mean `upstreams.a.command`",
            ),
            ("[upstreams.a]\ncall_ms = \"x\"", "`upstreams.a.call_ms` takes a whole number"),
            ("[upstreams.a]\ncommand = [1]", "`upstreams.a.command` takes a command, or a list of its words"),
            ("[upstreams.a]\nenv.X = 1", "`upstreams.a.env.X` takes a text"),
            ("[upstreams]\na = 1", "`upstreams.a` takes a section"),
            ("upstreams = 1", "`upstreams` takes a section"),
        ] {
            let error = laid(file).err().expect(file);
            assert!(error.contains(words), "{file}: {error}");
        }
        let odd = laid("[upstreams.a]\nsharing = \"both\"").unwrap().config().unwrap_err().to_string();
        assert!(odd.contains("`both`") && odd.contains("per-session"), "{odd}");
        let unknown = Layers::default().environment(variable("LAKH_UPSTREAMS_A_CALL_MS", "1"));
        assert!(unknown.err().unwrap().to_string().contains("LAKH_UPSTREAMS_A_CALL_MS"), "no file names `a`");
    }
}
