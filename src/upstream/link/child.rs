//! A child process as a server: started below a minder, heard on stdout and stderr, gone with all its children.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use tokio::io::{copy, sink};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Limits;
use super::gossip::{Gossip, overhear};
use super::pipe::Pipe;
use crate::upstream::minder;
use crate::upstream::trouble::{Trouble, TroubleKind};

/// How long the exit of a child that has closed its stdout is awaited, to say how it ended.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A child and both directions of its pipe.
pub(super) struct ChildLink {
    pub(super) pipe: Pipe<ChildStdout, ChildStdin>,
    process: Process,
    /// Reads its stderr; ends with the link.
    _overhearing: JoinSet<()>,
}

/// The process group of a child; it never outlives this.
struct Process {
    child: Child,
    group: Option<Pid>,
    minded: bool,
}

impl ChildLink {
    pub(super) fn start(
        command: &str,
        args: &[String],
        env: &[(String, String)],
        cwd: Option<&Path>,
        name: &str,
        limits: &Limits,
    ) -> Result<Self, Trouble> {
        let not_started =
            |error: &dyn std::fmt::Display| Trouble::new(TroubleKind::NotStarted, format!("{command}: {error}"));
        let (mut order, minded) = order(command);
        order.args(args).envs(env.iter().map(|(name, value)| (name, value)));
        if let Some(cwd) = cwd {
            order.current_dir(cwd);
        }
        order.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: a Ctrl-C in our terminal is ours alone. A minder must live on to end what it minds.
        order.process_group(0).kill_on_drop(!minded);
        let mut child = order.spawn().map_err(|error| not_started(&error))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(not_started(&"it has no pipes"));
        };
        let mut overhearing = JoinSet::new();
        overhearing.spawn(overhear(stderr, Gossip::new(name)));
        let pipe = Pipe::new(stdout, stdin, limits.message_bytes_max, Gossip::new(name));
        Ok(Self { pipe, process: Process { child, group, minded }, _overhearing: overhearing })
    }

    pub(super) async fn fill(&mut self) -> Result<(), Trouble> {
        match self.pipe.fill().await {
            Ok(()) => Ok(()),
            Err(lost) => Err(self.process.how_it_ended(lost).await),
        }
    }

    /// Closes its stdin, waits, and makes sure.
    pub(super) async fn end(self) {
        let Self { mut pipe, mut process, _overhearing } = self;
        let _ = timeout(Duration::from_millis(200), pipe.flush()).await;
        let (mut stdout, stdin) = pipe.into_parts();
        drop(stdin);
        // A child that is blocked on its stdout would never see the end of its stdin.
        tokio::select! {
            () = process.end() => {}
            () = async { let _ = copy(&mut stdout, &mut sink()).await; std::future::pending().await } => {}
        }
    }
}

/// What starts `command`: our own minder if we know the program that we are, else the command itself.
fn order(command: &str) -> (Command, bool) {
    match minder::program() {
        Some(program) => {
            let mut order = Command::new(program);
            order.arg0("lakh").arg(minder::COMMAND).arg("--").arg(command);
            (order, true)
        }
        None => (Command::new(command), false),
    }
}

impl Process {
    async fn how_it_ended(&mut self, lost: Trouble) -> Trouble {
        let Ok(Ok(status)) = timeout(LAST_WORDS, self.child.wait()).await else {
            return Trouble::new(TroubleKind::Exited, format!("its stdout: {lost}"));
        };
        self.make_sure(status);
        match status.code() {
            Some(minder::NOT_FOUND) => Trouble::new(TroubleKind::NotStarted, "no such command; see the log"),
            Some(minder::NOT_STARTED) => {
                Trouble::new(TroubleKind::NotStarted, "the command cannot be run; see the log")
            }
            Some(code) if code > 128 => Trouble::new(TroubleKind::Exited, format!("by signal {}", code - 128)),
            Some(code) => Trouble::new(TroubleKind::Exited, format!("with exit code {code}")),
            None => Trouble::new(TroubleKind::Exited, status.to_string()),
        }
    }

    async fn end(&mut self) {
        // A minder does the same by itself, and reaches those who have left the group.
        if !self.minded {
            let _ = timeout(minder::GRACE, self.child.wait()).await;
            self.signal(Signal::SIGTERM);
        }
        let patience = if self.minded { minder::END_MAX } else { minder::TERM_GRACE };
        if let Ok(Ok(status)) = timeout(patience, self.child.wait()).await {
            self.make_sure(status);
        } else {
            self.signal(Signal::SIGKILL);
            let _ = timeout(Duration::from_millis(200), self.child.wait()).await;
        }
        self.group = None;
    }

    /// A minder that ended by itself has left nothing; one that was killed, or a child without one, may have.
    fn make_sure(&mut self, status: ExitStatus) {
        if !self.minded || status.signal().is_some() {
            self.signal(Signal::SIGKILL);
        }
        self.group = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Nobody left in it: just what is wanted.
            let _ = killpg(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        match self.child.try_wait() {
            Ok(Some(status)) => self.make_sure(status),
            // A minder sees its stdin end.
            _ if self.minded => {}
            _ => self.signal(Signal::SIGKILL),
        }
    }
}
