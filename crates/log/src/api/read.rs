//! Reading entries back.

use bytes::Bytes;
use millstream_types::LogId;

use super::{BoxFuture, ReadError};

/// What must have happened to a record before its entries show. An entry shows when its *whole record* has reached the level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Given an LSN.
    Sequenced,
    /// Handed to the operating system.
    Written,
    /// Survives a crash. The default.
    #[default]
    Durable,
}

/// Bounds of one read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Stop before this many bytes of attrs and bodies, but give at least one entry if there is one.
    pub max_bytes: usize,
    /// Stop after this many entries.
    pub max_entries: usize,
    /// Entries that begin at or past this position do not show (the engine's visible end).
    pub end_pos: u64,
}

/// One entry as read.
#[derive(Clone, Debug)]
pub struct Entry {
    /// First position.
    pub pos: u64,
    /// Positions covered.
    pub count: u32,
    /// Largest timestamp, -1 = none.
    pub max_ts_ms: i64,
    /// The engine's bytes.
    pub attrs: Bytes,
    /// The body, contiguous, shared with the log's buffers.
    pub body: Bytes,
}

/// An entry without its body.
#[derive(Clone, Debug)]
pub struct Head {
    /// First position.
    pub pos: u64,
    /// Positions covered.
    pub count: u32,
    /// Largest timestamp, -1 = none.
    pub max_ts_ms: i64,
    /// The engine's bytes.
    pub attrs: Bytes,
    /// Length of the body in bytes.
    pub body_len: u32,
}

/// Whole entries, ascending.
#[derive(Clone, Debug, Default)]
pub struct ReadBatch {
    /// The entries. The first may begin below the position asked for, if it covers it.
    pub entries: Vec<Entry>,
    /// Where to go on.
    pub next: u64,
}

/// Answer of [`Reader::read`]: at once from memory, or later.
pub enum ReadOutcome {
    /// From the tail; no I/O.
    Ready(Result<ReadBatch, ReadError>),
    /// Needs I/O, done on the log's reader threads.
    Cold(BoxFuture<Result<ReadBatch, ReadError>>),
}

/// A log's ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// First position that may be read.
    pub start: u64,
    /// One past the last position appended (sequenced).
    pub next: u64,
    /// Bytes of entries between them (approximate: whole extents).
    pub bytes: u64,
    /// Largest timestamp in the log, -1 = none or unknown.
    pub max_ts_ms: i64,
}

/// A stretch of one log in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First position.
    pub first: u64,
    /// One past the last.
    pub end: u64,
    /// Bytes of its entries.
    pub bytes: u64,
    /// Largest timestamp, -1 = none.
    pub max_ts_ms: i64,
}

/// Reads. All methods may be called from any thread; none takes a lock over I/O.
pub trait Reader: Send + Sync {
    /// Entries from position `from`. A log that was never written reads as empty.
    fn read(&self, log: LogId, from: u64, lim: Limits, level: Level) -> ReadOutcome;
    /// The entries that cover these positions (ascending), those that exist, each once. What is below the start does not exist.
    fn get(&self, log: LogId, positions: &[u64]) -> ReadOutcome;
    /// As `read`, without bodies.
    fn heads(
        &self,
        log: LogId,
        from: u64,
        lim: Limits,
        level: Level,
    ) -> BoxFuture<Result<Vec<Head>, ReadError>>;
    /// The first entry at or past `from` whose largest timestamp is at least `ts_ms`.
    fn by_time(
        &self,
        log: LogId,
        from: u64,
        ts_ms: i64,
        level: Level,
    ) -> BoxFuture<Result<Option<Head>, ReadError>>;
    /// The log's ends.
    fn bounds(&self, log: LogId) -> Bounds;
    /// At most `max` extents from the one that holds `from`, ascending; the unfinished one in the active file included.
    fn extents(&self, log: LogId, from: u64, max: usize) -> BoxFuture<Result<Vec<Extent>, ReadError>>;
    /// Ends reading, whoever still holds the reader: waits for the reads that have begun, and refuses all others with
    /// [`ReadError::Closed`]. Once the sequencer is dropped as well, the log can be opened again at once. Blocks; harmless when called again.
    fn close(&self);
}
