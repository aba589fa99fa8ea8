//! What a server asks, sentence by sentence: who is asked, how many questions may wait, and what becomes of them.

use std::time::Duration;

use serde_json::json;

use super::Revision;
use super::ask::UNHEARD_BYTES_MAX;
use super::stage::{Stage, client, parcel, reply};
use crate::actor::{Letter, Reply, Word};
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
    let asked = |stage: &Stage| -> Vec<_> {
        let words = std::mem::take(&mut *stage.unowned.lock().unwrap()).into_iter();
        words
            .filter_map(|(who, word)| if let Word::Ask(question) = word { Some((who, *question)) } else { None })
            .collect()
    };
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

/// What a client or the session was told is taken back: the raw reason, if it is this question.
fn taken_back(word: &Word, asked: &crate::actor::Question) -> Option<Box<str>> {
    match word {
        Word::TakeBack { question, reason, .. } if asked.is(question) => reason.clone(),
        _ => None,
    }
}

#[test]
fn what_a_server_takes_back_is_taken_back_from_whoever_was_asked() {
    let roots = || client(r#"{"roots":{}}"#);
    let back =
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"\u0061","reason":"\u0062"}}"#;
    let ask = r#"{"jsonrpc":"2.0","id":"a","method":"roots/list"}"#;
    let mut stage = stage();
    let caller = stage.call(parcel(LEGACY), roots());
    let number = stage.number();
    stage.says(ask);
    let question = stage.question();
    stage.says(&back.replace("u0061", "u0062"));
    assert!(stage.letters().is_empty(), "another one");
    stage.says(back);
    match &stage.letters()[..] {
        [Letter::Word(word)] => assert_eq!(taken_back(word, &question).as_deref(), Some(r#""\u0062""#)),
        _ => panic!("one word"),
    }
    let before = stage.sent.texts.len();
    question.settle(reply("{}"));
    stage.errands();
    assert_eq!(stage.sent.texts.len(), before, "the server hears no late reply");
    stage.answers(number, "{}");
    stage.answer(caller.call).unwrap();
    for late in [true, false] {
        let mut stage = Stage::of_one(LEGACY, roots());
        stage.says(ask);
        let words = |stage: &Stage| std::mem::take(&mut *stage.unowned.lock().unwrap());
        let Some((7, Word::Ask(question))) = words(&stage).pop() else { panic!("a question") };
        if late {
            stage.passes(Duration::from_secs(601));
        } else {
            stage.mux.end(
                &crate::upstream::trouble::Trouble::new(super::TroubleKind::Lost, ""),
                stage.now,
                &stage.sent,
            );
        }
        match &words(&stage)[..] {
            [(7, word)] => assert!(taken_back(word, &question).is_some()),
            _ => panic!("one word"),
        }
    }
}

#[test]
fn a_server_that_asks_and_takes_back_without_end_is_refused_until_that_is_read() {
    let most = 2 * crate::actor::Ticket::UNREAD_MAX as usize;
    let ask = r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#;
    let flood = |stage: &mut Stage| {
        for _ in 0..1_000 {
            stage.says(ask);
            stage.says(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
        }
        assert!(stage.last()["error"]["message"].as_str().is_some_and(|message| message.contains("Too many")));
    };
    let mut stage = stage();
    let _waits = stage.call(parcel(LEGACY), client(r#"{"roots":{}}"#));
    for _ in 0..2 {
        flood(&mut stage);
        // They are read, and there is room again.
        assert_eq!(stage.letters().len(), most);
    }
    let mut stage = Stage::of_one(LEGACY, client(r#"{"roots":{}}"#));
    for _ in 0..2 {
        flood(&mut stage);
        assert_eq!(std::mem::take(&mut *stage.unowned.lock().unwrap()).len(), most);
    }
}

#[test]
fn steps_reach_the_server_under_the_token_that_it_gave_if_it_gave_one_and_reads() {
    let mut stage = stage();
    let _waits = stage.call(parcel(LEGACY), client(r#"{"roots":{}}"#));
    for (id, meta) in [(1, r#"{"progressToken":"\u0041"}"#), (2, "{}")] {
        stage.says(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"roots/list","params":{{"_meta":{meta}}}}}"#));
    }
    let mut questions: Vec<_> = stage.letters();
    let mut next = || match questions.remove(0) {
        Letter::Ask { question, .. } => question,
        _ => panic!("a question"),
    };
    let (wants, does_not) = (next(), next());
    let before = stage.sent.texts.len();
    does_not.progress("\"progress\":1".into());
    stage.errands();
    assert_eq!(stage.sent.texts.len(), before);
    wants.progress("\"progress\":1.5".into());
    stage.errands();
    let params = json!({"progressToken":"A","progress":1.5});
    assert_eq!(*stage.last(), json!({"jsonrpc":"2.0","method":"notifications/progress","params":params}));
    stage.sent.stuck = UNHEARD_BYTES_MAX;
    wants.progress("\"progress\":2".into());
    stage.errands();
    assert_eq!(stage.sent.texts.len(), before + 1);
}

#[test]
fn what_belongs_to_no_call_reaches_the_one_client_that_can_be_told_and_nobody_on_a_shared_session() {
    let text =
        |method: &str| format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{"level":"error"}}}}"#);
    let mut stage = Stage::of_one(LEGACY, client("{}"));
    stage.says(&text("message"));
    stage.says(&text("own"));
    let told: Vec<_> = std::mem::take(&mut *stage.unowned.lock().unwrap());
    let levels = told.iter().map(|(who, word)| match word {
        Word::Notice { level, .. } => (*who, *level),
        _ => panic!("a notice"),
    });
    assert_eq!(levels.collect::<Vec<_>>(), [(7, Some(crate::mcp::Level::Error as u8)), (7, None)]);
    for _ in 0..100 {
        stage.says(&text("own"));
    }
    let most = crate::actor::Ticket::UNREAD_MAX as usize;
    assert_eq!(stage.unowned.lock().unwrap().len(), most - 2, "they wait to be read");
    assert_eq!(stage.strays(), 0);
    let modern = Client { can_be_asked: false, ..client("{}") };
    for mut stage in [Stage::new(LEGACY), Stage::of_one(LEGACY, modern)] {
        stage.says(&text("message"));
        stage.says(&text("own"));
        assert_eq!((stage.strays(), stage.unowned.lock().unwrap().len()), (1, 0));
    }
}
