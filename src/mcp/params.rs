//! What the rules need from the `params` of any message, found in one pass over its members.

use crate::mcp::fault::{Fault, Refusal};
use crate::wire::json;

/// Raw JSON values of the members that some method asks for. One that is there twice is refused: a server behind us might
/// read the other one.
#[derive(Debug, Default)]
pub(super) struct Params<'m> {
    pub(super) name: Option<&'m str>,
    pub(super) arguments: Option<&'m str>,
    pub(super) cursor: Option<&'m str>,
    pub(super) request_id: Option<&'m str>,
    pub(super) protocol_version: Option<&'m str>,
    pub(super) capabilities: Option<&'m str>,
    pub(super) client_info: Option<&'m str>,
    pub(super) notifications: Option<&'m str>,
    pub(super) uri: Option<&'m str>,
    pub(super) reference: Option<&'m str>,
    pub(super) level: Option<&'m str>,
    pub(super) request_state: Option<&'m str>,
    pub(super) raw_meta: Option<&'m str>,
    pub(super) meta: Meta<'m>,
}

/// Raw JSON values of the members of `params._meta`; the first four are of the modern era (spec 2026-07-28
/// basic/index#meta).
#[derive(Debug, Default)]
pub(super) struct Meta<'m> {
    pub(super) protocol_version: Option<&'m str>,
    pub(super) client_capabilities: Option<&'m str>,
    pub(super) client_info: Option<&'m str>,
    pub(super) log_level: Option<&'m str>,
    pub(super) progress_token: Option<&'m str>,
}

impl<'m> Params<'m> {
    /// Reads the `params` of a message, whose JSON the parser has checked.
    pub(super) fn read(params: Option<&'m str>) -> Result<Self, Refusal<'static>> {
        let mut read = Self::default();
        let Some(params) = params else { return Ok(read) };
        let members = json::members(params).ok_or_else(|| invalid("params must be an object"))?;
        for (key, value) in members {
            let slot = match key.as_ref() {
                "name" => &mut read.name,
                "arguments" => &mut read.arguments,
                "cursor" => &mut read.cursor,
                "requestId" => &mut read.request_id,
                "protocolVersion" => &mut read.protocol_version,
                "capabilities" => &mut read.capabilities,
                "clientInfo" => &mut read.client_info,
                "notifications" => &mut read.notifications,
                "uri" => &mut read.uri,
                "ref" => &mut read.reference,
                "level" => &mut read.level,
                "requestState" => &mut read.request_state,
                "_meta" => &mut read.raw_meta,
                _ => continue,
            };
            put(slot, &key, value)?;
        }
        if let Some(meta) = read.raw_meta {
            read.meta = Meta::read(meta)?;
        }
        Ok(read)
    }
}

impl<'m> Meta<'m> {
    fn read(meta: &'m str) -> Result<Self, Refusal<'static>> {
        let mut read = Self::default();
        let members = json::members(meta).ok_or_else(|| invalid("params._meta must be an object"))?;
        for (key, value) in members {
            let slot = match key.as_ref() {
                "io.modelcontextprotocol/protocolVersion" => &mut read.protocol_version,
                "io.modelcontextprotocol/clientCapabilities" => &mut read.client_capabilities,
                "io.modelcontextprotocol/clientInfo" => &mut read.client_info,
                "io.modelcontextprotocol/logLevel" => &mut read.log_level,
                "progressToken" => &mut read.progress_token,
                _ => continue,
            };
            put(slot, &key, value)?;
        }
        Ok(read)
    }
}

fn put<'m>(slot: &mut Option<&'m str>, key: &str, value: &'m str) -> Result<(), Refusal<'static>> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(invalid(&format!("{key} is there twice"))),
    }
}

/// The refusal of parameters, saying which and why.
pub(super) fn invalid(why: &str) -> Refusal<'static> {
    Fault::InvalidParams.because(format!("Invalid params: {why}"))
}

/// Whether a raw JSON value is an object.
pub(super) fn is_object(raw: &str) -> bool {
    raw.starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_in_any_order_and_under_escaped_keys() {
        let text = r#"{"x":{"name":1},"_meta":{"progressToken":7},"n\u0061me":"echo"}"#;
        let params = Params::read(Some(text)).unwrap();
        assert_eq!(params.name, Some("\"echo\""));
        assert_eq!(params.meta.progress_token, Some("7"));
        assert_eq!(params.arguments, None);
    }

    #[test]
    fn params_and_meta_must_be_objects() {
        assert!(Params::read(None).is_ok());
        assert_eq!(Params::read(Some("[1]")).unwrap_err().fault, Fault::InvalidParams);
        assert_eq!(Params::read(Some(r#"{"_meta":null}"#)).unwrap_err().fault, Fault::InvalidParams);
    }

    #[test]
    fn a_member_that_counts_may_be_there_once() {
        for twice in [r#"{"name":"a","name":"b"}"#, r#"{"_meta":{"progressToken":1,"progressToken":2}}"#] {
            assert_eq!(Params::read(Some(twice)).unwrap_err().fault, Fault::InvalidParams);
        }
        assert!(Params::read(Some(r#"{"x":1,"x":2}"#)).is_ok());
    }
}
