//! WebSocket peers that break the framing: a close frame with the code of RFC 6455, and the connection is over.

use lakh::conn::Parting;
use lakh::wire::ws::Violation;

use crate::peer::{Gateway, Heard, Peer, frame};

/// A client's text frame without the mask.
fn unmasked(payload: &[u8]) -> Vec<u8> {
    [&[0x81, payload.len() as u8], payload].concat()
}

/// The front of a text frame that says it is so long, and its mask.
fn front(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat()
}

#[test]
fn each_breach_has_its_close_code_and_its_counter() {
    let gateway = Gateway::start(|config| {
        config.wire.message_bytes_max = 64 << 10;
        config.wire.frame_bytes_max = 32 << 10;
        config.embedded.blob_bytes_max = 1 << 10;
    });
    let piece = vec![b' '; 30 << 10];
    let breaches: Vec<(&str, Vec<u8>, u16, Violation)> = vec![
        ("bare_face", unmasked(b"{}"), 1002, Violation::MaskMissing),
        ("squatter", frame(0xc1, b"{}"), 1002, Violation::ReservedBits),
        ("inventor", frame(0x83, b"{}"), 1002, Violation::ReservedOpcode),
        ("inventor of control", frame(0x8b, b""), 1002, Violation::ReservedOpcode),
        ("ping in pieces", frame(0x09, b""), 1002, Violation::ControlFragmented),
        ("wordy ping", frame(0x89, &[b'x'; 126]), 1002, Violation::ControlTooLong),
        ("end without a beginning", frame(0x80, b"x"), 1002, Violation::ContinuationUnexpected),
        (
            "beginning without an end",
            [frame(0x01, b"{"), frame(0x81, b"{}")].concat(),
            1002,
            Violation::ContinuationMissing,
        ),
        ("padded length", front(0x81, 5), 1002, Violation::LengthInvalid),
        ("negative length", front(0x81, 1 << 63), 1002, Violation::LengthInvalid),
        ("liar", front(0x81, (1 << 63) - 1), 1009, Violation::FrameTooBig),
        ("giant frame", front(0x81, 70 << 10), 1009, Violation::FrameTooBig),
        (
            "giant message",
            [frame(0x01, &piece), frame(0x00, &piece), frame(0x80, &piece)].concat(),
            1009,
            Violation::MessageTooBig,
        ),
        ("text that is none", frame(0x81, b"{\"\xff\"}"), 1007, Violation::TextNotUtf8),
        (
            "text that breaks off",
            [frame(0x01, b"\"\xe2\x82"), frame(0x80, b"\"")].concat(),
            1007,
            Violation::TextNotUtf8,
        ),
        ("half a code", frame(0x88, &[3]), 1002, Violation::CloseTooShort),
        ("code that must not be sent", frame(0x88, &1006_u16.to_be_bytes()), 1002, Violation::CloseCodeInvalid),
        ("reason that is no text", frame(0x88, b"\x03\xe8\xff"), 1007, Violation::ReasonNotUtf8),
    ];
    let mut neighbour = gateway.neighbour();
    for (count, (name, bytes, code, violation)) in (1..).zip(breaches) {
        let before = gateway.house().ledger.violations.get(violation);
        let mut peer = Peer::websocket(gateway.clients());
        peer.send(&bytes);
        assert_eq!(peer.hear(), Heard::Close(code), "{name}");
        assert_eq!(peer.hear(), Heard::End, "{name}");
        assert!(neighbour.is_answered(count), "beside {name}");
        assert_eq!(gateway.house().ledger.violations.get(violation), before + 1, "{name}");
        drop(peer);
        assert!(gateway.holds(1), "{name} keeps its seat");
        assert!(gateway.parted(Parting::WebSocketViolation, count), "{name}");
    }
}

#[test]
fn sender_of_binary() {
    let gateway = Gateway::start(|_| {});
    let mut neighbour = gateway.neighbour();
    let mut peer = Peer::websocket(gateway.clients());
    peer.send(&frame(0x82, br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#));
    assert_eq!(peer.hear(), Heard::Close(1003));
    drop(peer);
    assert!(gateway.holds(1) && neighbour.is_answered(1));
    assert!(gateway.parted(Parting::BinaryMessage, 1));
}

#[test]
fn a_message_in_fragments_with_a_ping_between_is_one_message() {
    let gateway = Gateway::start(|_| {});
    let mut peer = Peer::websocket(gateway.clients());
    peer.send(&frame(0x01, br#"{"jsonrpc":"2.0","id":"#));
    peer.send(&frame(0x89, b"?"));
    peer.send(&frame(0x00, b""));
    peer.send(&frame(0x80, br#"3,"method":"ping"}"#));
    assert_eq!(peer.hear_message()["id"], 3);
    peer.send(&frame(0x88, &4000_u16.to_be_bytes()));
    assert_eq!((peer.hear(), peer.hear()), (Heard::Close(4000), Heard::End));
    drop(peer);
    assert!(gateway.holds(0));
    assert!(gateway.parted(Parting::PeerSaidGoodbye, 1));
}
