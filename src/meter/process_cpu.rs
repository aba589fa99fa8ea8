//! How much CPU time a process has used, as the kernel counts it.

use std::time::Duration;
use std::{fs, io};

/// Ticks of a second in `/proc/PID/stat`. It is a constant of the kernel's interface (`USER_HZ`), whatever its own clock is.
const TICKS_PER_S: u64 = 100;

/// User and system time of all threads of the process, since it began. It grows in steps of 10 ms.
///
/// # Errors
/// When there is no such process (any more).
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no times")))
}

/// The fields 14 and 15; a program's name may hold blanks and brackets, and the last bracket ends it.
fn parse(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()?.checked_add(fields.next()?.parse().ok()?)?;
    Some(Duration::from_millis(ticks.checked_mul(1_000 / TICKS_PER_S)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1500 0 0 0 125 75 0 0 20 0 4 0 100 9 9";
        assert_eq!(parse(stat), Some(Duration::from_secs(2)));
        assert_eq!(parse("7 (a) S 1 2"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(cpu_time(std::process::id()).is_ok());
        assert!(cpu_time(u32::MAX).is_err());
    }
}
