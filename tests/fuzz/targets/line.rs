//! Lines: any cut of the bytes gives the same lines, and those a plain split gives.
#![no_main]
#![allow(dead_code, unused_imports)]

use libfuzzer_sys::fuzz_target;
use wire::line::{Lines, Step, TooLong};

#[path = "../../../src/wire/mod.rs"]
mod wire;

const MAX: usize = 40;

fuzz_target!(|bytes: &[u8]| {
    let [size, stream @ ..] = bytes else { return };
    let whole = read([stream]);
    assert_eq!(read(stream.chunks(1 + usize::from(*size % 16))), whole);
    assert_eq!(read(stream.chunks(1)), whole);
    if let (lines, None) = whole {
        let mut ended = stream.split(|byte| *byte == b'\n');
        ended.next_back();
        let plain = ended.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let full = plain.filter(|line| !line.iter().all(|byte| b" \t\r".contains(byte)));
        assert!(full.eq(lines.iter().map(Vec::as_slice)));
    }
});

fn read<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> (Vec<Vec<u8>>, Option<TooLong>) {
    let (mut state, mut buf, mut lines) = (Lines::default(), Vec::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        loop {
            match state.next(&buf, MAX) {
                Ok(Step::Line { line, consumed }) => {
                    lines.push(line.to_vec());
                    buf.drain(..consumed);
                }
                Ok(Step::More { consumed }) => {
                    buf.drain(..consumed);
                    break;
                }
                Err(too_long) => return (lines, Some(too_long)),
            }
        }
    }
    (lines, None)
}
