//! Rows of engine state on their way to and from the state store.

use millstream_types::Lsn;

use super::StoreError;

/// One row: what an object is after all records up to `row_lsn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The object's key.
    pub key: Vec<u8>,
    /// The last LSN whose operations are in `value`.
    pub row_lsn: Lsn,
    /// The state; `None` removes the row.
    pub value: Option<Vec<u8>>,
}

/// A slice of changed rows, written in one atomic batch.
#[derive(Clone, Debug, Default)]
pub struct RowBatch {
    /// The rows.
    pub rows: Vec<Row>,
    /// After these rows: the lowest LSN of which an effect is in no row given to the sink so far (`None` = all are). Holds the floor.
    pub oldest_dirty: Option<Lsn>,
    /// The last LSN applied to engine state when the slice was taken.
    pub applied: Lsn,
}

/// Names a batch, ascending from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchId(pub u64);

/// How much a slice may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Rows.
    pub rows_max: usize,
    /// Bytes of keys and values.
    pub bytes_max: usize,
}

/// Where the engine's thread puts rows. The flusher asks ([`StateSink::wanted`]), the engine's thread offers, between records.
pub trait StateSink: Send + Sync {
    /// Whether a slice is wanted now, and how large. Cheap (an atomic). After a slice it may want the next at once.
    fn wanted(&self) -> Option<Budget>;
    /// Takes a slice: oldest dirty rows first. An empty slice says that nothing is dirty. Committed to the store only when all
    /// `row_lsn` in it are durable.
    fn offer(&self, batch: RowBatch) -> BatchId;
    /// The last batch that is durable: its rows may be evicted.
    fn flushed(&self) -> BatchId;
    /// Called when a slice comes to be wanted; must not block.
    fn on_wanted(&self, f: std::sync::Arc<dyn Fn() + Send + Sync>);
}

/// Rows as last flushed (rows offered but not yet durable are seen too).
pub trait StateReader: Send + Sync {
    /// One row.
    ///
    /// # Errors
    /// If the store fails.
    fn get(&self, key: &[u8]) -> Result<Option<(Lsn, Vec<u8>)>, StoreError>;
    /// Rows whose key is at least `from` and starts with `prefix`, ascending, at most `max`.
    ///
    /// # Errors
    /// If the store fails.
    fn scan(&self, prefix: &[u8], from: &[u8], max: usize) -> Result<Vec<Row>, StoreError>;
}
