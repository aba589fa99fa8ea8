//! What all upstreams' lives share, and the knobs of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::front;
use super::handle::Upstream;
use super::link::Limits;
use super::loudness::Loudness;
use super::offers::Standing;
use crate::actor::{News, Word};
use crate::mcp::Era;
use crate::mcp::request_state::Secret;

/// How one upstream is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knobs {
    /// Longest wait for an answer or a sign of progress; zero: for ever.
    pub call: Duration,
    /// Longest wait for an answer with any number of signs of progress (spec 2026-07-28
    /// basic/patterns/cancellation#timeouts); zero: for ever.
    pub call_max: Duration,
    /// Longest time from a call's arrival to its answer, unless somebody is asked meanwhile; zero: for ever.
    pub deadline: Duration,
    /// Longest wait for an answer to the probe, before the server is taken for a legacy one.
    pub probe: Duration,
    /// Longest wait for a client's reply to what its call's server asks.
    pub input: Duration,
    /// Shortest and longest pause before it is connected anew.
    pub restart_min: Duration,
    /// See [`Self::restart_min`].
    pub restart_max: Duration,
    /// Requests that may be in flight at once.
    pub in_flight_max: usize,
    /// What stands in front of it.
    pub front: front::Knobs,
    /// Most tools, prompts, resources and templates that are taken from it.
    pub entries_max: usize,
    /// With a session for each client: how many at once.
    pub sessions_max: usize,
    /// With a session for each client: how long one may be idle.
    pub session_idle: Duration,
    /// Which era it speaks, if that is not to be found out.
    pub era: Option<Era>,
    /// What a link may take.
    pub limits: Limits,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            // Model calls take minutes; what is longer should say that it lives.
            call: Duration::from_secs(300),
            call_max: Duration::from_secs(3600),
            deadline: Duration::ZERO,
            // Most legacy servers answer at once that they have no such method.
            probe: Duration::from_secs(3),
            // A person is asked.
            input: Duration::from_secs(600),
            restart_min: Duration::from_millis(200),
            restart_max: Duration::from_secs(30),
            in_flight_max: 10_000,
            front: front::Knobs::default(),
            entries_max: 10_000,
            // A child process each, where it is one.
            sessions_max: 64,
            session_idle: Duration::from_secs(1800),
            era: None,
            limits: Limits {
                message_bytes_max: 4 << 20,
                connect: Duration::from_secs(10),
                // More would be a load test of a server that somebody uses.
                http_connections_max: 256,
            },
        }
    }
}

/// Whoever is told how an upstream stands.
pub type Tell = dyn Fn(&Arc<Upstream>, Standing) + Send + Sync;

/// Whoever brings a word to a client, by [`super::Client::id`]; one that is not there is gone for a question.
pub type TellClient = dyn Fn(u128, Word) + Send + Sync;

/// What all upstreams' lives share.
pub struct Shared {
    /// Told when an upstream comes, changes what it offers, or goes.
    pub offers: Box<Tell>,
    /// Tells all clients who asked for it; lists that change are told by [`Self::offers`].
    pub spread: Box<dyn Fn(News) + Send + Sync>,
    /// Tells a client something outside of its calls.
    pub say: Box<TellClient>,
    /// How talkative servers should be.
    pub loudness: Arc<Loudness>,
    /// What `requestState` is signed with.
    pub secret: Secret,
    /// The clock that it expires by.
    pub began: Instant,
}

impl Shared {
    /// With a secret of its own, from the system's source of randomness.
    ///
    /// # Errors
    /// When the system has none.
    pub fn new(
        offers: impl Fn(&Arc<Upstream>, Standing) + Send + Sync + 'static,
        spread: impl Fn(News) + Send + Sync + 'static,
        say: impl Fn(u128, Word) + Send + Sync + 'static,
        loudness: Arc<Loudness>,
    ) -> Result<Self, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        let secret = Secret::new(random);
        let (offers, spread, say) = (Box::new(offers), Box::new(spread), Box::new(say));
        Ok(Self { offers, spread, say, loudness, secret, began: Instant::now() })
    }
}
