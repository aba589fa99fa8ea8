//! Envelopes by examples, by property, and against serde_json.

use super::*;
use proptest::prelude::*;

fn one(text: &str) -> Envelope<'_> {
    match parse_str(text) {
        Ok(Incoming::One(envelope)) => envelope,
        other => panic!("{text}: {other:?}"),
    }
}

fn defect(text: &str) -> (Defect, Option<&str>) {
    let malformed = parse_str(text).map(|_| ()).expect_err(text);
    (malformed.what, malformed.id.map(Id::raw))
}

#[test]
fn reads_requests_notifications_and_responses() {
    let ping = one(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    assert_eq!(ping.kind, Kind::Request { id: Id("1"), method: "ping".into() });
    assert_eq!(ping.params, None);
    let call =
        one(" {\"method\" : \"tools/call\",\n\"params\":{\"a\":[1, 2]} , \"id\":\"x\", \"jsonrpc\":\"2.0\"}\r\n");
    assert_eq!(call.kind, Kind::Request { id: Id("\"x\""), method: "tools/call".into() });
    assert_eq!(call.params, Some("{\"a\":[1, 2]}"));
    let note = one(r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":null,"other":[{}]}"#);
    assert_eq!(
        note,
        Envelope { kind: Kind::Notification { method: "notifications/initialized".into() }, params: None }
    );
    let result = one(r#"{"jsonrpc":"2.0","id":-7,"result":null}"#);
    assert_eq!(result.kind, Kind::Response { id: Some(Id("-7")), result: Some("null"), error: None });
    for id in [r#","id":null"#, ""] {
        let text = format!(r#"{{"jsonrpc":"2.0"{id},"error":{{"code":1}}}}"#);
        assert_eq!(one(&text).kind, Kind::Response { id: None, result: None, error: Some("{\"code\":1}") });
    }
}

#[test]
fn a_method_is_borrowed_unless_it_has_escapes() {
    let Kind::Notification { method } = one(r#"{"jsonrpc":"2.0","method":"p\u0069ng"}"#).kind else { panic!() };
    assert_eq!(method, Cow::<str>::Owned("ping".to_owned()));
    let Kind::Notification { method } = one(r#"{"jsonrpc":"2.0","method":"ping"}"#).kind else { panic!() };
    assert!(matches!(method, Cow::Borrowed("ping")));
}

#[test]
fn every_defect_is_named_and_comes_with_the_id_where_that_is_sound() {
    use Defect::*;
    let seven = Some("7");
    for (text, what, id) in [
        ("", NotJson, None),
        ("{", NotJson, None),
        (r#"{"jsonrpc":"2.0","id":7,"method":"ping""#, NotJson, None),
        (r#"{"jsonrpc":"2.0","id":7,"method":"ping"}x"#, NotJson, None),
        (r#"{"jsonrpc":"2.0","id":7,"method":"ping",}"#, NotJson, None),
        ("7", NotAnObject, None),
        ("\"{}\"", NotAnObject, None),
        ("[]", EmptyBatch, None),
        ("[1,]", NotJson, None),
        (r#"{"id":7,"method":"m","jsonrpc":"2.0","method":"m"}"#, DuplicateMember, seven),
        (r#"{"id":7,"m\u0065thod":"a","jsonrpc":"2.0","method":"m"}"#, DuplicateMember, seven),
        (r#"{"id":7,"method":"m","jsonrpc":"2.0","id":7}"#, DuplicateMember, None),
        (r#"{"id":7,"method":"m","jsonrpc":"2.0","\u0069d":8}"#, DuplicateMember, None),
        (r#"{"method":"m","id":7}"#, VersionMissing, seven),
        (r#"{"jsonrpc":"1.0","method":"m","id":7}"#, VersionInvalid, seven),
        (r#"{"jsonrpc":2.0,"method":"m","id":7}"#, VersionInvalid, seven),
    ] {
        assert_eq!(defect(text), (what, id), "{text}");
    }
    let deep = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"m","params":{}"#, "[".repeat(100_000));
    assert_eq!(defect(&deep), (TooDeep, None));
    assert_eq!(parse(b"{\"a\":\"\xff\"}").unwrap_err().what, InvalidUtf8);
}

#[test]
fn every_defect_of_id_kind_and_params_is_named() {
    use Defect::*;
    let seven = Some("7");
    for (text, what, id) in [
        (r#"{"jsonrpc":"2.0","method":"m","id":null}"#, IdNull, None),
        (r#"{"jsonrpc":"2.0","method":"m","id":1.5}"#, IdInvalid, None),
        (r#"{"jsonrpc":"2.0","method":"m","id":1e3}"#, IdInvalid, None),
        (r#"{"jsonrpc":"2.0","method":"m","id":true}"#, IdInvalid, None),
        (r#"{"jsonrpc":"2.0","method":"m","id":{}}"#, IdInvalid, None),
        (r#"{"jsonrpc":"2.0","result":1}"#, IdMissing, None),
        (r#"{"jsonrpc":"2.0","result":1,"id":null}"#, IdNull, None),
        (r#"{"jsonrpc":"2.0","id":7}"#, MethodMissing, seven),
        (r#"{"jsonrpc":"2.0"}"#, MethodMissing, None),
        (r#"{"jsonrpc":"2.0","id":7,"method":1}"#, MethodInvalid, seven),
        (r#"{"jsonrpc":"2.0","id":7,"method":"m","params":"x"}"#, ParamsInvalid, seven),
        (r#"{"jsonrpc":"2.0","id":7,"method":"m","result":1}"#, KindAmbiguous, seven),
        (r#"{"jsonrpc":"2.0","id":7,"error":{},"result":1}"#, KindAmbiguous, seven),
        (r#"{"jsonrpc":"2.0","id":7,"error":"x"}"#, ErrorInvalid, seven),
    ] {
        assert_eq!(defect(text), (what, id), "{text}");
    }
    let long = format!(r#"{{"jsonrpc":"2.0","method":"m","id":"{}"}}"#, "x".repeat(ID_BYTES_MAX));
    assert_eq!(defect(&long), (IdTooLong, None));
}

#[test]
fn depth_counts_from_the_outermost_bracket() {
    let message = |depth: usize| {
        format!(r#"{{"jsonrpc":"2.0","method":"m","params":{}{}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    assert!(parse_str(&message(127)).is_ok());
    assert_eq!(defect(&message(128)).0, Defect::TooDeep);
    assert!(parse_str(&format!("[{}]", message(126))).is_ok());
    assert_eq!(defect(&format!("[{}]", message(127))).0, Defect::TooDeep);
}

#[test]
fn a_batch_gives_each_message_with_its_own_defect() {
    let text = r#" [ {"jsonrpc":"2.0","id":1,"method":"a"} , 5, [], {"id":2} ,{"jsonrpc":"2.0","method":"b"}] "#;
    let Ok(Incoming::Batch(batch)) = parse_str(text) else { panic!() };
    assert_eq!(batch.len(), 5);
    let read: Vec<_> = batch.map(|one| one.map_err(|bad| (bad.what, bad.id.map(Id::raw)))).collect();
    assert_eq!(read[0].as_ref().unwrap().kind, Kind::Request { id: Id("1"), method: "a".into() });
    assert_eq!(read[1], Err((Defect::NotAnObject, None)));
    assert_eq!(read[2], Err((Defect::NotAnObject, None)));
    assert_eq!(read[3], Err((Defect::VersionMissing, Some("2"))));
    assert_eq!(read[4].as_ref().unwrap().kind, Kind::Notification { method: "b".into() });
}

#[test]
fn ids_are_equal_by_value_and_type() {
    assert_eq!(Id("\"a\""), Id(r#""\u0061""#));
    assert_ne!(Id("1"), Id("\"1\""));
    assert_ne!(Id("\"a\""), Id("\"b\""));
    assert_eq!(Id::from_raw("-12"), Ok(Id("-12")));
    for bad in ["", "-", "1.0", "[1]", "\"", "true"] {
        assert_eq!(Id::from_raw(bad), Err(Defect::IdInvalid), "{bad}");
    }
    assert_eq!(Id::from_raw("null"), Err(Defect::IdNull));
}

#[test]
fn defects_are_listed_in_order() {
    for (place, defect) in Defect::ALL.iter().enumerate() {
        assert_eq!(defect.index(), place);
        assert!(!defect.message().is_empty());
        assert!([-32700, -32600].contains(&defect.code()));
    }
}

/// Messages that are nearly right, so that a good part of them is accepted.
fn message() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("1".to_owned()),
        Just("null".to_owned()),
        Just("\"2.0\"".to_owned()),
        Just("\"a\\u0062\"".to_owned()),
        Just("{\"x\": [1 ,{}]}".to_owned()),
        Just("-3.5".to_owned()),
        Just("[".to_owned()),
    ];
    let known = prop_oneof![
        Just("\"id\":4".to_owned()),
        Just("\"id\":\"i\"".to_owned()),
        Just("\"method\":\"m\"".to_owned()),
        Just("\"params\":{}".to_owned()),
        Just("\"result\":{}".to_owned()),
        Just("\"error\":{ }".to_owned()),
        Just("\"jsonrpc\":\"2.0\"".to_owned()),
    ];
    let any =
        ("(jsonrpc|id|method|params|x|i\\\\u0064)", value).prop_map(|(key, value)| format!("\"{key}\" : {value}"));
    let member = prop_oneof![6 => known, 1 => any];
    proptest::collection::vec(member, 0..5)
        .prop_map(|members| format!("{{\"jsonrpc\":\"2.0\",{}}}", members.join(" ,")).replace(",}", "}"))
}

proptest! {
    #[test]
    fn what_is_accepted_reads_the_same_in_serde_json(text in message()) {
        use serde_json::{Value, from_str};
        let theirs = from_str::<Value>(&text);
        match parse_str(&text) {
            Ok(Incoming::One(envelope)) => {
                let theirs = theirs.unwrap();
                let ours = |raw: Option<&str>| raw.map(|raw| from_str::<Value>(raw).unwrap());
                prop_assert_eq!(&theirs["jsonrpc"], "2.0");
                let params = theirs.get("params").filter(|params| !params.is_null()).cloned();
                prop_assert_eq!(ours(envelope.params), params);
                let (id, method, result, error) = match envelope.kind {
                    Kind::Request { id, method } => (Some(id), Some(method), None, None),
                    Kind::Notification { method } => (None, Some(method), None, None),
                    Kind::Response { id, result, error } => (id, None, result, error),
                };
                prop_assert_eq!(ours(id.map(Id::raw)).unwrap_or_default(), theirs.get("id").cloned().unwrap_or_default());
                prop_assert_eq!(method.as_deref(), theirs.get("method").and_then(Value::as_str));
                prop_assert_eq!(ours(result), theirs.get("result").cloned());
                prop_assert_eq!(ours(error), theirs.get("error").cloned());
            }
            Ok(Incoming::Batch(_)) => prop_assert!(false),
            Err(malformed) => prop_assert_eq!(malformed.what == Defect::NotJson, theirs.is_err(), "{}", malformed.what.name()),
        }
    }

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes);
    }
}
