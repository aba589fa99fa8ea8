//! What the cgroups of this process allow and charge, in version 2 and in version 1: of each limit the tightest above us.

use super::host::Usage;
use super::procfs::first;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a cgroup controller keeps its limit and its use.
pub(super) struct Controller {
    v1_name: &'static str,
    v1_files: [&'static str; 2],
    v2_files: [&'static str; 2],
}

pub(super) const MEMORY: Controller = Controller {
    v1_name: "memory",
    v1_files: ["memory.limit_in_bytes", "memory.usage_in_bytes"],
    v2_files: ["memory.max", "memory.current"],
};

pub(super) const PIDS: Controller =
    Controller { v1_name: "pids", v1_files: ["pids.max", "pids.current"], v2_files: ["pids.max", "pids.current"] };

/// Version 2 has quota and period in one file.
const CPU: Controller = Controller {
    v1_name: "cpu",
    v1_files: ["cpu.cfs_quota_us", "cpu.cfs_period_us"],
    v2_files: ["cpu.max", "cpu.max"],
};

/// Version 1 says "no limit" with the largest multiple of a page: anything from 2^62 on means none.
const NO_LIMIT: u64 = 1 << 62;

/// The tightest limit of the process' cgroup and of every cgroup above it.
pub(super) fn usage(root: &Path, controller: &Controller) -> Usage {
    let each = folders(root, controller).into_iter().map(|(folder, files)| usage_in(&folder, files));
    each.fold(Usage::default(), Usage::tighter)
}

/// Memory that the tightest cgroup charges and cannot drop (page cache of files is not counted), against its limit. What
/// the kernel holds for our sockets is charged too.
#[must_use]
pub fn memory() -> Usage {
    memory_below(Path::new("/"))
}

fn memory_below(root: &Path) -> Usage {
    let each = folders(root, &MEMORY).into_iter().map(|(folder, files)| {
        let usage = usage_in(&folder, files);
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        // Version 1 has figures of the cgroup alone beside those of all below it, which begin with `total_`.
        let cache = |list: &str| word(&stat, &format!("total_{list}")).or_else(|| word(&stat, list)).unwrap_or(0);
        let droppable = cache("inactive_file") + cache("active_file");
        Usage { used: usage.used.map(|used| used.saturating_sub(droppable)), ..usage }
    });
    each.fold(Usage::default(), Usage::tighter)
}

/// Thousandths of a core that the cgroups let this process use, where they limit that.
#[must_use]
pub fn cpu_millicores() -> Option<u64> {
    millicores_below(Path::new("/"))
}

fn millicores_below(root: &Path) -> Option<u64> {
    let each = folders(root, &CPU).into_iter().filter_map(|(folder, [quota, period])| {
        let text = fs::read_to_string(folder.join(quota)).ok()?;
        // `max` and -1 mean no quota, and are no numbers of this kind.
        let quota_us: u64 = first(&text)?;
        let period_us: u64 = if quota == period {
            text.split_whitespace().nth(1)?.parse().ok()?
        } else {
            first(&fs::read_to_string(folder.join(period)).ok()?)?
        };
        quota_us.checked_mul(1_000)?.checked_div(period_us)
    });
    each.min()
}

/// The folders of the process' cgroup and of every cgroup above it, with the names of the files there.
fn folders<'c>(root: &Path, controller: &'c Controller) -> Vec<(PathBuf, &'c [&'static str; 2])> {
    let membership = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut found = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (mount, files) = if names.is_empty() {
            (root.join("sys/fs/cgroup"), &controller.v2_files)
        } else if names.split(',').any(|name| name == controller.v1_name) {
            (root.join("sys/fs/cgroup").join(controller.v1_name), &controller.v1_files)
        } else {
            continue;
        };
        let own = Path::new(path.trim_start_matches('/'));
        found.extend(own.ancestors().map(|folder| (mount.join(folder), files)));
    }
    found
}

fn usage_in(folder: &Path, [limit, used]: &[&str; 2]) -> Usage {
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok().and_then(|text| first::<u64>(&text));
    Usage { limit: read(limit).filter(|&limit| limit < NO_LIMIT), used: read(used) }
}

/// The number behind this word at the start of a line.
fn word(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::host::tests::Fake;
    use super::*;

    #[test]
    fn cache_that_can_be_dropped_is_not_counted() {
        let fake = Fake::new(
            "charged",
            &[
                ("proc/self/cgroup", "0::/pod/lakh\n"),
                ("sys/fs/cgroup/pod/memory.max", "1000\n"),
                ("sys/fs/cgroup/pod/memory.current", "900\n"),
                ("sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_file 600\nactive_file 100\n"),
                ("sys/fs/cgroup/pod/lakh/memory.max", "max\n"),
            ],
        );
        assert_eq!(memory_below(&fake.0), Usage { limit: Some(1_000), used: Some(200) });
        let old = Fake::new(
            "charged-v1",
            &[
                ("proc/self/cgroup", "4:memory:/\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "100\n"),
                ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 40\n"),
            ],
        );
        assert_eq!(memory_below(&old.0), Usage { limit: Some(1_000), used: Some(60) });
    }

    #[test]
    fn the_least_quota_of_processor_time_counts() {
        let fake = Fake::new(
            "quota",
            &[
                ("proc/self/cgroup", "0::/pod/lakh\n"),
                ("sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/pod/lakh/cpu.max", "max 100000\n"),
            ],
        );
        assert_eq!(millicores_below(&fake.0), Some(1_500));
        let old = Fake::new(
            "quota-v1",
            &[
                ("proc/self/cgroup", "3:cpu,cpuacct:/job\n"),
                ("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ],
        );
        assert_eq!(millicores_below(&old.0), Some(500));
        assert_eq!(millicores_below(Path::new("/nowhere")), None);
    }
}
