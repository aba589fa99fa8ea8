//! What changes behind the gateway is told once to each who asked, and to nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::web::{Reply, Web};
use crate::peer::{Peer, Process, call, eventually, request, scripted, text_of};

const QUIET: Duration = Duration::from_millis(400);

fn in_front_of_two() -> Process {
    let [one, two] = ["one", "two"].map(|name| format!("{name}={}", scripted()));
    Process::in_front_of(&["--stdio", &one, "--stdio", &two], &[])
}

fn meta() -> Value {
    json!({"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}})
}

fn subscribe(peer: &mut Peer, uri: &str) {
    assert_eq!(peer.ask(&request(70, "resources/subscribe", &json!({"uri":uri})))["result"], json!({}));
}

#[test]
fn a_grown_list_is_told_once_to_every_client_and_is_there_when_asked_for() {
    let lakh = Process::in_front_of_scripted(&[]);
    let (mut grower, mut other) = (Peer::line(lakh.clients), Peer::websocket(lakh.clients));
    grower.say(&call(1, "grow", &json!({})));
    let mut heard = [grower.hear_message(), grower.hear_message()];
    heard.sort_by_key(|message| message["id"].is_null());
    assert_eq!(heard[1]["method"], "notifications/tools/list_changed");
    assert_eq!(other.hear_message()["method"], "notifications/tools/list_changed");
    let tools = other.ask(&request(2, "tools/list", &json!({})))["result"]["tools"].to_string();
    assert!(tools.contains("grown-0"), "{tools}");
    assert!(other.hears_nothing(QUIET) && grower.hears_nothing(QUIET), "told twice");
}

#[test]
fn a_touched_resource_is_told_to_those_who_watch_it_and_the_server_is_subscribed_to_once() {
    let lakh = Process::in_front_of_scripted(&[]);
    let [mut one, mut two, mut three] = [(); 3].map(|()| Peer::line(lakh.clients));
    subscribe(&mut one, "test://one");
    subscribe(&mut two, "test://one");
    subscribe(&mut three, "test://two");
    assert_eq!(super::told(&mut three)["watched"], json!({"test://one":1,"test://two":1}));
    let held = |line: &str| line.strip_prefix("lakh_part_bytes{part=\"watches\"} ").map(|bytes| bytes != "0");
    assert!(super::tells(&lakh, |line| held(line) == Some(true)));
    assert_eq!(text_of(&three.ask(&call(1, "touch", &json!({"uri":"test://one"})))), "touched");
    for peer in [&mut one, &mut two] {
        let told = peer.hear_message();
        assert_eq!(
            (&told["method"], &told["params"]["uri"]),
            (&json!("notifications/resources/updated"), &json!("test://one"))
        );
    }
    assert!(three.hears_nothing(QUIET));
    // The same name goes on, but it is no part of it.
    for part in ["-and-more", "/a?part#of"] {
        assert_eq!(text_of(&three.ask(&call(1, "touch", &json!({"uri":"test://one","part":part})))), "touched");
    }
    for peer in [&mut one, &mut two] {
        assert_eq!(peer.hear_message()["params"]["uri"], "test://one/a?part#of");
    }
    drop(one);
    assert_eq!(two.ask(&request(71, "resources/unsubscribe", &json!({"uri":"test://one"})))["result"], json!({}));
    assert!(eventually(|| super::told(&mut three)["watched"] == json!({"test://two":1})));
}

#[test]
fn the_server_is_as_talkative_as_the_most_curious_client_wants() {
    let lakh = Process::in_front_of_scripted(&[]);
    let (mut curious, mut calm) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    let level = |peer: &mut Peer, level: &str| peer.ask(&request(1, "logging/setLevel", &json!({"level":level})));
    assert_eq!(level(&mut calm, "error")["result"], json!({}));
    assert_eq!(level(&mut curious, "debug")["result"], json!({}));
    let levels = |peer: &mut Peer| super::told(peer)["levels"].as_array().and_then(|levels| levels.last().cloned());
    assert!(eventually(|| levels(&mut calm) == Some(json!("debug"))));
    let logged = |peer: &mut Peer, level: &str| -> Vec<Value> {
        peer.say(&call(2, "log", &json!({"text":"said","level":level})));
        let mut heard = vec![peer.hear_message()];
        while heard.last().is_some_and(|message| message["id"].is_null()) {
            heard.push(peer.hear_message());
        }
        heard.pop();
        heard
    };
    let info = logged(&mut curious, "info");
    assert_eq!(info.len(), 1, "{info:?}");
    assert_eq!(info[0]["params"]["data"], "said");
    assert!(logged(&mut calm, "info").is_empty(), "below what it wants");
    assert_eq!(logged(&mut calm, "critical").len(), 1);
    drop(curious);
    assert!(eventually(|| levels(&mut calm) == Some(json!("error"))));
}

/// Each client has a server of its own: what that one says of a resource is not about the others'.
#[test]
fn with_a_session_each_a_touched_resource_is_told_to_its_own_client_alone() {
    let lakh = Process::in_front_of_scripted_with("sharing = \"per-session\"");
    let [mut one, mut two] = [(); 2].map(|()| Peer::line(lakh.clients));
    let mut three = Peer::connect(lakh.clients);
    subscribe(&mut one, "test://one");
    subscribe(&mut two, "test://one");
    three.say(&json!({"jsonrpc":"2.0","id":7,"method":"subscriptions/listen","params":{
        "notifications":{"resourceSubscriptions":["test://one"]},
        "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},
    }}));
    assert_eq!(three.hear_message()["method"], "notifications/subscriptions/acknowledged");
    one.say(&call(1, "touch", &json!({"uri":"test://one"})));
    let mut heard = [one.hear_message(), one.hear_message()];
    heard.sort_by_key(|message| message["id"].is_null());
    assert_eq!(heard[1]["params"]["uri"], "test://one");
    assert!(two.hears_nothing(QUIET) && three.hears_nothing(QUIET), "another's");
}

/// It tells nobody of changes: that its lists are fresh for a moment only is all that is known.
#[test]
fn a_server_whose_lists_are_fresh_for_a_moment_is_looked_at_again() {
    let grown = Arc::new(AtomicBool::new(false));
    let has_grown = Arc::clone(&grown);
    let web = Web::start(move |asked| {
        let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
        let mut result = if asked.is("server/discover") {
            let info = json!({"io.modelcontextprotocol/serverInfo": {"name": "web", "version": "1"}});
            json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "_meta": info})
        } else if asked.is("tools/list") {
            let more = has_grown.load(Ordering::Relaxed).then(|| tool("grown"));
            let tools: Vec<_> = [tool("echo")].into_iter().chain(more).collect();
            json!({"tools": tools})
        } else {
            return None;
        };
        (result["resultType"], result["ttlMs"], result["cacheScope"]) =
            ("complete".into(), 500.into(), "public".into());
        Some(Reply::json(&asked.answer(&result)))
    });
    let lakh = Process::in_front_of(&["--http", &web.url()], &[]);
    let mut peer = Peer::line(lakh.clients);
    let names = |peer: &mut Peer| peer.ask(&request(1, "tools/list", &json!({})))["result"]["tools"].to_string();
    assert!(!names(&mut peer).contains("grown"));
    grown.store(true, Ordering::Relaxed);
    assert_eq!(peer.hear_message()["method"], "notifications/tools/list_changed");
    assert!(names(&mut peer).contains("grown"));
}

/// What nobody has is refused in the words of each revision.
#[test]
fn a_resource_that_no_server_has_is_refused_by_its_uri() {
    let lakh = in_front_of_two();
    let (mut legacy, mut new) = (Peer::line(lakh.clients), Peer::connect(lakh.clients));
    for (id, method) in [(1, "resources/read"), (2, "resources/subscribe")] {
        let error = legacy.ask(&request(id, method, &json!({"uri": "other://x"})))["error"].clone();
        assert_eq!((&error["code"], &error["data"]["uri"]), (&json!(-32002), &json!("other://x")), "{error}");
    }
    let error = new.ask(&request(3, "resources/read", &json!({"uri": "other://x", "_meta": meta()})))["error"].clone();
    assert_eq!((&error["code"], &error["data"]["uri"]), (&json!(-32602), &json!("other://x")), "{error}");
}

/// Spec 2026-07-28 basic/patterns/subscriptions#acknowledgment.
#[test]
fn a_subscription_is_acknowledged_with_what_some_server_has() {
    let lakh = in_front_of_two();
    let mut peer = Peer::connect(lakh.clients);
    for (id, uris, honoured) in [
        (1, json!(["other://x", "test://one", "other://y"]), json!({"resourceSubscriptions": ["test://one"]})),
        (2, json!(["other://x"]), json!({})),
    ] {
        let wanted = json!({"notifications": {"resourceSubscriptions": uris}, "_meta": meta()});
        let acknowledged = peer.ask(&request(id, "subscriptions/listen", &wanted));
        assert_eq!(acknowledged["params"]["notifications"], honoured);
        assert_eq!(acknowledged["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], id);
    }
}

#[test]
fn who_watches_as_much_as_it_may_is_told_to_unsubscribe() {
    let lakh = Process::in_front_of_scripted(&[]);
    let (mut legacy, mut new) = (Peer::line(lakh.clients), Peer::connect(lakh.clients));
    for item in 0..256 {
        subscribe(&mut legacy, &format!("test://item/{item}"));
    }
    let refused = legacy.ask(&request(1, "resources/subscribe", &json!({"uri": "test://one"})))["error"].clone();
    assert_eq!((&refused["code"], refused["data"]["retryAfterMs"].is_u64()), (&json!(429), true));
    assert!(refused["message"].as_str().is_some_and(|message| message.contains("unsubscribe")), "{refused}");
    legacy.ask(&request(2, "resources/unsubscribe", &json!({"uri": "test://item/7"})));
    subscribe(&mut legacy, "test://one");
    let mut listen = |id, uris: Vec<String>| {
        let wanted = json!({"notifications": {"resourceSubscriptions": uris}, "_meta": meta()});
        new.ask(&request(id, "subscriptions/listen", &wanted))
    };
    let most = (0..256).map(|item| format!("test://item/{item}")).collect();
    assert_eq!(listen(3, most)["method"], "notifications/subscriptions/acknowledged");
    let refused = listen(4, vec!["test://one".into()])["error"].clone();
    assert!(refused["message"].as_str().is_some_and(|message| message.contains("unsubscribe")), "{refused}");
}
