//! Whether the knobs agree with each other, and whether the host can hold what they ask for.

use std::fmt;

use super::Config;
use crate::guard::{Plan as TenantPlan, Roster};
use crate::meter::host::Host;
use crate::meter::plan::Plan;
use crate::meter::shortfall::Shortfall;
use crate::upstream::config::{One, check_kin, expanded, is_name, to_name};
use crate::upstream::link::Destination;

/// Everything that is wrong with a configuration, each with its remedy.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit(pub Vec<String>);

impl Config {
    /// What the host must give for this configuration.
    ///
    /// # Errors
    /// Every pair of knobs that contradict each other and every limit of the host that is too small.
    pub fn plan(&self, host: &Host) -> Result<Plan, Unfit> {
        let mut wrong: Vec<String> = self.contradictions().map(str::to_owned).collect();
        wrong.extend(self.paths());
        wrong.extend(self.roster().err().into_iter().flat_map(|unfit| unfit.0));
        wrong.extend(self.upstreams().err().into_iter().flat_map(|unfit| unfit.0));
        wrong.extend(self.webhook().err().into_iter().flat_map(|unfit| unfit.0));
        let shards = (self.shards > 0).then_some(self.shards);
        match Plan::new(self.guard.connections_max as u64, shards, host) {
            Ok(plan) if wrong.is_empty() => return Ok(plan),
            Ok(_) => {}
            Err(shortfalls) => wrong.push(self.too_much(&shortfalls)),
        }
        Err(Unfit(wrong))
    }

    /// The servers behind the gateway, in the order of their names, with what they refer to in the environment.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn upstreams(&self) -> Result<Vec<One>, Unfit> {
        let (mut ready, mut wrong) = (Vec::new(), Vec::new());
        for (name, config) in &self.upstreams {
            match config.resolve(name, self.wire.message_bytes_max, &|variable| std::env::var(variable).ok()) {
                Ok(one) => ready.push(one),
                Err(unusable) => wrong.extend(unusable.iter().map(ToString::to_string)),
            }
        }
        wrong.extend(check_kin(&self.upstreams).iter().map(ToString::to_string));
        if wrong.is_empty() { Ok(ready) } else { Err(Unfit(wrong)) }
    }

    /// Where alarms are posted, if anywhere.
    ///
    /// # Errors
    /// When that is no URL, or refers to what is not set.
    pub fn webhook(&self) -> Result<Option<Destination>, Unfit> {
        if self.alarms.webhook.is_empty() {
            return Ok(None);
        }
        let url = expanded(&self.alarms.webhook, &|variable| std::env::var(variable).ok());
        // The URL may hold a secret, so it is not shown.
        let wrong = |why| Unfit(vec![format!("`alarms.webhook` {why}; give an http:// or https:// URL, or none")]);
        url.and_then(|url| Destination::parse(&url)).map(Some).map_err(wrong)
    }

    /// The tenants, with what their keys refer to in the environment.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn roster(&self) -> Result<Roster, Unfit> {
        let expand = |key: &str| expanded(key, &|variable| std::env::var(variable).ok());
        let named =
            self.plans.keys().map(|name| ("plans", name)).chain(self.tenants.keys().map(|name| ("tenants", name)));
        let nameless = named.filter(|(_, name)| !is_name(name)).map(|(section, name)| {
            format!("`{section}.{name}`: a name has 1 to 32 characters of a-z, 0-9, - and _; call it {}", to_name(name))
        });
        let mut wrong: Vec<String> = nameless.collect();
        let light = |plan: &TenantPlan| (1..self.wire.message_bytes_max as u64).contains(&plan.bytes_per_minute);
        let light = self.plans.iter().filter(|(_, plan)| light(plan));
        let light = light.map(|(name, _)| {
            format!(
                "`plans.{name}.bytes_per_minute` is below `wire.message_bytes_max`: such a message could never be taken; \
                 raise it"
            )
        });
        wrong.extend(light);
        match Roster::read(&self.plans, &self.tenants, &expand) {
            Ok(roster) if wrong.is_empty() => Ok(roster),
            read => Err(Unfit(wrong.into_iter().chain(read.err().into_iter().flatten()).collect())),
        }
    }

    fn contradictions(&self) -> impl Iterator<Item = &'static str> {
        let Self { guard, wire, conn, embedded, capacity, .. } = self;
        let blob = usize::try_from(embedded.blob_bytes_max).unwrap_or(usize::MAX);
        [
            (guard.connections_max == 0, "`guard.connections_max` is 0: nobody could connect; raise it"),
            (
                self.drain_notice_ms > 0 && self.drain_notice_ms >= self.drain_ms,
                "`drain_notice_ms` is not below `drain_ms`: nobody would be told to go; lower it",
            ),
            (self.shards > usize::from(u16::MAX), "`shards` is over 65535; lower it"),
            (
                [conn.handshake_ms, conn.message_ms, conn.slow_reader_ms, conn.linger_ms].contains(&0),
                "one of `conn.handshake_ms`, `conn.message_ms`, `conn.slow_reader_ms`, `conn.linger_ms` is 0: every client \
                 would be parted at once; raise it (only `conn.idle_ms` and `conn.keepalive_ms` are off at 0)",
            ),
            (
                guard.api_key_header.is_empty() || !guard.api_key_header.bytes().all(is_token),
                "`guard.api_key_header` is no name of a header line; write it as `X-API-Key`",
            ),
            (guard.debtors_max == 0, "`guard.debtors_max` is 0: no rate could be held; raise it"),
            (conn.in_flight_max == 0, "`conn.in_flight_max` is 0: no slow call could be made; raise it"),
            (
                wire.frame_bytes_max > wire.message_bytes_max,
                "`wire.frame_bytes_max` is over `wire.message_bytes_max`: such a frame could never be taken; lower it",
            ),
            (
                wire.message_bytes_max > u32::MAX as usize / 2,
                "`wire.message_bytes_max` is over 2 GiB: positions are 32 bits wide; lower it",
            ),
            (
                conn.outbox_bytes_low >= conn.outbox_bytes_high,
                "`conn.outbox_bytes_low` is not below `conn.outbox_bytes_high`: a paused client would flutter; lower it",
            ),
            (
                conn.outbox_bytes_high >= conn.outbox_bytes_max,
                "`conn.outbox_bytes_high` is not below `conn.outbox_bytes_max`: clients would be parted before they are \
                 paused; raise `conn.outbox_bytes_max`",
            ),
            (
                blob > (conn.outbox_bytes_max - conn.outbox_bytes_high.min(conn.outbox_bytes_max)) / 2,
                "`embedded.blob_bytes_max` is more than half of what `conn.outbox_bytes_max` leaves over \
                 `conn.outbox_bytes_high`: one answer would part its client; lower it",
            ),
            (
                conn.buffered_bytes_max < wire.message_bytes_max,
                "`conn.buffered_bytes_max` is below `wire.message_bytes_max`: such a message could never be taken; raise it",
            ),
            (
                !(capacity.clear_margin_percent < capacity.warning_percent
                    && capacity.warning_percent < capacity.critical_percent
                    && capacity.critical_percent < capacity.emergency_percent),
                "`capacity.clear_margin_percent`, `capacity.warning_percent`, `capacity.critical_percent` and \
                 `capacity.emergency_percent` do not rise in this order: a zone could not be left or not be reached; put \
                 them in order",
            ),
            (
                capacity.advice.in_cpu_percent >= capacity.advice.out_cpu_percent
                    || capacity.advice.in_memory_percent >= capacity.advice.out_memory_percent
                    || capacity.advice.in_p99_ms >= capacity.advice.out_p99_ms
                    || capacity.advice.in_full_percent >= capacity.advice.out_full_percent,
                "one of `capacity.advice.in_...` is not below its `capacity.advice.out_...`: the advice would flutter; lower \
                 it",
            ),
        ]
        .into_iter()
        .filter_map(|(wrong, what)| wrong.then_some(what))
    }

    /// What is wrong with the paths: each is one that a request line can have, and no two are the same.
    fn paths(&self) -> Vec<String> {
        let http = &self.conn.http;
        let paths = [
            ("conn.path", &self.conn.path),
            ("conn.http.sse_path", &http.sse_path),
            ("conn.http.messages_path", &http.messages_path),
        ];
        let is_path = |path: &str| {
            path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
        };
        let mut wrong = Vec::new();
        for (at, (knob, path)) in paths.into_iter().enumerate() {
            if !is_path(path) {
                wrong.push(format!(
                    "`{knob}` = {path:?} is no path: it begins with / and has no blank, ? or #; change it"
                ));
            } else if at > 0 && path == "/" {
                wrong.push(format!("`{knob}` is /, where `conn.path` is served, too; name another path"));
            }
            for (other, same) in paths[..at].iter().filter(|(_, other)| *other == path) {
                wrong.push(format!("`{knob}` and `{other}` are both {same:?}: one would never be served; change one"));
            }
        }
        wrong
    }

    fn too_much(&self, shortfalls: &[Shortfall]) -> String {
        let most = self.guard.connections_max;
        let each: String = shortfalls.iter().map(|shortfall| format!("\n  {shortfall}")).collect();
        format!(
            "this host cannot hold `guard.connections_max` = {most}:{each}\n\
             Change the host, or lower --connections-max; `lakh doctor --connections {most}` tells all."
        )
    }
}

/// What the name of a header line is made of (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, what) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            f.write_str(what)?;
        }
        Ok(())
    }
}

impl std::error::Error for Unfit {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Keys, TenantConfig};

    #[test]
    fn the_defaults_contradict_nothing() {
        assert_eq!(Config::default().contradictions().count(), 0);
    }

    #[test]
    fn a_contradiction_names_its_knobs() {
        let mut config = Config::default();
        config.conn.outbox_bytes_low = config.conn.outbox_bytes_high;
        let what = config.contradictions().collect::<Vec<_>>().join("\n");
        assert!(what.contains("conn.outbox_bytes_low") && what.contains("lower it"), "{what}");
    }

    #[test]
    fn paths_are_paths_and_differ() {
        let told = |mcp: &str, sse: &str, messages: &str| {
            let mut config = Config::default();
            config.conn.path = mcp.into();
            (config.conn.http.sse_path, config.conn.http.messages_path) = (sse.into(), messages.into());
            config.paths().join("\n")
        };
        for (mcp, sse, messages) in [("/mcp", "/sse", "/messages"), ("/", "/a/b", "/a"), ("/mcp", "/Mcp", "/mcp/")] {
            assert_eq!(told(mcp, sse, messages), "");
        }
        for (paths, words) in [
            (["/a", "/a", "/b"], ["`conn.http.sse_path`", "`conn.path`"]),
            (["/a", "/b", "/a"], ["`conn.http.messages_path`", "`conn.path`"]),
            (["/a", "/b", "/b"], ["`conn.http.messages_path`", "`conn.http.sse_path`"]),
            (["/a", "/", "/b"], ["`conn.http.sse_path` is /", "`conn.path`"]),
            (["mcp", "/a", "/b"], ["`conn.path`", "\"mcp\""]),
            (["", "/a", "/b"], ["`conn.path`", "is no path"]),
            (["/mcp", "/a?b", "/b"], ["`conn.http.sse_path`", "is no path"]),
            (["/mcp", "/a", "/b c"], ["`conn.http.messages_path`", "is no path"]),
        ] {
            let told = told(paths[0], paths[1], paths[2]);
            assert_eq!(told.lines().count(), 1, "{paths:?}: {told}");
            assert!(words.iter().all(|word| told.contains(word)), "{paths:?}: {told}");
        }
        let mut config = Config::default();
        config.conn.path = "/sse".into();
        assert!(config.plan(&Host::read()).is_err_and(|unfit| unfit.0.len() == 1), "it is asked");
    }

    #[test]
    fn everything_that_is_wrong_with_tenants_is_told_at_once_and_no_key_of_theirs() {
        let mut config = Config::default();
        config.plans.insert("Gold".into(), TenantPlan::default());
        let keys = Keys(vec!["${LAKH_TEST_NOT_SET}".into(), "hush hush".into()]);
        config.tenants.insert("a".into(), TenantConfig { plan: "silver".into(), keys: keys.clone() });
        config.tenants.insert("b".into(), TenantConfig { keys, ..TenantConfig::default() });
        config.guard.api_key_header = "Key:".into();
        let told = config.plan(&Host::read()).expect_err("much is wrong").to_string();
        for words in [
            "`plans.Gold`: a name has",
            "call it gold",
            "`tenants.a.plan` is \"silver\"",
            "`tenants.b.keys[0]` refers to `${LAKH_TEST_NOT_SET}`, which is not set",
            "`tenants.b.keys[1]` has a space",
            "`guard.api_key_header`",
        ] {
            assert!(told.contains(words), "{words} in {told}");
        }
        assert!(!told.contains("hush"), "{told}");
    }

    #[test]
    fn everything_that_is_wrong_with_upstreams_is_told_at_once() {
        let mut config = Config::default();
        for name in ["a", "B"] {
            config.upstreams.insert(name.into(), crate::upstream::config::Config::default());
        }
        let told = config.plan(&Host::read()).expect_err("they are nowhere").to_string();
        assert!(told.contains("`upstreams.a`") && told.contains("`upstreams.B`"), "{told}");
    }

    #[test]
    fn a_host_that_is_too_small_is_told_with_a_remedy() {
        let mut config = Config::default();
        config.guard.connections_max = 2_000_000_000;
        let unfit = config.plan(&Host::read()).expect_err("no host holds two billion");
        assert!(unfit.to_string().contains("--connections-max"), "{unfit}");
    }
}
