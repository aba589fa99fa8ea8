//! Calls of which one client may have many in flight: each has a number of its own, and its answer is known by that.

use std::time::Duration;

use memchr::memmem;
use serde_json::Value;

use super::refusal;
use super::script::{self, Who, excerpt, mix};
use crate::cli::simulate::order::{Cause, Death, Refusal};

/// What comes before the number in the id of a call.
const ID: &str = "drive-";
/// JSON-RPC codes of a gateway that has no room now, or for this client: those of HTTP for the same.
const NO_ROOM: [i64; 2] = [429, 503];

/// What a message is to a client with numbered calls.
#[derive(Debug)]
pub(super) enum Reply {
    /// The right answer to the call of this number.
    Answer(u64),
    /// The gateway did not take the call.
    Refused(u64, Refusal),
    /// The call was taken and came to nothing, or to something wrong.
    Failed(u64, Death),
    /// Something else that is allowed.
    Aside,
}

/// Appends the call of `echo` with this number, and a content that no other call has.
pub(super) fn call(out: &mut Vec<u8>, who: Who, number: u64) {
    out.extend_from_slice(
        format!(r#"{{"jsonrpc":"2.0","id":"{ID}{number}","method":"tools/call","params":"#).as_bytes(),
    );
    out.extend_from_slice(br#"{"name":"echo","arguments":{"text":""#);
    script::content(out, of_call(who, number));
    out.extend_from_slice(br#""}}}"#);
}

/// Judges a message; what it asks for is answered in `out`.
///
/// # Errors
/// When a gateway may not say such a thing at all.
pub(super) fn hear(message: &[u8], who: Who, out: &mut Vec<u8>) -> Result<Reply, Death> {
    let Some(number) = number_in(message) else {
        return script::hear_idle(message, out).map(|_| Reply::Aside);
    };
    let mut own = Vec::with_capacity(96);
    own.extend_from_slice(br#""text":""#);
    script::content(&mut own, of_call(who, number));
    own.push(b'"');
    let failed =
        memmem::find(message, br#""error":"#).is_some() || memmem::find(message, br#""isError":true"#).is_some();
    if !failed && memmem::find(message, &own).is_some() {
        return Ok(Reply::Answer(number));
    }
    Ok(study(message, number, own.get(br#""text":""#.len()..own.len() - 1).unwrap_or_default()))
}

/// The slow way, for what is not the expected bytes.
fn study(message: &[u8], number: u64, own: &[u8]) -> Reply {
    let Ok(parsed) = serde_json::from_slice::<Value>(message) else {
        return Reply::Failed(number, Death::new(Cause::WrongAnswer, excerpt(message)));
    };
    let error = &parsed["error"];
    if error.is_object() {
        let refusal = refusal::of_error(error);
        let is_refusal = error["code"].as_i64().is_some_and(|code| NO_ROOM.contains(&code)) || refusal.again.is_some();
        return if is_refusal {
            Reply::Refused(number, refusal)
        } else {
            Reply::Failed(number, Death::refused(refusal, excerpt(message)))
        };
    }
    let result = &parsed["result"];
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    if result["isError"] == true {
        Reply::Failed(number, Death::new(Cause::Refused, excerpt(message)))
    } else if text.as_bytes() == own {
        Reply::Answer(number)
    } else {
        Reply::Failed(number, Death::new(Cause::WrongEcho, excerpt(message)))
    }
}

fn number_in(message: &[u8]) -> Option<u64> {
    let start = memmem::find(message, ID.as_bytes())? + ID.len();
    let digits = message.get(start..)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

fn of_call(who: Who, number: u64) -> Who {
    Who { seed: who.seed ^ mix(number), ..who }
}

/// How long who was refused without a word about it waits: half a second to one and a half, another time for each.
pub(super) fn own_pause(who: Who, attempt: u64) -> Duration {
    Duration::from_millis(500 + mix(who.seed ^ u64::from(who.number) ^ attempt << 32) % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Who = Who::example(4);

    fn answer(number: u64, result: &str) -> Vec<u8> {
        format!(r#"{{"jsonrpc":"2.0","id":"{ID}{number}","result":{result}}}"#).into_bytes()
    }

    fn said(number: u64) -> String {
        let mut out = Vec::new();
        call(&mut out, ME, number);
        let call: Value = serde_json::from_slice(&out).expect("JSON");
        call["params"]["arguments"]["text"].as_str().expect("text").to_owned()
    }

    #[test]
    fn each_call_has_its_own_answer_and_no_others() {
        let echo = |text: &str| format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#);
        let hear = |bytes: Vec<u8>| hear(&bytes, ME, &mut Vec::new()).expect("allowed");
        assert_ne!(said(1), said(2));
        assert!(matches!(hear(answer(1, &echo(&said(1)))), Reply::Answer(1)));
        assert!(matches!(hear(answer(2, &echo(&said(1)))), Reply::Failed(2, death) if death.cause == Cause::WrongEcho));
        let spaced = String::from_utf8(answer(3, &echo(&said(3)))).expect("text").replace("\":", "\" : ");
        assert!(matches!(hear(spaced.into_bytes()), Reply::Answer(3)), "another spelling");
        let broken = r#"{"isError":true,"content":[]}"#;
        assert!(matches!(hear(answer(4, broken)), Reply::Failed(4, _)));
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let error = |error: &str| {
            let bytes = format!(r#"{{"jsonrpc":"2.0","id":"{ID}7","error":{error}}}"#).into_bytes();
            hear(&bytes, ME, &mut Vec::new()).expect("allowed")
        };
        let full = error(r#"{"code":503,"message":"full","data":{"retryAfterMs":20}}"#);
        assert!(matches!(full, Reply::Refused(7, told) if told.again == Some(Duration::from_millis(20))));
        assert!(
            matches!(error(r#"{"code":429,"message":"too fast"}"#), Reply::Refused(7, told) if told.again.is_none())
        );
        assert!(matches!(error(r#"{"code":-32603,"message":"broke"}"#), Reply::Failed(7, _)));
    }

    #[test]
    fn what_is_no_answer_is_judged_as_ever() {
        let mut out = Vec::new();
        assert!(matches!(hear(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, ME, &mut out), Ok(Reply::Aside)));
        assert!(!out.is_empty());
        assert!(hear(b"babble", ME, &mut out).is_err());
    }
}
