//! Reads the JSON-RPC 2.0 envelope of a message: its kind, id and method, and the raw text of everything else.
//!
//! A member of the envelope that is there twice is refused: a server behind us might read the other one. Members that
//! JSON-RPC doesn't know are tolerated. `"params": null` is read as no params, as several SDKs write it so.

use std::borrow::Cow;

use super::json::{self, Broken};

/// Longest id, in bytes of JSON text: ids are kept as long as their request is in flight.
pub const ID_BYTES_MAX: usize = 256;

/// What one text holds.
#[derive(Debug, Clone)]
pub enum Incoming<'a> {
    One(Envelope<'a>),
    Batch(Batch<'a>),
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub kind: Kind<'a>,
    /// Raw JSON of an object or an array.
    pub params: Option<&'a str>,
}

/// What a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<'a> {
    Request {
        id: Id<'a>,
        method: Cow<'a, str>,
    },
    Notification {
        method: Cow<'a, str>,
    },
    /// Exactly one of `result` (any raw JSON) and `error` (a raw object) is there; `id` is missing only on an error.
    Response {
        id: Option<Id<'a>>,
        result: Option<&'a str>,
        error: Option<&'a str>,
    },
}

/// The id of a request as it was written: a raw JSON string or integer. Two ids are equal if value and type are.
#[derive(Debug, Clone, Copy)]
pub struct Id<'a>(&'a str);

/// Why a message is refused, and the id that the error should carry, where it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed<'a> {
    pub what: Defect,
    pub id: Option<Id<'a>>,
}

listed! {
    /// One way for a message to be malformed.
    pub enum Defect {
        /// The bytes are not UTF-8.
        InvalidUtf8 = "invalid_utf8",
        /// The text is not JSON.
        NotJson = "not_json",
        /// More arrays and objects are open at once than [`json::DEPTH_MAX`].
        TooDeep = "too_deep",
        /// Neither an object nor a batch; or, within a batch, no object.
        NotAnObject = "not_an_object",
        /// A batch without a message.
        EmptyBatch = "empty_batch",
        /// `jsonrpc`, `id`, `method`, `params`, `result` or `error` is there twice.
        DuplicateMember = "duplicate_member",
        /// No `jsonrpc`.
        VersionMissing = "version_missing",
        /// `jsonrpc` is not `"2.0"`.
        VersionInvalid = "version_invalid",
        /// The id is null.
        IdNull = "id_null",
        /// The id is neither a string nor an integer.
        IdInvalid = "id_invalid",
        /// The id is longer than [`ID_BYTES_MAX`].
        IdTooLong = "id_too_long",
        /// A result without an id.
        IdMissing = "id_missing",
        /// Neither `method` nor `result` nor `error`.
        MethodMissing = "method_missing",
        /// `method` is no string.
        MethodInvalid = "method_invalid",
        /// `params` is neither an object nor an array.
        ParamsInvalid = "params_invalid",
        /// More than one of `method`, `result` and `error`.
        KindAmbiguous = "kind_ambiguous",
        /// `error` is no object.
        ErrorInvalid = "error_invalid",
    }
}

impl Defect {
    /// The JSON-RPC error code.
    pub fn code(self) -> i32 {
        match self {
            Self::InvalidUtf8 | Self::NotJson | Self::TooDeep => -32700,
            _ => -32600,
        }
    }

    /// What the error says to the client.
    pub fn message(self) -> &'static str {
        match self {
            Self::InvalidUtf8 => "Parse error: the message is not UTF-8",
            Self::NotJson => "Parse error: the message is not JSON",
            Self::TooDeep => "Parse error: the JSON is nested more than 128 deep",
            Self::NotAnObject => "Invalid request: a message is a JSON object",
            Self::EmptyBatch => "Invalid request: the batch is empty",
            Self::DuplicateMember => "Invalid request: a member is there twice",
            Self::VersionMissing => "Invalid request: \"jsonrpc\" is missing",
            Self::VersionInvalid => "Invalid request: \"jsonrpc\" must be \"2.0\"",
            Self::IdNull => "Invalid request: \"id\" must not be null",
            Self::IdInvalid => "Invalid request: \"id\" must be a string or an integer",
            Self::IdTooLong => "Invalid request: \"id\" is longer than 256 bytes",
            Self::IdMissing => "Invalid request: a result needs an \"id\"",
            Self::MethodMissing => "Invalid request: \"method\" is missing",
            Self::MethodInvalid => "Invalid request: \"method\" must be a string",
            Self::ParamsInvalid => "Invalid request: \"params\" must be an object",
            Self::KindAmbiguous => "Invalid request: only one of \"method\", \"result\" and \"error\" may be there",
            Self::ErrorInvalid => "Invalid request: \"error\" must be an object",
        }
    }
}

impl From<Broken> for Defect {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Syntax => Self::NotJson,
            Broken::TooDeep => Self::TooDeep,
        }
    }
}

impl From<Broken> for Malformed<'_> {
    fn from(broken: Broken) -> Self {
        Defect::from(broken).into()
    }
}

impl From<Defect> for Malformed<'_> {
    fn from(what: Defect) -> Self {
        Self { what, id: None }
    }
}

/// Reads a message or a batch from bytes that nobody has checked yet.
pub fn parse(bytes: &[u8]) -> Result<Incoming<'_>, Malformed<'_>> {
    parse_str(super::utf8(bytes).ok_or(Defect::InvalidUtf8)?)
}

/// Reads a message or a batch.
///
/// A text that isn't JSON from end to end is refused as a whole, without an id, as JSON-RPC asks. Any
/// other defect comes with the id, wherever in the message that is, if it is a valid one.
pub fn parse_str(text: &str) -> Result<Incoming<'_>, Malformed<'_>> {
    let bytes = text.as_bytes();
    let at = json::skip_space(bytes, 0);
    match bytes.get(at) {
        Some(b'{') => parse_object(text, at, 0).map(Incoming::One),
        Some(b'[') => Batch::check(text, at).map(Incoming::Batch),
        _ => match json::check(text) {
            Ok(()) => Err(Defect::NotAnObject.into()),
            Err(broken) => Err(broken.into()),
        },
    }
}

/// The messages of a batch whose JSON is known to be sound.
///
/// `len` is known at the start, so that a batch may be refused for its size: `[1,1,1,...]` asks for an error each.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    elements: json::Elements<'a>,
    left: usize,
}

impl<'a> Batch<'a> {
    fn check(text: &'a str, at: usize) -> Result<Self, Malformed<'a>> {
        json::check(text)?;
        let elements = json::elements(&text[at..]).ok_or(Defect::NotJson)?;
        match elements.clone().count() {
            0 => Err(Defect::EmptyBatch.into()),
            left => Ok(Self { elements, left }),
        }
    }
}

impl<'a> Iterator for Batch<'a> {
    type Item = Result<Envelope<'a>, Malformed<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let element = self.elements.next()?;
        self.left -= 1;
        Some(if element.starts_with('{') { parse_object(element, 0, 1) } else { Err(Defect::NotAnObject.into()) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Batch<'_> {}

impl<'a> Id<'a> {
    /// An id from raw JSON; the defect says what is wrong with it.
    pub fn from_raw(raw: &'a str) -> Result<Self, Defect> {
        let digits = match raw.as_bytes() {
            [b'-', digits @ ..] | digits => digits,
        };
        match raw.as_bytes() {
            _ if raw.len() > ID_BYTES_MAX => Err(Defect::IdTooLong),
            [b'"', .., b'"'] => Ok(Self(raw)),
            b"null" => Err(Defect::IdNull),
            _ if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => Ok(Self(raw)),
            _ => Err(Defect::IdInvalid),
        }
    }

    /// The JSON text of the id, to be written into the answer as it is.
    pub fn raw(self) -> &'a str {
        self.0
    }
}

impl PartialEq for Id<'_> {
    fn eq(&self, other: &Self) -> bool {
        // Texts that differ can mean the same only where one of them has an escape.
        self.0 == other.0
            || (self.0.contains('\\') || other.0.contains('\\'))
                && json::string(self.0).is_some_and(|value| Some(value) == json::string(other.0))
    }
}

impl Eq for Id<'_> {}

/// Raw values of the members JSON-RPC knows.
#[derive(Default)]
struct Members<'a> {
    version: Option<&'a str>,
    id: Option<&'a str>,
    method: Option<&'a str>,
    params: Option<&'a str>,
    result: Option<&'a str>,
    error: Option<&'a str>,
    duplicate: bool,
    duplicate_id: bool,
}

fn parse_object(text: &str, at: usize, open: u32) -> Result<Envelope<'_>, Malformed<'_>> {
    let (members, end) = scan(text, at, open + 1)?;
    if json::skip_space(text.as_bytes(), end) != text.len() {
        return Err(Defect::NotJson.into());
    }
    members.judge()
}

/// Walks the object that opens at `at` once, to behind its end.
fn scan(text: &str, at: usize, open: u32) -> Result<(Members<'_>, usize), Broken> {
    let bytes = text.as_bytes();
    let mut members = Members::default();
    let mut at = json::skip_space(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok((members, at + 1));
    }
    loop {
        if bytes.get(at) != Some(&b'"') {
            return Err(Broken::Syntax);
        }
        let key_end = json::skip_string(bytes, at + 1)?;
        let from = json::skip_colon(bytes, key_end)?;
        let to = json::skip_value(bytes, from, open)?;
        members.put(&text[at..key_end], &text[from..to]);
        at = json::skip_space(bytes, to);
        match bytes.get(at) {
            Some(b',') => at = json::skip_space(bytes, at + 1),
            Some(b'}') => return Ok((members, at + 1)),
            _ => return Err(Broken::Syntax),
        }
    }
}

impl<'a> Members<'a> {
    #[inline]
    fn put(&mut self, key: &str, value: &'a str) {
        let slot = match key.as_bytes() {
            b"\"jsonrpc\"" => &mut self.version,
            b"\"id\"" => &mut self.id,
            b"\"method\"" => &mut self.method,
            b"\"params\"" => &mut self.params,
            b"\"result\"" => &mut self.result,
            b"\"error\"" => &mut self.error,
            other if other.contains(&b'\\') => return self.put_escaped(key, value),
            _ => return,
        };
        if slot.replace(value).is_some() {
            self.duplicate = true;
            self.duplicate_id |= key == "\"id\"";
        }
    }

    /// A key may spell `id` as `\u0069d`; other parsers would read it as `id`, so do we.
    #[cold]
    fn put_escaped(&mut self, key: &str, value: &'a str) {
        for known in ["jsonrpc", "id", "method", "params", "result", "error"] {
            if json::string(key).is_some_and(|key| key == known) {
                self.put(&format!("\"{known}\""), value);
            }
        }
    }

    /// The envelope, or the first defect.
    #[inline]
    fn judge(self) -> Result<Envelope<'a>, Malformed<'a>> {
        let id = self.id.map(Id::from_raw);
        let known_id = id.and_then(Result::ok).filter(|_| !self.duplicate_id);
        self.kind(id)
            .and_then(|kind| Ok(Envelope { kind, params: self.checked_params()? }))
            .map_err(|what| Malformed { what, id: known_id })
    }

    #[inline]
    fn kind(&self, id: Option<Result<Id<'a>, Defect>>) -> Result<Kind<'a>, Defect> {
        if self.duplicate {
            return Err(Defect::DuplicateMember);
        }
        match self.version {
            Some("\"2.0\"") => {}
            None => return Err(Defect::VersionMissing),
            Some(raw) if json::string(raw).as_deref() == Some("2.0") => {}
            Some(_) => return Err(Defect::VersionInvalid),
        }
        match (self.method, self.result, self.error) {
            (Some(method), None, None) => {
                let id = id.transpose()?;
                let method = json::string(method).ok_or(Defect::MethodInvalid)?;
                Ok(match id {
                    Some(id) => Kind::Request { id, method },
                    None => Kind::Notification { method },
                })
            }
            (None, Some(result), None) => {
                Ok(Kind::Response { id: Some(id.ok_or(Defect::IdMissing)??), result: Some(result), error: None })
            }
            (None, None, Some(error)) => {
                // An error about a request whose id could not be told carries null, or none at all.
                let id = match id {
                    Some(Err(Defect::IdNull)) => None,
                    other => other.transpose()?,
                };
                if !error.starts_with('{') {
                    return Err(Defect::ErrorInvalid);
                }
                Ok(Kind::Response { id, result: None, error: Some(error) })
            }
            (None, None, None) => match id {
                Some(Err(what)) => Err(what),
                _ => Err(Defect::MethodMissing),
            },
            _ => Err(Defect::KindAmbiguous),
        }
    }

    fn checked_params(&self) -> Result<Option<&'a str>, Defect> {
        match self.params {
            None | Some("null") => Ok(None),
            Some(raw) if raw.starts_with(['{', '[']) => Ok(Some(raw)),
            Some(_) => Err(Defect::ParamsInvalid),
        }
    }
}

#[cfg(test)]
mod tests;
