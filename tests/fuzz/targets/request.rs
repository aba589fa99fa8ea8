//! HTTP requests: any cut of the bytes gives the same requests, bodies and refusal, and limits hold.
#![no_main]
#![allow(dead_code, unused_imports)]

use libfuzzer_sys::fuzz_target;
use wire::{Config, http};

#[path = "../../../src/wire/mod.rs"]
mod wire;

/// Where a request points to, and its body.
type Whole = (String, Vec<u8>);

fuzz_target!(|bytes: &[u8]| {
    let [size, stream @ ..] = bytes else { return };
    let config = Config { head_bytes_max: 512, message_bytes_max: 64, ..Config::default() };
    let whole = read([stream], &config);
    assert_eq!(read(stream.chunks(1), &config).0, whole.0);
    assert_eq!(read(stream.chunks(1 + usize::from(*size % 32)), &config).0, whole.0);
    assert!(whole.0.iter().all(|(_, body)| body.len() <= config.message_bytes_max));
    let mut events = Vec::new();
    http::event::write_message(&mut events, false, None, stream);
    assert_eq!(events.iter().filter(|byte| **byte == b'\n').count(), 3);
});

fn read<'c>(chunks: impl IntoIterator<Item = &'c [u8]>, config: &Config) -> (Vec<Whole>, Option<http::Refusal>) {
    let (mut reader, mut buf, mut whole) = (http::Reader::default(), Vec::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        loop {
            match reader.next(&mut buf, config) {
                Ok(http::Step::More) => break,
                Ok(http::Step::Head(_)) => {}
                Ok(http::Step::Whole { request, body, consumed }) => {
                    whole.push((request.target.to_owned(), body.to_vec()));
                    buf.drain(..consumed);
                }
                Err(refusal) => return (whole, Some(refusal)),
            }
        }
        assert!(buf.len() <= 2 * config.head_bytes_max + 4 * config.message_bytes_max + chunk.len());
    }
    (whole, None)
}
