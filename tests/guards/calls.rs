//! Rates of calls, calls in flight, and the zone in which no call is taken.

use std::collections::BTreeMap;

use lakh::config::Config;
use lakh::guard::{Plan, Refusal, Zone};
use lakh::upstream::config::Config as Upstream;
use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Gateway, Peer, call, request, scripted, text_of};
use crate::{agrees, bare, echo, is_told_inside, metric, refused, sleep, told};

/// In front of a server that is marked so, for clients with this plan. 2 a minute: one more each 30 s.
fn in_front_of(upstream: Upstream, plan: Plan) -> Gateway {
    Gateway::start(|config| {
        config.upstreams.insert("it".into(), Upstream { command: scripted(), ..upstream });
        config.plans = BTreeMap::from([("default".into(), plan)]);
    })
}

fn slow() -> Upstream {
    Upstream { slow: true, ..Upstream::default() }
}

#[test]
fn a_client_calls_slow_servers_so_often_in_every_dialect() {
    let gateway = in_front_of(slow(), Plan { slow_calls_per_minute: 2, ..Plan::default() });
    for mut peer in [gateway.neighbour(), Peer::websocket(gateway.clients())] {
        assert_eq!(text_of(&peer.ask(&echo(1))), "hello");
        assert_eq!(text_of(&peer.ask(&echo(2))), "hello");
        let refusal = peer.ask(&echo(3));
        let (code, wait) = told(&refusal);
        assert_eq!((code, &refusal["id"]), (429, &json!(3)));
        assert!((1..=30_000).contains(&wait), "{wait}");
        assert_eq!(told(&peer.ask(&request(4, "resources/read", &json!({"uri": "test://one"})))).0, 429);
        assert!(peer.is_answered(5), "what costs the server nothing is free");
        assert!(peer.ask(&request(6, "tools/list", &json!({})))["result"].is_object());
    }
    let mut session = Http::open(gateway.clients(), "2025-11-25");
    assert!(session.post(&echo(1)).json()["result"].is_object());
    assert!(session.sibling().post(&echo(2)).json()["result"].is_object());
    let answer = session.sibling().post(&echo(3));
    assert!(is_told_inside(&answer, 429), "one session, whatever connection: {answer:?}");
    let mut modern = Http::connect(gateway.clients());
    let arguments = json!({"name": "echo", "arguments": {"text": "x"}});
    let answers: Vec<_> = (1..=3).map(|id| modern.post_modern(id, "tools/call", &arguments)).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 429]);
    assert!(agrees(&answers[2]), "{:?}", answers[2]);
    assert!(refused(&gateway, Refusal::SlowRate, 6));
    assert!(gateway.neighbour().ask(&echo(1))["result"].is_object(), "another client has its own");
    assert_eq!(metric(&gateway, "lakh_guard_lapses_total{reason=\"debtors_full\"}"), 0);
}

#[test]
fn sensitive_tools_have_a_rate_of_their_own_and_the_others_have_none() {
    let upstream = Upstream { sensitive: vec!["told".into()], ..Upstream::default() };
    let gateway = in_front_of(upstream, Plan { sensitive_calls_per_minute: 2, ..Plan::default() });
    let mut peer = gateway.neighbour();
    let sensitive = |id| call(id, "told", &json!({}));
    assert!(peer.ask(&sensitive(1))["result"].is_object() && peer.ask(&sensitive(2))["result"].is_object());
    assert_eq!(told(&peer.ask(&sensitive(3))).0, 429);
    assert!((4..20).all(|id| peer.ask(&echo(id))["result"].is_object()));
    assert!(refused(&gateway, Refusal::SensitiveRate, 1));
}

#[test]
fn a_call_that_finds_no_place_is_not_charged() {
    let plan = Plan { slow_calls_per_minute: 2, in_flight_max: 1, ..Plan::default() };
    let gateway = in_front_of(slow(), plan);
    let mut peer = gateway.neighbour();
    peer.say(&sleep(1));
    for id in 2..5 {
        assert_eq!(told(&peer.ask(&echo(id))), (429, 5_000));
    }
    assert!(refused(&gateway, Refusal::ClientInFlight, 3) && refused(&gateway, Refusal::SlowRate, 0));
    peer.say(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}));
    assert!(peer.is_answered(9) && peer.ask(&echo(10))["result"].is_object(), "the second of its two");
    assert!(told(&peer.ask(&echo(11))).1 > 5_000);
    assert!(refused(&gateway, Refusal::SlowRate, 1));
}

#[test]
fn subscriptions_are_calls_of_their_server() {
    let gateway = in_front_of(slow(), Plan { slow_calls_per_minute: 1, ..Plan::default() });
    let mut peer = gateway.neighbour();
    let subscribe = |id, uri: &str| request(id, "resources/subscribe", &json!({"uri": uri}));
    assert!(peer.ask(&subscribe(1, "test://one"))["result"].is_object());
    assert_eq!(told(&peer.ask(&subscribe(2, "test://item/7"))).0, 429);
    assert_eq!(gateway.house().watches.taken(), 1);
}

/// Of calls that the gateway answers itself, too.
fn held_to_two(change: impl Fn(&mut Config), refusal: Refusal) {
    let gateway = Gateway::start(change);
    let mut peers = [gateway.neighbour(), Peer::websocket(gateway.clients())];
    assert!(peers.iter_mut().all(|peer| peer.ask(&echo(1))["result"].is_object()));
    for peer in &mut peers {
        assert_eq!(told(&peer.ask(&echo(2))).0, 429);
    }
    let answer = Http::open(gateway.clients(), "2025-11-25").post(&echo(3));
    assert!(is_told_inside(&answer, 429), "{answer:?}");
    assert!(peers.iter_mut().all(|peer| peer.is_answered(4)) && refused(&gateway, refusal, 3));
}

#[test]
fn calls_are_so_many_a_minute_in_all_from_one_address_and_of_one_tenant() {
    held_to_two(|config| config.guard.calls_per_minute = 2, Refusal::HouseRate);
    held_to_two(|config| config.guard.calls_per_minute_per_address = 2, Refusal::AddressRate);
    let of_tenant = |config: &mut Config| {
        config.plans.entry("default".into()).or_default().tenant_calls_per_minute = 2;
    };
    held_to_two(of_tenant, Refusal::TenantRate);
}

#[test]
fn another_address_has_a_rate_of_its_own() {
    let gateway = Gateway::start(|config| config.guard.calls_per_minute_per_address = 1);
    let mut here = gateway.neighbour();
    assert!(here.ask(&echo(1))["result"].is_object());
    assert_eq!(told(&here.ask(&echo(2))).0, 429);
    let params = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}}, "name": "echo", "arguments": {"text": "x"}});
    let mut there = Peer::connect_from([127, 0, 0, 2], gateway.clients());
    assert!(there.ask(&request(1, "tools/call", &params))["result"].is_object());
    assert_eq!(told(&there.ask(&request(2, "tools/call", &params))).0, 429);
}

#[test]
fn in_an_emergency_no_call_is_taken_and_those_in_flight_go_on() {
    let (house, shard) = bare();
    let mut peer = Peer::line(shard.clients);
    let mut http = Http::open(shard.clients, "2025-11-25");
    peer.say(&call(1, "sleep", &json!({"ms": 5_000})));
    assert!(peer.is_answered(2));
    house.pressure.set(Zone::Emergency, Zone::Safe);
    for (id, wanted) in [(3, echo(3)), (4, sleep(4))] {
        let refusal = peer.ask(&wanted);
        assert_eq!((told(&refusal), &refusal["id"]), ((503, 5_000), &json!(id)));
    }
    let answer = http.post(&echo(5));
    assert!(is_told_inside(&answer, 503), "{answer:?}");
    assert_eq!(house.seats.refusals.get(Refusal::Emergency), 3);
    assert_eq!(peer.hear_message()["id"], 1, "what was begun is answered");
    assert!(peer.is_answered(6), "it is there");
    house.pressure.set(Zone::Critical, Zone::Safe);
    assert!(peer.ask(&echo(7))["result"].is_object());
}
