//! The JSON-RPC texts we send, each appended whole to a buffer and without any framing.

use std::borrow::Cow;
use std::io::Write;

use crate::mcp::method::Topics;
use crate::mcp::revision::Revision;
use crate::wire::envelope::Id;
use crate::wire::json;

/// Appends the response `{"jsonrpc":"2.0","id":…,"result":…}` around a result that is JSON already.
pub fn result(out: &mut Vec<u8>, id: Id<'_>, result: &[u8]) {
    open_result(out, id);
    out.extend_from_slice(result);
    close_result(out);
}

/// Appends a response up to where its result starts; [`close_result`] ends it.
pub fn open_result(out: &mut Vec<u8>, id: Id<'_>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.raw().as_bytes());
    out.extend_from_slice(br#","result":"#);
}

/// Ends what [`open_result`] began.
pub fn close_result(out: &mut Vec<u8>) {
    out.push(b'}');
}

/// Appends the response with an empty result: the answer to a ping (spec 2025-11-25 basic/utilities/ping).
pub fn empty_result(out: &mut Vec<u8>, id: Id<'_>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.raw().as_bytes());
    out.extend_from_slice(br#","result":{}}"#);
}

/// Appends an error response; `data` is JSON already.
///
/// Where the id could not be read the response has none: in MCP an id is never null (schema 2025-11-25 and 2026-07-28
/// `JSONRPCErrorResponse`), unlike in bare JSON-RPC.
pub fn error(out: &mut Vec<u8>, id: Option<Id<'_>>, code: i32, message: &str, data: Option<&str>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","#);
    if let Some(id) = id {
        out.extend_from_slice(br#""id":"#);
        out.extend_from_slice(id.raw().as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(br#""error":"#);
    error_object(out, code, message, data);
    out.push(b'}');
}

/// Appends the response around an error object that is JSON already.
pub fn error_around(out: &mut Vec<u8>, id: Id<'_>, object: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.raw().as_bytes());
    out.extend_from_slice(br#","error":"#);
    out.extend_from_slice(object);
    out.push(b'}');
}

/// Appends an error object alone.
pub fn error_object(out: &mut Vec<u8>, code: i32, message: &str, data: Option<&str>) {
    out.extend_from_slice(br#"{"code":"#);
    display(out, code);
    out.extend_from_slice(br#","message":"#);
    string(out, message);
    if let Some(data) = data {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data.as_bytes());
    }
    out.push(b'}');
}

/// Appends a `notifications/progress` for the token as it came; `fragment` is what [`progress_fragment`] makes.
pub fn progress(out: &mut Vec<u8>, token: &str, fragment: &str) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"#);
    out.extend_from_slice(token.as_bytes());
    out.push(b',');
    out.extend_from_slice(fragment.as_bytes());
    out.extend_from_slice(b"}}");
}

/// The members of a progress notification besides its token: `"progress":…,"total":…` and, where the revision has it, a
/// `message`.
#[must_use]
pub fn progress_fragment(revision: Revision, progress: u64, total: u64, message: &str) -> String {
    let mut fragment = format!(r#""progress":{progress},"total":{total}"#);
    if revision.has_progress_messages() {
        fragment.push_str(r#","message":"#);
        fragment.push_str(&serde_json::Value::from(message).to_string());
    }
    fragment
}

/// Appends the acknowledgement that must come first on a subscription (spec 2026-07-28
/// basic/patterns/subscriptions#acknowledgment): what it will be told of.
pub fn listen_acknowledged(out: &mut Vec<u8>, id: Id<'_>, topics: Topics, uris: &[Cow<'_, str>]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"#);
    subscription_meta(out, id);
    out.extend_from_slice(br#","notifications":{"#);
    let before = out.len();
    for (topic, name) in [
        (Topics::TOOLS, "toolsListChanged"),
        (Topics::PROMPTS, "promptsListChanged"),
        (Topics::RESOURCES, "resourcesListChanged"),
    ] {
        if topics.meets(topic) {
            string(out, name);
            out.extend_from_slice(b":true,");
        }
    }
    if topics.meets(Topics::UPDATED) {
        out.extend_from_slice(br#""resourceSubscriptions":["#);
        for (at, uri) in uris.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            string(out, uri);
        }
        out.extend_from_slice(b"],");
    }
    if out.len() > before {
        out.pop();
    }
    out.extend_from_slice(b"}}}");
}

/// Appends the notification that something changed: `subject` is the resource's URI for [`Topics::UPDATED`], and
/// `subscription` the id of the subscription that asked for it, in the modern era.
pub fn changed(out: &mut Vec<u8>, topic: Topics, subject: Option<&str>, subscription: Option<Id<'_>>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/"#);
    out.extend_from_slice(match topic {
        Topics::TOOLS => b"tools/list_changed\"".as_slice(),
        Topics::PROMPTS => b"prompts/list_changed\"",
        Topics::RESOURCES => b"resources/list_changed\"",
        _ => b"resources/updated\"",
    });
    if subscription.is_some() || subject.is_some() {
        out.extend_from_slice(br#","params":{"#);
        if let Some(id) = subscription {
            subscription_meta(out, id);
        }
        if let Some(uri) = subject {
            if subscription.is_some() {
                out.push(b',');
            }
            out.extend_from_slice(br#""uri":"#);
            string(out, uri);
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// Appends a request of ours to a client, or of a server that we hand on; `params` is raw JSON.
pub fn request(out: &mut Vec<u8>, id: u64, method: &str, params: Option<&str>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    display(out, id);
    out.extend_from_slice(br#","method":"#);
    string(out, method);
    if let Some(params) = params {
        out.extend_from_slice(br#","params":"#);
        out.extend_from_slice(params.as_bytes());
    }
    out.push(b'}');
}

/// Appends the word that a request of [`request`] needs no reply any more (spec 2025-11-25 basic/utilities/cancellation);
/// `reason` is a raw JSON string.
pub fn cancelled(out: &mut Vec<u8>, id: u64, reason: Option<&str>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"#);
    display(out, id);
    if let Some(reason) = reason {
        out.extend_from_slice(br#","reason":"#);
        out.extend_from_slice(reason.as_bytes());
    }
    out.extend_from_slice(b"}}");
}

/// Appends the response that ends a subscription gracefully (spec 2026-07-28
/// basic/patterns/subscriptions#graceful-closure).
pub fn listen_closed(out: &mut Vec<u8>, id: Id<'_>) {
    open_result(out, id);
    out.extend_from_slice(br#"{"resultType":"complete","#);
    subscription_meta(out, id);
    out.push(b'}');
    close_result(out);
}

fn subscription_meta(out: &mut Vec<u8>, id: Id<'_>) {
    out.extend_from_slice(br#""_meta":{"io.modelcontextprotocol/subscriptionId":"#);
    out.extend_from_slice(id.raw().as_bytes());
    out.push(b'}');
}

/// Appends `text` as a JSON string.
pub fn string(out: &mut Vec<u8>, text: &str) {
    json::write_string(out, text);
}

/// Appends what `value` displays; for numbers.
pub(crate) fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // A write to memory can't fail.
    let written = write!(out, "{value}");
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn id(raw: &str) -> Id<'_> {
        Id::from_raw(raw).unwrap()
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = Vec::new();
        write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn an_id_returns_as_it_came() {
        for raw in ["0", "\"0\"", "\"\\u0041\"", "-7", "12345678901234567890"] {
            let mut out = Vec::new();
            empty_result(&mut out, id(raw));
            assert_eq!(String::from_utf8(out).unwrap(), format!(r#"{{"jsonrpc":"2.0","id":{raw},"result":{{}}}}"#));
        }
    }

    #[test]
    fn a_result_is_wrapped_and_not_touched() {
        let mut out = b"before\n".to_vec();
        result(&mut out, id("1"), br#"{"a": 1.0}"#);
        assert_eq!(
            out,
            br#"before
{"jsonrpc":"2.0","id":1,"result":{"a": 1.0}}"#
        );
    }

    #[test]
    fn an_error_escapes_its_message_and_leaves_out_an_unknown_id() {
        let text = written(|out| error(out, None, -32700, "say \"hi\"\n", Some("{\"retryAfterMs\":5}")));
        let expected =
            json!({"jsonrpc":"2.0","error":{"code":-32700,"message":"say \"hi\"\n","data":{"retryAfterMs":5}}});
        assert_eq!(text, expected);
    }

    #[test]
    fn an_error_object_goes_into_the_response_it_belongs_to() {
        let text = written(|out| error_around(out, id("\"x\""), br#"{"code":1,"message":""}"#));
        assert_eq!(text, json!({"jsonrpc":"2.0","id":"x","error":{"code":1,"message":""}}));
    }

    #[test]
    fn progress_carries_the_token_by_type_and_a_message_only_where_the_revision_has_one() {
        let fragment = progress_fragment(Revision::V2025_03_26, 1, 4, "slept");
        let text = written(|out| progress(out, "\"7\"", &fragment));
        assert_eq!(text["params"], json!({"progressToken":"7","progress":1,"total":4,"message":"slept"}));
        assert_eq!(progress_fragment(Revision::V2024_11_05, 1, 4, "slept"), r#""progress":1,"total":4"#);
    }

    #[test]
    fn a_subscription_is_acknowledged_and_closed_under_its_own_id() {
        let key = "io.modelcontextprotocol/subscriptionId";
        let opened = written(|out| listen_acknowledged(out, id("\"l\""), Topics::default(), &[]));
        assert_eq!(opened["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(opened["params"], json!({"_meta":{key:"l"},"notifications":{}}));
        let closed = written(|out| listen_closed(out, id("\"l\"")));
        assert_eq!(closed, json!({"jsonrpc":"2.0","id":"l","result":{"resultType":"complete","_meta":{key:"l"}}}));
    }
}
