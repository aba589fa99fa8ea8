//! Servers that lie, fall silent or die: the one who waits gets one named error or the truth, and nobody else notices.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::peer::{Heard, Peer, Process, call, eventually, request, scripted, text_of};

/// The server's process.
fn pid(peer: &mut Peer) -> Pid {
    Pid::from_raw(super::told(peer)["pid"].as_i64().expect("a number") as i32)
}

/// An error that says which server it was, what happened, and whether to try again.
fn assert_named(answer: &Value) {
    let error = &answer["error"];
    assert!(error["code"].is_i64(), "{answer}");
    assert_eq!(error["data"]["upstream"], "scripted", "{answer}");
    assert!(error["data"]["reason"].is_string() && error["data"]["retry"].is_boolean(), "{answer}");
    assert!(error["message"].as_str().is_some_and(|message| message.contains("scripted")), "{answer}");
}

#[test]
fn a_lie_harms_nobody_and_the_truth_still_comes() {
    let lakh = Process::in_front_of_scripted(&[]);
    let (mut told, mut neighbour) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    for how in ["garbage", "nobody", "twice", "string-id", "null-id", "progress", "long"] {
        neighbour.say(&call(1, "echo", &json!({"text":"me","ms":50})));
        let answer = told.ask(&call(1, "lie", &json!({"how":how})));
        let text = text_of(&answer);
        assert!(["the truth", "twice"].contains(&text), "{how}: {answer}");
        assert_eq!(text_of(&neighbour.hear_message()), "me", "{how}");
        assert!(told.is_answered(2) && neighbour.is_answered(2), "{how}: something came that nobody asked for");
    }
    assert!(lakh.rss() < 100 << 20, "{} bytes after a line of 100 MB", lakh.rss());
}

#[test]
fn an_answer_that_is_too_long_fails_its_call_at_once_wherever_its_id_is() {
    let lakh = Process::in_front_of_scripted(&[]);
    let (mut told, mut neighbour) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    neighbour.say(&call(1, "sleep", &json!({"ms":2_000,"text":"me"})));
    let answer = told.ask(&call(1, "lie", &json!({"how":"long-answer"})));
    assert_named(&answer);
    assert_eq!(answer["error"]["data"]["reason"], "too_long", "{answer}");
    assert_eq!(text_of(&neighbour.hear_message()), "me");
}

#[test]
fn a_message_with_a_result_and_an_error_is_no_answer() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peer = Peer::line(lakh.clients);
    let answer = peer.ask(&call(1, "lie", &json!({"how":"both"})));
    assert!(answer["error"]["data"]["upstream"] == "scripted" || text_of(&answer) == "the truth", "{answer}");
    assert!(peer.is_answered(2));
}

#[test]
fn a_silent_server_is_waited_for_as_long_as_the_knob_says() {
    let lakh = Process::in_front_of_scripted_with("call_ms = 300");
    let (mut waits, mut neighbour) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    assert_named(&waits.ask(&call(1, "lie", &json!({"how":"nothing"}))));
    assert_eq!(text_of(&neighbour.ask(&call(1, "echo", &json!({"text":"me"})))), "me");
    let counted =
        |kind: &str, count| format!("lakh_upstream_troubles_total{{upstream=\"scripted\",kind=\"{kind}\"}} {count}");
    assert!(super::tells(&lakh, |line| line == counted("mute", 1)));
    assert!(super::tells(&lakh, |line| line == counted("lost", 0)));
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_message_is_named_and_comes_back() {
    let lakh = Process::in_front_of_scripted(&[]);
    for how in ["half", "die"] {
        let mut peer = Peer::line(lakh.clients);
        assert_named(&peer.ask(&call(1, "lie", &json!({"how":how}))));
        assert!(eventually(|| {
            let answer = peer.ask(&call(2, "echo", &json!({"text":"again"})));
            answer["result"].is_object()
        }));
    }
}

/// None lost, none twice, and the clients stay.
#[test]
fn a_server_killed_under_load_costs_each_waiting_call_one_named_error() {
    const CLIENTS: u64 = 50;
    const CALLS: u64 = 8;
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peers: Vec<Peer> = (0..CLIENTS).map(|_| Peer::line(lakh.clients)).collect();
    let server = pid(&mut peers[0]);
    for (client, peer) in peers.iter_mut().enumerate() {
        for id in 0..CALLS {
            let ms = if id % 2 == 0 { 0 } else { 20_000 };
            peer.say(&call(id, "echo", &json!({"text":format!("{client}.{id}"),"ms":ms})));
        }
    }
    for peer in &mut peers {
        // At least one answer each, so that the kill comes under load.
        assert_eq!(peer.hear_message()["id"].as_u64().map(|id| id % 2), Some(0));
    }
    kill(server, Signal::SIGKILL).expect("it was there");
    let (mut answered, mut failed) = (0, 0);
    for (client, peer) in peers.iter_mut().enumerate() {
        let mut seen = [0; CALLS as usize];
        for _ in 1..CALLS {
            let Heard::Message(message) = peer.hear() else { panic!("client {client} was parted") };
            let id = message["id"].as_u64().expect("an id");
            seen[id as usize] += 1;
            if message["error"].is_object() {
                assert_named(&message);
                failed += 1;
            } else {
                assert_eq!(text_of(&message), format!("{client}.{id}"));
                answered += 1;
            }
        }
        assert!(seen.iter().all(|&times| times <= 1), "client {client}: {seen:?}");
        assert!(peer.is_answered(100), "something came twice, or the end");
    }
    assert!(failed >= CLIENTS * CALLS / 2, "{failed} failed, {answered} answered");
    for peer in &mut peers {
        assert!(eventually(|| peer.ask(&call(200, "echo", &json!({"text":"back"})))["result"].is_object()));
    }
}

#[test]
fn a_server_that_pings_without_end_and_reads_nothing_is_given_up_and_comes_back() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peer = Peer::line(lakh.clients);
    let answer = peer.ask(&call(1, "lie", &json!({"how":"ping"})));
    assert_named(&answer);
    assert!(answer["error"]["message"].as_str().is_some_and(|why| why.contains("asks without end")), "{answer}");
    assert!(eventually(|| peer.ask(&call(2, "echo", &json!({"text":"back"})))["result"].is_object()));
    assert!(lakh.rss() < 100 << 20, "{} bytes behind a server that does not read", lakh.rss());
}

#[test]
fn a_server_that_never_says_anything_keeps_nobody_from_the_others() {
    let mute = r#"mute=sh -c "cat >/dev/null""#;
    let lakh = Process::in_front_of(&["--stdio", mute, "--stdio", &format!("scripted={}", scripted())], &[]);
    let mut peer = Peer::line(lakh.clients);
    let lists_echo = |peer: &mut Peer| {
        let tools = peer.ask(&request(1, "tools/list", &json!({})))["result"]["tools"].clone();
        tools.as_array().is_some_and(|tools| tools.iter().any(|tool| tool["name"] == "echo"))
    };
    assert!(eventually(|| lists_echo(&mut peer)));
    assert_eq!(text_of(&peer.ask(&call(2, "echo", &json!({"text":"me"})))), "me");
}
