//! [`FjallStore`]: the state store in Fjall. Every batch is synced before the call returns. A failed write poisons Fjall until it is
//! opened again, so the log ends then.

use std::fs::DirEntry;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use ::fjall::compaction::Leveled;
use ::fjall::{
    AbstractTree, Database, Guard, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable,
};
use millstream_env::Disk;

use super::{Change, Pair, STATE_DIR, StateStore};
use crate::api::StoreError;

/// The least that Fjall takes; it begins a journal anew only near this size, whatever is flushed before.
pub(super) const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// How journals are named.
const JOURNAL_ENDING: &str = "jnl";
const DISK_BLOCK_BYTES: u64 = 512;
/// A memtable becomes a table file, and the journal of it goes only then: both must find room on a full disk.
const MEMTABLE_BYTES_MAX: u64 = 8 << 20;
const MEMTABLE_BYTES_MIN: u64 = 1 << 20;
const MEMTABLES_PER_RESERVE: u64 = 4;
const CACHE_BYTES: u64 = 16 << 20;
/// Tables are merged into the level below when there are so many: each merge goes over all that lies there, so fewer write less.
/// What they hold twice is room that nobody gets, so there are so many only where the reserve is [`ROOMY_RESERVE_BYTES`] at least. Else the
/// store's own measures hold, four of them.
const FRESH_TABLES_MAX: u8 = 8;
/// Twice what that many fresh tables take.
const ROOMY_RESERVE_BYTES: u64 = 2 * FRESH_TABLES_MAX as u64 * MEMTABLE_BYTES_MAX;
/// Size of a table. The first level holds so many of these as there are fresh tables: were it larger than what is put into it at a time
/// by much, each of these merges would write the whole of it for little.
const TABLE_BYTES: u64 = 8 << 20;
/// One may be at a long compaction; only another then makes tables of what is in memory.
const WORKERS: usize = 2;
const ROWS: &str = "rows";

/// A Fjall database with one keyspace.
pub(crate) struct FjallStore {
    db: Database,
    rows: Keyspace,
    memtable_bytes: u64,
    dir: PathBuf,
}

fn failed(cause: &::fjall::Error) -> StoreError {
    StoreError { file: STATE_DIR.to_owned(), cause: cause.to_string() }
}

impl FjallStore {
    /// Opens the store below the disk's real directory; creates it where there is none.
    ///
    /// # Errors
    /// If the disk has no real directory, or Fjall cannot open it.
    pub(crate) fn open(disk: &dyn Disk, reserve_bytes: u64) -> Result<Self, StoreError> {
        let root = disk.real_root().ok_or_else(|| StoreError {
            file: STATE_DIR.to_owned(),
            cause: "the disk is simulated and has no directory".to_owned(),
        })?;
        let dir = root.join(STATE_DIR);
        let config = Database::builder(&dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .worker_threads(WORKERS);
        let db = config.open().map_err(|e| failed(&e))?;
        let memtable_bytes =
            (reserve_bytes / MEMTABLES_PER_RESERVE).clamp(MEMTABLE_BYTES_MIN, MEMTABLE_BYTES_MAX);
        let levels = if reserve_bytes >= ROOMY_RESERVE_BYTES {
            Leveled::default().with_l0_threshold(FRESH_TABLES_MAX).with_table_target_size(TABLE_BYTES)
        } else {
            Leveled::default()
        };
        let options = KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes);
        let options = || options.compaction_strategy(Arc::new(levels));
        let rows = db.keyspace(ROWS, options).map_err(|e| failed(&e))?;
        Ok(Self { db, rows, memtable_bytes, dir })
    }
}

fn pair(guard: Guard) -> Result<Pair, StoreError> {
    let (key, value) = guard.into_inner().map_err(|e| failed(&e))?;
    Ok((key.to_vec(), value.to_vec()))
}

/// The least key that is greater than all that start with `prefix`; `None` if there is none.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut key = prefix.to_vec();
    while let Some(last) = key.pop() {
        if let Some(next) = last.checked_add(1) {
            key.push(next);
            return Some(key);
        }
    }
    None
}

impl StateStore for FjallStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.get(key).map_err(|e| failed(&e))?.map(|v| v.to_vec()))
    }

    fn scan(&self, prefix: &[u8], from: &[u8], max: usize) -> Result<Vec<Pair>, StoreError> {
        let from = from.max(prefix);
        if !from.starts_with(prefix) {
            return Ok(Vec::new());
        }
        // Without an end the store would look through all that was removed behind the prefix, for one row that is left.
        let end = after(prefix);
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range::<&[u8], _>((Bound::Included(from), end)).take(max).map(pair).collect()
    }

    fn at_or_below(&self, prefix: &[u8], at: &[u8]) -> Result<Option<Pair>, StoreError> {
        if at < prefix {
            return Ok(None);
        }
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(prefix), Bound::Included(at));
        let row = self.rows.range::<&[u8], _>(range).next_back().map(pair).transpose()?;
        Ok(row.filter(|(key, _)| key.starts_with(prefix)))
    }

    fn around(&self, prefix: &[u8], at: &[u8], max: usize) -> Result<Vec<Pair>, StoreError> {
        let snapshot = self.db.snapshot();
        let from = at.max(prefix);
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(prefix), Bound::Included(from));
        let before = snapshot.range::<&[u8], _>(&self.rows, range).next_back().map(pair).transpose()?;
        let mut found: Vec<Pair> = before.into_iter().filter(|(key, _)| key.starts_with(prefix)).collect();
        if from.starts_with(prefix) {
            let end = after(prefix);
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            for guard in snapshot.range::<&[u8], _>(&self.rows, (Bound::Excluded(from), end)).take(max) {
                found.push(pair(guard)?);
            }
        }
        Ok(found)
    }

    fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let batch = OwnedWriteBatch::with_capacity(self.db.clone(), changes.len());
        let mut batch = batch.durability(Some(PersistMode::SyncAll));
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.rows, key.as_slice(), value.as_slice()),
                None => batch.remove(&self.rows, key.as_slice()),
            }
        }
        batch.commit().map_err(|e| failed(&e))?;
        // Left to its workers, a memtable grows until one of them is done with what it is at.
        if self.rows.tree.active_memtable().size() > self.memtable_bytes {
            self.rows.rotate_memtable().map_err(|e| failed(&e))?;
        }
        Ok(())
    }

    fn is_behind(&self) -> bool {
        self.rows.tree.sealed_memtable_count() > 0
    }

    fn owed_bytes(&self) -> u64 {
        let files = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let journals = files.filter(|f| f.path().extension().is_some_and(|e| e == JOURNAL_ENDING));
        // Journals are sparse files.
        let held = |f: &DirEntry| f.metadata().map_or(0, |m| m.blocks() * DISK_BLOCK_BYTES);
        JOURNAL_BYTES_MAX.saturating_sub(journals.map(|f| held(&f)).sum())
    }
}
