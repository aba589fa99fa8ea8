//! Seats for sessions over HTTP.

use lakh::guard::{Refusal, Zone};
use lakh::wire::http;
use serde_json::{Value, json};

use crate::peer::http::Http;
use crate::peer::{Gateway, request};
use crate::{bare, refused};

fn initialize() -> Value {
    let info = json!({"name": "late", "version": "1"});
    request(0, "initialize", &json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}))
}

#[test]
fn the_last_session_is_opened_and_one_more_is_refused_while_those_that_are_in_stay() {
    let gateway = Gateway::start(|config| config.guard.sessions_max = 3);
    let mut clients: Vec<Http> = (0..2).map(|_| Http::open(gateway.clients(), "2025-11-25")).collect();
    let mut old = Http::connect(gateway.clients());
    assert_eq!(old.ask("GET /sse", "Accept: text/event-stream\r\n").status, 200, "the third is of 2024-11-05");
    let mut late = Http::connect(gateway.clients());
    let answer = late.post(&initialize());
    assert_eq!((answer.status, answer.line("retry-after")), (503, Some("5")));
    let answer = Http::connect(gateway.clients()).ask("GET /sse", "Accept: text/event-stream\r\n");
    assert_eq!((answer.status, answer.line("retry-after")), (503, Some("5")));
    assert!(refused(&gateway, Refusal::SessionsFull, 2));
    assert_eq!(gateway.house().ledger.http_refusals.get(http::Refusal::SessionsFull), 2);
    assert_eq!(gateway.house().http_sessions(), 3);
    assert!(clients.iter_mut().all(|client| client.post(&crate::echo(1)).status == 200));
    assert_eq!(clients[0].sibling().ask("DELETE /mcp", "").status, 204);
    assert_eq!(late.post(&initialize()).status, 200, "on the connection that was refused");
    let mut modern = Http::connect(gateway.clients());
    let answer = modern.post_modern(1, "tools/call", &json!({"name": "echo", "arguments": {"text": "x"}}));
    assert_eq!(answer.status, 200, "2026-07-28 has no sessions to run out of");
}

#[test]
fn in_the_critical_zone_no_session_is_opened() {
    let (house, shard) = bare();
    let mut client = Http::open(shard.clients, "2025-11-25");
    let mut late = Http::connect(shard.clients);
    assert_eq!(late.ask("OPTIONS /mcp", "").status, 204, "it is in");
    house.pressure.set(Zone::Critical, Zone::Safe);
    let answer = late.post(&initialize());
    assert_eq!((answer.status, answer.line("retry-after")), (503, Some("5")));
    assert!(house.seats.refusals.get(Refusal::Critical) == 1 && late.is_closed());
    assert_eq!(client.post(&crate::echo(1)).status, 200);
    assert_eq!(house.http_sessions(), 1);
}
