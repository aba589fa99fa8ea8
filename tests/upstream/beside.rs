//! What servers say beside the answers of calls, and what has changed while nobody could be told.

use std::time::Duration;

use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Peer, Process, call, request, text_of};

const PER_SESSION: &str = "sharing = \"per-session\"";

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
