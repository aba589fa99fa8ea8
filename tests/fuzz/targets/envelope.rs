//! The envelope against serde_json: what is accepted is JSON with the same spans, what isn't JSON is refused.
#![no_main]
#![allow(dead_code, unused_imports)]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use std::collections::HashMap;
use wire::envelope::{Defect, Envelope, Incoming, Kind, parse};

#[path = "../../../src/wire/mod.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| {
    let theirs = serde_json::from_slice::<&RawValue>(bytes);
    match parse(bytes) {
        Ok(Incoming::One(envelope)) => same(&envelope, theirs.expect("is JSON").get()),
        Ok(Incoming::Batch(batch)) => {
            let elements: Vec<&RawValue> = serde_json::from_slice(bytes).expect("is an array");
            assert_eq!(batch.len(), elements.len());
            for (message, element) in batch.zip(elements) {
                if let Ok(envelope) = message {
                    same(&envelope, element.get());
                }
            }
        }
        Err(malformed) => match malformed.what {
            Defect::InvalidUtf8 => assert!(std::str::from_utf8(bytes).is_err()),
            Defect::NotJson => assert!(theirs.is_err(), "serde_json accepts it"),
            Defect::TooDeep => {}
            _ => assert!(theirs.is_ok(), "serde_json refuses it"),
        },
    }
});

fn same(envelope: &Envelope<'_>, text: &str) {
    // Keys in their escaped spelling decode alike; a lone surrogate in one is refused by serde_json, not by the grammar.
    let Ok(theirs) = serde_json::from_str::<HashMap<String, &RawValue>>(text) else {
        return;
    };
    let raw = |name: &str| theirs.get(name).map(|value| value.get());
    let (id, method, result, error) = match &envelope.kind {
        Kind::Request { id, method } => (Some(*id), Some(method), None, None),
        Kind::Notification { method } => (None, Some(method), None, None),
        Kind::Response { id, result, error } => (*id, None, *result, *error),
    };
    assert_eq!(id.map(|id| id.raw()), raw("id").filter(|id| *id != "null"));
    assert_eq!(envelope.params, raw("params").filter(|params| *params != "null"));
    assert_eq!((result, error), (raw("result"), raw("error")));
    match (method, raw("method").map(serde_json::from_str::<String>)) {
        (Some(ours), Some(Ok(theirs))) => assert_eq!(*ours, theirs),
        (Some(ours), Some(Err(_))) => {
            assert!(ours.contains('\u{fffd}'), "only lone surrogates differ")
        }
        (ours, theirs) => assert!(ours.is_none() && theirs.is_none()),
    }
}
