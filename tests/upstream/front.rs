//! What stands in front of a server, through the wire: who waits for a place, who is refused, and when it is left alone.

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::peer::{Peer, Process, call, eventually, request, scripted, text_of};

/// What the operator's page says of this upstream.
pub(super) fn shown(lakh: &Process, upstream: &str) -> Value {
    let mut socket = TcpStream::connect(lakh.admin).expect("the admin");
    socket.write_all(b"GET /upstreams HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let all: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    let all = all.as_array().expect("a list");
    all.iter().find(|one| one["name"] == upstream).unwrap_or_else(|| panic!("{all:?}")).clone()
}

fn sleep(id: u64, ms: u64) -> Value {
    call(id, "sleep", &json!({"text":format!("{id}"),"ms":ms}))
}

/// Refused by name, with the time to come again.
#[track_caller]
fn assert_refused(answer: &Value, reason: &str) {
    let error = &answer["error"];
    assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(503), &json!(reason)), "{answer}");
    assert!(error["data"]["retryAfterMs"].as_u64().is_some_and(|wait| wait > 0), "{answer}");
    assert!(error["message"].as_str().is_some_and(|message| message.contains("scripted")), "{answer}");
}

#[test]
fn calls_beyond_the_places_wait_in_order_and_one_beyond_the_queue_is_refused() {
    let lakh = Process::in_front_of_scripted_with("in_flight_max = 2\nqueue_max = 3");
    let mut peer = Peer::line(lakh.clients);
    for id in 1..=5 {
        peer.say(&sleep(id, if id < 3 { 2_000 } else { 50 }));
    }
    assert!(eventually(|| shown(&lakh, "scripted")["queued"] == 3));
    let refused = peer.ask(&sleep(6, 0));
    assert_refused(&refused, "queue_full");
    assert_eq!(refused["id"], 6, "at once: before any other is answered");
    let mut ids: Vec<u64> = (1..=5).map(|_| peer.hear_message()["id"].as_u64().expect("an id")).collect();
    // Two at a time, so that the two of a pair may be answered in any order.
    ids[..2].sort_unstable();
    ids[2..4].sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    let shown = shown(&lakh, "scripted");
    assert_eq!((&shown["queued"], &shown["waited"], &shown["shed"]["queue_full"]), (&json!(0), &json!(3), &json!(1)));
    assert!(shown["waited_us_max"].as_u64().is_some_and(|longest| longest >= 100_000), "{shown}");
}

#[test]
fn who_cancels_or_leaves_while_it_waits_frees_its_place_at_once() {
    let lakh = Process::in_front_of_scripted_with("in_flight_max = 1\nqueue_max = 2");
    let (mut stays, mut leaves) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    stays.say(&sleep(1, 60_000));
    assert!(eventually(|| shown(&lakh, "scripted")["in_flight"] == 1));
    stays.say(&sleep(2, 0));
    leaves.say(&sleep(3, 0));
    assert!(eventually(|| shown(&lakh, "scripted")["queued"] == 2));
    assert_refused(&stays.ask(&sleep(4, 0)), "queue_full");
    drop(leaves);
    assert!(eventually(|| shown(&lakh, "scripted")["queued"] == 1));
    let cancel = |id: u64| json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":id}});
    stays.say(&cancel(2));
    assert!(eventually(|| shown(&lakh, "scripted")["queued"] == 0));
    stays.say(&sleep(5, 0));
    assert!(eventually(|| shown(&lakh, "scripted")["queued"] == 1));
    stays.say(&cancel(1));
    assert_eq!(stays.hear_message()["id"], 5, "what was cancelled is not answered, and not sent");
    assert_eq!(super::told(&mut stays)["cancelled"].as_array().map(Vec::len), Some(1), "only the one that was sent");
}

#[test]
fn one_client_that_asks_much_does_not_keep_another_waiting() {
    let lakh = Process::in_front_of_scripted_with("in_flight_max = 1\nqueue_max = 20");
    let (mut greedy, mut modest) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    (1..=21).for_each(|id| greedy.say(&sleep(id, 200)));
    assert!(eventually(|| shown(&lakh, "scripted")["queued"].as_u64() >= Some(15)));
    let answer = modest.ask(&sleep(1, 0));
    assert_eq!(text_of(&answer), "1");
    let left = shown(&lakh, "scripted")["queued"].as_u64().expect("a number");
    assert!(left >= 5, "it was served in its turn, while {left} of the other still wait");
}

#[test]
fn the_queue_of_a_server_that_ends_is_answered_when_it_is_back() {
    let lakh = Process::in_front_of_scripted_with("in_flight_max = 1");
    let (mut one, mut other) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    let server = super::told(&mut one)["pid"].as_i64().expect("a number");
    one.say(&sleep(1, 60_000));
    assert!(eventually(|| shown(&lakh, "scripted")["in_flight"] == 1));
    other.say(&sleep(2, 0));
    assert!(eventually(|| shown(&lakh, "scripted")["queued"] == 1));
    kill(Pid::from_raw(server as i32), Signal::SIGKILL).expect("it was there");
    assert_eq!(one.hear_message()["error"]["data"]["upstream"], "scripted");
    assert_eq!(text_of(&other.hear_message()), "2");
}

/// Slow beyond all patience, then dead, then well: the breaker opens, tries, and closes; the server beside notices nothing.
#[test]
fn a_server_that_does_not_answer_is_left_alone_until_it_is_well() {
    let file = std::env::temp_dir().join(format!("lakh-front-{}.toml", std::process::id()));
    let knobs = "call_ms = 200\nbreaker_calls_min = 5\nbreaker_open_ms = 300";
    let command = scripted();
    let text = format!(
        "[upstreams.scripted]\ncommand = {command:?}\n{knobs}\n[upstreams.beside]\ncommand = {command:?}\n\
         [catalogue]\nprefix = \"always\"\n"
    );
    std::fs::write(&file, text).expect("a file");
    let lakh = Process::in_front_of(&["--config", &file.display().to_string()], &[]);
    std::fs::remove_file(file).expect("it was there");
    let mut peer = Peer::line(lakh.clients);
    let breaker = || shown(&lakh, "scripted")["breaker"].clone();
    let echo = |id: u64, of: &str, ms: u64| call(id, &format!("{of}_echo"), &json!({"text":"x","ms":ms}));
    let told = peer.ask(&call(1, "scripted_told", &json!({})));
    let told: Value = serde_json::from_str(text_of(&told)).expect("JSON");
    let server = Pid::from_raw(told["pid"].as_i64().expect("a number") as i32);
    assert_eq!(breaker(), "closed");
    // Slow: each call fails in time, until none is sent any more.
    (2..=7).for_each(|id| peer.say(&echo(id, "scripted", 60_000)));
    for _ in 2..=7 {
        assert_eq!(peer.hear_message()["error"]["data"]["upstream"], "scripted");
    }
    assert!(eventually(|| breaker() != "closed"));
    assert_eq!(text_of(&peer.ask(&echo(8, "beside", 0))), "x", "another server is another matter");
    // Dead: what is tried fails, and it is left alone for longer.
    kill(server, Signal::SIGSTOP).expect("it was there");
    let mut id = 100;
    let opened_again = eventually(|| {
        id += 1;
        let answer = peer.ask(&echo(id, "scripted", 0));
        assert!(answer["error"].is_object(), "{answer}");
        if answer["error"]["data"]["reason"] == "breaker_open" {
            assert_refused(&answer, "breaker_open");
        }
        let state = breaker();
        id > 103 && state == "open" && answer["error"]["data"]["reason"] == "mute"
    });
    kill(server, Signal::SIGCONT).expect("it was there");
    assert!(opened_again, "a call that was tried failed, and it is open again");
    assert_eq!(text_of(&peer.ask(&echo(9, "beside", 0))), "x");
    // Well: a few calls are answered, then all are.
    assert!(eventually(|| {
        id += 1;
        let _ = peer.ask(&echo(id, "scripted", 0));
        breaker() == "closed"
    }));
    assert_eq!(text_of(&peer.ask(&echo(id + 1, "scripted", 0))), "x");
    let shed = shown(&lakh, "scripted")["shed"]["breaker_open"].as_u64();
    assert!(shed > Some(0));
    assert_eq!(shown(&lakh, "beside")["shed"]["breaker_open"], 0);
}

#[test]
fn with_a_session_for_each_client_all_sessions_share_the_places() {
    let lakh = Process::in_front_of_scripted_with("sharing = \"per-session\"\nin_flight_max = 2\nqueue_max = 1");
    let mut peers: Vec<Peer> = (0..4).map(|_| Peer::line(lakh.clients)).collect();
    peers[0].say(&sleep(1, 3_000));
    peers[1].say(&sleep(1, 60_000));
    assert!(eventually(|| shown(&lakh, "scripted")["in_flight"] == 2));
    peers[2].say(&sleep(1, 0));
    assert!(eventually(|| shown(&lakh, "scripted")["queued"] == 1));
    assert_refused(&peers[3].ask(&sleep(1, 0)), "queue_full");
    assert_eq!(text_of(&peers[2].hear_message()), "1", "when the first one's was answered");
    assert_eq!(text_of(&peers[0].hear_message()), "1");
    assert_eq!(text_of(&peers[3].ask(&sleep(2, 0))), "2");
}

#[test]
fn a_read_that_a_server_leaves_unanswered_by_dying_is_asked_again() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peer = Peer::line(lakh.clients);
    let server = super::told(&mut peer)["pid"].as_i64().expect("a number");
    let server = Pid::from_raw(server as i32);
    kill(server, Signal::SIGSTOP).expect("it was there");
    peer.say(&request(5, "resources/read", &json!({"uri":"test://one"})));
    assert!(eventually(|| shown(&lakh, "scripted")["in_flight"] == 1));
    kill(server, Signal::SIGKILL).expect("it was there");
    let answer = peer.hear_message();
    assert_eq!(answer["result"]["contents"][0]["text"], "the text of test://one", "{answer}");
    assert_eq!(shown(&lakh, "scripted")["retries"], 1);
}

#[test]
fn a_call_that_is_not_answered_by_its_deadline_is_cut_and_its_server_told() {
    let lakh = Process::in_front_of_scripted_with("deadline_ms = 400");
    let mut peer = Peer::line(lakh.clients);
    let answer = peer.ask(&sleep(1, 60_000));
    let data = &answer["error"]["data"];
    assert_eq!((&data["reason"], &data["upstream"]), (&json!("deadline"), &json!("scripted")), "{answer}");
    let told = super::told(&mut peer);
    assert_eq!((told["cancelled"].as_array().map(Vec::len), &told["pending"]), (Some(1), &json!(0)), "{told}");
    let shown = shown(&lakh, "scripted");
    assert_eq!((&shown["in_flight"], &shown["limit"]), (&json!(0), &json!(16)), "as silence: {shown}");
}

/// Two places, and each call takes its whole time: there are never twenty within ten seconds.
#[test]
fn a_server_that_turns_slow_is_left_alone_though_few_calls_are_tried() {
    let lakh = Process::in_front_of_scripted_with("in_flight_max = 2\ndeadline_ms = 300\nbreaker_open_ms = 300");
    let mut peer = Peer::line(lakh.clients);
    let reason = |answer: Value| answer["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned();
    for id in 1..=3 {
        assert_eq!(shown(&lakh, "scripted")["breaker"], "closed", "after {} calls", id - 1);
        assert_eq!(reason(peer.ask(&sleep(id, 60_000))), "deadline");
    }
    assert!(eventually(|| shown(&lakh, "scripted")["breaker"] == "open"));
    let mut id = 10;
    assert!(eventually(|| {
        id += 1;
        let answer = peer.ask(&sleep(id, 0));
        assert!(answer["result"].is_object() || reason(answer) == "breaker_open");
        shown(&lakh, "scripted")["breaker"] == "closed"
    }));
    assert_eq!(text_of(&peer.ask(&sleep(4, 0))), "4");
}

/// What has no connection waits in the fair queue, not behind it.
#[test]
fn over_http_no_more_calls_are_in_flight_than_there_are_connections() {
    let behind = Process::start(&[]);
    let url = format!("http://{}/mcp", behind.clients);
    for (era, connections) in [("legacy", 2), ("modern", 3)] {
        let lakh = Process::with_file(&format!(
            "[upstreams.far]\nhttp = {url:?}\nera = {era:?}\nhttp_connections_max = {connections}\nqueue_max = 2\n"
        ));
        let mut peer = Peer::line(lakh.clients);
        assert_eq!(shown(&lakh, "far")["limit"], 2, "{era}: a modern server's stream of changes has the third");
        (1..=4).for_each(|id| peer.say(&call(id, "sleep", &json!({"ms":1_000}))));
        assert!(eventually(|| shown(&lakh, "far")["queued"] == 2), "{era}");
        assert_eq!(shown(&lakh, "far")["in_flight"], 2, "{era}");
        let refused = peer.ask(&call(5, "sleep", &json!({"ms":1})));
        assert_eq!(refused["error"]["data"]["reason"], "queue_full", "{era}: {refused}");
        for _ in 0..4 {
            assert!(peer.hear_message()["result"].is_object(), "{era}");
        }
    }
}
