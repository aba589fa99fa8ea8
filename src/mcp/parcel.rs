//! A request on its way to a server: what each server gets anew is apart, the rest are the bytes that came.

use crate::mcp::method::{Level, Method};
use crate::mcp::request::Call;
use crate::mcp::revision::Revision;
use crate::wire::json;

/// What a server needs of a client's request, but for ids and tokens, which are the server's side's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// What is asked.
    pub method: Method,
    /// The name or URI as the server knows it.
    pub name: Box<str>,
    /// The members of `params`, raw and comma-separated, without `_meta`; renamed where the server has another name.
    pub params: Box<str>,
    /// The members of `params._meta` without `progressToken`, raw and comma-separated; often nothing.
    pub meta: Box<str>,
    /// Whether the client wants progress.
    pub progress: bool,
    /// The least level of log messages that the client wants for this request.
    pub level: Option<Level>,
    /// The revision that the client speaks.
    pub revision: Revision,
}

impl Parcel {
    /// Packs a call for a server that knows its target as `name`.
    #[must_use]
    pub fn new(call: &Call<'_>, name: &str) -> Self {
        let renamed = call.target.name() != name;
        let mut params = String::with_capacity(call.params.len());
        for (key, value) in json::members(call.params).into_iter().flatten() {
            match &*key {
                "_meta" => {}
                "name" if renamed && call.method != Method::Complete => push(&mut params, "name", &quoted(name)),
                "uri" if renamed && call.method != Method::Complete => push(&mut params, "uri", &quoted(name)),
                "ref" if renamed && call.method == Method::Complete => {
                    push(&mut params, "ref", &renamed_ref(value, name))
                }
                key => push(&mut params, key, value),
            }
        }
        let mut meta = String::new();
        for (key, value) in call.meta.and_then(json::members).into_iter().flatten() {
            if key != "progressToken" {
                push(&mut meta, &key, value);
            }
        }
        Self {
            method: call.method,
            name: name.into(),
            params: params.into(),
            meta: meta.into(),
            progress: call.progress_token.is_some(),
            level: call.level,
            revision: call.revision,
        }
    }
}

/// What a completion refers to, by the name that its server has for it.
fn renamed_ref(reference: &str, name: &str) -> String {
    let mut members = String::from("{");
    for (key, value) in json::members(reference).into_iter().flatten() {
        let renamed = matches!(&*key, "name" | "uri").then(|| quoted(name));
        let before = members.len();
        push(&mut members, &key, renamed.as_deref().unwrap_or(value));
        if before == 1 {
            // `push` puts a comma behind what is there, and the brace is there.
            members.remove(1);
        }
    }
    members.push('}');
    members
}

fn quoted(text: &str) -> String {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    json::write_string(&mut quoted, text);
    String::from_utf8(quoted).unwrap_or_default()
}

fn push(members: &mut String, key: &str, value: &str) {
    if !members.is_empty() {
        members.push(',');
    }
    members.push_str(&quoted(key));
    members.push(':');
    members.push_str(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::method::Target;
    use crate::wire::envelope::Id;

    fn parcel(method: Method, target: Target<'_>, params: &str, name: &str) -> Parcel {
        let [meta] = json::pick(params, ["_meta"]).unwrap();
        let id = Id::from_raw("1").unwrap();
        let call = Call {
            id,
            method,
            target,
            params,
            arguments: None,
            meta,
            progress_token: None,
            request_state: None,
            level: None,
            revision: Revision::NEWEST,
        };
        Parcel::new(&call, name)
    }

    #[test]
    fn what_a_server_need_not_get_anew_stays_the_bytes_that_came() {
        let params = r#"{"name":"echo","arguments":{"z": 1.0e0 ,"a":"\u0041"},"more":[ ],"_meta":{"progressToken":7,"traceparent":"00-a" }}"#;
        let parcel = parcel(Method::CallTool, Target::Tool("echo".into()), params, "echo");
        assert_eq!(&*parcel.params, r#""name":"echo","arguments":{"z": 1.0e0 ,"a":"\u0041"},"more":[ ]"#);
        assert_eq!(&*parcel.meta, r#""traceparent":"00-a""#);
    }

    #[test]
    fn a_server_gets_its_own_name_for_what_is_asked() {
        let tool = parcel(Method::CallTool, Target::Tool("w_echo".into()), r#"{"name":"w_echo"}"#, "e\"cho");
        assert_eq!((&*tool.params, &*tool.name), (r#""name":"e\"cho""#, "e\"cho"));
        let params = r#"{"argument":{"name":"a","value":""},"ref":{"type":"ref/prompt","name":"w_p","title":"T"}}"#;
        let completion = parcel(Method::Complete, Target::Prompt("w_p".into()), params, "p");
        let expected = r#""argument":{"name":"a","value":""},"ref":{"type":"ref/prompt","name":"p","title":"T"}"#;
        assert_eq!(&*completion.params, expected);
    }
}
