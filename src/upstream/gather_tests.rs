//! Lists with and without an end, and entries that no list should have.

use serde_json::{Value, json};

use super::*;
use crate::mcp::{Beyond, Features, Revision};
use crate::upstream::trouble::{Trouble, TroubleKind};

fn agreed(revision: Revision) -> Agreed {
    let features = Features::TOOLS.and(Features::RESOURCES);
    Agreed { revision, features, beyond: Beyond::default(), server_info: None, instructions: None }
}

const ALL: Topics = Topics(u8::MAX);

fn gather(entries_max: usize) -> Gather {
    Gather::new("files", &agreed(Revision::NEWEST), None, Topics::default(), entries_max, true)
}

fn take(gather: &mut Gather, result: &Value) {
    let (list, _) = gather.next().expect("more to ask");
    gather.take(list, &Heard::Result(result.to_string().into()));
}

/// As it is kept for the next time.
fn kept(gather: Gather) -> (Arc<Offer>, ParamHeaders) {
    let (offer, params) = gather.finish();
    (Arc::new(offer), params)
}

fn tool(name: &str) -> Value {
    json!({"name":name,"inputSchema":{"type":"object"}})
}

#[test]
fn every_list_that_the_server_has_is_read_page_by_page() {
    let mut gather = gather(100);
    assert_eq!(gather.next(), Some((List::Tools, String::new())));
    take(&mut gather, &json!({"tools":[tool("a")],"nextCursor":"\u{e4} \"x\""}));
    assert_eq!(gather.next(), Some((List::Tools, format!("\"cursor\":{}", json!("\u{e4} \"x\"")))));
    take(&mut gather, &json!({"tools":[tool("b")],"ttlMs":9_000,"cacheScope":"public"}));
    take(&mut gather, &json!({"resources":[{"uri":"a://b","name":"x"}],"ttlMs":7_000,"cacheScope":"private"}));
    take(&mut gather, &json!({"resourceTemplates":[]}));
    assert_eq!(gather.next(), None, "it has no prompts");
    let (offer, _) = gather.finish();
    let keys = |list| offer.list(list).iter().map(|entry| &*entry.key).collect::<Vec<_>>();
    assert_eq!((keys(List::Tools), keys(List::Resources)), (vec!["a", "b"], vec!["a://b"]));
    assert_eq!((offer.fresh, offer.private), (Some(Duration::from_millis(7_000)), true));
}

#[test]
fn entries_that_cannot_be_asked_for_are_left_out() {
    let mut gather = gather(100);
    let tools =
        json!([tool("a"), tool("line\nbreak"), tool(""), {"name":7}, 7, tool(&"x".repeat(300)), tool("a"), tool("b")]);
    take(&mut gather, &json!({ "tools": tools }));
    let keys: Vec<_> = gather.finish().0.list(List::Tools).iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(keys, ["a", "b"]);
}

#[test]
fn a_list_that_goes_in_circles_or_has_no_end_is_cut() {
    let mut circle = gather(100);
    take(&mut circle, &json!({"tools":[tool("a")],"nextCursor":"1"}));
    take(&mut circle, &json!({"tools":[tool("b")],"nextCursor":"1"}));
    assert_eq!(circle.next().map(|(list, _)| list), Some(List::Resources));
    let mut huge = gather(10);
    let tools: Vec<Value> = (0..100_000).map(|number| tool(&number.to_string())).collect();
    take(&mut huge, &json!({"tools":tools,"nextCursor":"more"}));
    assert_eq!(huge.next().map(|(list, _)| list), Some(List::Resources));
    assert_eq!(huge.finish().0.list(List::Tools).len(), 10);
    let mut endless = gather(100);
    for page in 0..=PAGES_MAX {
        assert_eq!(endless.next().map(|(list, _)| list), Some(List::Tools));
        take(&mut endless, &json!({"tools":[],"nextCursor":page.to_string()}));
    }
    assert_eq!(endless.next().map(|(list, _)| list), Some(List::Resources));
}

#[test]
fn a_cursor_of_any_length_is_not_kept() {
    for (bytes, follows) in [(CURSOR_BYTES_MAX - 1, true), (CURSOR_BYTES_MAX, true), (CURSOR_BYTES_MAX + 1, false)] {
        let mut gather = gather(100);
        // Two are quotes.
        take(&mut gather, &json!({"tools":[tool("a")],"nextCursor":"x".repeat(bytes - 2)}));
        let (list, _) = gather.next().expect("more to ask");
        assert_eq!(list == List::Tools, follows, "{bytes}");
    }
}

#[test]
fn a_list_that_fails_is_empty_and_the_others_are_not() {
    let mut gather = gather(100);
    gather.take(List::Tools, &Heard::Failed(Trouble::new(TroubleKind::Mute, "")));
    gather.take(List::Resources, &Heard::Error(br#"{"code":-32601,"message":"no"}"#.to_vec()));
    take(&mut gather, &json!({"resourceTemplates":[{"uriTemplate":"a://{b}","name":"x"}]}));
    let (offer, _) = gather.finish();
    assert_eq!(offer.lists.each_ref().map(Vec::len), [0, 0, 0, 1]);
}

#[test]
fn only_what_has_changed_is_listed_anew() {
    let mut first = gather(100);
    take(&mut first, &json!({"tools":[tool("a")]}));
    take(&mut first, &json!({"resources":[{"uri":"a://b","name":"x"}]}));
    take(&mut first, &json!({"resourceTemplates":[]}));
    let last = kept(first);
    let agreed = agreed(Revision::NEWEST);
    let mut second = Gather::new("files", &agreed, Some(&last), Topics::TOOLS, 100, true);
    take(&mut second, &json!({"tools":[tool("c")]}));
    assert_eq!(second.next(), None);
    let (offer, _) = second.finish();
    assert_eq!(&*offer.list(List::Tools)[0].key, "c");
    assert_eq!(offer.list(List::Resources).len(), 1);
}

/// Spec 2026-07-28 basic/transports/streamable-http#schema-extension.
#[test]
fn a_tool_with_wrong_header_annotations_is_left_out_over_http_only() {
    let bad = json!({"name":"bad","inputSchema":{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}});
    let good = json!({"name":"good","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}});
    let mut http = gather(100);
    take(&mut http, &json!({"tools":[bad, good]}));
    let (offer, params) = http.finish();
    assert_eq!(offer.list(List::Tools).len(), 1);
    assert_eq!(params.values("good", r#""arguments":{"a":"x"}"#), [("A".to_owned(), "x".to_owned())]);
    let mut stdio = Gather::new("files", &agreed(Revision::NEWEST), None, Topics::default(), 100, false);
    take(&mut stdio, &json!({"tools":[bad, good]}));
    assert_eq!(stdio.finish().0.list(List::Tools).len(), 2);
}

#[test]
fn what_is_as_it_was_is_taken_as_it_was_wherever_it_stands_now() {
    let annotated = json!({"name":"b","inputSchema":{"properties":{"x":{"type":"string","x-mcp-header":"X"}}}});
    for http in [false, true] {
        let gather = |last: Option<&_>| Gather::new("files", &agreed(Revision::NEWEST), last, ALL, 100, http);
        let mut first = gather(None);
        take(&mut first, &json!({"tools":[tool("a"), annotated, tool("c")]}));
        let last = kept(first);
        let mut same = gather(Some(&last));
        take(&mut same, &json!({"tools":[tool("a"), annotated, tool("c")]}));
        let (offer, params) = same.finish();
        assert_eq!((&offer, params.of("b")), (&*last.0, last.1.of("b")));
        assert_eq!(params.of("b").len(), 1);
        // The one in the middle is another, the last is there twice, and one is new.
        let mut other = gather(Some(&last));
        take(&mut other, &json!({"tools":[tool("a"), tool("b"), tool("c"), tool("c"), tool("d")]}));
        let (offer, params) = other.finish();
        let texts: Vec<_> = offer.list(List::Tools).iter().map(|entry| (&*entry.key, &*entry.text)).collect();
        let wanted = ["a", "b", "c", "d"].map(|name| (name, tool(name).to_string()));
        assert_eq!(texts, wanted.each_ref().map(|(name, text)| (*name, &**text)));
        assert_eq!(params.of("b").len(), 0);
    }
}

#[test]
fn a_list_that_cannot_be_had_stays_as_it_was_and_is_asked_for_again() {
    let annotated = json!({"name":"a","inputSchema":{"properties":{"x":{"type":"string","x-mcp-header":"X"}}}});
    let failures = [
        Heard::Failed(Trouble::new(TroubleKind::Mute, "")),
        Heard::Error(br#"{"code":-32603,"message":"not now"}"#.to_vec()),
        Heard::Result(br#"{"tools":[],"tools":[]}"#.to_vec()),
    ];
    for failure in failures {
        let mut first = gather(100);
        take(&mut first, &json!({"tools":[annotated]}));
        let last = kept(first);
        // Of another link: all of it is listed anew.
        let mut second = Gather::new("files", &agreed(Revision::NEWEST), Some(&last), Topics(u8::MAX), 100, true);
        take(&mut second, &json!({"tools":[tool("half")],"nextCursor":"1"}));
        second.take(List::Tools, &failure);
        take(&mut second, &json!({"resources":[{"uri":"a://b","name":"x"}]}));
        assert!(second.is_partial, "{failure:?}");
        let (offer, params) = second.finish();
        assert_eq!(offer.list(List::Tools).iter().map(|entry| &*entry.key).collect::<Vec<_>>(), ["a"], "{failure:?}");
        assert_eq!(offer.list(List::Resources).len(), 1);
        assert_eq!(params.of("a").len(), 1);
    }
}

#[test]
fn a_list_that_the_server_does_not_know_is_not_asked_for_again() {
    let mut gather = gather(100);
    gather.take(List::Tools, &Heard::Error(br#"{"code":-32601,"message":"no"}"#.to_vec()));
    assert!(!gather.is_partial);
}
