//! What a commit record is made of.

use bytes::Bytes;
use millstream_types::LogId;

/// One operation of a record. Bounds: `types::limits` (`RECORD_OPS_MAX`, `RECORD_BYTES_MAX`, `OP_BYTES_MAX`, `ATTRS_BYTES_MAX`).
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// One entry: covers positions `[pos, pos + count)`.
    Append {
        /// Its log.
        log: LogId,
        /// First position.
        pos: u64,
        /// Positions covered, at least 1.
        count: u32,
        /// Largest timestamp in it, milliseconds since the epoch; -1 = none.
        max_ts_ms: i64,
        /// The engine's bytes, at most `ATTRS_BYTES_MAX`.
        attrs: &'a [u8],
        /// The opaque body, in pieces.
        body: &'a [Bytes],
    },
    /// One body in several logs (count 1 each), sorted by log, 2..=`FANOUT_MAX` of them.
    FanOut {
        /// (log, position) of each reference.
        to: &'a [(LogId, u64)],
        /// As in `Append`.
        max_ts_ms: i64,
        /// As in `Append`.
        attrs: &'a [u8],
        /// As in `Append`.
        body: &'a [Bytes],
    },
    /// Whole entries that are never read again, as runs of (position, count). Twice is harmless; late costs only room.
    Retire {
        /// Their log.
        log: LogId,
        /// Runs (first position, positions).
        runs: &'a [(u64, u32)],
    },
    /// Everything below a position is gone.
    Trim {
        /// The log.
        log: LogId,
        /// First position that stays.
        before: u64,
    },
    /// The log is gone; its id is never used again.
    Delete {
        /// The log.
        log: LogId,
    },
    /// An outcome in engine state: opaque bytes for one row.
    Effect {
        /// The row's key.
        object: &'a [u8],
        /// What happened to it.
        bytes: &'a [u8],
    },
}

/// What replay and scans see of an entry: everything but the body.
#[derive(Clone, Copy, Debug)]
pub struct EntryHead<'a> {
    /// Its log.
    pub log: LogId,
    /// First position.
    pub pos: u64,
    /// Positions covered.
    pub count: u32,
    /// Largest timestamp, -1 = none.
    pub max_ts_ms: i64,
    /// The engine's bytes.
    pub attrs: &'a [u8],
    /// Length of the body in bytes.
    pub body_len: u32,
}
