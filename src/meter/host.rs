//! What the host allows: limits, kernel knobs and memory, read once; a file that is not there is a `None`, never an error.

use super::cgroup;
use super::procfs::{kilobytes, number, numbers};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit};
use std::fs;
use std::path::Path;

/// The limits of this process and the knobs of its kernel. Sizes are in bytes unless said otherwise.
///
/// [`Host::default`] knows nothing, which is how a test describes a host of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// The kernel's release, as `6.18.44`.
    pub kernel: Option<String>,
    /// Cores this process may run on, cgroup quota included.
    pub cores: usize,
    /// Memory of the machine.
    pub memory_total: Option<u64>,
    /// Memory that new work can have without swapping.
    pub memory_available: Option<u64>,
    /// Descriptors per table now (`RLIMIT_NOFILE`, soft).
    pub nofile_soft: Option<u64>,
    /// Descriptors per table to which this process may raise itself (`RLIMIT_NOFILE`, hard); `u64::MAX`: no limit.
    pub nofile_hard: Option<u64>,
    /// Whether a thread may have a descriptor table of its own: `unshare(CLONE_FILES)` was tried and worked.
    pub own_tables: bool,
    /// `fs.nr_open`: what `RLIMIT_NOFILE` can be raised to by root.
    pub nr_open: Option<u64>,
    /// `fs.file-max`: open files of the whole machine.
    pub file_max: Option<u64>,
    /// Open files of the whole machine now.
    pub files_open: Option<u64>,
    /// `kernel.threads-max`: threads of the whole machine.
    pub threads_max: Option<u64>,
    /// `kernel.pid_max`: thread ids of the whole machine.
    pub pid_max: Option<u64>,
    /// Tasks the cgroup allows, and has now.
    pub cgroup_pids: Usage,
    /// Memory the cgroup allows, and has now (page cache included).
    pub cgroup_memory: Usage,
    /// `net.core.somaxconn`: accepted connections that may wait for one listener.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`: half-open connections that may wait for one listener.
    pub syn_backlog: Option<u64>,
    /// `net.ipv4.tcp_mem`, in pages: below, pressure, most, for all TCP buffers of the machine.
    pub tcp_mem: Option<[u64; 3]>,
    /// `net.ipv4.tcp_rmem`: least, first, most receive buffer of a socket.
    pub tcp_rmem: Option<[u64; 3]>,
    /// `net.ipv4.tcp_wmem`: least, first, most send buffer of a socket.
    pub tcp_wmem: Option<[u64; 3]>,
    /// `net.ipv4.ip_local_port_range`: first and last port for outgoing connections.
    pub port_range: Option<[u64; 2]>,
    /// Connections that netfilter can track, and tracks now; `limit` is `None` where it is not loaded.
    pub conntrack: Usage,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// `vm.max_map_count`: mappings of one process; each thread takes two.
    pub map_count_max: Option<u64>,
    /// `vm.overcommit_memory`: 0 heuristic, 1 always, 2 never.
    pub overcommit: Option<u64>,
}

/// A limit and how much of it is used; `None`: no such limit, or not readable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The most there can be.
    pub limit: Option<u64>,
    /// What there is now.
    pub used: Option<u64>,
}

impl Usage {
    /// What is left below the limit, where there is one.
    #[must_use]
    pub fn left(self) -> Option<u64> {
        Some(self.limit?.saturating_sub(self.used.unwrap_or(0)))
    }

    /// The tighter of two.
    pub(super) fn tighter(self, other: Self) -> Self {
        match (self.left(), other.left()) {
            (None, _) => other,
            (Some(mine), Some(theirs)) if theirs < mine => other,
            _ => self,
        }
    }
}

impl Host {
    /// Reads the host this process runs on. It starts one short thread, to try whether that may leave the shared
    /// descriptor table; every other thread keeps its own.
    #[must_use]
    pub fn read() -> Self {
        let limits = getrlimit(Resource::RLIMIT_NOFILE).ok();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            nofile_soft: limits.map(|(soft, _)| soft),
            nofile_hard: limits.map(|(_, hard)| hard),
            own_tables: may_own_table(),
            ..Self::from_files(Path::new("/"))
        }
    }

    /// What the files under `root` say; what comes from system calls is left at its default.
    fn from_files(root: &Path) -> Self {
        let knob = |name: &str| root.join("proc/sys").join(name);
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        Self {
            kernel: fs::read_to_string(knob("kernel/osrelease")).ok().map(|text| text.trim().to_owned()),
            memory_total: kilobytes(&meminfo, "MemTotal"),
            memory_available: kilobytes(&meminfo, "MemAvailable"),
            nr_open: number(&knob("fs/nr_open")),
            file_max: number(&knob("fs/file-max")),
            files_open: number(&knob("fs/file-nr")),
            threads_max: number(&knob("kernel/threads-max")),
            pid_max: number(&knob("kernel/pid_max")),
            cgroup_pids: cgroup::usage(root, &cgroup::PIDS),
            cgroup_memory: cgroup::usage(root, &cgroup::MEMORY),
            somaxconn: number(&knob("net/core/somaxconn")),
            syn_backlog: number(&knob("net/ipv4/tcp_max_syn_backlog")),
            tcp_mem: numbers(&knob("net/ipv4/tcp_mem")),
            tcp_rmem: numbers(&knob("net/ipv4/tcp_rmem")),
            tcp_wmem: numbers(&knob("net/ipv4/tcp_wmem")),
            port_range: numbers(&knob("net/ipv4/ip_local_port_range")),
            conntrack: Usage {
                limit: number(&knob("net/netfilter/nf_conntrack_max")),
                used: number(&knob("net/netfilter/nf_conntrack_count")),
            },
            huge_pages: fs::read_to_string(root.join("sys/kernel/mm/transparent_hugepage/enabled"))
                .ok()
                .and_then(|text| chosen(&text)),
            map_count_max: number(&knob("vm/max_map_count")),
            overcommit: number(&knob("vm/overcommit_memory")),
            ..Self::default()
        }
    }

    /// Memory that new work can have here: what the machine has available, or the cgroup's rest where that is less.
    #[must_use]
    pub fn memory_left(&self) -> Option<u64> {
        match (self.memory_available, self.cgroup_memory.left()) {
            (Some(machine), Some(cgroup)) => Some(machine.min(cgroup)),
            (machine, cgroup) => machine.or(cgroup),
        }
    }

    /// Outgoing connections that one source address can have to one destination: the ports of the range.
    #[must_use]
    pub fn ports_per_source(&self) -> Option<u64> {
        let [low, high] = self.port_range?;
        Some(high.checked_sub(low)? + 1)
    }
}

/// Tries it, on a thread that ends at once: the copied table goes with it.
fn may_own_table() -> bool {
    std::thread::scope(|scope| {
        let trial = scope.spawn(|| unshare(CloneFlags::CLONE_FILES).is_ok());
        trial.join().unwrap_or(false)
    })
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A host made of files, removed at the end of its test.
    pub(in crate::meter) struct Fake(pub(in crate::meter) PathBuf);

    impl Fake {
        pub(in crate::meter) fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("lakh-host-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
                fs::write(path, text).expect("a writable folder");
            }
            Self(root)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn this_host_says_what_every_linux_says() {
        let host = Host::read();
        assert!(host.cores >= 1);
        assert!(host.nofile_soft.expect("a limit") <= host.nofile_hard.expect("a limit"));
        assert!(host.memory_left().expect("meminfo") > 0);
        assert!(host.file_max.is_some() && host.threads_max.is_some());
    }

    #[test]
    fn trying_to_unshare_leaves_this_thread_its_descriptors() {
        let file = fs::File::open("/proc/self/status").expect("Linux");
        may_own_table();
        assert!(file.metadata().is_ok());
    }

    #[test]
    fn knobs_are_read_and_missing_ones_are_none() {
        let fake = Fake::new(
            "knobs",
            &[
                ("proc/sys/net/ipv4/tcp_mem", "10\t20\t30\n"),
                ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
                ("proc/sys/net/ipv4/tcp_rmem", "4096 broken 7\n"),
                ("proc/sys/fs/file-nr", "487\t0\t2466170\n"),
                ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ],
        );
        let host = Host::from_files(&fake.0);
        assert_eq!(host.tcp_mem, Some([10, 20, 30]));
        assert_eq!(host.ports_per_source(), Some(28_232));
        assert_eq!(host.tcp_rmem, None);
        assert_eq!(host.files_open, Some(487));
        assert_eq!(host.huge_pages.as_deref(), Some("madvise"));
        assert_eq!(host.memory_left(), None);
    }

    #[test]
    fn the_tightest_cgroup_above_us_counts() {
        let fake = Fake::new(
            "v2",
            &[
                ("proc/meminfo", "MemTotal: 4096 kB\nMemAvailable: 2048 kB\n"),
                ("proc/self/cgroup", "0::/outer/inner\n"),
                ("sys/fs/cgroup/outer/memory.max", "1000000\n"),
                ("sys/fs/cgroup/outer/memory.current", "400000\n"),
                ("sys/fs/cgroup/outer/inner/memory.max", "max\n"),
                ("sys/fs/cgroup/outer/inner/pids.max", "100\n"),
            ],
        );
        let host = Host::from_files(&fake.0);
        assert_eq!(host.cgroup_memory.left(), Some(600_000));
        assert_eq!(host.memory_left(), Some(600_000));
        assert_eq!(host.cgroup_pids, Usage { limit: Some(100), used: None });
    }

    #[test]
    fn cgroup_version_1_without_a_limit_has_none() {
        let fake = Fake::new(
            "v1",
            &[
                ("proc/self/cgroup", "8:pids:/\n4:cpu,memory:/job\n"),
                ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "5\n"),
            ],
        );
        assert_eq!(Host::from_files(&fake.0).cgroup_memory.limit, None);
    }
}
