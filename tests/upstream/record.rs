//! What the operator sees of each call: one line in the log, and a count under the name of a tool that there is.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::peer::{Peer, Process, call, eventually, request, scripted, text_of};

#[test]
fn each_call_has_one_line_in_the_log_however_it_ends() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
    command.args(["serve", "--stdio", &format!("scripted={}", scripted())]).stderr(Stdio::piped());
    let mut lakh = Process::start_as(command, &[("LAKH_LOG", "off,lakh::upstream::record=debug"), ("NO_COLOR", "1")]);
    let mut log = lakh.stderr();
    let mut peer = Peer::line(lakh.clients);
    assert_eq!(text_of(&peer.ask(&call(1, "echo", &json!({"text":"hi"})))), "hi");
    assert_eq!(peer.ask(&call(2, &"none ".repeat(100), &json!({})))["error"]["code"], -32602);
    assert!(peer.ask(&request(3, "resources/read", &json!({"uri":"test://one"})))["result"].is_object());
    peer.say(&call(4, "sleep", &json!({"ms":60_000})));
    assert!(eventually(|| super::told(&mut Peer::line(lakh.clients))["pending"] == 1));
    peer.say(&json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":4}}));
    assert!(eventually(|| super::told(&mut Peer::line(lakh.clients))["pending"] == 0));
    drop(lakh);
    let mut text = String::new();
    log.read_to_string(&mut text).expect("a log");
    let lines = |tool: &str| {
        let tool = format!("tool=\"{tool}\"");
        text.lines().filter(|line| line.contains("a call has ended") && line.contains(&tool)).collect::<Vec<_>>()
    };
    let long = "none ".repeat(13);
    for (tool, method, outcome) in [
        ("echo", "tools/call", "result"),
        (&long[..64], "tools/call", "error"),
        ("test://one", "resources/read", "result"),
        ("sleep", "tools/call", "cancelled"),
    ] {
        let found = lines(tool);
        assert_eq!(found.len(), 1, "{tool}: {text}");
        for part in [format!("method=\"{method}\""), format!("outcome=\"{outcome}\""), "upstream=\"scripted\"".into()] {
            assert!(found[0].contains(&part), "{part}: {}", found[0]);
        }
        assert!(!found[0].contains("bytes_out=0 ") && !found[0].contains("micros=0 "), "{}", found[0]);
    }
}

/// Who calls hundreds of names that are none takes no name from the tools that there are.
#[test]
fn only_tools_that_there_are_are_counted_by_name() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peer = Peer::line(lakh.clients);
    for id in 0..300 {
        assert_eq!(peer.ask(&call(id, &format!("none-{id}"), &json!({})))["error"]["code"], -32602);
    }
    assert_eq!(text_of(&peer.ask(&call(300, "echo", &json!({"text":"hi"})))), "hi");
    for (name, count) in [("echo", 1), ("other", 300)] {
        let line = format!("lakh_calls_total{{upstream=\"scripted\",name=\"{name}\"}} {count}");
        assert!(super::tells(&lakh, |it| it == line), "{line}");
    }
}
