//! Identical reads at the same time, through the wire: the server gets one, and everybody gets its answer.

use serde_json::{Value, json};

use crate::front::shown;
use crate::peer::{Peer, Process, call, eventually, request, scripted, text_of};

/// A read that takes that long.
fn read(id: u64, ms: u64) -> Value {
    request(id, "resources/read", &json!({"uri":format!("test://slow/{ms}")}))
}

fn reads(peer: &mut Peer) -> u64 {
    super::told(peer)["reads"].as_u64().expect("a number")
}

fn joined(lakh: &Process, count: u64) -> bool {
    eventually(|| shown(lakh, "scripted")["joined"] == count)
}

/// With seats for so many, and a tool that may be called by many at once.
fn lakh() -> Process {
    let file =
        std::env::temp_dir().join(format!("lakh-joined-{}-{:?}.toml", std::process::id(), std::thread::current().id()));
    std::fs::write(&file, format!("[upstreams.scripted]\ncommand = [{:?}, \"--looks\"]\n", scripted()))
        .expect("a file");
    let lakh =
        Process::in_front_of(&["--config", &file.display().to_string()], &[("LAKH_GUARD_CONNECTIONS_MAX", "150")]);
    std::fs::remove_file(file).expect("it was there");
    lakh
}

#[test]
fn a_hundred_identical_reads_reach_the_server_once_and_all_are_answered() {
    let lakh = lakh();
    let mut looks = Peer::line(lakh.clients);
    let mut peers: Vec<Peer> = (0..100).map(|_| Peer::line(lakh.clients)).collect();
    for (id, peer) in (1..).zip(&mut peers) {
        peer.say(&read(id, 1_500));
    }
    assert!(joined(&lakh, 99));
    for (id, peer) in (1..).zip(&mut peers) {
        let answer = peer.hear_message();
        assert_eq!(
            (&answer["id"], &answer["result"]["contents"][0]["text"]),
            (&json!(id), &json!("the text of test://slow/1500"))
        );
    }
    assert_eq!(reads(&mut looks), 1);
    assert!(super::tells(&lakh, |line| line.starts_with("lakh_upstream_joined_total") && line.ends_with(" 99")));
    // A tool that is read-only and idempotent is one, too; with other arguments it is another call.
    for (id, peer) in (1..).zip(&mut peers) {
        peer.say(&call(id, "look", &json!({"ms":1_000,"text":format!("{}", id % 2)})));
    }
    for (id, peer) in (1_u64..).zip(&mut peers) {
        assert_eq!(text_of(&peer.hear_message()), (id % 2).to_string());
    }
    assert_eq!(super::told(&mut looks)["looks"], 2);
    // What it was answered before says nothing of now; and `echo` may do anything.
    let (one, other) = peers.split_at_mut(1);
    one[0].ask(&read(500, 0));
    for peer in [&mut one[0], &mut other[0]] {
        peer.say(&call(501, "echo", &json!({"text":"x","ms":50})));
    }
    assert_eq!([&mut one[0], &mut other[0]].map(|peer| text_of(&peer.hear_message()).to_owned()), ["x", "x"]);
    assert_eq!((reads(&mut looks), shown(&lakh, "scripted")["joined"].as_u64()), (2, Some(99 + 98)));
}

#[test]
fn one_who_leaves_takes_nobodys_answer_away_and_the_last_one_cancels() {
    let lakh = lakh();
    let mut looks = Peer::line(lakh.clients);
    let mut peers: Vec<Peer> = (0..4).map(|_| Peer::line(lakh.clients)).collect();
    peers[0].say(&read(1, 1_500));
    assert!(eventually(|| shown(&lakh, "scripted")["in_flight"] == 1));
    peers[1..].iter_mut().for_each(|peer| peer.say(&read(2, 1_500)));
    assert!(joined(&lakh, 3));
    // The one whose call was sent, then one who waits.
    drop(peers.remove(0));
    let cancel = json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}});
    peers[2].say(&cancel);
    for peer in &mut peers[..2] {
        assert_eq!(peer.hear_message()["id"], 2);
    }
    assert!(peers[2].is_answered(3), "and nothing else: it has cancelled");
    assert_eq!((reads(&mut looks), super::told(&mut looks)["cancelled"].as_array().map(Vec::len)), (1, Some(0)));
    // All leave.
    peers.iter_mut().for_each(|peer| peer.say(&read(4, 60_000)));
    assert!(joined(&lakh, 5));
    drop(peers);
    assert!(eventually(|| super::told(&mut looks)["cancelled"].as_array().map(Vec::len) == Some(1)));
    assert!(eventually(|| shown(&lakh, "scripted")["in_flight"] == 0));
}

#[test]
fn whoever_reads_behind_a_change_sees_it() {
    let lakh = lakh();
    let (mut early, mut late) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    early.say(&read(1, 1_000));
    assert!(eventually(|| shown(&lakh, "scripted")["in_flight"] == 1));
    assert_eq!(text_of(&late.ask(&call(2, "echo", &json!({"text":"changed"})))), "changed");
    late.say(&read(3, 1_000));
    assert!(eventually(|| shown(&lakh, "scripted")["in_flight"] == 2), "it was sent itself");
    assert_eq!([&mut early, &mut late].map(|peer| peer.hear_message()["id"].clone()), [json!(1), json!(3)]);
}

#[test]
fn a_server_that_dies_fails_all_who_wait_for_the_same() {
    let lakh = Process::in_front_of_scripted_with("retry_budget_percent = 0");
    let mut looks = Peer::line(lakh.clients);
    let server = super::told(&mut looks)["pid"].as_i64().expect("a number");
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::line(lakh.clients)).collect();
    peers.iter_mut().for_each(|peer| peer.say(&read(1, 60_000)));
    assert!(joined(&lakh, 2));
    let server = nix::unistd::Pid::from_raw(i32::try_from(server).expect("a pid"));
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).expect("it was there");
    for peer in &mut peers {
        assert_eq!(peer.hear_message()["error"]["data"]["upstream"], "scripted");
    }
}
