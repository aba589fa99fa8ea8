//! Seats for connections: of one address, at a rate, and while the house is nearly full.

use std::net::SocketAddr;

use lakh::conn::Parting;
use lakh::guard::{Refusal, Zone};
use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Gateway, Heard, Peer, eventually, request, upgrade};
use crate::{bare, refused, told};

/// What a client is told that may not come in, in each dialect.
fn turned_away(to: SocketAddr, status: &str, code: i64) {
    let mut line = Peer::connect(to);
    let refusal = line.ask(&request(77, "initialize", &json!({})));
    assert_eq!((&refusal["id"], told(&refusal)), (&json!(77), (code, 5_000)));
    assert_eq!(line.hear(), Heard::End);
    let mut websocket = Peer::connect(to);
    websocket.send(upgrade(to).as_bytes());
    let refusal = websocket.rest();
    assert!(refusal.starts_with(status) && refusal.contains("\r\nRetry-After: 5\r\n"), "{refusal}");
    let answer = Http::connect(to).post(&request(1, "ping", &json!({})));
    assert!(answer.head.starts_with(status) && answer.line("retry-after") == Some("5"), "{answer:?}");
    assert_eq!(answer.line("connection"), Some("close"));
}

#[test]
fn one_address_has_so_many_seats() {
    let gateway = Gateway::start(|config| config.guard.connections_per_address_max = 3);
    let mut guests: Vec<Peer> = (0..2).map(|_| gateway.neighbour()).collect();
    guests.push(Peer::websocket(gateway.clients()));
    assert!(refused(&gateway, Refusal::AddressFull, 0), "the third has the last seat");
    turned_away(gateway.clients(), "HTTP/1.1 503 ", 503);
    assert!(refused(&gateway, Refusal::AddressFull, 3));
    let mut other = Peer::connect_from([127, 0, 0, 2], gateway.clients());
    assert!(other.is_answered(1), "another address has its own");
    assert!((1..).zip(&mut guests).all(|(id, guest)| guest.is_answered(id)), "those who are in notice nothing");
    guests.pop();
    assert!(gateway.holds(3) && gateway.neighbour().is_answered(1), "a seat that was freed is a seat");
}

#[test]
fn arrivals_are_let_in_at_their_rate_and_told_to_come_again() {
    let gateway = Gateway::start(|config| config.guard.accepts_per_s = 1);
    let mut guest = gateway.neighbour();
    let mut told_off = 0;
    for id in 0..20 {
        let mut peer = Peer::connect(gateway.clients());
        let answer = peer.ask(&request(id, "ping", &json!({})));
        if answer["error"]["code"] == 429 {
            assert_eq!((&answer["id"], told(&answer)), (&json!(id), (429, 5_000)));
            assert_eq!(peer.hear(), Heard::End);
            told_off += 1;
        }
    }
    assert!(told_off > 0 && refused(&gateway, Refusal::TooManyArrivals, told_off), "{told_off} of 20 in no time");
    assert!(guest.is_answered(1));
}

#[test]
fn in_the_critical_zone_nobody_new_comes_in_and_those_who_are_in_stay() {
    let (house, shard) = bare();
    let (mut line, mut websocket) = (Peer::line(shard.clients), Peer::websocket(shard.clients));
    let mut http = Http::open(shard.clients, "2025-11-25");
    house.pressure.set(Zone::Warning, Zone::Safe);
    let mut warned = Peer::line(shard.clients);
    assert!(warned.is_answered(1), "a warning is for the operator");
    house.pressure.set(Zone::Critical, Zone::Safe);
    turned_away(shard.clients, "HTTP/1.1 503 ", 503);
    assert_eq!(house.seats.refusals.get(Refusal::Critical), 3);
    assert!(eventually(|| house.ledger.partings.get(Parting::Refused) == 3));
    assert!(line.is_answered(1) && websocket.is_answered(1) && warned.is_answered(2));
    assert_eq!(http.post(&crate::echo(1)).status, 200, "and work is taken");
    let mut sibling = http.sibling();
    assert_eq!((sibling.post(&crate::echo(2)).status, sibling.post(&crate::echo(3)).status), (200, 200));
    assert!(eventually(|| (house.lobby.taken(), house.seats.taken()) == (0, 5)), "who has a session is in");
    house.pressure.set(Zone::Safe, Zone::Safe);
    assert!(Peer::line(shard.clients).is_answered(1));
}
