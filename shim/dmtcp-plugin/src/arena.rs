//! The plugin's memory. At a checkpoint a user thread may stand inside the C library's `malloc`
//! with its lock held; so this never calls it.
//!
//! Memory is taken from the front of a mapping and given back only from its end. The tables are
//! cleared and filled again at each checkpoint and keep their capacity, so the arena stops growing
//! with the largest number of descriptors that the process has had.

use crate::sys;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

#[global_allocator]
static ARENA: Arena = Arena {
    taken: AtomicBool::new(false),
    free: UnsafeCell::new((0, 0)),
};

const CHUNK: usize = 1 << 20;

struct Arena {
    /// Spin lock. It is held for a few instructions, by hooks only: no user thread that could be
    /// suspended allocates here.
    taken: AtomicBool,
    /// Addresses: next free byte, end of the chunk. Guarded by `taken`.
    free: UnsafeCell<(usize, usize)>,
}

// SAFETY: the cell is only touched while `taken` is held.
unsafe impl Sync for Arena {}

impl Arena {
    fn with<T>(&self, work: impl FnOnce(&mut (usize, usize)) -> T) -> T {
        while self.taken.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        // SAFETY: `taken` is held, and `work` does not come back here.
        let result = work(unsafe { &mut *self.free.get() });
        self.taken.store(false, Ordering::Release);
        result
    }
}

// SAFETY: each block lies within a mapping of its own chunk, aligned, and is handed out once until
// it is given back; blocks are given back only from the end.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.with(|(next, end)| {
            let aligned = |address: usize| address.next_multiple_of(layout.align());
            if *next == 0 || aligned(*next) + layout.size() > *end {
                let length = (layout.size() + layout.align()).next_multiple_of(CHUNK);
                let chunk = sys::map(length);
                if chunk.is_null() {
                    return chunk;
                }
                (*next, *end) = (chunk.expose_provenance(), chunk.addr() + length);
            }
            let start = aligned(*next);
            *next = start + layout.size();
            core::ptr::with_exposed_provenance_mut(start)
        })
    }

    // SAFETY: only the address is compared; the block itself is not touched.
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.with(|(next, _)| {
            if block.addr() + layout.size() == *next {
                *next = block.addr();
            }
        });
    }
}
