//! References to the environment inside a value: `${VARIABLE}`, `${VARIABLE:-default}`, and `${env:VARIABLE}` as some
//! editors write it.

/// A reference that leads nowhere, as it was written between the braces.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing(pub String);

/// `text` with every reference replaced. A `$` without a brace is a `$`; a brace that is not closed is text.
///
/// # Errors
/// The first reference that leads nowhere.
pub(super) fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, Missing> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let Some(end) = rest[at..].find('}') else { break };
        expanded.push_str(&rest[..at]);
        let reference = &rest[at + 2..at + end];
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        let value = variable(name.strip_prefix("env:").unwrap_or(name));
        match (value, default) {
            // As in a shell, `:-` also stands in for a variable that is empty.
            (Some(value), default) if !value.is_empty() || default.is_none() => expanded.push_str(&value),
            (_, Some(default)) => expanded.push_str(default),
            _ => return Err(Missing(reference.to_owned())),
        }
        rest = &rest[at + end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The same for a knob that is no upstream's.
///
/// # Errors
/// What is referred to and not there.
pub fn expanded(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    expand(text, variable).map_err(|Missing(name)| format!("refers to `${{{name}}}`, which is not set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Missing> {
        let variable = |name: &str| match name {
            "TOKEN" => Some("abc".to_owned()),
            "TRICK" => Some("${TOKEN}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand(text, &variable)
    }

    #[test]
    fn references_are_replaced_once() {
        for (text, result) in [
            ("Bearer ${TOKEN}!", "Bearer abc!"),
            ("${TOKEN}${TOKEN}", "abcabc"),
            ("${env:TOKEN}", "abc"),
            ("${NONE:-a:-b}", "a:-b"),
            ("${TOKEN:-x}", "abc"),
            ("${EMPTY}|${EMPTY:-x}", "|x"),
            ("${TRICK}", "${TOKEN}"),
            ("$TOKEN costs $5 ${ and é", "$TOKEN costs $5 ${ and é"),
            ("", ""),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn a_reference_that_leads_nowhere_is_named() {
        assert_eq!(expanded("a ${NONE} b"), Err(Missing("NONE".to_owned())));
        assert_eq!(expanded("${input:key}"), Err(Missing("input:key".to_owned())));
    }
}
