//! The guards through the real wire: each lets the last one in and no more, says why and until when in the dialect of the
//! one it refuses, is counted, and leaves those who are in alone.

mod bytes;
mod calls;
mod connections;
mod memory;
#[path = "../peer/mod.rs"]
mod peer;
mod sessions;
mod tenants;

use std::sync::Arc;

use lakh::conn::{Connections, House};
use lakh::guard::Refusal;
use lakh::meter::Named;
use peer::http::Http;
use peer::{Gateway, Shard, call, mcp};
use serde_json::{Value, json};

/// What `/metrics` says of this.
fn metric(gateway: &Gateway, name: &str) -> u64 {
    let answer = Http::connect(gateway.admin()).ask("GET /metrics", "");
    let value = answer.body.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {}", answer.body))
}

/// Whether just so many were refused so, by the counter and by `/metrics`.
fn refused(gateway: &Gateway, refusal: Refusal, count: u64) -> bool {
    let published = metric(gateway, &format!("lakh_refusals_total{{reason=\"{}\"}}", refusal.name()));
    (gateway.house().seats.refusals.get(refusal), published) == (count, count)
}

/// A shard by itself: nobody looks how full the house is, so that a test says it.
fn bare() -> (Arc<House>, Shard) {
    let guard = lakh::guard::Config { idle_ms_min: 1_000, ..lakh::guard::Config::default() };
    let house = House::new(lakh::conn::Config::default(), lakh::wire::Config::default(), &guard, 1);
    let house = Arc::new(house);
    let (service, inside) = (mcp(&house), Arc::clone(&house));
    (house, Shard::run(move || Connections::new(inside, 300, service)))
}

fn echo(id: u64) -> Value {
    call(id, "echo", &json!({"text": "hello"}))
}

fn sleep(id: u64) -> Value {
    call(id, "sleep", &json!({"ms": 60_000}))
}

/// The code of an error and the time to wait that it tells, in milliseconds.
#[track_caller]
fn told(answer: &Value) -> (i64, u64) {
    let error = &answer["error"];
    let code = error["code"].as_i64().unwrap_or_else(|| panic!("{answer} is no error"));
    let wait = error["data"]["retryAfterMs"].as_u64().unwrap_or_else(|| panic!("{answer} tells no time"));
    assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{answer}");
    (code, wait)
}

/// Whether it is an answer within a session, where the status is of the transport alone, and its error has this code.
fn is_told_inside(answer: &peer::http::Answer, code: i64) -> bool {
    answer.status == 200 && answer.line("retry-after").is_none() && told(&answer.json()).0 == code
}

/// Whether `Retry-After` of an answer over HTTP is what its error says, in whole seconds and no less.
fn agrees(answer: &peer::http::Answer) -> bool {
    let (code, wait) = told(&answer.json());
    i64::from(answer.status) == code && answer.line("retry-after") == Some(&wait.div_ceil(1_000).to_string())
}
