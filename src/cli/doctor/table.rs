//! A table of things looked at: what each is, what it should be, and what to do about it.

use std::io::{self, Write};

/// How a line ends: only [`Verdict::Change`] makes the host unfit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The host has what is needed.
    Ok,
    /// It will work, though not at its best under load.
    Advice,
    /// The connections do not fit before this is changed.
    Change,
    /// The host does not say.
    Unknown,
}

/// One thing looked at.
pub(super) struct Line {
    pub(super) verdict: Verdict,
    pub(super) item: &'static str,
    pub(super) is: String,
    pub(super) needs: String,
    /// What to do about it; empty where there is nothing to do.
    pub(super) remedy: String,
}

/// Writes the lines in columns, and below each what to do.
pub(super) fn write(lines: &[Line], out: &mut impl Write) -> io::Result<()> {
    let width = |of: fn(&Line) -> usize, head: &str| lines.iter().map(of).max().unwrap_or(0).max(head.len());
    let item = width(|line| line.item.len(), "what");
    let is = width(|line| line.is.len(), "is");
    writeln!(out, "{:8}{:item$}  {:is$}  needs", "", "what", "is")?;
    for line in lines {
        let verdict = match line.verdict {
            Verdict::Ok => "ok",
            Verdict::Advice => "advice",
            Verdict::Change => "CHANGE",
            Verdict::Unknown => "unknown",
        };
        let known = if line.is.is_empty() { "-" } else { &line.is };
        writeln!(out, "{verdict:8}{:item$}  {known:is$}  {}", line.item, line.needs)?;
        if !line.remedy.is_empty() {
            writeln!(out, "{:8}-> {}", "", line.remedy)?;
        }
    }
    writeln!(out)
}

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Mebibytes, rounded up.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", count(bytes.div_ceil(1 << 20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(verdict: Verdict, is: &str, remedy: &str) -> Line {
        let (item, needs) = ("a.knob", "10,000".to_owned());
        Line { verdict, item, is: is.to_owned(), needs, remedy: remedy.to_owned() }
    }

    #[test]
    fn columns_are_aligned_and_remedies_stand_below() {
        let lines = [
            line(Verdict::Change, "9,999", "sysctl -w a.knob=10000"),
            line(Verdict::Ok, "4096 131072 33554432", ""),
            line(Verdict::Unknown, "", ""),
        ];
        let mut out = Vec::new();
        write(&lines, &mut out).expect("a vector takes everything");
        let expected = "what    is                    needs
CHANGE  a.knob  9,999                 10,000
        -> sysctl -w a.knob=10000
ok      a.knob  4096 131072 33554432  10,000
unknown a.knob  -                     10,000
";
        assert_eq!(String::from_utf8(out).expect("text").trim(), expected.trim());
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
