//! The rules of 2026-07-28 for what stands in the header lines and in the body of one POST (spec
//! basic/transports/streamable-http#request-metadata).

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

impl Meta<'_> {
    /// The name of the tool that is called.
    pub(super) fn tool(&self) -> Option<std::borrow::Cow<'_, str>> {
        self.name.and_then(json::string)
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

/// Whether `Mcp-Param-*` lines say what the arguments say, `expected` being the names behind that prefix and the values that
/// the tool's schema asks for. Lines that it does not ask for are not looked at.
///
/// # Errors
/// The first line that is missing, malformed or different.
pub(super) fn check_params(request: &Request<'_>, expected: &[(String, String)]) -> Result<(), Refusal<'static>> {
    for (name, value) in expected {
        let line = format!("Mcp-Param-{name}");
        let header = request.line(&line).map_err(|_| mismatch(&line, "has a value that is none"))?;
        let header = header.ok_or_else(|| mismatch(&line, "is missing"))?;
        let told = mirrored(header).ok_or_else(|| mismatch(&line, "has a value that is none"))?;
        // Integers as numbers: 42.0 is 42 (spec basic/transports/streamable-http#server-validation).
        let number = |text: &str| text.parse::<f64>().ok();
        if told != *value && (number(value).is_none() || number(value) != number(&told)) {
            return Err(mismatch(&line, "does not say what the body says"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Config;
    use crate::wire::http::{Reader, Step};

    fn checked(lines: &str, expected: &[(&str, &str)]) -> Result<(), Refusal<'static>> {
        let mut head = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes();
        let Ok(Step::Whole { request, .. }) = Reader::default().next(&mut head, &Config::default()) else {
            panic!("{lines}")
        };
        let expected: Vec<(String, String)> =
            expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check_params(&request, &expected)
    }

    #[test]
    fn lines_for_arguments_say_what_the_arguments_say() {
        for (lines, name, value) in [
            ("Mcp-Param-Region: us-west1\r\n", "Region", "us-west1"),
            ("mcp-param-REGION: =?base64?SGVsbG8=?=\r\n", "Region", "Hello"),
            ("Mcp-Param-Region: =?base64?SGVsbG8=\r\n", "Region", "=?base64?SGVsbG8="),
            ("Mcp-Param-N: 42.0\r\n", "N", "42"),
            ("Mcp-Param-B: true\r\nMcp-Param-Other: x\r\n", "B", "true"),
        ] {
            assert_eq!(checked(lines, &[(name, value)]), Ok(()), "{lines}");
        }
        for lines in [
            "",
            "Mcp-Param-Region: us-west2\r\n",
            "Mcp-Param-Region: =?base64?SGVsbG8?=\r\n",
            "Mcp-Param-Region: =?base64?SGVs!!!!?=\r\n",
            "Mcp-Param-Region: us-west1\r\nMcp-Param-Region: us-west1\r\n",
        ] {
            let refusal = checked(lines, &[("Region", "us-west1")]).expect_err(lines);
            assert_eq!(refusal.fault, Fault::HeaderMismatch, "{lines}");
        }
        assert_eq!(checked("Mcp-Param-Region: anything\r\n", &[]), Ok(()));
    }
}
