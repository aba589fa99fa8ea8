//! Every function between the eras, by what it must keep and what it must change.

use serde_json::{Value, json};

use super::*;

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn profile(capabilities: &str) -> Profile {
    Profile::read(Some(r#"{"name":"n","version":"1"}"#), Some(capabilities))
}

fn meta(write: impl FnOnce(&mut Vec<u8>)) -> Value {
    let mut out = vec![b'{'];
    write(&mut out);
    if out.len() > 1 {
        assert_eq!(out.pop(), Some(b','), "each member has a comma behind it");
    }
    out.push(b'}');
    parsed(&out)
}

#[test]
fn a_legacy_server_is_told_all_but_the_modern_keys() {
    let modern = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","traceparent":"00-a","com.example/x":{"io.modelcontextprotocol/y":1}"#;
    let told = meta(|out| meta_for_legacy(out, modern));
    assert_eq!(told, json!({"traceparent":"00-a","com.example/x":{"io.modelcontextprotocol/y":1}}));
    assert_eq!(meta(|out| meta_for_legacy(out, "\"baggage\":\"b\"")), json!({"baggage":"b"}));
    assert_eq!(meta(|out| meta_for_legacy(out, "")), json!({}));
}

#[test]
fn a_modern_server_is_told_who_asks_and_what_it_can_do() {
    let told = meta(|out| meta_for_modern(out, Some(&profile(r#"{"roots":{},"elicitation":{}}"#)), Some(Level::Error)));
    let key = |name: &str| &told[&format!("io.modelcontextprotocol/{name}")];
    assert_eq!(key("protocolVersion"), "2026-07-28");
    assert_eq!(*key("clientInfo"), json!({"name":"n","version":"1"}));
    assert_eq!(*key("clientCapabilities"), json!({"roots":{},"elicitation":{}}));
    assert_eq!(key("logLevel"), "error");
    let ours = meta(|out| meta_for_modern(out, None, None));
    assert_eq!(ours["io.modelcontextprotocol/clientInfo"]["name"], "lakh");
    assert_eq!(ours.as_object().map(serde_json::Map::len), Some(3));
}

#[test]
fn a_result_becomes_modern_and_keeps_its_bytes() {
    for (method, result, modern) in [
        (Method::CallTool, "{}", r#"{"resultType":"complete"}"#),
        (Method::CallTool, " { \"a\": 1.0e0 }", r#"{"resultType":"complete","a": 1.0e0 }"#),
        (Method::CallTool, r#"{"resultType":"complete"}"#, r#"{"resultType":"complete"}"#),
        (Method::CallTool, r#"{"a":"resultType"}"#, r#"{"resultType":"complete","a":"resultType"}"#),
        (Method::CallTool, "7", "7"),
        (Method::ReadResource, "{}", r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#),
        (Method::ReadResource, r#"{"ttlMs":5}"#, r#"{"resultType":"complete","cacheScope":"private","ttlMs":5}"#),
    ] {
        assert_eq!(String::from_utf8(result_for_modern(result, method)).unwrap(), modern, "{result}");
    }
}

#[test]
fn codes_of_one_era_alone_change_with_it() {
    let read = Method::ReadResource;
    let error = |code| format!(r#"{{"message":"m","code":{code},"data":{{"uri":"a"}}}}"#);
    let modern = error_for(&error(-32002), read, Revision::V2026_07_28).expect("another code");
    assert_eq!(parsed(&modern), json!({"code":-32602,"message":"m","data":{"uri":"a"}}));
    let legacy = error_for(&error(-32602), read, Revision::V2024_11_05).expect("another code");
    assert_eq!(parsed(&legacy)["code"], -32002);
    for (code, method, client) in [
        (-32603, read, Revision::V2026_07_28),
        (-32602, read, Revision::V2026_07_28),
        (-32002, read, Revision::V2025_11_25),
        (-32602, Method::CallTool, Revision::V2025_11_25),
        (-32042, Method::CallTool, Revision::V2025_11_25),
    ] {
        assert_eq!(error_for(&error(code), method, client), None, "{code} {method:?}");
    }
    for method in [Method::CallTool, Method::GetPrompt, Method::Complete] {
        for (old, new) in [(-32002, -32602), (-32042, -32603)] {
            let modern = error_for(&error(old), method, Revision::V2026_07_28).expect("another code");
            assert_eq!(parsed(&modern), json!({"code":new,"message":"m","data":{"uri":"a"}}), "{method:?}");
        }
    }
    assert_eq!(error_for("{}", read, Revision::V2026_07_28), None);
}

#[test]
fn what_a_client_can_be_asked_is_what_it_has_declared() {
    let declared = r#""x":1,"io.modelcontextprotocol/clientCapabilities":{"sampling":{}}"#;
    for (question, can) in [("sampling/createMessage", true), ("roots/list", false), ("elicitation/create", false)] {
        assert_eq!(meta_declares(declared, needed_for(question).unwrap()), can, "{question}");
    }
    assert!(!meta_declares("", Capability::Roots));
    for other in ["ping", "tools/call", "tasks/get", ""] {
        assert_eq!(needed_for(other), None);
    }
    assert_eq!(offered(Some(&profile(r#"{"tasks":{},"sampling":{}}"#))), r#"{"sampling":{}}"#);
    assert_eq!(offered(Some(&profile("{}"))), "{}");
    assert_eq!(offered(None), SHARED_CAPABILITIES);
    assert!(serde_json::from_str::<Value>(SHARED_CAPABILITIES).unwrap()["elicitation"]["url"].is_object());
    assert!(serde_json::from_str::<Value>(CLIENT_INFO).unwrap()["version"].is_string());
}

#[test]
fn a_result_that_requires_input_says_what_and_under_which_names() {
    let result = r#"{"resultType":"input_required","inputRequests":{"\u0061":{"method":"roots/list"},"b":{"method":"elicitation/create","params":{"m":1}}},"requestState":"\u00e4"}"#;
    let required = input_required(result).unwrap().expect("it does");
    let seen: Vec<_> = required.questions.iter().map(|it| (&*it.key, &*it.method, it.params)).collect();
    assert_eq!(seen, [("a", "roots/list", None), ("b", "elicitation/create", Some(r#"{"m":1}"#))]);
    assert_eq!(required.state, Some(r#""\u00e4""#), "to the byte");
    for complete in ["{}", r#"{"resultType":"complete"}"#, r#"{"resultType":7}"#, "7", r#"{"x":"input_required"}"#] {
        assert_eq!(input_required(complete), Ok(None), "{complete}");
    }
    let many: Vec<String> = (0..17).map(|n| format!(r#""{n}":{{"method":"roots/list"}}"#)).collect();
    for senseless in [
        r#"{"resultType":"input_required"}"#.to_owned(),
        r#"{"resultType":"input_required","requestState":{}}"#.into(),
        r#"{"resultType":"input_required","inputRequests":{"a":7}}"#.into(),
        r#"{"resultType":"input_required","resultType":"complete"}"#.into(),
        format!(r#"{{"resultType":"input_required","inputRequests":{{{}}}}}"#, many.join(",")),
    ] {
        assert!(input_required(&senseless).is_err(), "{senseless}");
    }
}

#[test]
fn what_we_ask_is_read_as_what_a_modern_server_asks() {
    let mut out = Vec::new();
    let questions = [("k \"1\"".to_owned(), "roots/list", None), ("k2".to_owned(), "elicitation/create", Some("{}"))];
    write_input_required(&mut out, questions.into_iter(), "state");
    let text = String::from_utf8(out).unwrap();
    let required = input_required(&text).unwrap().expect("it does");
    assert_eq!((required.questions.len(), &*required.questions[0].key), (2, "k \"1\""));
    assert_eq!(required.state, Some("\"state\""));
}

#[test]
fn a_retry_is_told_from_a_first_try_and_compared_with_it() {
    assert!(retry(r#""name":"a","arguments":{"requestState":"x"}"#).is_none(), "inside of something else");
    let again = retry(r#""name":"a","inputResponses":{"k":{}},"requestState":"s""#).expect("it is one");
    assert_eq!((again.state, again.responses), ("\"s\"", Some(r#"{"k":{}}"#)));
    let first = r#""name":"a","arguments":{"b":1}"#;
    assert!(same_request(first, r#""name":"a","requestState":"s","arguments":{"b":1},"inputResponses":{}"#));
    for other in [r#""name":"a","arguments":{"b":2}"#, r#""name":"a""#, r#""name":"a","arguments":{"b":1},"c":1"#] {
        assert!(!same_request(first, other), "{other}");
    }
}
