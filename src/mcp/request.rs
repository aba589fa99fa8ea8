//! What a client may ask of servers in either era, and what is left of it when its form is checked.

use std::borrow::Cow;

use crate::mcp::answer;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::fault::{Fault, Refusal, excerpt};
use crate::mcp::method::{Features, Level, List, Method, Target, Topics};
use crate::mcp::params::{Params, invalid, is_object};
use crate::mcp::revision::{Era, Revision};
use crate::mcp::session::Verdict;
use crate::wire::envelope::Id;
use crate::wire::json;

/// A request for a server, checked as far as no server needs to be known for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Call<'m> {
    /// The id to answer to.
    pub id: Id<'m>,
    /// What is asked.
    pub method: Method,
    /// What it is about.
    pub target: Target<'m>,
    /// The raw JSON object of all parameters.
    pub params: &'m str,
    /// The raw JSON object of a tool's arguments.
    pub arguments: Option<&'m str>,
    /// The raw JSON object of `_meta`.
    pub meta: Option<&'m str>,
    /// The raw JSON token to put into progress notifications; none are wanted without it.
    pub progress_token: Option<&'m str>,
    /// The raw JSON string that a retry gives back (spec 2026-07-28 basic/patterns/mrtr).
    pub request_state: Option<&'m str>,
    /// The least level of log messages wanted for this request.
    pub level: Option<Level>,
    /// The revision to answer in.
    pub revision: Revision,
}

/// A `subscriptions/listen` (spec 2026-07-28 basic/patterns/subscriptions).
#[derive(Debug, PartialEq, Eq)]
pub struct Listen<'m> {
    /// Its id, which all its notifications carry.
    pub id: Id<'m>,
    /// What it is told of.
    pub topics: Topics,
    /// The resources whose changes it is told of.
    pub uris: Vec<Cow<'m, str>>,
}

/// A request, as far as its envelope tells.
pub(super) struct Request<'m, 'a> {
    pub(super) id: Id<'m>,
    pub(super) method: &'a str,
    pub(super) params: Option<&'m str>,
}

/// What both eras have: lists, and what a server answers.
pub(super) fn serve<'m>(
    request: &Request<'m, '_>,
    params: &Params<'m>,
    revision: Revision,
    level: Option<Level>,
    catalogue: &Catalogue,
    out: &mut Vec<u8>,
) -> Result<Verdict<'m>, Refusal<'static>> {
    let features = catalogue.features();
    if let Some(list) =
        List::ALL.into_iter().find(|list| list.method() == request.method && features.has(list.feature()))
    {
        return answer_list(request, params, list, revision, catalogue, out);
    }
    let (method, target) = match request.method {
        "tools/call" if features.has(Features::TOOLS) => (Method::CallTool, Target::Tool(name(request, params)?)),
        "prompts/get" if features.has(Features::PROMPTS) => (Method::GetPrompt, Target::Prompt(name(request, params)?)),
        "resources/read" if features.has(Features::RESOURCES) => {
            (Method::ReadResource, Target::Resource(uri(request, params)?))
        }
        "completion/complete" if features.has(Features::COMPLETIONS) => (Method::Complete, reference(params)?),
        method => return Err(unknown_method(method, revision, features)),
    };
    let arguments = params.arguments.filter(|&raw| raw != "null");
    if arguments.is_some_and(|raw| !is_object(raw)) {
        return Err(invalid("arguments must be an object"));
    }
    let progress_token = params.meta.progress_token;
    if progress_token.is_some_and(|token| Id::from_raw(token).is_err()) {
        return Err(invalid("progressToken must be a string or an integer of at most 256 bytes"));
    }
    Ok(Verdict::Call(Call {
        id: request.id,
        method,
        target,
        params: request.params.unwrap_or("{}"),
        arguments,
        meta: params.raw_meta,
        progress_token,
        request_state: params.request_state,
        level,
        revision,
    }))
}

fn answer_list<'m>(
    request: &Request<'m, '_>,
    params: &Params<'m>,
    list: List,
    revision: Revision,
    catalogue: &Catalogue,
    out: &mut Vec<u8>,
) -> Result<Verdict<'m>, Refusal<'static>> {
    let unknown = || invalid("unknown cursor; list again without one");
    let cursor = match params.cursor {
        None | Some("null") => None,
        Some(raw) => Some(json::string(raw).ok_or_else(unknown)?),
    };
    // Spec 2025-11-25 server/utilities/pagination#error-handling.
    let page = catalogue.page(list, revision, cursor.as_deref()).ok_or_else(unknown)?;
    answer::open_result(out, request.id);
    page.write(out);
    answer::close_result(out);
    Ok(Verdict::Answered)
}

/// A subscription to what can be told; what cannot is left out (spec 2026-07-28
/// basic/patterns/subscriptions#acknowledgment).
pub(super) fn listen<'m>(
    request: &Request<'m, '_>,
    params: &Params<'m>,
    catalogue: &Catalogue,
) -> Result<Verdict<'m>, Refusal<'static>> {
    let wanted = params.notifications.filter(|raw| is_object(raw));
    let wanted = wanted.ok_or_else(|| invalid("subscriptions/listen needs notifications, an object"))?;
    let features = catalogue.features();
    let (mut topics, mut uris) = (Topics::default(), Vec::new());
    for (key, value) in json::members(wanted).into_iter().flatten() {
        let (topic, feature) = match &*key {
            "toolsListChanged" => (Topics::TOOLS, Features::TOOLS),
            "promptsListChanged" => (Topics::PROMPTS, Features::PROMPTS),
            "resourcesListChanged" => (Topics::RESOURCES, Features::RESOURCES),
            "resourceSubscriptions" if features.has(Features::SUBSCRIBE) => {
                let not_uris = || {
                    let each = format!("URIs of at most {URI_BYTES_MAX} bytes");
                    invalid(&format!("resourceSubscriptions must be a list of at most {SUBSCRIPTIONS_MAX} {each}"))
                };
                let uri = |raw| json::string(raw).filter(|uri| uri.len() <= URI_BYTES_MAX);
                let list = json::elements(value).ok_or_else(not_uris)?;
                uris = list.take(SUBSCRIPTIONS_MAX + 1).map(uri).collect::<Option<_>>().ok_or_else(not_uris)?;
                if uris.len() > SUBSCRIPTIONS_MAX {
                    return Err(not_uris());
                }
                if !uris.is_empty() {
                    topics = Topics(topics.0 | Topics::UPDATED.0);
                }
                continue;
            }
            _ => continue,
        };
        if value == "true" && features.has(feature) {
            topics = Topics(topics.0 | topic.0);
        }
    }
    Ok(Verdict::Listen(Listen { id: request.id, topics, uris }))
}

/// Most resources that one client may watch: each is kept as long as it does.
pub const SUBSCRIPTIONS_MAX: usize = 256;

fn name<'m>(request: &Request<'m, '_>, params: &Params<'m>) -> Result<Cow<'m, str>, Refusal<'static>> {
    let name = params.name.and_then(json::string);
    name.ok_or_else(|| invalid(&format!("{} needs name, a string", request.method)))
}

pub(super) fn uri<'m>(request: &Request<'m, '_>, params: &Params<'m>) -> Result<Cow<'m, str>, Refusal<'static>> {
    let uri = params.uri.and_then(json::string).filter(|uri| uri.len() <= URI_BYTES_MAX);
    uri.ok_or_else(|| invalid(&format!("{} needs uri, a string of at most {URI_BYTES_MAX} bytes", request.method)))
}

/// Longest URI, in bytes: what browsers and web servers take.
const URI_BYTES_MAX: usize = 8 << 10;

/// What a completion is for (spec 2025-11-25 server/utilities/completion#reference-types).
fn reference<'m>(params: &Params<'m>) -> Result<Target<'m>, Refusal<'static>> {
    let [kind, name, uri] = params
        .reference
        .map_or(Ok([None; 3]), |raw| json::pick(raw, ["type", "name", "uri"]))
        .map_err(|_| invalid("ref has a member twice"))?;
    let text = |raw: Option<&'m str>| raw.and_then(json::string);
    match (text(kind).as_deref(), text(name), text(uri)) {
        (Some("ref/prompt"), Some(name), _) => Ok(Target::Prompt(name)),
        (Some("ref/resource"), _, Some(uri)) => Ok(Target::Resource(uri)),
        _ => Err(invalid("completion/complete needs ref, a ref/prompt with name or a ref/resource with uri")),
    }
}

fn unknown_method(method: &str, revision: Revision, features: Features) -> Refusal<'static> {
    let (first, last) = match revision.era() {
        Era::Legacy => ("initialize, ping", ""),
        Era::Modern => ("server/discover", ", subscriptions/listen"),
    };
    let mut methods = String::from(first);
    for (feature, names) in [
        (Features::TOOLS, "tools/list, tools/call"),
        (Features::PROMPTS, "prompts/list, prompts/get"),
        (Features::RESOURCES, "resources/list, resources/templates/list, resources/read"),
        (Features::COMPLETIONS, "completion/complete"),
    ] {
        if features.has(feature) {
            methods.push_str(", ");
            methods.push_str(names);
        }
    }
    let revision = revision.as_str();
    let method = excerpt(method);
    Fault::UnknownMethod.because(format!("Method not found: {method}; in {revision} this server has {methods}{last}"))
}
