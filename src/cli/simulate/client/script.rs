//! What a client says and what it must hear, as bytes: the requests, and the checks of their answers.
//!
//! The expected answer is looked for as bytes; only what does not match is parsed, to say what it was.

use std::io::Write;
use std::net::SocketAddr;

use memchr::memmem;
use serde_json::Value;

use super::refusal;
use crate::cli::simulate::order::{Cause, Death};

const INITIALIZE: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"lakh-simulate","version":"1"}}}"#;
const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// What every request of 2026-07-28 carries.
const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"lakh-simulate","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;
/// Where a message of a subscription says which one (2026-07-28 basic/patterns/subscriptions).
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const TOOLS_CHANGED: &[u8] = br#""method":"notifications/tools/list_changed""#;

/// Who speaks, and to whom.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli::simulate) struct Who {
    /// The client's number among all of the run.
    pub(in crate::cli::simulate) number: u32,
    /// Another one for every run and wave, so that the contents are too.
    pub(in crate::cli::simulate) seed: u64,
    pub(in crate::cli::simulate) target: SocketAddr,
    /// On whose account it asks, if on anybody's.
    pub(in crate::cli::simulate) tenant: Option<u32>,
}

#[cfg(test)]
impl Who {
    pub(super) const fn example(number: u32) -> Self {
        let target = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7777);
        Self { number, seed: 7, target, tenant: None }
    }
}

/// Appends the first request of every client; its id is 0, as every SDK counts.
pub(super) fn initialize(out: &mut Vec<u8>) {
    out.extend_from_slice(INITIALIZE);
}

/// Appends the notification that ends the handshake.
pub(super) fn initialized(out: &mut Vec<u8>) {
    out.extend_from_slice(INITIALIZED);
}

/// Appends the call of `echo` with content that only this client of this run sends; the id is a string of its own. A
/// `modern` one is of 2026-07-28 and needs no handshake.
pub(in crate::cli::simulate) fn call(out: &mut Vec<u8>, who: Who, modern: bool) {
    append(
        out,
        format_args!(
            r#"{{"jsonrpc":"2.0","id":"call-{}","method":"tools/call","params":{{"name":"echo","arguments":{{"text":""#,
            who.number
        ),
    );
    content(out, who);
    out.extend_from_slice(br#""}"#);
    if modern {
        append(out, format_args!(",{META}"));
    }
    out.extend_from_slice(b"}}");
}

/// A tool and what it is called with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    arguments: &'static str,
}

/// A tool that nobody offers.
pub(super) const NOBODYS: Tool = Tool { name: "nobodys", arguments: "{}" };
/// A tool of lakh's own server with a large answer.
pub(super) const BLOB: Tool = Tool { name: "blob", arguments: r#"{"bytes":16384}"# };
/// Bytes of that answer's text.
pub(in crate::cli) const BLOB_BYTES: usize = 16_384;

/// Appends a call of this tool, with the id of a ping.
pub(super) fn call_tool(out: &mut Vec<u8>, who: Who, Tool { name, arguments }: Tool, modern: bool) {
    let (id, meta) = (ping_id(who), if modern { format!(",{META}") } else { String::new() });
    append(
        out,
        format_args!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}{meta}}}}}"#
        ),
    );
}

/// Checks the answer to a call of [`BLOB`].
pub(super) fn hear_blob(message: &[u8], who: Who, out: &mut Vec<u8>) -> Result<Heard, Death> {
    let mut id = Vec::with_capacity(16);
    append(&mut id, format_args!("{}", ping_id(who)));
    if has_id(message, &id) && message.len() > BLOB_BYTES && contains(message, br#""result":{"#) {
        return Ok(Heard::Answer);
    }
    study(message, &Value::from(ping_id(who)), Cause::WrongAnswer, out, |_| false)
}

/// Checks the answer to a call of [`NOBODYS`]: an error, for this id.
pub(super) fn hear_refusal(message: &[u8], who: Who, out: &mut Vec<u8>) -> Result<Heard, Death> {
    let mut id = Vec::with_capacity(16);
    append(&mut id, format_args!("{}", ping_id(who)));
    if has_id(message, &id) && contains(message, br#""error":{"#) {
        return Ok(Heard::Answer);
    }
    study(message, &Value::from(ping_id(who)), Cause::WrongAnswer, out, |_| false)
}

/// Appends the request to be told of changes in the list of tools.
pub(super) fn listen(out: &mut Vec<u8>, who: Who) {
    append(
        out,
        format_args!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true}},{META}}}}}"#,
            listen_id(who)
        ),
    );
}

/// Appends a ping; the id is a number of this client's own.
pub(super) fn ping(out: &mut Vec<u8>, who: Who) {
    append(out, format_args!(r#"{{"jsonrpc":"2.0","id":{},"method":"ping"}}"#, ping_id(who)));
}

/// What a message of the gateway is to a client that waits for one answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The answer waited for, and it is right.
    Answer,
    /// Something else that is allowed: a notification, or a request whose answer is now in `out`.
    Aside,
}

/// Checks the answer to [`initialize`].
pub(super) fn hear_initialize(message: &[u8], out: &mut Vec<u8>) -> Result<Heard, Death> {
    if has_id(message, b"0") && contains(message, br#""protocolVersion":"2025-11-25""#) && is_result(message) {
        return Ok(Heard::Answer);
    }
    study(message, &Value::from(0), Cause::WrongAnswer, out, |result| result["protocolVersion"] == "2025-11-25")
}

/// Checks the answer to [`call`], the echoed content byte by byte.
pub(super) fn hear_call(message: &[u8], who: Who, out: &mut Vec<u8>) -> Result<Heard, Death> {
    let mut own = Vec::with_capacity(96);
    own.extend_from_slice(br#""text":""#);
    let start = own.len();
    content(&mut own, who);
    own.push(b'"');
    let mut id = Vec::with_capacity(24);
    append(&mut id, format_args!(r#""call-{}""#, who.number));
    if has_id(message, &id) && contains(message, &own) && is_result(message) && !contains(message, br#""isError":true"#)
    {
        return Ok(Heard::Answer);
    }
    let own = own.get(start..own.len() - 1).unwrap_or_default();
    study(message, &Value::from(format!("call-{}", who.number)), Cause::WrongEcho, out, |result| {
        result["isError"] != true && result["content"][0]["text"].as_str().is_some_and(|text| text.as_bytes() == own)
    })
}

/// Checks the answer to [`ping`].
pub(super) fn hear_ping(message: &[u8], who: Who, out: &mut Vec<u8>) -> Result<Heard, Death> {
    let mut id = Vec::with_capacity(16);
    append(&mut id, format_args!("{}", ping_id(who)));
    if has_id(message, &id) && contains(message, br#""result":{}"#) {
        return Ok(Heard::Answer);
    }
    study(message, &Value::from(ping_id(who)), Cause::WrongAnswer, out, Value::is_object)
}

/// Checks the first message that follows [`listen`].
pub(super) fn hear_acknowledged(message: &[u8], who: Who) -> Result<(), Death> {
    let wrong = || Death::new(Cause::WrongAnswer, format!("no acknowledgement: {}", excerpt(message)));
    let parsed: Value = serde_json::from_slice(message).map_err(|_| wrong())?;
    let params = &parsed["params"];
    let named = parsed["method"] == "notifications/subscriptions/acknowledged";
    if !named || params["notifications"]["toolsListChanged"] != true {
        return Err(wrong());
    }
    is_own_subscription(params, message, who)
}

/// Whether a message tells that the list of tools has changed; with `subscribed`, it must name this client's own
/// subscription.
pub(super) fn hear_changed(message: &[u8], who: Who, subscribed: bool) -> Result<bool, Death> {
    if !contains(message, TOOLS_CHANGED) {
        return Ok(false);
    }
    if subscribed && !names_subscription(message, who) {
        let parsed: Value = serde_json::from_slice(message).unwrap_or_default();
        is_own_subscription(&parsed["params"], message, who)?;
    }
    Ok(true)
}

/// Whether the message names this client's subscription in the shortest spelling: who reads for 100,000 on the gateway's own
/// cores must not spend more than it does.
fn names_subscription(message: &[u8], who: Who) -> bool {
    let mut wanted = Vec::with_capacity(64);
    append(&mut wanted, format_args!(r#""{SUBSCRIPTION}":{}"#, listen_id(who)));
    let end = memmem::find(message, &wanted).and_then(|at| message.get(at + wanted.len()));
    matches!(end, Some(b',' | b'}'))
}

fn is_own_subscription(params: &Value, message: &[u8], who: Who) -> Result<(), Death> {
    if params["_meta"][SUBSCRIPTION] == listen_id(who) {
        return Ok(());
    }
    let detail = format!("expected subscription {}: {}", listen_id(who), excerpt(message));
    Err(Death::new(Cause::WrongId, detail))
}

/// Judges a message of an idle client, which waits for nothing.
pub(super) fn hear_idle(message: &[u8], out: &mut Vec<u8>) -> Result<Heard, Death> {
    study(message, &Value::Null, Cause::WrongAnswer, out, |_| false)
}

fn ping_id(who: Who) -> u64 {
    1_000_000_000 + u64::from(who.number)
}

fn listen_id(who: Who) -> u64 {
    2_000_000_000 + u64::from(who.number)
}

/// About 50 bytes, of which 16 hexadecimal digits no other client has.
pub(super) fn content(out: &mut Vec<u8>, who: Who) {
    let mark = mix(who.seed ^ mix(u64::from(who.number)));
    append(out, format_args!("client {} of many, its mark is {mark:016x}", who.number));
}

/// SplitMix64's last step: neighbouring numbers give unrelated ones.
pub(super) fn mix(number: u64) -> u64 {
    let a = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ (b >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ (c >> 31)
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

fn contains(message: &[u8], wanted: &[u8]) -> bool {
    memmem::find(message, wanted).is_some()
}

fn is_result(message: &[u8]) -> bool {
    contains(message, br#""result":{"#) && !contains(message, br#""error":"#)
}

/// Whether `"id":` is followed by exactly this token.
fn has_id(message: &[u8], token: &[u8]) -> bool {
    let Some(at) = memmem::find(message, br#""id":"#) else {
        return false;
    };
    let value = message.get(at + br#""id":"#.len()..).unwrap_or_default();
    value.starts_with(token) && matches!(value.get(token.len()), Some(b',' | b'}'))
}

/// The slow way: parse, answer what the gateway asks, or say what is wrong.
fn study(
    message: &[u8],
    id: &Value,
    wrong: Cause,
    out: &mut Vec<u8>,
    right: impl Fn(&Value) -> bool,
) -> Result<Heard, Death> {
    let Some(parsed) = serde_json::from_slice::<Value>(message).ok().filter(Value::is_object) else {
        return Err(Death::new(Cause::WrongAnswer, format!("no JSON-RPC message: {}", excerpt(message))));
    };
    if let Some(method) = parsed["method"].as_str() {
        match (&parsed["id"], method) {
            (Value::Null, _) => {}
            (asked, "ping") => append(out, format_args!(r#"{{"jsonrpc":"2.0","id":{asked},"result":{{}}}}"#)),
            (asked, _) => append(
                out,
                format_args!(
                    r#"{{"jsonrpc":"2.0","id":{asked},"error":{{"code":-32601,"message":"a simulated client has no methods"}}}}"#
                ),
            ),
        }
        return Ok(Heard::Aside);
    }
    if parsed["error"].is_object() {
        return Err(Death::refused(refusal::of_error(&parsed["error"]), excerpt(message)));
    }
    if parsed["id"] != *id {
        return Err(Death::new(Cause::WrongId, format!("expected id {id}: {}", excerpt(message))));
    }
    if right(&parsed["result"]) { Ok(Heard::Answer) } else { Err(Death::new(wrong, excerpt(message))) }
}

/// The first 160 bytes, for a report.
pub(super) fn excerpt(message: &[u8]) -> String {
    String::from_utf8_lossy(message.get(..160).unwrap_or(message)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Who = Who::example(12);

    fn echo_of(who: Who, id: &str) -> Vec<u8> {
        let mut text = Vec::new();
        content(&mut text, who);
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
            String::from_utf8_lossy(&text)
        )
        .into_bytes()
    }

    fn cause(heard: Result<Heard, Death>) -> Option<Cause> {
        heard.err().map(|death| death.cause)
    }

    #[test]
    fn every_request_is_json_with_an_id_of_its_own() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        call(&mut one, ME, false);
        call(&mut two, Who { number: 13, ..ME }, true);
        let (one, two): (Value, Value) =
            (serde_json::from_slice(&one).expect("json"), serde_json::from_slice(&two).expect("json"));
        assert_ne!(one["id"], two["id"]);
        assert!(one["params"]["_meta"].is_null() && two["params"]["_meta"].is_object());
        assert_ne!(one["params"]["arguments"]["text"], two["params"]["arguments"]["text"]);
    }

    #[test]
    fn the_own_echo_is_right_and_the_neighbours_is_not() {
        let out = &mut Vec::new();
        assert_eq!(hear_call(&echo_of(ME, r#""call-12""#), ME, out).ok(), Some(Heard::Answer));
        let neighbour = Who { number: 13, ..ME };
        assert_eq!(cause(hear_call(&echo_of(neighbour, r#""call-12""#), ME, out)), Some(Cause::WrongEcho));
        assert_eq!(cause(hear_call(&echo_of(ME, r#""call-123""#), ME, out)), Some(Cause::WrongId));
        assert_eq!(cause(hear_call(&echo_of(ME, "12"), ME, out)), Some(Cause::WrongId), "the id's type counts");
    }

    #[test]
    fn an_answer_spelled_in_another_way_is_right_too() {
        let spaced =
            String::from_utf8(echo_of(ME, r#""call-12""#)).expect("utf-8").replace(':', ": ").replace(',', ", ");
        let text = br#"many, its"#;
        let spaced = spaced.replace(",  its", ", its");
        assert!(contains(spaced.as_bytes(), text));
        assert_eq!(hear_call(spaced.as_bytes(), ME, &mut Vec::new()).ok(), Some(Heard::Answer));
        let pong = br#"{ "id" : 1000000012, "result" : {}, "jsonrpc": "2.0" }"#;
        assert_eq!(hear_ping(pong, ME, &mut Vec::new()).ok(), Some(Heard::Answer));
    }

    #[test]
    fn what_a_subscription_brings_must_name_it() {
        let mut asked = Vec::new();
        listen(&mut asked, ME);
        let asked: Value = serde_json::from_slice(&asked).expect("json");
        let message = |name: &str, id: &Value, filter: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/{name}","params":{{"_meta":{{"{SUBSCRIPTION}":{id}}},"notifications":{filter}}}}}"#)
                .into_bytes()
        };
        let acknowledged = |id: &Value, filter: &str| {
            cause(hear_acknowledged(&message("subscriptions/acknowledged", id, filter), ME).map(|()| Heard::Answer))
        };
        let all = r#"{"toolsListChanged":true}"#;
        assert_eq!(acknowledged(&asked["id"], all), None);
        assert_eq!(acknowledged(&asked["id"], "{}"), Some(Cause::WrongAnswer), "nothing was granted");
        assert_eq!(acknowledged(&Value::from(2_000_000_013), all), Some(Cause::WrongId), "a neighbour's");
        assert_eq!(acknowledged(&Value::from(asked["id"].to_string()), all), Some(Cause::WrongId), "another type");
        let changed = |id: &Value| hear_changed(&message("tools/list_changed", id, "{}"), ME, true);
        assert!(changed(&asked["id"]).expect("own"));
        assert_eq!(changed(&Value::from(20_000_000_120_u64)).expect_err("a longer one").cause, Cause::WrongId);
        assert_eq!(changed(&Value::Null).expect_err("nobody's").cause, Cause::WrongId);
        assert!(!hear_changed(b"{}", ME, true).expect("something else"));
    }

    #[test]
    fn a_refusal_keeps_the_gateways_words() {
        let full = br#"{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"house full"}}"#;
        let death = hear_initialize(full, &mut Vec::new()).expect_err("refused");
        assert_eq!(death.cause, Cause::Refused);
        assert!(death.detail.contains("house full"));
    }

    #[test]
    fn a_ping_of_the_gateway_is_answered_with_its_own_id() {
        let mut out = Vec::new();
        assert_eq!(hear_idle(br#"{"jsonrpc":"2.0","id":"k1","method":"ping"}"#, &mut out).ok(), Some(Heard::Aside));
        assert_eq!(out, br#"{"jsonrpc":"2.0","id":"k1","result":{}}"#);
        assert_eq!(cause(hear_idle(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#, &mut out)), Some(Cause::WrongId));
        assert_eq!(cause(hear_idle(b"hello", &mut out)), Some(Cause::WrongAnswer));
    }
}
