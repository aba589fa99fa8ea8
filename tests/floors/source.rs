//! Reads Rust source just well enough to know which paths it names: comments and text are skipped, groups expanded.

/// A word, or one mark of punctuation (`::` is one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    /// Counted from 1.
    pub(super) line: usize,
}

/// A path as the source names it, groups expanded: `use a::{b, c::d}` names `a::b` and `a::c::d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// The inline modules around it, outermost first.
    pub(super) inside: Vec<String>,
    /// Whether it stands in a module under `#[cfg(test)]`.
    pub(super) in_test: bool,
}

/// Every token that is neither comment nor literal text.
pub(super) fn tokens(source: &str) -> Vec<Token> {
    let mut scanner = Scanner { rest: source, line: 1 };
    let mut found = Vec::new();
    while let Some(token) = scanner.next_token() {
        found.push(token);
    }
    found
}

struct Scanner<'s> {
    rest: &'s str,
    line: usize,
}

impl Scanner<'_> {
    fn next_token(&mut self) -> Option<Token> {
        loop {
            let first = self.rest.chars().next()?;
            let skipped = self.length_to_skip(first);
            if skipped > 0 {
                self.skip(skipped);
                continue;
            }
            let length = match first {
                _ if is_word(first) => self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len()),
                ':' if self.rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            let token = Token { text: self.rest[..length].to_owned(), line: self.line };
            self.skip(length);
            return Some(token);
        }
    }

    /// The length of the blank, comment or literal that starts here; 0 when something else does.
    fn length_to_skip(&self, first: char) -> usize {
        let rest = self.rest;
        if first.is_whitespace() {
            return first.len_utf8();
        }
        if rest.starts_with("//") {
            return rest.find('\n').unwrap_or(rest.len());
        }
        if rest.starts_with("/*") {
            return block_comment(rest);
        }
        if let Some(length) = raw_text(rest) {
            return length;
        }
        match first {
            '"' => quoted(rest, '"'),
            'b' | 'c' if rest[1..].starts_with('"') => 1 + quoted(&rest[1..], '"'),
            'b' if rest[1..].starts_with('\'') => 1 + quoted(&rest[1..], '\''),
            '\'' => character_or_lifetime(rest),
            _ => 0,
        }
    }

    fn skip(&mut self, length: usize) {
        let (skipped, rest) = self.rest.split_at(length);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// `r"..."`, `r#"..."#`, `br"..."`, `cr"..."`; `None` where no raw text starts (`r#ident` is none).
fn raw_text(rest: &str) -> Option<usize> {
    let marks = rest.trim_start_matches(['b', 'c']).strip_prefix('r')?;
    let prefix = rest.len() - marks.len();
    let hashes = marks.len() - marks.trim_start_matches('#').len();
    let body = marks[hashes..].strip_prefix('"').filter(|_| prefix <= 2)?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(prefix + hashes + 1 + length)
}

/// Text from its opening quote to its closing one, escapes passed over.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// `'x'` and `'\n'` are characters, `'x` is a lifetime: only its quote is skipped.
fn character_or_lifetime(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(rest, '\''),
        _ => 1,
    }
}

/// Every path of two or more segments, and every path imported.
pub(super) fn paths(tokens: &[Token]) -> Vec<NamedPath> {
    let mut found = Vec::new();
    let mut modules: Vec<(String, usize, bool)> = Vec::new();
    let (mut depth, mut at) = (0_usize, 0);
    while at < tokens.len() {
        let word = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text.as_str());
        match word(0) {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                modules.retain(|(_, outside, _)| *outside < depth);
            }
            "mod" if word(2) == "{" => {
                modules.push((word(1).to_owned(), depth, follows_cfg_test(&tokens[..at])));
            }
            _ if starts_path(tokens, at) => {
                let mut expanded = Vec::new();
                let end = expand(tokens, at, &[], &mut expanded);
                found.extend(expanded.into_iter().map(|(segments, line)| NamedPath {
                    segments,
                    line,
                    inside: modules.iter().map(|(name, ..)| name.clone()).collect(),
                    in_test: modules.iter().any(|(_, _, test)| *test),
                }));
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn follows_cfg_test(before: &[Token]) -> bool {
    let end: Vec<&str> = before.iter().rev().take(40).map(|token| token.text.as_str()).collect();
    let attribute = ["]", ")", "test", "(", "cfg", "[", "#"];
    let nearest_item = end.iter().position(|&text| text == ";" || text == "}").unwrap_or(end.len());
    end[..nearest_item].windows(attribute.len()).any(|window| window == attribute)
}

/// A word that continues no path, and that a path continues or `use` imports.
fn starts_path(tokens: &[Token], at: usize) -> bool {
    let text = |index: Option<usize>| index.and_then(|index| tokens.get(index)).map_or("", |token| token.text.as_str());
    let back = |by: usize| text(at.checked_sub(by));
    let continues = match back(1) {
        "." => true,
        "::" => back(2) == ">" || (back(2).chars().any(is_word) && !KEYWORDS.contains(&back(2))),
        _ => false,
    };
    let word = text(Some(at));
    let starts = word.chars().any(is_word) && !KEYWORDS.contains(&word) && !continues;
    let leading = usize::from(back(1) == "::");
    starts && (text(Some(at + 1)) == "::" || imports(back(1 + leading), back(2 + leading)))
}

/// `use x`, `use ::x` and `extern crate x` name a path even of one segment.
fn imports(before: &str, earlier: &str) -> bool {
    before == "use" || (before == "crate" && earlier == "extern")
}

/// Words before a leading `::` that it does not continue.
const KEYWORDS: [&str; 14] =
    ["use", "return", "in", "as", "impl", "dyn", "for", "else", "match", "if", "mut", "where", "break", "move"];

/// Follows the path at `at` below `prefix`; returns where it ended. Generic arguments end a path and are read on their own.
fn expand(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<(Vec<String>, usize)>) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens[at].line;
    loop {
        match tokens.get(at).map(|token| token.text.as_str()) {
            Some("{") => return expand_group(tokens, at + 1, &segments, found),
            Some(text @ ("*" | "self")) if segments.len() > prefix.len() || !prefix.is_empty() => {
                if text == "*" {
                    segments.push("*".to_owned());
                }
                at += 1;
            }
            Some(text) if text.chars().all(is_word) => {
                segments.push(text.to_owned());
                at += 1;
            }
            _ => break,
        }
        match tokens.get(at).map(|token| token.text.as_str()) {
            Some("::") => at += 1,
            _ => break,
        }
    }
    found.push((segments, line));
    at
}

fn expand_group(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<(Vec<String>, usize)>) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "}" => return at + 1,
            "," | "::" => at += 1,
            "as" => at += 2,
            _ => {
                let end = expand(tokens, at, prefix, found);
                at = end.max(at + 1);
            }
        }
    }
    at
}
