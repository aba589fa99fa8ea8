//! Calls that wait for a place at an upstream: fair between tenants by weight, and between the clients of each.
//!
//! The rules. Of the calls of the highest priority the tenant goes first that has had the least of its share; no priority
//! is passed over more than [`PASSED_MAX`] times in a row, so a lower one that waits has at least a tenth of the places.
//! Within a tenant its clients take turns, each by the order in which its calls came; but where the call whose turn it is
//! has waited too long, the newest of the tenant go first: the oldest will hardly be served in time whatever is done.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use crate::guard::{Share, Tenant};

/// How often calls of higher priorities go before one that waits.
pub(super) const PASSED_MAX: u32 = 8;
/// What a place costs a tenant of weight 1.
const STRIDE: u64 = 1 << 20;
/// Accounts of tenants without a waiting call that are kept before they are looked through.
const IDLE_ACCOUNTS: usize = 16;

/// On whose account a call is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) tenant: Tenant,
    pub(super) share: Share,
    /// The client; those without a session are one.
    pub(super) client: u128,
}

/// A call that waits.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) call: T,
    pub(super) who: Who,
    /// When it came first.
    pub(super) arrived: Instant,
    /// When it began to wait.
    pub(super) entered: Instant,
    /// When nobody needs its answer any more.
    pub(super) deadline: Option<Instant>,
    /// How often it was sent.
    pub(super) attempts: u8,
}

/// All that wait, by numbers that grow. Every operation takes the time of a few look-ups in trees, whatever waits; but
/// for [`Self::victim`], which looks at each tenant.
pub(super) struct Queue<T> {
    calls: BTreeMap<u64, Waiting<T>>,
    deadlines: BTreeSet<(Instant, u64)>,
    classes: BTreeMap<Reverse<u8>, Class>,
    last_number: u64,
}

/// The tenants of one priority.
#[derive(Default)]
struct Class {
    accounts: HashMap<Tenant, Account>,
    /// Those who wait: who has had the least comes first.
    order: BTreeSet<(u64, Tenant)>,
    /// What the last one served had had: newcomers begin there, so that nobody saves up.
    now: u64,
    /// The weights of those who wait.
    weight: u64,
    len: usize,
    passed: u32,
}

#[derive(Default)]
struct Account {
    weight: u64,
    /// What it has had, in strides over its weight.
    had: u64,
    len: usize,
    lines: HashMap<u128, Line>,
    /// Whose turn it is.
    turns: BTreeMap<i64, u128>,
    longest: BTreeSet<(usize, u128)>,
}

/// The calls of one client.
struct Line {
    turn: i64,
    calls: BTreeSet<u64>,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { calls: BTreeMap::new(), deadlines: BTreeSet::new(), classes: BTreeMap::new(), last_number: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// A number that no other call has, here or elsewhere.
    pub(super) const fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn get(&self, number: u64) -> Option<&Waiting<T>> {
        self.calls.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Waiting<T>> {
        self.calls.get_mut(&number)
    }

    pub(super) fn first_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Takes out one whose deadline has come.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Waiting<T>> {
        let &(deadline, number) = self.deadlines.first()?;
        if deadline <= now { self.remove(number) } else { None }
    }

    /// Takes out the one that came first.
    pub(super) fn take_first(&mut self) -> Option<Waiting<T>> {
        let number = *self.calls.first_key_value()?.0;
        self.remove(number)
    }

    /// Puts a call in, under a number of [`Self::number`].
    pub(super) fn push(&mut self, number: u64, waiting: Waiting<T>) {
        let Who { tenant, share, client } = waiting.who;
        if let Some(deadline) = waiting.deadline {
            self.deadlines.insert((deadline, number));
        }
        self.classes.entry(Reverse(share.priority)).or_default().push(number, tenant, share.weight, client);
        self.calls.insert(number, waiting);
    }

    /// Takes a certain call out.
    pub(super) fn remove(&mut self, number: u64) -> Option<Waiting<T>> {
        let waiting = self.calls.remove(&number)?;
        if let Some(deadline) = waiting.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        let Who { tenant, share, client } = waiting.who;
        let priority = Reverse(share.priority);
        if let Some(class) = self.classes.get_mut(&priority) {
            class.remove(number, tenant, client);
            if class.len == 0 {
                self.classes.remove(&priority);
            }
        }
        Some(waiting)
    }

    /// Takes out who goes next. Whose turn it is goes first, unless it waits since a time that `is_late`.
    pub(super) fn pop(&mut self, is_late: impl Fn(Instant) -> bool) -> Option<Waiting<T>> {
        let highest = *self.classes.keys().next()?;
        let passed = self.classes.iter().filter(|(_, class)| class.passed >= PASSED_MAX);
        let chosen = passed.max_by_key(|(_, class)| class.passed).map_or(highest, |(&priority, _)| priority);
        for (&priority, class) in &mut self.classes {
            if priority == chosen {
                class.passed = 0;
            } else if priority > highest {
                class.passed += 1;
            }
        }
        let class = self.classes.get_mut(&chosen)?;
        let newest = class.first().is_some_and(|account| account.is_late(&self.calls, is_late));
        let number = class.serve(newest)?;
        self.remove(number)
    }

    /// Whether the call whose turn it would be, of the same tenant, waits since a time that `is_late`.
    pub(super) fn is_late(&self, who: &Who, is_late: impl Fn(Instant) -> bool) -> bool {
        let class = self.classes.get(&Reverse(who.share.priority));
        let account = class.and_then(|class| class.accounts.get(&who.tenant));
        account.is_some_and(|account| account.is_late(&self.calls, is_late))
    }

    /// How many calls of its own go before a newcomer, for each unit of its tenant's weight: whoever comes later may go
    /// between any two of them.
    pub(super) fn ahead(&self, who: &Who, crowded: bool) -> f64 {
        let Some(class) = self.classes.get(&Reverse(who.share.priority)) else { return 0.0 };
        let Some(account) = class.accounts.get(&who.tenant) else { return 0.0 };
        class.debt(account) + (account.place(who.client, crowded) - 1) as f64 / f64::from(who.share.weight.max(1))
    }

    /// Looks at each call in the order in which its tenant's are served, with [`Self::ahead`] of it: the numbers of those
    /// of which `is_hopeless` says so, which is asked for each tenant first how fast its calls go.
    pub(super) fn hopeless<S>(
        &self,
        is_late: impl Fn(Instant) -> bool,
        mut speed: impl FnMut(&Who) -> S,
        is_hopeless: impl Fn(&S, f64, &Waiting<T>) -> bool,
    ) -> Vec<u64> {
        let mut found = Vec::new();
        for class in self.classes.values() {
            for (_, tenant) in &class.order {
                let Some(account) = class.accounts.get(tenant) else { continue };
                let (debt, last) = (class.debt(account), account.len - 1);
                let newest_first = account.is_late(&self.calls, &is_late);
                let mut speed_of = None;
                for (rank, line) in account.turns.values().filter_map(|client| account.lines.get(client)).enumerate() {
                    for (round, number) in line.calls.iter().enumerate() {
                        let Some(waiting) = self.calls.get(number) else { continue };
                        let before = (round * account.lines.len() + rank).min(last);
                        let before = if newest_first { last - before } else { before };
                        let speed = speed_of.get_or_insert_with(|| speed(&waiting.who));
                        if is_hopeless(speed, debt + before as f64 / account.weight as f64, waiting) {
                            found.push(*number);
                        }
                    }
                }
            }
        }
        found
    }

    /// How many places a newcomer would wait for, with its own. `crowded`: whoever is served comes again at once.
    pub(super) fn place(&self, who: &Who, crowded: bool) -> usize {
        let weight = u64::from(who.share.weight.max(1));
        let (mut higher, mut lower, mut place) = (0, false, 1);
        for (&Reverse(priority), class) in &self.classes {
            if priority > who.share.priority {
                higher += class.len;
            } else if priority < who.share.priority {
                lower = true;
            } else {
                let account = class.accounts.get(&who.tenant);
                let within = account.map_or(1, |account| account.place(who.client, crowded));
                let is_new = account.is_none_or(|account| account.len == 0);
                let all = class.weight + if is_new { weight } else { 0 };
                place = ((within as u64 * all / weight) as usize).max(1);
                if !crowded {
                    place = place.min(class.len + 1);
                }
            }
        }
        let passed = PASSED_MAX as usize;
        let place = (place + higher).min(place * (passed + 1));
        if lower { place + place / passed } else { place }
    }

    /// Who must make room if the newcomer is to come in: of the tenant that has taken most of the room, measured by its
    /// weight, the longest line's newest call, or, where the newest go first, its oldest. None: the newcomer itself.
    pub(super) fn victim(&self, who: &Who, is_late: impl Fn(Instant) -> bool) -> Option<u64> {
        let own = self.classes.get(&Reverse(who.share.priority)).and_then(|class| class.accounts.get(&who.tenant));
        let own_len = own.map_or(0, |account| account.len) + 1;
        let own_part = own_len as f64 / f64::from(who.share.weight.max(1));
        let greatest = self
            .classes
            .values()
            .flat_map(|class| class.order.iter().filter_map(|(_, tenant)| class.accounts.get(tenant)))
            .map(|account| (account.len as f64 / account.weight as f64, account))
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .filter(|&(part, _)| part > own_part);
        if let Some((_, account)) = greatest {
            return account.last_in_longest(account.is_late(&self.calls, is_late));
        }
        let own = own?;
        let newest_first = own.is_late(&self.calls, is_late);
        let line = own.lines.get(&who.client).map_or(0, |line| line.calls.len());
        if own.longest.last().is_some_and(|&(longest, _)| longest > line + 1) {
            return own.last_in_longest(newest_first);
        }
        newest_first.then(|| own.oldest()).flatten()
    }
}

impl Class {
    fn push(&mut self, number: u64, tenant: Tenant, weight: u16, client: u128) {
        if self.accounts.len() > 2 * self.order.len() + IDLE_ACCOUNTS {
            let now = self.now;
            self.accounts.retain(|_, account| account.len > 0 || account.had > now);
        }
        let account = self.accounts.entry(tenant).or_default();
        if account.len == 0 {
            account.weight = u64::from(weight.max(1));
            account.had = account.had.max(self.now);
            self.order.insert((account.had, tenant));
            self.weight += account.weight;
        }
        account.push(number, client);
        self.len += 1;
    }

    fn remove(&mut self, number: u64, tenant: Tenant, client: u128) {
        let Some(account) = self.accounts.get_mut(&tenant) else { return };
        account.remove(number, client);
        self.len -= 1;
        if account.len == 0 {
            self.order.remove(&(account.had, tenant));
            self.weight -= account.weight;
        }
    }

    /// What it has had beyond its share, in calls for each unit of its weight: others go first for that.
    fn debt(&self, account: &Account) -> f64 {
        account.had.saturating_sub(self.now) as f64 / STRIDE as f64
    }

    /// Whose turn it is.
    fn first(&self) -> Option<&Account> {
        self.order.first().and_then(|(_, tenant)| self.accounts.get(tenant))
    }

    /// Whose call goes next: that one is charged for it, and takes its turn.
    fn serve(&mut self, newest: bool) -> Option<u64> {
        let (had, tenant) = self.order.pop_first()?;
        self.now = had;
        let account = self.accounts.get_mut(&tenant)?;
        account.had += STRIDE / account.weight;
        self.order.insert((account.had, tenant));
        account.serve(newest)
    }
}

impl Account {
    fn push(&mut self, number: u64, client: u128) {
        self.len += 1;
        let turns = &mut self.turns;
        let line = self.lines.entry(client).or_insert_with(|| {
            let turn = turns.last_key_value().map_or(0, |(turn, _)| turn + 1);
            turns.insert(turn, client);
            Line { turn, calls: BTreeSet::new() }
        });
        self.longest.remove(&(line.calls.len(), client));
        line.calls.insert(number);
        self.longest.insert((line.calls.len(), client));
    }

    fn remove(&mut self, number: u64, client: u128) {
        let Some(line) = self.lines.get_mut(&client) else { return };
        self.longest.remove(&(line.calls.len(), client));
        line.calls.remove(&number);
        self.len -= 1;
        if line.calls.is_empty() {
            self.turns.remove(&line.turn);
            self.lines.remove(&client);
        } else {
            self.longest.insert((line.calls.len(), client));
        }
    }

    /// The place of a newcomer among the tenant's own calls.
    fn place(&self, client: u128, crowded: bool) -> usize {
        let line = self.lines.get(&client).map(|line| line.calls.len());
        let lines = self.lines.len() + usize::from(line.is_none());
        let turns = (line.unwrap_or(0) + 1) * lines;
        if crowded { turns } else { turns.min(self.len + 1) }
    }

    /// Whether the call whose turn it is waits since a time that `is_late`.
    fn is_late<T>(&self, calls: &BTreeMap<u64, Waiting<T>>, is_late: impl Fn(Instant) -> bool) -> bool {
        self.oldest().and_then(|number| calls.get(&number)).is_some_and(|waiting| is_late(waiting.entered))
    }

    /// Whose turn it is gives one call, and waits for its next turn behind all others.
    fn serve(&mut self, newest: bool) -> Option<u64> {
        let (first, last) = (*self.turns.first_key_value()?.0, *self.turns.last_key_value()?.0);
        let (turn, next) = if newest { (last, first - 1) } else { (first, last + 1) };
        let client = self.turns.remove(&turn)?;
        self.turns.insert(next, client);
        let line = self.lines.get_mut(&client)?;
        line.turn = next;
        if newest { line.calls.last() } else { line.calls.first() }.copied()
    }

    /// The call of the longest line that would be served last.
    fn last_in_longest(&self, newest_first: bool) -> Option<u64> {
        let (_, client) = self.longest.last()?;
        let calls = &self.lines.get(client)?.calls;
        if newest_first { calls.first() } else { calls.last() }.copied()
    }

    /// The call whose turn it is; its turn would come last where the newest go first.
    fn oldest(&self) -> Option<u64> {
        let (_, client) = self.turns.first_key_value()?;
        self.lines.get(client)?.calls.first().copied()
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
