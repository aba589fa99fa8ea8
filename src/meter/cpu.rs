//! Processor time: what this process, or another one, has used, and what it may use.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::cgroup;

/// Ticks a second of the figures in `/proc/PID/stat`: `USER_HZ`, 100 on every architecture that Rust's standard library runs
/// Linux on.
const TICKS_PER_SECOND: u64 = 100;

/// Time on a processor that all threads of this process have had together, user and system.
#[must_use]
pub fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Thousandths of a core that this process may use: the cores it may run on, or its cgroup's quota (`cpu.max`) where that
/// is less. It may change while the process runs.
#[must_use]
pub fn allowed_millicores() -> u64 {
    // Of the main thread: shards are not pinned.
    let affinity = sched_getaffinity(Pid::from_raw(0)).map(|set| cores_in(&set));
    let cores = affinity.ok().filter(|&cores| cores > 0).unwrap_or(1);
    cgroup::cpu_millicores().map_or(1_000 * cores, |quota| quota.min(1_000 * cores)).max(1)
}

/// The processor time of the process with this id, its ended threads included, user and system: in steps of 10 ms. What the
/// kernel does for it in interrupts is not in it.
///
/// # Errors
/// When there is no such process (any more), or `/proc` is not there.
pub fn time_of(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no times")))
}

fn cores_in(set: &CpuSet) -> u64 {
    (0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).count() as u64
}

/// Fields 14 and 15 (proc(5)); the second field is a name in parentheses, which may hold blanks and parentheses itself.
fn parse(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(user.checked_add(system)?.checked_mul(1_000 / TICKS_PER_SECOND)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat = "7 (a ) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 150 3 4 20 0 5 0 100 1 1";
        assert_eq!(parse(stat), Some(Duration::from_secs(4)));
        assert_eq!(parse("7 (short) S 1 7"), None);
        assert_eq!(parse("nothing"), None);
    }

    #[test]
    fn this_process_takes_time_and_a_process_that_is_gone_none() {
        assert!(time_of(std::process::id()).is_ok());
        assert!(time_of(u32::MAX).is_err());
    }

    #[test]
    fn work_takes_time_and_some_is_allowed() {
        let before = used();
        let mut number = 1_u64;
        while used() - before < Duration::from_millis(5) {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        assert!(used() > before);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        // The standard library rounds a quota down to whole cores.
        assert!((1_000 * cores..1_000 * (cores + 1)).contains(&allowed_millicores()) || cores == 1);
    }
}
