//! Scans strict JSON text (RFC 8259) where it lies: no recursion, no allocation, a limit on depth.
//!
//! An escaped lone surrogate (`"\ud800"`) is well-formed by the grammar of RFC 8259 and passes the scanner, as bodies
//! are handed on byte by byte; [`string`] decodes it as U+FFFD.

use std::borrow::Cow;

/// Most arrays and objects that may be open at once; as deep as serde_json and most parsers behind us go.
pub const DEPTH_MAX: u32 = 128;

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// It is not JSON.
    Syntax,
    /// It opens more than [`DEPTH_MAX`] arrays and objects.
    TooDeep,
}

/// A member that may be there once is there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate;

/// Checks that `text` is one JSON value, with nothing but whitespace around it.
pub fn check(text: &str) -> Result<(), Broken> {
    let bytes = text.as_bytes();
    let end = skip_value(bytes, skip_space(bytes, 0), 0)?;
    if skip_space(bytes, end) == bytes.len() { Ok(()) } else { Err(Broken::Syntax) }
}

/// The members of an object in the order of the text: the decoded key and the raw value. `None` if it is no object.
///
/// `object` should be text that was checked before (a span out of an envelope); if it wasn't, the members end where
/// the JSON does.
pub fn members(object: &str) -> Option<Members<'_>> {
    inside(object, b'{').map(|at| Members { text: object, at })
}

/// The members of an object that has lost its braces; otherwise as [`members`].
pub fn members_inside(inside: &str) -> Members<'_> {
    Members { text: inside, at: skip_space(inside.as_bytes(), 0) }
}

/// The elements of an array, raw; otherwise as [`members`].
pub fn elements(array: &str) -> Option<Elements<'_>> {
    inside(array, b'[').map(|at| Elements { text: array, at })
}

/// The raw values of the named members of an object, in one pass; all `None` if it is no object.
///
/// A named member that is there twice is refused: parsers disagree on which of the two counts.
pub fn pick<'a, const N: usize>(object: &'a str, names: [&str; N]) -> Result<[Option<&'a str>; N], Duplicate> {
    let mut found = [None; N];
    for (key, value) in members(object).into_iter().flatten() {
        if let Some(slot) = names.iter().position(|name| *name == key)
            && found[slot].replace(value).is_some()
        {
            return Err(Duplicate);
        }
    }
    Ok(found)
}

/// Decodes a raw string, quotes included; borrowed unless it has escapes. `None` if it is no string.
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    // A pattern, as `strip_prefix` of one character is a call of memcmp: a tenth of a ping's time.
    let [b'"', .., b'"'] = raw.as_bytes() else { return None };
    let inner = &raw[1..raw.len() - 1];
    if plain_end(inner.as_bytes(), 0) == inner.len() {
        return Some(Cow::Borrowed(inner));
    }
    let whole = skip_any_string(raw.as_bytes(), 1) == Ok(raw.len());
    whole.then(|| unescape(inner).map(Cow::Owned)).flatten()
}

/// Appends `text` as a JSON string, quotes included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut from = 0;
    loop {
        let to = plain_end(bytes, from);
        out.extend_from_slice(&bytes[from..to]);
        let Some(&special) = bytes.get(to) else { break };
        match special {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', special]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(special >> 4)], HEX[usize::from(special & 15)]]);
            }
        }
        from = to + 1;
    }
    out.push(b'"');
}

/// Appends a raw value without the space between its tokens: one line, and the same for all who write the same.
pub fn write_compact(out: &mut Vec<u8>, raw: &str) {
    let bytes = raw.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let to = if byte == b'"' { skip_any_string(bytes, at + 1).unwrap_or(bytes.len()) } else { at + 1 };
        if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            out.extend_from_slice(&bytes[at..to]);
        }
        at = to;
    }
}

/// What [`members`] gives.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        let key_from = self.at;
        let key_to = skip_string(bytes, key_from + usize::from(bytes.get(key_from) == Some(&b'"'))).ok()?;
        let from = skip_colon(bytes, key_to).ok()?;
        let to = skip_value(bytes, from, 0).ok()?;
        self.at = after_comma(bytes, to);
        Some((string(self.text.get(key_from..key_to)?)?, self.text.get(from..to)?))
    }
}

/// What [`elements`] gives.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        let (from, to) = (self.at, skip_value(bytes, self.at, 0).ok()?);
        self.at = after_comma(bytes, to);
        self.text.get(from..to)
    }
}

/// Where the first member or element begins, if the text opens with `bracket`.
fn inside(text: &str, bracket: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let at = skip_space(bytes, 0);
    (bytes.get(at) == Some(&bracket)).then(|| skip_space(bytes, at + 1))
}

/// Where the next member or element begins; the end of the text if there is none.
fn after_comma(bytes: &[u8], at: usize) -> usize {
    let at = skip_space(bytes, at);
    if bytes.get(at) == Some(&b',') { skip_space(bytes, at + 1) } else { bytes.len() }
}

/// The first byte from `at` on that is no whitespace.
#[inline]
pub(crate) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The end of the value that begins at `at`, with `open` arrays and objects already open around it.
#[inline]
pub(crate) fn skip_value(bytes: &[u8], at: usize, open: u32) -> Result<usize, Broken> {
    match bytes.get(at) {
        Some(b'"') => skip_string(bytes, at + 1),
        Some(b'{' | b'[') => skip_nested(bytes, at, open),
        _ => skip_scalar(bytes, at),
    }
}

/// The end of the string whose first byte inside the quotes is at `at`; the closing quote is skipped too.
#[inline]
pub(crate) fn skip_string(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    // Most keys end within eight bytes.
    if let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*chunk);
        let bit = specials(word).trailing_zeros();
        if bit < 64 && (word >> (bit - 7)) as u8 == b'"' {
            return Ok(at + (bit / 8) as usize + 1);
        }
    }
    skip_any_string(bytes, at)
}

fn skip_any_string(bytes: &[u8], mut at: usize) -> Result<usize, Broken> {
    loop {
        at = plain_end(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = skip_escape(bytes, at + 1)?,
            _ => return Err(Broken::Syntax),
        }
    }
}

/// The first byte of the value behind the colon that follows a key ending at `at`.
#[inline]
pub(crate) fn skip_colon(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    let at = skip_space(bytes, at);
    if bytes.get(at) == Some(&b':') { Ok(skip_space(bytes, at + 1)) } else { Err(Broken::Syntax) }
}

/// The end of an array or object. Which of both each level is, is one bit of `objects`: no stack to overflow.
fn skip_nested(bytes: &[u8], mut at: usize, open: u32) -> Result<usize, Broken> {
    let (mut objects, mut depth) = (0_u128, 0);
    loop {
        match bytes.get(at) {
            Some(&bracket @ (b'{' | b'[')) => {
                depth += 1;
                if open + depth > DEPTH_MAX {
                    return Err(Broken::TooDeep);
                }
                let object = bracket == b'{';
                objects = objects << 1 | u128::from(object);
                at = skip_space(bytes, at + 1);
                match bytes.get(at) {
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ if object => {
                        at = skip_key(bytes, at)?;
                        continue;
                    }
                    _ => continue,
                }
            }
            Some(b'"') => at = skip_string(bytes, at + 1)?,
            _ => at = skip_scalar(bytes, at)?,
        }
        loop {
            at = skip_space(bytes, at);
            let object = objects & 1 == 1;
            match bytes.get(at) {
                Some(b',') if object => {
                    at = skip_key(bytes, skip_space(bytes, at + 1))?;
                    break;
                }
                Some(b',') => {
                    at = skip_space(bytes, at + 1);
                    break;
                }
                Some(b'}') if object => {}
                Some(b']') if !object => {}
                _ => return Err(Broken::Syntax),
            }
            at += 1;
            depth -= 1;
            if depth == 0 {
                return Ok(at);
            }
            objects >>= 1;
        }
    }
}

/// The first byte of the value whose key begins at `at`.
#[inline]
fn skip_key(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    if bytes.get(at) != Some(&b'"') {
        return Err(Broken::Syntax);
    }
    skip_colon(bytes, skip_string(bytes, at + 1)?)
}

/// The end of an escape whose first byte behind the backslash is at `at`.
fn skip_escape(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    match bytes.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
        Some(b'u') => match bytes.get(at + 1..at + 5) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(at + 5),
            _ => Err(Broken::Syntax),
        },
        _ => Err(Broken::Syntax),
    }
}

#[inline]
fn skip_scalar(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    let word: &[u8] = match bytes.get(at) {
        Some(b'-' | b'0'..=b'9') => return skip_number(bytes, at),
        Some(b't') => b"true",
        Some(b'f') => b"false",
        Some(b'n') => b"null",
        _ => return Err(Broken::Syntax),
    };
    if bytes[at..].starts_with(word) { Ok(at + word.len()) } else { Err(Broken::Syntax) }
}

#[inline]
fn skip_number(bytes: &[u8], mut at: usize) -> Result<usize, Broken> {
    at += usize::from(bytes.get(at) == Some(&b'-'));
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        _ => skip_digits(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = skip_digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        at = skip_digits(bytes, at)?;
    }
    Ok(at)
}

/// The end of one or more digits.
#[inline]
fn skip_digits(bytes: &[u8], from: usize) -> Result<usize, Broken> {
    let mut at = from;
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    if at > from { Ok(at) } else { Err(Broken::Syntax) }
}

/// The next quote, backslash or control character from `at` on, or the end.
///
/// Eight bytes at a time first, as most strings are short; then blocks that the compiler turns into vectors.
#[inline]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    for _ in 0..4 {
        match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(chunk) => match specials(u64::from_le_bytes(*chunk)) {
                0 => at += 8,
                hits => return at + (hits.trailing_zeros() / 8) as usize,
            },
            None => return plain_tail(bytes, at),
        }
    }
    plain_blocks(bytes, at)
}

fn plain_blocks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<32>()) {
        if block.iter().fold(false, |dirty, &byte| dirty | is_special(byte)) {
            break;
        }
        at += 32;
    }
    plain_tail(bytes, at)
}

fn plain_tail(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

#[inline]
fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// The high bit of each byte that is special; exact up to the lowest one (a borrow can only mark bytes above it).
#[inline]
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let (quote, backslash) = (word ^ (ONES * 0x22), word ^ (ONES * 0x5c));
    let quotes = quote.wrapping_sub(ONES) & !quote;
    let backslashes = backslash.wrapping_sub(ONES) & !backslash;
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | backslashes | controls) & (ONES << 7)
}

/// Decodes the inside of a string that [`skip_string`] has passed.
fn unescape(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let kind = escape.chars().next()?;
        rest = &escape[kind.len_utf8()..];
        text.push(match kind {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = unit(rest)?;
                rest = rest.get(4..)?;
                match rest.strip_prefix("\\u").and_then(unit).and_then(|low| pair(high, low)) {
                    Some(joined) => {
                        rest = rest.get(6..)?;
                        joined
                    }
                    None => char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            same => same,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// The four hexadecimal digits at the start of `text`.
fn unit(text: &str) -> Option<u32> {
    u32::from_str_radix(text.get(..4)?, 16).ok()
}

/// The character of a surrogate pair.
fn pair(high: u32, low: u32) -> Option<char> {
    let is_pair = (0xd800..0xdc00).contains(&high) && (0xdc00..0xe000).contains(&low);
    is_pair.then(|| 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).and_then(char::from_u32)
}

#[cfg(test)]
mod tests;
