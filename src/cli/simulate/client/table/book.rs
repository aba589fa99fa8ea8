//! What one table notes of a profile's load: by the second, by reason, by tenant.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::cli::simulate::drive::{Calls, Drove, Refused, Second, waits_of};
use crate::cli::simulate::order::{Death, Refusal, new_histogram};

/// Seconds of one order that are told apart; what comes later counts to the last.
const SECONDS_MAX: usize = 7_200;
const MICROS: u64 = 1_000_000;

/// A [`Drove`] in the making. Times are in microseconds since the begin.
pub(super) struct Book {
    drove: Drove,
    /// The second that is under way, and the waits of it.
    now: Second,
    waits: Histogram<u64>,
    handshakes: Histogram<u64>,
    back: Histogram<u64>,
    late: Histogram<u64>,
    refusals: BTreeMap<String, Histogram<u64>>,
}

impl Book {
    pub(super) fn new() -> Self {
        Self {
            drove: Drove::default(),
            now: Second::default(),
            waits: new_histogram(),
            handshakes: new_histogram(),
            back: new_histogram(),
            late: new_histogram(),
            refusals: BTreeMap::new(),
        }
    }

    /// Turns the page as often as needed to be in the second of `now`.
    pub(super) fn turn_to(&mut self, now: u64) {
        while self.drove.seconds.len() < SECONDS_MAX && (self.drove.seconds.len() as u64 + 1) * MICROS <= now {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let mut second = std::mem::take(&mut self.now);
        second.waits = waits_of(&self.waits);
        self.waits.reset();
        self.drove.seconds.push(second);
    }

    /// A call was sent so late.
    pub(super) fn asked(&mut self, late: u64, tenant: Option<u32>) {
        self.late.saturating_record(late.max(1));
        self.calls(tenant, Calls { asked: 1, ..Calls::default() });
    }

    pub(super) fn answered(&mut self, waited: u64, in_time: bool, tenant: Option<u32>) {
        self.waits.saturating_record(waited.max(1));
        self.calls(tenant, Calls { asked: 0, answered: 1, in_time: u64::from(in_time) });
    }

    fn calls(&mut self, tenant: Option<u32>, calls: Calls) {
        self.now.calls.add(calls);
        if let Some(tenant) = tenant {
            self.drove.tenants.entry(tenant).or_default().add(calls);
        }
    }

    pub(super) fn failed(&mut self, death: Death) {
        self.now.failed += 1;
        self.drove.failed.add(death);
    }

    /// A call or a client was refused; without `refusal`, by a connection that was closed or never stood.
    pub(super) fn refused(&mut self, refusal: Option<&Refusal>, waited: u64) {
        self.now.refused += 1;
        let reason = refusal.map_or_else(|| "closed without a word".to_owned(), |refusal| refusal.reason.clone());
        let reason = self.drove.place_for(reason);
        let refused = self.drove.refusals.entry(reason.clone()).or_default();
        refused.count += 1;
        refused.hinted += u64::from(refusal.is_some_and(|refusal| refusal.again.is_some()));
        refused.silent += u64::from(refusal.is_none());
        self.refusals.entry(reason).or_insert_with(new_histogram).saturating_record(waited.max(1));
    }

    /// A client is in.
    pub(super) fn came(&mut self, handshake: u64, now: u64) {
        self.now.came += 1;
        self.handshakes.saturating_record(handshake.max(1));
        self.back.saturating_record(now.max(1));
    }

    pub(super) fn left(&mut self) {
        self.now.left += 1;
    }

    /// All that was noted; `outside` are the clients that did not come in.
    pub(super) fn close(mut self, outside: u64) -> Drove {
        self.turn();
        for (reason, waits) in self.refusals {
            let refused: &mut Refused = self.drove.refusals.entry(reason).or_default();
            refused.waits = waits_of(&waits);
        }
        Drove {
            handshakes: waits_of(&self.handshakes),
            back: waits_of(&self.back),
            late: waits_of(&self.late),
            outside,
            ..self.drove
        }
    }
}

/// Microseconds, of which a [`Book`] is made.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_a_page_also_those_in_which_nothing_happened() {
        let mut book = Book::new();
        book.asked(10, Some(1));
        book.turn_to(3 * MICROS);
        book.answered(2_900_000, true, Some(1));
        book.turn_to(3 * MICROS + 5);
        book.refused(None, 7);
        let told = Refusal { reason: "full".into(), again: Some(Duration::from_secs(1)) };
        book.refused(Some(&told), 9);
        let drove = book.close(2);
        let pages: Vec<_> = drove.seconds.iter().map(|page| (page.calls.asked, page.calls.answered)).collect();
        assert_eq!(pages, [(1, 0), (0, 0), (0, 0), (0, 1)]);
        assert_eq!((drove.seconds[3].refused, drove.outside, drove.tenants[&1].in_time), (2, 2, 1));
        let full = &drove.refusals["full"];
        assert_eq!((full.count, full.hinted, full.silent, full.waits.len()), (1, 1, 0, 1));
        assert_eq!(drove.refusals["closed without a word"].silent, 1);
    }
}
