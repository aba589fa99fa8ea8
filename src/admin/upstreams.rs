//! The upstreams as they are shown: data for JSON, and the lines that a person reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use serde::Serialize;

use super::Child;
use crate::mcp::{Era, Revision};
use crate::meter::Named;
use crate::upstream::Upstream;
use crate::upstream::config::One;
use crate::upstream::embedded::Embedded;
use crate::upstream::front::BreakerState;
use crate::upstream::handle::State;
use crate::upstream::link::Target;
use crate::upstream::mux::tally::{Use, Uses};
use crate::wire::json;

/// One upstream at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UpstreamView {
    /// Its name in the configuration.
    pub name: String,
    /// `stdio`, `http`, `tcp`, `ws`, or `embedded` for what is built in.
    pub transport: &'static str,
    /// Where it is, as it was configured: no reference to a secret is followed.
    pub place: String,
    /// `shared` or `per-session`.
    pub sharing: &'static str,
    /// `starting`, `probing`, `ready` or `down`.
    pub state: &'static str,
    /// Seconds since it came into this state.
    pub since_s: u64,
    /// `legacy` or `modern`, once that is known; `both` for what is built in.
    pub era: Option<&'static str>,
    /// The revision of MCP that it is spoken to in.
    pub revision: Option<&'static str>,
    /// What the server calls itself.
    pub server: Option<String>,
    /// The server's own version.
    pub version: Option<String>,
    /// Tools of it in the catalogue.
    pub tools: u64,
    /// Tools, prompts, resources and templates of it.
    pub entries: u64,
    /// Calls sent to it.
    pub calls: u64,
    /// Calls that it answered with an error, or that failed.
    pub errors: u64,
    /// Requests of clients that got no answer from it, by what went wrong. A kind that never happened is left out.
    pub troubles: BTreeMap<&'static str, u64>,
    /// Calls in flight.
    pub in_flight: u64,
    /// How many may be, as of now.
    pub limit: u64,
    /// Calls that wait for a place.
    pub queued: u64,
    /// How many may wait.
    pub queue_max: u64,
    /// Calls that have waited and were sent then.
    pub waited: u64,
    /// How long they did in all, in microseconds.
    pub waited_us: u64,
    /// The longest wait of one.
    pub waited_us_max: u64,
    /// Calls that were not sent, by reason.
    pub shed: BTreeMap<&'static str, u64>,
    /// Calls that were sent again because they had failed.
    pub retries: u64,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// The upstream that it is a replica of.
    pub replica_of: Option<String>,
    /// Milliseconds until it gets new calls again, while its replicas have them because it failed.
    pub ejected_ms: Option<u64>,
    /// Times that this was so.
    pub ejections: u64,
    /// Reads that were not sent, as the same one was on its way: they got its answer.
    pub joined: u64,
    /// Reads that might have been.
    pub reads: u64,
    /// Calls that it did not serve and that went to another upstream.
    pub passed_on: u64,
    /// Times it was connected anew.
    pub restarts: u64,
    /// Sessions of single clients that are open.
    pub sessions: u64,
    /// Messages from it that nobody waited for, or that were none.
    pub strays: u64,
    /// Why it is down, or was last.
    pub last_trouble: Option<String>,
    /// Milliseconds until it is tried again, while it is down.
    pub again_ms: Option<u64>,
}

impl UpstreamView {
    /// How it is now. `tools` are those in the catalogue.
    #[must_use]
    pub fn new(one: &One, handle: &Upstream, tools: usize) -> Self {
        let (view, counts, now) = (handle.view(), &handle.counts, Instant::now());
        let info = view.server_info.as_deref().unwrap_or("{}");
        let said = json::pick(info, ["name", "version"]).unwrap_or_default();
        let [server, version] = said.map(|raw| raw.and_then(json::string).map(|text| clean(&text)));
        Self {
            name: one.name.clone(),
            transport: match one.target {
                Target::Child { .. } => "stdio",
                Target::Http { .. } => "http",
                Target::Tcp(_) => "tcp",
                Target::WebSocket { .. } => "ws",
            },
            place: one.shown.clone(),
            sharing: if one.per_session { "per-session" } else { "shared" },
            state: view.state.name(),
            since_s: view.since.elapsed().as_secs(),
            era: view.revision.map(|revision| match revision.era() {
                Era::Legacy => "legacy",
                Era::Modern => "modern",
            }),
            revision: view.revision.map(|revision| revision.as_str()),
            server,
            version,
            tools: tools as u64,
            entries: view.entries as u64,
            calls: counts.calls.load(Relaxed),
            errors: counts.errors.load(Relaxed),
            troubles: counts.troubles.iter().filter(|it| it.1 > 0).map(|(kind, count)| (kind.name(), count)).collect(),
            in_flight: counts.in_flight.load(Relaxed),
            limit: counts.limit.load(Relaxed),
            queued: counts.queued.load(Relaxed),
            queue_max: counts.queue_max.load(Relaxed),
            waited: counts.waited.load(Relaxed),
            waited_us: counts.waited_us.load(Relaxed),
            waited_us_max: counts.waited_us_max.load(Relaxed),
            shed: counts.shed.iter().map(|(why, count)| (why.name(), count)).collect(),
            retries: counts.retries.load(Relaxed),
            breaker: counts.breaker().name(),
            replica_of: one.kin.replica_of.clone(),
            ejected_ms: ejected(handle),
            ejections: counts.ejections.load(Relaxed),
            joined: counts.joined.load(Relaxed),
            reads: counts.reads.load(Relaxed),
            passed_on: counts.passed_on.load(Relaxed),
            restarts: counts.restarts.load(Relaxed),
            sessions: counts.sessions.load(Relaxed),
            strays: counts.strays.load(Relaxed),
            last_trouble: view.why.map(|why| why.to_string()),
            again_ms: view.again.map(|again| again.saturating_duration_since(now).as_millis() as u64),
        }
    }

    /// What is built in: there from the start, whatever becomes of others. `child`: who serves its slow calls, of which all
    /// upstreams together may have so many at once.
    #[must_use]
    pub fn embedded(embedded: &Embedded, child: Option<&Child>, in_flight_max: usize) -> (Self, Uses) {
        let (uses, in_flight, offer) = (embedded.uses(), embedded.in_flight(), embedded.offer());
        let sum = |of: fn(&Use) -> u64| uses.iter().map(|(_, uses)| of(uses)).sum::<u64>();
        let info = offer.server_info.as_deref().unwrap_or("{}");
        let said = json::pick(info, ["name", "version"]).unwrap_or_default();
        let [server, version] = said.map(|raw| raw.and_then(json::string).map(|text| clean(&text)));
        let is_up = child.is_none_or(|child| child.state == "running");
        let entries = offer.lists.iter().map(Vec::len).sum::<usize>() as u64;
        let view = Self {
            name: Embedded::UPSTREAM.into(),
            transport: Embedded::UPSTREAM,
            place: "in the gateway".into(),
            sharing: "shared",
            state: if is_up { State::Ready } else { State::Down }.name(),
            since_s: child.map_or(0, |child| child.since_s),
            era: Some("both"),
            revision: Some(Revision::NEWEST.as_str()),
            server,
            version,
            tools: entries,
            entries,
            calls: sum(|uses| uses.calls) + in_flight,
            errors: sum(|uses| uses.errors),
            in_flight,
            limit: in_flight_max as u64,
            breaker: BreakerState::Closed.name(),
            restarts: child.map_or(0, |child| child.restarts),
            last_trouble: child.and_then(|child| child.last_failure.clone()),
            ..Self::default()
        };
        (view, uses)
    }

    /// What it is, in a few words: `ready, speaks 2025-11-25, 13 tools`.
    #[must_use]
    pub fn summary(&self) -> String {
        let why = self.last_trouble.as_deref().filter(|_| self.state == State::Down.name());
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        format!("{}{}{why}", self.state, self.details())
    }

    /// What stands in front of it, where there is something to be said of that.
    fn write_front(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, queued, breaker, .. } = self;
        let shed: Vec<_> = self.shed.iter().filter(|(_, count)| **count > 0).collect();
        if *queued == 0 && shed.is_empty() && [BreakerState::Closed.name(), ""].contains(breaker) {
            return Ok(());
        }
        write!(f, "\n    {queued} wait for one of {limit} places, breaker {breaker}; not sent: ")?;
        for (at, (why, count)) in shed.iter().enumerate() {
            write!(f, "{}{count} {why}", if at > 0 { ", " } else { "" })?;
        }
        if shed.is_empty() { f.write_str("none") } else { Ok(()) }
    }

    fn details(&self) -> String {
        let revision = self.revision.map_or_else(String::new, |revision| format!(", speaks {revision}"));
        let plural = if self.tools == 1 { "" } else { "s" };
        let tools = if self.tools > 0 { format!(", {} tool{plural}", self.tools) } else { String::new() };
        revision + &tools
    }
}

impl fmt::Display for UpstreamView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, state, since_s, transport, place, sharing, .. } = self;
        writeln!(f, "{name}: {state} for {since_s} s{}", self.details())?;
        write!(f, "    {transport} {place}, {sharing}")?;
        if let Some(replica_of) = &self.replica_of {
            write!(f, ", a replica of {replica_of}")?;
        }
        if let Some(server) = &self.server {
            write!(f, "; {server} {}", self.version.as_deref().unwrap_or_default())?;
        }
        let Self { calls, errors, in_flight, restarts, .. } = self;
        write!(f, "\n    {calls} calls, {errors} errors, {in_flight} in flight, {restarts} restarts")?;
        self.write_front(f)?;
        if let Some(ms) = self.ejected_ms {
            write!(f, "\n    it fails: its replicas get its calls for {:.1} s", ms as f64 / 1e3)?;
        }
        match (&self.last_trouble, self.again_ms) {
            (Some(why), Some(again)) => writeln!(f, "\n    {why}; tried again in {:.1} s", again as f64 / 1e3),
            (Some(why), None) => writeln!(f, "\n    last trouble: {why}"),
            (None, _) => writeln!(f),
        }
    }
}

fn ejected(upstream: &Upstream) -> Option<u64> {
    let left = upstream.ways()?.group.as_ref()?.ejected(upstream)?;
    Some(left.as_millis() as u64)
}

/// The words of a server on one line of ours.
fn clean(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_what_it_is_and_what_went_wrong() {
        let mut view = UpstreamView {
            name: "files".into(),
            transport: "stdio",
            place: "npx files".into(),
            sharing: "shared",
            state: "ready",
            since_s: 5,
            revision: Some("2025-11-25"),
            server: Some("Files".into()),
            version: Some("1.0".into()),
            tools: 1,
            calls: 7,
            ..UpstreamView::default()
        };
        let ready = "\
files: ready for 5 s, speaks 2025-11-25, 1 tool
    stdio npx files, shared; Files 1.0
    7 calls, 0 errors, 0 in flight, 0 restarts
";
        assert_eq!(view.to_string(), ready);
        (view.state, view.last_trouble, view.again_ms) = ("down", Some("it ended".into()), Some(1_500));
        let down = view.to_string();
        assert!(down.starts_with("files: down for 5 s, "), "{down}");
        assert_eq!(view.summary(), "down, speaks 2025-11-25, 1 tool: it ended");
        assert!(down.ends_with("it ended; tried again in 1.5 s\n"), "{down}");
        (view.queued, view.limit, view.breaker) = (3, 16, "half_open");
        (view.replica_of, view.ejected_ms) = (Some("docs".into()), Some(2_500));
        view.shed = BTreeMap::from([("breaker_open", 7), ("queue_full", 0), ("too_late", 2)]);
        let busy = "\n    3 wait for one of 16 places, breaker half_open; not sent: 7 breaker_open, 2 too_late\n";
        let busy = busy.replace("too_late\n", "too_late\n    it fails: its replicas get its calls for 2.5 s\n");
        assert!(view.to_string().contains(&busy), "{view}");
        assert!(view.to_string().contains("    stdio npx files, shared, a replica of docs; Files 1.0\n"), "{view}");
    }

    #[test]
    fn a_servers_name_keeps_to_its_line() {
        assert_eq!(clean("a\u{1b}[2J\nb"), "a[2Jb");
    }
}
