//! Frame buffers, used again. A buffer comes back when the last reader of its frame lets go of it; never before.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millstream_env::{ALIGN, AlignedBuf};

/// Sizes kept: 4 KiB, 8 KiB, … 4 MiB. Larger ones are freed.
const CLASSES: usize = 11;

/// Buffers at rest, by size. Start at [`Buffers::take`].
#[derive(Debug)]
pub(crate) struct Buffers {
    idle: Mutex<Idle>,
    idle_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Idle {
    classes: [Vec<AlignedBuf>; CLASSES],
    bytes: usize,
}

fn class(capacity: usize) -> usize {
    (capacity / ALIGN).max(1).next_power_of_two().trailing_zeros() as usize
}

impl Buffers {
    /// Keeps at most so many bytes that nobody uses.
    pub(crate) fn new(idle_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), idle_bytes_max })
    }

    /// An empty buffer for at least `bytes` bytes.
    pub(crate) fn take(&self, bytes: usize) -> AlignedBuf {
        let class = class(bytes.next_multiple_of(ALIGN));
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(list) = idle.classes.get_mut(class) else {
            return AlignedBuf::with_capacity(bytes);
        };
        if let Some(mut buf) = list.pop() {
            idle.bytes -= buf.capacity();
            drop(idle);
            buf.clear();
            return buf;
        }
        AlignedBuf::with_capacity(ALIGN << class)
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, buf: AlignedBuf) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = idle.bytes + buf.capacity() <= self.idle_bytes_max;
        let capacity = buf.capacity();
        if let Some(list) = idle.classes.get_mut(class(capacity))
            && fits
            && capacity.is_power_of_two()
        {
            list.push(buf);
            idle.bytes += capacity;
        }
    }

    /// Makes a buffer's content shareable. It comes back when the last clone is dropped.
    pub(crate) fn freeze(self: &Arc<Self>, buf: AlignedBuf) -> Bytes {
        Bytes::from_owner(Lent { buf: Some(buf), home: Arc::clone(self) })
    }

    /// A copy in the smallest buffer, if the content leaves more than half of this one empty.
    pub(crate) fn shrink(&self, buf: AlignedBuf) -> AlignedBuf {
        if buf.len() > buf.capacity() / 2 || buf.capacity() == ALIGN {
            return buf;
        }
        let mut small = self.take(buf.len());
        small.extend_from_slice(&buf);
        self.give(buf);
        small
    }
}

struct Lent {
    buf: Option<AlignedBuf>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buf.as_deref().unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(buf) = self.buf.take() {
            self.home.give(buf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_only_when_no_reader_holds_it() {
        let pool = Buffers::new(1 << 20);
        let mut buf = pool.take(5000);
        assert_eq!(buf.capacity(), 8192);
        buf.extend_from_slice(b"frame");
        let at = buf.as_ptr();
        let frame = pool.freeze(buf);
        let reader = frame.slice(1..3);
        drop(frame);
        assert_ne!(pool.take(5000).as_ptr(), at);
        assert_eq!(&reader[..], b"ra");
        drop(reader);
        let again = [pool.take(5000), pool.take(5000)];
        assert!(again.iter().any(|b| b.as_ptr() == at && b.is_empty()));
    }

    #[test]
    fn a_mostly_empty_buffer_shrinks() {
        let pool = Buffers::new(1 << 20);
        let mut buf = pool.take(2 << 20);
        buf.resize_zeroed(4096);
        assert_eq!(pool.shrink(buf).capacity(), 4096);
        let mut buf = pool.take(8192);
        buf.resize_zeroed(8192);
        assert_eq!(pool.shrink(buf).capacity(), 8192);
    }
}
