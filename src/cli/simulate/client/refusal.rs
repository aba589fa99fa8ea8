//! A gateway's refusal, as it says it in each dialect: why, and when to come again.

use std::time::Duration;

use serde_json::Value;

use super::http::header;
use crate::cli::simulate::order::Refusal;

/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 60;

/// From the error of a JSON-RPC answer: its `data.reason`, else its message up to the advice in it.
pub(super) fn of_error(error: &Value) -> Refusal {
    let message = error["message"].as_str().unwrap_or("an error without words");
    let reason = error["data"]["reason"].as_str().unwrap_or(message);
    let short = reason.split([';', ':', '(']).next().unwrap_or(reason).trim();
    let again = error["data"]["retryAfterMs"].as_u64().map(Duration::from_millis);
    Refusal { reason: short.chars().take(REASON_CHARS_MAX).collect(), again }
}

/// From the head of an HTTP answer that is no success: its status, and `Retry-After` in seconds (RFC 9110, 10.2.3).
pub(super) fn of_response(response: &httparse::Response<'_, '_>) -> Refusal {
    let seconds =
        header(response, "Retry-After").and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    Refusal { reason: format!("HTTP {}", response.code.unwrap_or_default()), again: seconds.map(Duration::from_secs) }
}

/// From a line of JSON that came where another dialect was spoken: who is turned away before it has said anything is told
/// so in the plainest one. `None` while it is not whole, or is something else.
pub(super) fn of_line(bytes: &[u8]) -> Option<Refusal> {
    let line = bytes.split(|byte| *byte == b'\n').next().filter(|line| line.first() == Some(&b'{'))?;
    let parsed: Value = serde_json::from_slice(line).ok()?;
    parsed["error"].is_object().then(|| of_error(&parsed["error"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reason_is_short_and_the_time_is_read() {
        let told = of_error(&json!({
            "code": 503, "message": "the gateway is full; try again later", "data": {"retryAfterMs": 5000}
        }));
        assert_eq!(told, Refusal { reason: "the gateway is full".into(), again: Some(Duration::from_secs(5)) });
        let named = of_error(&json!({"message": "x".repeat(900), "data": {"reason": "queue_full"}}));
        assert_eq!((named.reason.as_str(), named.again), ("queue_full", None));
        assert_eq!(of_error(&json!({"message": "y".repeat(900)})).reason.len(), REASON_CHARS_MAX);
    }

    #[test]
    fn a_line_of_json_is_a_refusal_to_who_asked_for_a_websocket() {
        let line = b"{\"jsonrpc\":\"2.0\",\"error\":{\"message\":\"full\",\"data\":{\"retryAfterMs\":10}}}\n";
        assert_eq!(of_line(line).and_then(|told| told.again), Some(Duration::from_millis(10)));
        assert_eq!(of_line(&line[..20]), None, "half a line");
        assert_eq!(of_line(b"HTTP/1.1 503"), None);
        assert_eq!(of_line(b"{\"id\":1}\n"), None);
    }
}
