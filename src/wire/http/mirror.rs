//! Decodes the values that MCP mirrors from a message's body into header lines (spec 2026-07-28
//! basic/transports/streamable-http#value-encoding).

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};

/// The value that `Mcp-Name` or `Mcp-Param-*` stands for: as it is, or decoded where it is marked as base64.
///
/// `None` for a value that may not stand in a header line, or is marked as base64 and is none, or is no text.
pub fn mirrored(value: &str) -> Option<Cow<'_, str>> {
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned),
        None => value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')).then_some(Cow::Borrowed(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification() {
        for (value, meant) in [
            ("us-west1", "us-west1"),
            ("=?base64?SGVsbG8sIOS4lueVjA==?=", "Hello, 世界"),
            ("=?base64?IHBhZGRlZCA=?=", " padded "),
            ("=?base64?bGluZTEKbGluZTI=?=", "line1\nline2"),
            ("=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=", "=?base64?literal?="),
        ] {
            assert_eq!(mirrored(value).as_deref(), Some(meant));
        }
        for wrong in ["=?base64?SGVsbG8?=", "=?base64?%%%%?=", "=?base64?/w==?=", "世界", "a\u{1}"] {
            assert_eq!(mirrored(wrong), None, "{wrong}");
        }
    }
}
