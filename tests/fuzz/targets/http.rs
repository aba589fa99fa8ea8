//! Heads of HTTP requests: a cut-off head never gives another upgrade than the whole one, and limits hold.
#![no_main]
#![allow(dead_code, unused_imports)]

use libfuzzer_sys::fuzz_target;
use wire::{Config, dialect, http};

#[path = "../../../src/wire/mod.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| {
    let config = Config { head_bytes_max: 1024, ..Config::default() };
    dialect::sniff(bytes);
    let whole = http::read_upgrade(bytes, &config);
    let mut out = Vec::new();
    match &whole {
        Ok(Some(upgrade)) => {
            assert!(upgrade.consumed <= bytes.len().min(config.head_bytes_max));
            assert!(bytes[..upgrade.consumed].ends_with(b"\r\n\r\n"));
            assert_eq!(http::read_upgrade(&bytes[..upgrade.consumed], &config), whole);
            assert_eq!(http::read_upgrade(&bytes[..upgrade.consumed - 1], &config), Ok(None));
            http::write_switching(&mut out, upgrade);
        }
        Ok(None) => assert!(bytes.len() < config.head_bytes_max),
        Err(refusal) => http::write_refusal(&mut out, *refusal, Some(1), http::Manner::default()),
    }
    let lines = out.split(|byte| *byte == b'\n').take_while(|line| *line != b"\r");
    assert!(out.is_empty() || lines.into_iter().all(|line| line.ends_with(b"\r")));
});
