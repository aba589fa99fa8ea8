//! What people are told: what has become worse or better, each thing not more often than they can bear.

use std::time::Duration;

use serde::Serialize;

/// Something that has become worse, or better again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct News {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// What it is about: a resource, a vital figure, or an alarm of the profiler.
    pub about: Topic,
    /// Its name, and that of its upstream behind it where each has its own.
    pub name: String,
    /// Worse, or better.
    pub is_worse: bool,
    /// How bad it is now: 0 is well.
    pub level: usize,
    /// The figure, in its own unit. Nothing if it can't be told any more.
    pub value: Option<f64>,
    /// The limit that it is held against.
    pub limit: f64,
    /// The same as a sentence.
    pub text: String,
}

/// What kind of thing is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// How full a resource is: its level is its zone.
    Zone,
    /// A vital figure, by the levels of `[alarms]`.
    Vital,
    /// An alarm of the profiler, by `[monitor]`.
    Profile,
}

/// What was told last of each thing.
pub(super) struct Telling {
    cooldown: Duration,
    known: Vec<Known>,
}

struct Known {
    about: Topic,
    name: String,
    /// What people believe.
    level: usize,
    /// When they were told last that it had become worse, and how bad it was.
    worse: Option<(Duration, usize)>,
    /// Whether it was looked at this time.
    is_there: bool,
}

impl Telling {
    pub(super) const fn new(cooldown: Duration) -> Self {
        Self { cooldown, known: Vec::new() }
    }

    /// Another cooldown is in force.
    pub(super) const fn follow(&mut self, cooldown: Duration) {
        self.cooldown = cooldown;
    }

    /// Whether to tell that this thing is at that level now, and if so, whether that is worse than before.
    ///
    /// What has become worse is told at once, unless the same, or worse, was told within the cooldown; then it is told
    /// after that, if it is still so. What has become better is told if the worse was.
    pub(super) fn look(&mut self, now: Duration, about: Topic, name: &str, level: usize) -> Option<bool> {
        let cooldown = self.cooldown;
        let at = self.known.iter().position(|known| known.about == about && known.name == name);
        let known = match at {
            Some(at) => &mut self.known[at],
            // Nothing to remember of what was always well.
            None if level == 0 => return None,
            None => {
                let name = name.to_owned();
                self.known.push(Known { about, name, level: 0, worse: None, is_there: true });
                self.known.last_mut()?
            }
        };
        known.is_there = true;
        let is_worse = level > known.level;
        let is_known = |(told, as_bad): (Duration, usize)| level <= as_bad && now < told + cooldown;
        if level == known.level || is_worse && known.worse.is_some_and(is_known) {
            return None;
        }
        known.level = level;
        if is_worse {
            known.worse = Some((now, level));
        }
        Some(is_worse)
    }

    /// Forgets what was not looked at since the last time: it is gone.
    pub(super) fn forget_others(&mut self) {
        self.known.retain_mut(|known| std::mem::take(&mut known.is_there));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(levels: impl IntoIterator<Item = usize>) -> Vec<(u64, usize, bool)> {
        let mut telling = Telling::new(Duration::from_secs(10));
        let mut told = Vec::new();
        for (second, level) in levels.into_iter().enumerate() {
            let worse = telling.look(Duration::from_secs(second as u64), Topic::Vital, "cpu", level);
            told.extend(worse.map(|worse| (second as u64, level, worse)));
        }
        told
    }

    #[test]
    fn what_comes_back_is_told_again_after_the_cooldown_only() {
        assert_eq!(told([0, 1, 0, 1, 0, 1, 0]), [(1, 1, true), (2, 0, false)]);
        let stays = [0, 1, 0].into_iter().chain([1; 12]);
        assert_eq!(told(stays), [(1, 1, true), (2, 0, false), (11, 1, true)]);
    }

    #[test]
    fn what_becomes_worse_than_it_was_is_told_at_once() {
        assert_eq!(told([1, 2, 1, 2, 3]), [(0, 1, true), (1, 2, true), (2, 1, false), (4, 3, true)]);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut telling = Telling::new(Duration::from_secs(10));
        assert_eq!(telling.look(Duration::ZERO, Topic::Zone, "gone", 1), Some(true));
        telling.forget_others();
        telling.forget_others();
        assert!(telling.known.is_empty());
    }
}
