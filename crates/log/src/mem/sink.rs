//! Rows of a log in memory.

use std::sync::Arc;

use millstream_types::Lsn;

use crate::{BatchId, Budget, Row, RowBatch, StateReader, StateSink, StoreError};

use super::Shared;

/// Everything at once.
pub(super) const ALL: Budget = Budget { rows_max: usize::MAX, bytes_max: usize::MAX };

pub(super) struct MemSink {
    pub(super) shared: Arc<Shared>,
}

impl StateSink for MemSink {
    fn wanted(&self) -> Option<Budget> {
        self.shared.lock().wanted
    }

    fn offer(&self, batch: RowBatch) -> BatchId {
        let mut s = self.shared.lock();
        s.wanted = None;
        s.next_batch += 1;
        let id = s.next_batch;
        s.offered.push_back((id, batch));
        s.settle_rows();
        BatchId(id)
    }

    fn flushed(&self) -> BatchId {
        BatchId(self.shared.lock().flushed)
    }

    fn on_wanted(&self, f: Arc<dyn Fn() + Send + Sync>) {
        *self.shared.on_wanted.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(f);
    }
}

impl StateReader for MemSink {
    fn get(&self, key: &[u8]) -> Result<Option<(Lsn, Vec<u8>)>, StoreError> {
        let s = self.shared.lock();
        let offered = s.offered.iter().rev().flat_map(|(_, b)| &b.rows).find(|r| r.key == key);
        Ok(match offered {
            Some(row) => row.value.as_ref().map(|v| (row.row_lsn, v.clone())),
            None => s.rows.get(key).cloned(),
        })
    }

    fn scan(&self, prefix: &[u8], from: &[u8], max: usize) -> Result<Vec<Row>, StoreError> {
        let s = self.shared.lock();
        let first = from.max(prefix).to_vec();
        let mut all: std::collections::BTreeMap<Vec<u8>, Option<(Lsn, Vec<u8>)>> = s
            .rows
            .range(first.clone()..)
            .take_while(|(k, _)| k.starts_with(prefix))
            .map(|(k, v)| (k.clone(), Some(v.clone())))
            .collect();
        for row in s.offered.iter().flat_map(|(_, b)| &b.rows) {
            if row.key >= first && row.key.starts_with(prefix) {
                all.insert(row.key.clone(), row.value.as_ref().map(|v| (row.row_lsn, v.clone())));
            }
        }
        let present =
            all.into_iter().filter_map(|(key, v)| v.map(|(row_lsn, v)| Row { key, row_lsn, value: Some(v) }));
        Ok(present.take(max).collect())
    }
}
