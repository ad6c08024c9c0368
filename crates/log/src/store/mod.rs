//! The state store: an embedded key-value store behind [`StateStore`]. It knows bytes only; what the rows mean is told in
//! `format::rows`.
//!
//! Start at [`StateStore`]; [`StoreKind`] says which implementation a log opens.

mod fjall;
mod sim;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use millstream_env::Disk;

use crate::api::StoreError;

pub use sim::SimStore;

/// The directory of the state store, below the data directory.
pub(crate) const STATE_DIR: &str = "state";

/// A row as stored.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);
/// A row to write; `None` removes it.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// An ordered map of bytes. Reads may come from any thread; there is one writer.
pub(crate) trait StateStore: Send + Sync {
    /// One row.
    ///
    /// # Errors
    /// If the store fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `max` rows whose key starts with `prefix` and is at least `from`, ascending.
    ///
    /// # Errors
    /// If the store fails.
    fn scan(&self, prefix: &[u8], from: &[u8], max: usize) -> Result<Vec<Pair>, StoreError>;

    /// The row with the greatest key that starts with `prefix` and is at most `at`.
    ///
    /// # Errors
    /// If the store fails.
    fn at_or_below(&self, prefix: &[u8], at: &[u8]) -> Result<Option<Pair>, StoreError>;

    /// The row with the greatest key that starts with `prefix` and is at most `at`, and at most `max` that follow it: all of one
    /// moment.
    ///
    /// # Errors
    /// If the store fails.
    fn around(&self, prefix: &[u8], at: &[u8], max: usize) -> Result<Vec<Pair>, StoreError>;

    /// Writes all of it or nothing.
    ///
    /// # Durability
    /// Durable when it returns.
    ///
    /// # Errors
    /// If the store fails; whether the batch will be found by the next opening is then unknown.
    fn write(&self, changes: Vec<Change>) -> Result<(), StoreError>;

    /// Whether batches are still in memory that it is making tables of: a large one is better written later.
    fn is_behind(&self) -> bool {
        false
    }

    /// Bytes of the disk that its own merges, and the tables it makes of what is in memory, may take at a time and give back.
    fn merge_bytes(&self) -> u64 {
        0
    }

    /// Merges what it holds, as far as `free_bytes` allow it, because there is no room for a batch. False if nothing came of it: the
    /// store is as small as it gets, or is at it by itself.
    ///
    /// # Errors
    /// If the store fails.
    fn make_room(&self, free_bytes: u64) -> Result<bool, StoreError> {
        let _ = free_bytes;
        Ok(false)
    }

    /// Bytes of the disk that it may still take though it holds no more than now: its journal grows before it is begun anew.
    fn owed_bytes(&self) -> u64 {
        0
    }
}

/// Which state store a log opens.
#[derive(Clone, Default)]
pub enum StoreKind {
    /// Fjall, in the real directory behind the disk.
    #[default]
    Fjall,
    /// In memory, shared by all clones of the handle, with crashes that a test orders.
    Sim(SimStore),
}

impl StoreKind {
    /// Bytes of the disk that it takes though it holds next to nothing.
    pub(crate) fn least_bytes(&self) -> u64 {
        match self {
            Self::Fjall => fjall::JOURNAL_BYTES_MAX,
            Self::Sim(_) => 0,
        }
    }

    /// Opens it; creates it where there is none. It takes room in portions that `reserve_bytes` have place for.
    ///
    /// # Errors
    /// If it cannot be opened, or the disk has no real directory for Fjall.
    pub(crate) fn open(
        &self,
        disk: &dyn Disk,
        reserve_bytes: u64,
    ) -> Result<Arc<dyn StateStore>, StoreError> {
        match self {
            Self::Fjall => Ok(Arc::new(fjall::FjallStore::open(disk, reserve_bytes)?)),
            Self::Sim(store) => Ok(Arc::new(store.clone())),
        }
    }
}
