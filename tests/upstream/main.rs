//! A real server behind the gateway, a child process that does as it is told: nobody gets another's answer, and whatever
//! the server does, those who wait are told by name and nobody else notices.

mod asking;
mod beside;
mod changes;
mod crowd;
mod eras;
mod front;
mod huge;
mod joined;
mod liars;
#[path = "../peer/mod.rs"]
mod peer;
mod record;
mod replicas;
mod streamable;

use peer::{Peer, Process, call, request, text_of};
use serde_json::{Value, json};

/// What the server says of itself and of what it was told.
fn told(peer: &mut Peer) -> Value {
    serde_json::from_str(text_of(&peer.ask(&call(9_999, "told", &json!({}))))).expect("JSON")
}

/// Whether in the end this line is among the metrics.
fn tells(lakh: &Process, line: impl Fn(&str) -> bool) -> bool {
    let admin = lakh::cli::fetch::Admin::parse(&lakh.admin.to_string()).expect("an address");
    peer::eventually(|| admin.get("/metrics").expect("metrics").lines().any(&line))
}

#[test]
fn a_client_reaches_all_that_its_server_offers() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peer = Peer::line(lakh.clients);
    let tools = peer.ask(&request(1, "tools/list", &json!({})));
    let names: Vec<&str> =
        tools["result"]["tools"].as_array().expect("a list").iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["echo", "lie", "ask", "log", "touch", "grow", "told", "sleep"], "both pages, in order");
    assert_eq!(tools["result"]["tools"][0]["x-unknown"], json!({"kept":[1.0]}), "what we don't know survives");
    assert_eq!(text_of(&peer.ask(&call(2, "echo", &json!({"text":"\u{1f980} \"x\""})))), "\u{1f980} \"x\"");
    let prompt = peer.ask(&request(3, "prompts/get", &json!({"name":"hello","arguments":{"who":"crab"}})));
    assert_eq!(prompt["result"]["messages"][0]["content"]["text"], "Hello, crab");
    for uri in ["test://one", "test://item/7"] {
        let read = peer.ask(&request(4, "resources/read", &json!({"uri":uri})));
        assert_eq!(read["result"]["contents"][0]["text"], format!("the text of {uri}"));
    }
    let templates = peer.ask(&request(5, "resources/templates/list", &json!({})));
    assert_eq!(templates["result"]["resourceTemplates"][0]["uriTemplate"], "test://item/{id}");
    let reference = json!({"ref":{"type":"ref/prompt","name":"hello"},"argument":{"name":"who","value":"cr"}});
    let completed = peer.ask(&request(6, "completion/complete", &reference));
    assert_eq!(completed["result"]["completion"]["values"], json!(["cr-completed"]));
    let unknown = peer.ask(&call(7, "no such tool", &json!({})));
    assert_eq!(unknown["error"]["code"], -32602);
    let missing = peer.ask(&request(8, "resources/read", &json!({"uri":"other://x"})));
    assert_eq!(missing["error"]["code"], -32002, "{missing}");
}

/// With one server behind it no client can tell that the gateway is there.
#[test]
fn one_server_is_known_by_its_own_name() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peer = Peer::connect(lakh.clients);
    let hello = json!({"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}});
    let result = peer.ask(&request(0, "initialize", &hello))["result"].clone();
    assert_eq!(result["serverInfo"], json!({"name":"scripted","title":"Scripted","version":"1.2.3"}));
    assert_eq!(result["instructions"], "As told.");
    for capability in ["tools", "prompts", "resources", "logging", "completions"] {
        assert!(result["capabilities"][capability].is_object(), "{capability}: {result}");
    }
}

#[test]
fn who_leaves_or_cancels_has_its_calls_cancelled_at_the_server() {
    let lakh = Process::in_front_of_scripted(&[]);
    let (mut stays, mut leaves) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    // The server's own word counts: what is cancelled before it is sent never gets there.
    let works_for = |calls: u64| {
        let mut looks = Peer::line(lakh.clients);
        peer::eventually(|| told(&mut looks)["pending"] == calls)
    };
    leaves.say(&call(1, "sleep", &json!({"ms":60_000})));
    stays.say(&call(1, "sleep", &json!({"ms":60_000})));
    assert!(works_for(2));
    drop(leaves);
    assert!(works_for(1));
    stays.say(&json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}));
    assert!(works_for(0));
    assert!(stays.is_answered(2));
}
