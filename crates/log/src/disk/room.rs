//! What to do about room on the disk: pure arithmetic and choices, no I/O. Start at [`Sizes::next`]; [`pool`](super::pool) does it.
//!
//! Three things are kept back. *Files*: two for Settle and Reclaim, one for the next opening. *The reserve*: publishing stops when
//! less than it is free. Half of it is the *ballast*, a file that is given up when the state store or a merge needs room, and is
//! taken back before publishing goes on; it counts as free. So settling and giving room back go on while publishing is stopped:
//! files that hold only effects hold nothing that lives, and come back as the floor passes them.

use crate::api::Room;
use crate::format::bytes::len64;

#[cfg(test)]
mod tests;

/// Ready files that only Settle and Reclaim may go on in.
pub(crate) const SETTLE_FILES: usize = 2;
/// Ready files that only an opening may go on in.
pub(crate) const OPENING_FILES: usize = 1;
const KEPT_FILES: usize = SETTLE_FILES + OPENING_FILES;
/// Free files kept for use again; more are removed at once.
pub(crate) const FREE_FILES_MAX: usize = 16;
/// Free files kept though none of them was needed for a while; more are removed then.
pub(crate) const FREE_FILES_SPARE: usize = 2;

/// Below so much a file system is small, and gets small segment files.
const SMALL_DISK_BYTES: u64 = 16 << 30;
const SEGMENT_BYTES: u64 = 64 << 20;
const SMALL_SEGMENT_BYTES: u64 = 8 << 20;
/// The reserve is this part of the file system, within the bounds below.
const RESERVE_PART: u64 = 32;
const RESERVE_BYTES_MIN: u64 = 24 << 20;
const RESERVE_BYTES_MAX: u64 = 512 << 20;
/// On a tiny file system no more than this part of it, but never less than [`TINY_RESERVE_BYTES_MIN`].
const TINY_RESERVE_PART: u64 = 8;
/// The least reserve there is.
pub(crate) const TINY_RESERVE_BYTES_MIN: u64 = 4 << 20;
/// The store writes only while this part of the reserve is really free ...
const STORE_PART: u64 = 4;
/// ... and what its own merges may take, but for that never more than this part: so much the ballast gives ...
const STORE_MERGE_PART: u64 = 2;
/// ... and the batch so often: in the journal, in a table, and again in the merge that this table comes to.
const BATCH_COPIES: u64 = 3;
/// Rows of the engine are written in batches of this part of the reserve, within the bounds below.
const BATCH_PART: u64 = 32;
const BATCH_BYTES_MIN: u64 = 256 << 10;
const BATCH_BYTES_MAX: u64 = 4 << 20;

/// The size of segment files on a file system that is so large, if none is asked for.
pub(crate) fn segment_bytes(total_bytes: u64) -> u64 {
    if total_bytes < SMALL_DISK_BYTES { SMALL_SEGMENT_BYTES } else { SEGMENT_BYTES }
}

/// The reserve on a file system that is so large, if none is asked for.
pub(crate) fn reserve_bytes(total_bytes: u64) -> u64 {
    let tiny = (total_bytes / TINY_RESERVE_PART).max(TINY_RESERVE_BYTES_MIN);
    let reserve = (total_bytes / RESERVE_PART).clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX);
    reserve.min(tiny) / 4096 * 4096
}

/// Sizes that are fixed when a log is made, and what is in flight at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub segment_bytes: u64,
    pub reserve_bytes: u64,
    /// Files to have ready, the opening's not counted.
    pub ready_files: usize,
    /// Of class Publish.
    pub inflight_bytes: u64,
    /// The largest record.
    pub record_bytes: u64,
    /// What the state store takes though it holds next to nothing.
    pub store_least_bytes: u64,
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts that hold or do not, each by itself")]
pub(crate) struct Seen {
    /// Really free on the file system, less what the state store's journal may still take.
    pub free_bytes: u64,
    /// What the ballast has; 0 = it was given.
    pub ballast_bytes: u64,
    /// Files prepared.
    pub ready: usize,
    /// Files that nobody needs any more.
    pub free_files: usize,
    /// Of these, those that were not needed for a while.
    pub idle_files: usize,
    /// The sequencer waits for a file, or has not woken yet since one is ready.
    pub waiting: bool,
    /// What the state store's own merges may take.
    pub merge_bytes: u64,
    /// The state store waits for room.
    pub starved: bool,
    /// The disk refused room lately, whatever it says is free.
    pub refused: bool,
    /// Publishing is stopped.
    pub full: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Prepare a file that is there.
    Recycle,
    /// Prepare a new file.
    Create,
    /// Remove a free file.
    Unlink,
    /// Make the ballast again.
    TakeBallast,
    /// Nothing is to be done, or nothing can be.
    Rest,
}

/// Room for a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergeRoom {
    /// There is enough.
    Enough,
    /// There is if the ballast is given for it.
    WithBallast,
    /// There is not.
    None,
}

impl Seen {
    fn total(&self) -> u64 {
        self.free_bytes.saturating_add(self.ballast_bytes)
    }

    /// Somebody waits for a file, and there is none to take. Once there is, who waits needs no second one, however late it wakes.
    pub(crate) fn lacks_file(&self) -> bool {
        self.waiting && self.ready <= OPENING_FILES
    }
}

impl Sizes {
    /// Bytes of the ballast.
    pub(crate) fn ballast_bytes(&self) -> u64 {
        self.reserve_bytes / 2 / 4096 * 4096
    }

    /// Bytes of the engine's rows to write at once.
    pub(crate) fn batch_bytes(&self) -> u64 {
        (self.reserve_bytes / BATCH_PART).clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX)
    }

    /// Bytes that must really be free for the store to write a batch of so many bytes, if its merges may take `merge_bytes`. What is
    /// free afterwards holds the merges: it is never so short of room that it cannot make some.
    pub(crate) fn store_bytes(&self, batch_bytes: u64, merge_bytes: u64) -> u64 {
        let merge = merge_bytes.min(self.reserve_bytes / STORE_MERGE_PART);
        (self.reserve_bytes / STORE_PART).max(merge.saturating_add(batch_bytes.saturating_mul(BATCH_COPIES)))
    }

    /// Whether a merge may write a pack of so many bytes. What the state store needs stays free, or the pack could not be installed.
    /// Where room is short (`hurry`) the reserve is what merges are for; else it is left alone.
    pub(crate) fn merge(&self, seen: &Seen, pack_bytes: u64, hurry: bool) -> MergeRoom {
        let spared = if hurry { self.store_bytes(0, seen.merge_bytes) } else { self.reserve_bytes };
        let need = pack_bytes.saturating_add(spared);
        let enough = if hurry { seen.free_bytes } else { seen.total().min(seen.free_bytes + spared) };
        match () {
            () if enough >= need => MergeRoom::Enough,
            () if hurry && seen.total() >= need => MergeRoom::WithBallast,
            () => MergeRoom::None,
        }
    }

    /// Bytes that making a log takes: the reserve, the state store, the files kept back, the one in use and one to publish into.
    pub(crate) fn needed_bytes(&self) -> u64 {
        self.reserve_bytes + self.store_least_bytes + self.segment_bytes * (len64(KEPT_FILES) + 2)
    }

    /// Free bytes at which publishing goes on: one and a half reserves.
    fn resume_bytes(&self) -> u64 {
        self.reserve_bytes.saturating_add(self.reserve_bytes / 2)
    }

    /// Files to have ready, the opening's counted.
    pub(crate) fn target(&self) -> usize {
        self.ready_files.max(SETTLE_FILES + 1) + OPENING_FILES
    }

    /// New files that may be made and leave `above` free.
    fn fresh(&self, seen: &Seen, above: u64) -> u64 {
        if seen.refused {
            return 0;
        }
        seen.total().saturating_sub(above).min(seen.free_bytes) / self.segment_bytes.max(1)
    }

    /// Files that publishing may still fill.
    fn publish_files(&self, seen: &Seen) -> u64 {
        let at_hand = len64(seen.ready + seen.free_files) + self.fresh(seen, self.reserve_bytes);
        at_hand.saturating_sub(len64(KEPT_FILES))
    }

    /// Whether publishing is stopped, given whether it was.
    pub(crate) fn is_full(&self, seen: &Seen) -> bool {
        if seen.full {
            let whole = seen.ballast_bytes >= self.ballast_bytes();
            let room = seen.total() >= self.resume_bytes();
            return !(whole && room && seen.ready >= self.target());
        }
        seen.total() < self.reserve_bytes || self.publish_files(seen) == 0
    }

    /// What to do next.
    pub(crate) fn next(&self, seen: &Seen) -> Step {
        let spare = seen.free_files > 0;
        let more = if seen.full { self.resume_bytes() } else { self.reserve_bytes };
        // Who waits holds up everything, so the reserve does not count.
        if seen.lacks_file() && !spare && self.fresh(seen, 0) > 0 {
            return Step::Create;
        }
        if seen.ready < SETTLE_FILES && spare {
            return Step::Recycle;
        }
        if seen.starved && spare {
            return Step::Unlink;
        }
        if seen.ready < KEPT_FILES {
            if spare {
                return Step::Recycle;
            }
            if self.fresh(seen, self.reserve_bytes) > 0 {
                return Step::Create;
            }
        }
        if seen.ballast_bytes < self.ballast_bytes() {
            if seen.free_bytes >= self.reserve_bytes && !seen.refused {
                return Step::TakeBallast;
            }
            if spare {
                return Step::Unlink;
            }
        }
        if seen.full && seen.total() < self.resume_bytes() && spare {
            return Step::Unlink;
        }
        if seen.ready < self.target() {
            if spare {
                return Step::Recycle;
            }
            if self.fresh(seen, more) > 0 {
                return Step::Create;
            }
        }
        let too_many = seen.free_files > FREE_FILES_MAX;
        if too_many || seen.idle_files > FREE_FILES_SPARE { Step::Unlink } else { Step::Rest }
    }

    /// What may be in flight. Each file counts half: the next operation may be too large for what is left of it.
    pub(crate) fn room(&self, seen: &Seen) -> Room {
        let half = self.segment_bytes / 2;
        let publish = self.publish_files(seen).saturating_mul(half);
        let at_hand = len64(seen.ready + seen.free_files) + self.fresh(seen, self.reserve_bytes);
        let settle = at_hand.saturating_sub(len64(OPENING_FILES)).saturating_mul(half);
        let enough = self.inflight_bytes.saturating_mul(2).max(self.record_bytes);
        let unless = |bytes: u64, enough: u64| if bytes >= enough { u64::MAX } else { bytes };
        let missing = len64(self.target().saturating_sub(seen.ready)).saturating_mul(self.segment_bytes);
        let needed = self.resume_bytes().saturating_add(missing).saturating_sub(seen.total());
        Room {
            full: seen.full,
            free_bytes: seen.total(),
            reserve_bytes: self.reserve_bytes,
            ballast_bytes: seen.ballast_bytes,
            ready_files: len64(seen.ready),
            free_files: len64(seen.free_files),
            segment_bytes: self.segment_bytes,
            publish_bytes: unless(publish, enough),
            settle_bytes: unless(settle, self.record_bytes),
            settle_record_bytes: len64(SETTLE_FILES).saturating_mul(half),
            needed_bytes: if seen.full { needed } else { 0 },
        }
    }
}
