//! [`Place`]: where the next frame goes, and whether an operation still fits the file together with the footer it will need.
//! A file so never grows, and can be indexed on a full disk. Pure arithmetic.

use std::sync::Arc;

use super::file::SegFile;
use crate::format::bytes::{align4k, len64, size, varint_len};
use crate::format::header::FRAMES_OFFSET;

/// Bytes of a footer's directory for each log.
const DIRECTORY_BYTES: usize = 48;
/// Bytes of a restart point in a run.
const RESTART_BYTES: usize = 24;
const ENTRIES_PER_RESTART: usize = 64;
/// Logs that have entries in a file. With so many there the file is full, however few bytes it holds: its index is kept in memory
/// until it is adopted, and adopting it changes two rows for each of them, in one batch.
pub(crate) const LOGS_MAX: usize = 1 << 15;
/// Entries of a file, each reference of a fan-out one, with which it is full: likewise, for bodies that go to many logs.
pub(crate) const ENTRIES_MAX: usize = 1 << 20;
/// Bytes of a footer block that are content; four more are its checksum.
const BLOCK_CONTENT_BYTES: usize = 4092;

/// What the footer of a file will need, as an upper bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FooterRoom {
    logs: usize,
    entries: usize,
    run_bytes: usize,
}

impl FooterRoom {
    /// Counts an entry. `pos_step` is its distance to the log's last position in this file, `None` if it is the log's first here.
    pub(crate) fn add(&mut self, pos_step: Option<u64>, count: u32) {
        // A position step with room for a flag bit, a count, an offset step of at most 27 bits, a length of at most 28.
        let step = pos_step.unwrap_or(u64::MAX).saturating_mul(2);
        let count = if count == 1 { 0 } else { varint_len(u64::from(count)) };
        self.logs += usize::from(pos_step.is_none());
        self.entries += 1;
        self.run_bytes += varint_len(step) + count + 8;
    }

    /// Whether one file may have an index of so much.
    fn is_bounded(&self) -> bool {
        self.logs <= LOGS_MAX && self.entries <= ENTRIES_MAX
    }

    /// Bytes of the footer, in whole blocks.
    pub(crate) fn bytes(&self) -> usize {
        let restarts = self.entries / ENTRIES_PER_RESTART + self.logs;
        let content = self.logs * DIRECTORY_BYTES + self.run_bytes + restarts * RESTART_BYTES;
        // The directory and the runs may begin blocks of their own.
        (content.div_ceil(BLOCK_CONTENT_BYTES) + 2) * 4096
    }
}

/// A file in use and how far it is filled with closed frames.
pub(crate) struct Place {
    /// The file.
    pub file: Arc<SegFile>,
    /// Its place in the order of use.
    pub use_no: u64,
    /// Where the next frame begins.
    pub offset: u64,
    /// Number of the next frame in the lap.
    pub number: u32,
    /// For what lies in the file.
    pub footer: FooterRoom,
}

impl Place {
    /// The start of a file whose link frame is (or will be) written.
    pub(crate) fn start(file: Arc<SegFile>, use_no: u64) -> Self {
        Self { file, use_no, offset: FRAMES_OFFSET, number: 1, footer: FooterRoom::default() }
    }

    /// Whether a frame of `frame_bytes` (unpadded) at the next place fits, with this footer behind it.
    pub(crate) fn holds(&self, frame_bytes: usize, footer: &FooterRoom) -> bool {
        footer.is_bounded()
            && size(self.offset) + align4k(frame_bytes) + footer.bytes() <= size(self.file.bytes)
    }

    /// Goes behind a frame of this padded size.
    pub(crate) fn advance(&mut self, padded: usize) {
        self.offset += len64(padded);
        self.number += 1;
    }
}

/// Where the log ends in a lap, as the next lap's link will say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// The lap; 0 = none.
    pub lap: u64,
    /// Offset after its last frame.
    pub offset: u64,
    /// Header checksum of its last frame.
    pub crc: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_full_with_so_many_logs_and_with_so_many_entries() {
        let full = |mut add: Box<dyn FnMut(&mut FooterRoom)>| {
            let mut room = FooterRoom::default();
            (1..ENTRIES_MAX + 2).find(|_| {
                add(&mut room);
                !room.is_bounded()
            })
        };
        assert_eq!(full(Box::new(|room| room.add(None, 1))), Some(LOGS_MAX + 1));
        assert_eq!(full(Box::new(|room| room.add(Some(1), 1))), Some(ENTRIES_MAX + 1));
    }
}
