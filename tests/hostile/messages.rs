//! Peers whose framing is right and whose messages are not. Their connections live on.

use lakh::conn::Parting;
use lakh::mcp::{Fault, Ignored};
use lakh::wire::envelope::Defect;
use serde_json::{Value, json};

use crate::peer::{Gateway, Peer, call, request};

/// Says `text` over both dialects after a handshake; checks the error, the counters and that the connection lives on.
#[track_caller]
fn is_refused(text: &str, code: i64, id: &Value, fault: Fault, defect: Option<Defect>) {
    let gateway = Gateway::start(|_| {});
    let mut neighbour = gateway.neighbour();
    for (count, mut peer) in (1..).zip([Peer::line(gateway.clients()), Peer::websocket(gateway.clients())]) {
        peer.say_text(text);
        assert!(neighbour.is_answered(1));
        assert_eq!(peer.hear_error(), (code, id.clone()));
        assert_eq!(gateway.house().ledger.faults.get(fault), count, "{fault:?}");
        if let Some(defect) = defect {
            assert_eq!(gateway.house().ledger.defects.get(defect), count, "{defect:?}");
        }
        assert!(peer.is_answered(2), "after the error");
    }
    assert!(neighbour.is_answered(3));
    let partings = &gateway.house().ledger.partings;
    assert_eq!(partings.total(), partings.get(Parting::PeerClosed), "nobody was parted by us");
}

#[test]
fn babbler_in_the_middle_of_a_session() {
    is_refused("{]", -32700, &Value::Null, Fault::NotJson, Some(Defect::NotJson));
    is_refused("hello", -32700, &Value::Null, Fault::NotJson, Some(Defect::NotJson));
    is_refused("17", -32600, &Value::Null, Fault::InvalidRequest, Some(Defect::NotAnObject));
}

#[test]
fn digger_of_a_hundred_thousand_levels() {
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":5,"method":"ping","params":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let gateway = Gateway::start(|_| {});
    let mut neighbour = gateway.neighbour();
    for (count, mut peer) in (1..).zip([Peer::line(gateway.clients()), Peer::websocket(gateway.clients())]) {
        peer.say_text(&deep);
        assert!(neighbour.is_answered(1));
        assert_eq!(peer.hear_error().0, -32700);
        assert_eq!(gateway.house().ledger.faults.get(Fault::TooDeep), count);
        assert_eq!(gateway.house().ledger.defects.get(Defect::TooDeep), count);
        assert!(peer.is_answered(2));
    }
}

#[test]
fn speaker_of_no_utf8() {
    let gateway = Gateway::start(|_| {});
    let (mut neighbour, mut peer) = (gateway.neighbour(), gateway.neighbour());
    peer.send(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"p\xffng\"}\n");
    assert_eq!(peer.hear_error(), (-32700, Value::Null));
    assert_eq!(gateway.house().ledger.faults.get(Fault::InvalidUtf8), 1);
    assert_eq!(gateway.house().ledger.defects.get(Defect::InvalidUtf8), 1);
    assert!(peer.is_answered(2) && neighbour.is_answered(3));
}

#[test]
fn asker_with_the_id_null() {
    let text = r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#;
    is_refused(text, -32600, &Value::Null, Fault::IdNull, Some(Defect::IdNull));
}

#[test]
fn caller_of_an_unknown_method() {
    is_refused(
        r#"{"jsonrpc":"2.0","id":"x","method":"tools/hammer"}"#,
        -32601,
        &json!("x"),
        Fault::UnknownMethod,
        None,
    );
}

#[test]
fn sender_of_batches_where_there_are_none() {
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#;
    is_refused(batch, -32600, &Value::Null, Fault::BatchNotAllowed, None);
}

#[test]
fn hasty_one_that_does_not_initialize() {
    let gateway = Gateway::start(|_| {});
    let mut neighbour = gateway.neighbour();
    for (count, mut peer) in (1..).zip([Peer::connect(gateway.clients()), Peer::upgraded(gateway.clients())]) {
        peer.say(&request(7, "tools/list", &json!({})));
        assert_eq!(peer.hear_error(), (-32602, json!(7)));
        assert_eq!(gateway.house().ledger.faults.get(Fault::NotInitialized), count);
        assert!(peer.is_answered(8), "a ping is allowed at any time");
    }
    assert!(neighbour.is_answered(1));
}

#[test]
fn repeater_of_an_id_in_use() {
    let gateway = Gateway::start(|_| {});
    let mut neighbour = gateway.neighbour();
    for mut peer in [gateway.neighbour(), Peer::websocket(gateway.clients())] {
        let before = gateway.house().ledger.faults.get(Fault::DuplicateId);
        peer.say(&call(7, "sleep", &json!({"ms": 600})));
        // The one that is answered at once is as wrong as the one that waits.
        for again in [call(7, "sleep", &json!({"ms": 1})), request(7, "tools/list", &json!({}))] {
            assert_eq!(peer.ask(&again)["error"]["code"], -32600);
        }
        assert_eq!(gateway.house().ledger.faults.get(Fault::DuplicateId), before + 2);
        assert!(neighbour.is_answered(1));
        let answer = peer.hear_message();
        assert_eq!((&answer["id"], &answer["result"]["structuredContent"]["sleptMs"]), (&json!(7), &json!(600)));
        assert!(peer.is_answered(7), "the id is free again");
    }
}

#[test]
fn repeater_of_a_subscription() {
    let gateway = Gateway::start(|config| config.conn.in_flight_max = 4);
    let mut peer = Peer::connect(gateway.clients());
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let listen = |id| request(id, "subscriptions/listen", &json!({"_meta": meta, "notifications": {}}));
    assert_eq!(peer.ask(&listen(1))["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(peer.ask(&listen(1))["error"]["code"], -32600);
    assert_eq!(gateway.house().ledger.faults.get(Fault::DuplicateId), 1);
    for id in 2..=4 {
        assert_eq!(peer.ask(&listen(id))["method"], "notifications/subscriptions/acknowledged");
    }
    assert_eq!(peer.ask(&listen(5))["error"]["code"], 429, "subscriptions count among the calls in flight");
    assert_eq!(gateway.house().ledger.faults.get(Fault::TooManyInFlight), 1);
}

#[test]
fn a_right_batch_is_one_array_however_slow_its_calls() {
    let gateway = Gateway::start(|_| {});
    let mut neighbour = gateway.neighbour();
    let mut peer = Peer::line_in(gateway.clients(), "2025-03-26");
    let batch = json!([
        call(1, "sleep", &json!({"ms": 300})),
        call(2, "add", &json!({"a": 20, "b": 3})),
        {"jsonrpc": "2.0", "method": "notifications/nothing"},
        call(3, "sleep", &json!({"ms": 100})),
        {"jsonrpc": "2.0", "id": null, "method": "ping"},
        request(4, "no/such", &json!({})),
    ]);
    peer.say(&batch);
    assert!(neighbour.is_answered(1));
    assert!(peer.is_answered(9), "the next message is not held up");
    let answer = peer.hear_message();
    let answers = answer.as_array().expect("one array");
    let of = |id: Value| answers.iter().find(|answer| answer["id"] == id).expect("an answer");
    assert_eq!(answers.len(), 5, "{answer}");
    for (id, result) in [(1, "300"), (2, "23"), (3, "100")] {
        assert!(of(json!(id))["result"].to_string().contains(result), "{answer}");
    }
    assert_eq!(of(json!(4))["error"]["code"], -32601);
    assert_eq!(of(Value::Null)["error"]["code"], -32600);
    assert_eq!(gateway.house().ledger.ignored.get(Ignored::UnknownNotification), 1);
    assert!(peer.is_answered(10));
}

#[test]
fn a_batch_that_cancels_the_last_call_of_another_completes_that_one_beside_itself() {
    let gateway = Gateway::start(|_| {});
    let mut peer = Peer::line_in(gateway.clients(), "2025-03-26");
    peer.say(&json!([call(1, "sleep", &json!({"ms": 60_000})), request(2, "ping", &json!({}))]));
    assert!(peer.is_answered(9), "the batch waits");
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    peer.say(&json!([cancel, request(3, "ping", &json!({}))]));
    let pong = |id| json!([{"jsonrpc": "2.0", "id": id, "result": {}}]);
    assert_eq!((peer.hear_message(), peer.hear_message()), (pong(2), pong(3)));
}
