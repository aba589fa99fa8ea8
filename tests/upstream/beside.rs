//! What servers say beside the answers of calls: what they take back, log, ask to be kept informed of, and what has changed
//! while nobody could be told.

use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::http::Http;
use crate::peer::{Peer, Process, call, request, scripted, text_of};

const QUIET: Duration = Duration::from_millis(300);
const PER_SESSION: &str = "sharing = \"per-session\"";

fn reply(id: &Value) -> Value {
    json!({"jsonrpc":"2.0","id":id,"result":{"action":"accept","content":{}}})
}

/// That the question is taken back, with the server's reason.
fn taken_back(question: &Value) -> Value {
    json!({"jsonrpc":"2.0","method":"notifications/cancelled",
        "params":{"requestId":question["id"],"reason":"no longer \"needed\""}})
}

fn told_over(client: &mut Http) -> Value {
    serde_json::from_str(text_of(&client.post(&call(9, "told", &json!({}))).json())).expect("JSON")
}

/// Spec 2025-11-25 basic/utilities/cancellation: either side may cancel what it has asked.
#[test]
fn a_question_that_is_taken_back_is_taken_back_from_the_client_and_its_late_reply_harms_nobody() {
    let lakh = Process::in_front_of_scripted(&[]);
    let can = json!({"elicitation":{}});
    let ask = call(1, "ask", &json!({"text":"How many?","back":30}));
    for mut peer in [Peer::capable(lakh.clients, &can), Peer::capable_websocket(lakh.clients, &can)] {
        peer.say(&ask);
        let question = peer.hear_message();
        assert_eq!(question["method"], "elicitation/create");
        assert_eq!(peer.hear_message(), taken_back(&question));
        assert_eq!(text_of(&peer.hear_message()), "taken back");
        peer.say(&reply(&question["id"]));
        assert_eq!(super::told(&mut peer)["unowned"], json!([]), "nobody waits for it");
    }
    let mut client = Http::capable(lakh.clients, "2025-11-25", &can);
    let mut caller = client.sibling();
    caller.say(&ask);
    assert!(caller.answer().is_stream());
    let question = caller.event_message();
    assert_eq!(caller.event_message(), taken_back(&question));
    assert_eq!(text_of(&caller.event_message()), "taken back");
    assert_eq!(client.post(&reply(&question["id"])).status, 202);
    assert_eq!(told_over(&mut client)["unowned"], json!([]));
    assert!(super::tells(&lakh, |line| line == "lakh_messages_ignored_total{reason=\"unasked_reply\"} 3"));
}

#[test]
fn a_question_of_no_call_is_taken_back_from_the_client_of_the_session() {
    let lakh = Process::in_front_of_scripted_with(PER_SESSION);
    let ask = call(1, "ask", &json!({"later":10,"back":40}));
    let mut peer = Peer::capable(lakh.clients, &json!({"roots":{}}));
    assert_eq!(text_of(&peer.ask(&ask)), "asked later");
    let question = peer.hear_message();
    assert_eq!(peer.hear_message(), taken_back(&question));
    peer.say(&reply(&question["id"]));
    assert_eq!(super::told(&mut peer)["unowned"], json!([]));
    let mut client = Http::capable(lakh.clients, "2025-11-25", &json!({"roots":{}}));
    let mut stream = client.sibling();
    assert!(stream.get("").is_stream());
    client.post(&ask);
    let question = stream.event_message();
    assert_eq!(stream.event_message(), taken_back(&question));
}

/// What is still asked when the call is answered is asked by nobody any more.
#[test]
fn a_question_ends_with_its_call() {
    let lakh = Process::in_front_of_scripted_with("call_ms = 30000\ninput_ms = 300");
    let mut peer = Peer::capable(lakh.clients, &json!({"elicitation":{}}));
    peer.say(&call(1, "ask", &json!({"text":"How many?"})));
    let question = peer.hear_message();
    let ended = peer.hear_message();
    assert_eq!((&ended["method"], &ended["params"]["requestId"]), (&json!("notifications/cancelled"), &question["id"]));
    assert_eq!(peer.hear_message()["error"]["data"]["reason"], "mute");
}

/// The call was answered with what its server asked: its client waits for the answer alone when it comes back.
#[test]
fn a_parked_call_whose_question_is_taken_back_is_finished_by_the_retry() {
    let lakh = Process::in_front_of_scripted(&[]);
    let ask = |id: u64, back: u64| {
        let meta = json!({"io.modelcontextprotocol/protocolVersion":"2026-07-28",
            "io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}});
        let arguments = json!({"text":"How many?","back":back});
        request(id, "tools/call", &json!({"name":"ask","arguments":arguments,"_meta":meta}))
    };
    let mut peer = Peer::connect(lakh.clients);
    for back in [0, 200] {
        let result = peer.ask(&ask(1, back))["result"].clone();
        assert_eq!(result["resultType"], "input_required");
        let key = result["inputRequests"].as_object().and_then(|map| map.keys().next().cloned()).expect("a question");
        let mut retry = ask(2, back);
        retry["params"]["requestState"] = result["requestState"].clone();
        // Too late, or not at all.
        retry["params"]["inputResponses"] = if back == 0 { json!({key:{"action":"accept"}}) } else { json!({}) };
        let mut answer = peer.ask(&retry);
        while answer["result"]["resultType"] == "input_required" {
            retry["params"]["requestState"] = answer["result"]["requestState"].clone();
            answer = peer.ask(&retry);
        }
        assert_eq!(text_of(&answer), "taken back");
    }
    assert_eq!(super::told(&mut Peer::line(lakh.clients))["unowned"], json!([]), "the server heard no reply");
}

#[test]
fn steps_towards_a_reply_reach_the_server_that_asked_under_its_own_token() {
    let flags = [format!("one={}", scripted()), format!("two={}", scripted())];
    let lakh = Process::in_front_of(&["--stdio", &flags[0], "--stdio", &flags[1]], &[]);
    let mut peer = Peer::capable(lakh.clients, &json!({"elicitation":{}}));
    let mut client = Http::capable(lakh.clients, "2025-11-25", &json!({"elicitation":{}}));
    let told = |peer: &mut Peer, name: &str| -> Value {
        serde_json::from_str(text_of(&peer.ask(&call(9, &format!("{name}_told"), &json!({}))))).expect("JSON")
    };
    let step = |question: &Value, progress: u64| {
        let token = question["params"]["_meta"]["progressToken"].clone();
        assert!(token.is_number() && token == question["id"], "ours: {question}");
        let params = json!({"progressToken":token,"progress":progress,"total":2.5,"message":"\u{e4}","x":[1.0]});
        json!({"jsonrpc":"2.0","method":"notifications/progress","params":params})
    };
    // The same for both, a number and a text.
    for (at, token) in [json!(7), json!("7")].into_iter().enumerate() {
        let mut questions = Vec::new();
        for (id, tool) in [(1, "one_ask"), (2, "two_ask")] {
            peer.say(&call(id, tool, &json!({"text":tool,"token":token})));
            questions.push(peer.hear_message());
        }
        assert_ne!(questions[0]["id"], questions[1]["id"]);
        for (question, progress) in questions.iter().zip([1, 2]) {
            peer.say(&step(question, progress));
            peer.say(&reply(&question["id"]));
            assert!(peer.hear_message()["result"].is_object());
        }
        for (name, progress) in [("one", 1), ("two", 2)] {
            let expected = json!({"progressToken":token,"progress":progress,"total":2.5,"message":"\u{e4}","x":[1.0]});
            assert_eq!(told(&mut peer, name)["steps"][at], expected);
        }
        // Nobody asks any more.
        peer.say(&step(&questions[0], 3));
    }
    let mut caller = client.sibling();
    caller.say(&call(1, "one_ask", &json!({"text":"?","token":"web"})));
    assert!(caller.answer().is_stream());
    let question = caller.event_message();
    assert_eq!(client.post(&step(&question, 1)).status, 202);
    assert_eq!(client.post(&reply(&question["id"])).status, 202);
    assert!(caller.event_message()["result"].is_object());
    let steps = told(&mut peer, "one")["steps"].clone();
    assert_eq!((steps.as_array().map(Vec::len), &steps[2]["progressToken"]), (Some(3), &json!("web")));
    assert!(super::tells(&lakh, |line| line == "lakh_messages_ignored_total{reason=\"unasked_progress\"} 2"));
}

#[test]
fn with_a_session_each_what_a_server_logs_beside_its_calls_reaches_its_client_as_loud_as_that_wants() {
    let lakh = Process::in_front_of_scripted_with(PER_SESSION);
    let log =
        |level: &str, method: &str| call(1, "log", &json!({"text":level,"level":level,"method":method,"later":30}));
    let mut neighbour = Peer::line(lakh.clients);
    super::told(&mut neighbour);
    let set_level = request(2, "logging/setLevel", &json!({"level":"warning"}));
    for mut peer in [Peer::line(lakh.clients), Peer::websocket(lakh.clients)] {
        for level in ["debug", "info", "error"] {
            assert_eq!(text_of(&peer.ask(&log(level, "notifications/message"))), "logged");
            if level != "debug" {
                assert_eq!(peer.hear_message()["params"]["data"], level);
            }
        }
        peer.ask(&set_level);
        peer.ask(&log("info", "notifications/message"));
        peer.ask(&log("none", "notifications/of_its_own"));
        let heard = peer.hear_message();
        assert_eq!((&heard["method"], &heard["params"]["data"]), (&json!("notifications/of_its_own"), &json!("none")));
        assert!(peer.hears_nothing(QUIET), "not so loud");
    }
    let mut client = Http::open(lakh.clients, "2025-11-25");
    let mut stream = client.sibling();
    assert!(stream.get("").is_stream());
    client.post(&log("error", "notifications/message"));
    assert_eq!(stream.event_message()["params"]["data"], "error");
    assert!(neighbour.hears_nothing(QUIET), "another's");
}

#[test]
fn on_a_shared_server_what_belongs_to_no_call_is_counted_and_reaches_nobody() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peer = Peer::line(lakh.clients);
    peer.ask(&call(1, "log", &json!({"text":"x","method":"notifications/of_its_own","later":30})));
    assert!(super::tells(&lakh, |line| line == "lakh_upstream_strays_total{upstream=\"scripted\"} 1"));
    assert!(peer.hears_nothing(QUIET));
}

fn subscribe(client: &mut Http, uri: &str) {
    assert_eq!(client.post(&request(70, "resources/subscribe", &json!({"uri":uri}))).json()["result"], json!({}));
}

#[test]
fn who_had_no_stream_is_told_on_the_next_one_which_watched_resources_have_changed() {
    for sharing in ["", PER_SESSION] {
        let lakh = Process::in_front_of_scripted_with(sharing);
        let mut client = Http::open(lakh.clients, "2025-11-25");
        for uri in ["test://one", "test://two", "test://item/1"] {
            subscribe(&mut client, uri);
        }
        let touch = |client: &mut Http, uri: &str, part: &str| {
            let touched = client.post(&call(1, "touch", &json!({"uri":uri,"part":part}))).json();
            assert_eq!(text_of(&touched), "touched");
            // Changes are told each tenth of a second: a call's time is not enough for two to be one.
            std::thread::sleep(Duration::from_millis(150));
        };
        for part in ["/a", "/b", ""] {
            touch(&mut client, "test://one", part);
        }
        touch(&mut client, "test://item/1", "");
        let mut stream = client.sibling();
        assert!(stream.get("").is_stream());
        touch(&mut client, "test://two", "");
        let told = std::iter::repeat_with(|| stream.event_message()["params"]["uri"].to_string());
        let mut told: Vec<String> = told.take_while(|uri| uri != "\"test://two\"").collect();
        // On a busy machine one of the changes may come late.
        told.sort();
        told.dedup();
        assert_eq!(told, ["\"test://item/1\"", "\"test://one\""]);
        let mut other = Http::open(lakh.clients, "2025-11-25");
        for uri in ["test://one", "test://two"] {
            subscribe(&mut other, uri);
            touch(&mut other, uri, "");
        }
        other.post(&request(2, "resources/unsubscribe", &json!({"uri":"test://one"})));
        let mut stream = other.sibling();
        assert!(stream.get("").is_stream());
        assert_eq!(stream.event_message()["params"]["uri"], "test://two", "it watches the other one no more");
    }
}

#[test]
fn a_clients_own_server_that_breaks_is_watched_again_and_may_have_changed() {
    let lakh = Process::in_front_of_scripted_with(PER_SESSION);
    let mut peer = Peer::line(lakh.clients);
    for uri in ["test://one", "test://two"] {
        assert_eq!(peer.ask(&request(70, "resources/subscribe", &json!({"uri":uri})))["result"], json!({}));
    }
    assert_eq!(peer.ask(&request(71, "logging/setLevel", &json!({"level":"debug"})))["result"], json!({}));
    let first = super::told(&mut peer)["pid"].clone();
    peer.say(&call(1, "lie", &json!({"how":"die"})));
    assert_eq!(peer.hear_message()["error"]["data"]["reason"], "exited");
    // Nobody asks anything, and yet.
    let mut uris = [peer.hear_message(), peer.hear_message()].map(|told| told["params"]["uri"].to_string());
    uris.sort();
    assert_eq!(uris, ["\"test://one\"", "\"test://two\""]);
    let told = super::told(&mut peer);
    assert_ne!(told["pid"], first);
    assert_eq!((&told["watched"], &told["levels"]), (&json!({"test://one":1,"test://two":1}), &json!(["debug"])));
    peer.say(&call(1, "touch", &json!({"uri":"test://one"})));
    let mut heard = [peer.hear_message(), peer.hear_message()];
    heard.sort_by_key(|message| message["id"].is_null());
    assert_eq!(heard[1]["params"]["uri"], "test://one");
    // For who has left it is not opened again.
    let pid = told["pid"].as_i64().expect("a number") as i32;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it is there");
    drop(peer);
    assert!(super::tells(&lakh, |line| line == "lakh_upstream_sessions{upstream=\"scripted\"} 0"));
}
