//! Offers as upstreams come, change and go.

use std::sync::Mutex;

use super::*;
use crate::mcp::{Entry, Features, Target};
use crate::upstream::embedded::{Config, Tools};
use crate::upstream::{Listed, Server};

/// Offers of some upstreams, and the news they have spread.
struct Desk {
    offers: Offers,
    embedded: Option<Embedded>,
    directories: Arc<Directories>,
    news: Arc<Mutex<Vec<Topics>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Desk {
    fn new(built_in: bool, upstreams: &[&Arc<Upstream>]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let embedded = Embedded::new(Arc::new(Tools::new(Config::default(), String::new)), runtime.handle().clone(), 1);
        let directories = Arc::new(Directories::from_pointee(Directory::embedded(embedded.clone())));
        let news = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&news);
        let spread = move |news: News| told.lock().unwrap().push(Topics(news.topic));
        let embedded = built_in.then_some(embedded);
        let offers = Offers::new(Arc::clone(&directories), CatalogueConfig::default(), embedded.clone(), spread);
        let desk = Self { offers, embedded, directories, news, _runtime: runtime };
        desk.configure(upstreams);
        desk.news();
        desk
    }

    fn configure(&self, upstreams: &[&Arc<Upstream>]) {
        let upstreams: Vec<_> = upstreams.iter().map(|&it| Arc::clone(it)).collect();
        self.offers.configure(CatalogueConfig::default(), self.embedded.clone(), &upstreams);
    }

    fn set(&self, upstream: &Arc<Upstream>, offer: &Offer) {
        self.offers.set(upstream, Standing::Present(Arc::new(offer.clone())));
        self.offers.catch_up();
    }

    /// What has been told since the last time.
    fn news(&self) -> Vec<Topics> {
        std::mem::take(&mut self.news.lock().unwrap())
    }

    /// `name upstream`, and a `?` where it is gone.
    fn listing(&self) -> Vec<String> {
        let row = |it: Listed<'_>| format!("{} {}{}", it.name, it.upstream, if it.present { "" } else { "?" });
        self.directories.load().listing().map(row).collect()
    }

    /// The upstream that a tool's call goes to, and by which name.
    fn route(&self, name: &str) -> Option<String> {
        let target = Target::Tool(name.into());
        let directory = self.directories.load();
        let (server, own) = directory.route(&target)?;
        Some(match server {
            Server::Embedded(_) => format!("built in: {own}"),
            Server::Upstream(upstream) => format!("{}: {own}", upstream.name),
        })
    }
}

fn upstream(name: &str) -> Arc<Upstream> {
    Arc::new(Upstream::new(name, false))
}

fn tools(names: &[&str]) -> Offer {
    let entry = |name: &&str| {
        let text = format!(r#"{{"name":"{name}","description":"\n First line. \nSecond."}}"#);
        Entry { key: (*name).into(), text: text.into() }
    };
    let mut offer = Offer { features: Features::TOOLS, ..Offer::default() };
    offer.lists[0] = names.iter().map(entry).collect();
    offer
}

#[test]
fn the_order_is_that_of_the_configuration_whoever_comes_first() {
    let (a, b) = (upstream("a"), upstream("b"));
    let desk = Desk::new(true, &[&a, &b]);
    desk.set(&b, &tools(&["y"]));
    desk.set(&a, &tools(&["x", "echo"]));
    let built_in = ["embedded_echo", "add", "sleep", "blob", "stats"].map(|name| format!("{name} embedded"));
    assert_eq!(desk.listing(), [&["x a", "a_echo a", "y b"].map(String::from)[..], &built_in].concat());
    assert_eq!(desk.route("a_echo").as_deref(), Some("a: echo"));
    assert_eq!(desk.route("embedded_echo").as_deref(), Some("built in: echo"));
    assert_eq!(desk.route("echo"), None);
}

#[test]
fn only_lists_that_changed_are_news() {
    let (a, b) = (upstream("a"), upstream("b"));
    let desk = Desk::new(false, &[&a, &b]);
    desk.set(&a, &tools(&["x"]));
    assert_eq!(desk.news(), [Topics::TOOLS]);
    desk.set(&a, &tools(&["x"]));
    assert_eq!(desk.news(), []);
    let mut more = tools(&["x"]);
    more.features = more.features.and(Features::RESOURCES);
    for list in [List::Resources, List::Templates] {
        more.lists[list.index()] = vec![Entry { key: "u:1".into(), text: r#"{"uri":"u:1","name":"u"}"#.into() }];
    }
    desk.set(&a, &more);
    assert_eq!(desk.news(), [Topics::RESOURCES], "once for both lists");
    desk.offers.set(&a, Standing::Gone);
    desk.offers.set(&a, Standing::Gone);
    desk.set(&a, &more);
    assert_eq!(desk.news(), [], "gone and back");
}

#[test]
fn what_is_offered_is_rendered_by_who_tends_and_many_changes_at_once() {
    let (a, b) = (upstream("a"), upstream("b"));
    let desk = Desk::new(false, &[&a, &b]);
    for names in [&["x"][..], &["x", "y"], &["z"]] {
        desk.offers.set(&a, Standing::Present(Arc::new(tools(names))));
    }
    assert!(
        desk.listing().is_empty() && desk.news().is_empty() && !desk.offers.is_settled(),
        "nothing is rendered here"
    );
    desk.offers.catch_up();
    assert_eq!(desk.listing(), ["z a"]);
    assert_eq!(desk.news(), [Topics::TOOLS], "three changes, one catalogue");
    assert!(desk.offers.is_settled());
}

#[test]
fn what_was_rendered_for_other_upstreams_comes_too_late() {
    let (a, b) = (upstream("a"), upstream("b"));
    let desk = Desk::new(false, &[&a]);
    desk.offers.set(&a, Standing::Present(Arc::new(tools(&["x"]))));
    let draft = desk.offers.draft().expect("a change");
    let late = draft.render();
    desk.configure(&[&b]);
    desk.offers.publish(draft, late);
    assert!(desk.listing().is_empty() && desk.directories.load().upstreams().len() == 1);
    assert_eq!(desk.news(), []);
}

#[test]
fn who_goes_while_it_is_rendered_is_gone_in_what_was() {
    let a = upstream("a");
    let desk = Desk::new(false, &[&a]);
    desk.offers.set(&a, Standing::Present(Arc::new(tools(&["x"]))));
    let draft = desk.offers.draft().expect("a change");
    desk.offers.set(&a, Standing::Gone);
    let rendered = draft.render();
    desk.offers.publish(draft, rendered);
    assert_eq!(desk.listing(), ["x a?"]);
}

#[test]
fn who_is_gone_keeps_its_entries_for_a_while_and_is_marked() {
    let (a, b) = (upstream("a"), upstream("b"));
    let desk = Desk::new(false, &[&a, &b]);
    desk.set(&a, &tools(&["x"]));
    desk.set(&b, &tools(&["y"]));
    let catalogue = Arc::clone(&desk.directories.load().catalogue);
    desk.offers.set(&a, Standing::Gone);
    assert!(Arc::ptr_eq(&catalogue, &desk.directories.load().catalogue), "nothing is rendered anew");
    assert_eq!(desk.listing(), ["x a?", "y b"]);
    assert_eq!(desk.route("x").as_deref(), Some("a: x"), "it refuses its calls itself");
    desk.news();
    let now = Instant::now();
    let due = desk.offers.expire(now).expect("somebody is gone");
    assert_eq!(desk.listing().len(), 2);
    assert_eq!(desk.offers.expire(due), None);
    desk.offers.catch_up();
    assert_eq!(desk.listing(), ["y b"]);
    assert_eq!(desk.news(), [Topics::TOOLS]);
    desk.set(&a, &tools(&["x"]));
    assert_eq!(desk.listing(), ["x a", "y b"], "it may come back");
}

#[test]
fn who_is_back_in_time_stays() {
    let a = upstream("a");
    let desk = Desk::new(false, &[&a]);
    desk.set(&a, &tools(&["x"]));
    desk.offers.set(&a, Standing::Gone);
    desk.set(&a, &tools(&["x"]));
    assert_eq!(desk.offers.expire(Instant::now() + Duration::from_secs(100_000)), None);
    assert_eq!(desk.listing(), ["x a"]);
}

#[test]
fn who_is_no_longer_configured_is_gone_at_once_and_not_heard() {
    let (a, b) = (upstream("a"), upstream("b"));
    let desk = Desk::new(false, &[&a, &b]);
    desk.set(&a, &tools(&["x"]));
    desk.set(&b, &tools(&["y"]));
    desk.news();
    desk.configure(&[&b]);
    assert_eq!(desk.listing(), ["y b"]);
    assert_eq!(desk.news(), [Topics::TOOLS]);
    desk.set(&a, &tools(&["x"]));
    assert_eq!(desk.listing(), ["y b"]);
    assert_eq!(desk.directories.load().upstreams().len(), 1);
}

#[test]
fn a_new_configuration_of_the_same_upstream_shows_no_gap() {
    let (old, new) = (upstream("a"), upstream("a"));
    let desk = Desk::new(false, &[&old]);
    desk.set(&old, &tools(&["x"]));
    desk.configure(&[&new]);
    assert_eq!(desk.listing(), ["x a?"]);
    desk.offers.set(&old, Standing::Gone);
    desk.set(&new, &tools(&["x", "z"]));
    assert_eq!(desk.listing(), ["x a", "z a"]);
}

#[test]
fn a_lone_server_is_asked_even_for_what_it_does_not_list() {
    let (a, b) = (upstream("a"), upstream("b"));
    let desk = Desk::new(false, &[&a]);
    desk.set(&a, &tools(&["x"]));
    assert_eq!(desk.route("hidden").as_deref(), Some("a: hidden"));
    desk.configure(&[&a, &b]);
    assert_eq!(desk.route("hidden"), None);
    assert_eq!(Desk::new(true, &[]).route("hidden"), None);
}

#[test]
fn the_listing_tells_own_names_and_the_first_line_of_descriptions() {
    let (a, b) = (upstream("a"), upstream("b"));
    let desk = Desk::new(false, &[&a, &b]);
    desk.set(&a, &tools(&["x"]));
    desk.set(&b, &tools(&["x"]));
    let directory = desk.directories.load();
    let last = directory.listing().last().unwrap();
    assert_eq!((last.name, last.own, &*last.description), ("b_x", "x", "First line."));
}

#[test]
fn the_catalogue_is_whole_when_each_upstream_was_heard_of() {
    let (a, b) = (upstream("a"), upstream("b"));
    let desk = Desk::new(false, &[&a, &b]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let is_whole = || {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = desk.offers.heard_of_all() => true,
                () = tokio::task::yield_now() => false,
            }
        })
    };
    desk.offers.set(&a, Standing::Gone);
    assert!(!is_whole());
    desk.set(&b, &tools(&["x"]));
    assert!(is_whole());
    desk.configure(&[&a, &b, &upstream("c")]);
    assert!(!is_whole());
    let said = async { desk.configure(&[&a]) };
    runtime.block_on(async { tokio::join!(biased; desk.offers.heard_of_all(), said) });
}

/// The time is tokio's, and goes by as nothing else is to be done.
#[test]
fn time_takes_out_who_is_gone() {
    let a = upstream("a");
    let desk = Desk::new(false, &[&a]);
    let config = CatalogueConfig { gone_ms: 1, ..CatalogueConfig::default() };
    desk.offers.configure(config, None, &[Arc::clone(&a)]);
    desk.set(&a, &tools(&["x"]));
    desk.offers.set(&a, Standing::Gone);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let until_empty = async {
        while !desk.listing().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = desk.offers.tend() => {}
            () = until_empty => {}
        }
    });
    assert!(desk.listing().is_empty());
}
