//! What the allocator holds, in use or kept for later.

// The one file of the crate that calls C: mimalloc publishes its figures through no safe wrapper.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr;

/// The figures of mimalloc, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllocatorMemory {
    /// Taken from the system and usable: live objects, and free ones kept for the next. Pages of it that nobody touched
    /// are not resident.
    pub committed: u64,
    /// The most that was ever committed.
    pub committed_peak: u64,
}

impl AllocatorMemory {
    /// Reads the figures; `None` where another allocator serves the heap, as under `dhat-heap`.
    #[must_use]
    pub fn read() -> Option<Self> {
        let probe = Box::new(0_u8);
        // SAFETY: only the address is looked at, never what it points to.
        let ours = unsafe { libmimalloc_sys::mi_is_in_heap_region(ptr::from_ref::<u8>(&probe).cast::<c_void>()) };
        ours.then(committed)
    }
}

/// Has the allocator give back to the system what this thread's heap keeps for later. No effect where another allocator
/// serves the heap.
pub fn give_back() {
    // SAFETY: it touches blocks that nobody owns, of this thread's heap.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

fn committed() -> AllocatorMemory {
    let (mut current, mut peak) = (0_usize, 0_usize);
    let skip = ptr::null_mut();
    // SAFETY: every parameter is an optional out-pointer; the two given live on this stack until after the call.
    unsafe {
        libmimalloc_sys::mi_process_info(skip, skip, skip, skip, skip, &raw mut current, &raw mut peak, skip);
    }
    AllocatorMemory { committed: current as u64, committed_peak: peak as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_mimalloc_is_told_apart_and_counted() {
        let before = committed();
        // SAFETY: given back once, below, and not touched.
        let block = unsafe { libmimalloc_sys::mi_malloc(512 << 20) };
        let during = committed();
        let on_stack = 0_u8;
        // SAFETY: only the addresses are looked at.
        let (ours, theirs) = unsafe {
            (
                libmimalloc_sys::mi_is_in_heap_region(block),
                libmimalloc_sys::mi_is_in_heap_region((&raw const on_stack).cast()),
            )
        };
        // SAFETY: from `mi_malloc`, not given back before.
        unsafe { libmimalloc_sys::mi_free(block) };
        assert!(ours && !theirs);
        // Half of it, because other tests allocate and free meanwhile.
        assert!(during.committed >= before.committed + (256 << 20), "{before:?} {during:?}");
        assert!(during.committed_peak >= during.committed);
    }
}
