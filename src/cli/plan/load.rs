//! The load that is planned for: how many clients, what they speak, how often they call, and where a call is answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cli::simulate::Dialect;

/// More clients than people, and far below where a count loses precision.
pub const CLIENTS_MAX: u64 = 100_000_000_000;
/// How much the shares of a whole may differ from 1.
const ROUNDING: f64 = 1e-6;

/// A description of the load. Rates are of all clients together unless said otherwise; sizes and times are means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Load {
    /// Clients that are connected at once.
    pub clients: u64,
    /// Calls of one client a second.
    pub calls_per_second: f64,
    /// Clients that connect a second, each with its handshake and a first call; as many leave.
    pub connects_per_second: f64,
    /// Changes a second that all clients are told of.
    pub changes_per_second: f64,
    /// Bytes of a request in its TCP stream, headers and framing included.
    pub request_bytes: f64,
    /// Bytes of an answer, the same way.
    pub response_bytes: f64,
    /// Whether a proxy on the same machine ends TLS in front of lakh, which does not itself.
    pub tls: bool,
    /// Where the service times are spent.
    pub service_on: ServiceOn,
    /// Calls that all upstreams together serve at once, however many gateways there are; 0: as many as come.
    pub upstream_slots: u64,
    /// What share of the clients speaks what: `tcp`, `ws`, `http`, `listen`.
    pub dialects: Dialects,
    /// What share of the calls is answered where.
    pub shares: Paths,
    /// Milliseconds that a call takes there, beside what lakh itself spends on it.
    pub service_ms: Paths,
}

/// What is busy for a service time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ServiceOn {
    /// A slot of an upstream on another machine: a gateway only waits.
    Upstream,
    /// A core of the machine that is planned.
    Core,
}

/// A figure for each of lakh's dialects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dialects {
    pub tcp: f64,
    pub ws: f64,
    pub http: f64,
    pub listen: f64,
}

/// A figure for each place where a call is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// From a cache.
    pub cache: f64,
    /// By lakh's own server, or by lakh for a server.
    pub own: f64,
    /// By a server behind lakh.
    pub upstream: f64,
    /// Refused by lakh.
    pub refused: f64,
}

/// What of a load cannot be, and what may be instead.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadLoad {
    #[error("`{0}` = {1} must be {2}")]
    Figure(&'static str, f64, &'static str),
    #[error("`{0}` must add up to 1: {1} adds up to {2}")]
    Shares(&'static str, String, f64),
    #[error("{0:?} is no list of NAME=FIGURE with the names {1}")]
    List(String, &'static str),
    #[error("{0}")]
    File(String),
}

impl Default for Load {
    /// 100,000 agents over Streamable HTTP, each with a call every ten seconds that takes an upstream a second.
    fn default() -> Self {
        Self {
            clients: 100_000,
            calls_per_second: 0.1,
            connects_per_second: 100.0,
            changes_per_second: 0.0,
            request_bytes: 600.0,
            response_bytes: 2_000.0,
            tls: false,
            service_on: ServiceOn::Upstream,
            upstream_slots: 0,
            dialects: Dialects { http: 1.0, ..Dialects::default() },
            shares: Paths { own: 0.1, upstream: 0.9, ..Paths::default() },
            service_ms: Paths { upstream: 1_000.0, ..Paths::default() },
        }
    }
}

impl Dialects {
    /// Each dialect with its figure.
    pub fn each(&self) -> [(Dialect, f64); 4] {
        [(Dialect::Tcp, self.tcp), (Dialect::Ws, self.ws), (Dialect::Http, self.http), (Dialect::Listen, self.listen)]
    }

    /// What `lakh simulate` calls this mix, if it can hold such clients.
    pub fn simulated(&self) -> Option<Dialect> {
        let half = |share: f64| (share - 0.5).abs() < ROUNDING;
        if half(self.tcp) && half(self.ws) {
            return Some(Dialect::Mixed);
        }
        self.each().into_iter().find(|(_, share)| (share - 1.0).abs() < ROUNDING).map(|(dialect, _)| dialect)
    }
}

impl Paths {
    /// Each path's name with its figure.
    pub const fn each(&self) -> [(&'static str, f64); 4] {
        [("cache", self.cache), ("own", self.own), ("upstream", self.upstream), ("refused", self.refused)]
    }
}

impl Load {
    /// The load, if all of it can be.
    ///
    /// # Errors
    /// The first figure that cannot: not a number, negative, none where there must be some, shares that are no whole.
    pub fn checked(self) -> Result<Self, BadLoad> {
        if !(1..=CLIENTS_MAX).contains(&self.clients) {
            return Err(BadLoad::Figure("clients", self.clients as f64, "from 1 to 100 thousand million"));
        }
        let rates = [
            ("calls_per_second", self.calls_per_second, 1e6),
            ("connects_per_second", self.connects_per_second, 1e12),
            ("changes_per_second", self.changes_per_second, 1e6),
            ("request_bytes", self.request_bytes, 1e9),
            ("response_bytes", self.response_bytes, 1e9),
        ];
        for (name, figure, most) in rates {
            if !(0.0..=most).contains(&figure) {
                return Err(BadLoad::Figure(name, figure, "a number from 0 on, and not beyond all measure"));
            }
        }
        for (name, figure) in self.service_ms.each() {
            if !(0.0..=1e9).contains(&figure) {
                return Err(BadLoad::Figure("service_ms", figure, name_of_service(name)));
            }
        }
        whole("dialects", self.dialects.each().map(|(dialect, share)| (dialect.name(), share)))?;
        whole("shares", self.shares.each())?;
        Ok(self)
    }

    /// A load from a TOML text; what is not said is as by default. A table that is there is whole: no share is added.
    ///
    /// # Errors
    /// What cannot be read, by name, or cannot be.
    pub fn from_toml(text: &str) -> Result<Self, BadLoad> {
        toml::from_str::<Self>(text).map_err(|error| BadLoad::File(error.to_string()))?.checked()
    }

    /// Calls of all clients a second.
    pub fn calls(&self) -> f64 {
        self.clients as f64 * self.calls_per_second
    }

    /// Mean seconds that a call keeps a core or a slot busy: each path's time weighted by its share.
    pub fn service_seconds(&self) -> f64 {
        self.shares.each().iter().zip(self.service_ms.each()).map(|((_, share), (_, ms))| share * ms / 1e3).sum()
    }

    /// Calls a second that one core, or one slot, serves: one over the mean *time*. A mean of the paths' *rates* would
    /// count the quick calls as if the slow ones did not keep them waiting: 70 % at 2 ms, 25 % at 15 ms and 5 % at 40 ms
    /// are 140 calls a second, not 368 (nor the 365 of a published plan). `None`: they take no time.
    pub fn calls_per_server(&self) -> Option<f64> {
        Some(self.service_seconds()).filter(|seconds| *seconds > 0.0).map(f64::recip)
    }
}

fn name_of_service(path: &str) -> &'static str {
    match path {
        "cache" => "from 0 to 1e9 milliseconds for `cache`",
        "own" => "from 0 to 1e9 milliseconds for `own`",
        "upstream" => "from 0 to 1e9 milliseconds for `upstream`",
        _ => "from 0 to 1e9 milliseconds for `refused`",
    }
}

/// Checks that these are the shares of one whole.
fn whole<const N: usize>(name: &'static str, shares: [(&'static str, f64); N]) -> Result<(), BadLoad> {
    if let Some((_, odd)) = shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
        return Err(BadLoad::Figure(name, *odd, "shares from 0 to 1"));
    }
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    if (sum - 1.0).abs() <= ROUNDING {
        return Ok(());
    }
    let told = shares.iter().filter(|(_, share)| *share > 0.0).map(|(name, share)| format!("{name}={share}"));
    Err(BadLoad::Shares(name, told.collect::<Vec<_>>().join(","), sum))
}

/// `cache=0.7,own=0.3` as figures by name; a name that is none is refused.
fn figures<T: for<'de> Deserialize<'de>>(text: &str, names: &'static str) -> Result<T, BadLoad> {
    let wrong = || BadLoad::List(text.to_owned(), names);
    let mut table = BTreeMap::new();
    for pair in text.split(',') {
        let (name, figure) = pair.split_once('=').ok_or_else(wrong)?;
        let figure: f64 = figure.trim().parse().map_err(|_| wrong())?;
        if table.insert(name.trim().to_owned(), figure).is_some() {
            return Err(wrong());
        }
    }
    serde_json::to_value(table).and_then(serde_json::from_value).map_err(|_| wrong())
}

impl std::str::FromStr for Dialects {
    type Err = BadLoad;

    fn from_str(text: &str) -> Result<Self, BadLoad> {
        figures(text, "tcp, ws, http, listen")
    }
}

impl std::str::FromStr for Paths {
    type Err = BadLoad;

    fn from_str(text: &str) -> Result<Self, BadLoad> {
        figures(text, "cache, own, upstream, refused")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(service_on: ServiceOn) -> Load {
        Load {
            shares: "cache=0.7,own=0.25,upstream=0.05".parse().expect("paths"),
            service_ms: "cache=2,own=15,upstream=40".parse().expect("paths"),
            service_on,
            ..Load::default()
        }
    }

    #[test]
    fn times_are_weighted_and_rates_are_not_averaged() {
        let load = mixed(ServiceOn::Core).checked().expect("whole");
        assert!((load.service_seconds() - 0.00715).abs() < 1e-12);
        assert_eq!(load.calls_per_server().map(f64::round), Some(140.0));
        assert_eq!(Load { service_ms: Paths::default(), ..load }.calls_per_server(), None);
    }

    #[test]
    fn a_load_that_cannot_be_is_refused_by_name() {
        let good = Load::default;
        let bad = [
            ("clients", Load { clients: 0, ..good() }),
            ("clients", Load { clients: u64::MAX, ..good() }),
            ("calls_per_second", Load { calls_per_second: f64::NAN, ..good() }),
            ("calls_per_second", Load { calls_per_second: -1.0, ..good() }),
            ("connects_per_second", Load { connects_per_second: f64::INFINITY, ..good() }),
            ("request_bytes", Load { request_bytes: -0.1, ..good() }),
            ("service_ms", Load { service_ms: Paths { own: f64::NAN, ..Paths::default() }, ..good() }),
            ("shares", Load { shares: Paths { own: 0.5, upstream: 0.4, ..Paths::default() }, ..good() }),
            ("shares", Load { shares: Paths { own: 1.5, upstream: -0.5, ..Paths::default() }, ..good() }),
            ("dialects", Load { dialects: Dialects::default(), ..good() }),
            ("dialects", Load { dialects: Dialects { tcp: f64::NAN, ..Dialects::default() }, ..good() }),
        ];
        for (name, load) in bad {
            let told = load.clone().checked().expect_err(name).to_string();
            assert!(told.contains(name), "{name} in {told}");
        }
        assert_eq!(good().checked(), Ok(good()));
    }

    #[test]
    fn a_file_says_what_differs_and_an_unknown_name_is_refused() {
        let load = Load::from_toml("clients = 5000\n[shares]\ncache = 0.5\nupstream = 0.5\n").expect("a load");
        assert_eq!((load.clients, load.shares.own, load.response_bytes), (5_000, 0.0, 2_000.0));
        assert!(Load::from_toml("client = 1").expect_err("unknown").to_string().contains("client"));
        assert!(Load::from_toml("[shares]\nown = 0.4\n").expect_err("no whole").to_string().contains("own=0.4"));
    }

    #[test]
    fn lists_are_read_and_odd_ones_explained() {
        let both: Dialects = "tcp=0.5,ws=0.5".parse().expect("a mix");
        assert_eq!(both.simulated(), Some(Dialect::Mixed));
        assert_eq!("http=1".parse::<Dialects>().expect("one").simulated(), Some(Dialect::Http));
        assert_eq!("http=0.9,ws=0.1".parse::<Dialects>().expect("two").simulated(), None);
        for odd in ["udp=1", "tcp", "tcp=x", "tcp=1,tcp=0", ""] {
            assert!(odd.parse::<Dialects>().expect_err(odd).to_string().contains("listen"), "{odd}");
        }
    }
}
