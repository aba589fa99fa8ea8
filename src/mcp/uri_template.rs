//! Whether a URI may have been made from a URI template (RFC 6570): as far as a router needs it, in bounded time.

/// A template, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UriTemplate {
    pieces: Box<[Piece]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Expression(Expression),
}

/// What an expression can become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expression {
    /// How each expansion begins, if it is not empty (RFC 6570 appendix A, `first`).
    first: Option<u8>,
    /// Whether it may be empty: one with an operator is where its variables are undefined. One without is not, as the
    /// MCP SDKs have it, though RFC 6570 would allow it: `users/` is rather a resource of its own than no user.
    may_be_empty: bool,
    /// Whether it goes across a slash.
    slashes: bool,
}

/// Most expressions of a template that is matched at all.
const EXPRESSIONS_MAX: usize = 16;

/// Steps that matching a URI with all templates of a catalogue may take together: well under a millisecond.
pub const STEPS: u32 = 100_000;

impl UriTemplate {
    /// Takes a template apart. `None` if it is none (RFC 6570 section 3: braces that do not fit, a reserved operator) or
    /// has more than 16 expressions.
    ///
    /// Of a variable's name only what follows it matters: `*`, which lists explode with (level 4), goes across slashes, as
    /// servers use it for paths; a prefix like `:3` is not checked.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut expressions = 0;
        while !rest.is_empty() {
            let (literal, behind) = rest.split_once('{').unwrap_or((rest, ""));
            if literal.contains('}') {
                return None;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.into()));
            }
            if literal.len() == rest.len() {
                break;
            }
            let (expression, behind) = behind.split_once('}')?;
            pieces.push(Piece::Expression(Expression::parse(expression)?));
            expressions += 1;
            if expressions > EXPRESSIONS_MAX {
                return None;
            }
            rest = behind;
        }
        Some(Self { pieces: pieces.into() })
    }

    /// What every URI made from it begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Literal(literal)) => literal,
            _ => "",
        }
    }

    /// Whether `uri` may have been made from it. Takes its steps out of `steps`, and gives up, as if it were not, when none
    /// are left.
    #[must_use]
    pub fn matches(&self, uri: &str, steps: &mut u32) -> bool {
        fits(&self.pieces, uri.as_bytes(), steps)
    }
}

impl Expression {
    fn parse(text: &str) -> Option<Self> {
        let (operator, names) = match text.as_bytes().first()? {
            operator @ (b'+' | b'#' | b'.' | b'/' | b';' | b'?' | b'&') => (Some(*operator), &text[1..]),
            b'=' | b',' | b'!' | b'@' | b'|' => return None,
            _ => (None, text),
        };
        if names.split(',').any(|name| name.is_empty() || name.contains('{')) {
            return None;
        }
        let exploded = names.contains('*');
        Some(Self {
            first: operator.filter(|&it| it != b'+'),
            may_be_empty: !matches!(operator, None | Some(b'+')),
            slashes: match operator {
                Some(b'+' | b'#' | b'?' | b'&') => true,
                // Each variable has a segment of its own.
                Some(b'/') => exploded || names.contains(','),
                _ => exploded,
            },
        })
    }
}

/// Whether the pieces make up the whole text: at each expression the shortest way first, and back from where it leads
/// nowhere. The depth is at most that of the pieces.
fn fits(pieces: &[Piece], text: &[u8], steps: &mut u32) -> bool {
    let Some(left) = steps.checked_sub(1) else { return false };
    *steps = left;
    match pieces {
        [] => text.is_empty(),
        [Piece::Literal(literal), rest @ ..] => {
            text.strip_prefix(literal.as_bytes()).is_some_and(|text| fits(rest, text, steps))
        }
        [Piece::Expression(expression), rest @ ..] => {
            if expression.may_be_empty && fits(rest, text, steps) {
                return true;
            }
            let Some(&first) = text.first() else { return false };
            if expression.first.is_some_and(|wanted| wanted != first) {
                return false;
            }
            let from = usize::from(expression.first.is_some());
            let reach = match memchr::memchr(b'/', &text[from..]) {
                Some(slash) if !expression.slashes => from + slash,
                _ => text.len(),
            };
            // The last one takes all there is.
            if rest.is_empty() {
                return reach == text.len();
            }
            (1..=reach).any(|to| fits(rest, &text[to..], steps))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(template: &str, uri: &str) -> bool {
        UriTemplate::parse(template).expect(template).matches(uri, &mut STEPS.clone())
    }

    /// RFC 6570 section 1.2 (levels 1 to 3) and 3.2.
    #[test]
    fn expansions_of_a_template_match_it() {
        for (template, uri) in [
            ("test://{id}/data", "test://7/data"),
            ("test://{id}/data", "test://a%2Fb/data"),
            ("map?{x,y}", "map?1024,768"),
            ("file:///{+path}", "file:///a/b/c.txt"),
            ("X{#var}", "X#value"),
            ("X{#x,hello,y}", "X#1024,Hello%20World!,768"),
            ("X{.var}", "X.value"),
            ("X{.x,y}", "X.1024.768"),
            ("{/var}", "/value"),
            ("{/var,x}/here", "/value/1024/here"),
            ("x{;x,y}", "x;x=1024;y=768"),
            ("x{?x,y,empty}", "x?x=1024&y=768&empty="),
            ("?fixed=yes{&x}", "?fixed=yes&x=1024"),
            ("db://{table}/{id}{?limit}", "db://t/7"),
            ("db://{table}/{id}{?limit}", "db://t/7?limit=5"),
            ("files:{path*}", "files:a/b/c"),
            ("a:{x}-{y}-z", "a:1-2-3-z"),
            ("plain:uri", "plain:uri"),
        ] {
            assert!(matches(template, uri), "{template} {uri}");
        }
    }

    #[test]
    fn other_uris_do_not() {
        for (template, uri) in [
            ("test://{id}/data", "test:///data"),
            ("test://{id}/data", "test://7/8/data"),
            ("test://{id}/data", "test://7/data/more"),
            ("test://{id}", "other://7"),
            ("X{.var}", "Xvalue"),
            ("X{#var}", "X?value"),
            ("{/var}", "/a/b"),
            ("plain:uri", "plain:uri/more"),
            ("a:{x}", "a:"),
        ] {
            assert!(!matches(template, uri), "{template} {uri}");
        }
    }

    #[test]
    fn what_is_no_template_is_not_taken_for_one() {
        for text in ["a:{", "a:}", "a:{x", "a:{{x}}", "a:{}", "a:{x,}", "a:{=x}", "a:{|x}", &"{x}".repeat(17)] {
            assert_eq!(UriTemplate::parse(text), None, "{text}");
        }
    }

    /// As with regular expressions: tries multiply with each expression.
    #[test]
    fn a_template_made_to_take_long_is_given_up_on() {
        let template = UriTemplate::parse(&format!("a:{}b", "{x}".repeat(16))).unwrap();
        let uri = format!("a:{}", "a".repeat(8000));
        let mut steps = STEPS;
        assert!(!template.matches(&uri, &mut steps));
        assert_eq!(steps, 0);
    }

    #[test]
    fn the_prefix_is_what_no_variable_changes() {
        assert_eq!(UriTemplate::parse("db://host/{x}/y").unwrap().prefix(), "db://host/");
        assert_eq!(UriTemplate::parse("{x}").unwrap().prefix(), "");
    }

    proptest::proptest! {
        #[test]
        fn nothing_breaks_it(template in "[a:/{}?+,*]{0,30}|.{0,20}", uri in "[a:/?]{0,40}|.{0,20}") {
            if let Some(template) = UriTemplate::parse(&template) {
                let _ = template.matches(&uri, &mut STEPS.clone());
            }
        }

        #[test]
        fn a_template_matches_what_it_was_filled_with(
            pieces in proptest::collection::vec(("[a-z:/]{0,5}", "[a-z0-9%.~]{1,8}"), 1..6),
        ) {
            let template: String = pieces.iter().map(|(literal, _)| format!("{literal}{{v}}")).collect();
            let uri: String = pieces.iter().map(|(literal, value)| format!("{literal}{value}")).collect();
            proptest::prop_assert!(matches(&template, &uri), "{} {}", template, uri);
        }
    }
}
