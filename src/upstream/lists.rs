//! When an upstream's lists are gathered: at first, soon after they have changed, and when they are old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gather::Gather;
use super::handle::State;
use super::life::{Life, OWN_WAIT, jittered};
use super::link::Link;
use super::mux::Own;
use super::offers::Standing;
use super::probe::Agreed;
use crate::mcp::param_headers::ParamHeaders;
use crate::mcp::{Offer, Topics};

/// How long changes of a list are collected.
const COALESCE: Duration = Duration::from_millis(100);
/// Lists that have just changed, or come, are not gathered anew for their age alone before this.
const FRESH_FIRST: Duration = Duration::from_secs(1);
/// Those that stay the same are left alone for longer and longer: for this or a few times as long as they are fresh, but
/// not beyond the other. The same, from the first on, where some could not be had.
const FRESH_MIN: Duration = Duration::from_secs(5);
const FRESH_MAX: Duration = Duration::from_secs(3_600);
/// How many times as old as they are fresh lists become at most, where the pause may be so short.
const OLD: u32 = 4;
/// Lists are not left alone for longer, whatever the server says of them.
const FRESH_LONGEST: Duration = Duration::from_secs(86_400);

/// Whatever may have changed.
const ALL: Topics = Topics(u8::MAX);

/// Where the gathering of one link is.
pub(super) struct Lists {
    gather: Option<Gather>,
    /// Whether a page was asked for and has not come.
    asked: bool,
    /// When the next one begins.
    pub(super) due: Option<Instant>,
    changed: Topics,
    /// Whether this link has had one.
    gathered: bool,
    /// How long lists are left alone for their age.
    pause: Duration,
    /// How long those that could not be had are left alone.
    retry: Duration,
}

impl Lists {
    pub(super) fn new(wanted: bool) -> Self {
        let due = wanted.then(Instant::now);
        let (changed, pause, retry) = (Topics::default(), FRESH_FIRST, FRESH_MIN);
        Self { gather: None, asked: false, due, changed, gathered: false, pause, retry }
    }

    /// When to look again for their age alone: as long as they are fresh, and longer each time nothing was new, as whoever
    /// polls must do (spec 2026-07-28 server/utilities/caching#freshness-calculation).
    fn age(&mut self, fresh: Option<Duration>, same: bool, now: Instant) {
        let Some(fresh) = fresh else { return };
        let fresh = fresh.min(FRESH_LONGEST);
        // Clients are told how long it is fresh, and count on that.
        let longest = (fresh * OLD).clamp(FRESH_MIN, FRESH_MAX);
        self.pause = if same { (self.pause * 2).min(longest) } else { FRESH_FIRST };
        self.look_again(now + jittered(fresh.max(self.pause)));
    }

    /// Some lists could not be had: all of them once more, after longer and longer pauses.
    fn failed(&mut self, is_partial: bool, now: Instant) {
        if is_partial {
            self.changed = ALL;
            self.look_again(now + jittered(self.retry));
            self.retry = (self.retry * 2).min(FRESH_MAX);
        } else {
            self.retry = FRESH_MIN;
        }
    }

    fn look_again(&mut self, due: Instant) {
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }
}

impl Life {
    /// Gathers what is offered: at first, when it has changed, and when it is old.
    pub(super) fn keep_lists(&mut self, lists: &mut Lists, agreed: &Agreed, now: Instant, link: &mut Link) {
        for (own, heard) in std::mem::take(&mut self.mux.heard) {
            if let (Own::Page(list), Some(gather)) = (own, &mut lists.gather) {
                gather.take(list, &heard);
                lists.asked = false;
            }
        }
        let mut changed = std::mem::take(&mut self.mux.changed);
        if self.is_private() && !self.mux.is_behind() {
            changed = Topics::default();
        }
        if changed != Topics::default() {
            lists.changed = Topics(lists.changed.0 | changed.0);
            lists.look_again(now + COALESCE);
        }
        if lists.gather.is_none() && lists.due.is_some_and(|due| due <= now) {
            lists.due = None;
            let changed = std::mem::take(&mut lists.changed);
            // The link is new, or nothing has changed that we know of: all of it is old.
            let changed = if !lists.gathered || changed == Topics::default() { ALL } else { changed };
            let last = self.last.as_ref();
            let http = self.mux.terms().http;
            let max = self.knobs.entries_max;
            lists.gather = Some(Gather::new(&self.upstream.name, agreed, last, changed, max, http));
        }
        if lists.asked {
            return;
        }
        match lists.gather.as_ref().map(Gather::next) {
            Some(Some((list, params))) => {
                lists.asked = self.mux.ask(Own::Page(list), list.method(), &params, OWN_WAIT, now, link).is_some();
            }
            Some(None) => {
                if let Some(gather) = lists.gather.take() {
                    if !self.is_private() {
                        lists.failed(gather.is_partial, now);
                    }
                    self.gathered(lists, gather.finish(), now);
                    self.mux.speak(now, link);
                }
            }
            None => {}
        }
    }

    fn gathered(&mut self, lists: &mut Lists, (offer, params): (Offer, ParamHeaders), now: Instant) {
        let first = !lists.gathered;
        // Behind a link that is new there is mostly what was there before: then nothing of it is looked through again.
        let known = self.last.as_ref().filter(|(last, _)| **last == offer).map(|(last, _)| Arc::clone(last));
        let same = known.is_some();
        lists.gathered = true;
        self.mux.listed(params.clone());
        if self.is_private() {
            return;
        }
        lists.age(offer.fresh, same && !first, now);
        let entries = offer.lists.iter().map(Vec::len).sum();
        self.upstream.look(|view| view.entries = entries);
        let offer = known.unwrap_or_else(|| Arc::new(offer));
        if same {
            self.mux.gate.changed();
        } else {
            self.mux.gate.offered(&offer);
        }
        self.last = Some((Arc::clone(&offer), params));
        if first || !same {
            (self.shared.offers)(&self.upstream, Standing::Present(offer));
        }
        // Behind its offer: who waits for it to be ready looks at the catalogue then.
        if first {
            self.mux.listen(now);
            self.show(State::Ready);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest pause, in milliseconds, where nothing ever changes; without its jitter.
    fn longest(fresh_ms: u64) -> u128 {
        let (mut lists, start) = (Lists::new(false), Instant::now());
        let pauses = (0..20).map(|_| {
            lists.due = None;
            lists.age(Some(Duration::from_millis(fresh_ms)), true, start);
            (lists.due.expect("a pause") - start).as_millis()
        });
        pauses.max().expect("some")
    }

    #[test]
    fn lists_become_a_few_times_as_old_as_they_are_fresh_and_no_older() {
        for (fresh, most) in
            [(0, 5_000), (1_000, 5_000), (10_000, 40_000), (900_000, 3_600_000), (7_200_000, 7_200_000)]
        {
            let pause = longest(fresh);
            assert!(pause >= most && pause <= most * 5 / 4, "{fresh}: {pause}");
        }
        assert!(longest(u64::MAX) <= 86_400_000 * 5 / 4);
    }
}
