//! Upstreams that stand in for each other: replicas, which share their calls, and fallbacks, which get what others refuse.
//!
//! A replica is one more server with the same catalogue: its entries are not shown again. A fallback is a server of its
//! own that happens to have a tool, prompt or resource of the same name.

mod balance;
mod outlier;
mod pass;
mod served;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::config::One;
use super::handle::Upstream;
use super::life::dice;
use balance::Balance;
use outlier::Outliers;
pub use outlier::Rule;
pub use pass::Passed;
pub(super) use served::Served;

/// The replicas of one upstream, and that itself, which comes first.
pub struct Group {
    members: Box<[Arc<Upstream>]>,
    /// Locked for moments only.
    state: Mutex<State>,
}

struct State {
    balance: Balance,
    outliers: Outliers,
}

/// Where calls may go that an upstream does not serve. Replaced as a whole with each configuration.
pub struct Ways {
    /// It, and those that are the same; nothing if it has no replicas.
    pub group: Option<Arc<Group>>,
    /// Others, in the order in which they are asked.
    pub fallback: Box<[Arc<Upstream>]>,
}

/// What the configuration says of one upstream's ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kin {
    /// The one that it is a replica of.
    pub replica_of: Option<String>,
    /// Its part of the calls of its group.
    pub weight: u32,
    /// Who is asked when it does not serve a call, in this order.
    pub fallback: Vec<String>,
    /// When it gets no new calls because it fails.
    pub rule: Rule,
}

/// Tells each upstream its ways. `ones` and `handles` are the same upstreams, checked, in the same order; a group whose
/// members all stay goes on as it is.
pub fn arrange(ones: &[One], handles: &[Arc<Upstream>]) {
    let find = |name: &str| handles.iter().find(|handle| *handle.name == *name);
    for (one, handle) in ones.iter().zip(handles) {
        if one.kin.replica_of.is_some() {
            continue;
        }
        let is_member = |other: &&(&One, &Arc<Upstream>)| {
            Arc::ptr_eq(other.1, handle) || other.0.kin.replica_of.as_deref() == Some(&*handle.name)
        };
        let mut members: Vec<_> = ones.iter().zip(handles).collect();
        members.retain(|other| is_member(&other));
        members.sort_by_key(|(one, _)| one.kin.replica_of.is_some());
        let fallback: Box<[_]> = one.kin.fallback.iter().filter_map(|name| find(name)).map(Arc::clone).collect();
        let group = (members.len() > 1).then(|| {
            let known = handle.ways().and_then(|ways| ways.group.clone());
            known.filter(|known| known.is_of(&members)).unwrap_or_else(|| Arc::new(Group::new(&members)))
        });
        let ways = Arc::new(Ways { group, fallback });
        let is_needed = ways.group.is_some() || !ways.fallback.is_empty();
        for (_, member) in &members {
            member.set_ways(is_needed.then(|| Arc::clone(&ways)));
        }
    }
}

impl Group {
    fn new(members: &[(&One, &Arc<Upstream>)]) -> Self {
        let balance = Balance::new(members.iter().map(|(one, _)| one.kin.weight.max(1)).collect());
        let outliers = Outliers::new(members.iter().map(|(one, _)| one.kin.rule));
        let members = members.iter().map(|(_, member)| Arc::clone(member)).collect();
        Self { members, state: Mutex::new(State { balance, outliers }) }
    }

    fn is_of(&self, members: &[(&One, &Arc<Upstream>)]) -> bool {
        self.members.len() == members.len()
            && self.members.iter().zip(members).all(|(own, (_, other))| Arc::ptr_eq(own, other))
    }

    /// All of it, that which has replicas first.
    #[must_use]
    pub fn members(&self) -> &[Arc<Upstream>] {
        &self.members
    }

    /// Whether any of it is there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.members.iter().any(|member| member.is_there())
    }

    /// Whose turn it is: among those that are there and not out; if there are none, among those that are there; else the
    /// first, which says why it is not.
    #[must_use]
    pub fn pick(&self) -> &Arc<Upstream> {
        self.pick_among(|_| true).unwrap_or(&self.members[0])
    }

    /// The same among some of them; nothing if none of these is there.
    fn pick_among(&self, fits: impl Fn(&Upstream) -> bool) -> Option<&Arc<Upstream>> {
        let fits = &|at: usize| self.members[at].is_there() && fits(&self.members[at]);
        let mut state = self.state();
        let State { balance, outliers } = &mut *state;
        let well = if outliers.any() {
            let now = Instant::now();
            balance.pick(|at| fits(at) && outliers.left(at, now).is_none())
        } else {
            balance.pick(fits)
        };
        well.or_else(|| balance.pick(fits)).map(|at| &self.members[at])
    }

    /// How long it gets no new calls yet, if it failed too often.
    #[must_use]
    pub fn ejected(&self, upstream: &Upstream) -> Option<Duration> {
        self.state().outliers.left(self.place(upstream)?, Instant::now())
    }

    /// A call that was sent to it then has failed. How long it is out for that, if it is from now on.
    pub(super) fn failed(&self, upstream: &Upstream, sent: Instant, now: Instant) -> Option<Duration> {
        let at = self.place(upstream)?;
        let mut state = self.state();
        state.outliers.failed(at, sent, now, dice()).then(|| state.outliers.left(at, now))?
    }

    /// A call that was sent to it then was answered. True if nothing is held against it any more.
    pub(super) fn succeeded(&self, upstream: &Upstream, sent: Instant, now: Instant) -> bool {
        self.place(upstream).is_none_or(|at| self.state().outliers.succeeded(at, sent, now))
    }

    fn place(&self, upstream: &Upstream) -> Option<usize> {
        self.members.iter().position(|member| std::ptr::eq(&**member, upstream))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
