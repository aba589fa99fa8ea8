//! Each child of the tree is made to panic: it is restarted, and nobody else notices.

mod peer;

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lakh::actor::Letter;
use lakh::conn::{Connections, Message, Parting, Service, Talk};
use lakh::upstream::{self, embedded::Offered};
use serde_json::json;

use peer::{Gateway, Heard, Peer, Shard, call, eventually, house};

const SHARDS: usize = 4;
const CLIENTS: u64 = 1_000;

/// Whether `child` runs again after so many restarts.
fn is_back(gateway: &Gateway, child: &str, restarts: u64) -> bool {
    eventually(|| {
        let view = gateway.view();
        let found = view.groups.iter().flat_map(|group| &group.children).find(|found| found.name == child);
        found.is_some_and(|found| found.state == "running" && found.restarts == restarts)
    })
}

/// All children of the tree are asked in parallel, so that the time is that of one.
fn answered(clients: &mut [Peer], id: u64) -> Vec<bool> {
    for client in &mut *clients {
        let _ = client.try_send(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"ping\"}}\n").as_bytes());
    }
    let right =
        |heard| matches!(heard, Heard::Message(answer) if answer == json!({"jsonrpc": "2.0", "id": id, "result": {}}));
    clients.iter_mut().map(|client| right(client.hear())).collect()
}

#[test]
fn each_child_is_restarted_and_only_its_own_clients_notice() {
    let gateway = Gateway::start(|config| {
        config.shards = SHARDS;
        config.guard.connections_max = 4_000;
        config.conn.handshake_ms = 60_000;
        // Nobody is there, which is no reason not to live.
        config
            .upstreams
            .insert("nobody".into(), upstream::config::Config { tcp: "127.0.0.1:1".into(), ..Default::default() });
        config.embedded.offered = Offered::Always;
        config.alarms.webhook = "http://127.0.0.1:1/".into();
    });
    let mut clients: Vec<Peer> = (0..CLIENTS).map(|_| Peer::connect(gateway.clients())).collect();
    for child in ["profiler", "webhook", "admin", "catalogue", "embedded", "nobody"] {
        assert!(gateway.inject_panic(child), "{child} is in the tree");
        assert!(is_back(&gateway, child, 1), "{child} is restarted");
        assert!(answered(&mut clients, 1).iter().all(|&answered| answered), "{child} took clients along");
        assert!(is_served(gateway.clients()), "calls are served after {child} has failed");
    }
    assert!(gateway.holds(clients.len()));

    for shard in 0..SHARDS {
        let child = format!("shard-{shard}");
        assert!(gateway.inject_panic(&child));
        assert!(is_back(&gateway, &child, 1), "{child} is restarted");
        let before = clients.len();
        let mut answered = answered(&mut clients, 2).into_iter();
        clients.retain(|_| answered.next().unwrap_or(false));
        let lost = before - clients.len();
        // A binomial share of a quarter: 13.7 is its standard deviation.
        assert!((180..=320).contains(&lost), "{child} had {lost} of {CLIENTS} clients");
        assert!(gateway.holds(clients.len()), "the seats of {child} are free");
    }
    assert!(clients.is_empty(), "each client was lost with its own shard, none with another");
    let view = gateway.view();
    assert!(view.groups.iter().flat_map(|group| &group.children).all(|child| child.restarts == 1));
    assert_eq!(gateway.given_up(), None);
}

fn is_served(clients: SocketAddr) -> bool {
    let mut peer = Peer::line(clients);
    peer.ask(&call(3, "sleep", &json!({"ms": 10})))["result"]["structuredContent"]["sleptMs"] == 10
}

#[test]
fn a_restarted_shard_is_woken_and_answers_no_call_of_its_earlier_life() {
    let gateway = Gateway::start(|config| config.shards = 2);
    let mut sleepers: Vec<Peer> = (0..32).map(|_| Peer::line(gateway.clients())).collect();
    for sleeper in &mut sleepers {
        sleeper.say(&call(7, "sleep", &json!({"ms": 1_500})));
        assert!(sleeper.is_answered(1));
    }
    assert_eq!(gateway.house().in_flight.taken(), 32);
    // As the admin and the upstreams have connections, in the table that a restarted shard copies.
    let port = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let near = TcpStream::connect(port.local_addr().expect("an address")).expect("a connection");
    let mut far = port.accept().expect("the other end").0;
    // Nobody clears the inbox for the shard that comes: what was posted before is still there.
    for shard in ["shard-0", "shard-1"] {
        gateway.inject_panic(shard);
        gateway.inject_panic(shard);
    }
    assert!(is_back(&gateway, "shard-0", 2) && is_back(&gateway, "shard-1", 2), "each order was followed");
    assert!(sleepers.iter_mut().all(|sleeper| sleeper.hear() == Heard::End));
    assert!(gateway.holds(0) && eventually(|| gateway.house().in_flight.taken() == 0), "their calls are cancelled");

    drop(near);
    far.set_read_timeout(Some(peer::PATIENCE)).expect("a timeout");
    assert_eq!(far.read(&mut [0]).ok(), Some(0), "a shard holds a copy of somebody else's socket");

    // The same slots, keys and ids as before, on both shards.
    let mut heirs: Vec<Peer> = (0..32).map(|_| Peer::line(gateway.clients())).collect();
    for heir in &mut heirs {
        heir.say(&call(7, "sleep", &json!({"ms": 2_500})));
    }
    thread::sleep(Duration::from_millis(1_800));
    assert!(heirs.iter_mut().all(|heir| heir.hears_nothing(Duration::from_millis(1))), "a call of an earlier life");
    for heir in &mut heirs {
        assert_eq!(heir.hear_message()["result"]["structuredContent"]["sleptMs"], 2_500, "woken by the upstream");
    }
}

#[test]
fn a_child_that_fails_too_often_gives_the_house_up() {
    let gateway = Gateway::start(|config| config.shards = 2);
    for failures in 1..=10 {
        assert!(gateway.inject_panic("shard-1"));
        assert!(is_back(&gateway, "shard-1", failures), "restarted after failure {failures}");
    }
    assert_eq!(gateway.given_up(), None, "ten may be bad luck");
    gateway.inject_panic("shard-1");
    let mut why = None;
    assert!(eventually(|| {
        why = why.take().or_else(|| gateway.given_up());
        why.is_some()
    }));
    assert!(why.is_some_and(|why| why.contains("shard-1") && why.contains("11 times")));
}

/// Panics on a word, as a bug on some message would.
struct Fragile;

impl Service for Fragile {
    type Session = ();

    fn message(&mut self, talk: &mut Talk<'_, ()>, message: Message<'_>) -> Result<(), Parting> {
        let Message::Unchecked(text) = message else { return Err(Parting::BinaryMessage) };
        assert!(!text.starts_with(b"{\"panic"), "a bug");
        talk.say(|_, out| out.extend_from_slice(text));
        Ok(())
    }

    fn letter(&mut self, _: &mut Talk<'_, ()>, _: Letter) {}
}

#[test]
fn a_panic_over_one_connection_is_its_own() {
    let house = house(20);
    let home = Arc::clone(&house);
    let shard = Shard::run(move || Connections::new(home, 20, Fragile));

    let (word, bug) = (json!({"word": 1}), json!({"panic": 1}));
    let mut others: Vec<Peer> = (0..9).map(|_| Peer::connect(shard.clients)).collect();
    assert!(others.iter_mut().all(|other| other.ask(&word) == word));
    for round in 1..=5 {
        let mut victim = Peer::connect(shard.clients);
        assert_eq!(victim.ask(&word), word);
        victim.say(&bug);
        assert_eq!(victim.hear(), Heard::End);
        assert!(eventually(|| house.ledger.partings.get(Parting::Panicked) == round));
        assert_eq!(house.seats.taken(), others.len(), "its seat is free after panic {round}");
        assert!(others.iter_mut().all(|other| other.ask(&word) == word));
    }
}
