//! All four pairs of eras: a client sees its own, whatever the server speaks.

use serde_json::{Value, json};

use crate::peer::{Peer, Process, call, request, scripted, text_of};

/// What joins the spans of a call (spec 2026-07-28 basic/index#meta).
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn modern(id: u64, method: &str, mut params: Value, capabilities: &Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion":"2026-07-28",
        "io.modelcontextprotocol/clientCapabilities":capabilities,
        "io.modelcontextprotocol/clientInfo":{"name":"modern","version":"1"},
    });
    request(id, method, &params)
}

fn ask(id: u64) -> Value {
    modern(id, "tools/call", json!({"name":"ask","arguments":{"text":"How many?"}}), &json!({"elicitation":{}}))
}

#[test]
fn a_modern_client_gets_modern_results_from_a_legacy_server() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peer = Peer::connect(lakh.clients);
    let discovered = peer.ask(&modern(0, "server/discover", json!({}), &json!({})));
    assert_eq!(discovered["result"]["supportedVersions"], json!(["2026-07-28"]));
    let called = peer.ask(&modern(1, "tools/call", json!({"name":"echo","arguments":{"text":"hi"}}), &json!({})));
    assert_eq!((text_of(&called), &called["result"]["resultType"]), ("hi", &json!("complete")));
    let read = peer.ask(&modern(2, "resources/read", json!({"uri":"test://one"}), &json!({})));
    assert_eq!(read["result"]["resultType"], "complete");
    assert!(read["result"]["ttlMs"].is_u64() && read["result"]["cacheScope"].is_string(), "{read}");
    let missing = peer.ask(&modern(3, "resources/read", json!({"uri":"other://x"}), &json!({})));
    assert_eq!(missing["error"]["code"], -32602);
    // The old code for "visit this first" must not reach the new era; what is to be visited does.
    let visit = json!({"name":"lie","arguments":{"how":"visit"}});
    let error = peer.ask(&modern(4, "tools/call", visit, &json!({})))["error"].clone();
    assert_eq!((&error["code"], &error["data"]["elicitations"][0]["elicitationId"]), (&json!(-32603), &json!("1")));
    let mut call = modern(5, "tools/call", json!({"name":"told"}), &json!({}));
    call["params"]["_meta"]["traceparent"] = TRACE.into();
    let told: Value = serde_json::from_str(text_of(&peer.ask(&call))).expect("JSON");
    assert_eq!(told["meta"], json!({"traceparent":TRACE}));
}

#[test]
fn a_question_becomes_a_result_and_the_retry_resumes_the_parked_call() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peer = Peer::connect(lakh.clients);
    let asked = peer.ask(&ask(1));
    let result = &asked["result"];
    assert_eq!(result["resultType"], "input_required", "{asked}");
    let (key, question) = result["inputRequests"].as_object().and_then(|map| map.iter().next()).expect("a question");
    assert_eq!(
        (&question["method"], &question["params"]["message"]),
        (&json!("elicitation/create"), &json!("How many?"))
    );
    let mut retry = ask(2);
    retry["params"]["requestState"] = result["requestState"].clone();
    retry["params"]["inputResponses"] = json!({key:{"action":"accept","content":{"n":7}}});
    let answer = peer.ask(&retry);
    assert_eq!(text_of(&answer), r#"{"action":"accept","content":{"n":7}}"#);
    // Once is enough: the state is used up.
    retry["id"] = json!(3);
    assert_eq!(peer.ask(&retry)["error"]["code"], -32602);
}

#[test]
fn a_forged_state_is_refused_and_the_call_it_names_goes_on() {
    let lakh = Process::in_front_of_scripted(&[]);
    let (mut peer, mut thief) = (Peer::connect(lakh.clients), Peer::connect(lakh.clients));
    let result = peer.ask(&ask(1))["result"].clone();
    let state = result["requestState"].as_str().expect("a state").to_owned();
    let key = result["inputRequests"].as_object().and_then(|map| map.keys().next().cloned()).expect("a question");
    let mut forged = ask(2);
    forged["params"]["inputResponses"] = json!({key.clone():{"action":"accept"}});
    for lie in [format!("{state}x"), state[1..].to_owned(), String::new(), "x".repeat(10_000)] {
        forged["params"]["requestState"] = json!(lie);
        let refused = thief.ask(&forged);
        assert_eq!(refused["error"]["code"], -32602, "{lie}: {refused}");
    }
    let mut retry = ask(2);
    retry["params"]["requestState"] = json!(state);
    retry["params"]["inputResponses"] = json!({key:{"action":"cancel"}});
    assert_eq!(text_of(&peer.ask(&retry)), r#"{"action":"cancel"}"#);
}

#[test]
fn a_client_that_declares_nothing_is_asked_nothing() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peer = Peer::connect(lakh.clients);
    let call = modern(1, "tools/call", json!({"name":"ask","arguments":{"text":"How many?"}}), &json!({}));
    let answer = peer.ask(&call);
    assert_eq!(answer["error"]["code"], -32021, "{answer}");
    assert_eq!(answer["error"]["data"], json!({"requiredCapabilities":{"elicitation":{}}}));
}

fn in_front_of_modern() -> Process {
    Process::in_front_of(&["--stdio", &format!("scripted={} --modern", scripted())], &[])
}

#[test]
fn a_legacy_client_is_served_by_a_modern_server() {
    let lakh = in_front_of_modern();
    let mut peer = Peer::capable(lakh.clients, &json!({"elicitation":{}}));
    assert_eq!(text_of(&peer.ask(&call(1, "echo", &json!({"text":"hi"})))), "hi");
    let meta = super::told(&mut peer)["meta"].clone();
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert!(meta["io.modelcontextprotocol/clientCapabilities"]["elicitation"].is_object(), "{meta}");
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "peer");
    let read = peer.ask(&request(2, "resources/read", &json!({"uri":"test://one"})));
    assert_eq!(read["result"]["contents"][0]["text"], "the text of test://one");
}

#[test]
fn what_a_modern_server_requires_is_asked_of_a_legacy_client() {
    let lakh = in_front_of_modern();
    let mut peer = Peer::capable(lakh.clients, &json!({"elicitation":{}}));
    peer.say(&call(1, "ask", &json!({"text":"How many?"})));
    let question = peer.hear_message();
    assert_eq!(
        (&question["method"], &question["params"]["message"]),
        (&json!("elicitation/create"), &json!("How many?"))
    );
    peer.say(&json!({"jsonrpc":"2.0","id":question["id"],"result":{"action":"accept","content":{"n":7}}}));
    let answer = peer.hear_message();
    assert_eq!((&answer["id"], text_of(&answer)), (&json!(1), r#"{"action":"accept","content":{"n":7}}"#));
}

/// The state is the server's: it passes to the byte, both ways.
#[test]
fn a_modern_client_and_a_modern_server_see_each_others_bytes() {
    let lakh = in_front_of_modern();
    let mut peer = Peer::connect(lakh.clients);
    let result = peer.ask(&ask(1))["result"].clone();
    assert_eq!(result["resultType"], "input_required");
    let mut retry = ask(2);
    retry["params"]["requestState"] = result["requestState"].clone();
    retry["params"]["inputResponses"] = json!({"q":{"action":"accept","content":{"n":8}}});
    assert_eq!(text_of(&peer.ask(&retry)), r#"{"action":"accept","content":{"n":8}}"#);
    // Nobody here could poll for what a server that supports tasks would answer.
    let declared = json!({"roots":{},"extensions":{"io.modelcontextprotocol/tasks":{}}});
    let mut call = modern(3, "tools/call", json!({"name":"told"}), &declared);
    call["params"]["_meta"]["traceparent"] = TRACE.into();
    let told: Value = serde_json::from_str(text_of(&peer.ask(&call))).expect("JSON");
    assert_eq!(told["meta"]["traceparent"], TRACE);
    assert_eq!(told["meta"]["io.modelcontextprotocol/clientCapabilities"], json!({"roots":{}}));
    assert_eq!(told["meta"]["io.modelcontextprotocol/clientInfo"]["name"], "modern");
}

#[test]
fn a_change_at_a_modern_server_is_told_in_both_eras() {
    let lakh = in_front_of_modern();
    let (mut legacy, mut listener) = (Peer::line(lakh.clients), Peer::connect(lakh.clients));
    let wanted = json!({"notifications":{"toolsListChanged":true}});
    let acknowledged = listener.ask(&modern(7, "subscriptions/listen", wanted, &json!({})));
    assert_eq!(acknowledged["params"]["notifications"], json!({"toolsListChanged":true}));
    legacy.say(&call(1, "grow", &json!({})));
    let heard = [legacy.hear_message(), legacy.hear_message()];
    assert!(heard.iter().any(|message| message["method"] == "notifications/tools/list_changed"), "{heard:?}");
    let told = listener.hear_message();
    assert_eq!(told["method"], "notifications/tools/list_changed");
    assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7);
}

/// Whoever is told of one client is told what that has declared, to the last word; but not what cannot be kept to here.
#[test]
fn what_a_client_has_declared_reaches_the_server_of_either_era() {
    let declared = json!({"roots":{"listChanged":true},"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},
        "experimental":{"x":{"y":1}},"com.example/own":{},"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["a/b"]}}});
    let mut said = declared.clone();
    said["tasks"] = json!({"list":{}});
    let lakh = in_front_of_modern();
    let meta = super::told(&mut Peer::capable(lakh.clients, &said))["meta"].clone();
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], declared);
    let lakh = Process::in_front_of_scripted_with("sharing = \"per-session\"");
    let hello = super::told(&mut Peer::capable(lakh.clients, &said))["hello"].clone();
    assert_eq!(hello["capabilities"], declared);
    let lakh = Process::in_front_of_scripted(&[]);
    let hello = super::told(&mut Peer::capable(lakh.clients, &said))["hello"].clone();
    assert_eq!(hello["capabilities"]["experimental"], Value::Null, "what one has declared is not said for all");
}

#[test]
fn what_servers_have_beyond_the_core_is_told_in_both_eras() {
    let flags = [format!("one={}", scripted()), format!("two={} --modern", scripted())];
    let lakh = Process::in_front_of(&["--stdio", &flags[0], "--stdio", &flags[1]], &[]);
    let (experimental, extensions) = (json!({"told":{"by":"script"}}), json!({"com.example/x":{"modern":true}}));
    let discovered = Peer::connect(lakh.clients).ask(&modern(0, "server/discover", json!({}), &json!({})));
    let hello = json!({"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}});
    let opened = Peer::connect(lakh.clients).ask(&request(0, "initialize", &hello));
    for told in [discovered, opened] {
        let capabilities = &told["result"]["capabilities"];
        assert_eq!(
            (&capabilities["experimental"], &capabilities["extensions"]),
            (&experimental, &extensions),
            "{told}"
        );
    }
}
