//! What memory a process takes, as the kernel counts it.

use super::procfs::kilobytes;
use std::fs;
use std::io;

/// The memory of one process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident: what it occupies of the machine's memory, its binary and shared libraries included.
    pub rss: u64,
    /// The most that was ever resident (`VmHWM`; the kernel's own count, which may lag a few hundred KB behind `rss`).
    pub rss_peak: u64,
    /// Resident and private to it: heap and stacks, without the pages of files.
    pub anonymous: u64,
    /// Address space reserved; mostly untouched, so no measure of use.
    pub virt: u64,
    /// Page tables, which the kernel holds for it and `rss` does not contain.
    pub page_tables: u64,
    /// Threads alive.
    pub threads: u64,
}

impl ProcessMemory {
    /// Reads this process. It walks the page tables (about a millisecond per 100 MiB): once a second, not per message.
    ///
    /// # Errors
    /// When `/proc` is not there or not readable.
    pub fn read() -> io::Result<Self> {
        let mut memory = Self::in_folder("/proc/self")?;
        if let Some(stats) = memory_stats::memory_stats() {
            memory.rss = stats.physical_mem as u64;
            memory.virt = stats.virtual_mem as u64;
            memory.rss_peak = memory.rss_peak.max(memory.rss);
        }
        Ok(memory)
    }

    /// Reads the process with this id.
    ///
    /// # Errors
    /// When there is no such process (any more), or it belongs to someone else.
    pub fn of(pid: u32) -> io::Result<Self> {
        Self::in_folder(&format!("/proc/{pid}"))
    }

    fn in_folder(folder: &str) -> io::Result<Self> {
        let status = fs::read_to_string(format!("{folder}/status"))?;
        // The counters in `status` are kept per CPU and summed late; the rollup counts the pages. Older kernels lack it.
        let rollup = fs::read_to_string(format!("{folder}/smaps_rollup")).unwrap_or_default();
        Self::parse(&status, &rollup)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{folder}/status has no memory figures")))
    }

    fn parse(status: &str, rollup: &str) -> Option<Self> {
        let rss = kilobytes(rollup, "Rss").or_else(|| kilobytes(status, "VmRSS"))?;
        Some(Self {
            rss,
            rss_peak: kilobytes(status, "VmHWM")?.max(rss),
            anonymous: kilobytes(rollup, "Anonymous").or_else(|| kilobytes(status, "RssAnon"))?,
            virt: kilobytes(status, "VmSize")?,
            page_tables: kilobytes(status, "VmPTE").unwrap_or(0),
            threads: threads(status)?,
        })
    }
}

/// `Threads: 3` has the shape of a `key: number` line without fields.
fn threads(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tlakh\nVmSize:\t 9000 kB\nVmHWM:\t 5000 kB\nVmRSS:\t 4000 kB\nRssAnon:\t 3000 kB\nVmPTE:\t 80 kB\nThreads:\t7\n";

    #[test]
    fn this_process_uses_memory_and_sees_more_of_it_after_allocating() {
        let before = ProcessMemory::read().expect("Linux");
        assert!(before.rss > 0 && before.rss <= before.rss_peak && before.rss < before.virt, "{before:?}");
        let block = vec![1_u8; 32 << 20];
        let after = ProcessMemory::of(std::process::id()).expect("Linux");
        assert!(after.rss >= before.rss + (24 << 20), "{before:?} {after:?}");
        assert!(std::hint::black_box(block)[17] == 1);
    }

    #[test]
    fn the_rollup_is_preferred_and_may_be_missing() {
        let both = ProcessMemory::parse(STATUS, "Rss:   4100 kB\nAnonymous:  3100 kB\n").expect("whole");
        assert_eq!((both.rss, both.anonymous), (4100 << 10, 3100 << 10));
        let alone = ProcessMemory::parse(STATUS, "").expect("whole");
        assert_eq!((alone.rss, alone.anonymous, alone.rss_peak), (4000 << 10, 3000 << 10, 5000 << 10));
        assert_eq!((alone.virt, alone.page_tables, alone.threads), (9000 << 10, 80 << 10, 7));
    }

    #[test]
    fn a_process_that_is_gone_or_a_zombie_is_an_error() {
        assert!(ProcessMemory::of(u32::MAX).is_err());
        assert_eq!(ProcessMemory::parse("Name:\tgone\nState:\tZ (zombie)\nThreads:\t1\n", ""), None);
    }
}
