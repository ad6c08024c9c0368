//! A log without a state store: it wants no rows and has none, so every opening replays from the first record.

use std::sync::Arc;

use millstream_types::Lsn;

use crate::api::{BatchId, Budget, Row, RowBatch, StateReader, StateSink, StoreError};

/// Wants and holds nothing.
pub(crate) struct NoStore;

impl StateSink for NoStore {
    fn wanted(&self) -> Option<Budget> {
        None
    }

    /// Takes nothing: what is offered is never reported as flushed, so it must not be evicted.
    fn offer(&self, _: RowBatch) -> BatchId {
        BatchId(u64::MAX)
    }

    fn flushed(&self) -> BatchId {
        BatchId(0)
    }

    fn on_wanted(&self, _: Arc<dyn Fn() + Send + Sync>) {}
}

impl StateReader for NoStore {
    fn get(&self, _: &[u8]) -> Result<Option<(Lsn, Vec<u8>)>, StoreError> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<Row>, StoreError> {
        Ok(Vec::new())
    }
}
