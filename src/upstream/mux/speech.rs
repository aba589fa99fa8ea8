//! The texts that a server gets: each request under our own number.

use super::pending::Input;
use crate::mcp::{Era, Parcel, Profile, Revision};
use crate::mcp::{beyond, bridge};

/// Appends a client's request for a server of the given revision.
#[inline]
pub(super) fn call(
    out: &mut Vec<u8>,
    number: u64,
    parcel: &Parcel,
    profile: Option<&Profile>,
    server: Revision,
    input: Option<&Input>,
) {
    open(out, number, parcel.method.as_str());
    out.extend_from_slice(parcel.params.as_bytes());
    if let Some(input) = input {
        responses(out, input);
    }
    let before = out.len();
    out.extend_from_slice(br#","_meta":{"#);
    let empty = out.len();
    match (parcel.revision.era(), server.era()) {
        (Era::Modern, Era::Legacy) => bridge::meta_for_legacy(out, &parcel.meta),
        (client, server) => {
            if !parcel.meta.is_empty() {
                match client {
                    Era::Modern => beyond::meta_for_the_same(out, &parcel.meta),
                    Era::Legacy => out.extend_from_slice(parcel.meta.as_bytes()),
                }
                out.push(b',');
            }
            if client != server {
                bridge::meta_for_modern(out, profile, parcel.level);
            }
        }
    }
    if parcel.progress {
        out.extend_from_slice(br#""progressToken":"#);
        digits(out, number);
        out.push(b',');
    }
    if out.len() == empty {
        out.truncate(before);
    } else {
        out.pop();
        out.push(b'}');
    }
    out.extend_from_slice(b"}}");
}

/// Appends a request of our own; `params` are raw members.
pub(super) fn own(out: &mut Vec<u8>, number: u64, method: &str, params: &str, server: Revision) {
    open(out, number, method);
    out.extend_from_slice(params.as_bytes());
    if server.era() == Era::Modern {
        if !params.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(br#""_meta":{"#);
        bridge::meta_for_modern(out, None, None);
        out.pop();
        out.push(b'}');
    }
    out.extend_from_slice(b"}}");
}

/// Appends the word that nobody waits for a request any more.
pub(super) fn cancelled(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"#);
    digits(out, number);
    out.extend_from_slice(b"}}");
}

fn open(out: &mut Vec<u8>, number: u64, method: &str) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    digits(out, number);
    out.extend_from_slice(br#","method":""#);
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(br#"","params":{"#);
}

fn responses(out: &mut Vec<u8>, input: &Input) {
    if !input.responses.is_empty() {
        out.extend_from_slice(br#","inputResponses":{"#);
        for (at, (key, response)) in input.responses.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            crate::mcp::answer::string(out, key);
            out.push(b':');
            out.extend_from_slice(response.as_deref().unwrap_or("null").as_bytes());
        }
        out.push(b'}');
    }
    if let Some(state) = &input.state {
        out.extend_from_slice(br#","requestState":"#);
        out.extend_from_slice(state.as_bytes());
    }
}

/// Appends a number without the machinery of `format!`, which is a tenth of a call's time.
#[inline]
pub(super) fn digits(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [0_u8; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// The number that an id of ours is, if it is one: an id of another type is not.
#[inline]
pub(super) fn number(id: &str) -> Option<u64> {
    let digits = id.as_bytes();
    if digits.is_empty() || digits.len() > 16 || digits[0] == b'0' {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |number, &digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_back_and_nothing_else_is() {
        for value in [1, 9, 10, 1 << 20, (1 << 52) - 1] {
            let mut out = Vec::new();
            digits(&mut out, value);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text, value.to_string());
            assert_eq!(number(&text), Some(value));
        }
        for other in ["", "0", "01", "\"1\"", "-1", "1.0", "99999999999999999", "1e3"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
