//! Servers that ask: the question reaches the client of the call, and its reply the server, or both are told why not.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Peer, Process, call, eventually, text_of};

#[test]
fn a_question_reaches_the_client_whose_call_it_is_and_the_reply_the_server() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut neighbour = Peer::capable(lakh.clients, &json!({"elicitation":{}}));
    let mut asked = Peer::capable(lakh.clients, &json!({"elicitation":{}}));
    asked.say(&call(1, "ask", &json!({"text":"How many?"})));
    let question = asked.hear_message();
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["message"], "How many?");
    asked.say(&json!({"jsonrpc":"2.0","id":question["id"],"result":{"action":"accept","content":{"n":7}}}));
    let answer = asked.hear_message();
    assert_eq!(answer["id"], 1);
    assert_eq!(text_of(&answer), r#"{"action":"accept","content":{"n":7}}"#);
    assert!(neighbour.is_answered(1), "another's question");
}

#[test]
fn a_client_that_cannot_be_asked_is_not_and_the_server_hears_why() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut mute = Peer::line(lakh.clients);
    let answer = mute.ask(&call(1, "ask", &json!({"text":"How many?"})));
    let error: serde_json::Value = serde_json::from_str(text_of(&answer)).expect("the error that the server got");
    assert!(error["code"].is_i64() && error["message"].is_string(), "{error}");
}

/// On a shared server nobody can tell whose question it is; the error says what would help.
#[test]
fn a_question_without_an_owner_is_refused_by_name() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut one = Peer::capable(lakh.clients, &json!({"elicitation":{}}));
    let mut other = Peer::capable(lakh.clients, &json!({"elicitation":{}}));
    other.say(&call(1, "sleep", &json!({"ms":1_500})));
    assert!(other.is_answered(2));
    let answer = one.ask(&call(1, "ask", &json!({"text":"Whose?"})));
    assert!(text_of(&answer).contains("per-session"), "{answer}");
}

/// Each client has a server of its own: the question can only be its.
#[test]
fn with_a_session_each_every_question_has_an_owner() {
    let lakh = Process::in_front_of_scripted_with("sharing = \"per-session\"");
    let mut one = Peer::capable(lakh.clients, &json!({"elicitation":{}}));
    let mut other = Peer::capable(lakh.clients, &json!({"elicitation":{}}));
    assert_ne!(super::told(&mut one)["pid"], super::told(&mut other)["pid"]);
    other.say(&call(1, "sleep", &json!({"ms":1_500})));
    one.say(&call(1, "ask", &json!({"text":"Whose?"})));
    let question = one.hear_message();
    assert_eq!(question["params"]["message"], "Whose?");
    one.say(&json!({"jsonrpc":"2.0","id":question["id"],"result":{"action":"decline"}}));
    assert_eq!(text_of(&one.hear_message()), r#"{"action":"decline"}"#);
    let pid = super::told(&mut one)["pid"].as_i64().expect("a number") as i32;
    drop(one);
    let gone = || nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_err();
    assert!(eventually(gone), "its server ends with it");
}

/// The replies that the server has had to questions of no call.
fn unowned(peer: &mut Peer) -> serde_json::Value {
    super::told(peer)["unowned"].clone()
}

#[test]
fn with_a_session_each_a_question_of_no_call_reaches_its_client() {
    let lakh = Process::in_front_of_scripted_with("sharing = \"per-session\"");
    let roots = json!({"roots":{}});
    let mut neighbour = Peer::capable(lakh.clients, &roots);
    assert_eq!(super::told(&mut neighbour)["unowned"], json!([]));
    for mut one in [Peer::capable(lakh.clients, &roots), Peer::capable_websocket(lakh.clients, &roots)] {
        assert_eq!(text_of(&one.ask(&call(1, "ask", &json!({"later":20})))), "asked later");
        let question = one.hear_message();
        assert_eq!(question["method"], "roots/list");
        one.say(&json!({"jsonrpc":"2.0","id":question["id"],"result":{"roots":[]}}));
        assert!(eventually(|| unowned(&mut one) == json!([{"roots":[]}])));
    }
    let mut mute = Peer::line(lakh.clients);
    mute.ask(&call(1, "ask", &json!({"later":0})));
    assert!(eventually(|| unowned(&mut mute)[0]["code"] == -32601), "it has declared nothing");
    assert!(neighbour.is_answered(2), "another's question");
}

/// Over HTTP it comes on the stream that a GET has opened; without one, nobody can be asked.
#[test]
fn a_question_of_no_call_comes_on_the_stream_of_the_session() {
    let lakh = Process::in_front_of_scripted_with("sharing = \"per-session\"");
    let mut client = Http::capable(lakh.clients, "2025-11-25", &json!({"roots":{}}));
    let unowned = |client: &mut Http| {
        let told = client.post(&call(9, "told", &json!({}))).json();
        serde_json::from_str::<serde_json::Value>(text_of(&told)).expect("JSON")["unowned"].clone()
    };
    client.post(&call(1, "ask", &json!({"later":0})));
    // It is asked meanwhile: with a call on its way it would be asked on that one's stream.
    sleep(Duration::from_millis(300));
    assert!(eventually(|| unowned(&mut client)[0]["code"] == -32603), "no stream, nobody to ask");
    let mut stream = client.sibling();
    assert!(stream.get("").is_stream());
    client.post(&call(2, "ask", &json!({"later":0})));
    let question = stream.event_message();
    assert_eq!(question["method"], "roots/list");
    let posted = client.post(&json!({"jsonrpc":"2.0","id":question["id"],"result":{"roots":[]}}));
    assert_eq!(posted.status, 202);
    assert!(eventually(|| unowned(&mut client)[1] == json!({"roots":[]})));
}
