//! The rules of 2026-07-28 for what stands in the header lines and in the body of one POST (spec
//! basic/transports/streamable-http#request-metadata).

use std::borrow::Cow;

use crate::mcp::{Era, Fault, Refusal, Revision};
use crate::wire::http::{self, Request, mirrored};
use crate::wire::json;

/// What the header lines mirror, and what tells the era: raw JSON values out of the body.
#[derive(Debug, Default)]
pub(super) struct Meta<'m> {
    version: Option<&'m str>,
    capabilities: Option<&'m str>,
    name: Option<&'m str>,
    uri: Option<&'m str>,
}

impl<'m> Meta<'m> {
    /// A member that is there twice is left out here; the turn refuses the message.
    pub(super) fn read(params: Option<&'m str>) -> Self {
        let pick = |object, names| json::pick(object, names).unwrap_or([None; 3]);
        let [meta, name, uri] = params.map_or([None; 3], |params| pick(params, ["_meta", "name", "uri"]));
        let [version, capabilities, _] = meta.map_or([None; 3], |meta| {
            let prefix = ["io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities", ""];
            pick(meta, prefix)
        });
        Self { version, capabilities, name, uri }
    }
}

/// The era that a POST belongs to.
///
/// # Errors
/// When the version is none, and nothing in the body tells that the client is of the modern era.
pub(super) fn era(request: &Request<'_>, meta: &Meta<'_>) -> Result<Era, http::Refusal> {
    let header = request.version.map(Revision::parse);
    let body = meta.version.and_then(json::string);
    let is_legacy = |revision: Revision| revision.era() == Era::Legacy;
    match (header, body) {
        (Some(Some(revision)), _) if !is_legacy(revision) => Ok(Era::Modern),
        (Some(None), None) => Err(http::Refusal::ProtocolVersion),
        (_, None) => Ok(Era::Legacy),
        // A client that also puts the session's version there says nothing new.
        (header, Some(body)) => {
            let same = header.is_none_or(|header| header.is_some_and(|header| header.as_str() == body));
            let legacy = Revision::parse(&body).is_some_and(is_legacy) && request.session.is_some();
            Ok(if same && legacy { Era::Legacy } else { Era::Modern })
        }
    }
}

/// Whether the request has what every modern one must have, and its header lines say what its body says.
///
/// # Errors
/// What is missing or differs; the answer has status 400.
pub(super) fn check(request: &Request<'_>, method: &str, meta: &Meta<'_>) -> Result<(), Refusal<'static>> {
    let invalid = |what: &str| Fault::InvalidParams.because(format!("Invalid params: {what}"));
    let Some(raw) = meta.version else {
        return Err(invalid("_meta needs \"io.modelcontextprotocol/protocolVersion\", a string"));
    };
    let version = json::string(raw).unwrap_or_default();
    same("MCP-Protocol-Version", request.version, &version)?;
    if Revision::parse(&version).is_none_or(|revision| revision.era() == Era::Legacy) {
        let told = if raw.len() > 64 { "\"(too long)\"" } else { raw };
        return Err(Fault::unsupported_version(told));
    }
    same("Mcp-Method", request.mcp_method, method)?;
    let name = match method {
        "tools/call" | "prompts/get" => meta.name,
        "resources/read" => meta.uri,
        _ => None,
    };
    // Without the member in the body the turn says what is missing.
    if let Some(name) = name.and_then(json::string) {
        let decoded = match request.mcp_name {
            Some(value) => Some(mirrored(value).ok_or_else(|| mismatch("Mcp-Name", "has a value that is none"))?),
            None => None,
        };
        same("Mcp-Name", decoded.as_deref(), &name)?;
    }
    if !meta.capabilities.is_some_and(|raw| raw.starts_with('{')) {
        return Err(invalid("_meta needs \"io.modelcontextprotocol/clientCapabilities\", an object"));
    }
    Ok(())
}

/// Whether `Mcp-Param-*` lines say what the arguments say. `mirrors` are the lines' names behind that prefix, each with the
/// path to its argument, as the tool's `inputSchema` has them under `x-mcp-header`; `arguments` is a raw JSON object.
///
/// # Errors
/// The first line that is missing, malformed or different.
#[cfg_attr(not(test), expect(dead_code, reason = "waits for the tools' schemas to be in the directory"))]
pub(super) fn check_arguments(
    request: &Request<'_>,
    mirrors: &[(Box<str>, Vec<Box<str>>)],
    arguments: Option<&str>,
) -> Result<(), Refusal<'static>> {
    for (name, path) in mirrors {
        let line = format!("Mcp-Param-{name}");
        let mut value = arguments;
        for key in path {
            value = value.and_then(|object| json::pick(object, [key]).ok()).and_then(|[value]| value);
        }
        let header = request.line(&line).map_err(|_| mismatch(&line, "is there twice"))?;
        match (value.filter(|value| *value != "null"), header) {
            (None, _) => {}
            (Some(_), None) => return Err(mismatch(&line, "is missing")),
            (Some(value), Some(header)) => {
                let told = mirrored(header).ok_or_else(|| mismatch(&line, "has a value that is none"))?;
                let meant = json::string(value).unwrap_or(Cow::Borrowed(value));
                let number = |text: &str| text.parse::<f64>().ok();
                let equal = told == meant || (number(value).is_some() && number(&told) == number(value));
                if !equal {
                    return Err(mismatch(&line, "does not say what the body says"));
                }
            }
        }
    }
    Ok(())
}

fn same(name: &str, header: Option<&str>, body: &str) -> Result<(), Refusal<'static>> {
    match header {
        Some(value) if value == body => Ok(()),
        Some(_) => Err(mismatch(name, "does not say what the body says")),
        None => Err(mismatch(name, "is missing")),
    }
}

fn mismatch(name: &str, what: &str) -> Refusal<'static> {
    Fault::HeaderMismatch.because(format!("Header mismatch: {name} {what}; send what stands in the body"))
}
