//! Clients that are hostile or unlucky in their timing, over real sockets against the whole house.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use lakh::config::Config;
use lakh::conn::Parting;
use lakh::tree::Tree;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A house of one shard on ports of its own.
fn house(change: impl FnOnce(&mut Config)) -> Tree {
    let mut config = Config { listen: ([127, 0, 0, 1], 0).into(), shards: 1, ..Config::default() };
    config.admin.listen = ([127, 0, 0, 1], 0).into();
    config.guard.connections_max = 1_000;
    change(&mut config);
    Tree::plant(config).expect("a house")
}

struct Client {
    socket: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Client {
    fn new(tree: &Tree) -> Self {
        let socket = TcpStream::connect(tree.clients()).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let lines = BufReader::new(socket.try_clone().expect("a second handle"));
        Self { socket, lines }
    }

    /// One that has said `initialize`.
    fn legacy(tree: &Tree, revision: &str) -> Self {
        let mut client = Self::new(tree);
        let info = json!({"name": "test", "version": "1"});
        client.say(&json!({"jsonrpc": "2.0", "id": "init", "method": "initialize",
            "params": {"protocolVersion": revision, "capabilities": {}, "clientInfo": info}}));
        assert_eq!(client.hear()["result"]["protocolVersion"], revision);
        client
    }

    fn say(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the gateway reads");
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("an answer in time");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {:.200}", line))
    }
}

fn call(id: u32, tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

fn cancel(id: u32) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}})
}

#[test]
fn subscriptions_are_bounded_like_calls_and_their_ids_are_theirs() {
    let tree = house(|config| config.conn.in_flight_max = 5);
    let mut client = Client::new(&tree);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let listen = |id: u32| {
        json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen",
            "params": {"notifications": {}, "_meta": meta}})
    };
    client.say(&listen(1));
    assert_eq!(client.hear()["method"], "notifications/subscriptions/acknowledged");
    client.say(&listen(1));
    assert_eq!(client.hear()["error"]["code"], -32600, "the id is in use");
    for id in 2..=5 {
        client.say(&listen(id));
        assert_eq!(client.hear()["method"], "notifications/subscriptions/acknowledged");
    }
    client.say(&listen(6));
    assert_eq!(client.hear()["error"]["code"], 429, "one too many");
}

#[test]
fn an_id_in_use_is_refused_to_any_request() {
    let tree = house(|_| {});
    let mut client = Client::legacy(&tree, "2025-11-25");
    client.say(&call(7, "sleep", json!({"ms": 300})));
    client.say(&json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list"}));
    assert_eq!(client.hear()["error"]["code"], -32600);
    assert_eq!(client.hear()["result"]["structuredContent"]["sleptMs"], 300);
}

#[test]
fn a_batch_cannot_ask_for_more_than_may_be_sent() {
    let tree = house(|_| {});
    let mut client = Client::legacy(&tree, "2025-03-26");
    let calls: Vec<_> = (0..200).map(|id| call(id, "blob", json!({"bytes": 1 << 20}))).collect();
    client.say(&Value::from(calls));
    let answers = client.hear();
    let answers = answers.as_array().expect("an array");
    let ids: Vec<_> = answers.iter().filter_map(|answer| answer["id"].as_u64()).collect();
    assert_eq!(ids, (0..200).collect::<Vec<_>>(), "each is answered once");
    assert!(answers[0]["result"].is_object());
    assert_eq!(answers[199]["error"]["code"], 429);
    client.write(format!("[{}1]\n", "1,".repeat(100_000)).as_bytes());
    assert!(client.hear()["error"]["message"].as_str().expect("text").contains("batch_messages_max"));
}

#[test]
fn a_batch_that_ends_by_a_cancel_in_another_is_a_message_of_its_own() {
    let tree = house(|_| {});
    let mut client = Client::legacy(&tree, "2025-03-26");
    client.say(&json!([call(1, "sleep", json!({"ms": 60_000})), call(2, "echo", json!({"text": "first"}))]));
    client.say(&json!([cancel(1), call(3, "echo", json!({"text": "second"}))]));
    let heard = [client.hear(), client.hear()];
    let ids =
        heard.map(|batch| batch.as_array().expect("an array").iter().map(|a| a["id"].clone()).collect::<Vec<_>>());
    assert!(ids.contains(&vec![json!(2)]) && ids.contains(&vec![json!(3)]), "{ids:?}");
}

/// What a paused client sends is not read, so no time limit on its sending may run.
#[test]
fn a_paused_client_is_not_blamed_for_what_we_do_not_read() {
    let tree = house(|config| {
        config.conn.message_ms = 1_000;
        config.conn.idle_ms = 1_500;
    });
    let mut client = Client::legacy(&tree, "2025-11-25");
    let blobs: String = (0..20).map(|id| format!("{}\n", call(id, "blob", json!({"bytes": 1 << 20})))).collect();
    let (first, rest) = blobs.split_at(20);
    client.write(first.as_bytes());
    thread::sleep(Duration::from_millis(200));
    client.write(rest.as_bytes());
    thread::sleep(Duration::from_millis(3_000));
    for id in 0..20 {
        assert_eq!(client.hear()["id"], id);
    }
    assert_eq!(tree.house().ledger.partings.get(Parting::MessageTimeout), 0);
}

#[test]
fn those_who_hold_much_make_room_before_those_who_hold_little() {
    let tree = house(|config| {
        config.wire.message_bytes_max = 1 << 20;
        config.wire.frame_bytes_max = 1 << 20;
        config.conn.buffered_bytes_max = 1 << 20;
    });
    let hogs: Vec<_> = [100_000, 20_000, 5_000, 1_000, 300]
        .into_iter()
        .flat_map(|bytes| std::iter::repeat_n(bytes, 20))
        .map(|bytes| {
            let mut hog = Client::new(&tree);
            // It may be parted while it sends.
            let _ = hog.socket.write_all(&[b"{".as_slice(), &vec![b' '; bytes]].concat());
            thread::sleep(Duration::from_millis(5));
            hog
        })
        .collect();
    let mut clients: Vec<_> = (0..30).map(|_| Client::legacy(&tree, "2025-11-25")).collect();
    for client in &mut clients {
        client.say(&call(1, "sleep", json!({"ms": 500})));
    }
    for client in &mut clients {
        assert_eq!(client.hear()["id"], 1);
    }
    drop(hogs);
}

#[test]
fn a_refused_batch_ends_nothing() {
    let tree = house(|_| {});
    let mut client = Client::legacy(&tree, "2025-11-25");
    client.say(&json!([call(1, "echo", json!({"text": "x"}))]));
    assert_eq!(client.hear()["error"]["code"], -32600);
    client.say(&call(2, "echo", json!({"text": "x"})));
    assert_eq!(client.hear()["id"], 2);
    client.socket.shutdown(Shutdown::Write).expect("half-closed");
    let mut rest = Vec::new();
    match client.lines.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn answers_on_their_way_reach_a_client_that_has_closed_its_side() {
    let tree = house(|_| {});
    let mut client = Client::legacy(&tree, "2025-11-25");
    let bytes = 1 << 20;
    client.say(&call(1, "blob", json!({"bytes": bytes})));
    client.say(&call(2, "blob", json!({"bytes": bytes})));
    client.socket.shutdown(std::net::Shutdown::Write).expect("half closed");
    // More than the sockets' buffers hold waits for it.
    std::thread::sleep(Duration::from_millis(200));
    for id in [1, 2] {
        let answer = client.hear();
        assert_eq!(answer["id"], id);
        assert_eq!(answer["result"]["content"][0]["text"].as_str().map(str::len), Some(bytes));
    }
    assert_eq!(client.lines.read_line(&mut String::new()).expect("an end"), 0);
}
