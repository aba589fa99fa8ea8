//! A thousand clients that all count from 0, on one shared server.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::{Heard, Peer, Process, call, text_of};

const CLIENTS: usize = 1_000;
/// The calls of one client: ids 0 to 5, the second cancelled, the third with progress under the token 0.
const CALLS: u64 = 6;
const CANCELLED: u64 = 1;
const WITH_PROGRESS: u64 = 2;
const STEPS: u64 = 3;

fn words(client: usize, id: u64) -> String {
    format!("client {client}, call {id}")
}

fn hurry(client: usize, id: u64) -> u64 {
    // Out of order on purpose, and all mixed.
    (client as u64 * 37 + id * 101) % 400
}

fn say_all(peer: &mut Peer, client: usize) {
    for id in 0..CALLS {
        let mut arguments = json!({"text": words(client, id), "ms": hurry(client, id)});
        if id == CANCELLED {
            arguments["ms"] = json!(30_000);
        }
        if id == WITH_PROGRESS {
            arguments["progress"] = json!(STEPS);
        }
        let mut message = call(id, "echo", &arguments);
        if id == WITH_PROGRESS {
            message["params"]["_meta"] = json!({"progressToken": 0});
        }
        peer.say(&message);
    }
    peer.say(&json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":CANCELLED}}));
}

/// All that one client should hear, and nothing else.
fn hear_all(peer: &mut Peer, client: usize) {
    let (mut answers, mut steps) = (HashMap::new(), Vec::new());
    while answers.len() < CALLS as usize - 1 {
        let Heard::Message(message) = peer.hear() else { panic!("client {client} was parted") };
        if message["method"] == "notifications/progress" {
            assert_eq!(message["params"]["progressToken"], 0, "{message}");
            assert_eq!(message["params"]["message"], words(client, WITH_PROGRESS), "another's progress");
            steps.push(message["params"]["progress"].clone());
            continue;
        }
        let id = message["id"].as_u64().unwrap_or_else(|| panic!("{message}"));
        assert_eq!(text_of(&message), words(client, id), "another's answer");
        assert!(answers.insert(id, ()).is_none(), "{id} was answered twice");
    }
    assert!(!answers.contains_key(&CANCELLED));
    assert_eq!(steps, (1..=STEPS).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn a_thousand_clients_that_count_from_0_get_their_own_answers() {
    let lakh = Process::in_front_of_scripted(&[("LAKH_GUARD_CONNECTIONS_MAX", "1100")]);
    let mut peers: Vec<Peer> = (0..CLIENTS)
        .map(|client| if client % 2 == 0 { Peer::line(lakh.clients) } else { Peer::websocket(lakh.clients) })
        .collect();
    // What the handshakes have used as id 0 is free again.
    for (client, peer) in peers.iter_mut().enumerate() {
        say_all(peer, client);
    }
    for (client, peer) in peers.iter_mut().enumerate() {
        hear_all(peer, client);
    }
    std::thread::sleep(Duration::from_millis(200));
    for peer in &mut peers {
        assert!(peer.is_answered(0), "something else came, or the end");
    }
    // What was cancelled before it was sent never reached it; the rest was cancelled there too.
    assert_eq!(super::told(&mut peers[0])["pending"], 0, "the server still works for nobody");
}
