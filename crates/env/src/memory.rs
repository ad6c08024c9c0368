//! Memory that is free and still resident.
#![expect(unsafe_code, reason = "a function of the allocator, which is written in C")]

// Links the allocator.
use libmimalloc_sys as _;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Gives the operating system back what the allocator keeps of memory that was freed. It takes as long as there is memory to give back,
/// some milliseconds for 100 MiB, and the next to allocate pay for fresh pages: for moments when nothing is going on.
/// Nothing happens where the program uses another allocator than mimalloc.
pub fn give_back_memory() {
    // SAFETY: it may be called from any thread at any time, and touches no memory in use.
    unsafe { mi_collect(true) }
}
