//! WebSocket frames: any cut of the bytes gives the same frames and the same violation, and whole texts are UTF-8.
#![no_main]
#![allow(dead_code, unused_imports)]

use libfuzzer_sys::fuzz_target;
use wire::ws::{Content, Decoder, Frame, Role, Rules, Step};

#[path = "../../../src/wire/mod.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| {
    let [choice, size, stream @ ..] = bytes else {
        return;
    };
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let rules = Rules { role, frame_bytes_max: 300, message_bytes_max: 500 };
    let whole = read([stream], &rules);
    assert_eq!(read(stream.chunks(1 + usize::from(*size)), &rules), whole);
    assert_eq!(read(stream.chunks(1), &rules), whole);
});

/// The frames of `chunks`, arriving one after another, and the violation that ends them.
fn read<'c>(chunks: impl IntoIterator<Item = &'c [u8]>, rules: &Rules) -> Vec<String> {
    let (mut decoder, mut buf) = (Decoder::default(), Vec::new());
    let (mut seen, mut message) = (Vec::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut buf, rules) {
                Ok(Step::Frame { frame, consumed }) => {
                    if let Frame::Piece { content, bytes, last } = &frame {
                        message.extend_from_slice(bytes);
                        assert!(message.len() <= rules.message_bytes_max);
                        if *last {
                            assert!(*content == Content::Binary || std::str::from_utf8(&message).is_ok());
                            message.clear();
                        }
                    }
                    seen.push(format!("{frame:?}"));
                    buf.drain(..consumed);
                }
                Ok(Step::More { total }) => {
                    assert!(total > buf.len() && total <= rules.frame_bytes_max + 14);
                    break;
                }
                Err(violation) => {
                    seen.push(violation.name().to_owned());
                    return seen;
                }
            }
        }
    }
    seen
}
