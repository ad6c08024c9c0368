//! Memory that reads of files fill: touched once and used again, because the first touch of a page costs more than the read itself.
//! A chunk comes back when the last reader of any of its bytes let go; never before.

use std::sync::{Arc, Mutex, PoisonError};

use millstream_env::AlignedBuf;

/// One read of a consumer that catches up, and what lies between its entries.
pub(crate) const CHUNK_BYTES_MAX: usize = (1 << 20) + (128 << 10);
/// Sizes that are kept, ascending.
const SIZES: [usize; 2] = [128 << 10, CHUNK_BYTES_MAX];
/// Below this, memory is taken and freed as it comes: the allocator keeps such sizes by itself.
const KEPT_BYTES_MIN: usize = 32 << 10;
/// Chunks that wait for their next use take at most this; more are freed after use.
const IDLE_BYTES_MAX: usize = 8 << 20;

/// The chunks that wait. Start at [`Chunks::take`].
#[derive(Default)]
pub(crate) struct Chunks {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    of_size: [Vec<AlignedBuf>; SIZES.len()],
    bytes: usize,
}

/// Memory on loan.
pub(crate) struct Chunk {
    /// Gone only while it is dropped.
    buf: Option<AlignedBuf>,
    home: Arc<Chunks>,
}

impl Chunks {
    /// Memory of `bytes` bytes, all to be overwritten: it holds what was read before.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Chunk {
        let size = SIZES.iter().position(|size| (KEPT_BYTES_MIN..=*size).contains(&bytes));
        let mut buf = match size.and_then(|at| self.idle(at)) {
            Some(buf) => buf,
            None => AlignedBuf::with_capacity(size.and_then(|at| SIZES.get(at)).copied().unwrap_or(bytes)),
        };
        buf.resize_for_overwrite(bytes);
        Chunk { buf: Some(buf), home: Arc::clone(self) }
    }

    fn idle(&self, at: usize) -> Option<AlignedBuf> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let buf = idle.of_size.get_mut(at)?.pop()?;
        idle.bytes -= buf.capacity();
        Some(buf)
    }

    fn give_back(&self, buf: AlignedBuf) {
        let Some(at) = SIZES.iter().position(|size| *size == buf.capacity()) else { return };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + buf.capacity() <= IDLE_BYTES_MAX {
            idle.bytes += buf.capacity();
            if let Some(same) = idle.of_size.get_mut(at) {
                same.push(buf);
            }
        }
    }
}

impl Chunk {
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.buf.as_mut().map_or(&mut [], AlignedBuf::as_mut_slice)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.buf.as_ref().map_or(&[], AlignedBuf::as_slice)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(buf) = self.buf.take() {
            self.home.give_back(buf);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn place(bytes: &[u8]) -> usize {
        bytes.as_ptr().addr()
    }

    #[test]
    fn memory_is_used_again_only_when_no_reader_holds_a_part_of_it() {
        let chunks = Arc::new(Chunks::default());
        let held = Bytes::from_owner(chunks.take(100_000)).slice(5..6);
        let at = place(&held) - 5;
        assert_ne!(place(chunks.take(90_000).as_ref()), at);
        drop(held);
        let (one, other) = (chunks.take(90_000), chunks.take(90_000));
        assert!(place(one.as_ref()) == at || place(other.as_ref()) == at);
    }

    #[test]
    fn a_chunk_has_the_length_asked_for_whatever_it_was_before() {
        let chunks = Arc::new(Chunks::default());
        for bytes in [0, 1, KEPT_BYTES_MIN, 128 << 10, 40_000, CHUNK_BYTES_MAX, 200_000, CHUNK_BYTES_MAX + 1]
        {
            let mut chunk = chunks.take(bytes);
            assert_eq!((chunk.as_ref().len(), chunk.bytes_mut().len()), (bytes, bytes));
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let chunks = Arc::new(Chunks::default());
        let many: Vec<Chunk> = (0..20).map(|_| chunks.take(CHUNK_BYTES_MAX)).collect();
        drop(many);
        let idle = chunks.idle.lock().unwrap();
        assert!(idle.bytes <= IDLE_BYTES_MAX && idle.bytes > IDLE_BYTES_MAX - CHUNK_BYTES_MAX);
    }
}
