//! A stage for tests: a multiplexer whose server, clients and clock are played by the test.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde_json::Value;

use super::{Mux, Sink, Terms};
use crate::actor::{Answer, CancelHandle, Inbox, Letter, Mail, News, Question, Reply, Serves, Ticket, Word};
use crate::guard::Seats;
use crate::mcp::{Features, Level, Method, Parcel, Profile, Revision};
use crate::pool::Key;
use crate::upstream::directory::Directory;
use crate::upstream::embedded::{self, Embedded, Tools};
use crate::upstream::front;
use crate::upstream::handle::{Client, Errand, Task, Upstream};
use crate::upstream::link::{Arrived, Outgoing, Purpose, What};
use crate::upstream::loudness::Loudness;
use crate::upstream::offers::Standing;
use crate::upstream::shared::{Knobs, Shared};
use crate::upstream::trouble::Trouble;

/// What the server has been sent.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) texts: Vec<Value>,
    pub(crate) headers: Vec<Vec<(String, String)>>,
    /// Bytes that were put, and how many of them the server has not taken.
    pub(crate) stuck: usize,
    pub(crate) is_stuck: bool,
    /// Bytes that it was given.
    pub(crate) put: usize,
}

impl Sink for Sent {
    fn put(&mut self, outgoing: Outgoing<'_>) {
        assert!(!outgoing.text.contains(&b'\n'));
        let text: Value = serde_json::from_slice(outgoing.text).expect("JSON");
        if let Purpose::Request { number, method, params, .. } = outgoing.purpose {
            assert_eq!((&text["id"], &text["method"]), (&number.into(), &method.into()));
            self.headers.push(params.to_vec());
        }
        self.texts.push(text);
        self.put += outgoing.text.len();
        if self.is_stuck {
            self.stuck += outgoing.text.len();
        }
    }

    fn unsent(&self) -> usize {
        self.stuck
    }

    fn taken(&self) -> u64 {
        (self.put - self.stuck) as u64
    }
}

/// Everything but the multiplexer's own.
pub(crate) struct Stage {
    pub(crate) mux: Mux,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) sent: Sent,
    pub(crate) now: Instant,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) seats: Arc<Seats>,
    /// What clients were told outside of their calls.
    pub(crate) unowned: Arc<Mutex<Vec<(u128, Word)>>>,
    next_call: u64,
    _poll: mio::Poll,
}

/// A client's side of one call.
pub(crate) struct Caller {
    pub(crate) call: u64,
    pub(crate) cancel: CancelHandle,
}

pub(crate) fn shared(
    offers: impl Fn(&Arc<Upstream>, Standing) + Send + Sync + 'static,
    spread: impl Fn(News) + Send + Sync + 'static,
) -> Arc<Shared> {
    shared_saying(offers, spread, |_, _| {})
}

fn shared_saying(
    offers: impl Fn(&Arc<Upstream>, Standing) + Send + Sync + 'static,
    spread: impl Fn(News) + Send + Sync + 'static,
    say: impl Fn(u128, Word) + Send + Sync + 'static,
) -> Arc<Shared> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let tools = Arc::new(Tools::new(embedded::Config::default(), String::new));
    let embedded = Embedded::new(tools, runtime.handle().clone(), 1);
    let directories = Arc::new(ArcSwap::from_pointee(Directory::embedded(embedded)));
    // A runtime must not be dropped inside another one.
    runtime.shutdown_background();
    Arc::new(Shared::new(offers, spread, say, Arc::new(Loudness::new(directories))).expect("randomness"))
}

pub(crate) fn inbox() -> (mio::Poll, Arc<Inbox>) {
    let poll = mio::Poll::new().expect("a poll");
    let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
    (poll, Arc::new(Inbox::new(waker)))
}

/// A call of the tool `echo`, by a client of this revision.
pub(crate) fn parcel(revision: Revision) -> Parcel {
    Parcel {
        method: Method::CallTool,
        name: "echo".into(),
        params: r#""name":"echo","arguments":{"a": 1.0}"#.into(),
        meta: "".into(),
        progress: false,
        level: None,
        revision,
    }
}

pub(crate) fn reading(uri: &str, revision: Revision) -> Parcel {
    let params = format!("\"uri\":{}", Value::from(uri)).into();
    Parcel { method: Method::ReadResource, name: uri.into(), params, ..parcel(revision) }
}

/// A legacy client that declares these capabilities.
pub(crate) fn client(capabilities: &str) -> Client {
    let profile = Profile::read(Some(r#"{"name":"tester","version":"9"}"#), Some(capabilities));
    Client { id: 7, profile: Some(Arc::new(profile)), can_be_asked: true, ..Client::default() }
}

impl Stage {
    pub(crate) fn new(server: Revision) -> Self {
        Self::with(server, Knobs::default(), false)
    }

    /// Over HTTP; what fails is not tried again.
    pub(crate) fn without_retries(server: Revision) -> Self {
        let front = front::Knobs { retry_percent: 0, ..front::Knobs::default() };
        Self::with(server, Knobs { front, ..Knobs::default() }, true)
    }

    pub(crate) fn with(server: Revision, knobs: Knobs, http: bool) -> Self {
        Self::of(server, knobs, http, None)
    }

    /// The session of a single client.
    pub(crate) fn of_one(server: Revision, client: Client) -> Self {
        Self::of(server, Knobs::default(), false, Some(client))
    }

    fn of(server: Revision, knobs: Knobs, http: bool, private: Option<Client>) -> Self {
        let (poll, inbox) = inbox();
        let upstream = Arc::new(Upstream::new("files", false));
        let unowned: Arc<Mutex<Vec<_>>> = Arc::default();
        let asked = Arc::clone(&unowned);
        let shared = shared_saying(|_, _| {}, |_| {}, move |client, it| asked.lock().unwrap().push((client, it)));
        let features = Features::TOOLS.and(Features::RESOURCES).and(Features::SUBSCRIBE).and(Features::LOGGING);
        let terms = Terms { revision: server, features, http, private };
        let now = Instant::now();
        let mux = Mux::new(Arc::clone(&upstream), shared, knobs, terms, 0, 0, now);
        let (sent, seats) = (Sent::default(), Seats::new(1_000));
        Self { mux, upstream, sent, now, inbox, seats, unowned, next_call: 0, _poll: poll }
    }

    pub(crate) fn ticket(&mut self) -> (Ticket, Caller) {
        self.next_call += 1;
        let server = Arc::clone(&self.upstream) as Arc<dyn Serves>;
        let (ticket, cancel) = Ticket::new(Arc::clone(&self.inbox), Key::from_bits(1), self.next_call, server);
        (ticket, Caller { call: self.next_call, cancel })
    }

    pub(crate) fn call(&mut self, parcel: Parcel, client: Client) -> Caller {
        let (ticket, caller) = self.ticket();
        let place = self.seats.take().expect("a place");
        self.errand(Errand::Call(Box::new(Task::new(parcel, ticket, place, client))));
        caller
    }

    pub(crate) fn errand(&mut self, errand: Errand) {
        self.mux.handle_errand(errand, self.now, &mut self.sent);
        self.mux.speak(self.now, &mut self.sent);
    }

    /// What was posted to the upstream meanwhile: cancellations and replies.
    pub(crate) fn errands(&mut self) {
        while let Some(errand) = self.upstream.door().collect() {
            self.errand(errand);
        }
    }

    /// The server says something.
    pub(crate) fn says(&mut self, text: &str) {
        self.says_on(None, text);
    }

    pub(crate) fn says_on(&mut self, on: Option<u64>, text: &str) {
        let arrived = Arrived { on, what: What::Message(text.as_bytes()) };
        self.mux.handle_arrived(&arrived, self.now);
        self.mux.speak(self.now, &mut self.sent);
    }

    pub(crate) fn fails(&mut self, on: Option<u64>, trouble: Trouble) {
        self.mux.handle_arrived(&Arrived { on, what: What::Failed(trouble) }, self.now);
        self.mux.speak(self.now, &mut self.sent);
    }

    /// The server answers its request with this number.
    pub(crate) fn answers(&mut self, number: u64, result: &str) {
        self.says(&format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{result}}}"#));
    }

    pub(crate) fn passes(&mut self, time: Duration) {
        self.now += time;
        self.mux.check(self.now, &mut self.sent);
        self.mux.speak(self.now, &mut self.sent);
    }

    /// The last text that the server was sent.
    pub(crate) fn last(&self) -> &Value {
        self.sent.texts.last().expect("something was sent")
    }

    /// The number of the last request that it was sent.
    pub(crate) fn number(&self) -> u64 {
        let number = self.sent.texts.iter().rev().find(|text| !text["method"].is_null()).map(|text| &text["id"]);
        number.and_then(Value::as_u64).expect("a request")
    }

    /// Letters to the clients.
    pub(crate) fn letters(&self) -> Vec<Letter> {
        let letter = |mail| match mail {
            Mail::Letter(_, letter) => letter,
            Mail::Order(_) => panic!("no orders are given here"),
        };
        std::iter::from_fn(|| self.inbox.collect()).map(letter).collect()
    }

    /// The one letter there is: the answer to this call.
    pub(crate) fn answer(&self, call: u64) -> Result<Value, Value> {
        let mut letters = self.letters();
        assert_eq!(letters.len(), 1, "one letter");
        match letters.pop() {
            Some(Letter::Answer { call: own, answer }) => {
                assert_eq!(own, call);
                match answer {
                    Answer::Result(result) => Ok(serde_json::from_slice(&result).expect("JSON")),
                    Answer::Error(error) => Err(serde_json::from_slice(&error).expect("JSON")),
                    Answer::Abandoned => panic!("abandoned"),
                }
            }
            _ => panic!("no answer"),
        }
    }

    /// The one letter there is: a question.
    pub(crate) fn question(&self) -> Question {
        let mut letters = self.letters();
        assert_eq!(letters.len(), 1, "one letter");
        match letters.pop() {
            Some(Letter::Ask { question, .. }) => *question,
            _ => panic!("no question"),
        }
    }

    pub(crate) fn strays(&self) -> u64 {
        self.upstream.counts.strays.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A reply with this result.
pub(crate) fn reply(result: &str) -> Reply {
    Reply::Result(result.into())
}

pub(crate) const LEVELS: [Level; 2] = [Level::Info, Level::Error];

/// A client that watches something.
pub(crate) fn watcher(id: u128) -> Box<Client> {
    Box::new(Client { id, ..Client::default() })
}
