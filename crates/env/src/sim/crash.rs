//! What a power cut makes of a file: picks, for each un-synced write, the sectors that survive.

use super::rng::SplitMix;
use super::state::{SimInode, State};

/// A sector of an un-synced write, for a test that picks what survives
/// (see [`SimDisk::crash_with`](super::SimDisk::crash_with)).
#[derive(Clone, Copy, Debug)]
pub struct Unsynced<'a> {
    /// The file's path.
    pub path: &'a str,
    /// Which of the file's un-synced writes, the oldest 0. An allocation counts as one and has no sectors.
    pub write: usize,
    /// Offset in the file of the sector's first byte.
    pub offset: u64,
}

/// How a power cut deals with the whole disk; per-write luck alone would seldom lose all or nothing.
#[derive(Clone, Copy)]
enum Luck {
    LosesAll,
    KeepsAll,
    EachOnItsOwn,
}

impl State {
    /// Turns the state into what a power cut leaves, at random.
    pub(super) fn crash(&mut self) {
        let luck = match self.rng.below(6) {
            0 => Luck::LosesAll,
            1 => Luck::KeepsAll,
            _ => Luck::EachOnItsOwn,
        };
        for inode in self.files.values_mut() {
            inode.crash(luck, &mut self.rng);
        }
        self.names.crash(&mut self.rng);
        self.collect();
    }

    /// Turns the state into what a power cut leaves that keeps all names and lengths, and the sectors `keep`
    /// says.
    pub(super) fn crash_with(&mut self, keep: &mut dyn FnMut(&Unsynced<'_>) -> bool) {
        self.names.crash_keeping_all();
        self.collect();
        for (path, file) in self.names.files() {
            let Some(inode) = self.files.get_mut(&file) else { continue };
            for (write, op) in std::mem::take(&mut inode.pending).into_iter().enumerate() {
                for (sector, content) in op.sectors {
                    let offset = inode.base.sector_end(sector) - super::pages::wide(self.sector_bytes);
                    if keep(&Unsynced { path, write, offset }) {
                        inode.base.put(sector, content);
                    }
                }
                inode.base.grow(op.end);
            }
            inode.now = inode.base.clone();
        }
    }
}

impl SimInode {
    fn crash(&mut self, luck: Luck, rng: &mut SplitMix) {
        for op in std::mem::take(&mut self.pending) {
            let (whole, each) = match luck {
                Luck::LosesAll => (false, false),
                Luck::KeepsAll => (true, false),
                Luck::EachOnItsOwn => match rng.below(3) {
                    0 => (false, false),
                    1 => (true, false),
                    _ => (false, true),
                },
            };
            for (sector, content) in op.sectors {
                if whole || (each && rng.coin()) {
                    self.base.grow(op.len_after.min(self.base.sector_end(sector)));
                    self.base.put(sector, content);
                }
            }
            // The length may land without all of the data: the gap reads as zeros.
            if whole || (each && rng.coin()) {
                self.base.grow(op.end);
                if op.shortens {
                    self.base.shorten(op.end);
                }
            }
        }
        self.now = self.base.clone();
    }
}
