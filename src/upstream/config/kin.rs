//! What upstreams say of each other: replicas and fallbacks, checked once all of them are known.

use std::collections::{BTreeMap, BTreeSet};

use super::{Config, Sharing};

/// What is wrong between upstreams, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Estranged {
    /// A name that nobody has.
    #[error("`upstreams.{0}.{1}` names {2:?}, and there is no upstream of that name: name one of `[upstreams]`")]
    Unknown(String, &'static str, String),
    /// It names itself.
    #[error("`upstreams.{0}.{1}` names itself: name another one")]
    Itself(String, &'static str),
    /// A replica of a replica, or a fallback to one.
    #[error("`upstreams.{0}.{1}` names {2:?}, which is a replica itself: name the one that it is a replica of")]
    Replica(String, &'static str, String),
    /// A replica with fallbacks.
    #[error("`upstreams.{0}.fallback` has no meaning for a replica: set it for {1:?}")]
    Idle(String, String),
    /// Named twice.
    #[error("`upstreams.{0}.fallback` names {1:?} twice: leave one of them")]
    Twice(String, String),
    /// Fallbacks that lead back.
    #[error("`upstreams.{0}.fallback` leads back to itself ({1}): leave one of them")]
    Cycle(String, String),
    /// Clients have sessions of their own there, which nobody else can go on with.
    #[error(
        "`upstreams.{0}.{1}` and `sharing = \"per-session\"` of {2:?} exclude each other: nobody can go on with the \
         session of a client elsewhere; leave one of them"
    )]
    PerSession(String, &'static str, String),
}

/// Everything that is wrong between them.
#[must_use]
pub fn check_kin(all: &BTreeMap<String, Config>) -> Vec<Estranged> {
    let mut wrong = Vec::new();
    for (name, config) in all {
        let replica = (!config.replica_of.is_empty()).then_some(("replica_of", &config.replica_of));
        let named = replica.into_iter().chain(config.fallback.iter().map(|other| ("fallback", other)));
        for (knob, other) in named {
            wrong.extend(check_one(all, name, knob, other));
        }
        if replica.is_some() && !config.fallback.is_empty() {
            wrong.push(Estranged::Idle(name.clone(), config.replica_of.clone()));
        }
        let mut seen = BTreeSet::new();
        let twice = config.fallback.iter().find(|other| !seen.insert(*other));
        wrong.extend(twice.map(|other| Estranged::Twice(name.clone(), other.clone())));
        wrong.extend(cycle(all, name));
    }
    wrong
}

fn check_one(all: &BTreeMap<String, Config>, name: &str, knob: &'static str, other: &str) -> Option<Estranged> {
    let (own, named) = (name.to_owned(), other.to_owned());
    let Some(known) = all.get(other) else { return Some(Estranged::Unknown(own, knob, named)) };
    if name == other {
        return Some(Estranged::Itself(own, knob));
    }
    if !known.replica_of.is_empty() {
        return Some(Estranged::Replica(own, knob, named));
    }
    let both = [name, other];
    let private = both.into_iter().find(|it| all.get(*it).is_some_and(|it| it.sharing == Sharing::PerSession));
    private.map(|private| Estranged::PerSession(own, knob, private.to_owned()))
}

/// The way from one of them over fallbacks back to itself; told of the one whose name is the first of all on it.
fn cycle(all: &BTreeMap<String, Config>, name: &str) -> Option<Estranged> {
    let mut ways = vec![vec![name]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        let last = way.last().and_then(|last| all.get(*last))?;
        for next in &last.fallback {
            if next == name && way.len() > 1 {
                let told = way.iter().all(|known| *known >= name);
                return told.then(|| Estranged::Cycle(name.to_owned(), [&way[..], &[name]].concat().join(" -> ")));
            }
            if next != name && all.contains_key(next) && seen.insert(next.as_str()) {
                ways.push([&way[..], &[next.as_str()]].concat());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(file: &str) -> String {
        let all: BTreeMap<String, Config> = toml::from_str(file).expect("knobs");
        check_kin(&all).iter().map(|wrong| format!("{wrong}\n")).collect()
    }

    #[test]
    fn replicas_and_fallbacks_that_fit_are_taken() {
        let file = "[a]\nfallback = [\"c\", \"d\"]\n[b]\nreplica_of = \"a\"\n[c]\nfallback = [\"d\"]\n[d]\n";
        assert_eq!(told(file), "");
    }

    #[test]
    fn everything_that_does_not_fit_is_named() {
        for (file, words) in [
            ("[a]\nreplica_of = \"x\"", "`upstreams.a.replica_of` names \"x\", and there is no"),
            ("[a]\nfallback = [\"x\"]", "`upstreams.a.fallback` names \"x\", and there is no"),
            ("[a]\nreplica_of = \"a\"", "`upstreams.a.replica_of` names itself"),
            ("[a]\nfallback = [\"a\"]", "`upstreams.a.fallback` names itself"),
            ("[a]\nreplica_of = \"b\"\n[b]\nreplica_of = \"c\"\n[c]", "which is a replica itself"),
            ("[a]\nfallback = [\"b\"]\n[b]\nreplica_of = \"c\"\n[c]", "which is a replica itself"),
            ("[a]\nreplica_of = \"b\"\nfallback = [\"c\"]\n[b]\n[c]", "set it for \"b\""),
            ("[a]\nfallback = [\"b\", \"b\"]\n[b]", "names \"b\" twice"),
            ("[a]\nfallback = [\"b\"]\n[b]\nfallback = [\"c\"]\n[c]\nfallback = [\"a\"]", "(a -> b -> c -> a)"),
            ("[a]\nreplica_of = \"b\"\n[b]\nsharing = \"per-session\"", "of \"b\" exclude each other"),
            ("[a]\nfallback = [\"b\"]\nsharing = \"per-session\"\n[b]", "of \"a\" exclude each other"),
        ] {
            let told = told(file);
            assert!(told.contains(words), "{file}: {told}");
            assert_eq!(told.lines().count(), 1, "{file}: {told}");
        }
    }
}
