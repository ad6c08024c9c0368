//! The contract of a log, implementation by implementation the same.

mod admit;
mod config;
mod desk;
mod error;
mod op;
mod read;
mod state;
mod stats;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use millstream_types::{ConnId, Epoch, LogId, Lsn};

pub use admit::{Class, Gate, Permit, Room};
pub use config::LogConfig;
pub(crate) use desk::Desk;
pub use error::{AdmitError, Lost, OpenError, ReadError, StoreError};
pub use op::{EntryHead, Op};
pub use read::{Bounds, Entry, Extent, Head, Level, Limits, ReadBatch, ReadOutcome, Reader};
pub use state::{BatchId, Budget, Row, RowBatch, StateReader, StateSink};
pub use stats::LogStats;

/// A boxed future, as the traits here return.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Something that opens a log.
pub trait LogStore {
    /// Locks, makes epoch = old + 1 durable, recovers, replays the records at and above the floor in LSN order, then returns.
    /// Nothing is served before. Message data is never overwritten on an error.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn open(&self, cfg: &LogConfig, replay: &mut dyn Replay) -> Result<Opened, OpenError>;
}

/// An open log. The sequencer is exclusive; the rest is shared. Dropping the sequencer closes the log: what was sequenced is
/// written and synced, and all rows offered are flushed. Dropped by a panic it loses the log instead
/// ([`Watermarks::lost`]), for what it was told last may be half done. The lock is released when the reader is closed too ([`Reader::close`]), or gone.
pub struct Opened {
    /// This opening's epoch.
    pub epoch: Epoch,
    /// Where records go in.
    pub sequencer: Box<dyn Sequence>,
    /// Room for records, to be asked for before anything is decided.
    pub gate: Arc<Gate>,
    /// Where entries come out.
    pub reader: Arc<dyn Reader>,
    /// How far records have come.
    pub marks: Arc<dyn Watermarks>,
    /// Where changed rows of engine state go.
    pub sink: Arc<dyn StateSink>,
    /// Rows as last flushed.
    pub rows: Arc<dyn StateReader>,
    /// What opening did.
    pub report: OpenReport,
    /// What it did since.
    pub stats: Arc<LogStats>,
}

/// What opening found and did; for the ready line and the metrics.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// Bytes of the frames that held records to be replayed.
    pub replayed_bytes: u64,
    /// Records replayed.
    pub replayed_records: u64,
    /// Log bytes read: for the replay, for the index in memory, and to find the end.
    pub read_bytes: u64,
    /// A torn tail was cut so that this is the next LSN.
    pub cut_at: Option<Lsn>,
    /// Frames written again in place because nothing proved them durable.
    pub frames_rewritten: u64,
    /// The last run ended without a clean stop.
    pub unclean: bool,
}

/// Puts records in order. LSN order = call order = the order in which they become durable.
pub trait Sequence: Send {
    /// Encodes one record, atomic and in order; returns its LSN at once. Never blocks on the disk while a permit is held. The positions
    /// of appends must grow per log (holes allowed). `waiter` is told through [`Watermarks::on_durable`].
    ///
    /// # Panics
    /// If positions do not grow, or an operation breaks a limit of `types::limits`: broken invariants of the caller.
    fn sequence(&mut self, permit: Permit, record: &[Op<'_>], waiter: Option<ConnId>) -> Lsn;
    /// Hands everything sequenced since the last call to the committer, and shows it to readers of [`Level::Sequenced`] (which may see
    /// it before). To be called at the end of each turn.
    fn end_turn(&mut self);
}

/// How far records have come. `sequenced >= written >= durable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Last LSN given, as of the end of a turn.
    pub sequenced: Lsn,
    /// Last LSN handed to the operating system.
    pub written: Lsn,
    /// Last LSN that survives a crash.
    pub durable: Lsn,
}

/// Called once per waiting connection and write, and once with `None` per write. Must not block.
pub type OnDurable = Arc<dyn Fn(Option<ConnId>, Lsn) + Send + Sync>;

/// Watches the marks move.
pub trait Watermarks: Send + Sync {
    /// The marks now. Cheap (atomics).
    fn get(&self) -> Marks;
    /// Resolves when `lsn` is durable.
    ///
    /// # Errors
    /// [`Lost`]: FATE UNKNOWN. Never answer success; discard state above `durable`.
    fn reached(&self, lsn: Lsn) -> BoxFuture<Result<(), Lost>>;
    /// Registers the one callback: after each write that became durable it is called once for every distinct waiter of it,
    /// then once with `None`. If the log is lost it is called with `None` and `is_lost()` is true.
    fn on_durable(&self, f: OnDurable);
    /// Whether the right to commit is gone, with the cause.
    fn lost(&self) -> Option<Lost>;
}

/// Receives the log's past while it opens. Calls come in LSN order; those of one record end with [`Replay::record_end`].
pub trait Replay {
    /// First call: the rows as last flushed, and this opening's epoch.
    fn begin(&mut self, rows: Arc<dyn StateReader>, epoch: Epoch);
    /// An effect. To be applied to its row iff `lsn` > the row's `row_lsn`.
    fn effect(&mut self, lsn: Lsn, object: &[u8], bytes: &[u8]);
    /// An append (one call for each reference of a fan-out).
    fn append(&mut self, lsn: Lsn, entry: EntryHead<'_>);
    /// A trim.
    fn trim(&mut self, lsn: Lsn, log: LogId, before: u64);
    /// A deletion.
    fn delete(&mut self, lsn: Lsn, log: LogId);
    /// The record is complete: `row_lsn` of the rows it touched is set now.
    fn record_end(&mut self, lsn: Lsn);
}
