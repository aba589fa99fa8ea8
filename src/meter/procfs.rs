//! Reading the small text files in which the kernel publishes its figures.

use std::fs;
use std::path::Path;
use std::str::FromStr;

/// The value of the line `key:   123 kB`, in bytes, as in `status`, `smaps_rollup` and `meminfo`.
pub(super) fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let (number, unit) = rest.trim().split_once(' ')?;
    (unit == "kB").then(|| number.parse::<u64>().ok())??.checked_mul(1024)
}

/// The number after `field` on the line that starts with `key`, as in `sockstat`: `TCP: inuse 1 orphan 0`.
pub(super) fn after(text: &str, key: &str, field: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let mut words = rest.split_whitespace();
    words.find(|&word| word == field)?;
    words.next()?.parse().ok()
}

/// The file's first number; `None` where there is no such file, it may not be read, or it says something else (`max`).
pub(super) fn number<T: FromStr>(path: &Path) -> Option<T> {
    first(&fs::read_to_string(path).ok()?)
}

/// The file's `N` numbers, separated by blanks.
pub(super) fn numbers<const N: usize>(path: &Path) -> Option<[u64; N]> {
    let text = fs::read_to_string(path).ok()?;
    let parsed: Option<Vec<u64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    parsed?.try_into().ok()
}

/// The text's first number.
pub(super) fn first<T: FromStr>(text: &str) -> Option<T> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_are_found_by_their_whole_key() {
        let text = "VmPeakX:\t 1 kB\nVmRSS:\t    12 kB\nThreads:\t3\nHuge: 99999999999999999999 kB\n";
        assert_eq!(kilobytes(text, "VmRSS"), Some(12 * 1024));
        assert_eq!(kilobytes(text, "VmPeak"), None);
        assert_eq!(kilobytes(text, "Threads"), None);
        assert_eq!(kilobytes(text, "Huge"), None);
    }

    #[test]
    fn a_field_is_found_on_its_own_line() {
        let text = "sockets: used 14\nTCP: inuse 1 orphan 0 tw 2 alloc 5 mem 7\nUDP: inuse 9 mem 0\n";
        assert_eq!(after(text, "TCP", "alloc"), Some(5));
        assert_eq!(after(text, "UDP", "alloc"), None);
        assert_eq!(after(text, "sockets", "used"), Some(14));
    }

    #[test]
    fn what_is_not_there_is_none() {
        assert_eq!(number::<u64>(Path::new("/nowhere/at/all")), None);
        assert_eq!(first::<u64>("max\n"), None);
    }
}
