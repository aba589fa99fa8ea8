//! Tenants: by what they are known, and what their plans allow.

use lakh::config::Config;
use lakh::guard::{KeyHash, Keys, Plan, Refusal, TenantConfig};
use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Gateway, Peer, call, eventually, request, upgrade};
use crate::{echo, is_told_inside, metric, refused, sleep, told};

/// `gold-key` and a key that is only known by its hash have this plan; everybody else has one call a minute together.
fn known(config: &mut Config, plan: &Plan) {
    let keys = Keys(vec!["gold-key".into(), KeyHash::of("hashed-key").to_string()]);
    config.plans.insert("gold".into(), plan.clone());
    config.plans.insert("default".into(), Plan { tenant_calls_per_minute: 1, ..Plan::default() });
    config.tenants.insert("acme".into(), TenantConfig { plan: "gold".into(), keys });
}

fn gateway(plan: &Plan) -> Gateway {
    Gateway::start(|config| known(config, plan))
}

/// The status of a call that comes with these header lines.
fn called_with(gateway: &Gateway, lines: &str) -> u16 {
    let mut client = Http::connect(gateway.clients());
    let call = json!({"name": "echo", "arguments": {"text": "x"}});
    client.lines = lines.into();
    let text = {
        let mut params = call.clone();
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {}});
        client.version = Some("2026-07-28".into());
        client.lines += "Mcp-Method: tools/call\r\nMcp-Name: echo\r\n";
        request(1, "tools/call", &params)
    };
    client.post(&text).status
}

#[test]
fn a_tenant_is_known_by_a_header_line_a_token_or_a_subprotocol() {
    let gateway = gateway(&Plan::default());
    assert_eq!([called_with(&gateway, ""), called_with(&gateway, "")], [200, 429], "everybody has one call");
    for lines in [
        "X-API-Key: gold-key\r\n",
        "x-api-key:  hashed-key \r\n",
        "Authorization: Bearer gold-key\r\n",
        "authorization: bearer hashed-key\r\n",
        "X-API-Key: unknown\r\nAuthorization: Bearer gold-key\r\n",
    ] {
        assert_eq!(called_with(&gateway, lines), 200, "{lines}");
    }
    for lines in [
        "X-API-Key: gold-ke\r\n",
        "X-API-Key: gold-keys\r\n",
        "X-API-Key: \r\n",
        "X-API-Key: acme\r\n",
        "Authorization: Basic gold-key\r\n",
        "Authorization: gold-key\r\n",
        &format!("X-API-Key: {}\r\n", KeyHash::of("hashed-key")),
    ] {
        assert_eq!(called_with(&gateway, lines), 429, "{lines} is nobody's, and no reason to refuse it otherwise");
    }
    for lines in ["Sec-WebSocket-Protocol: mcp, mcp.auth.gold-key\r\n", "X-API-Key: gold-key\r\n"] {
        let mut peer = Peer::upgraded_with(gateway.clients(), lines);
        assert!((1..5).all(|id| peer.ask(&echo(id))["result"].is_object()), "{lines}");
    }
    let mut stranger = Peer::upgraded_with(gateway.clients(), "Sec-WebSocket-Protocol: mcp, mcp.auth.none\r\n");
    assert_eq!(told(&stranger.ask(&echo(1))).0, 429);
    assert_eq!(told(&gateway.neighbour().ask(&echo(1))).0, 429, "over TCP nobody is known");
}

#[test]
fn each_request_of_one_connection_is_on_its_own_account() {
    let gateway = gateway(&Plan::default());
    let mut client = Http::open(gateway.clients(), "2025-11-25");
    assert!(client.post(&echo(1)).json()["result"].is_object() && is_told_inside(&client.post(&echo(2)), 429));
    client.lines = "X-API-Key: gold-key\r\n".into();
    assert!((3..5).all(|id| client.post(&echo(id)).json()["result"].is_object()));
    client.lines.clear();
    assert!(is_told_inside(&client.post(&echo(5)), 429));
}

#[test]
fn a_header_line_of_another_name_is_a_knob() {
    let gateway = Gateway::start(|config| {
        known(config, &Plan::default());
        config.guard.api_key_header = "Acme-Key".into();
    });
    assert_eq!([called_with(&gateway, ""), called_with(&gateway, "X-API-Key: gold-key\r\n")], [200, 429]);
    assert_eq!(called_with(&gateway, "acme-key: gold-key\r\n"), 200);
}

#[test]
fn a_tenant_has_so_many_connections_and_the_others_theirs() {
    let gateway = gateway(&Plan { tenant_connections_max: 2, ..Plan::default() });
    let lines = "X-API-Key: gold-key\r\n";
    let mut guests = vec![Peer::upgraded_with(gateway.clients(), lines)];
    let mut http = Http::connect(gateway.clients());
    http.lines = lines.into();
    assert_eq!(http.post(&request(1, "ping", &json!({}))).status, 400, "no session, but a seat");
    assert!(refused(&gateway, Refusal::TenantFull, 0), "the second has the last seat");
    let mut late = Peer::connect(gateway.clients());
    late.send(upgrade(gateway.clients()).replacen("\r\n\r\n", &format!("\r\n{lines}\r\n"), 1).as_bytes());
    let refusal = late.rest();
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("\r\nRetry-After: 5\r\n"), "{refusal}");
    assert!(refused(&gateway, Refusal::TenantFull, 1));
    assert_eq!(metric(&gateway, "lakh_tenant_seats_taken{tenant=\"acme\",of=\"connections\"}"), 2);
    assert!(gateway.neighbour().is_answered(1), "others are not concerned");
    assert!(guests[0].is_answered(9));
    http.lines.clear();
    assert_eq!(http.post(&request(2, "ping", &json!({}))).status, 400, "now it is somebody else's");
    guests.push(Peer::upgraded_with(gateway.clients(), lines));
    drop((guests, http));
    assert!(gateway.holds(0));
    assert!(eventually(|| metric(&gateway, "lakh_tenant_seats_taken{tenant=\"acme\",of=\"connections\"}") == 0));
}

#[test]
fn over_tcp_everybody_is_nobody_and_has_so_many_connections() {
    let gateway = Gateway::start(|config| {
        config.plans.entry("default".into()).or_default().tenant_connections_max = 2;
    });
    let mut guests = [gateway.neighbour(), gateway.neighbour()];
    let mut late = Peer::connect(gateway.clients());
    assert_eq!(told(&late.ask(&request(1, "ping", &json!({})))), (503, 5_000));
    assert_eq!(late.hear(), crate::peer::Heard::End);
    assert!(refused(&gateway, Refusal::TenantFull, 1) && guests.iter_mut().all(|guest| guest.is_answered(1)));
}

#[test]
fn a_tenant_has_so_many_sessions_and_calls_in_flight() {
    let gateway = gateway(&Plan { tenant_sessions_max: 2, tenant_in_flight_max: 3, ..Plan::default() });
    let open = || {
        let mut client = Http::connect(gateway.clients());
        client.lines = "X-API-Key: gold-key\r\n".into();
        let info = json!({"name": "peer", "version": "1"});
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
        let answer = client.post(&request(0, "initialize", &params));
        client.session = answer.line("mcp-session-id").map(Into::into);
        (client, answer)
    };
    let (one, _) = open();
    let (mut two, _) = open();
    let (_, answer) = open();
    assert_eq!((answer.status, answer.line("retry-after")), (503, Some("5")));
    assert!(refused(&gateway, Refusal::TenantSessionsFull, 1));
    drop(Http::open(gateway.clients(), "2025-11-25"));
    assert_eq!(one.sibling().ask("DELETE /mcp", "").status, 204);
    assert_eq!(open().1.status, 200);

    let mut socket = Peer::upgraded_with(gateway.clients(), "X-API-Key: hashed-key\r\n");
    for id in 1..=3 {
        socket.say(&sleep(id));
    }
    let answer = two.post(&sleep(4));
    assert!(is_told_inside(&answer, 503), "{answer:?}");
    assert_eq!(told(&socket.ask(&sleep(5))).0, 503);
    assert!(refused(&gateway, Refusal::TenantInFlight, 2));
    assert_eq!(gateway.house().in_flight.taken(), 3);
    let mut other = gateway.neighbour();
    other.say(&call(1, "sleep", &json!({"ms": 1})));
    assert!(other.hear_message()["result"].is_object(), "others are not concerned");
}

#[test]
fn no_key_is_printed() {
    let mut config = Config::default();
    known(&mut config, &Plan::default());
    for shown in [config.to_toml(), format!("{config:?}")] {
        assert!(shown.contains("acme") && !shown.contains("gold-key"), "{shown}");
    }
    let file = std::env::temp_dir().join(format!("lakh-guards-{}.toml", std::process::id()));
    std::fs::write(&file, config.to_toml()).expect("a file");
    let layers = lakh::config::Layers::default().file(&file).expect("what was printed can be read");
    std::fs::remove_file(file).expect("it was there");
    let read = layers.config().expect("knobs");
    assert_eq!(read.roster().expect("a roster"), config.roster().expect("a roster"), "and means the same");
}
