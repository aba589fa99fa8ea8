//! Between the eras: what a request, a result or an error of one looks like in the other.
//!
//! Within one era nothing is touched. Bodies stay the bytes that came; only members that the other side needs, or would
//! misread, are written anew.

use std::borrow::Cow;

use crate::mcp::answer;
use crate::mcp::fault::{INTERNAL_ERROR, INVALID_PARAMS, RESOURCE_NOT_FOUND};
use crate::mcp::method::{Level, Method};
use crate::mcp::profile::{Capability, Profile};
use crate::mcp::revision::{Era, Revision};
use crate::wire::json;

/// What starts the keys that only the modern era knows (spec 2026-07-28 basic/index#meta).
const OURS: &str = "io.modelcontextprotocol/";

/// Who we are, towards servers, as the raw JSON of an `Implementation`.
pub const CLIENT_INFO: &str = concat!(r#"{"name":"lakh","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// What a shared session offers a legacy server: all that lakh can hand on to whoever's call it is.
pub const SHARED_CAPABILITIES: &str =
    r#"{"roots":{},"sampling":{"tools":{},"context":{}},"elicitation":{"form":{},"url":{}}}"#;

/// A legacy server wants its client's user to visit the URLs in `data` first (spec 2025-11-25 client/elicitation).
const URL_ELICITATION_REQUIRED: i32 = -32042;

/// Most questions in one result that asks for input.
const QUESTIONS_MAX: usize = 16;

/// Appends the members of `_meta` for a request of a modern client to a legacy server, each with a comma behind it: all
/// but those that only the modern era knows.
pub fn meta_for_legacy(out: &mut Vec<u8>, meta: &str) {
    if !meta.contains(OURS) {
        if !meta.is_empty() {
            out.extend_from_slice(meta.as_bytes());
            out.push(b',');
        }
        return;
    }
    for (key, value) in members(meta) {
        if !key.starts_with(OURS) {
            answer::string(out, &key);
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
            out.push(b',');
        }
    }
}

/// Appends the members of `_meta` that a modern server needs of every request, each with a comma behind it; `profile` is
/// the legacy client's, none for a request of our own.
pub fn meta_for_modern(out: &mut Vec<u8>, profile: Option<&Profile>, level: Option<Level>) {
    out.extend_from_slice(br#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#);
    out.extend_from_slice(br#""io.modelcontextprotocol/clientInfo":"#);
    match profile {
        Some(profile) if !profile.name.is_empty() => {
            out.extend_from_slice(br#"{"name":"#);
            answer::string(out, &profile.name);
            out.extend_from_slice(br#","version":"#);
            answer::string(out, &profile.version);
            out.push(b'}');
        }
        _ => out.extend_from_slice(CLIENT_INFO.as_bytes()),
    }
    out.extend_from_slice(br#","io.modelcontextprotocol/clientCapabilities":"#);
    out.extend_from_slice(offered(profile).as_bytes());
    out.push(b',');
    if let Some(level) = level {
        out.extend_from_slice(br#""io.modelcontextprotocol/logLevel":"#);
        answer::string(out, level.as_str());
        out.push(b',');
    }
}

/// What a server is offered: what the client has declared, or, where no single client is behind it, all that lakh can hand
/// on.
#[must_use]
pub fn offered(profile: Option<&Profile>) -> &str {
    match profile {
        None => SHARED_CAPABILITIES,
        Some(profile) if profile.declared.is_empty() => "{}",
        Some(profile) => &profile.declared,
    }
}

/// What a client must have declared to be asked this; none if no client is asked it.
#[must_use]
pub fn needed_for(question: &str) -> Option<Capability> {
    match question {
        "roots/list" => Some(Capability::Roots),
        "sampling/createMessage" => Some(Capability::Sampling),
        "elicitation/create" => Some(Capability::Elicitation),
        _ => None,
    }
}

/// Whether a modern client has declared in the `_meta` of its request that it can be asked this.
#[must_use]
pub fn meta_declares(meta: &str, needed: Capability) -> bool {
    let declared = members(meta).find(|(key, _)| key == "io.modelcontextprotocol/clientCapabilities");
    declared.is_some_and(|(_, capabilities)| Profile::declares(capabilities, needed))
}

/// A legacy server's result for a modern client: complete, and not to be kept where it could be (spec 2026-07-28
/// basic/index#responses, server/utilities/caching).
#[must_use]
pub fn result_for_modern(result: &str, method: Method) -> Vec<u8> {
    let Some(rest) = result.trim_start().strip_prefix('{') else { return result.into() };
    let rest = rest.trim_start();
    let named = |name| result.contains(name) && json::members(result).into_iter().flatten().any(|(key, _)| key == name);
    let mut modern = Vec::with_capacity(result.len() + 64);
    modern.push(b'{');
    if !named("resultType") {
        modern.extend_from_slice(br#""resultType":"complete","#);
    }
    if method.is_cacheable() {
        if !named("ttlMs") {
            modern.extend_from_slice(br#""ttlMs":0,"#);
        }
        if !named("cacheScope") {
            modern.extend_from_slice(br#""cacheScope":"private","#);
        }
    }
    if rest.starts_with('}') && modern.len() > 1 {
        modern.pop();
    }
    modern.extend_from_slice(rest.as_bytes());
    modern
}

/// An error of a server for a client of another era: a resource that is not there has another code in each, and codes of
/// the old era must not be used in the new one (spec 2026-07-28 basic/index#error-codes). What the error says stays. None:
/// it is the same in both.
#[must_use]
pub fn error_for(error: &str, method: Method, client: Revision) -> Option<Vec<u8>> {
    let code = i32::try_from(code(error)?).ok()?;
    let ours = match (client.era(), code) {
        (Era::Modern, RESOURCE_NOT_FOUND) => INVALID_PARAMS,
        (Era::Modern, URL_ELICITATION_REQUIRED) => INTERNAL_ERROR,
        (Era::Legacy, INVALID_PARAMS) if method == Method::ReadResource => RESOURCE_NOT_FOUND,
        _ => return None,
    };
    let mut translated = vec![b'{'];
    for (key, value) in json::members(error)? {
        if translated.len() > 1 {
            translated.push(b',');
        }
        answer::string(&mut translated, &key);
        translated.push(b':');
        match &*key {
            "code" => answer::display(&mut translated, ours),
            _ => translated.extend_from_slice(value.as_bytes()),
        }
    }
    translated.push(b'}');
    Some(translated)
}

/// The code of an error object.
#[must_use]
pub fn code(error: &str) -> Option<i64> {
    json::pick(error, ["code"]).ok()?[0]?.parse().ok()
}

/// What a modern server wants to know before it answers (spec 2026-07-28 basic/patterns/mrtr#inputrequiredresult).
#[derive(Debug, PartialEq, Eq)]
pub struct InputRequired<'r> {
    /// What it asks.
    pub questions: Vec<InputRequest<'r>>,
    /// The raw JSON string to give back.
    pub state: Option<&'r str>,
}

/// One thing that a server asks.
#[derive(Debug, PartialEq, Eq)]
pub struct InputRequest<'r> {
    /// The name under which the response goes back.
    pub key: Cow<'r, str>,
    /// The method.
    pub method: Cow<'r, str>,
    /// The raw JSON of its parameters.
    pub params: Option<&'r str>,
}

/// What a modern server's result asks for. None: it is complete. An error: it asks in a way that makes no sense.
///
/// # Errors
/// What is wrong with it.
pub fn input_required(result: &str) -> Result<Option<InputRequired<'_>>, &'static str> {
    let picked = json::pick(result, ["resultType", "inputRequests", "requestState"]);
    let [kind, requests, state] = picked.map_err(|_| "a result has a member twice")?;
    if kind.and_then(json::string).as_deref() != Some("input_required") {
        return Ok(None);
    }
    let mut questions = Vec::new();
    for (key, request) in requests.and_then(json::members).into_iter().flatten() {
        let [method, params] =
            json::pick(request, ["method", "params"]).map_err(|_| "a question has a member twice")?;
        let method = method.and_then(json::string).ok_or("a question has no method")?;
        if questions.len() == QUESTIONS_MAX {
            return Err("more than 16 questions at once");
        }
        questions.push(InputRequest { key, method, params });
    }
    if state.is_some_and(|state| json::string(state).is_none()) {
        return Err("requestState is no string");
    }
    if questions.is_empty() && state.is_none() {
        return Err("input is required, and nothing is asked");
    }
    Ok(Some(InputRequired { questions, state }))
}

/// Appends the result that asks a modern client for input; each question is a name, a method and raw parameters.
pub fn write_input_required<'q>(
    out: &mut Vec<u8>,
    questions: impl Iterator<Item = (String, &'q str, Option<&'q str>)>,
    state: &str,
) {
    out.extend_from_slice(br#"{"resultType":"input_required","inputRequests":{"#);
    for (at, (key, method, params)) in questions.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        answer::string(out, &key);
        out.extend_from_slice(br#":{"method":"#);
        answer::string(out, method);
        if let Some(params) = params {
            out.extend_from_slice(br#","params":"#);
            out.extend_from_slice(params.as_bytes());
        }
        out.push(b'}');
    }
    out.extend_from_slice(br#"},"requestState":"#);
    answer::string(out, state);
    out.push(b'}');
}

/// A client's second try, with what its server has asked for.
#[derive(Debug)]
pub struct Retry<'p> {
    /// What the client gives back; a raw JSON value.
    pub state: &'p str,
    /// The raw JSON of `inputResponses`.
    pub responses: Option<&'p str>,
}

/// The retry in the members of `params`; none if they are a first try.
#[must_use]
pub fn retry(params: &str) -> Option<Retry<'_>> {
    if !params.contains("\"requestState\"") {
        return None;
    }
    let (mut state, mut responses) = (None, None);
    for (key, value) in members(params) {
        match &*key {
            "requestState" => state = Some(value),
            "inputResponses" => responses = Some(value),
            _ => {}
        }
    }
    Some(Retry { state: state?, responses })
}

/// Whether two tries ask the same, but for what a retry adds.
#[must_use]
pub fn same_request(first: &str, again: &str) -> bool {
    let kept = |params| members(params).filter(|(key, _)| !matches!(&**key, "requestState" | "inputResponses"));
    kept(first).eq(kept(again))
}

/// The members of an object that has lost its braces.
fn members(inside: &str) -> json::Members<'_> {
    json::members_inside(inside)
}

#[cfg(test)]
#[path = "bridge_tests.rs"]
mod tests;
