//! The catalogue as clients see it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::mcp::offer::Entry;

fn entry(list: List, key: &str) -> Entry {
    let mut value = json!({"name": key, "title": "T"});
    value[list.key()] = key.into();
    Entry { key: key.into(), text: value.to_string().into() }
}

fn offer(list: List, keys: &[&str]) -> Offer {
    let mut offer = Offer { features: list.feature(), ..Offer::default() };
    offer.lists[list.index()] = keys.iter().map(|key| entry(list, key)).collect();
    offer
}

fn render(parts: &[(&str, &Offer)], config: &CatalogueConfig) -> Catalogue {
    let parts: Vec<_> = parts.iter().map(|&(name, offer)| Part { name, offer }).collect();
    Catalogue::new(&parts, config)
}

fn rendered(parts: &[(&str, &Offer)]) -> Catalogue {
    render(parts, &CatalogueConfig::default())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

fn page(catalogue: &Catalogue, list: List, revision: Revision, cursor: Option<&str>) -> Option<Value> {
    let mut out = Vec::new();
    catalogue.page(list, revision, cursor)?.write(&mut out);
    Some(parsed(std::str::from_utf8(&out).unwrap()))
}

fn shown(catalogue: &Catalogue, list: List) -> Vec<String> {
    let page = page(catalogue, list, Revision::V2025_11_25, None).unwrap();
    let entries = page[list.member()].as_array().unwrap();
    entries.iter().map(|entry| entry[list.key()].as_str().unwrap().to_owned()).collect()
}

fn tool(name: &str) -> Target<'_> {
    Target::Tool(Cow::Borrowed(name))
}

fn resource(uri: &str) -> Target<'_> {
    Target::Resource(Cow::Borrowed(uri))
}

fn a_server() -> Offer {
    Offer {
        server_info: Some(r#"{"name":"real","version":"9","title":"Real","websiteUrl":"u"}"#.into()),
        instructions: Some("Try\nx".into()),
        ..offer(List::Tools, &["x"])
    }
}

#[test]
fn one_server_is_shown_as_itself() {
    let catalogue = rendered(&[("up", &a_server())]);
    let first = parsed(catalogue.initialize(Revision::V2024_11_05));
    assert_eq!(first["serverInfo"], json!({"name":"real","version":"9"}));
    assert_eq!(first["instructions"], "Try\nx");
    let last = parsed(catalogue.initialize(Revision::V2025_11_25));
    assert_eq!(last["serverInfo"]["websiteUrl"], "u");
    let discovered = parsed(catalogue.discover());
    assert_eq!(discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "real");
    assert_eq!(discovered["instructions"], "Try\nx");
}

#[test]
fn several_servers_are_shown_as_the_gateway_with_all_their_advice() {
    let silent = offer(List::Prompts, &["p"]);
    let catalogue = rendered(&[("a", &a_server()), ("b", &silent), ("c", &a_server())]);
    let hello = parsed(catalogue.initialize(Revision::V2025_06_18));
    assert_eq!(hello["serverInfo"]["name"], "lakh");
    assert_eq!(hello["instructions"], "# a\nTry\nx\n\n# c\nTry\nx");
}

#[test]
fn a_server_that_introduces_itself_badly_is_shown_as_the_gateway() {
    for info in ["[]", "{\"name\"", ""] {
        let strange = Offer { server_info: Some(info.into()), ..a_server() };
        let hello = parsed(rendered(&[("a", &strange)]).initialize(Revision::V2025_11_25));
        assert_eq!(hello["serverInfo"]["name"], "lakh");
    }
}

/// Schemas `ServerCapabilities`; 2024-11-05 has no `completions`.
#[test]
fn capabilities_are_those_of_all_servers_as_each_revision_knows_them() {
    let all = [Features::TOOLS, Features::PROMPTS, Features::RESOURCES, Features::SUBSCRIBE, Features::LOGGING];
    let all = all.into_iter().fold(Features::COMPLETIONS, Features::and);
    let (some, none) = (Offer { features: all, ..Offer::default() }, Offer::default());
    let catalogue = rendered(&[("a", &none), ("b", &some)]);
    assert_eq!(catalogue.features(), all);
    let mut wanted = json!({"tools":{"listChanged":true},"prompts":{"listChanged":true},"logging":{},
        "resources":{"listChanged":true,"subscribe":true},"completions":{}});
    assert_eq!(parsed(catalogue.discover())["capabilities"], wanted);
    assert_eq!(parsed(catalogue.initialize(Revision::V2025_03_26))["capabilities"], wanted);
    wanted.as_object_mut().unwrap().remove("completions");
    assert_eq!(parsed(catalogue.initialize(Revision::V2024_11_05))["capabilities"], wanted);
    assert_eq!(parsed(rendered(&[("a", &none)]).discover())["capabilities"], json!({}));
}

/// Spec 2025-11-25 basic/lifecycle#initialization.
#[test]
fn initialize_is_answered_in_the_revision_agreed_on() {
    let catalogue = rendered(&[("a", &a_server())]);
    for revision in Revision::ALL {
        let wanted = if revision == Revision::NEWEST { Revision::NEWEST_LEGACY } else { revision };
        assert_eq!(parsed(catalogue.initialize(revision))["protocolVersion"], wanted.as_str());
    }
}

/// Spec 2026-07-28 server/discover#response, server/utilities/caching#cacheable-results.
#[test]
fn modern_results_are_complete_named_and_cacheable() {
    let quick = Offer { fresh: Some(Duration::from_secs(7)), private: true, ..offer(List::Tools, &["y"]) };
    let catalogue = rendered(&[("a", &a_server()), ("b", &quick)]);
    let discovered = parsed(catalogue.discover());
    assert_eq!(discovered["supportedVersions"], json!(["2026-07-28"]));
    let list = page(&catalogue, List::Tools, Revision::V2026_07_28, None).unwrap();
    for result in [discovered, list] {
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result["ttlMs"], 7000);
        assert_eq!(result["cacheScope"], "private");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "lakh");
    }
    assert_eq!(parsed(rendered(&[("a", &a_server())]).discover())["ttlMs"], 300_000);
}

#[test]
fn legacy_results_have_none_of_the_modern_members() {
    let catalogue = rendered(&[("a", &a_server())]);
    for revision in Revision::ALL.into_iter().filter(|it| it.era() == Era::Legacy) {
        let list = page(&catalogue, List::Tools, revision, None).unwrap();
        assert_eq!(list.as_object().unwrap().len(), 1);
        assert_eq!(catalogue.result_opening(revision), "{");
    }
}

#[test]
fn a_list_that_nobody_fills_is_empty() {
    let catalogue = rendered(&[]);
    assert_eq!(page(&catalogue, List::Templates, Revision::V2025_11_25, None), Some(json!({"resourceTemplates":[]})));
}

#[test]
fn names_that_collide_are_shown_with_their_upstream_and_routed_by_it() {
    let (git, web) = (offer(List::Tools, &["search", "log"]), offer(List::Tools, &["search"]));
    let catalogue = rendered(&[("git", &git), ("web", &web)]);
    assert_eq!(shown(&catalogue, List::Tools), ["git_search", "log", "web_search"]);
    assert_eq!(catalogue.route(&tool("web_search"), |_| true), Some((1, "search")));
    assert_eq!(catalogue.route(&tool("log"), |_| true), Some((0, "log")));
    assert_eq!(catalogue.route(&tool("search"), |_| true), None);
    assert_eq!(catalogue.route(&Target::Prompt("log".into()), |_| true), None);
}

#[test]
fn a_resource_that_two_servers_have_is_the_first_ones_and_the_other_is_noted() {
    let (a, b) = (offer(List::Resources, &["x:1", "x:1"]), offer(List::Resources, &["x:1", "x:2"]));
    let catalogue = rendered(&[("a", &a), ("b", &b)]);
    assert_eq!(shown(&catalogue, List::Resources), ["x:1", "x:2"]);
    assert_eq!(catalogue.route(&resource("x:1"), |_| true), Some((0, "x:1")));
    let noted: Vec<_> = catalogue.left_out().iter().map(|it| (it.why, &*it.upstream, it.count)).collect();
    assert_eq!(noted, [(Omission::Twice, "a", 1), (Omission::Taken, "b", 1)]);
}

#[test]
fn a_uri_in_no_list_goes_where_a_template_fits_or_nobody_else_can_read() {
    let a = offer(List::Templates, &["db://t/{id}", "{broken"]);
    let b = offer(List::Resources, &["web://x/index"]);
    let c = offer(List::Tools, &["t"]);
    let catalogue = rendered(&[("a", &a), ("b", &b), ("c", &c)]);
    let route = |uri: &str, present: &[usize]| {
        let target = resource(uri);
        catalogue.route(&target, |part| present.contains(&part)).map(|(part, own)| (part, own.to_owned()))
    };
    let both = &[0, 1, 2];
    assert_eq!(route("db://t/7", both), Some((0, "db://t/7".into())));
    assert_eq!(route("db://t/{id}", both), Some((0, "db://t/{id}".into())), "for a completion");
    assert_eq!(route("{broken", both), Some((0, "{broken".into())), "for a completion");
    assert_eq!(route("web://x/other", both), Some((1, "web://x/other".into())), "all others there are its");
    assert_eq!(route("db://t/7/8", both), Some((0, "db://t/7/8".into())), "all others there are its");
    assert_eq!(route("new:1", both), None);
    assert_eq!(route("new:1", &[1, 2]), Some((1, "new:1".into())), "the only one that is there");
}

#[test]
fn a_place_that_two_servers_share_tells_nothing() {
    let (a, b) = (offer(List::Resources, &["file:///a"]), offer(List::Templates, &["file:///{b}"]));
    let catalogue = rendered(&[("a", &a), ("b", &b)]);
    assert_eq!(catalogue.route(&resource("file:///x/y"), |_| true), None);
}

#[test]
fn entries_that_are_no_json_objects_harm_no_other() {
    let mut bad = offer(List::Tools, &["x"]);
    for text in ["", "7", "{\"name\":", "[{}]", "{} {}"] {
        bad.lists[0].push(Entry { key: text.into(), text: text.into() });
    }
    let catalogue = rendered(&[("a", &bad)]);
    assert_eq!(shown(&catalogue, List::Tools), ["x"]);
    let [left] = catalogue.left_out() else { panic!() };
    assert_eq!((left.why, left.count), (Omission::Malformed, 5));
}

#[test]
fn the_catalogue_is_bounded_and_says_what_is_left_out() {
    let (a, b) = (offer(List::Tools, &["a1", "a2"]), offer(List::Tools, &["b1"]));
    // Two texts, as the older revisions have no titles.
    let bytes = |entry: &Entry| 2 * (entry.text.len() + entry.key.len()) + select::ENTRY_BYTES;
    let room = a.lists[0].iter().map(bytes).sum();
    let full = CatalogueConfig { bytes_max: room, ..CatalogueConfig::default() };
    let catalogue = render(&[("a", &a), ("b", &b)], &full);
    assert_eq!(shown(&catalogue, List::Tools), ["a1", "a2"]);
    let [left] = catalogue.left_out() else { panic!() };
    assert_eq!((left.why, &*left.upstream, &*left.first), (Omission::Full, "b", "b1"));
    assert_eq!(catalogue.listing().count(), 2);
}

#[test]
fn revisions_that_see_the_same_share_its_bytes() {
    let plain = |title: &str| {
        let text = format!(r#"{{"name":"x",{title}"description":"{}"}}"#, "d".repeat(100_000));
        let mut offer = offer(List::Tools, &[]);
        offer.lists[0].push(Entry { key: "x".into(), text: text.into() });
        rendered(&[("a", &offer)]).bytes() / 100_000
    };
    assert_eq!((plain(""), plain(r#""title":"X","#)), (1, 2));
}

/// The names on all pages, following the cursors.
fn walk(catalogue: &Catalogue, list: List, revision: Revision) -> Vec<String> {
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    for step in 0.. {
        let page = page(catalogue, list, revision, cursor.as_deref()).expect("a cursor that was given out");
        let entries = page[list.member()].as_array().unwrap();
        assert!(!entries.is_empty() || step == 0 || page["nextCursor"].is_null());
        seen.extend(entries.iter().map(|entry| entry[list.key()].as_str().unwrap().to_owned()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    seen
}

#[test]
fn a_page_is_bounded_in_entries_and_bytes_but_has_at_least_one() {
    let keys: Vec<String> = (0..10).map(|at| format!("{at}-{}", "k".repeat(at * 10))).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let all = offer(List::Prompts, &keys);
    for (page_entries, page_bytes) in [(3, 1 << 20), (100, 150), (100, 0), (0, 0), (100, 1 << 20)] {
        let config = CatalogueConfig { page_entries, page_bytes, ..CatalogueConfig::default() };
        let catalogue = render(&[("a", &all)], &config);
        for revision in [Revision::V2024_11_05, Revision::V2026_07_28] {
            assert_eq!(walk(&catalogue, List::Prompts, revision), keys);
        }
    }
}

#[test]
fn a_cursor_that_was_never_given_out_is_unknown() {
    let catalogue = rendered(&[("a", &offer(List::Tools, &["x"]))]);
    let elsewhere = rendered(&[("b", &offer(List::Tools, &["x"]))]).shelves[0].cursor(0, "b");
    let gone = rendered(&[("a", &offer(List::Tools, &["y"]))]).shelves[0].cursor(0, "a");
    for cursor in ["", "x", "????", "YQ", &elsewhere, &gone] {
        assert!(catalogue.page(List::Tools, Revision::V2025_11_25, Some(cursor)).is_none(), "{cursor}");
    }
}

proptest::proptest! {
    /// What is there from the first page to the last is seen exactly once, whatever else comes and goes around it.
    #[test]
    fn walking_the_pages_gives_what_stays_exactly_once(
        stay in proptest::collection::btree_set("[a-f]{1,3}", 1..30),
        others in proptest::collection::vec(proptest::collection::btree_set("[a-f]{1,3}", 0..30), 1..6),
        page_entries in 1..7_usize,
        list in proptest::sample::select(&List::ALL[..]),
    ) {
        let config = CatalogueConfig { page_entries, ..CatalogueConfig::default() };
        let last = ("z", offer(list, &["only-z"]));
        let catalogues: Vec<Catalogue> = others.iter().map(|others| {
            let all: BTreeSet<&str> = stay.iter().chain(others).map(String::as_str).collect();
            let first = offer(list, &all.into_iter().collect::<Vec<_>>());
            render(&[("a", &first), (last.0, &last.1)], &config)
        }).collect();
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        for step in 0.. {
            let catalogue = &catalogues[if step < 100 { step % catalogues.len() } else { 0 }];
            let Some(page) = page(catalogue, list, Revision::V2025_11_25, cursor.as_deref()) else {
                // The very entry that the cursor names has gone: clients begin anew.
                (seen, cursor) = (Vec::new(), None);
                continue;
            };
            let entries = page[list.member()].as_array().unwrap();
            seen.extend(entries.iter().map(|entry| entry[list.key()].as_str().unwrap().to_owned()));
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = Some(next.to_owned());
        }
        for name in stay.iter().map(String::as_str).chain(["only-z"]) {
            proptest::prop_assert_eq!(seen.iter().filter(|it| *it == name).count(), 1, "{} in {:?}", name, seen);
        }
    }

    #[test]
    fn every_name_shown_leads_to_its_server_under_its_own_name(
        a in proptest::collection::btree_set("[ab_.]{0,4}", 0..12),
        b in proptest::collection::btree_set("[ab_.]{0,4}", 0..12),
    ) {
        let keys = |all: &BTreeSet<String>| offer(List::Tools, &all.iter().map(String::as_str).collect::<Vec<_>>());
        let catalogue = rendered(&[("a", &keys(&a)), ("a_b", &keys(&b))]);
        let mut reached = (BTreeSet::new(), BTreeSet::new());
        for name in shown(&catalogue, List::Tools) {
            let target = tool(&name);
            let (part, own) = catalogue.route(&target, |_| true).unwrap();
            if part == 0 { &mut reached.0 } else { &mut reached.1 }.insert(own.to_owned());
        }
        proptest::prop_assert_eq!(reached, (a, b));
    }
}

/// 100,000 tools with descriptions and schemas: rendered whole, within the knob, and paged through.
#[test]
fn a_hundred_thousand_tools_are_rendered_within_bounds() {
    let entry = |at: usize| {
        Entry {
        key: format!("tool_{at}").into(),
        text: format!(
            r#"{{"name":"tool_{at}","title":"Tool {at}","description":"Does what number {at} does, and nothing else.","inputSchema":{{"type":"object","properties":{{"x":{{"type":"string"}}}}}}}}"#
        )
        .into(),
    }
    };
    let mut many = offer(List::Tools, &[]);
    many.lists[0] = (0..100_000).map(entry).collect();
    let catalogue = rendered(&[("a", &many), ("b", &offer(List::Tools, &["tool_7"]))]);
    assert_eq!(catalogue.left_out(), []);
    assert!(catalogue.bytes() < CatalogueConfig::default().bytes_max, "{}", catalogue.bytes());
    let seen = walk(&catalogue, List::Tools, Revision::V2025_11_25);
    assert_eq!(seen.len(), 100_001);
    assert_eq!((&*seen[7], &*seen[8], &*seen[100_000]), ("a_tool_7", "tool_8", "b_tool_7"));
    assert_eq!(catalogue.route(&tool("tool_99999"), |_| true), Some((0, "tool_99999")));
}
