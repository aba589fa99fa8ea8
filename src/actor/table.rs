//! A descriptor table of one's own: how one process holds more sockets than `RLIMIT_NOFILE` allows a table.

use std::collections::HashSet;
use std::os::fd::{AsRawFd, RawFd};
use std::{fs, io};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::close;

/// The descriptors that every table has: those which were open before the first thread left the shared one, polls,
/// wakers and runtimes among them.
pub struct CommonDescriptors(HashSet<RawFd>);

impl CommonDescriptors {
    /// Those which are open now in the table of the calling thread.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn now() -> io::Result<Self> {
        Ok(Self(open_now()?.into_iter().collect()))
    }

    /// Without this one, which is to be closed before the process ends: a copy in another table would keep it open.
    #[must_use]
    pub fn without(mut self, descriptor: &impl AsRawFd) -> Self {
        self.0.remove(&descriptor.as_raw_fd());
        self
    }

    /// Gives the calling thread its own copy of the descriptor table (`unshare(CLONE_FILES)`, unshare(2)), with these in
    /// it and no others.
    ///
    /// `RLIMIT_NOFILE` counts per table, so each thread that calls this may hold that many descriptors of its own. What
    /// the caller opens from here on is valid on this thread only. Others have opened sockets and pipes in the shared
    /// table by the time a shard is restarted: a copy kept here would hold them open when their owners have closed them.
    /// Returns false where the host refuses it (some container profiles do); the thread then keeps the shared table.
    pub fn unshare(&self) -> bool {
        if let Err(error) = unshare(CloneFlags::CLONE_FILES) {
            tracing::warn!(%error, "no descriptor table of its own for this shard: all shards share one limit");
            return false;
        }
        match open_now() {
            Ok(open) => {
                for other in open.into_iter().filter(|descriptor| !self.0.contains(descriptor)) {
                    // A copy, in a table that only this thread has: nobody misses it.
                    let _ = close(other);
                }
            }
            Err(error) => tracing::warn!(%error, "a shard keeps copies of what the process has opened since its start"),
        }
        true
    }
}

/// The descriptors of the calling thread's table (`/proc/self` would show the first thread's).
fn open_now() -> io::Result<Vec<RawFd>> {
    let entries = fs::read_dir("/proc/thread-self/fd")?.flatten();
    let listed: Vec<RawFd> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The one that listed them was listed too and is closed by now; the next thing opened will have its number.
    let is_open = |descriptor: &RawFd| fs::symlink_metadata(format!("/proc/thread-self/fd/{descriptor}")).is_ok();
    Ok(listed.into_iter().filter(is_open).collect())
}
