//! What the committer tells the accountant: durable records only, in LSN order, one event per write. Start at [`SpaceEvent`].

use millstream_types::{LogId, Lsn};

use crate::api::Permit;
use crate::format::rows::EndRow;

/// Physical id of a segment file: the number in its name. Or a pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(pub u64);

impl FileId {
    const PACK: u64 = 1 << 63;

    /// A pack, which is numbered apart from segment files and has no laps: its lap is 0.
    pub(crate) fn pack(number: u64) -> Self {
        Self(number | Self::PACK)
    }

    /// Whether it is a pack.
    pub(crate) fn is_pack(self) -> bool {
        self.0 & Self::PACK != 0
    }

    /// The number in its name.
    pub(crate) fn number(self) -> u64 {
        self.0 & !Self::PACK
    }
}

/// Where an operation lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addr {
    /// The segment file.
    pub file: FileId,
    /// Which use of it.
    pub lap: u64,
    /// Byte offset in the file; a multiple of 8.
    pub offset: u32,
    /// Length in bytes, without padding.
    pub len: u32,
}

/// What a record did to space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SpaceOp {
    /// One entry, or several of the log's that lie one behind another; a fan-out is one of these per reference, with the same `at`.
    Append {
        /// Its log.
        log: LogId,
        /// First position.
        pos: u64,
        /// Positions covered.
        count: u32,
        /// Largest timestamp, -1 = none.
        max_ts_ms: i64,
        /// Bytes of attrs and body.
        bytes: u32,
        /// Where it lies; of several the first, and the length of all, each but the last padded.
        at: Addr,
    },
    /// Positions that are never read again, as runs.
    Retire {
        /// Their log.
        log: LogId,
        /// (first position, positions).
        runs: Vec<(u64, u32)>,
    },
    /// Everything below a position is gone.
    Trim {
        /// The log.
        log: LogId,
        /// First position that stays.
        before: u64,
    },
    /// The log is gone.
    Delete {
        /// The log.
        log: LogId,
    },
}

impl SpaceOp {
    /// Takes an append into the last of these, if it is of the log's next positions and follows it in the file: then the two are told
    /// as one. References of a fan-out stay as they are: all of one lie at one place, which counts once.
    pub(crate) fn take_in(ops: &mut [(Lsn, Self)], next: &Self) -> bool {
        let Some(((_, last), before)) = ops.split_last_mut() else { return false };
        let place =
            |op: &Self| if let Self::Append { at, .. } = op { Some((at.lap, at.offset)) } else { None };
        if place(last) == place(next) || before.last().is_some_and(|(_, op)| place(op) == place(last)) {
            return false;
        }
        match (last, next) {
            (
                Self::Append { log, pos, count, max_ts_ms, bytes, at },
                Self::Append { log: of, pos: from, count: more, max_ts_ms: ts, bytes: add, at: to },
            ) if log == of
                && *pos + u64::from(*count) == *from
                && (at.file, at.lap) == (to.file, to.lap)
                && count.checked_add(*more).is_some() =>
            {
                *count += more;
                *max_ts_ms = (*max_ts_ms).max(*ts);
                // Both are within one file, of 1 GiB at most.
                *bytes += add;
                at.len = at.len.next_multiple_of(8) + to.len;
                true
            }
            _ => false,
        }
    }
}

/// A file that is full and durable to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealedFile {
    /// The file.
    pub file: FileId,
    /// Which use of it.
    pub lap: u64,
    /// First LSN of which a part lies in it.
    pub first_lsn: Lsn,
    /// Last LSN of which a part lies in it.
    pub last_lsn: Lsn,
    /// Offset of the first byte after its last frame.
    pub frames_end: u64,
}

/// From the committer (and, while opening, from recovery) to the accountant.
#[derive(Debug)]
pub(crate) enum SpaceEvent {
    /// All records up to `upto` are durable; the operations on space of those since the last event, in LSN order.
    Records {
        /// The durable mark after the write.
        upto: Lsn,
        /// (record, what it did).
        ops: Vec<(Lsn, SpaceOp)>,
        /// Room that publishers get back only when the accountant is no longer far behind.
        held: Vec<Permit>,
    },
    /// A file comes into use.
    Began {
        /// The file.
        file: FileId,
        /// Which use of it.
        lap: u64,
        /// The first LSN of which a part lies in it.
        first_lsn: Lsn,
    },
    /// A file was sealed. Its last record may end in the next file, and is told then.
    Sealed(SealedFile),
    /// No more will come. Where the log ends, if all of it is durable.
    Stop(Option<EndRow>),
}
