//! A call that an upstream does not serve, on its way to one that may.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Ways;
use crate::actor::{Answer, Serves};
use crate::mcp::bridge;
use crate::meter::Named;
use crate::upstream::handle::{Errand, Task, Upstream};
use crate::upstream::trouble::{Trouble, TroubleKind};

/// Where a call was that has been passed on, and what its client is told if nobody serves it.
pub struct Passed {
    /// Those that did not serve it, each by its place in memory, and where else they send calls.
    tried: Vec<(usize, Arc<Ways>)>,
    /// What the first of them said: its error object.
    first: Vec<u8>,
}

impl Upstream {
    /// A call is not served here, and was not sent: somebody else gets it, or its client the trouble.
    pub(in crate::upstream) fn turn_down(&self, task: Box<Task>, trouble: &Trouble, down_for: Option<Duration>) {
        let trouble = trouble.clone().unsent();
        if let Err(task) = self.pass_on(task, &trouble, down_for) {
            self.give_up(*task, &trouble, down_for);
        }
    }

    /// Tells the client of a call what went wrong. If others were asked before, and this one surely did nothing either, it
    /// is told what the first of them said: that is the one it knows.
    pub(in crate::upstream) fn give_up(&self, task: Task, trouble: &Trouble, down_for: Option<Duration>) {
        self.counts.errors.fetch_add(1, Relaxed);
        self.not_begun(&task.parcel, trouble.name());
        self.settle_failed(task, trouble, down_for);
    }

    /// The same, of one that is counted as an error already.
    pub(in crate::upstream) fn settle_failed(&self, mut task: Task, trouble: &Trouble, down_for: Option<Duration>) {
        let mut error = Vec::new();
        self.blame(&mut error, trouble, down_for);
        let first = task.passed.take().filter(|_| trouble.is_safe_to_repeat()).map(|passed| passed.first);
        task.settle(Answer::Error(first.unwrap_or(error)));
    }

    /// Passes a call on that may be sent again, whatever it does or because it changes nothing: to one of its replicas that
    /// was not asked yet, else to the first of its fallbacks that is there, was not asked yet and has what it is for; else
    /// to those of the upstreams before.
    ///
    /// # Errors
    /// The call, if there is nobody.
    pub(in crate::upstream) fn pass_on(
        &self,
        mut task: Box<Task>,
        trouble: &Trouble,
        down_for: Option<Duration>,
    ) -> Result<(), Box<Task>> {
        let Some(ways) = self.ways() else { return Err(task) };
        // An answer that is too long is so everywhere; and what was answered to a question is for who has asked it.
        let is_bound =
            bridge::retry(&task.parcel.params).is_some() || task.parcel.params.contains("\"inputResponses\"");
        if is_bound || trouble.kind == TroubleKind::TooLong {
            return Err(task);
        }
        let mut passed = task.passed.take().unwrap_or_else(|| {
            let mut first = Vec::new();
            trouble.write_object(&mut first, &self.name, down_for);
            Box::new(Passed { tried: Vec::new(), first })
        });
        passed.tried.push((place(self), ways));
        let next = passed.next(&task);
        task.passed = Some(passed);
        let Some(next) = next else { return Err(task) };
        // Its place here is free, and how it ends elsewhere says nothing of this one.
        task.permit = None;
        self.counts.troubles.add(trouble.kind);
        self.counts.passed_on.fetch_add(1, Relaxed);
        let (from, to, why) = (&*self.name, &*next.name, trouble.kind.name());
        tracing::debug!(upstream = from, to, why, "a call is passed on");
        task.ticket.pass_to(Arc::clone(&next) as Arc<dyn Serves>);
        // If others wait for its answer, the next one finds that out.
        if task.ticket.is_cancelled() && task.lead.is_none() {
            task.ticket.discard();
        } else {
            next.post(Errand::Call(task));
        }
        Ok(())
    }
}

impl Passed {
    /// Who is to be asked next.
    fn next(&self, task: &Task) -> Option<Arc<Upstream>> {
        let is_new = |upstream: &Upstream| self.tried.iter().all(|(known, _)| *known != place(upstream));
        // The last one's ways first.
        self.tried.iter().rev().find_map(|(_, ways)| {
            let replica = ways.group.as_ref().and_then(|group| group.pick_among(is_new).cloned());
            replica.or_else(|| {
                let mut fallbacks = ways.fallback.iter().filter_map(|fallback| fallback.one_of(is_new));
                fallbacks.find(|upstream| upstream.serves(&task.parcel))
            })
        })
    }
}

impl Upstream {
    /// It, or the one of its replicas whose turn it is, if that is there and is a new one.
    fn one_of(self: &Arc<Self>, is_new: impl Fn(&Self) -> bool) -> Option<Arc<Self>> {
        match self.ways().and_then(|ways| ways.group.clone()) {
            Some(group) => group.pick_among(is_new).cloned(),
            None => (self.is_there() && is_new(self)).then(|| Arc::clone(self)),
        }
    }
}

fn place(upstream: &Upstream) -> usize {
    std::ptr::from_ref(upstream) as usize
}
