//! Which arguments of a tool HTTP requests carry in headers, too (spec 2026-07-28
//! basic/transports/streamable-http#schema-extension).

use std::collections::HashMap;

use serde_json::Value;

use crate::wire::json;

/// The annotation in a tool's `inputSchema`.
const ANNOTATION: &str = "x-mcp-header";

/// Most that one tool may have: each is looked for in every call of it.
const HEADERS_MAX: usize = 64;

/// One argument that is in a header, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamHeader {
    /// What stands behind `Mcp-Param-`.
    pub name: Box<str>,
    /// The names of the properties that lead to it.
    path: Vec<Box<str>>,
}

/// The headers of all tools that have any.
#[derive(Debug, Clone, Default)]
pub struct ParamHeaders(HashMap<Box<str>, Vec<ParamHeader>>);

impl ParamHeaders {
    /// Notes what a tool's schema asks for.
    pub fn insert(&mut self, tool: &str, headers: Vec<ParamHeader>) {
        if !headers.is_empty() {
            self.0.insert(tool.into(), headers);
        }
    }

    /// The headers of a tool.
    #[must_use]
    pub fn of(&self, tool: &str) -> &[ParamHeader] {
        self.0.get(tool).map_or(&[], Vec::as_slice)
    }

    /// The headers of a call: names behind `Mcp-Param-` and values, unencoded. `params` are raw members.
    #[must_use]
    pub fn values(&self, tool: &str, params: &str) -> Vec<(String, String)> {
        let headers = self.of(tool);
        if headers.is_empty() {
            return Vec::new();
        }
        let arguments = json::members_inside(params).find(|(key, _)| key == "arguments").map(|(_, value)| value);
        let value = |header: &ParamHeader| Some((header.name.to_string(), header.value(arguments?)?));
        headers.iter().filter_map(value).collect()
    }
}

impl ParamHeader {
    /// The value in a call's arguments, a raw JSON object; none if it is not there, null, or nothing that a header holds.
    #[must_use]
    pub fn value(&self, arguments: &str) -> Option<String> {
        let mut value = arguments;
        for name in &self.path {
            value = json::pick(value, [name]).ok()?[0]?;
        }
        match value.as_bytes() {
            [b'"', ..] => json::string(value).map(Into::into),
            b"true" | b"false" => Some(value.to_owned()),
            [b'-' | b'0'..=b'9', ..] => integer(value),
            _ => None,
        }
    }
}

/// The decimal text of a number without a fraction: `42.0` is an integer to JSON Schema.
fn integer(raw: &str) -> Option<String> {
    if let Ok(integer) = raw.parse::<i64>() {
        return Some(integer.to_string());
    }
    let number: f64 = raw.parse().ok()?;
    (number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0).then(|| format!("{number:.0}"))
}

/// The headers that a tool's `inputSchema`, raw JSON, asks for.
///
/// # Errors
/// What is wrong with it: such a tool is to be left out of the list.
pub fn read(schema: &str) -> Result<Vec<ParamHeader>, &'static str> {
    let mut headers = Vec::new();
    // Most have none; a key may be written with escapes.
    if schema.contains(ANNOTATION) || schema.contains('\\') {
        let schema = serde_json::from_str(schema).map_err(|_| "its inputSchema cannot be read")?;
        walk(&schema, &mut Vec::new(), true, &mut headers)?;
    }
    Ok(headers)
}

fn walk(
    schema: &Value,
    path: &mut Vec<Box<str>>,
    reachable: bool,
    headers: &mut Vec<ParamHeader>,
) -> Result<(), &'static str> {
    let members = match schema {
        Value::Object(members) => members,
        Value::Array(schemas) => return schemas.iter().try_for_each(|schema| walk(schema, path, false, headers)),
        _ => return Ok(()),
    };
    if let Some(name) = members.get(ANNOTATION) {
        if !reachable || path.is_empty() {
            return Err("x-mcp-header is where not only properties lead");
        }
        headers.push(header(name, members.get("type"), path, headers)?);
    }
    for (key, value) in members {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    path.push(name.as_str().into());
                    walk(property, path, reachable, headers)?;
                    path.pop();
                }
            }
            // Values, not schemas.
            ("default" | "const" | "enum" | "examples" | ANNOTATION, _) => {}
            _ => walk(value, path, false, headers)?,
        }
    }
    Ok(())
}

fn header(
    name: &Value,
    kind: Option<&Value>,
    path: &[Box<str>],
    known: &[ParamHeader],
) -> Result<ParamHeader, &'static str> {
    let name = name.as_str().ok_or("x-mcp-header is no string")?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("x-mcp-header is no name of a header");
    }
    if known.len() >= HEADERS_MAX {
        return Err("x-mcp-header is there over 64 times");
    }
    if known.iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
        return Err("x-mcp-header is there twice with the same name");
    }
    if !matches!(kind.and_then(Value::as_str), Some("integer" | "string" | "boolean")) {
        return Err("x-mcp-header is on what is no integer, string or boolean");
    }
    Ok(ParamHeader { name: name.into(), path: path.to_vec() })
}

/// RFC 9110, section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(property: &str) -> String {
        format!(r#"{{"type":"object","properties":{{"a":{property}}}}}"#)
    }

    #[test]
    fn an_annotated_argument_becomes_a_header_wherever_only_properties_lead() {
        let schema = r#"{"properties":{"region":{"type":"string","x-mcp-header":"Region"},"deep":{"type":"object",
            "properties":{"n":{"type":"integer","x-mcp-header":"N"},"b":{"type":"boolean","x-mcp-header":"B"}}}}}"#;
        let mut headers = ParamHeaders::default();
        headers.insert("sql", read(schema).unwrap());
        let mut values =
            headers.values("sql", r#""name":"sql","arguments":{"region":"us\u0041","deep":{"n":42.0,"b":true}}"#);
        values.sort();
        let value = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(values, [value("B", "true"), value("N", "42"), value("Region", "usA")]);
        assert_eq!(headers.values("sql", r#""arguments":{"region":null,"deep":7}"#), []);
        assert_eq!(headers.values("sql", r#""name":"sql""#), []);
        assert_eq!(headers.values("other", r#""arguments":{"region":"x"}"#), []);
    }

    #[test]
    fn annotations_against_the_rules_are_refused() {
        for property in [
            r#"{"type":"string","x-mcp-header":""}"#,
            r#"{"type":"string","x-mcp-header":"a b"}"#,
            r#"{"type":"string","x-mcp-header":"a\r\n"}"#,
            r#"{"type":"string","x-mcp-header":"\u00e9"}"#,
            r#"{"type":"string","x-mcp-header":7}"#,
            r#"{"type":"number","x-mcp-header":"A"}"#,
            r#"{"type":"object","x-mcp-header":"A"}"#,
            r#"{"x-mcp-header":"A"}"#,
            r#"{"type":"array","items":{"type":"string","x-mcp-header":"A"}}"#,
            r#"{"anyOf":[{"type":"string","x-mcp-header":"A"}]}"#,
            r#"{"not":{"properties":{"b":{"type":"string","x-mcp-header":"A"}}}}"#,
        ] {
            assert!(read(&with(property)).is_err(), "{property}");
        }
        assert!(read(r#"{"type":"string","x-mcp-header":"A"}"#).is_err(), "the root is no argument");
        let twice =
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#;
        assert!(read(twice).is_err());
    }

    #[test]
    fn a_tool_with_more_headers_than_it_may_have_is_refused() {
        let with = |count: usize| {
            let property = |at| format!(r#""p{at}":{{"type":"string","x-mcp-header":"H{at}"}}"#);
            let properties: Vec<String> = (0..count).map(property).collect();
            format!(r#"{{"properties":{{{}}}}}"#, properties.join(","))
        };
        assert_eq!(read(&with(HEADERS_MAX)).map(|headers| headers.len()), Ok(HEADERS_MAX));
        assert!(read(&with(HEADERS_MAX + 1)).is_err());
    }

    #[test]
    fn what_only_looks_like_an_annotation_is_none() {
        assert_eq!(read(&with(r#"{"type":"object","default":{"x-mcp-header":""}}"#)), Ok(Vec::new()));
        assert_eq!(read(r#"{"properties":{"x-mcp-header":{"type":"string"}}}"#), Ok(Vec::new()));
        assert_eq!(read("not JSON"), Ok(Vec::new()));
    }
}
