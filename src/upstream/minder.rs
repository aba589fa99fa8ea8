//! The process between us and a child: however we end, it ends the child and all that the child has started.
//!
//! `lakh mind -- command args` starts the command with its own stdin, stdout and stderr. Its stdin is a pipe from the
//! gateway: when that hangs up, because the gateway closed it or was killed, the child is given [`GRACE`] to end by
//! itself, then SIGTERM, then after [`TERM_GRACE`] SIGKILL. Descendants that lose their parent, or leave the process
//! group, come to the minder, which is their subreaper (prctl(2)), so none escapes. Why not PR_SET_PDEATHSIG: it is bound
//! to the thread that started the child, is not inherited by grandchildren, and cannot be set for a child without unsafe
//! code.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stdout, setpgid};

/// The hidden subcommand.
pub const COMMAND: &str = "mind";
/// Exit code of a minder whose command is not there; the shell's.
pub const NOT_FOUND: i32 = 127;
/// Exit code of a minder whose command cannot be run; the shell's.
pub const NOT_STARTED: i32 = 126;
/// How long a child may take to end after the end of its stdin (spec 2026-07-28 basic/transports/stdio#shutdown).
pub const GRACE: Duration = Duration::from_millis(400);
/// How long it may take after SIGTERM.
pub const TERM_GRACE: Duration = Duration::from_secs(1);
/// All of that, with some time to be noticed.
pub const END_MAX: Duration = Duration::from_millis(1900);

/// How often the descendants are looked through while they are killed.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What cannot be killed by then waits for a disk that does not answer.
const KILL_MAX: Duration = Duration::from_secs(2);

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says that the running program has the subcommand [`COMMAND`], and where the program is. The first word counts.
pub fn set_program(program: PathBuf) {
    // Whoever says it again says the same.
    let _ = PROGRAM.set(program);
}

/// The program that has the subcommand, if that is known.
pub(super) fn program() -> Option<&'static Path> {
    PROGRAM.get().map(PathBuf::as_path)
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The child lives as long as it likes.
    Serving,
    /// Its stdin has ended.
    Asked,
    /// It was sent SIGTERM.
    Told,
    /// It is being killed.
    Killed,
}

/// Runs `command` until it has ended, with all its descendants; the exit code of this process.
///
/// # Errors
/// When the host refuses what a minder needs.
pub fn mind(command: &[OsString]) -> io::Result<u8> {
    let Some((program, args)) = command.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "which command?"));
    };
    // Fails for a session's leader, which has a group of its own already.
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    set_child_subreaper(true)?;
    let signals = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    // The child starts with no signal blocked: std sees to that.
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let child = match Command::new(program).args(args).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{}: {error}", program.display());
            let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED };
            return Ok(u8::try_from(code).unwrap_or(u8::MAX));
        }
    };
    let child = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let watched =
        release_stdout().and_then(|()| Watch { child, signals, phase: Phase::Serving, until: None, code: None }.run());
    if watched.is_err() {
        signal_descendants(Signal::SIGKILL);
    }
    watched
}

/// The gateway shall see the end of the child's stdout, not of ours.
fn release_stdout() -> io::Result<()> {
    Ok(dup2_stdout(File::open("/dev/null")?)?)
}

struct Watch {
    child: Pid,
    signals: SignalFd,
    phase: Phase,
    /// When the next phase begins.
    until: Option<Instant>,
    /// What the child ended with.
    code: Option<u8>,
}

impl Watch {
    fn run(mut self) -> io::Result<u8> {
        while self.reap()? {
            if self.code.is_some() && self.phase < Phase::Told {
                self.enter(Phase::Told);
            }
            match self.until {
                Some(until) if until <= Instant::now() => match self.phase {
                    Phase::Serving | Phase::Asked => self.enter(Phase::Told),
                    Phase::Told => self.enter(Phase::Killed),
                    Phase::Killed => break,
                },
                _ => {}
            }
            if self.phase == Phase::Killed {
                // Again and again: they may have children faster than they are found.
                signal_descendants(Signal::SIGKILL);
            }
            self.wait()?;
        }
        Ok(self.code.unwrap_or(u8::MAX))
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.until = Some(
            Instant::now()
                + match phase {
                    Phase::Serving | Phase::Asked => GRACE,
                    Phase::Told => TERM_GRACE,
                    Phase::Killed => KILL_MAX,
                },
        );
        if phase == Phase::Told {
            signal_descendants(Signal::SIGTERM);
        }
    }

    /// Takes note of all who have ended; false if nobody is left.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.child => {
                    self.code = Some(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.child => {
                    self.code = Some(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX));
                }
                Ok(WaitStatus::StillAlive) => return Ok(true),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until somebody ends, we are asked to end, or the next phase begins.
    fn wait(&mut self) -> io::Result<()> {
        let serving = self.phase == Phase::Serving;
        let stdin = io::stdin();
        // Asked for nothing, poll still tells of a hang-up. Once that is known it would tell of it for ever.
        let fds =
            &mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN), PollFd::new(stdin.as_fd(), PollFlags::empty())]
                [..if serving { 2 } else { 1 }];
        match poll(fds, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let hung_up = fds.get(1).and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
        while let Some(signal) = self.signals.read_signal()? {
            // A second word hurries.
            if signal.ssi_signo != Signal::SIGCHLD as u32 && self.phase < Phase::Told {
                self.enter(Phase::Told);
            }
        }
        if hung_up && self.phase == Phase::Serving {
            self.enter(Phase::Asked);
        }
        Ok(())
    }

    fn timeout(&self) -> PollTimeout {
        let Some(until) = self.until else { return PollTimeout::NONE };
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let left = if self.phase == Phase::Killed { LOOK_AGAIN } else { left };
        PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)
    }
}

/// Signals all below us, whatever group or session they are in.
fn signal_descendants(signal: Signal) {
    for pid in descendants() {
        // It has ended meanwhile: just what is wanted.
        let _ = kill(pid, signal);
    }
}

/// The processes below this one, as far as `/proc` tells at this moment.
fn descendants() -> Vec<Pid> {
    let all: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, parent(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
        })
        .collect();
    let mut found = vec![Pid::this().as_raw()];
    let mut at = 0;
    while let Some(&above) = found.get(at) {
        let below = all.iter().filter(|&&(pid, parent)| parent == above && !found.contains(&pid));
        let below: Vec<i32> = below.map(|&(pid, _)| pid).collect();
        found.extend(below);
        at += 1;
    }
    found.into_iter().skip(1).map(Pid::from_raw).collect()
}

/// The parent in `/proc/PID/stat` (proc_pid_stat(5)): behind the name, which may hold anything, brackets too.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_whatever_the_name_is() {
        assert_eq!(parent("12 (a) b) R 7 12 12 0 -1"), Some(7));
        assert_eq!(parent("garbage"), None);
    }

    #[test]
    fn a_child_is_among_the_descendants() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        assert!(descendants().contains(&Pid::from_raw(child.id() as i32)));
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    #[test]
    fn the_whole_end_fits_into_two_seconds() {
        assert!(GRACE + TERM_GRACE + LOOK_AGAIN * 5 < END_MAX && END_MAX < Duration::from_secs(2));
    }
}
