//! Servers over Streamable HTTP that forget, refuse, send elsewhere or never end: the one who waits gets one named error or
//! the truth, and nobody else notices.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::peer::http::Http;
use crate::peer::web::{Asked, Reply, Web, events, with_status};
use crate::peer::{Peer, Process, call, eventually, request, scripted, text_of};

/// A gateway in front of the server `web`, with these knobs, and another one beside it.
fn in_front_of(web: &Web, knobs: &str) -> Process {
    let (url, beside) = (web.url(), scripted());
    Process::with_file(&format!(
        "[upstreams.web]\nhttp = {url:?}\n{knobs}\n[upstreams.beside]\ncommand = {beside:?}\n[catalogue]\nprefix = \"always\"\n"
    ))
}

fn echo(id: u64, text: &str) -> Value {
    call(id, "web_echo", &json!({"text": text}))
}

/// That others are served meanwhile.
#[track_caller]
fn assert_neighbour(lakh: &Process) {
    let answer = Peer::line(lakh.clients).ask(&call(1, "beside_echo", &json!({"text": "me"})));
    assert_eq!(text_of(&answer), "me");
}

/// The reason of an error that names its server, says what happened, and whether to try again.
#[track_caller]
fn assert_named(answer: &Value, reason: &str, retry: bool, words: &str) {
    let error = &answer["error"];
    assert_eq!(error["data"]["upstream"], "web", "{answer}");
    assert_eq!((&error["data"]["reason"], &error["data"]["retry"]), (&json!(reason), &json!(retry)), "{answer}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("Upstream web: ") && message.contains(words), "{words}: {message}");
}

/// What a server says to a session that it does not know (spec 2025-11-25 basic/transports#session-management).
fn unknown_session() -> Reply {
    Reply::Keep(with_status("404 Not Found", "text/plain", "no such session"))
}

/// A server that answers calls so, and is honest otherwise.
fn answers_calls(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Web {
    Web::start(move |asked| asked.is("tools/call").then(|| reply(asked)))
}

#[test]
fn a_session_that_is_forgotten_is_opened_anew_and_the_call_repeated_once() {
    let web = Web::start(|asked| {
        (asked.is("tools/call") && asked.line("mcp-session-id") == Some("s0")).then(unknown_session)
    });
    let lakh = in_front_of(&web, "");
    let mut peer = Peer::line(lakh.clients);
    assert_eq!(text_of(&peer.ask(&echo(1, "once"))), "once");
    assert_eq!(web.called_in(), ["s0", "s1"]);
    assert!(peer.is_answered(2), "one answer and no more");
    assert_eq!(text_of(&peer.ask(&echo(3, "again"))), "again");
    assert_eq!(web.called_in(), ["s0", "s1", "s1"]);
}

#[test]
fn a_session_that_is_lost_with_each_call_costs_one_named_error() {
    let web = answers_calls(|_| unknown_session());
    let lakh = in_front_of(&web, "");
    let mut peer = Peer::line(lakh.clients);
    assert_named(&peer.ask(&echo(1, "x")), "session_lost", true, "does not know our session any more");
    assert_eq!(web.called_in(), ["s0", "s1"], "repeated once");
    assert!(peer.is_answered(2));
    assert_neighbour(&lakh);
}

/// Nobody knows what the server has done with it.
#[test]
fn a_call_that_waits_while_another_finds_the_session_lost_costs_one_named_error() {
    let web = Web::start(|asked| match asked.message["params"]["arguments"]["text"].as_str() {
        Some("waits") => Some(Reply::Hold(events(": so far\n\n"))),
        Some(_) if asked.line("mcp-session-id") == Some("s0") => Some(unknown_session()),
        _ => None,
    });
    let lakh = in_front_of(&web, "");
    let (mut waits, mut peer) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    waits.say(&echo(1, "waits"));
    assert!(eventually(|| web.called_in().len() == 1));
    assert_eq!(text_of(&peer.ask(&echo(1, "x"))), "x");
    assert_named(&waits.hear_message(), "lost", true, "may have had effects");
    assert_eq!(web.called_in(), ["s0", "s0", "s1"]);
    assert!(waits.is_answered(2) && peer.is_answered(2));
}

/// The server has begun with the call: who knows what it has done.
#[test]
fn a_call_that_is_lost_with_its_session_on_the_way_is_not_repeated() {
    let web = Web::start(|asked| match &*asked.verb {
        "GET" if asked.line("last-event-id").is_some() => Some(unknown_session()),
        _ => asked.is("tools/call").then(|| Reply::Close(events("id: e1\nretry: 10\ndata:\n\n"))),
    });
    let lakh = in_front_of(&web, "");
    let mut peer = Peer::line(lakh.clients);
    assert_named(&peer.ask(&echo(1, "x")), "lost", true, "may have had effects");
    assert_eq!(web.called_in(), ["s0"]);
    assert!(peer.is_answered(2));
    assert_neighbour(&lakh);
}

/// Spec 2026-07-28 basic/index#meta.
#[test]
fn what_joins_the_spans_of_a_call_passes_over_http_on_both_sides() {
    let web = Web::start(|_| None);
    let lakh = in_front_of(&web, "");
    let meta = json!({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=b,c=d", "baggage": "user=\u{e4}"});
    let params = json!({"name": "web_echo", "arguments": {"text": "x"}, "_meta": meta});
    let answer = Http::connect(lakh.clients).post_modern(1, "tools/call", &params);
    assert_eq!(text_of(&answer.json()), "x");
    let mut legacy = Http::open(lakh.clients, "2025-11-25");
    assert_eq!(text_of(&legacy.post(&request(1, "tools/call", &params)).json()), "x");
    let called: Vec<_> = web.heard().into_iter().filter(|asked| asked.is("tools/call")).collect();
    assert_eq!(called.len(), 2);
    for asked in called {
        assert_eq!(asked.message["params"]["_meta"], meta, "of the client's own era nothing is left");
    }
}

#[test]
fn an_error_page_is_no_answer() {
    let page = "<html><body>Internal Server Error</body></html>";
    let web = answers_calls(move |_| Reply::Keep(with_status("500 Internal Server Error", "text/html", page)));
    let lakh = in_front_of(&web, "");
    let answer = Peer::line(lakh.clients).ask(&echo(1, "x"));
    assert_named(&answer, "http_status", true, "500");
    assert!(answer["error"]["message"].as_str().is_some_and(|it| it.contains("may have had effects")), "{answer}");
    assert_eq!(web.called_in().len(), 1);
    assert_neighbour(&lakh);
}

#[test]
fn a_redirect_is_named_and_not_followed() {
    let elsewhere = Web::start(|_| None);
    let place = elsewhere.url();
    let web = answers_calls(move |asked| {
        let status = asked.message["params"]["arguments"]["text"].as_str().unwrap_or_default();
        Reply::Keep(format!("HTTP/1.1 {status} Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"))
    });
    let lakh = in_front_of(&web, "");
    let mut peer = Peer::line(lakh.clients);
    for status in ["301", "302", "303", "307", "308"] {
        let answer = peer.ask(&echo(1, status));
        assert_named(&answer, "redirected", false, &elsewhere.url());
    }
    assert!(elsewhere.heard().is_empty(), "our headers are for nobody else");
    assert_eq!(web.called_in().len(), 5);
    assert_neighbour(&lakh);
}

#[test]
fn a_stream_that_never_comes_to_its_answer_is_waited_for_as_long_as_the_knob_says() {
    let web = answers_calls(|asked| match asked.message["params"]["arguments"]["text"].as_str() {
        Some("head") => Reply::Hold(String::new()),
        Some("silence") => Reply::Hold(events(": nothing yet\n\n")),
        Some("half") => Reply::Hold(events("data: {\"jsonrpc\":\"2.0\",\"id\"")),
        _ => Reply::json(&asked.echoed()),
    });
    let lakh = in_front_of(&web, "call_ms = 300\nhttp_connections_max = 1");
    let mut peer = Peer::line(lakh.clients);
    for how in ["head", "silence", "half"] {
        peer.say(&echo(1, how));
        assert_neighbour(&lakh);
        assert_named(&peer.hear_message(), "mute", true, "no answer in time: nothing for ");
        // And its connection is free again, of which there is but one.
        assert_eq!(text_of(&peer.ask(&echo(2, "the next"))), "the next", "{how}");
    }
}

#[test]
fn a_stream_that_pours_without_end_is_bounded_in_time_and_memory() {
    let notice = json!({"jsonrpc": "2.0", "method": "notifications/message",
        "params": {"level": "debug", "data": "x".repeat(1_000)}});
    let step = json!({"jsonrpc": "2.0", "method": "notifications/progress",
        "params": {"progressToken": "nobody's", "progress": 1}});
    let pours = [
        ("comments", format!(": {}\n\n", "x".repeat(1_000)).repeat(64), "mute"),
        ("ids", format!("id: {}\ndata:\n\n", "x".repeat(1_000)).repeat(64), "mute"),
        ("steps", format!("data: {step}\n\n").repeat(64), "mute"),
        ("notices", format!("data: {notice}\n\n").repeat(64), "mute"),
        ("strangers", "data: {\"jsonrpc\":\"2.0\",\"method\":\"nobody/knows\"}\n\n".repeat(64), "mute"),
        ("one line", "x".repeat(64 << 10), "too_long"),
        ("one event", format!("data: {}\n", "x".repeat(1_000)).repeat(64), "too_long"),
    ];
    let all = pours.clone();
    let web = answers_calls(move |asked| {
        let how = &asked.message["params"]["arguments"]["text"];
        let (_, more, _) = all.iter().find(|(name, ..)| how == name).expect("one of them");
        Reply::Pour(events(if how == "one line" { "data: " } else { "" }), more.clone())
    });
    let lakh = in_front_of(&web, "call_ms = 300");
    for (how, _, reason) in pours {
        let mut peer = Peer::line(lakh.clients);
        let calls = web.called_in().len();
        peer.say(&echo(1, how));
        assert!(eventually(|| web.called_in().len() > calls));
        for _ in 0..3 {
            assert_neighbour(&lakh);
        }
        let answer = loop {
            let heard = peer.hear_message();
            if heard["id"] == 1 {
                break heard;
            }
        };
        assert_named(&answer, reason, reason == "mute", "");
        assert!(lakh.rss() < 100 << 20, "{how}: {} bytes", lakh.rss());
    }
}

#[test]
fn an_answer_that_ends_between_two_of_its_bytes_is_none() {
    let text = r#"{"jsonrpc":"2.0","id":"#;
    let broken = AtomicBool::new(false);
    let web = answers_calls(move |asked| match asked.message["params"]["arguments"]["text"].as_str() {
        Some("event") => Reply::Close(events(&format!("data: {text}"))),
        Some("chunk") => Reply::Close(
            events(&format!("{text}\n")).replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n80\r\n"),
        ),
        Some("body") => Reply::Close(with_status("200 OK", "application/json", text).replace("Length: ", "Length: 9")),
        Some("head") if !broken.swap(true, Ordering::Relaxed) => Reply::Close("HTTP/1.1 200 O".into()),
        _ => Reply::json(&asked.echoed()),
    });
    let lakh = in_front_of(&web, "");
    let mut peer = Peer::line(lakh.clients);
    for how in ["event", "chunk", "body", "head"] {
        let calls = web.called_in().len();
        assert_named(&peer.ask(&echo(1, how)), "lost", true, "may have had effects");
        assert_eq!(web.called_in().len(), calls + 1, "{how}: it may have had effects");
        assert_neighbour(&lakh);
    }
    assert_eq!(text_of(&peer.ask(&echo(2, "well"))), "well");
}
