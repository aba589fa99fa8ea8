//! Descriptors in use: each thread may have a table of its own, and a limit counts per table.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};

/// Descriptors in use in the fullest table of this process. `None` before Linux 6.2, where a table does not tell how many
/// it holds and would have to be read whole.
#[must_use]
pub fn fullest_table() -> Option<u64> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    // A thread may end meanwhile.
    let tables = threads.flatten().filter_map(|thread| fs::metadata(thread.path().join("fd")).ok());
    tables.map(|table| table.len()).max().filter(|&most| most > 0)
}

/// Descriptors that each table may hold (`RLIMIT_NOFILE`, soft).
#[must_use]
pub fn limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_seen_where_the_kernel_tells() {
        let Some(before) = fullest_table() else { return };
        let held: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").expect("Linux")).collect();
        // Others open and close files meanwhile.
        assert!(fullest_table().expect("it told before") >= before + 250);
        assert!(limit().expect("a limit") >= held.len() as u64);
    }
}
