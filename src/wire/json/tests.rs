//! The scanner by examples, by property, and against serde_json.

use super::*;
use proptest::prelude::*;
use serde::de::IgnoredAny;

fn is_json_to_serde(text: &str) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde::Deserialize::deserialize(&mut deserializer).is_ok_and(|_: IgnoredAny| deserializer.end().is_ok())
}

#[test]
fn accepts_what_the_grammar_has() {
    for text in [
        "null",
        "true",
        " false ",
        "0",
        "-0",
        "10.5e-3",
        "1E+9",
        "\"\"",
        r#""a\"\\\/\b\f\n\r\té""#,
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[1,[2,{\"a\":[]}],\"x\"]",
        "\t{\"a\" : 1 , \"b\":{}}\r\n",
        "\"\u{7f}\u{10ffff}\"",
        r#""\ud800""#,
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
        assert!(is_json_to_serde(text), "{text}");
    }
}

#[test]
fn refuses_what_the_grammar_has_not() {
    for text in [
        "",
        " ",
        "nul",
        "truee",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "\"",
        "\"a",
        "\"\n\"",
        "\"\t\"",
        "\"\0\"",
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\""#,
        "[",
        "]",
        "[1",
        "[1,]",
        "[,]",
        "[1 2]",
        "[1}",
        "{",
        "}",
        "{1:2}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1]",
        "{\"a\" 1}",
        "1 2",
        "{}{}",
        "'a'",
        "\u{feff}{}",
        "// c\n1",
        "[1]\u{a0}",
    ] {
        assert_eq!(check(text), Err(Broken::Syntax), "{text}");
        assert!(!is_json_to_serde(text), "{text}");
    }
}

#[test]
fn specials_are_found_at_every_place_of_a_long_string() {
    for length in 0..140 {
        for special in ["\"", "\\", "\n", "\u{1f}", "\0"] {
            let text = "é".repeat(length / 2) + &"a".repeat(length % 2) + special + "tail tail tail";
            assert_eq!(plain_end(text.as_bytes(), 0), length, "{length} {special:?}");
        }
        let clean = "\u{7f} !#[]\u{80}"[..8].repeat(20);
        assert_eq!(plain_end(&clean.as_bytes()[..length], 0), length);
    }
}

#[test]
fn depth_has_a_limit_and_takes_no_stack() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let objects = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    let max = DEPTH_MAX as usize;
    assert_eq!(check(&nested(max)), Ok(()));
    assert_eq!(check(&objects(max)), Ok(()));
    assert_eq!(check(&nested(max + 1)), Err(Broken::TooDeep));
    assert_eq!(check(&objects(max + 1)), Err(Broken::TooDeep));
    assert_eq!(check(&nested(100_000)), Err(Broken::TooDeep));
    assert_eq!(check(&"[".repeat(100_000)), Err(Broken::TooDeep));
    // Brackets are matched by kind at every level.
    assert_eq!(check(&("[{\"a\":".repeat(40) + "1" + &"}]".repeat(40))), Ok(()));
    assert_eq!(check(&("[{\"a\":".repeat(40) + "1" + &"]}".repeat(40))), Err(Broken::Syntax));
}

#[test]
fn members_are_given_with_decoded_keys_and_raw_values() {
    let found: Vec<_> = members(r#" { "a" : [1, 2] ,"b\u0063":"x\n" , "":{"a":1} } "#).unwrap().collect();
    let found: Vec<_> = found.iter().map(|(key, value)| (key.as_ref(), *value)).collect();
    assert_eq!(found, [("a", "[1, 2]"), ("bc", r#""x\n""#), ("", r#"{"a":1}"#)]);
    assert!(members("[1]").is_none());
    assert_eq!(members("{}").unwrap().count(), 0);
    assert_eq!(elements("[ 1 , [2] ,\"3\" ]").unwrap().collect::<Vec<_>>(), ["1", "[2]", "\"3\""]);
    assert_eq!(elements("[]").unwrap().count(), 0);
}

#[test]
fn broken_text_ends_the_members_and_does_no_harm() {
    for text in ["{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{a:1}", "{\"a\":[}", "{\"é", "{:"] {
        assert!(members(text).unwrap().count() <= 1, "{text}");
    }
    assert_eq!(elements("[1,2").unwrap().count(), 2);
}

#[test]
fn picks_named_members_and_refuses_one_that_is_there_twice() {
    assert_eq!(pick(r#"{"x":1,"name":"n","y":2}"#, ["name", "z"]), Ok([Some("\"n\""), None]));
    assert_eq!(pick(r#"{"name":1,"n\u0061me":2}"#, ["name"]), Err(Duplicate));
    assert_eq!(pick(r#"{"x":1,"x":2}"#, ["name"]), Ok([None]));
    assert_eq!(pick("[]", ["name"]), Ok([None]));
}

#[test]
fn strings_are_decoded_and_borrowed_where_they_can_be() {
    assert!(matches!(string("\"plain é\""), Some(Cow::Borrowed("plain é"))));
    assert_eq!(string(r#""\ud83d\ude00\u00e9\"\/\b\f\n\r\t""#).unwrap(), "😀é\"/\u{8}\u{c}\n\r\t");
    for lone in [r#""a\ud800b""#, r#""a\udc00b""#] {
        assert_eq!(string(lone).unwrap(), "a\u{fffd}b");
    }
    assert_eq!(string(r#""\ud800\ud83d\ude00""#).unwrap(), "\u{fffd}😀");
    for none in ["", "\"", "a", "\"a", "a\"", "\"a\"b\"", r#""\""#, r#""\x""#, r#""\u00é""#] {
        assert_eq!(string(none), None, "{none}");
    }
}

proptest! {
    #[test]
    fn accepts_exactly_what_serde_json_accepts(text in r#"[\[\]{}",:0-9eE.+\-truefalsn\\ u\n]{0,24}"#) {
        prop_assert_eq!(check(&text).is_ok(), is_json_to_serde(&text));
    }

    #[test]
    fn written_strings_are_read_back(text in any::<String>()) {
        let mut out = Vec::new();
        write_string(&mut out, &text);
        let out = String::from_utf8(out).unwrap();
        prop_assert_eq!(check(&out), Ok(()));
        prop_assert_eq!(string(&out).unwrap().into_owned(), text.clone());
        prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
    }

    #[test]
    fn strings_are_decoded_as_serde_json_does(text in r#""([a-zé"\\]|\\[nrtbf/]|\\u[0-9a-f]{4}|\\ud83d\\ude0[0-9]){0,12}""#) {
        if let Ok(theirs) = serde_json::from_str::<String>(&text) {
            prop_assert_eq!(string(&text).unwrap(), theirs);
        }
    }
}

#[test]
fn a_compact_value_has_no_space_but_in_its_strings() {
    for (raw, compact) in [
        (" { \"a b\" :\t[ 1 ,\r\n\"\\\" , \" ] } ", "{\"a b\":[1,\"\\\" , \"]}"),
        ("7", "7"),
        ("", ""),
        ("\"half ", "\"half "),
    ] {
        let mut out = Vec::new();
        write_compact(&mut out, raw);
        assert_eq!(String::from_utf8(out).unwrap(), compact, "{raw}");
    }
}
