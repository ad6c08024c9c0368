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

/// After so many blocks taken, idle ones that were not needed for any of them are freed.
const TAKES: usize = 16;

/// The block being filled, and those that were. Start at [`Blocks::take`].
pub(crate) struct Blocks {
    /// What follows the last frame, of no length and perhaps of no capacity; `None` while a frame is being filled in it.
    open: Option<BytesMut>,
    /// Empty ends of full blocks, oldest first: through them the memory comes back.
    full: VecDeque<BytesMut>,
    full_max: usize,
    /// Idle blocks, less the one taken, that there were at least since so many were taken.
    spare: usize,
    takes: usize,
}

impl Blocks {
    /// Knows full blocks of so many bytes again; more are freed after use.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            open: None,
            full: VecDeque::new(),
            full_max: bytes_max / BLOCK_BYTES + 2,
            spare: usize::MAX,
            takes: 0,
        }
    }

    /// Empty memory for a frame of at least `bytes` bytes, aligned, whole pages; there may be more room. What the frame does not
    /// use is to be given back ([`Blocks::give_back`]).
    pub(crate) fn take(&mut self, bytes: usize) -> BytesMut {
        let bytes = align4k(bytes);
        if bytes > BLOCK_BYTES {
            return align(BytesMut::with_capacity(bytes + ALIGN), bytes);
        }
        if let Some(open) = self.open.take() {
            if open.capacity() >= bytes.max(ROOM_BYTES_MIN) {
                return open;
            }
            self.full.push_back(open);
        }
        let block = self.idle().unwrap_or_else(|| BytesMut::with_capacity(BLOCK_BYTES + ALIGN));
        if self.full.len() > self.full_max {
            self.full.pop_front();
        }
        align(block, BLOCK_BYTES)
    }

    /// A full block that nobody holds a frame of. Of others like it, those go that were not needed for a while.
    fn idle(&mut self) -> Option<BytesMut> {
        let mut idle = 0_usize;
        let mut found = None;
        let mut at = 0;
        while let Some(block) = self.full.get_mut(at) {
            if !block.try_reclaim(BLOCK_BYTES + ALIGN) {
                at += 1;
                continue;
            }
            idle += 1;
            if found.is_none() {
                found = self.full.remove(at);
            } else if idle > 1 && self.spare > 0 && self.takes >= TAKES {
                self.spare -= 1;
                self.full.remove(at);
            } else {
                at += 1;
            }
        }
        if self.takes >= TAKES {
            (self.takes, self.spare) = (0, usize::MAX);
        }
        self.takes += 1;
        self.spare = self.spare.min(idle.saturating_sub(1));
        found
    }

    /// Lets go of full blocks: they are freed once no reader holds a frame of them.
    pub(crate) fn forget_idle(&mut self) {
        self.full = VecDeque::new();
    }

    /// What is left behind a frame whose memory was taken last, however little: through it the memory comes back.
    pub(crate) fn give_back(&mut self, frame: &BytesMut, rest: BytesMut) {
        if frame.len() + rest.capacity() <= BLOCK_BYTES {
            self.open.get_or_insert(rest);
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
        let rest = buf.split_off(align4k(bytes));
        blocks.give_back(&buf, rest);
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
    fn blocks_that_are_not_needed_any_more_are_freed() {
        let mut blocks = Blocks::new(64 << 20);
        let many: Vec<BytesMut> = (0..12).map(|_| frame(&mut blocks, BLOCK_BYTES)).collect();
        drop(many);
        for _ in 0..2 * TAKES {
            frame(&mut blocks, BLOCK_BYTES);
        }
        assert!(blocks.full.len() <= 1, "{}", blocks.full.len());
        // What is in use by turns stays.
        for _ in 0..3 * TAKES {
            let few: Vec<BytesMut> = (0..4).map(|_| frame(&mut blocks, BLOCK_BYTES)).collect();
            drop(few);
        }
        assert!((3..=5).contains(&blocks.full.len()), "{}", blocks.full.len());
    }

    #[test]
    fn a_large_frame_gets_memory_of_its_own_and_leaves_the_open_block_alone() {
        let mut blocks = Blocks::new(64 << 20);
        let small = frame(&mut blocks, 4096);
        assert_eq!(frame(&mut blocks, BLOCK_BYTES + 1).len(), BLOCK_BYTES + 1);
        assert_eq!(frame(&mut blocks, 4096).as_ptr() as usize - small.as_ptr() as usize, 4096);
    }
}
