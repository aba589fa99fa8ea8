//! A server with 100,000 tools: while they are put into the catalogue, calls to the others go on.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::peer::{Heard, Peer, Process, call, request, scripted};

const TOOLS: usize = 100_000;
const ON_A_PAGE: usize = 10_000;

/// A legacy server with one tool, until `grow` rings; then with so many that they take a while.
struct Huge {
    has_grown: bool,
    /// Its last page was sent.
    all_sent: Arc<AtomicBool>,
}

impl Huge {
    fn serve(mut self, socket: TcpStream, grow: TcpListener) {
        let mut out = socket.try_clone().expect("a second handle");
        #[allow(clippy::disallowed_methods)] // It ends with the test.
        std::thread::spawn({
            let mut out = socket.try_clone().expect("a third");
            move || {
                grow.accept().expect("the word to grow");
                out.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n")
                    .expect("told");
            }
        });
        for line in BufReader::new(socket).lines().map_while(Result::ok) {
            let message: Value = serde_json::from_str(&line).expect("JSON");
            let Some(id) = message.get("id") else { continue };
            let answer = match self.answer(&message) {
                Ok(result) => json!({"jsonrpc":"2.0","id":id,"result":result}),
                Err(code) => json!({"jsonrpc":"2.0","id":id,"error":{"code":code,"message":"no"}}),
            };
            if out.write_all(format!("{answer}\n").as_bytes()).is_err() {
                return;
            }
            if self.has_grown && message["params"]["cursor"].as_str() == Some(TOOLS.to_string().as_str()) {
                self.all_sent.store(true, Ordering::Release);
            }
        }
    }

    fn answer(&mut self, message: &Value) -> Result<Value, i64> {
        match message["method"].as_str().expect("a method") {
            "initialize" => Ok(json!({
                "protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},
                "serverInfo":{"name":"huge","version":"1"}
            })),
            "tools/list" => Ok(self.page(message["params"]["cursor"].as_str())),
            _ => Err(-32601),
        }
    }

    /// The first list has one tool; every later one all of them, and an empty page behind the last.
    fn page(&mut self, cursor: Option<&str>) -> Value {
        let tool = |number: usize| json!({"name":format!("tool-{number}"),"inputSchema":{"type":"object"}});
        let Some(from) = cursor.map(|cursor| cursor.parse::<usize>().expect("one of ours")) else {
            let first = !std::mem::replace(&mut self.has_grown, true);
            return if first { json!({"tools":[tool(0)]}) } else { json!({"tools":[],"nextCursor":"0"}) };
        };
        let tools: Vec<Value> = (from..TOOLS.min(from + ON_A_PAGE)).map(tool).collect();
        let next = (from < TOOLS).then(|| (from + ON_A_PAGE).to_string());
        match next {
            Some(next) => json!({"tools":tools,"nextCursor":next}),
            None => json!({"tools":tools}),
        }
    }
}

/// The next answer; and whether a change of the tools was told before it.
fn answered(peer: &mut Peer) -> bool {
    let mut told = false;
    loop {
        let Heard::Message(message) = peer.hear() else { panic!("the connection is over") };
        if message["method"] != "notifications/tools/list_changed" {
            assert_eq!(message["result"]["content"][0]["text"], "here", "{message}");
            return told;
        }
        told = true;
    }
}

#[test]
fn calls_to_others_go_on_while_a_huge_catalogue_is_rendered() {
    let [clients, grow] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let (place, bell) = (clients.local_addr().expect("bound"), grow.local_addr().expect("bound"));
    let all_sent = Arc::new(AtomicBool::new(false));
    let huge = Huge { has_grown: false, all_sent: Arc::clone(&all_sent) };
    #[allow(clippy::disallowed_methods)] // It ends with the test.
    std::thread::spawn(move || huge.serve(clients.accept().expect("lakh").0, grow));
    let file = std::env::temp_dir().join(format!("lakh-huge-{}.toml", std::process::id()));
    let [huge, other] = [
        format!("[upstreams.huge]\ntcp = \"{place}\"\nentries_max = {TOOLS}\nera = \"legacy\"\n"),
        format!("[upstreams.scripted]\ncommand = {:?}\n", scripted()),
    ];
    std::fs::write(&file, huge + &other).expect("a file");
    let lakh = Process::in_front_of(&["--config", file.to_str().expect("text")], &[]);
    std::fs::remove_file(file).expect("it was there");
    let mut peer = Peer::line(lakh.clients);
    TcpStream::connect(bell).expect("it grows");
    let mut calls_meanwhile = 0;
    for id in 1.. {
        let all_were_sent = all_sent.load(Ordering::Acquire);
        peer.say(&call(id, "echo", &json!({"text":"here"})));
        let told = answered(&mut peer);
        calls_meanwhile += u32::from(all_were_sent);
        if told {
            break;
        }
    }
    // Where they waited for it, it was one or two.
    assert!(calls_meanwhile >= 10, "{calls_meanwhile} calls were answered meanwhile");
    let last = format!("tool-{}", TOOLS - 1);
    let gone = peer.ask(&request(0, "tools/call", &json!({"name":last,"arguments":{}})));
    assert_eq!(gone["error"]["code"], -32601, "it is routed to its server, which serves no calls: {gone}");
}
