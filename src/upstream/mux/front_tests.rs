//! The multiplexer and what stands in front of it: who waits, who leaves, and what is sent again.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;

use super::stage::{Caller, Stage, parcel, reading};
use super::*;
use crate::mcp::offer::Entry;
use crate::mcp::{List, Offer, Parcel};
use crate::upstream::front::{self, Permit};
use crate::upstream::group::Ways;
use crate::upstream::handle::{Client, Task};

const LEGACY: Revision = Revision::V2025_11_25;

fn stage(in_flight_max: usize) -> Stage {
    Stage::with(LEGACY, Knobs { in_flight_max, ..Knobs::default() }, true)
}

fn tool(stage: &mut Stage) -> Caller {
    stage.call(parcel(LEGACY), Client::default())
}

fn lost() -> Trouble {
    Trouble::new(TroubleKind::Lost, "reset")
}

/// Lets the pause before a retry pass; how many requests were sent since.
fn sent_again(stage: &mut Stage) -> usize {
    let before = stage.sent.texts.len();
    stage.passes(Duration::from_millis(500));
    stage.sent.texts.len() - before
}

#[test]
fn who_waits_is_sent_when_a_place_is_free() {
    let mut stage = stage(1);
    let first = tool(&mut stage);
    let number = stage.number();
    let second = tool(&mut stage);
    assert_eq!((stage.sent.texts.len(), stage.upstream.counts.queued.load(Relaxed)), (1, 1));
    stage.answers(number, "{}");
    stage.answer(first.call).unwrap();
    assert_eq!((stage.sent.texts.len(), stage.upstream.counts.queued.load(Relaxed)), (2, 0));
    stage.answers(stage.number(), "{}");
    stage.answer(second.call).unwrap();
    assert_eq!((stage.seats.taken(), stage.upstream.counts.in_flight.load(Relaxed)), (0, 0));
}

#[test]
fn who_leaves_while_it_waits_gives_its_place_back_and_the_server_hears_nothing() {
    let mut stage = stage(1);
    let _first = tool(&mut stage);
    let second = tool(&mut stage);
    assert_eq!(stage.seats.taken(), 2);
    drop(second.cancel);
    stage.errands();
    assert_eq!((stage.seats.taken(), stage.upstream.counts.queued.load(Relaxed)), (1, 0));
    assert_eq!((stage.sent.texts.len(), stage.letters().len()), (1, 0));
}

#[test]
fn who_leaves_while_it_is_sent_from_the_queue_is_not_sent() {
    let mut stage = stage(1);
    let first = tool(&mut stage);
    let number = stage.number();
    let second = tool(&mut stage);
    drop(second.cancel);
    stage.answers(number, "{}");
    stage.answer(first.call).unwrap();
    stage.errands();
    assert_eq!((stage.sent.texts.len(), stage.seats.taken()), (1, 0));
    assert_eq!(stage.upstream.counts.in_flight.load(Relaxed), 0);
}

#[test]
fn a_refused_call_says_why_and_when_to_come_again() {
    let front = front::Knobs { queue_max: 1, ..front::Knobs::default() };
    let mut stage = Stage::with(LEGACY, Knobs { in_flight_max: 1, front, ..Knobs::default() }, true);
    let _calls = [tool(&mut stage), tool(&mut stage)];
    let refused = tool(&mut stage);
    let error = stage.answer(refused.call).unwrap_err();
    assert_eq!((&error["data"]["upstream"], &error["data"]["reason"]), (&json!("files"), &json!("queue_full")));
    assert!(error["data"]["retryAfterMs"].as_u64().is_some_and(|wait| wait > 0) && error["data"]["retry"] == true);
    assert_eq!(stage.upstream.counts.shed.get(front::Shed::QueueFull), 1);
    assert_eq!(stage.seats.taken(), 2);
}

#[test]
fn what_was_not_processed_is_sent_again_under_another_number_and_its_client_hears_nothing() {
    let mut stage = stage(10);
    let caller = tool(&mut stage);
    let number = stage.number();
    stage.fails(Some(number), Trouble::new(TroubleKind::Overloaded, ""));
    assert_eq!((stage.letters().len(), stage.upstream.counts.queued.load(Relaxed)), (0, 1));
    assert_eq!(sent_again(&mut stage), 1);
    assert_ne!(stage.number(), number);
    stage.answers(stage.number(), "{}");
    stage.answer(caller.call).unwrap();
    assert_eq!((stage.upstream.counts.retries.load(Relaxed), stage.seats.taken()), (1, 0));
}

#[test]
fn a_tool_that_may_have_run_is_not_run_again_unless_its_server_allows_it() {
    let mut stage = stage(10);
    let caller = tool(&mut stage);
    stage.fails(Some(stage.number()), lost());
    assert_eq!(stage.answer(caller.call).unwrap_err()["data"]["reason"], "lost");
    assert_eq!(sent_again(&mut stage), 0);
    let mut offer = Offer::default();
    for (name, hints) in [("echo", r#"{"idempotentHint":true}"#), ("other", r#"{"readOnlyHint":false}"#)] {
        let text = format!(r#"{{"name":"{name}","annotations":{hints}}}"#);
        offer.lists[List::Tools.index()].push(Entry { key: name.into(), text: text.into() });
    }
    stage.mux.gate.offered(&offer);
    let _caller = tool(&mut stage);
    stage.fails(Some(stage.number()), lost());
    assert_eq!((stage.letters().len(), sent_again(&mut stage)), (0, 1));
}

#[test]
fn a_read_is_sent_again_but_not_for_ever_and_not_once_its_client_has_heard_of_it() {
    let mut stage = stage(10);
    let caller = stage.call(reading("a://b", LEGACY), Client::default());
    stage.fails(Some(stage.number()), lost());
    assert_eq!(sent_again(&mut stage), 1);
    stage.fails(Some(stage.number()), lost());
    assert_eq!(stage.answer(caller.call).unwrap_err()["data"]["reason"], "lost", "the budget is spent");
    // Ten more calls earn one retry.
    for _ in 0..10 {
        let caller = tool(&mut stage);
        stage.answers(stage.number(), "{}");
        stage.answer(caller.call).unwrap();
    }
    let told = stage.call(Parcel { progress: true, ..reading("a://b", LEGACY) }, Client::default());
    let number = stage.number();
    stage.says(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":1,"progressToken":{number}}}}}"#
    ));
    assert_eq!(stage.letters().len(), 1);
    stage.fails(Some(number), lost());
    assert_eq!(stage.answer(told.call).unwrap_err()["data"]["reason"], "lost");
}

#[test]
fn what_answers_a_question_is_sent_once() {
    let mut stage = stage(10);
    for more in [r#","requestState":"s""#, r#","inputResponses":{}"#] {
        let params = format!("{}{more}", parcel(LEGACY).params).into();
        let caller = stage.call(Parcel { params, ..parcel(LEGACY) }, Client::default());
        stage.fails(Some(stage.number()), Trouble::new(TroubleKind::Overloaded, ""));
        stage.answer(caller.call).unwrap_err();
    }
}

#[test]
fn who_leaves_while_it_waits_for_its_second_try_is_not_tried_again() {
    let mut stage = stage(10);
    let caller = tool(&mut stage);
    stage.fails(Some(stage.number()), Trouble::new(TroubleKind::Overloaded, ""));
    drop(caller.cancel);
    stage.errands();
    assert_eq!((sent_again(&mut stage), stage.seats.taken()), (0, 0));
}

#[test]
fn a_gateway_behind_us_that_says_when_it_has_room_is_left_alone_until_then() {
    let mut stage = stage(10);
    let caller = tool(&mut stage);
    let number = stage.number();
    stage.says(&format!(
        r#"{{"jsonrpc":"2.0","id":{number},"error":{{"code":503,"message":"m","data":{{"retryAfterMs":2000}}}}}}"#
    ));
    assert_eq!(stage.answer(caller.call).unwrap_err()["data"]["retryAfterMs"], 2_000, "as it came");
    let _waits = tool(&mut stage);
    assert_eq!(stage.sent.texts.len(), 1);
    stage.passes(Duration::from_millis(1_999));
    assert_eq!(stage.sent.texts.len(), 1);
    stage.passes(Duration::from_millis(1));
    assert_eq!(stage.sent.texts.len(), 2);
}

#[test]
fn who_waits_for_a_link_that_does_not_come_back_is_told() {
    let mut stage = stage(1);
    let sent = tool(&mut stage);
    let waits = tool(&mut stage);
    let away = Trouble::new(TroubleKind::Exited, "").unsent();
    stage.mux.end(&away, stage.now, &stage.sent);
    stage.answer(sent.call).unwrap_err();
    stage.mux.drop_kept(&away);
    assert_eq!(stage.answer(waits.call).unwrap_err()["data"]["reason"], "exited");
    assert_eq!((stage.seats.taken(), stage.upstream.counts.queued.load(Relaxed)), (0, 0));
}

/// Calls take five seconds at most, from their arrival.
fn pressed(in_flight_max: usize) -> Stage {
    let deadline = Duration::from_secs(5);
    let front = front::Knobs { deadline, is_whole: true, ..front::Knobs::default() };
    Stage::with(LEGACY, Knobs { in_flight_max, deadline, front, ..Knobs::default() }, false)
}

#[test]
fn a_call_with_its_server_is_cut_at_its_deadline_and_the_server_told() {
    let mut stage = pressed(20);
    let caller = tool(&mut stage);
    let number = stage.number();
    // Signs of life do not help.
    stage.says(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":1,"progressToken":{number}}}}}"#
    ));
    stage.passes(Duration::from_millis(4_980));
    assert_eq!(stage.letters().len(), 0);
    stage.passes(Duration::from_millis(20));
    let error = stage.answer(caller.call).unwrap_err();
    assert_eq!((&error["data"]["reason"], &error["data"]["upstream"]), (&json!("deadline"), &json!("files")));
    assert_eq!(stage.last()["method"], "notifications/cancelled");
    assert_eq!((&stage.last()["params"]["requestId"], stage.seats.taken()), (&json!(number), 0));
    assert_eq!(stage.upstream.counts.limit.load(Relaxed), 16, "as silence");
    stage.answers(number, "{}");
    assert_eq!((stage.letters().len(), stage.strays()), (0, 0), "too late, and nobody's fault");
    // Nor is it sent again, though it changes nothing; and what it waited for its place counts.
    let mut stage = pressed(1);
    let first = read(&mut stage, "a://1");
    let _second = read(&mut stage, "a://2");
    stage.passes(Duration::from_millis(1_000));
    stage.answers(stage.number(), r#"{"contents":[]}"#);
    stage.answer(first.call).unwrap();
    stage.passes(Duration::from_millis(3_980));
    assert_eq!(stage.letters().len(), 0);
    stage.passes(Duration::from_millis(20));
    assert_eq!((stage.letters().len(), sent_again(&mut stage)), (1, 0));
}

#[test]
fn a_call_that_is_passed_on_leaves_its_place_and_keeps_its_time() {
    let mut stage = pressed(9);
    let mut offer = Offer::default();
    offer.lists[List::Tools.index()].push(Entry { key: "echo".into(), text: "{}".into() });
    stage.upstream.set_offer(&Arc::new(offer));
    stage.upstream.set_there(true);
    let first = Arc::new(Upstream::new("first", true));
    first.set_ways(Some(Arc::new(Ways { group: None, fallback: [Arc::clone(&stage.upstream)].into() })));
    for (before, sent, reason) in [(3, 1, "deadline"), (5, 0, "lost")] {
        let (ticket, caller) = stage.ticket();
        let mut task = Task::new(parcel(LEGACY), ticket, stage.seats.take().unwrap(), Client::default());
        let mut permit = Permit::new(Arc::clone(&first));
        permit.saw(front::Ending::Failed, stage.now);
        task.permit = Some(permit);
        task.arrived = Some(stage.now - Duration::from_secs(before));
        assert!(first.pass_on(Box::new(task), &lost().unsent(), None).is_ok());
        assert!(matches!(first.door().collect(), Some(Errand::Served { seen: Some((front::Ending::Failed, _)) })));
        let texts = stage.sent.texts.len();
        stage.errands();
        assert_eq!(stage.sent.texts.len() - texts, sent, "{before} s old");
        if sent > 0 {
            stage.passes(Duration::from_millis(1_980));
            assert_eq!(stage.letters().len(), 0);
            stage.passes(Duration::from_millis(20));
        }
        let error = stage.answer(caller.call).unwrap_err();
        assert_eq!(error["data"]["reason"], reason);
    }
}

#[test]
fn while_somebody_is_asked_no_deadline_counts() {
    let mut stage = pressed(20);
    let asking = crate::upstream::mux::stage::client(r#"{"elicitation":{}}"#);
    let caller = stage.call(parcel(LEGACY), asking);
    let params = r#"{"message":"m","requestedSchema":{"type":"object","properties":{}}}"#;
    let number = stage.number();
    stage.says(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{params}}}"#));
    drop(stage.question());
    stage.passes(Duration::from_secs(60));
    stage.letters();
    stage.answers(number, "{}");
    stage.answer(caller.call).unwrap();
}

#[test]
fn calls_in_flight_that_are_silent_until_their_deadlines_open_the_breaker() {
    let mut stage = pressed(2);
    for round in 0.. {
        let callers = [tool(&mut stage), tool(&mut stage)];
        stage.passes(Duration::from_millis(5_010));
        let reasons: Vec<_> = stage.letters().into_iter().map(|_| "told").collect();
        assert_eq!(reasons.len(), callers.len());
        if stage.upstream.counts.breaker() == front::BreakerState::Open {
            assert_eq!(round, 1, "three calls in a row, with two places");
            break;
        }
    }
}

#[test]
fn over_http_no_more_are_in_flight_than_there_are_connections() {
    for (revision, connections, in_flight_max, sent) in [
        (LEGACY, 2, 9, 2),
        (LEGACY, 9, 9, 9),
        (LEGACY, 9, 2, 2),
        // One is for what changes.
        (Revision::V2026_07_28, 3, 9, 2),
        (Revision::V2026_07_28, 1, 9, 1),
    ] {
        let mut knobs = Knobs { in_flight_max, ..Knobs::default() };
        knobs.limits.http_connections_max = connections;
        let mut stage = Stage::with(revision, knobs, true);
        let features = stage.mux.terms().features;
        stage.mux.reopen(None, stage.now, &mut stage.sent);
        let _callers: Vec<_> = (0..10).map(|_| tool(&mut stage)).collect();
        let counts = &stage.upstream.counts;
        let shown = (counts.in_flight.load(Relaxed), counts.limit.load(Relaxed), counts.queued.load(Relaxed));
        assert_eq!(shown, (sent, sent, 10 - sent), "{connections} connections, {in_flight_max} at once");
        assert_eq!(stage.sent.texts.iter().filter(|text| text["method"] == "tools/call").count() as u64, sent);
        stage.mux.agreed(revision, features, false);
        stage.mux.reopen(None, stage.now, &mut stage.sent);
        stage.passes(Duration::from_millis(1));
        assert_eq!(stage.upstream.counts.limit.load(Relaxed), in_flight_max as u64, "over anything else all go");
    }
}

#[test]
fn who_waits_for_a_link_waits_no_longer_than_its_deadline() {
    let mut stage = pressed(1);
    stage.sent.is_stuck = true;
    let kept = tool(&mut stage);
    stage.passes(Duration::from_secs(1));
    let waits = tool(&mut stage);
    stage.mux.end(&lost(), stage.now, &stage.sent);
    assert_eq!((stage.letters().len(), stage.seats.taken()), (0, 2));
    let start = stage.now - Duration::from_secs(1);
    for (caller, arrived) in [(kept, start), (waits, stage.now)] {
        let due = arrived + Duration::from_secs(5);
        assert_eq!(stage.mux.gate.lapses(), Some(due));
        stage.mux.gate.lapse(due - Duration::from_millis(1));
        assert_eq!(stage.letters().len(), 0);
        stage.mux.gate.lapse(due);
        let error = stage.answer(caller.call).unwrap_err();
        assert_eq!((&error["data"]["reason"], error["data"]["retryAfterMs"].is_u64()), (&json!("expired"), true));
    }
    assert_eq!((stage.seats.taken(), stage.mux.gate.lapses()), (0, None));
}

fn read(stage: &mut Stage, uri: &str) -> Caller {
    stage.call(reading(uri, LEGACY), Client::default())
}

#[test]
fn a_read_waits_for_the_same_one_wherever_that_is() {
    let mut stage = stage(1);
    let tool = tool(&mut stage);
    let number = stage.number();
    // In the queue, then with the server.
    let first = read(&mut stage, "x://1");
    let second = read(&mut stage, "x://1");
    assert_eq!((stage.upstream.counts.queued.load(Relaxed), stage.upstream.counts.joined.load(Relaxed)), (1, 1));
    // The one whose place in the queue it is leaves: another one has it.
    drop(first.cancel);
    stage.errands();
    assert_eq!(stage.upstream.counts.queued.load(Relaxed), 1);
    let third = read(&mut stage, "x://1");
    stage.passes(Duration::from_millis(1));
    stage.answers(number, "{}");
    stage.answer(tool.call).unwrap();
    assert_eq!(stage.sent.texts.len(), 2);
    drop(second.cancel);
    stage.errands();
    assert_eq!(stage.sent.texts.len(), 2, "the server hears nothing of it");
    stage.answers(stage.number(), r#"{"contents":[]}"#);
    stage.answer(third.call).unwrap();
    assert_eq!((stage.seats.taken(), stage.upstream.counts.in_flight.load(Relaxed)), (0, 0));
}

#[test]
fn a_late_word_that_the_first_has_left_does_not_harm_who_has_its_place() {
    let mut stage = stage(1);
    let first = read(&mut stage, "x://1");
    let slot = stage.number();
    let second = read(&mut stage, "x://1");
    drop(first.cancel);
    stage.errands();
    stage.errand(Errand::Cancel { slot });
    stage.answers(stage.number(), r#"{"contents":[]}"#);
    stage.answer(second.call).unwrap();
}

#[test]
fn reads_of_other_tenants_are_other_reads_and_so_are_those_with_progress() {
    let mut stage = stage(10);
    let _one = read(&mut stage, "x://1");
    let _other = read(&mut stage, "x://2");
    let tenant = crate::guard::Tenant(1);
    let _third = stage.call(reading("x://1", LEGACY), Client { tenant, ..Client::default() });
    let _fourth = stage.call(Parcel { progress: true, ..reading("x://1", LEGACY) }, Client::default());
    let meta = r#""traceparent":"00-a""#.into();
    let _fifth = stage.call(Parcel { meta, ..reading("x://1", LEGACY) }, Client::default());
    let _sixth = stage.call(reading("x://1", Revision::NEWEST), Client::default());
    assert_eq!((stage.sent.texts.len(), stage.upstream.counts.joined.load(Relaxed)), (6, 0));
}

#[test]
fn at_most_so_many_wait_for_one_and_all_are_told_when_it_is_abandoned() {
    let mut stage = stage(10);
    let all: Vec<_> = (0..257).map(|_| read(&mut stage, "x://1")).collect();
    assert_eq!((stage.sent.texts.len(), stage.upstream.counts.joined.load(Relaxed)), (2, 255));
    stage.mux.end(&lost(), stage.now, &stage.sent);
    stage.mux.drop_kept(&lost());
    let answers = stage.letters().into_iter().filter(|letter| matches!(letter, crate::actor::Letter::Answer { .. }));
    assert_eq!(answers.count(), all.len());
    assert_eq!(stage.seats.taken(), 0);
}
