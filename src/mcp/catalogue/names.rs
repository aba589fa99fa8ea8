//! The names by which tools and prompts are shown: unique in the whole catalogue, and the same whatever the order.

use std::borrow::Cow;
use std::collections::HashMap;

use sha1::{Digest, Sha1};

use super::config::Prefix;

/// A tool or prompt before it has a name here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nameless<'o> {
    /// The name of its upstream.
    pub(super) upstream: &'o str,
    /// The server's own name for it; no two of one upstream are the same.
    pub(super) own: &'o str,
}

/// Longest name with several upstreams: what the models' own interfaces take.
const NAME_BYTES_MAX: usize = 64;
/// Longest name with one upstream (spec 2026-07-28 server/tools#tool-names).
const OWN_NAME_CHARS_MAX: usize = 128;
/// Characters of a tag: 50 bits, so that among 100,000 two are the same once in 200,000 catalogues.
const TAG_CHARS: usize = 10;

/// The name of each, in their order.
///
/// With one upstream a name stays what it is, unless no client could use it. With several, those that want the same name
/// all get the upstream's name before it; what then still is not unique, or is too long, or has characters other than
/// `A-Z a-z 0-9 _ -`, gets a tag that depends on the upstream and the own name alone. So which server a name means does
/// not depend on which of them came first.
pub(super) fn name<'o>(all: &[Nameless<'o>], several: bool, prefix: Prefix) -> Vec<Cow<'o, str>> {
    let first: fn(&Nameless<'o>) -> Cow<'o, str> = match (several, prefix) {
        (false, _) => Nameless::alone,
        (true, Prefix::OnCollision) => Nameless::bare,
        (true, Prefix::Always) => Nameless::full,
    };
    let mut names: Vec<_> = all.iter().map(first).collect();
    if several {
        for at in shared(&names) {
            names[at] = all[at].full();
        }
    }
    for attempt in 0..ATTEMPTS {
        let shared = shared(&names);
        if shared.is_empty() {
            break;
        }
        for at in shared {
            // From the second attempt on its place helps: hashes that are the same would stay the same.
            let place = if attempt == 0 { 0 } else { at + 1 };
            names[at] = all[at].tagged(&format!("{}_{}", all[at].upstream, all[at].own), place).into();
        }
    }
    names
}

/// Even the second is never needed but for two hashes that are the same.
const ATTEMPTS: usize = 4;

/// The places of all names that are there more than once.
fn shared(names: &[Cow<'_, str>]) -> Vec<usize> {
    let mut counts: HashMap<&str, u32> = HashMap::with_capacity(names.len());
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    names.iter().enumerate().filter(|(_, name)| counts[&***name] > 1).map(|(at, _)| at).collect()
}

impl<'o> Nameless<'o> {
    fn alone(&self) -> Cow<'o, str> {
        let chars = self.own.chars().take(OWN_NAME_CHARS_MAX + 1).count();
        let usable = (1..=OWN_NAME_CHARS_MAX).contains(&chars) && !self.own.contains(char::is_control);
        if usable { Cow::Borrowed(self.own) } else { self.tagged(self.own, 0).into() }
    }

    fn bare(&self) -> Cow<'o, str> {
        if is_valid(self.own) { Cow::Borrowed(self.own) } else { self.tagged(self.own, 0).into() }
    }

    fn full(&self) -> Cow<'o, str> {
        let full = format!("{}_{}", self.upstream, self.own);
        if is_valid(&full) { full.into() } else { self.tagged(&full, 0).into() }
    }

    /// `name` made valid, and unique by a tag.
    fn tagged(&self, name: &str, place: usize) -> String {
        let kept = name.chars().take(NAME_BYTES_MAX - TAG_CHARS - 1);
        let mut tagged: String = kept.map(|it| if is_allowed(it) { it } else { '_' }).collect();
        tagged.push('_');
        let mut hash = Sha1::new();
        hash.update(self.upstream);
        hash.update("\n");
        hash.update(self.own);
        if place > 0 {
            hash.update(place.to_le_bytes());
        }
        let digest = hash.finalize();
        let bits = digest.iter().take(8).fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
        tagged.extend((0..TAG_CHARS).map(|at| char::from(LETTERS[(bits >> (5 * at)) as usize & 31])));
        tagged
    }
}

const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn is_valid(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_allowed)
}

const fn is_allowed(it: char) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn named(all: &[(&str, &str)], prefix: Prefix) -> Vec<String> {
        let all: Vec<_> = all.iter().map(|&(upstream, own)| Nameless { upstream, own }).collect();
        name(&all, true, prefix).into_iter().map(Cow::into_owned).collect()
    }

    #[test]
    fn one_upstream_keeps_its_names() {
        let own = "admin.tools/list größe";
        let all = [Nameless { upstream: "a", own }, Nameless { upstream: "a", own: "x" }];
        assert_eq!(name(&all, false, Prefix::Always), [own, "x"]);
    }

    #[test]
    fn a_name_that_no_client_could_use_is_made_usable_even_with_one_upstream() {
        let long = "x".repeat(129);
        for own in ["", "a\nb", &long] {
            let [shown] = &name(&[Nameless { upstream: "a", own }], false, Prefix::OnCollision)[..] else { panic!() };
            assert!(is_valid(shown), "{shown}");
        }
    }

    #[test]
    fn only_names_that_collide_get_a_prefix_and_then_all_of_them() {
        let all = [("git", "search"), ("web", "search"), ("web", "fetch")];
        assert_eq!(named(&all, Prefix::OnCollision), ["git_search", "web_search", "fetch"]);
        assert_eq!(named(&all, Prefix::Always), ["git_search", "web_search", "web_fetch"]);
    }

    #[test]
    fn a_prefixed_name_that_is_anothers_own_gets_a_tag() {
        let names = named(&[("a", "b_c"), ("a_b", "c"), ("x", "b_c"), ("y", "c")], Prefix::OnCollision);
        assert!(names[0].starts_with("a_b_c_") && names[1].starts_with("a_b_c_"), "{names:?}");
        assert_ne!(names[0], names[1]);
        assert_eq!(names[2..], ["x_b_c", "y_c"]);
    }

    /// The tags must not change between releases: clients keep names.
    #[test]
    fn a_tag_is_what_it_always_was() {
        assert_eq!(named(&[("a", "x.y"), ("b", "z")], Prefix::OnCollision), ["x_y_e3gtr6c55c", "z"]);
    }

    fn any_offers() -> impl proptest::strategy::Strategy<Value = BTreeSet<(String, String)>> {
        let upstream = "[ab_]{1,3}";
        let own = "[ab_]{0,4}|[ab]{60,70}|.{0,5}|\\PC{120,140}";
        proptest::collection::btree_set((upstream, own), 0..40)
    }

    proptest::proptest! {
        #[test]
        fn names_are_valid_unique_and_the_same_in_any_order(all in any_offers(), always: bool, turn in 0..40_usize) {
            let prefix = if always { Prefix::Always } else { Prefix::OnCollision };
            let mut order: Vec<_> = all.iter().map(|(upstream, own)| (upstream.as_str(), own.as_str())).collect();
            let names = named(&order, prefix);
            for name in &names {
                proptest::prop_assert!(is_valid(name), "{name}");
            }
            proptest::prop_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
            let before: BTreeMap<_, _> = order.iter().copied().zip(names).collect();
            let by = turn.min(order.len());
            order.rotate_left(by);
            let after: BTreeMap<_, _> = order.iter().copied().zip(named(&order, prefix)).collect();
            proptest::prop_assert_eq!(before, after);
        }

        #[test]
        fn another_upstream_changes_no_name_but_those_it_collides_with(all in any_offers()) {
            let mut order: Vec<_> = all.iter().map(|(upstream, own)| (upstream.as_str(), own.as_str())).collect();
            let before = named(&order, Prefix::OnCollision);
            order.push(("elsewhere", "quite-another"));
            let after = named(&order, Prefix::OnCollision);
            proptest::prop_assert_eq!(&before[..], &after[..before.len()]);
        }
    }
}
