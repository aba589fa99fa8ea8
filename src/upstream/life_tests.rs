//! Lives against servers of a few lines, over real TCP.

use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::actor::{Answer, Inbox, Letter, Mail, Serves, Ticket};
use crate::guard::Seats;
use crate::mcp::{List, Revision};
use crate::pool::Key;
use crate::upstream::handle::{Client, Task};
use crate::upstream::mux::stage;

/// What a fake server does with a call: a text to answer with, or the end of the connection.
type Script = fn(&Value) -> Option<String>;

struct House {
    upstream: Arc<Upstream>,
    offers: Arc<Mutex<Vec<Standing>>>,
    stop: watch::Sender<bool>,
    inbox: Arc<Inbox>,
    seats: Arc<Seats>,
    _poll: mio::Poll,
    life: tokio::task::JoinHandle<()>,
}

impl House {
    #[allow(clippy::disallowed_methods)] // A test's task ends with its runtime.
    fn new(address: String, knobs: Knobs, per_session: bool) -> Self {
        let offers = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&offers);
        let shared = stage::shared(move |_, word| heard.lock().unwrap().push(word), |_| {});
        let upstream = Arc::new(Upstream::new("files", per_session));
        let (stop, stopped) = watch::channel(false);
        let life = tokio::spawn(live(Arc::clone(&upstream), Target::Tcp(address), knobs, shared, stopped));
        let (poll, inbox) = stage::inbox();
        Self { upstream, offers, stop, inbox, seats: Seats::new(100_000), _poll: poll, life }
    }

    async fn offer(&self) -> Offer {
        loop {
            if let Some(Standing::Present(offer)) = self.offers.lock().unwrap().last() {
                return Offer::clone(offer);
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    fn call(&self, number: u64, client: u128) -> crate::actor::CancelHandle {
        let (errand, cancel) = self.errand(number, client);
        self.upstream.post(errand);
        cancel
    }

    fn errand(&self, number: u64, client: u128) -> (Errand, crate::actor::CancelHandle) {
        let server = Arc::clone(&self.upstream) as Arc<dyn Serves>;
        let (ticket, cancel) = Ticket::new(Arc::clone(&self.inbox), Key::from_bits(1), number, server);
        let mut parcel = stage::parcel(Revision::V2025_11_25);
        parcel.params = format!(r#""name":"echo","arguments":{{"text":"{number}"}}"#).into();
        let client = Client { id: client, ..stage::client("{}") };
        let place = self.seats.take().expect("a place");
        (Errand::Call(Box::new(Task::new(parcel, ticket, place, client))), cancel)
    }

    async fn answer(&self) -> (u64, Result<Value, Value>) {
        loop {
            match self.inbox.collect() {
                Some(Mail::Letter(_, Letter::Answer { call, answer })) => {
                    let read = |text: &[u8]| serde_json::from_slice(text).expect("JSON");
                    return match answer {
                        Answer::Result(result) => (call, Ok(read(&result))),
                        Answer::Error(error) => (call, Err(read(&error))),
                        Answer::Abandoned => (call, Err(json!("abandoned"))),
                    };
                }
                Some(_) => {}
                None => sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

/// Legacy, or modern; each connection is served until the script says nothing.
#[allow(clippy::disallowed_methods)] // A test's task ends with its runtime.
async fn server(modern: bool, script: Script) -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve_one(socket, modern, script, Arc::clone(&heard)));
        }
    });
    (address, told)
}

async fn serve_one(socket: TcpStream, modern: bool, script: Script, told: Arc<Mutex<Vec<Value>>>) {
    let (reader, mut writer) = socket.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let message: Value = serde_json::from_str(&line).expect("JSON");
        told.lock().unwrap().push(message.clone());
        let id = &message["id"];
        let result = match message["method"].as_str().unwrap_or_default() {
            "server/discover" if modern => json!({"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}),
            "initialize" if !modern => json!({"protocolVersion":"2025-06-18","capabilities":{"tools":{}},
                "serverInfo":{"name":"fake","version":"1"}}),
            "tools/list" => json!({"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}),
            "tools/call" => match script(&message) {
                Some(answer) => {
                    if writer.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                    continue;
                }
                None => return,
            },
            "subscriptions/listen" => continue,
            _ if id.is_null() => continue,
            _ => {
                let error = json!({"jsonrpc":"2.0","id":id,"error":{"code":-32601,"message":"no"}});
                writer.write_all(format!("{error}\n").as_bytes()).await.expect("a peer");
                continue;
            }
        };
        let answer = json!({"jsonrpc":"2.0","id":id,"result":result});
        writer.write_all(format!("{answer}\n").as_bytes()).await.expect("a peer");
    }
}

fn echo(message: &Value) -> Option<String> {
    let result = json!({"content":[],"text":message["params"]["arguments"]["text"]});
    Some(format!("{}\n", json!({"jsonrpc":"2.0","id":message["id"],"result":result})))
}

fn quick() -> Knobs {
    Knobs { restart_min: Duration::from_millis(20), restart_max: Duration::from_millis(50), ..Knobs::default() }
}

#[tokio::test]
async fn a_legacy_server_is_found_gathered_and_called() {
    let (address, told) = server(false, echo).await;
    let house = House::new(address, quick(), false);
    let offer = house.offer().await;
    assert_eq!(&*offer.list(List::Tools)[0].key, "echo");
    assert_eq!(offer.server_info.as_deref(), Some(r#"{"name":"fake","version":"1"}"#));
    let calls: Vec<_> = (0..100).map(|number| house.call(number, 1)).collect();
    for _ in &calls {
        let (call, answer) = house.answer().await;
        assert_eq!(answer.expect("a result")["text"], call.to_string());
    }
    let methods: Vec<Value> = told.lock().unwrap().iter().take(4).map(|message| message["method"].clone()).collect();
    assert_eq!(methods, ["server/discover", "initialize", "notifications/initialized", "tools/list"]);
    let view = house.upstream.view();
    assert_eq!((view.state, view.revision, view.entries), (State::Ready, Some(Revision::V2025_06_18), 1));
    assert_eq!(house.upstream.counts.in_flight.load(Relaxed), 0);
    house.stop.send_replace(true);
    house.life.await.expect("it ends");
    assert_eq!(house.offers.lock().unwrap().last(), Some(&Standing::Gone));
}

#[tokio::test]
async fn a_modern_server_is_called_with_all_that_it_needs() {
    let (address, told) = server(true, echo).await;
    let house = House::new(address, quick(), false);
    house.offer().await;
    let _call = house.call(5, 1);
    assert_eq!(house.answer().await.1.expect("a result")["text"], "5");
    let told = told.lock().unwrap();
    let call = told.iter().find(|message| message["method"] == "tools/call").expect("it was called");
    assert_eq!(call["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(call["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"], "tester");
    assert!(!told.iter().any(|message| message["method"] == "initialize"));
}

#[tokio::test]
async fn a_server_that_dies_fails_its_calls_by_name_and_serves_again() {
    fn dies(message: &Value) -> Option<String> {
        if message["params"]["arguments"]["text"] == "13" { None } else { echo(message) }
    }
    let (address, _) = server(false, dies).await;
    let house = House::new(address, quick(), false);
    house.offer().await;
    let _call = house.call(13, 1);
    let error = house.answer().await.1.expect_err("it died");
    assert_eq!((&error["data"]["upstream"], &error["data"]["reason"]), (&json!("files"), &json!("lost")));
    for number in 20.. {
        let _call = house.call(number, 1);
        let (call, answer) = house.answer().await;
        assert_eq!(call, number);
        match answer {
            Ok(result) => {
                assert_eq!(result["text"], number.to_string());
                break;
            }
            Err(error) => assert_eq!(error["data"]["upstream"], "files"),
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(house.upstream.counts.restarts.load(Relaxed), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_refuses_at_once_and_says_when_to_come_again() {
    let house = House::new("127.0.0.1:1".into(), Knobs { restart_min: Duration::from_secs(60), ..quick() }, false);
    while house.upstream.view().state != State::Down {
        sleep(Duration::from_millis(2)).await;
    }
    let _call = house.call(1, 1);
    let error = house.answer().await.1.expect_err("nobody is there");
    assert_eq!(error["data"]["reason"], "refused");
    assert!(error["data"]["retryAfterMs"].as_u64().is_some_and(|wait| wait > 30_000), "{error}");
}

#[tokio::test]
async fn each_client_has_a_connection_of_its_own_where_that_is_wanted_and_no_more_than_fit() {
    let (address, told) = server(false, echo).await;
    let house = House::new(address, Knobs { sessions_max: 2, ..quick() }, true);
    house.offer().await;
    for client in [1, 2, 1] {
        let _call = house.call(client, client.into());
        assert!(house.answer().await.1.is_ok());
    }
    let handshakes = || told.lock().unwrap().iter().filter(|message| message["method"] == "initialize").count();
    assert_eq!(handshakes(), 3, "the catalogue's, and one for each client");
    let _call = house.call(3, 3);
    assert_eq!(house.answer().await.1.expect_err("two are there")["data"]["reason"], "overloaded");
    house.upstream.post(Errand::Leave { client: 1 });
    while house.upstream.counts.sessions.load(Relaxed) > 1 {
        sleep(Duration::from_millis(2)).await;
    }
    let _call = house.call(4, 3);
    assert!(house.answer().await.1.is_ok());
    house.stop.send_replace(true);
    house.life.await.expect("it ends");
}

#[test]
fn a_server_that_loses_each_session_is_not_connected_to_again_and_again_at_once() {
    let lost = Trouble::new(TroubleKind::SessionLost, "");
    let knobs = quick();
    let mut pauses = Pauses::new(&knobs);
    let soon = Some(Duration::from_millis(1));
    assert_eq!(pauses.after(soon, &lost), Duration::ZERO);
    let (first, second) = (pauses.after(soon, &lost), pauses.after(soon, &lost));
    assert!(knobs.restart_min <= first && first < second, "{first:?} {second:?}");
    assert_eq!(pauses.after(Some(GOOD), &lost), Duration::ZERO, "that one was good");
    assert!(pauses.after(soon, &lost) < second, "and the pauses begin anew");
}

#[test]
fn a_connect_that_takes_long_is_no_service() {
    let knobs = quick();
    let mut pauses = Pauses::new(&knobs);
    let refused = Trouble::new(TroubleKind::Refused, "");
    let first = pauses.after(None, &refused);
    assert!(first >= knobs.restart_min && pauses.after(None, &refused) > first);
}

/// The first `count` connections are served, until their handles say otherwise; later ones get no word.
#[allow(clippy::disallowed_methods)] // A test's task ends with its runtime.
async fn server_of(count: usize) -> (String, Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let all = Arc::new(Mutex::new(Vec::new()));
    let tasks = Arc::clone(&all);
    tokio::spawn(async move {
        let mut mute = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            if tasks.lock().unwrap().len() < count {
                let task = tokio::spawn(serve_one(socket, false, echo, Arc::default()));
                tasks.lock().unwrap().push(task);
            } else {
                mute.push(socket);
            }
        }
    });
    (address, all)
}

#[tokio::test]
async fn clients_with_sessions_are_served_while_the_shared_link_is_opened_anew() {
    let (address, connections) = server_of(2).await;
    let house = House::new(address, quick(), true);
    house.offer().await;
    let _call = house.call(1, 1);
    assert!(house.answer().await.1.is_ok());
    connections.lock().unwrap()[0].abort();
    while house.upstream.counts.restarts.load(Relaxed) == 0 || house.upstream.view().state != State::Probing {
        sleep(Duration::from_millis(2)).await;
    }
    let _call = house.call(2, 1);
    assert_eq!(house.answer().await.1.expect("its own session is there")["text"], "2");
    house.upstream.post(Errand::Leave { client: 1 });
    while house.upstream.counts.sessions.load(Relaxed) > 0 {
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_subscription_while_it_is_connected_to_is_refused_by_name() {
    let (address, _) = server_of(0).await;
    let house = House::new(address, quick(), false);
    let server = Arc::clone(&house.upstream) as Arc<dyn Serves>;
    let (ticket, _cancel) = Ticket::new(Arc::clone(&house.inbox), Key::from_bits(1), 1, server);
    let task = Some((ticket, house.seats.take().expect("a place")));
    house.upstream.post(Errand::Watch { uri: "a://b".into(), task, client: stage::watcher(1) });
    assert_eq!(house.answer().await.1.expect_err("not yet")["data"]["reason"], "refused");
}

#[tokio::test]
async fn a_call_that_meets_the_end_of_an_idle_session_is_served_by_another() {
    let (address, _) = server(false, echo).await;
    let house = House::new(address, Knobs { session_idle: Duration::from_millis(4), ..quick() }, true);
    house.offer().await;
    for number in 0..60 {
        sleep(Duration::from_millis(3 + number % 4)).await;
        let _call = house.call(number, 1);
        assert_eq!(house.answer().await.1.expect("a session")["text"], number.to_string());
    }
}

#[tokio::test]
#[allow(clippy::disallowed_methods)] // A test's task ends with its runtime.
async fn a_modern_server_that_is_slow_to_start_comes_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a link");
        sleep(Duration::from_millis(200)).await;
        serve_one(socket, true, echo, Arc::default()).await;
    });
    let house = House::new(address, Knobs { probe: Duration::from_millis(20), ..quick() }, false);
    assert_eq!(&*house.offer().await.list(List::Tools)[0].key, "echo");
    assert_eq!(house.upstream.view().revision, Some(Revision::V2026_07_28));
    assert_eq!(house.upstream.counts.restarts.load(Relaxed), 0);
}

#[tokio::test]
#[allow(clippy::disallowed_methods)] // A test's task ends with its runtime.
async fn a_late_word_on_what_a_server_is_counts_whatever_became_of_the_handshake() {
    for refuses in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.expect("a link");
            let (reader, mut writer) = socket.into_split();
            let mut lines = BufReader::new(reader).lines();
            let mut asked = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                let message: Value = serde_json::from_str(&line).expect("JSON");
                asked.push(message["id"].clone());
                let answer = match message["method"].as_str().expect("a method") {
                    // The first one is answered behind whatever is asked last.
                    "server/discover" if asked.len() == 1 => continue,
                    "initialize" if refuses => {
                        json!({"jsonrpc":"2.0","id":message["id"],"error":{"code":-32601,"message":"no"}})
                    }
                    "initialize" | "server/discover" => {
                        let result = json!({"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}});
                        json!({"jsonrpc":"2.0","id":asked[0],"result":result})
                    }
                    "tools/list" => {
                        let tools = json!([{"name":"echo","inputSchema":{"type":"object"}}]);
                        json!({"jsonrpc":"2.0","id":message["id"],"result":{"tools":tools}})
                    }
                    _ => continue,
                };
                writer.write_all(format!("{answer}\n").as_bytes()).await.expect("a peer");
            }
        });
        let house = House::new(address, Knobs { probe: Duration::from_millis(20), ..quick() }, false);
        let offer = tokio::time::timeout(Duration::from_secs(20), house.offer()).await.expect("it is there");
        assert_eq!(&*offer.list(List::Tools)[0].key, "echo");
        assert_eq!(house.upstream.view().revision, Some(Revision::V2026_07_28));
        assert_eq!(house.upstream.counts.strays.load(Relaxed), 0);
    }
}

/// The link comes back, and nobody answers there: who waits at the gate is told at its deadline all the same.
#[tokio::test]
#[allow(clippy::disallowed_methods)] // A test's task ends with its runtime.
async fn who_waits_for_a_place_is_told_at_its_deadline_though_the_link_is_being_opened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let (first, _) = listener.accept().await.expect("a connection");
        serve_one(first, false, |_| None, Arc::default()).await;
        let mut silent = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            silent.push(socket);
        }
    });
    let mut knobs = Knobs { in_flight_max: 1, restart_min: Duration::from_millis(1), ..Knobs::default() };
    knobs.front.deadline = Duration::from_millis(700);
    let house = House::new(address, knobs, false);
    house.offer().await;
    let _calls = [house.call(1, 7), house.call(2, 7)];
    let (first, lost) = house.answer().await;
    assert_eq!((first, &lost.unwrap_err()["data"]["reason"]), (1, &json!("lost")));
    let second = tokio::time::timeout(Duration::from_secs(10), house.answer()).await.expect("not after the link");
    assert_eq!((second.0, &second.1.unwrap_err()["data"]["reason"]), (2, &json!("expired")));
    assert_eq!(house.seats.taken(), 0);
}

/// Others post as much as is run, and all of it is refused: nothing of it waits to be sent.
#[tokio::test]
async fn a_link_is_heard_though_the_door_is_never_empty() {
    let (address, _) = server(false, echo).await;
    let house = House::new(address, Knobs { in_flight_max: 1, ..quick() }, false);
    house.offer().await;
    let _first = house.call(0, 1);
    let (mut number, until) = (0, Instant::now() + Duration::from_secs(30));
    loop {
        assert!(Instant::now() < until, "no answer behind {number} others");
        while house.seats.taken() < 1_000 {
            number += 1;
            drop(house.call(number, 1));
        }
        while house.inbox.waiting() > 0 {
            if let (0, answer) = house.answer().await {
                assert_eq!(answer.expect("a result")["text"], "0");
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_came_in_vain_behind_the_last_resource_is_refused_by_name() {
    let house = House::new("127.0.0.1:1".into(), quick(), true);
    let shared = stage::shared(|_, _| {}, |_| {});
    let (upstream, target) = (Arc::clone(&house.upstream), Target::Tcp("127.0.0.1:1".into()));
    let mut life = Life::private(upstream, target, quick(), shared, stage::client("{}"), (1, 0), Arc::default());
    let (errand, _cancel) = house.errand(1, 7);
    life.first = Some(errand);
    let trouble = Trouble::new(TroubleKind::Refused, "nobody is there");
    assert!(!life.rest(&mut Pauses::new(&quick()), &trouble, &mut house.stop.subscribe()).await);
    drop(life);
    assert_eq!(house.answer().await.1.expect_err("nobody is there")["data"]["reason"], "refused");
}
