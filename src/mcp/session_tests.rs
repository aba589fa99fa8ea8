//! The rules of a session, each with the page it comes from.

use super::*;
use crate::mcp::catalogue::{CatalogueConfig, Part};
use crate::mcp::method::{Features, Method, Target, Topics};
use crate::mcp::offer::{Entry, Offer};
use crate::wire::envelope::{Incoming, parse_str};
use serde_json::{Value, json};

const VALUES: &[&str] = &[
    "null",
    "7",
    "-1.5e3",
    "\"2025-03-26\"",
    "\"\"",
    "[]",
    "{}",
    r#"{"io.modelcontextprotocol/protocolVersion":7}"#,
    r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#,
    r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#,
];

proptest::proptest! {
    /// Whatever comes, a request is answered or handed on, once and under its own id, and nothing else is answered.
    #[test]
    fn every_request_and_nothing_else_is_answered(
        method in "ping|initialize|notifications/(initialized|cancelled|progress)|tools/(list|call)|server/discover|subscriptions/listen|.{0,9}",
        keys in proptest::collection::vec("name|arguments|cursor|_meta|requestId|protocolVersion|capabilities|clientInfo|notifications", 0..6),
        values in proptest::collection::vec(proptest::sample::select(VALUES), 6),
        phase in 0..3_usize,
        request in proptest::bool::ANY,
    ) {
        let mut desk = [Desk::new, || Desk::agreed(Revision::V2025_03_26), || Desk::agreed(Revision::V2025_11_25)][phase]();
        let mut message = json!({"jsonrpc":"2.0","method":method,"params":{}});
        for (key, value) in keys.iter().zip(&values) {
            message["params"][key] = serde_json::from_str(value).unwrap();
        }
        if request {
            message["id"] = json!("r-1");
        }
        let (verdict, answer) = desk.send(&message);
        let handed_on = verdict.starts_with("Call(") || verdict.starts_with("Listen(");
        proptest::prop_assert_eq!(answer.is_null(), !request || handed_on, "{} {}", verdict, answer);
        if request && !handed_on {
            proptest::prop_assert_eq!(&answer["id"], "r-1");
            proptest::prop_assert_eq!(answer["error"].is_object(), verdict.starts_with("Faulted("));
        }
    }
}

/// A session with all it needs, driven by JSON values.
struct Desk {
    session: Session,
    catalogue: Catalogue,
    profiles: Profiles,
}

/// What came of a message: the name of its verdict, and the answer.
type Outcome = (String, Value);

impl Desk {
    fn new() -> Self {
        let text = r#"{"name":"echo","inputSchema":{"type":"object"}}"#;
        let tools = vec![Entry { key: "echo".into(), text: text.into() }];
        let offer = Offer { features: Features::TOOLS, lists: [tools, vec![], vec![], vec![]], ..Offer::default() };
        let catalogue = Catalogue::new(&[Part { name: "it", offer: &offer }], &CatalogueConfig::default());
        Self { session: Session::default(), catalogue, profiles: Profiles::new(4) }
    }

    /// One that has agreed on `revision`.
    fn agreed(revision: Revision) -> Self {
        let mut desk = Self::new();
        let (verdict, _) = desk.request("initialize", hello(revision.as_str()));
        assert_eq!(verdict, "Answered");
        desk
    }

    fn send(&mut self, message: &Value) -> Outcome {
        let text = message.to_string();
        let Ok(Incoming::One(envelope)) = parse_str(&text) else { panic!("not one message: {text}") };
        let mut out = Vec::new();
        let verdict = self.session.handle_message(&envelope, &self.catalogue, &mut self.profiles, &mut out);
        let verdict = format!("{verdict:?}");
        let answer = if out.is_empty() { Value::Null } else { serde_json::from_slice(&out).unwrap() };
        (verdict, answer)
    }

    fn request(&mut self, method: &str, params: Value) -> Outcome {
        self.send(&json!({"jsonrpc":"2.0","id":"r-1","method":method,"params":params}))
    }

    fn notify(&mut self, method: &str, params: Value) -> Outcome {
        self.send(&json!({"jsonrpc":"2.0","method":method,"params":params}))
    }
}

fn hello(version: &str) -> Value {
    json!({"protocolVersion":version,"capabilities":{"roots":{}},"clientInfo":{"name":"tester","version":"9"}})
}

fn meta(version: &str) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name":"modern","version":"1"},
    })
}

fn modern() -> Value {
    json!({"_meta": meta("2026-07-28")})
}

/// Asserts a refusal: its fault, its code, and that it carries the id of the request.
#[track_caller]
fn refused((verdict, answer): Outcome, fault: Fault) -> Value {
    assert_eq!(verdict, format!("Faulted({fault:?})"), "{answer}");
    assert_eq!(answer["error"]["code"], fault.code());
    assert_eq!(answer["id"], "r-1");
    answer["error"].clone()
}

/// Spec 2025-11-25 basic/lifecycle#version-negotiation.
#[test]
fn initialize_agrees_on_what_was_asked_or_on_the_newest_legacy_revision() {
    let asked = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28", "2031-01-01"];
    let given = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2025-11-25", "2025-11-25"];
    for (asked, given) in asked.into_iter().zip(given) {
        let mut desk = Desk::new();
        let (verdict, answer) = desk.request("initialize", hello(asked));
        assert_eq!(verdict, "Answered");
        assert_eq!(answer["result"]["protocolVersion"], given);
        assert_eq!(desk.session.revision().unwrap().as_str(), given);
        assert_eq!(&*desk.session.profile().unwrap().name, "tester");
    }
}

#[test]
fn initialize_happens_once_and_a_refused_one_not_at_all() {
    let mut desk = Desk::new();
    for lacking in ["protocolVersion", "capabilities", "clientInfo"] {
        let mut params = hello("2025-06-18");
        params.as_object_mut().unwrap().remove(lacking);
        let error = refused(desk.request("initialize", params), Fault::InvalidParams);
        assert!(error["message"].as_str().unwrap().contains(lacking));
        assert_eq!(desk.session, Session::default());
    }
    assert_eq!(desk.request("initialize", hello("2025-06-18")).0, "Answered");
    refused(desk.request("initialize", hello("2024-11-05")), Fault::AlreadyInitialized);
    assert_eq!(desk.session.revision(), Some(Revision::V2025_06_18));
}

#[test]
fn initialized_is_heard_once_and_only_after_initialize() {
    let mut desk = Desk::new();
    assert_eq!(desk.notify("notifications/initialized", json!({})).0, "Ignored(UntimelyInitialized)");
    desk.request("initialize", hello("2025-06-18"));
    assert_eq!(desk.session.phase(), Phase::Agreed(Revision::V2025_06_18));
    assert_eq!(desk.notify("notifications/initialized", json!({})).0, "Nothing");
    assert_eq!(desk.session.phase(), Phase::Ready(Revision::V2025_06_18));
    assert_eq!(desk.notify("notifications/initialized", json!({})).0, "Ignored(UntimelyInitialized)");
}

/// Spec 2025-11-25 basic/utilities/ping, basic/lifecycle#initialization.
#[test]
fn a_ping_is_answered_at_any_time() {
    let mut desk = Desk::new();
    let bare = json!({"jsonrpc":"2.0","id":0,"method":"ping"});
    let pong = ("Answered".to_owned(), json!({"jsonrpc":"2.0","id":0,"result":{}}));
    assert_eq!(desk.send(&bare), pong);
    assert_eq!(desk.request("ping", json!({"_meta":{"progressToken":1}})).0, "Answered");
    desk.request("initialize", hello("2025-06-18"));
    assert_eq!(desk.send(&bare), pong);
}

/// Spec 2026-07-28 basic/index#meta: without the required fields it is -32602; the message names both ways out.
#[test]
fn a_request_that_says_in_no_way_how_it_speaks_is_told_both() {
    let mut desk = Desk::new();
    for method in ["tools/list", "tools/call", "server/discover", "no/such"] {
        let error = refused(desk.request(method, json!({})), Fault::NotInitialized);
        assert_eq!(error["code"], -32602);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("initialize") && message.contains("_meta"));
    }
}

#[test]
fn tools_are_listed_and_no_cursor_is_known() {
    let mut desk = Desk::agreed(Revision::V2025_06_18);
    let (verdict, answer) = desk.request("tools/list", json!({}));
    assert_eq!((verdict.as_str(), &answer["result"]["tools"][0]["name"]), ("Answered", &json!("echo")));
    assert_eq!(desk.request("tools/list", json!({"cursor":null})).0, "Answered");
    for cursor in [json!("2"), json!(""), json!(7)] {
        refused(desk.request("tools/list", json!({"cursor":cursor})), Fault::InvalidParams);
    }
}

#[test]
fn a_call_is_handed_on_with_its_raw_parts() {
    let mut desk = Desk::agreed(Revision::V2025_03_26);
    let text = r#"{"jsonrpc":"2.0","id":"7","method":"tools/call","params":{"arguments":{"text": "\u0041"},"name":"ec\u0068o","_meta":{"progressToken":"7"}}}"#;
    let Ok(Incoming::One(envelope)) = parse_str(text) else { panic!("a message") };
    let mut out = Vec::new();
    let verdict = desk.session.handle_message(&envelope, &desk.catalogue, &mut desk.profiles, &mut out);
    let expected = Call {
        id: Id::from_raw("\"7\"").unwrap(),
        method: Method::CallTool,
        target: Target::Tool("echo".into()),
        params: r#"{"arguments":{"text": "\u0041"},"name":"ec\u0068o","_meta":{"progressToken":"7"}}"#,
        arguments: Some(r#"{"text": "\u0041"}"#),
        meta: Some(r#"{"progressToken":"7"}"#),
        progress_token: Some("\"7\""),
        request_state: None,
        level: Some(Level::Info),
        revision: Revision::V2025_03_26,
    };
    assert_eq!(verdict, Verdict::Call(expected));
    assert!(out.is_empty());
}

/// Schemas `CallToolRequest`, `ProgressToken`.
#[test]
fn a_call_of_the_wrong_shape_is_refused() {
    let mut desk = Desk::agreed(Revision::V2025_11_25);
    let wrong = [
        json!({}),
        json!({"name":7}),
        json!({"name":"echo","arguments":[1]}),
        json!({"name":"echo","_meta":7}),
        json!({"name":"echo","_meta":{"progressToken":null}}),
        json!({"name":"echo","_meta":{"progressToken":1.5}}),
        json!(["echo"]),
    ];
    for params in wrong {
        refused(desk.request("tools/call", params), Fault::InvalidParams);
    }
    assert!(desk.request("tools/call", json!({"name":"echo","arguments":null})).0.starts_with("Call("));
}

#[test]
fn what_is_not_offered_is_no_method_and_long_names_are_cut() {
    let mut desk = Desk::agreed(Revision::V2025_11_25);
    for method in ["resources/list", "logging/setLevel", "server/discover", "subscriptions/listen", "Ping"] {
        let error = refused(desk.request(method, json!({})), Fault::UnknownMethod);
        assert!(error["message"].as_str().unwrap().contains(method));
    }
    let error = refused(desk.request(&"x".repeat(10_000), json!({})), Fault::UnknownMethod);
    assert!(error["message"].as_str().unwrap().len() < 300);
}

#[test]
fn notifications_and_replies_have_no_answer() {
    let mut desk = Desk::agreed(Revision::V2025_11_25);
    let ignored = |what: Ignored| (format!("Ignored({what:?})"), Value::Null);
    assert_eq!(desk.notify("notifications/what", json!({})), ignored(Ignored::UnknownNotification));
    assert_eq!(desk.notify("tools/call", json!({"name":"echo"})), ignored(Ignored::UnknownNotification));
    let reply = desk.send(&json!({"jsonrpc":"2.0","id":1,"result":{}}));
    assert_eq!(reply, (format!("Reply({:?}, Ok(\"{{}}\"))", Id::from_raw("1").unwrap()), Value::Null));
    let nameless = json!({"jsonrpc":"2.0","error":{"code":1,"message":"x"}});
    assert_eq!(desk.send(&nameless), ignored(Ignored::NamelessError));
}

/// Spec 2025-11-25 basic/utilities/cancellation#error-handling: a malformed cancellation is ignored.
#[test]
fn a_cancellation_names_its_request_by_value_and_type() {
    let mut desk = Desk::new();
    let cancel =
        |desk: &mut Desk, id: Value| desk.notify("notifications/cancelled", json!({"requestId":id,"reason":"x"})).0;
    assert_eq!(cancel(&mut desk, json!("7")), format!("Cancel({:?})", Id::from_raw("\"7\"").unwrap()));
    assert_eq!(cancel(&mut desk, json!(7)), format!("Cancel({:?})", Id::from_raw("7").unwrap()));
    assert_eq!(cancel(&mut desk, json!(null)), "Ignored(MalformedCancel)");
    assert_eq!(desk.notify("notifications/cancelled", json!({})).0, "Ignored(MalformedCancel)");
}

/// Spec 2025-03-26 basic/index#batching; removed in 2025-06-18; not before initialize.
#[test]
fn batches_are_accepted_after_agreeing_on_the_one_revision_that_has_them() {
    assert!(!Desk::new().session.accepts_batches());
    for revision in Revision::ALL.into_iter().take(4) {
        let accepts = Desk::agreed(revision).session.accepts_batches();
        assert_eq!(accepts, revision == Revision::V2025_03_26);
    }
}

/// Spec 2026-07-28 server/discover, basic/index#statelessness.
#[test]
fn modern_requests_need_no_handshake_and_leave_no_phase() {
    let mut desk = Desk::new();
    let (verdict, answer) = desk.request("server/discover", modern());
    assert_eq!(verdict, "Answered");
    assert_eq!(answer["result"]["supportedVersions"], json!(["2026-07-28"]));
    let (_, answer) = desk.request("tools/list", modern());
    assert_eq!(answer["result"]["resultType"], "complete");
    assert_eq!(desk.session.phase(), Phase::New);
    assert_eq!(&*desk.session.profile().unwrap().name, "modern");
    refused(desk.request("tools/list", json!({})), Fault::NotInitialized);
}

/// Spec 2026-07-28 basic/versioning#compatibility-matrix: both eras on one connection.
#[test]
fn the_era_is_chosen_by_each_request() {
    let mut desk = Desk::agreed(Revision::V2025_06_18);
    let mut call = modern();
    call["name"] = json!("echo");
    assert!(desk.request("tools/call", call).0.contains("V2026_07_28"));
    assert!(desk.request("tools/call", json!({"name":"echo"})).0.contains("V2025_06_18"));
    let agreed = json!({"name":"echo","_meta":{"io.modelcontextprotocol/protocolVersion":"2025-06-18"}});
    assert!(desk.request("tools/call", agreed).0.contains("V2025_06_18"));
    assert_eq!(&*desk.session.profile().unwrap().name, "tester");
}

/// Spec 2026-07-28 changelog (major changes 2 and 5).
#[test]
fn ping_and_initialize_are_no_modern_methods() {
    let mut desk = Desk::new();
    for method in ["ping", "initialize", "logging/setLevel", "resources/subscribe"] {
        refused(desk.request(method, modern()), Fault::UnknownMethod);
    }
    assert_eq!(desk.session.phase(), Phase::New);
}

/// Spec 2026-07-28 basic/index#meta, server/utilities/logging#error-handling.
#[test]
fn a_modern_request_lacks_no_required_field() {
    let mut desk = Desk::new();
    let wrong = [
        ("io.modelcontextprotocol/clientCapabilities", None),
        ("io.modelcontextprotocol/clientCapabilities", Some(json!([]))),
        ("io.modelcontextprotocol/clientInfo", Some(json!("me"))),
        ("io.modelcontextprotocol/protocolVersion", Some(json!(20_260_728))),
        ("io.modelcontextprotocol/logLevel", Some(json!("loud"))),
    ];
    for (key, value) in wrong {
        let mut params = modern();
        let meta = params["_meta"].as_object_mut().unwrap();
        meta.remove(key);
        meta.extend(value.map(|value| (key.to_owned(), value)));
        let error = refused(desk.request("tools/list", params), Fault::InvalidParams);
        assert!(error["message"].as_str().unwrap().contains(key), "{error}");
    }
    let mut fine = modern();
    fine["_meta"]["io.modelcontextprotocol/logLevel"] = json!("debug");
    assert_eq!(desk.request("tools/list", fine).0, "Answered");
}

/// Spec 2026-07-28 basic/versioning#protocol-version-negotiation.
#[test]
fn a_version_that_is_not_served_per_request_is_answered_with_those_that_are() {
    let mut desk = Desk::new();
    for version in ["1900-01-01", "2025-06-18", "DRAFT-2027-v1"] {
        let params = json!({"_meta":{"io.modelcontextprotocol/protocolVersion":version}});
        let error = refused(desk.request("tools/list", params), Fault::UnsupportedVersion);
        assert_eq!(error["code"], -32022);
        assert_eq!(error["data"], json!({"supported":["2026-07-28"],"requested":version}));
    }
    let long = json!({"_meta": meta(&"9".repeat(10_000))});
    assert!(refused(desk.request("tools/list", long), Fault::UnsupportedVersion).to_string().len() < 300);
}

/// Spec 2026-07-28 basic/patterns/subscriptions#acknowledgment.
#[test]
fn a_subscription_is_to_what_can_be_told() {
    let mut desk = Desk::new();
    refused(desk.request("subscriptions/listen", modern()), Fault::InvalidParams);
    let mut params = modern();
    params["notifications"] =
        json!({"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["a:b"]});
    let (verdict, answer) = desk.request("subscriptions/listen", params);
    let wanted = format!("topics: {:?}, uris: [] }})", Topics::TOOLS);
    assert!(verdict.starts_with("Listen(") && verdict.ends_with(&wanted), "{verdict}");
    assert!(answer.is_null(), "whoever finds the servers acknowledges it");
}

#[test]
fn a_subscription_to_too_many_or_too_long_uris_is_refused() {
    let mut desk = Desk::new();
    let offer = Offer { features: Features::RESOURCES.and(Features::SUBSCRIBE), ..Offer::default() };
    desk.catalogue = Catalogue::new(&[Part { name: "it", offer: &offer }], &CatalogueConfig::default());
    let mut listen = |uris: Value| {
        let mut params = modern();
        params["notifications"] = json!({"resourceSubscriptions": uris});
        desk.request("subscriptions/listen", params)
    };
    refused(listen(json!(vec!["a:b"; 257])), Fault::InvalidParams);
    refused(listen(json!(["b".repeat((8 << 10) + 1)])), Fault::InvalidParams);
    let (verdict, _) = listen(json!(vec!["b".repeat(8 << 10); 256]));
    assert!(verdict.starts_with("Listen("), "{}", &verdict[..40]);
}
