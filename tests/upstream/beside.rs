//! What servers say beside the answers of calls, and what has changed while nobody could be told.

use std::time::Duration;

use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Process, call, request, text_of};

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
