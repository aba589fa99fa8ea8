//! The supervisor: keeps a few named services alive, each restarted on its own, with a limit over time. The only file
//! that knows bastion.
//!
//! One bastion group per child: within one group bastion's cost is quadratic, and a strategy would take siblings along.
//! Its own restart policies count for ever, so how often a child may fail within a time is decided here.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bastion::prelude::*;
use tokio::sync::oneshot;

use crate::admin::{Child, Group, TreeView};

/// A child that the house needs and that fails more often than this within [`FAILURES_WINDOW`] takes the house down: what
/// cannot be started here may run elsewhere.
const FAILURES_MAX: usize = 10;
const FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// The pause before a restart doubles with each failure in the window, up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// How often a pause looks whether it is still wanted.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Enough for any service here; a thread's stack is touched only as far as it is used.
const STACK_BYTES: usize = 1 << 20;

/// One life of a child, on a thread of its own: calls what it is given when it does its work, and returns when the house
/// wants it to end, or why it failed.
pub(super) type Body = dyn Fn(&dyn Fn()) -> Result<(), String> + Send + Sync;

/// The supervised services of one house.
pub(super) struct Supervisor {
    children: Mutex<Vec<Arc<Supervised>>>,
    stopping: Arc<AtomicBool>,
    /// Called with the reason when a child failed too often.
    give_up: Arc<dyn Fn(String) + Send + Sync>,
}

/// One child.
pub(super) struct Supervised {
    group: &'static str,
    name: String,
    need: Need,
    body: Box<Body>,
    record: Mutex<Record>,
    /// The house ends.
    stopping: Arc<AtomicBool>,
    /// This child alone ends.
    retired: AtomicBool,
    give_up: Arc<dyn Fn(String) + Send + Sync>,
}

/// What becomes of the house when a child cannot be kept alive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It ends.
    House,
    /// It goes on, and the child is tried for ever.
    Itself,
}

/// A child's life so far.
struct Record {
    state: &'static str,
    since: Instant,
    restarts: u64,
    last_failure: Option<String>,
    failures: VecDeque<Instant>,
}

impl Supervisor {
    pub(super) fn new(give_up: impl Fn(String) + Send + Sync + 'static) -> Self {
        static SYSTEM: OnceLock<()> = OnceLock::new();
        // One per process. Left with its backtraces: hiding them would hide every panic of the process.
        SYSTEM.get_or_init(|| {
            Bastion::init_with(Config::new().show_backtraces());
            Bastion::start();
        });
        Self { children: Mutex::default(), stopping: Arc::default(), give_up: Arc::new(give_up) }
    }

    /// Starts a child and keeps it alive. Its threads are bastion's executor's, which have the process's first descriptor
    /// table, whoever calls.
    ///
    /// # Errors
    /// When bastion takes no more.
    pub(super) fn supervise(
        &self,
        group: &'static str,
        name: impl Into<String>,
        need: Need,
        body: impl Fn(&dyn Fn()) -> Result<(), String> + Send + Sync + 'static,
    ) -> Result<Arc<Supervised>, String> {
        let child = Arc::new(Supervised {
            group,
            name: name.into(),
            need,
            body: Box::new(body),
            record: Mutex::new(Record {
                state: "starting",
                since: Instant::now(),
                restarts: 0,
                last_failure: None,
                failures: VecDeque::new(),
            }),
            stopping: Arc::clone(&self.stopping),
            retired: AtomicBool::new(false),
            give_up: Arc::clone(&self.give_up),
        });
        let restart = RestartStrategy::default().with_actor_restart_strategy(ActorRestartStrategy::Immediate);
        let supervised = Arc::clone(&child);
        Bastion::supervisor(move |group| {
            group.with_strategy(SupervisionStrategy::OneForOne).with_restart_strategy(restart).children(|children| {
                children.with_redundancy(1).with_exec(move |_context| Arc::clone(&supervised).live())
            })
        })
        .map_err(|()| "bastion refused a child".to_owned())?;
        lock(&self.children).push(Arc::clone(&child));
        Ok(child)
    }

    /// Takes a child that was retired off the tree.
    pub(super) fn forget(&self, child: &Arc<Supervised>) {
        lock(&self.children).retain(|known| !Arc::ptr_eq(known, child));
    }

    /// No child is restarted from now on.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether every child has ended.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.children).iter().all(|child| child.has_ended())
    }

    /// The tree as it lives now.
    pub(super) fn view(&self) -> TreeView {
        let mut groups: Vec<Group> = Vec::new();
        for child in lock(&self.children).iter() {
            let view = child.view();
            match groups.iter_mut().find(|group| group.name == child.group) {
                Some(group) => group.children.push(view),
                None => groups.push(Group { name: child.group.into(), children: vec![view] }),
            }
        }
        TreeView { groups }
    }
}

impl Supervised {
    /// Lets the child end for good. Whoever started it tells its body.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether it runs no more, and never will.
    pub(super) fn has_ended(&self) -> bool {
        matches!(lock(&self.record).state, "ended" | "given up")
    }

    fn is_to_end(&self) -> bool {
        self.stopping.load(Ordering::Acquire) || self.retired.load(Ordering::Acquire)
    }

    /// One life: bastion calls this again when it fails.
    async fn live(self: Arc<Self>) -> Result<(), ()> {
        let (over, outcome) = oneshot::channel();
        let pause = self.pause();
        let child = Arc::clone(&self);
        #[allow(clippy::disallowed_methods)] // The thread is the child; nobody else starts any.
        let started = thread::Builder::new().name(self.name.clone()).stack_size(STACK_BYTES).spawn(move || {
            child.rest(pause);
            let outcome = child.run();
            // Bastion is gone only when the process ends.
            let _ = over.send(outcome);
        });
        let outcome = match started {
            Ok(_) => outcome.await.unwrap_or_else(|_| Err("its thread vanished".into())),
            Err(error) => {
                // Nobody else waits for this executor's thread but those who wait for threads too.
                thread::sleep(pause.max(PAUSE_FIRST));
                Err(format!("no thread: {error}"))
            }
        };
        match outcome {
            Ok(()) => {
                self.enter("ended");
                Ok(())
            }
            Err(_) if self.is_to_end() => {
                self.enter("ended");
                Ok(())
            }
            Err(failure) => self.fail(failure),
        }
    }

    fn run(&self) -> Result<(), String> {
        if self.is_to_end() {
            return Ok(());
        }
        self.enter("starting");
        catch_unwind(AssertUnwindSafe(|| (self.body)(&|| self.enter("running")))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("panicked: {}", text.unwrap_or_default()))
        })
    }

    fn fail(&self, failure: String) -> Result<(), ()> {
        let failures = {
            let mut record = lock(&self.record);
            let now = Instant::now();
            record.failures.push_back(now);
            record.failures.retain(|&at| now - at < FAILURES_WINDOW);
            record.state = "restarting";
            record.since = now;
            record.restarts += 1;
            record.last_failure = Some(failure.clone());
            record.failures.len()
        };
        if failures > FAILURES_MAX && self.need == Need::House {
            self.enter("given up");
            let window = FAILURES_WINDOW.as_secs();
            (self.give_up)(format!("{} failed {failures} times in {window} s, the last time: {failure}", self.name));
            return Ok(());
        }
        tracing::error!(child = self.name, failure, "restarting");
        Err(())
    }

    /// How long to wait before this life: nothing before the first.
    fn pause(&self) -> Duration {
        let failures = lock(&self.record).failures.len() as u32;
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => PAUSE_FIRST.saturating_mul(1 << doublings.min(16)).min(PAUSE_LONGEST),
        }
    }

    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.is_to_end() {
            thread::sleep(LOOK_AGAIN.min(pause));
        }
    }

    fn enter(&self, state: &'static str) {
        let mut record = lock(&self.record);
        record.state = state;
        record.since = Instant::now();
    }

    fn view(&self) -> Child {
        let record = lock(&self.record);
        Child {
            name: self.name.clone(),
            state: record.state,
            restarts: record.restarts,
            since_s: record.since.elapsed().as_secs(),
            last_failure: record.last_failure.clone(),
        }
    }
}

/// What the lock guards is whole after each statement, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
