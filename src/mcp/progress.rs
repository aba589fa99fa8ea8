//! Steps of a request and the tokens that they go by, in either direction (spec 2025-11-25 basic/utilities/progress).

use crate::mcp::answer;
use crate::wire::json;

/// One step: the raw token, and the other members of `params`, to be told under another token.
pub type Step<'p> = (&'p str, String);

/// Reads the `params` of a progress notification. None: without a token or `progress` it is none (schema
/// `ProgressNotificationParams`).
#[must_use]
pub fn step(params: &str) -> Option<Step<'_>> {
    let (mut token, mut steps) = (None, false);
    let mut fragment = Vec::with_capacity(params.len());
    for (key, value) in json::members(params)? {
        if key == "progressToken" {
            token = Some(value);
            continue;
        }
        steps |= key == "progress";
        if !fragment.is_empty() {
            fragment.push(b',');
        }
        answer::string(&mut fragment, &key);
        fragment.push(b':');
        fragment.extend_from_slice(value.as_bytes());
    }
    Some((token.filter(|_| steps)?, String::from_utf8(fragment).ok()?))
}

/// The raw token under which whoever asks wants to be told of steps.
#[must_use]
pub fn token(params: &str) -> Option<&str> {
    let [meta] = json::pick(params, ["_meta"]).ok()?;
    json::pick(meta?, ["progressToken"]).ok()?[0]
}

/// The same `params` with this token in place of theirs, every other byte as it came. None: they have none.
#[must_use]
pub fn with_token(params: &str, number: u64) -> Option<String> {
    let token = token(params)?;
    // It is a part of that text.
    let at = token.as_ptr().addr() - params.as_ptr().addr();
    Some(format!("{}{number}{}", &params[..at], &params[at + token.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_without_its_token() {
        let text = r#"{"progress":0.5,"progressToken":"a\"","message":"\u0041","x":[1 ]}"#;
        assert_eq!(step(text), Some((r#""a\"""#, r#""progress":0.5,"message":"\u0041","x":[1 ]"#.into())));
        for none in ["[]", "{}", r#"{"progress":1}"#, r#"{"progressToken":1}"#] {
            assert_eq!(step(none), None, "{none}");
        }
    }

    #[test]
    fn a_token_is_changed_and_nothing_else() {
        let text =
            |token: &str| format!(r#"{{"message":"é", "_meta" : {{"x":[1.0 ],"progressToken":{token} }},"y":1}}"#);
        for own in ["7", "\"7\"", r#""é\u0041""#] {
            assert_eq!((token(&text(own)), with_token(&text(own), 41)), (Some(own), Some(text("41"))));
        }
        for none in
            ["{}", r#"{"progressToken":1}"#, r#"{"_meta":{}}"#, r#"{"_meta":{"progressToken":1,"progressToken":2}}"#]
        {
            assert_eq!(with_token(none, 41), None, "{none}");
        }
    }
}
