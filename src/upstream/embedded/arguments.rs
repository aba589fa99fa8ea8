//! Reads the arguments of a tool call; what is wrong with them is said so that a model can mend it.

use std::fmt;

use crate::wire::json;

/// What is wrong with the arguments, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) String);

/// The raw values of the arguments of `tool`, each at most once, and no others.
pub(super) fn take<'a, const N: usize>(
    tool: &str,
    arguments: Option<&'a str>,
    names: [&str; N],
) -> Result<[Option<&'a str>; N], Wrong> {
    let mut taken = [None; N];
    for (key, value) in arguments.and_then(json::members).into_iter().flatten() {
        let Some(place) = names.iter().position(|name| *name == key) else {
            let key = &key[..key.floor_char_boundary(64)];
            return Err(Wrong(match N {
                0 => format!("{tool} takes no arguments; leave out {key:?}"),
                _ => format!("{tool} has no argument {key:?}; it takes {}", names.join(", ")),
            }));
        };
        if taken[place].replace(value).is_some() {
            return Err(Wrong(format!("{tool}: {key} is there twice; give it once")));
        }
    }
    Ok(taken)
}

/// The raw JSON text of a string.
pub(super) fn string<'a>(tool: &str, name: &str, raw: Option<&'a str>) -> Result<&'a str, Wrong> {
    raw.filter(|raw| raw.starts_with('"')).ok_or_else(|| Wrong(format!("{tool} needs {name}, a string")))
}

/// The value of an integer between `least` and `most`; `2.0` and `2e0` are integers in JSON Schema 2020-12.
pub(super) fn integer(tool: &str, name: &str, raw: Option<&str>, least: u64, most: u64) -> Result<u64, Wrong> {
    let read = |raw: &str| raw.parse().ok().or_else(|| whole(raw.parse().ok()?));
    raw.and_then(read)
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| Wrong(format!("{tool} needs {name}, an integer from {least} to {most}")))
}

/// The integer that a float is exactly; beyond 2^53 a float can't tell.
fn whole(value: f64) -> Option<u64> {
    let exact = value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value);
    exact.then_some(value as u64)
}

/// A JSON number: exact while it is an integer of a size that anyone counts in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    pub(super) fn read(tool: &str, name: &str, raw: Option<&str>) -> Result<Self, Wrong> {
        let raw = raw.filter(|raw| raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()));
        let read = |raw: &str| {
            let float = || raw.parse().ok().filter(|value: &f64| value.is_finite()).map(Self::Float);
            raw.parse().ok().map(Self::Integer).or_else(float)
        };
        raw.and_then(read).ok_or_else(|| Wrong(format!("{tool} needs {name}, a number that fits a 64-bit float")))
    }

    /// The sum; `None` if it is too large for a float.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) if a.checked_add(b).is_some() => a.checked_add(b).map(Self::Integer),
            (a, b) => Some(a.float() + b.float()).filter(|sum| sum.is_finite()).map(Self::Float),
        }
    }

    fn float(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

/// As a JSON number.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            // The debug form is the shortest that reads back the same, and is JSON for every finite float.
            Self::Float(value) => write!(f, "{value:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_taken_by_name_once_and_no_others() {
        assert_eq!(take("t", Some(r#"{"b":1,"a":"x"}"#), ["a", "b"]), Ok([Some("\"x\""), Some("1")]));
        assert_eq!(take("t", None, ["a"]), Ok([None]));
        let wrong = |text, names: [&str; 2]| take("t", Some(text), names).unwrap_err().0;
        assert_eq!(wrong(r#"{"c":1}"#, ["a", "b"]), r#"t has no argument "c"; it takes a, b"#);
        assert_eq!(wrong(r#"{"a":1,"a":1}"#, ["a", "b"]), "t: a is there twice; give it once");
        assert!(take("t", Some(r#"{"c":1}"#), []).unwrap_err().0.contains("no arguments"));
    }

    #[test]
    fn integers_are_read_as_json_schema_counts_them_and_bounded() {
        let read = |raw: &str| integer("t", "n", Some(raw), 1, 1000).ok();
        assert_eq!([read("7"), read("7.0"), read("1e3"), read("1000")], [Some(7), Some(7), Some(1000), Some(1000)]);
        for raw in ["0", "1001", "-1", "7.5", "\"7\"", "null", "1e999", "18446744073709551616"] {
            assert_eq!(read(raw), None, "{raw}");
        }
        assert_eq!(integer("t", "n", None, 1, 9).unwrap_err().0, "t needs n, an integer from 1 to 9");
    }

    #[test]
    fn numbers_add_exactly_while_they_are_integers_and_stay_json_always() {
        let number = |raw: &str| Number::read("t", "n", Some(raw)).unwrap();
        let sum = |a: &str, b: &str| number(a).plus(number(b)).map(|sum| sum.to_string());
        assert_eq!(sum("9007199254740993", "1").unwrap(), "9007199254740994");
        assert_eq!(sum("0.5", "1").unwrap(), "1.5");
        assert_eq!(sum("1e300", "1").unwrap(), "1e300");
        assert_eq!(sum("1.5e308", "1.5e308"), None);
        let vast = i128::MAX.to_string();
        assert_eq!(sum(&vast, &vast).unwrap(), "3.402823669209385e38");
        for raw in ["\"1\"", "true", "1e999", "null", "[1]"] {
            assert!(Number::read("t", "n", Some(raw)).is_err(), "{raw}");
        }
    }
}
