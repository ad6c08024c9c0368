//! Frame memory, used again. Frames lie one behind another in blocks, so memory that was touched once is written over and over, and
//! the frames of one write are one piece. A block comes back when the last reader of any of its frames let go; never before.

use std::collections::VecDeque;

use bytes::BytesMut;
use millstream_env::ALIGN;

use crate::format::bytes::align4k;

/// Two full frames.
const BLOCK_BYTES: usize = 4 << 20;
/// A frame does not begin where a block has less left.
const ROOM_BYTES_MIN: usize = 64 << 10;

/// The block being filled, and those that were. Start at [`Blocks::take`].
pub(crate) struct Blocks {
    open: BytesMut,
    /// Empty ends of full blocks, oldest first: through them the memory comes back.
    full: VecDeque<BytesMut>,
    full_max: usize,
}

impl Blocks {
    /// Knows full blocks of so many bytes again; more are freed after use.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { open: BytesMut::new(), full: VecDeque::new(), full_max: bytes_max / BLOCK_BYTES + 2 }
    }

    /// Empty memory for a frame of at least `bytes` bytes, aligned, whole pages; there may be more room. What the frame does not
    /// use is to be given back ([`Blocks::give_back`]).
    pub(crate) fn take(&mut self, bytes: usize) -> BytesMut {
        let bytes = align4k(bytes);
        if self.open.capacity() >= bytes.max(ROOM_BYTES_MIN) {
            return std::mem::take(&mut self.open);
        }
        if bytes > BLOCK_BYTES {
            return align(BytesMut::with_capacity(bytes + ALIGN), bytes);
        }
        let end = std::mem::take(&mut self.open);
        if end.capacity() > 0 {
            self.full.push_back(end);
        }
        let room = BLOCK_BYTES + ALIGN;
        let idle = self.full.iter_mut().position(|block| block.try_reclaim(room));
        let block = idle.and_then(|at| self.full.remove(at)).unwrap_or_else(|| BytesMut::with_capacity(room));
        if self.full.len() > self.full_max {
            self.full.pop_front();
        }
        align(block, BLOCK_BYTES)
    }

    /// Lets go of full blocks: they are freed once no reader holds a frame of them.
    pub(crate) fn forget_idle(&mut self) {
        self.full = VecDeque::new();
    }

    /// The room behind a frame.
    pub(crate) fn give_back(&mut self, rest: BytesMut) {
        if rest.capacity() > self.open.capacity() {
            self.open = rest;
        }
    }
}

/// The aligned `bytes` bytes within memory that has [`ALIGN`] more.
fn align(mut block: BytesMut, bytes: usize) -> BytesMut {
    let skip = block.as_ptr().align_offset(ALIGN);
    block = block.split_off(skip);
    drop(block.split_off(bytes));
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(blocks: &mut Blocks, bytes: usize) -> BytesMut {
        let mut buf = blocks.take(bytes);
        assert!(buf.is_empty() && buf.capacity() >= bytes && buf.capacity().is_multiple_of(ALIGN));
        assert_eq!(buf.as_ptr().align_offset(ALIGN), 0);
        buf.resize(bytes, 7);
        blocks.give_back(buf.split_off(align4k(bytes)));
        buf
    }

    #[test]
    fn frames_lie_one_behind_another() {
        let mut blocks = Blocks::new(64 << 20);
        let first = frame(&mut blocks, 5000);
        let second = frame(&mut blocks, 100);
        assert_eq!(second.as_ptr() as usize - first.as_ptr() as usize, 8192);
    }

    #[test]
    fn a_block_is_used_again_only_when_no_reader_holds_a_frame_of_it() {
        let mut blocks = Blocks::new(64 << 20);
        let held = frame(&mut blocks, 4096).freeze().slice(1..3);
        let begin = held.as_ptr() as usize - 1;
        let same = |blocks: &mut Blocks| {
            let other = frame(blocks, BLOCK_BYTES);
            (begin..begin + BLOCK_BYTES).contains(&(other.as_ptr() as usize))
        };
        assert!(!same(&mut blocks) && !same(&mut blocks));
        assert_eq!(&held[..], [7, 7]);
        drop(held);
        assert!((0..3).any(|_| same(&mut blocks)));
    }

    #[test]
    fn a_large_frame_gets_memory_of_its_own_and_leaves_the_open_block_alone() {
        let mut blocks = Blocks::new(64 << 20);
        let small = frame(&mut blocks, 4096);
        assert_eq!(frame(&mut blocks, BLOCK_BYTES + 1).len(), BLOCK_BYTES + 1);
        assert_eq!(frame(&mut blocks, 4096).as_ptr() as usize - small.as_ptr() as usize, 4096);
    }
}
