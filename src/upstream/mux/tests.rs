//! The multiplexer, sentence by sentence: within one era.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;

use super::stage::{LEVELS, Stage, client, parcel, watcher};
use super::*;
use crate::actor::Letter;
use crate::mcp::{Entry, Level, List, Offer, Parcel};
use crate::upstream::front;
use crate::upstream::handle::{Client, Task};

const LEGACY: Revision = Revision::V2025_11_25;

fn stage() -> Stage {
    Stage::new(LEGACY)
}

fn with_progress() -> Parcel {
    Parcel { progress: true, ..parcel(LEGACY) }
}

fn listening(level: Level) -> Parcel {
    Parcel { level: Some(level), ..parcel(LEGACY) }
}

/// A log message of this level.
fn log(level: Level) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{}","data":1}}}}"#,
        level.as_str()
    )
}

#[test]
fn a_request_goes_out_under_our_number_with_its_bytes_untouched() {
    let mut stage = stage();
    let meta = r#""traceparent":"00-a","io.modelcontextprotocol/x":1"#.into();
    stage.call(Parcel { meta, ..with_progress() }, Client::default());
    let number = stage.number();
    assert_eq!(stage.last()["params"]["_meta"]["progressToken"], number);
    assert_eq!(stage.last()["params"]["_meta"]["traceparent"], "00-a");
    stage.call(parcel(LEGACY), Client::default());
    assert_eq!(stage.last()["params"], json!({"name":"echo","arguments":{"a":1.0}}), "no _meta where none is needed");
    assert!(number < 1 << 53 && number != stage.number());
}

#[test]
fn each_answer_reaches_its_own_call_whatever_their_order() {
    let mut stage = stage();
    let calls: Vec<_> = (0..50).map(|_| (stage.call(parcel(LEGACY), Client::default()), stage.number())).collect();
    assert_eq!(stage.upstream.counts.in_flight.load(Relaxed), 50);
    for (caller, number) in calls.into_iter().rev() {
        stage.answers(number, &format!(r#"{{"is":{number} }}"#));
        assert_eq!(stage.answer(caller.call), Ok(json!({ "is": number })));
    }
    assert_eq!((stage.strays(), stage.seats.taken()), (0, 0));
    assert_eq!(stage.upstream.counts.in_flight.load(Relaxed), 0);
}

#[test]
fn an_error_of_the_server_passes_as_it_came() {
    let mut stage = stage();
    let caller = stage.call(parcel(LEGACY), Client::default());
    stage
        .says(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":7,"message":"m","data":[1]}}}}"#, stage.number()));
    assert_eq!(stage.answer(caller.call), Err(json!({"code":7,"message":"m","data":[1]})));
}

#[test]
fn answers_to_nobody_second_answers_and_ids_of_another_type_harm_nobody() {
    let mut stage = stage();
    let done = stage.call(parcel(LEGACY), Client::default());
    let first = stage.number();
    stage.answers(first, "{}");
    stage.answer(done.call).unwrap();
    let waits = stage.call(parcel(LEGACY), Client::default());
    let number = stage.number();
    for id in [first.to_string(), format!("\"{number}\""), format!("{number}.0"), "7".into(), "-1".into(), "1e3".into()]
    {
        stage.says(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"lie":1}}}}"#));
    }
    stage.says(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#);
    stage.says("no JSON at all");
    assert_eq!(stage.letters().len(), 0);
    assert_eq!(stage.strays(), 8);
    stage.answers(number, r#"{"true":1}"#);
    assert_eq!(stage.answer(waits.call), Ok(json!({"true":1})));
}

#[test]
fn an_answer_on_anothers_stream_is_nobodys() {
    let mut stage = Stage::with(LEGACY, Knobs::default(), true);
    let one = stage.call(parcel(LEGACY), Client::default());
    let number = stage.number();
    let unanswered = stage.call(parcel(LEGACY), Client::default());
    let other = stage.number();
    stage.says_on(Some(other), &format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{}}}}"#));
    assert_eq!(stage.answer(unanswered.call).unwrap_err()["data"]["reason"], "garbage", "its own will not come");
    assert_eq!(stage.strays(), 1);
    stage.says_on(Some(number), r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"unread"}}"#);
    assert_eq!(
        stage.answer(one.call).unwrap_err()["code"],
        -32700,
        "an error without an id is for its stream's request"
    );
}

#[test]
fn a_message_with_a_result_and_an_error_fails_its_call_by_name() {
    let mut stage = stage();
    let caller = stage.call(parcel(LEGACY), Client::default());
    let number = stage.number();
    stage.says(&format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{}},"error":{{"code":1,"message":"x"}}}}"#));
    assert_eq!(stage.answer(caller.call).unwrap_err()["data"]["reason"], "garbage");
}

#[test]
fn progress_reaches_its_call_without_our_token_and_only_if_it_is_wanted() {
    let mut stage = stage();
    let caller = stage.call(with_progress(), Client::default());
    let number = stage.number();
    let step = |token: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":0.5,"progressToken":{token},"message":"\u0041","x":[1 ]}}}}"#
        )
    };
    stage.says(&step(&number.to_string()));
    match &stage.letters()[..] {
        [Letter::Progress { call, fragment }] => {
            assert_eq!((*call, &**fragment), (caller.call, r#""progress":0.5,"message":"\u0041","x":[1 ]"#));
        }
        _ => panic!("one step"),
    }
    stage.call(parcel(LEGACY), Client::default());
    stage.says(&step(&stage.number().to_string()));
    assert!(stage.letters().is_empty(), "not wanted");
    for token in [format!("\"{number}\""), "0".into(), "null".into()] {
        stage.says(&step(&token));
    }
    assert_eq!((stage.letters().len(), stage.strays()), (0, 3));
}

#[test]
fn a_cancelled_call_is_cancelled_at_the_server_and_its_late_answer_is_no_stray() {
    let mut stage = stage();
    let caller = stage.call(parcel(LEGACY), Client::default());
    let number = stage.number();
    drop(caller.cancel);
    stage.errands();
    assert_eq!(stage.last()["method"], "notifications/cancelled");
    assert_eq!(stage.last()["params"], json!({ "requestId": number }));
    assert_eq!(stage.seats.taken(), 0);
    stage.answers(number, "{}");
    assert_eq!((stage.letters().len(), stage.strays()), (0, 0));
}

#[test]
fn a_call_that_was_cancelled_before_it_was_sent_is_not_sent() {
    let mut stage = stage();
    let (ticket, caller) = stage.ticket();
    drop(caller);
    let place = stage.seats.take().unwrap();
    stage.errand(Errand::Call(Box::new(Task::new(parcel(LEGACY), ticket, place, Client::default()))));
    assert!(stage.sent.texts.is_empty() && stage.letters().is_empty());
    assert_eq!(stage.seats.taken(), 0);
}

#[test]
fn a_log_message_reaches_the_only_call_if_it_is_loud_enough() {
    let mut stage = stage();
    let caller = stage.call(listening(Level::Warning), Client::default());
    for level in LEVELS {
        stage.says(&log(level));
    }
    match &stage.letters()[..] {
        [Letter::Notice { call, message }] => {
            assert_eq!((*call, &**message), (caller.call, log(Level::Error).as_bytes()));
        }
        _ => panic!("one of two"),
    }
    stage.call(parcel(LEGACY), Client::default());
    stage.says(&log(Level::Error));
    assert!(stage.letters().is_empty(), "two calls: nobody knows whose it is");
    stage.says_on(Some(stage.number()), &log(Level::Error));
    assert_eq!(stage.letters().len(), 1, "the stream says whose it is");
}

#[test]
fn changes_are_collected_once() {
    let mut stage = stage();
    for method in ["tools", "prompts", "tools"] {
        stage.says(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}/list_changed"}}"#));
    }
    assert_eq!(stage.mux.changed, Topics(Topics::TOOLS.0 | Topics::PROMPTS.0));
    let updated = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a://\u0062"}}"#;
    stage.says(updated);
    assert!(stage.mux.updated.is_empty(), "nobody watches");
    stage.errand(Errand::Watch { uri: "a://b".into(), task: None, client: watcher(1) });
    stage.says(updated);
    stage.says(updated);
    assert_eq!(stage.mux.updated, ["a://b".into()]);
}

#[test]
fn a_resource_is_subscribed_to_with_its_first_watcher_and_left_with_its_last() {
    let mut stage = stage();
    let watch = |stage: &mut Stage, client| {
        let (ticket, caller) = stage.ticket();
        let place = stage.seats.take().unwrap();
        stage.errand(Errand::Watch { uri: "a://b".into(), task: Some((ticket, place)), client: watcher(client) });
        caller
    };
    let (one, two) = (watch(&mut stage, 1), watch(&mut stage, 2));
    assert_eq!(stage.sent.texts.len(), 1);
    assert_eq!(
        (&stage.last()["method"], &stage.last()["params"]["uri"]),
        (&json!("resources/subscribe"), &json!("a://b"))
    );
    assert!(stage.letters().is_empty(), "they wait for the server's word");
    stage.answers(stage.number(), "{}");
    assert_eq!(stage.letters().len(), 2);
    let three = watch(&mut stage, 1);
    stage.answer(three.call).unwrap();
    for client in [1, 1, 7] {
        stage.errand(Errand::Unwatch { uri: "a://b".into(), client, place: None });
    }
    assert_eq!(stage.sent.texts.len(), 1);
    stage.errand(Errand::Unwatch { uri: "a://b".into(), client: 2, place: None });
    assert_eq!(stage.last()["method"], "resources/unsubscribe");
    drop((one, two));
    stage.answers(stage.number(), "{}");
    let refused = watch(&mut stage, 3);
    stage.says(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32002,"message":"no"}}}}"#, stage.number()));
    assert_eq!(stage.answer(refused.call).unwrap_err()["code"], -32002);
    watch(&mut stage, 4);
    assert_eq!(stage.last()["method"], "resources/subscribe", "asked anew");
}

#[test]
fn a_ping_is_answered_with_its_own_id() {
    let mut stage = stage();
    stage.says(r#"{"jsonrpc":"2.0","id":"\u0041","method":"ping"}"#);
    assert_eq!(*stage.last(), json!({"jsonrpc":"2.0","id":"A","result":{}}));
}

#[test]
fn silence_ends_a_call_by_name_and_progress_keeps_it_alive_for_a_while() {
    let knobs = Knobs { call: Duration::from_secs(10), call_max: Duration::from_secs(25), ..Knobs::default() };
    let mut stage = Stage::with(LEGACY, knobs, false);
    let mute = stage.call(parcel(LEGACY), Client::default());
    let silent = stage.number();
    let talks = stage.call(parcel(LEGACY), Client::default());
    let number = stage.number();
    let step = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{number},"progress":1}}}}"#
    );
    stage.passes(Duration::from_secs(9));
    stage.says(&step);
    assert!(stage.letters().is_empty());
    stage.passes(Duration::from_secs(2));
    let error = stage.answer(mute.call).unwrap_err();
    assert_eq!((&error["data"]["reason"], &error["data"]["upstream"]), (&json!("mute"), &json!("files")));
    assert_eq!(stage.last()["params"]["requestId"], silent);
    for _ in 0..2 {
        stage.passes(Duration::from_secs(5));
        stage.says(&step);
        assert!(stage.letters().is_empty());
    }
    stage.passes(Duration::from_secs(5));
    assert_eq!(stage.answer(talks.call).unwrap_err()["data"]["reason"], "mute", "not for ever");
}

#[test]
fn what_the_transport_says_besides_is_nobodys_call() {
    let mut stage = stage();
    let sent = stage.call(parcel(LEGACY), Client::default());
    // Pongs that the server does not take.
    stage.sent.put += 10_000;
    stage.sent.stuck += 10_000;
    stage.mux.end(&Trouble::new(TroubleKind::Lost, "reset"), stage.now, &stage.sent);
    let error = stage.answer(sent.call).unwrap_err();
    assert!(error["message"].as_str().is_some_and(|message| message.contains("may have had effects")), "{error}");
}

#[test]
fn the_end_of_a_link_fails_what_was_sent_and_keeps_what_was_not_once() {
    let mut stage = stage();
    stage.sent.is_stuck = true;
    let sent = stage.call(parcel(LEGACY), Client::default());
    let unsent = stage.call(parcel(LEGACY), Client::default());
    // The server has taken some of the first.
    stage.sent.stuck -= 10;
    let lost = Trouble::new(TroubleKind::Lost, "reset");
    stage.mux.end(&lost, stage.now, &stage.sent);
    let error = stage.answer(sent.call).unwrap_err();
    assert!(error["message"].as_str().is_some_and(|message| message.contains("may have had effects")), "{error}");
    stage.sent = stage::Sent::default();
    stage.mux.reopen(None, stage.now, &mut stage.sent);
    assert_eq!(stage.last()["method"], "tools/call");
    let number = stage.number();
    stage.sent.is_stuck = true;
    stage.mux.end(&lost, stage.now, &stage.sent);
    stage.answer(unsent.call).unwrap_err();
    stage.answers(number, "{}");
    assert!(stage.letters().is_empty(), "what is over on one link is over on the next");
}

#[test]
fn a_lost_session_keeps_the_call_that_was_turned_away_and_no_other() {
    let mut stage = Stage::with(LEGACY, Knobs::default(), true);
    let away = stage.call(parcel(LEGACY), Client::default());
    let number = stage.number();
    let other = stage.call(parcel(LEGACY), Client::default());
    stage.fails(Some(number), Trouble::new(TroubleKind::SessionLost, ""));
    let trouble = stage.mux.lost.clone().expect("the link is of no use");
    stage.mux.end(&trouble, stage.now, &stage.sent);
    assert_eq!(stage.answer(other.call).unwrap_err()["data"]["reason"], "lost");
    stage.mux.reopen(None, stage.now, &mut stage.sent);
    let number = stage.number();
    stage.fails(Some(number), Trouble::new(TroubleKind::SessionLost, ""));
    assert_eq!(stage.answer(away.call).unwrap_err()["data"]["reason"], "session_lost", "once is enough");
}

#[test]
fn too_many_calls_are_refused_by_name() {
    let front = front::Knobs { queue_max: 0, ..front::Knobs::default() };
    let mut stage = Stage::with(LEGACY, Knobs { in_flight_max: 1, front, ..Knobs::default() }, false);
    stage.call(parcel(LEGACY), Client::default());
    let refused = stage.call(parcel(LEGACY), Client::default());
    let error = stage.answer(refused.call).unwrap_err();
    assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(503), &json!("queue_full")));
}

#[test]
fn what_is_used_is_counted_by_tool() {
    let mut stage = stage();
    let entry = Entry { key: "echo".into(), text: "{}".into() };
    let mut offer = Offer::default();
    offer.lists[List::Tools.index()].push(entry);
    stage.upstream.set_offer(&std::sync::Arc::new(offer));
    for name in ["echo", "nothing that it offers", "nor this", "echo"] {
        stage.call(Parcel { name: name.into(), ..parcel(LEGACY) }, Client::default());
        stage.answers(stage.number(), "{}");
    }
    stage.passes(Duration::from_secs(2));
    let uses = stage.upstream.counts.uses();
    let mut uses: Vec<_> = uses.iter().map(|(name, uses)| (name, uses.calls)).collect();
    uses.sort_unstable();
    assert_eq!(uses, [("echo", 2), ("other", 2)]);
    assert!(stage.mux.deadline().is_none(), "nothing waits");
}

const ASK: &str = r#"{"jsonrpc":"2.0","id":"7","method":"elicitation/create","params":{"message":"m"}}"#;

#[test]
fn what_is_said_of_a_call_that_was_given_up_reaches_nobody_else() {
    let knobs = Knobs { call: Duration::from_secs(10), ..Knobs::default() };
    for silent in [false, true] {
        let mut stage = Stage::with(LEGACY, knobs.clone(), false);
        let gone = stage.call(parcel(LEGACY), client(r#"{"elicitation":{}}"#));
        let number = stage.number();
        if silent {
            stage.passes(Duration::from_secs(11));
            stage.answer(gone.call).unwrap_err();
        } else {
            drop(gone.cancel);
            stage.errands();
        }
        stage.call(parcel(LEGACY), client(r#"{"elicitation":{}}"#));
        let secret = r#"{"jsonrpc":"2.0","method":"notifications/other","params":{"secret":1}}"#;
        for text in [ASK, &log(Level::Error), secret] {
            stage.says(text);
        }
        assert!(stage.letters().is_empty(), "the server may still be at work on the first");
        assert_eq!((&stage.last()["id"], &stage.last()["error"]["code"]), (&json!("7"), &json!(-32603)));
        stage.answers(number, "{}");
        stage.says(ASK);
        assert_eq!(&*stage.question().method, "elicitation/create", "it is done with it");
    }
}

#[test]
fn a_server_is_not_at_work_on_a_cancelled_call_for_ever_nor_on_the_next_link() {
    let gone = |count: usize| {
        let mut stage = stage();
        for _ in 0..count {
            drop(stage.call(parcel(LEGACY), Client::default()).cancel);
            stage.errands();
        }
        stage
    };
    // More than are remembered by number.
    for count in [1, 2 * CANCELLED_MAX] {
        let mut stage = gone(count);
        stage.passes(HAUNTS - Duration::from_secs(1));
        stage.call(parcel(LEGACY), client(r#"{"elicitation":{}}"#));
        stage.says(ASK);
        assert!(stage.letters().is_empty());
        stage.passes(Duration::from_secs(1));
        stage.says(ASK);
        drop(stage.question());
        let mut stage = gone(count);
        stage.mux.end(&Trouble::new(TroubleKind::Lost, ""), stage.now, &stage.sent);
        stage.mux.reopen(None, stage.now, &mut stage.sent);
        stage.call(parcel(LEGACY), client(r#"{"elicitation":{}}"#));
        stage.says(ASK);
        drop(stage.question());
    }
}

#[test]
fn a_call_that_was_sent_is_not_sent_again_whatever_else_waits_on_the_link() {
    let mut stage = stage();
    stage.sent.is_stuck = true;
    let others: Vec<_> = (0..2).map(|_| stage.call(parcel(LEGACY), Client::default())).collect();
    let sent = stage.call(parcel(LEGACY), Client::default());
    stage.sent.stuck = 0;
    for other in others {
        drop(other.cancel);
    }
    stage.errands();
    for id in 0..9 {
        stage.says(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#));
    }
    stage.mux.end(&Trouble::new(TroubleKind::Lost, "reset"), stage.now, &stage.sent);
    assert_eq!(stage.answer(sent.call).unwrap_err()["data"]["reason"], "lost");
    assert!(stage.mux.gate.take_kept().is_empty());
}

#[test]
fn a_result_under_another_id_fails_the_request_on_whose_stream_it_came() {
    for id in ["\"7\"", "null", "999999999"] {
        let mut stage = Stage::with(LEGACY, Knobs::default(), true);
        let caller = stage.call(parcel(LEGACY), Client::default());
        stage.says_on(Some(stage.number()), &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
        assert_eq!(stage.answer(caller.call).unwrap_err()["data"]["reason"], "garbage", "{id}");
        assert_eq!(stage.strays(), 1);
    }
}

#[test]
fn progress_that_says_nothing_of_progress_is_a_stray() {
    let mut stage = stage();
    stage.call(with_progress(), Client::default());
    let number = stage.number();
    for more in ["", r#","message":"m""#] {
        stage.says(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{number}{more}}}}}"#
        ));
    }
    assert_eq!((stage.letters().len(), stage.strays()), (0, 2));
}

#[test]
fn parts_of_what_is_watched_are_told_and_nothing_else_is() {
    let mut stage = stage();
    stage.errand(Errand::Watch { uri: "a://b".into(), task: None, client: watcher(1) });
    let long = format!("a://b/{}", "x".repeat(20_000));
    for uri in ["a://b/c/d", "a://b?c", "a://bc", "a://", "a://b", &long] {
        let params = json!({ "uri": uri });
        stage.says(&json!({"jsonrpc":"2.0","method":"notifications/resources/updated","params":params}).to_string());
    }
    assert_eq!(stage.mux.updated.iter().map(|uri| &**uri).collect::<Vec<_>>(), ["a://b/c/d", "a://b?c", "a://b"]);
}
