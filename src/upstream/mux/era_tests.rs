//! The multiplexer between the eras: what each side is told in the other's words.

use serde_json::{Value, json};

use super::stage::{Stage, client, parcel, reading, reply, watcher};
use super::*;
use crate::actor::Reply;
use crate::mcp::{Level, Parcel};
use crate::upstream::handle::Client;

const LEGACY: Revision = Revision::V2025_11_25;
const MODERN: Revision = Revision::V2026_07_28;

const META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"roots":{}},"traceparent":"00-a""#;

/// A call of a modern client that can be asked.
fn modern() -> Parcel {
    Parcel { meta: META.into(), ..parcel(MODERN) }
}

/// The second try of a call.
fn retry(state: &str, responses: &Value) -> Parcel {
    let first = modern();
    let params = format!("{},\"requestState\":{},\"inputResponses\":{responses}", first.params, json!(state));
    Parcel { params: params.into(), ..first }
}

const ASK: &str = r#"{"jsonrpc":"2.0","id":"s1","method":"elicitation/create","params":{"message":"m"}}"#;

/// A legacy server has asked the client of a modern call: the state, and the name of the question.
fn asked(stage: &mut Stage) -> (String, String, u64) {
    let caller = stage.call(modern(), Client::default());
    let number = stage.number();
    stage.says(ASK);
    let result = stage.answer(caller.call).expect("a result that asks");
    assert_eq!(result["resultType"], "input_required");
    let requests = result["inputRequests"].as_object().expect("a map");
    let (key, request) = requests.iter().next().expect("a question");
    assert_eq!(*request, json!({"method":"elicitation/create","params":{"message":"m"}}));
    (result["requestState"].as_str().expect("a state").to_owned(), key.clone(), number)
}

fn refused(stage: &mut Stage, parcel: Parcel, why: &str) {
    let before = stage.sent.texts.len();
    let caller = stage.call(parcel, Client::default());
    let error = stage.answer(caller.call).expect_err("a refusal");
    assert_eq!(error["code"], -32602);
    assert!(error["message"].as_str().is_some_and(|message| message.contains(why)), "{error}");
    assert_eq!(stage.sent.texts.len(), before, "the server hears nothing of it");
}

#[test]
fn a_legacy_server_sees_nothing_modern_and_its_result_becomes_complete() {
    let mut stage = Stage::new(LEGACY);
    let caller = stage.call(modern(), Client::default());
    assert_eq!(stage.last()["params"]["_meta"], json!({"traceparent":"00-a"}));
    stage.answers(stage.number(), r#"{"content":[ ],"x":1.0}"#);
    assert_eq!(stage.answer(caller.call), Ok(json!({"resultType":"complete","content":[],"x":1.0})));
    let caller = stage.call(Parcel { meta: META.into(), ..reading("a://b", MODERN) }, Client::default());
    stage.answers(stage.number(), r#"{"contents":[]}"#);
    let read = stage.answer(caller.call).unwrap();
    assert_eq!(read, json!({"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[]}));
}

#[test]
fn a_resource_that_is_not_there_has_the_code_of_the_clients_era() {
    for (server, client_speaks, code, becomes) in
        [(LEGACY, MODERN, -32002, -32602), (MODERN, LEGACY, -32602, -32002), (LEGACY, LEGACY, -32002, -32002)]
    {
        let mut stage = Stage::new(server);
        let caller = stage.call(reading("a://b", client_speaks), Client::default());
        let error = format!(r#"{{"code":{code},"message":"no","data":{{"uri":"a://b"}}}}"#);
        stage.says(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, stage.number()));
        assert_eq!(stage.answer(caller.call), Err(json!({"code":becomes,"message":"no","data":{"uri":"a://b"}})));
    }
}

#[test]
fn a_question_parks_the_call_and_the_retry_resumes_it() {
    let mut stage = Stage::new(LEGACY);
    let (state, key, number) = asked(&mut stage);
    assert_eq!(stage.seats.taken(), 0, "nobody waits");
    let again = stage.call(retry(&state, &json!({key:{"action":"accept"},"more":1})), Client::default());
    assert_eq!(*stage.last(), json!({"jsonrpc":"2.0","id":"s1","result":{"action":"accept"}}));
    stage.answers(number, r#"{"content":[]}"#);
    assert_eq!(stage.answer(again.call), Ok(json!({"resultType":"complete","content":[]})));
    refused(&mut stage, retry(&state, &json!({})), "used before");
}

#[test]
fn a_retry_without_the_response_is_asked_again() {
    let mut stage = Stage::new(LEGACY);
    let (state, key, number) = asked(&mut stage);
    let again = stage.call(retry(&state, &json!({"other":{}})), Client::default());
    let result = stage.answer(again.call).unwrap();
    assert_eq!(result["resultType"], "input_required");
    assert!(result["inputRequests"][&key].is_object());
    let state = result["requestState"].as_str().unwrap().to_owned();
    let last = stage.call(retry(&state, &json!({key:{"action":"cancel"}})), Client::default());
    stage.answers(number, "{}");
    assert_eq!(stage.answer(last.call), Ok(json!({"resultType":"complete"})));
}

#[test]
fn a_state_is_refused_by_name_if_it_is_forged_used_for_another_request_or_too_old() {
    let mut stage = Stage::new(LEGACY);
    let (state, key, _) = asked(&mut stage);
    let responses = json!({key:{"action":"accept"}});
    refused(&mut stage, retry(&format!("{state}x"), &responses), "not made here");
    refused(&mut stage, retry("", &responses), "not made here");
    let mut other = retry(&state, &responses);
    other.params = other.params.replace("1.0", "2.0").into();
    refused(&mut stage, other, "another request");
    let mut number = retry("7", &responses);
    number.params = number.params.replace("\"7\"", "7").into();
    refused(&mut stage, number, "must be a string");
    stage.passes(Duration::from_secs(601));
    assert_eq!(stage.sent.texts.iter().filter(|text| text["error"]["code"] == -32603).count(), 1, "the server is told");
    assert_eq!(stage.sent.texts.iter().filter(|text| text["method"] == "notifications/cancelled").count(), 1);
    refused(&mut stage, retry(&state, &responses), "call again");
}

#[test]
fn what_a_server_answers_while_its_client_is_away_is_there_for_the_retry() {
    let mut stage = Stage::new(LEGACY);
    let (state, _, number) = asked(&mut stage);
    stage.answers(number, r#"{"content":[1]}"#);
    assert!(stage.letters().is_empty());
    let again = stage.call(retry(&state, &json!({})), Client::default());
    assert_eq!(stage.answer(again.call), Ok(json!({"resultType":"complete","content":[1]})));
    assert_eq!(stage.strays(), 0);
}

#[test]
fn a_modern_client_is_asked_only_what_it_has_declared() {
    let mut stage = Stage::new(LEGACY);
    let asks = stage.call(parcel(MODERN), client(r#"{"elicitation":{}}"#));
    stage.says(ASK);
    let error = stage.answer(asks.call).unwrap_err();
    assert_eq!((&error["code"], &error["data"]), (&json!(-32021), &json!({"requiredCapabilities":{"elicitation":{}}})));
    assert_eq!(stage.last()["error"]["code"], -32601, "what the server hears");
}

#[test]
fn a_modern_server_gets_the_meta_that_a_legacy_client_never_sends() {
    let mut stage = Stage::new(MODERN);
    let meta = "\"traceparent\":\"00-a\"".into();
    let call = Parcel { meta, level: Some(Level::Info), progress: true, ..parcel(LEGACY) };
    let caller = stage.call(call, client(r#"{"sampling":{"tools":{}},"experimental":{},"x":{}}"#));
    let number = stage.number();
    let prefix = "io.modelcontextprotocol/";
    let meta = &stage.last()["params"]["_meta"];
    let member = |name: &str| &meta[&format!("{prefix}{name}")];
    assert_eq!(member("protocolVersion"), "2026-07-28");
    assert_eq!(*member("clientInfo"), json!({"name":"tester","version":"9"}));
    assert_eq!(*member("clientCapabilities"), json!({"sampling":{"tools":{}},"experimental":{},"x":{}}));
    assert_eq!(member("logLevel"), "info");
    assert_eq!((&meta["traceparent"], &meta["progressToken"]), (&json!("00-a"), &json!(number)));
    stage.answers(number, r#"{"resultType":"complete","content":[],"x":1}"#);
    assert_eq!(stage.answer(caller.call), Ok(json!({"resultType":"complete","content":[],"x":1})), "nothing is lost");
}

const REQUIRED: &str = r#"{"resultType":"input_required","inputRequests":{"a \"q\"":{"method":"elicitation/create","params":{"message":"m"}}},"requestState":"\u0041/\\"}"#;

#[test]
fn what_a_modern_server_requires_is_asked_of_a_legacy_client_and_the_call_sent_again() {
    let mut stage = Stage::new(MODERN);
    let caller = stage.call(parcel(LEGACY), client(r#"{"elicitation":{}}"#));
    let first = stage.number();
    stage.answers(first, REQUIRED);
    let question = stage.question();
    assert_eq!((&*question.method, question.params.as_deref()), ("elicitation/create", Some(r#"{"message":"m"}"#)));
    let sent = stage.sent.texts.len();
    question.settle(reply(r#"{"action":"accept"}"#));
    stage.errands();
    assert_eq!(stage.sent.texts.len(), sent + 1);
    let again = &stage.last()["params"];
    assert_eq!(again["arguments"], json!({"a":1.0}));
    assert_eq!(again["inputResponses"], json!({"a \"q\"":{"action":"accept"}}));
    assert_eq!(again["requestState"], "A/\\");
    let second = stage.number();
    assert_ne!(first, second);
    stage.answers(first, "{}");
    assert_eq!(stage.strays(), 1, "the first request has had its answer");
    stage.answers(second, r#"{"resultType":"complete"}"#);
    assert!(stage.answer(caller.call).is_ok());
}

#[test]
fn a_server_that_only_wants_its_state_back_gets_it_at_once_and_not_for_ever() {
    let mut stage = Stage::new(MODERN);
    let caller = stage.call(parcel(LEGACY), client("{}"));
    for _ in 0..16 {
        stage.answers(stage.number(), r#"{"resultType":"input_required","requestState":"s"}"#);
        assert_eq!(stage.last()["params"]["requestState"], "s");
        assert!(stage.last()["params"]["inputResponses"].is_null() && stage.letters().is_empty());
    }
    stage.answers(stage.number(), r#"{"resultType":"input_required","requestState":"s"}"#);
    assert_eq!(stage.answer(caller.call).unwrap_err()["data"]["reason"], "asks_too_often");
}

#[test]
fn a_requirement_that_cannot_be_met_fails_the_call_by_name() {
    for (result, capabilities, reason) in [
        (REQUIRED, "{}", "cannot_be_asked"),
        (r#"{"resultType":"input_required"}"#, "{}", "garbage"),
        (r#"{"resultType":"input_required","requestState":7}"#, "{}", "garbage"),
        (r#"{"resultType":"input_required","inputRequests":{"a":{}}}"#, "{}", "garbage"),
        (r#"{"resultType":"input_required","inputRequests":{"a":{"method":"tasks/get"}}}"#, "{}", "cannot_be_asked"),
    ] {
        let mut stage = Stage::new(MODERN);
        let caller = stage.call(parcel(LEGACY), client(capabilities));
        stage.answers(stage.number(), result);
        assert_eq!(stage.answer(caller.call).unwrap_err()["data"]["reason"], reason, "{result}");
    }
    for (reply, reason) in
        [(Reply::Error(br#"{"code":-1,"message":"no"}"#.to_vec()), "client_refused"), (Reply::Gone, "client_gone")]
    {
        let mut stage = Stage::new(MODERN);
        let caller = stage.call(parcel(LEGACY), client(r#"{"elicitation":{}}"#));
        stage.answers(stage.number(), REQUIRED);
        stage.question().settle(reply);
        stage.errands();
        assert_eq!(stage.answer(caller.call).unwrap_err()["data"]["reason"], reason);
    }
}

#[test]
fn within_the_modern_era_every_byte_passes() {
    let mut stage = Stage::new(MODERN);
    let caller = stage.call(modern(), Client::default());
    stage.answers(stage.number(), REQUIRED);
    let result = stage.answer(caller.call).unwrap();
    assert_eq!(result, serde_json::from_str::<Value>(REQUIRED).unwrap());
    let again = stage.call(retry("A/\\", &json!({"a":{}})), Client::default());
    assert_eq!(stage.last()["params"]["requestState"], "A/\\");
    assert_eq!(stage.last()["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"]["roots"], json!({}));
    stage.answers(stage.number(), "{}");
    assert_eq!(stage.answer(again.call), Ok(json!({})));
}

#[test]
fn a_modern_client_hears_only_the_log_messages_it_asked_for() {
    let mut stage = Stage::new(LEGACY);
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
    stage.call(modern(), Client::default());
    let silent = stage.number();
    stage.says(log);
    assert!(stage.letters().is_empty());
    stage.answers(silent, "{}");
    stage.letters();
    stage.call(Parcel { level: Some(Level::Info), ..modern() }, Client::default());
    let levels: Vec<_> = stage.sent.texts.iter().filter(|text| text["method"] == "logging/setLevel").collect();
    assert_eq!((levels.len(), &levels[0]["params"]["level"]), (1, &json!("info")), "the server is told first");
    stage.says(log);
    assert_eq!(stage.letters().len(), 1);
}

#[test]
fn one_stream_of_changes_carries_all_that_is_watched_at_a_modern_server() {
    let mut stage = Stage::new(MODERN);
    stage.mux.listen(stage.now);
    stage.passes(Duration::from_millis(1));
    assert_eq!(stage.last()["method"], "subscriptions/listen");
    assert_eq!(stage.last()["params"]["notifications"], json!({"toolsListChanged":true,"resourcesListChanged":true}));
    let first = stage.number();
    let (ticket, caller) = stage.ticket();
    let place = stage.seats.take().unwrap();
    stage.errand(Errand::Watch { uri: "a://b".into(), task: Some((ticket, place)), client: watcher(1) });
    let opened = &stage.sent.texts[stage.sent.texts.len() - 2];
    assert_eq!(opened["params"]["notifications"]["resourceSubscriptions"], json!(["a://b"]));
    let second = opened["id"].clone();
    assert_eq!(stage.last()["params"]["requestId"], first, "the new one first, so that nothing is missed");
    assert!(stage.letters().is_empty());
    let acknowledged = json!({"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{
        "_meta":{"io.modelcontextprotocol/subscriptionId":second},"notifications":{"resourceSubscriptions":["a://b"]}}});
    stage.says(&acknowledged.to_string());
    assert_eq!(stage.answer(caller.call), Ok(json!({})));
    let ended = json!({"jsonrpc":"2.0","id":second,"result":{"resultType":"complete"}}).to_string();
    stage.says(&ended);
    let sent = stage.sent.texts.len();
    stage.passes(Duration::from_secs(3));
    assert_eq!((stage.sent.texts.len(), &stage.last()["method"]), (sent + 1, &json!("subscriptions/listen")));
}

#[test]
fn a_call_whose_headers_do_not_match_is_tried_once_more_with_the_tools_of_now() {
    let mut stage = Stage::with(MODERN, Knobs::default(), true);
    let caller = stage.call(modern(), Client::default());
    assert_eq!(stage.sent.headers, [Vec::new()]);
    let mismatch = |number| format!(r#"{{"jsonrpc":"2.0","id":{number},"error":{{"code":-32020,"message":"no"}}}}"#);
    let number = stage.number();
    stage.says_on(Some(number), &mismatch(number));
    assert!(stage.mux.changed.meets(Topics::TOOLS) && stage.mux.is_behind() && stage.letters().is_empty());
    let mut params = ParamHeaders::default();
    let schema = r#"{"properties":{"a":{"type":"integer","x-mcp-header":"A"}}}"#;
    params.insert("echo", crate::mcp::param_headers::read(schema).unwrap());
    stage.mux.listed(params);
    stage.mux.speak(stage.now, &mut stage.sent);
    assert_eq!(stage.sent.headers[1], [("A".to_owned(), "1".to_owned())]);
    let number = stage.number();
    stage.says_on(Some(number), &mismatch(number));
    assert_eq!(stage.answer(caller.call).unwrap_err()["code"], -32020, "once is enough");
}

#[test]
fn a_parked_call_ends_when_its_client_may_not_come_back_whatever_its_server_tells() {
    let mut stage = Stage::new(LEGACY);
    let (_, _, number) = asked(&mut stage);
    stage.now += Duration::from_secs(600);
    stage.says(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{number},"progress":1}}}}"#
    ));
    stage.passes(Duration::ZERO);
    assert!(stage.sent.texts.iter().any(|text| text["method"] == "notifications/cancelled"));
    assert!(!stage.mux.has_calls());
}

#[test]
fn a_call_that_cannot_be_parked_waits_for_no_person() {
    let mut stage = Stage::with(LEGACY, Knobs { call: Duration::from_secs(10), ..Knobs::default() }, true);
    let parked = std::mem::replace(&mut stage.mux.parked, usize::MAX);
    let caller = stage.call(modern(), Client::default());
    stage.says(ASK);
    assert_eq!(stage.last()["error"]["code"], -32603, "too many wait");
    stage.mux.parked = parked;
    stage.passes(Duration::from_secs(11));
    assert_eq!(stage.answer(caller.call).unwrap_err()["data"]["reason"], "mute");
}

#[test]
fn an_error_that_waited_for_its_client_counts_as_one() {
    let mut stage = Stage::new(LEGACY);
    let (state, _, number) = asked(&mut stage);
    stage.says(&format!(r#"{{"jsonrpc":"2.0","id":{number},"error":{{"code":7,"message":"m"}}}}"#));
    let again = stage.call(retry(&state, &json!({})), Client::default());
    assert_eq!(stage.answer(again.call).unwrap_err()["code"], 7);
    assert_eq!(stage.upstream.counts.errors.load(Relaxed), 1);
}

#[test]
fn our_own_request_that_times_out_is_cancelled_unless_it_is_the_handshake() {
    for (own, told) in [(Own::Page(crate::mcp::List::Tools), true), (Own::Probe, false)] {
        let mut stage = Stage::with(LEGACY, Knobs::default(), true);
        stage.mux.ask(own, "m", "", Duration::from_secs(1), stage.now, &mut stage.sent);
        let number = stage.number();
        stage.passes(Duration::from_secs(2));
        let cancelled = stage.last()["method"] == "notifications/cancelled";
        assert_eq!(cancelled && stage.last()["params"]["requestId"] == number, told);
        stage.answers(number, "{}");
        assert_eq!(stage.strays(), 0);
    }
}

#[test]
fn one_connection_that_is_refused_ends_no_call_on_another() {
    let mut stage = Stage::without_retries(LEGACY);
    let (serves, first) = (stage.call(parcel(LEGACY), Client::default()), stage.number());
    let (away, second) = (stage.call(parcel(LEGACY), Client::default()), stage.number());
    stage.fails(Some(second), Trouble::new(TroubleKind::Refused, ""));
    assert_eq!(stage.answer(away.call).unwrap_err()["data"]["reason"], "refused");
    assert!(stage.mux.lost.is_none());
    stage.answers(first, "{}");
    stage.answer(serves.call).unwrap();
    stage.call(parcel(LEGACY), Client::default());
    stage.fails(Some(stage.number()), Trouble::new(TroubleKind::Refused, ""));
    assert!(stage.mux.lost.is_some(), "nothing else shows that it serves");
}

fn watch(stage: &mut Stage, uri: &str, client: u128) -> super::stage::Caller {
    let (ticket, caller) = stage.ticket();
    let place = stage.seats.take().expect("a place");
    stage.errand(Errand::Watch { uri: uri.into(), task: Some((ticket, place)), client: watcher(client) });
    caller
}

fn sent(stage: &Stage, method: &str) -> usize {
    stage.sent.texts.iter().filter(|text| text["method"] == method).count()
}

#[test]
fn what_many_watch_takes_no_place_of_a_call_and_is_asked_for_a_few_at_a_time() {
    let mut stage = Stage::with(LEGACY, Knobs { in_flight_max: 1, ..Knobs::default() }, false);
    for uri in 0..100 {
        stage.errand(Errand::Watch { uri: format!("a://{uri}").into(), task: None, client: watcher(1) });
    }
    assert_eq!(sent(&stage, "resources/subscribe"), 32);
    stage.call(parcel(LEGACY), Client::default());
    assert_eq!(stage.last()["method"], "tools/call");
    // What is not asked for yet needs no word to end it.
    for uri in 50..100 {
        stage.errand(Errand::Unwatch { uri: format!("a://{uri}").into(), client: 1, place: None });
    }
    for at in 0..32 {
        let number = stage.sent.texts[at]["id"].as_u64().unwrap();
        stage.answers(number, "{}");
    }
    assert_eq!((sent(&stage, "resources/subscribe"), sent(&stage, "resources/unsubscribe")), (50, 0));
    for uri in 0..50 {
        stage.errand(Errand::Unwatch { uri: format!("a://{uri}").into(), client: 1, place: None });
    }
    assert_eq!(sent(&stage, "resources/unsubscribe"), 14, "18 of those before wait for an answer");
}

#[test]
fn a_subscription_that_a_modern_server_never_acknowledges_is_answered_by_name() {
    let mut stage = Stage::new(MODERN);
    let caller = watch(&mut stage, "a://b", 1);
    stage.passes(Duration::from_secs(29));
    assert!(stage.letters().is_empty() && stage.mux.deadline().is_some());
    stage.passes(Duration::from_secs(1));
    assert_eq!(stage.answer(caller.call).unwrap_err()["data"]["reason"], "mute");
    assert_eq!(stage.seats.taken(), 0);
}

#[test]
fn what_was_watched_stays_watched_if_the_next_link_fails_before_the_servers_word() {
    let mut stage = Stage::new(LEGACY);
    watch(&mut stage, "a://b", 1);
    stage.answers(stage.number(), "{}");
    stage.letters();
    let lost = Trouble::new(TroubleKind::Lost, "reset");
    for links in 2..4 {
        stage.mux.end(&lost, stage.now, &stage.sent);
        stage.mux.reopen(None, stage.now, &mut stage.sent);
        assert_eq!(sent(&stage, "resources/subscribe"), links);
    }
    // Silence, and it is asked once more.
    stage.passes(Duration::from_secs(30));
    stage.passes(Duration::from_secs(30));
    assert_eq!(sent(&stage, "resources/subscribe"), 4);
    assert!(stage.mux.updated.is_empty(), "it is not watched so far");
    stage.answers(stage.number(), "{}");
    assert_eq!(stage.mux.updated, ["a://b".into()], "what has changed meanwhile, nobody knows");
    stage.errand(Errand::Unwatch { uri: "a://b".into(), client: 1, place: None });
    assert_eq!(stage.last()["method"], "resources/unsubscribe");
}

#[test]
fn a_probe_is_waited_for_beyond_its_time_until_it_is_known_who_is_there() {
    let mut stage = Stage::new(MODERN);
    let ask = |stage: &mut Stage, method| {
        let wait = Duration::from_secs(3);
        stage.mux.ask(Own::Probe, method, "", wait, stage.now, &mut stage.sent).expect("room")
    };
    let first = ask(&mut stage, "server/discover");
    stage.passes(Duration::from_secs(4));
    assert!(
        matches!(&stage.mux.heard[..], [(Own::Probe, Heard::Failed(trouble))] if trouble.kind == TroubleKind::Mute)
    );
    stage.mux.heard.clear();
    let second = ask(&mut stage, "initialize");
    stage.answers(first, r#"{"late":1}"#);
    assert_eq!(stage.mux.heard, [(Own::LateProbe, Heard::Result(br#"{"late":1}"#.to_vec()))]);
    stage.mux.end_probes(stage.now);
    stage.answers(second, "{}");
    assert!(stage.mux.heard.is_empty() && stage.mux.deadline().is_none());
    assert_eq!((stage.strays(), stage.sent.texts.len()), (0, 2), "a handshake is not cancelled");
}
