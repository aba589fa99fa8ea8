//! What the kernel holds for sockets: outside of every process, so reported beside our own memory.

use super::procfs::{after, kilobytes};
use std::fs;
use std::io;

/// Kernel memory of the whole machine (a container sees its host's), and the sockets of this network namespace.
///
/// The difference between two readings, divided by the connections opened in between, is the kernel's cost per connection;
/// with the load generator on the same machine both ends of each connection are in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelMemory {
    /// Bytes in slabs: sockets, inodes, dentries, files, epoll entries and whatever else the machine does.
    pub slab: u64,
    /// The part of `slab` that the kernel can't give back under pressure.
    pub slab_unreclaimable: u64,
    /// Memory of the machine that new work could have without swapping (`MemAvailable`), in bytes.
    pub available: u64,
    /// Pages of TCP buffers, against `net.ipv4.tcp_mem`; an idle socket has none.
    pub tcp_pages: u64,
    /// Sockets of any kind.
    pub sockets: u64,
    /// TCP sockets allocated, both IP versions, orphans included.
    pub tcp_sockets: u64,
    /// TCP sockets that no process holds any more.
    pub tcp_orphans: u64,
    /// Closed TCP connections whose ports still rest.
    pub tcp_time_wait: u64,
}

impl KernelMemory {
    /// Reads the figures of now.
    ///
    /// # Errors
    /// When `/proc/meminfo` or `/proc/net/sockstat` can't be read, or lacks a figure.
    pub fn read() -> io::Result<Self> {
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let sockstat = fs::read_to_string("/proc/net/sockstat")?;
        Self::parse(&meminfo, &sockstat)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "meminfo or sockstat lacks a figure"))
    }

    fn parse(meminfo: &str, sockstat: &str) -> Option<Self> {
        Some(Self {
            slab: kilobytes(meminfo, "Slab")?,
            slab_unreclaimable: kilobytes(meminfo, "SUnreclaim")?,
            available: kilobytes(meminfo, "MemAvailable")?,
            tcp_pages: after(sockstat, "TCP", "mem")?,
            sockets: after(sockstat, "sockets", "used")?,
            tcp_sockets: after(sockstat, "TCP", "alloc")?,
            tcp_orphans: after(sockstat, "TCP", "orphan")?,
            tcp_time_wait: after(sockstat, "TCP", "tw")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn open_sockets_are_seen() {
        // Others on this machine open and close sockets of their own: one undisturbed attempt of many is enough.
        let seen = (0..20).any(|_| {
            let before = KernelMemory::read().expect("Linux");
            let held: Vec<TcpListener> =
                (0..200).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")).collect();
            let during = KernelMemory::read().expect("Linux");
            assert!(during.slab >= during.slab_unreclaimable && during.slab > 0);
            (200..220).contains(&(during.tcp_sockets.saturating_sub(before.tcp_sockets)))
                && during.sockets >= held.len() as u64
        });
        assert!(seen);
    }

    #[test]
    fn each_figure_comes_from_its_own_field() {
        let meminfo = "MemAvailable:  70 kB\nSlab:  100 kB\nSReclaimable:  60 kB\nSUnreclaim:  40 kB\n";
        let sockstat = "sockets: used 1\nTCP: inuse 2 orphan 3 tw 4 alloc 5 mem 6\nUDP: inuse 7 mem 8\n";
        let expected = KernelMemory {
            slab: 100 << 10,
            slab_unreclaimable: 40 << 10,
            available: 70 << 10,
            tcp_pages: 6,
            sockets: 1,
            tcp_sockets: 5,
            tcp_orphans: 3,
            tcp_time_wait: 4,
        };
        assert_eq!(KernelMemory::parse(meminfo, sockstat), Some(expected));
        assert_eq!(KernelMemory::parse(meminfo, "TCP: inuse 2\n"), None);
    }
}
