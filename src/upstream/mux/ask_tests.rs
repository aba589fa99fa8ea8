//! What a server asks, sentence by sentence: who is asked, how many questions may wait, and what becomes of them.

use std::time::Duration;

use serde_json::json;

use super::Revision;
use super::ask::UNHEARD_BYTES_MAX;
use super::stage::{Stage, client, parcel, reply};
use crate::actor::Reply;
use crate::upstream::handle::Client;

const LEGACY: Revision = Revision::V2025_11_25;

fn stage() -> Stage {
    Stage::new(LEGACY)
}

#[test]
fn a_question_reaches_the_client_of_the_only_call_and_its_reply_the_server() {
    let mut stage = stage();
    let _waits = stage.call(parcel(LEGACY), client(r#"{"elicitation":{}}"#));
    stage.says(r#"{"jsonrpc":"2.0","id":"7","method":"elicitation/create","params":{"message":"m"}}"#);
    let question = stage.question();
    assert_eq!((&*question.method, question.params.as_deref()), ("elicitation/create", Some(r#"{"message":"m"}"#)));
    question.settle(reply(r#"{"action":"accept"}"#));
    stage.errands();
    assert_eq!(*stage.last(), json!({"jsonrpc":"2.0","id":"7","result":{"action":"accept"}}));
    stage.says(r#"{"jsonrpc":"2.0","id":8,"method":"elicitation/create"}"#);
    stage.question().settle(Reply::Error(br#"{"code":-1,"message":"no"}"#.to_vec()));
    stage.errands();
    assert_eq!(*stage.last(), json!({"jsonrpc":"2.0","id":8,"error":{"code":-1,"message":"no"}}));
}

#[test]
fn a_question_that_nobody_can_be_asked_is_refused_with_the_reason() {
    let mut stage = stage();
    let ask = r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#;
    let refused = |stage: &mut Stage, why: &str| {
        stage.says(ask);
        let message = stage.last()["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(why), "{why}: {message}");
        assert!(stage.letters().is_empty());
    };
    refused(&mut stage, "no call is in flight");
    stage.call(parcel(LEGACY), client("{}"));
    refused(&mut stage, "not declared roots");
    stage.call(parcel(LEGACY), client(r#"{"roots":{}}"#));
    refused(&mut stage, "sharing = \"per-session\"");
    stage.says(r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get"}"#);
    assert_eq!(stage.last()["error"]["code"], -32601);
}

#[test]
fn questions_are_bounded_and_void_when_their_call_is_over() {
    let mut stage = stage();
    let caller = stage.call(parcel(LEGACY), client(r#"{"roots":{}}"#));
    let number = stage.number();
    for id in 0..9 {
        stage.says(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"roots/list"}}"#));
    }
    assert!(stage.last()["error"]["message"].as_str().is_some_and(|message| message.contains("Too many")));
    let asked = stage.letters();
    assert_eq!(asked.len(), 8);
    stage.answers(number, "{}");
    stage.answer(caller.call).unwrap();
    let voided = stage.sent.texts.iter().filter(|text| text["error"]["code"] == -32603).count();
    assert_eq!(voided, 9, "one was too many, the others are void");
    let before = stage.sent.texts.len();
    drop(asked);
    stage.errands();
    assert_eq!(stage.sent.texts.len(), before, "each is replied to once");
}
#[test]
fn a_question_of_no_call_reaches_the_client_of_the_session_and_its_reply_the_server() {
    let ask = |id: u64| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"roots/list"}}"#);
    let mut stage = Stage::of_one(LEGACY, client(r#"{"roots":{}}"#));
    let asked = |stage: &Stage| std::mem::take(&mut *stage.unowned.lock().unwrap());
    stage.says(&ask(1));
    let (who, question) = asked(&stage).pop().expect("a question");
    assert_eq!((who, &*question.method), (7, "roots/list"));
    question.settle(reply(r#"{"roots":[]}"#));
    stage.errands();
    assert_eq!(*stage.last(), json!({"jsonrpc":"2.0","id":1,"result":{"roots":[]}}));
    stage.says(r#"{"jsonrpc":"2.0","id":2,"method":"elicitation/create"}"#);
    assert_eq!(stage.last()["error"]["code"], -32601, "not declared");
    for id in 10..19 {
        stage.says(&ask(id));
    }
    assert_eq!((&stage.last()["id"], &stage.last()["error"]["code"]), (&json!(18), &json!(-32603)), "eight wait");
    let waiting = asked(&stage);
    assert_eq!(waiting.len(), 8);
    stage.passes(Duration::from_secs(601));
    assert_eq!(stage.sent.texts.iter().filter(|text| text["error"]["code"] == -32603).count(), 9, "too late");
    let before = stage.sent.texts.len();
    drop(waiting);
    stage.errands();
    assert_eq!(stage.sent.texts.len(), before, "each is replied to once");
    assert!(stage.mux.deadline().is_none());
    let mut modern = Stage::of_one(LEGACY, Client { can_be_asked: false, ..client(r#"{"roots":{}}"#) });
    modern.says(&ask(1));
    assert_eq!(modern.last()["error"]["code"], -32601);
}

/// As many bytes wait as a server may leave before it is given up, and then as many more.
#[test]
fn a_server_that_asks_and_reads_no_answer_is_given_up_and_one_that_reads_is_not() {
    let ping = r#"{"jsonrpc":"2.0","id":"1","method":"ping"}"#;
    for is_stuck in [false, true] {
        let mut stage = stage();
        stage.sent.is_stuck = is_stuck;
        for _ in 0..UNHEARD_BYTES_MAX / 16 {
            stage.says(ping);
        }
        assert_eq!(stage.mux.lost.is_some(), is_stuck);
        let most = 2 * UNHEARD_BYTES_MAX + 100;
        assert!(stage.sent.stuck <= most && (!is_stuck || stage.sent.stuck > most - 200), "{}", stage.sent.stuck);
    }
}
