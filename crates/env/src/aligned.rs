//! [`AlignedBuf`]: memory that direct I/O accepts, made once and used again. It does no I/O.

#![expect(unsafe_code, reason = "memory of a chosen alignment")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::ALIGN;

/// A byte buffer whose memory starts at a multiple of [`ALIGN`] and has a fixed capacity.
///
/// Memory is not touched before it is first filled, and kept through [`clear`](Self::clear), so use a buffer
/// again rather than making another: the first touch of a page is what costs.
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    /// Bytes in use; at most `filled`.
    len: usize,
    /// Bytes from the start that have been written at least once; at most `capacity`.
    filled: usize,
    capacity: usize,
}

// SAFETY: the buffer owns its memory; no other pointer to it exists, and `&AlignedBuf` only reads.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// An empty buffer for at least `bytes` bytes, rounded up to a multiple of [`ALIGN`] (at least one).
    ///
    /// # Panics
    /// If `bytes` rounded up does not fit the address space.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let capacity = bytes.max(1).checked_next_multiple_of(ALIGN).expect("capacity fits the address space");
        let layout = Self::layout(capacity);
        // SAFETY: the layout's size is not zero (`capacity >= ALIGN`).
        let ptr = unsafe { alloc(layout) };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout) };
        Self { ptr, len: 0, filled: 0, capacity }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, ALIGN).expect("capacity fits the address space")
    }

    /// Bytes in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes there is room for in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes there is still room for.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.capacity - self.len
    }

    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends bytes.
    ///
    /// # Panics
    /// If they do not fit into [`remaining`](Self::remaining).
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.remaining(), "{} bytes into {} left", bytes.len(), self.remaining());
        // SAFETY: `len + bytes.len() <= capacity` was checked; `bytes` cannot overlap memory that `&mut self`
        // owns.
        unsafe {
            self.ptr.as_ptr().add(self.len).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        self.len += bytes.len();
        self.filled = self.filled.max(self.len);
    }

    /// Makes the length `len`: cut when it was longer, filled up with zeros when it was shorter.
    ///
    /// # Panics
    /// If `len` is above the capacity.
    pub fn resize_zeroed(&mut self, len: usize) {
        assert!(len <= self.capacity, "{len} bytes into a capacity of {}", self.capacity);
        if len > self.len {
            // SAFETY: `self.len..len` lies within the capacity.
            unsafe { self.ptr.as_ptr().add(self.len).write_bytes(0, len - self.len) };
        }
        self.len = len;
        self.filled = self.filled.max(len);
    }

    /// Makes the length `len` for a caller that overwrites it all, as a read does: bytes past the old length
    /// hold zeros or what was in the buffer before.
    ///
    /// # Panics
    /// If `len` is above the capacity.
    pub fn resize_for_overwrite(&mut self, len: usize) {
        if len > self.filled {
            self.len = self.len.max(self.filled);
            self.resize_zeroed(len);
        }
        self.len = len;
    }

    /// The bytes in use.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the first `len <= filled` bytes have been written, and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    /// The bytes in use, to change.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; `&mut self` makes the borrow the only one.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: `ptr` came from `alloc` with this same layout and is freed only here.
        unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.capacity)) };
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsMut<[u8]> for AlignedBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_capacity_rounds_up() {
        for bytes in [0, 1, ALIGN, ALIGN + 1, 1 << 20] {
            let buf = AlignedBuf::with_capacity(bytes);
            assert_eq!(buf.as_slice().as_ptr().addr() % ALIGN, 0);
            assert_eq!(buf.capacity() % ALIGN, 0);
            assert!(buf.capacity() >= bytes.max(1) && buf.is_empty());
        }
    }

    #[test]
    fn content_is_what_was_appended_and_memory_is_kept() {
        let mut buf = AlignedBuf::with_capacity(ALIGN);
        buf.extend_from_slice(b"abc");
        buf.extend_from_slice(b"de");
        buf.resize_zeroed(7);
        assert_eq!(&*buf, b"abcde\0\0");
        let at = buf.as_ptr();
        buf.clear();
        buf.resize_zeroed(4);
        assert_eq!(&*buf, &[0; 4]);
        assert_eq!(buf.as_ptr(), at);
        buf.resize_for_overwrite(ALIGN);
        assert_eq!(&buf[..8], b"\0\0\0\0e\0\0\0");
        assert!(buf[8..].iter().all(|b| *b == 0));
        buf.as_mut()[0] = 9;
        assert_eq!(buf[0], 9);
    }

    #[test]
    #[should_panic(expected = "bytes into")]
    fn more_than_the_capacity_is_refused() {
        let mut buf = AlignedBuf::with_capacity(1);
        buf.extend_from_slice(&[0; ALIGN + 1]);
    }
}
