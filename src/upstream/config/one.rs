//! One upstream as its actor takes it: a place to go and plain values, checked.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::reference::{Missing, expand};
use super::{Config, Sharing, Speaks, is_name};
use crate::mcp::Era;
use crate::upstream::Knobs;
use crate::upstream::embedded::Embedded;
use crate::upstream::front;
use crate::upstream::group::{Kin, Rule};
use crate::upstream::handle::Rationing;
use crate::upstream::link::{Limits, Target};

/// One upstream, ready to be started. Two that are equal need no restart between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct One {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// The same for people: as it was written, so that no reference to a secret is followed, and without a query.
    pub shown: String,
    /// Whether each client has a session of its own there.
    pub per_session: bool,
    /// Which of its calls are rationed.
    pub rationing: Rationing,
    /// How it is used.
    pub knobs: Knobs,
    /// Whose replica it is, and who stands in for it.
    pub kin: Kin,
}

/// Why an upstream cannot be started, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Its name is none.
    #[error(
        "`upstreams.{0}`: an upstream's name has 1 to 32 characters of a-z, 0-9, - and _; call it {hint}",
        hint = super::to_name(.0)
    )]
    Name(String),
    /// Its name is taken.
    #[error("`upstreams.{0}`: the built-in server has that name; call it otherwise")]
    Taken(String),
    /// It is nowhere.
    #[error("`upstreams.{0}` does not say where the server is: set one of `command`, `http`, `tcp` and `ws`")]
    Nowhere(String),
    /// It is in two places.
    #[error("`upstreams.{0}` is in more than one place ({1}): leave one of them")]
    Manywhere(String, String),
    /// A knob that its transport has no use for.
    #[error("`upstreams.{0}.{1}` has no meaning for `{2}`: remove it")]
    Idle(String, &'static str, &'static str),
    /// A reference that leads nowhere.
    #[error(
        "`upstreams.{0}.{1}` refers to ${{{2}}}, which is not set: set that variable, or write ${{{2}:-a default}}"
    )]
    Missing(String, String, String),
    /// A value that is no good.
    #[error("`upstreams.{0}.{1}` {2}")]
    Value(String, String, String),
}

impl Config {
    /// What its actor takes. `message_bytes_max` is `wire.message_bytes_max`; `variable` looks a variable of the
    /// environment up.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn resolve(
        &self,
        name: &str,
        message_bytes_max: usize,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<One, Vec<Unusable>> {
        let mut reader = Reader { name, variable, wrong: Vec::new() };
        let found = self.read(&mut reader);
        match found {
            Some((target, shown)) if reader.wrong.is_empty() => Ok(One {
                name: name.to_owned(),
                target,
                shown,
                per_session: self.sharing == Sharing::PerSession,
                rationing: Rationing {
                    slow: self.slow,
                    sensitive: self.sensitive.iter().map(|tool| tool.as_str().into()).collect(),
                },
                knobs: self.knobs(message_bytes_max),
                kin: self.kin(),
            }),
            _ => Err(reader.wrong),
        }
    }

    fn kin(&self) -> Kin {
        Kin {
            replica_of: (!self.replica_of.is_empty()).then(|| self.replica_of.clone()),
            weight: self.weight,
            fallback: self.fallback.clone(),
            rule: Rule { after: self.eject_after, first: Duration::from_millis(self.eject_ms) },
        }
    }

    fn knobs(&self, message_bytes_max: usize) -> Knobs {
        Knobs {
            call: Duration::from_millis(self.call_ms),
            call_max: Duration::from_millis(self.call_max_ms),
            deadline: Duration::from_millis(self.deadline_ms),
            probe: Duration::from_millis(self.probe_ms),
            input: Duration::from_millis(self.input_ms),
            restart_min: Duration::from_millis(self.restart_ms_min),
            restart_max: Duration::from_millis(self.restart_ms_max),
            in_flight_max: self.in_flight_max,
            front: front::Knobs {
                queue_max: self.queue_max,
                deadline: Duration::from_millis(if self.deadline_ms == 0 { self.call_ms } else { self.deadline_ms }),
                is_whole: self.deadline_ms > 0,
                target: Duration::from_millis(self.queue_target_ms),
                breaker_ratio_percent: self.breaker_ratio_percent,
                breaker_calls_min: self.breaker_calls_min,
                breaker_open: Duration::from_millis(self.breaker_open_ms),
                retry_percent: self.retry_budget_percent,
            },
            entries_max: self.entries_max,
            sessions_max: self.sessions_max,
            session_idle: Duration::from_millis(self.session_idle_ms),
            era: match self.era {
                Speaks::Auto => None,
                Speaks::Legacy => Some(Era::Legacy),
                Speaks::Modern => Some(Era::Modern),
            },
            limits: Limits {
                message_bytes_max,
                connect: Duration::from_millis(self.connect_ms),
                http_connections_max: self.http_connections_max,
            },
        }
    }

    fn read(&self, reader: &mut Reader<'_>) -> Option<(Target, String)> {
        if !is_name(reader.name) {
            reader.wrong.push(Unusable::Name(reader.name.to_owned()));
            // Under a name like this, nothing else can be told in one line.
            return None;
        }
        if reader.name == Embedded::UPSTREAM {
            reader.wrong.push(Unusable::Taken(reader.name.to_owned()));
        }
        self.check_numbers(reader);
        let name = || reader.name.to_owned();
        let (knob, text) = match *self.transports() {
            [] => {
                reader.wrong.push(Unusable::Nowhere(name()));
                return None;
            }
            [one] => one,
            ref many => {
                let knobs: Vec<_> = many.iter().map(|(knob, _)| format!("`{knob}`")).collect();
                reader.wrong.push(Unusable::Manywhere(name(), knobs.join(", ")));
                return None;
            }
        };
        let child = knob == "command";
        let idle = [
            ("cwd", !child && !self.cwd.is_empty()),
            ("env", !child && !self.env.0.is_empty()),
            ("headers", (child || knob == "tcp") && !self.headers.0.is_empty()),
            ("ca_file", (child || knob == "tcp") && !self.ca_file.is_empty()),
        ];
        let idle = idle.into_iter().filter(|(_, is_set)| *is_set);
        reader.wrong.extend(idle.map(|(other, _)| Unusable::Idle(reader.name.to_owned(), other, knob)));
        let shown = if knob == "tcp" || child { text } else { text.split(['?', '#']).next().unwrap_or_default() };
        Some((self.target(reader, knob, text)?, shown.to_owned()))
    }

    fn target(&self, reader: &mut Reader<'_>, knob: &'static str, text: &str) -> Option<Target> {
        Some(match knob {
            "command" => {
                let Some(words) = shlex::split(text).filter(|words| !words.is_empty()) else {
                    reader.refuse(knob, "is no command: a quote in it is not closed, or it has no word");
                    return None;
                };
                // A reference is one word or a part of one, whatever is in its value.
                let mut words = words.iter().map(|word| reader.expand(knob, word)).collect::<Option<Vec<_>>>()?;
                let args = words.split_off(1);
                let cwd = reader.expand("cwd", &self.cwd)?;
                Target::Child {
                    command: words.pop()?,
                    args,
                    env: reader.pairs("env", &self.env.0, is_variable),
                    cwd: (!cwd.is_empty()).then(|| cwd.into()),
                }
            }
            "tcp" => {
                let address = reader.expand(knob, text)?;
                if let Err(why) = check_address(&address) {
                    reader.refuse(knob, &format!("= {text:?} {why}"));
                }
                Target::Tcp(address)
            }
            _ => {
                let url = reader.expand(knob, text)?;
                let schemes = if knob == "http" { ["http", "https"] } else { ["ws", "wss"] };
                if let Err(why) = check_url(&url, schemes) {
                    // Credentials and keys stand before an `@` or behind a `?`.
                    let public = text.split(['?', '#']).next().filter(|text| !text.contains('@'));
                    let public = public.map_or_else(String::new, |text| format!("= {text:?} "));
                    reader.refuse(knob, &format!("{public}{why}"));
                }
                let headers = reader.pairs("headers", &self.headers.0, is_header);
                let ca_file = reader.expand("ca_file", &self.ca_file)?;
                let ca_file = (!ca_file.is_empty()).then(|| ca_file.into());
                if knob == "http" {
                    Target::Http { url, headers, ca_file }
                } else {
                    Target::WebSocket { url, headers, ca_file }
                }
            }
        })
    }

    fn check_numbers(&self, reader: &mut Reader<'_>) {
        let zeros = [
            ("connect_ms", self.connect_ms == 0, "is 0: no connection could be made; raise it"),
            (
                "restart_ms_min",
                self.restart_ms_min == 0,
                "is 0: a dead server would be tried without a pause; raise it",
            ),
            ("restart_ms_max", self.restart_ms_max < self.restart_ms_min, "is below `restart_ms_min`; raise it"),
            ("in_flight_max", self.in_flight_max == 0, "is 0: nothing could be called; raise it"),
            ("breaker_ratio_percent", self.breaker_ratio_percent > 100, "is over 100: write 1 to 100, or 0 for never"),
            ("breaker_calls_min", self.breaker_calls_min == 0, "is 0: one failed call would open it; raise it"),
            ("breaker_open_ms", self.breaker_open_ms == 0, "is 0: it would never stay open; raise it"),
            ("retry_budget_percent", self.retry_budget_percent > 100, "is over 100: write 0 to 100"),
            ("weight", !(1..=1_000).contains(&self.weight), "is not from 1 to 1000"),
            ("eject_ms", self.eject_ms == 0, "is 0: it would never be out; raise it, or set `eject_after` to 0"),
            ("sessions_max", self.sessions_max == 0, "is 0: nobody could have a session; raise it"),
            ("session_idle_ms", self.session_idle_ms == 0, "is 0: every session would end at once; raise it"),
            ("http_connections_max", self.http_connections_max == 0, "is 0: nothing could be asked; raise it"),
            ("entries_max", self.entries_max == 0, "is 0: nothing could be offered; raise it"),
        ];
        for (knob, _, why) in zeros.iter().filter(|(_, is_wrong, _)| *is_wrong) {
            reader.refuse(knob, why);
        }
    }
}

impl One {
    /// What may be wrong with it and need not be: what is not found may be there by the time it is tried again.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let name = &self.name;
        match &self.target {
            Target::Child { command, env, cwd, .. } => {
                let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.into());
                let path = path.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
                let is_there = if command.contains('/') {
                    cwd.as_deref().unwrap_or(Path::new("")).join(command).exists()
                } else {
                    std::env::split_paths(&path).any(|folder| folder.join(command).is_file())
                };
                (!is_there).then(|| {
                    format!("`upstreams.{name}`: there is no program {command:?}; install it, or name its path")
                })
            }
            Target::Http { ca_file: Some(file), .. } | Target::WebSocket { ca_file: Some(file), .. } => {
                let what = || format!("`upstreams.{name}.ca_file`: there is no file {file:?}; name the right one");
                (!file.exists()).then(what)
            }
            _ => None,
        }
    }
}

/// Reads values and gathers what is wrong with them.
struct Reader<'a> {
    name: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
    wrong: Vec<Unusable>,
}

impl Reader<'_> {
    fn expand(&mut self, knob: &str, text: &str) -> Option<String> {
        let expanded = expand(text, self.variable);
        let missing = |Missing(what)| Unusable::Missing(self.name.to_owned(), knob.to_owned(), what);
        expanded.map_err(|what| self.wrong.push(missing(what))).ok()
    }

    fn pairs<'p>(
        &mut self,
        knob: &str,
        pairs: impl IntoIterator<Item = (&'p String, &'p String)>,
        is_good: fn(&str, &str) -> bool,
    ) -> Vec<(String, String)> {
        let mut read = Vec::new();
        for (key, value) in pairs {
            let knob = format!("{knob}.{key}");
            match self.expand(&knob, value) {
                // Never with the value: it may be a secret.
                Some(value) if !is_good(key, &value) => self.refuse(&knob, "has a name or a value that cannot be sent"),
                Some(value) => read.push((key.clone(), value)),
                None => {}
            }
        }
        read
    }

    fn refuse(&mut self, knob: &str, why: &str) {
        self.wrong.push(Unusable::Value(self.name.to_owned(), knob.to_owned(), why.to_owned()));
    }
}

/// execve(2) takes no NUL, and a name ends at the first `=`.
fn is_variable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

fn is_header(name: &str, value: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok()
}

fn check_url(url: &str, schemes: [&str; 2]) -> Result<(), String> {
    let [plain, secure] = schemes;
    let uri: Uri = url.parse().map_err(|_| format!("is no URL: write {plain}://HOST:PORT/PATH"))?;
    if !schemes.iter().any(|scheme| uri.scheme_str() == Some(scheme)) {
        return Err(format!("begins with neither {plain}:// nor {secure}://"));
    }
    match uri.authority() {
        None => Err("has no host".into()),
        Some(authority) if authority.as_str().contains('@') => {
            Err("has credentials in it: send them as a header".into())
        }
        Some(_) => Ok(()),
    }
}

fn check_address(address: &str) -> Result<(), &'static str> {
    let wrong = "is no address: write HOST:PORT";
    let (host, port) = address.rsplit_once(':').ok_or(wrong)?;
    let bare_ipv6 = host.contains(':') && !host.starts_with('[');
    let is_good = !host.is_empty() && !bare_ipv6 && !host.contains(['/', ' ', '@']);
    if is_good && port.parse::<u16>().is_ok_and(|port| port > 0) { Ok(()) } else { Err(wrong) }
}

impl fmt::Debug for Target {
    /// Arguments, variables and headers may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Child { command, .. } => write!(f, "Child({command} ..)"),
            Self::Http { .. } => f.write_str("Http(..)"),
            Self::Tcp(address) => write!(f, "Tcp({address})"),
            Self::WebSocket { .. } => f.write_str("WebSocket(..)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::upstream::config::Secrets;

    fn resolved(config: &str) -> Result<One, String> {
        let config: Config = toml::from_str(config).expect("knobs");
        let variable = |name: &str| (name == "TOKEN").then(|| "a b".to_owned());
        let told = |wrong: Vec<Unusable>| wrong.iter().map(|wrong| format!("{wrong}\n")).collect();
        config.resolve("x", 1 << 20, &variable).map_err(told)
    }

    #[test]
    fn a_command_is_split_as_a_shell_does_and_a_reference_stays_one_word() {
        let one =
            resolved("command = \"run 'a b' --token ${TOKEN}\"\nenv.KEY = \"${TOKEN}!\"\ncwd = \"/tmp\"").unwrap();
        let args = vec!["a b".into(), "--token".into(), "a b".into()];
        let env = vec![("KEY".into(), "a b!".into())];
        assert_eq!(one.target, Target::Child { command: "run".into(), args, env, cwd: Some("/tmp".into()) });
        assert_eq!(one.shown, "run 'a b' --token ${TOKEN}", "as it was written");
        assert_eq!((one.per_session, one.knobs.call), (false, Duration::from_secs(300)));
        assert_eq!(one.knobs.front.deadline, one.knobs.call, "by itself");
    }

    #[test]
    fn what_is_rationed_is_taken_as_it_is_written() {
        let one = resolved("tcp = \"h:1\"\nslow = true\nsensitive = [\"drop table\", \"b\"]").unwrap();
        assert!(one.rationing.slow && one.rationing.is_sensitive(Some("drop table")));
        assert!(!one.rationing.is_sensitive(Some("drop")) && !one.rationing.is_sensitive(None));
        assert_eq!(resolved("tcp = \"h:1\"").unwrap().rationing, Rationing::default());
    }

    #[test]
    fn urls_and_addresses_are_taken() {
        let one = resolved("http = \"https://h:1/mcp?key=${TOKEN:-x}\"\nheaders.A = \"${TOKEN}\"\ncall_ms = 0");
        assert!(one.as_ref().is_err_and(|why| why.contains("http")), "a space is no part of a URL: {one:?}");
        let one = resolved("http = \"https://h:1/mcp?key=1\"\nheaders.A = \"${TOKEN}\"\ncall_ms = 0").unwrap();
        assert_eq!(
            one.target,
            Target::Http {
                url: "https://h:1/mcp?key=1".into(),
                headers: vec![("A".into(), "a b".into())],
                ca_file: None
            }
        );
        assert_eq!((one.shown.as_str(), one.knobs.call), ("https://h:1/mcp", Duration::ZERO));
        assert_eq!(resolved("tcp = \"[::1]:9\"").unwrap().target, Target::Tcp("[::1]:9".into()));
        let per_session = resolved("ws = \"ws://h\"\nsharing = \"per-session\"\nera = \"modern\"").unwrap();
        assert!(per_session.per_session && per_session.knobs.era == Some(Era::Modern));
    }

    #[test]
    fn everything_that_is_wrong_is_named_with_its_remedy() {
        for (config, words) in [
            ("", "`command`, `http`, `tcp` and `ws`"),
            ("command = \"a\"\ntcp = \"h:1\"", "(`command`, `tcp`)"),
            ("command = \"a 'b\"", "`upstreams.x.command` is no command"),
            ("command = \"  \"", "has no word"),
            ("command = \"a ${NONE}\"", "${NONE}, which is not set"),
            ("command = \"a\"\nheaders.A = \"b\"", "`upstreams.x.headers` has no meaning for `command`"),
            ("tcp = \"h:1\"\ncwd = \"b\"", "`upstreams.x.cwd` has no meaning for `tcp`"),
            ("tcp = \"h:1\"\nca_file = \"b\"", "`upstreams.x.ca_file` has no meaning for `tcp`"),
            ("http = \"h:1\"", "neither http:// nor https://"),
            ("http = \"ws://h\"", "neither http:// nor https://"),
            ("ws = \"http://h\"", "neither ws:// nor wss://"),
            ("http = \"http://user:secret@h\"", "send them as a header"),
            ("ws = \"h?key=secret\"", "ws://"),
            ("http = \"http://h\"\nheaders.\"a b\" = \"c\"", "`upstreams.x.headers.a b`"),
            ("http = \"http://h\"\nheaders.A = \"top\\nsecret\"", "`upstreams.x.headers.A` has a name or a value"),
            ("http = \"http://h\"\nheaders.A = \"${NONE}\"", "`upstreams.x.headers.A` refers to ${NONE}"),
            ("tcp = \"h\"", "write HOST:PORT"),
            ("tcp = \"h:99999\"", "write HOST:PORT"),
            ("tcp = \"::1:9\"", "write HOST:PORT"),
            ("tcp = \"h:1\"\nconnect_ms = 0", "`upstreams.x.connect_ms` is 0"),
            ("tcp = \"h:1\"\nbreaker_ratio_percent = 101", "`upstreams.x.breaker_ratio_percent` is over 100"),
            ("tcp = \"h:1\"\nbreaker_calls_min = 0", "`upstreams.x.breaker_calls_min` is 0"),
            ("tcp = \"h:1\"\nbreaker_open_ms = 0", "`upstreams.x.breaker_open_ms` is 0"),
            ("tcp = \"h:1\"\nretry_budget_percent = 101", "`upstreams.x.retry_budget_percent` is over 100"),
            ("tcp = \"h:1\"\nrestart_ms_max = 1", "`upstreams.x.restart_ms_max` is below `restart_ms_min`"),
        ] {
            let why = resolved(config).expect_err(config);
            assert!(why.contains(words), "{config}: {why}");
            assert!(!why.contains("secret"), "{config}: {why}");
        }
        let both = resolved("tcp = \"h\"\nin_flight_max = 0").unwrap_err();
        assert_eq!(both.lines().count(), 2, "all at once: {both}");
        let taken = Config { tcp: "h:1".into(), ..Config::default() }.resolve(Embedded::UPSTREAM, 1, &|_| None);
        assert_eq!(taken, Err(vec![Unusable::Taken(Embedded::UPSTREAM.into())]));
        let named = Config::default().resolve("My Server", 1, &|_| None).unwrap_err();
        assert!(named[0].to_string().contains("call it my-server"), "{named:?}");
    }

    #[test]
    fn nothing_secret_is_in_what_may_be_logged() {
        let config = Config {
            command: "run --key=hush".into(),
            env: Secrets(BTreeMap::from([("A".into(), "hush".into())])),
            ..Config::default()
        };
        let target = config.resolve("x", 1, &|_| None).unwrap().target;
        assert_eq!(format!("{target:?}"), "Child(run ..)");
    }

    #[test]
    fn what_is_not_there_is_a_warning() {
        assert_eq!(resolved("command = \"sh -c true\"").unwrap().warning(), None);
        assert_eq!(resolved("command = \"./sh\"\ncwd = \"/bin\"").unwrap().warning(), None);
        for missing in [
            "command = \"no-such-program\"",
            "command = \"/no/such\"",
            "command = \"sh\"\nenv.PATH = \"/no\"",
            "http = \"https://h\"\nca_file = \"/no/such.pem\"",
        ] {
            let warning = resolved(missing).unwrap().warning();
            assert!(warning.is_some_and(|warning| warning.contains("`upstreams.x")), "{missing}");
        }
    }
}
