//! [`FjallStore`]: the state store in Fjall. Every batch is synced before the call returns. A failed write poisons Fjall until it is
//! opened again, so the log ends then.

use std::fs::DirEntry;
use std::io::ErrorKind;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use ::fjall::compaction::Leveled;
use ::fjall::{
    AbstractTree, Database, Guard, Keyspace, KeyspaceCreateOptions, LsmError, OwnedWriteBatch, PersistMode,
    Readable,
};
use millstream_env::Disk;

use super::{Change, Pair, STATE_DIR, StateStore};
use crate::api::StoreError;
use crate::format::bytes::len64;

/// The least that Fjall takes; it begins a journal anew only near this size, whatever is flushed before.
pub(super) const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// How journals are named.
const JOURNAL_ENDING: &str = "jnl";
const DISK_BLOCK_BYTES: u64 = 512;
/// A table, as a part of the reserve: so a merge needs half of the reserve at most ([`Shape::of`]).
const TABLES_PER_RESERVE: u64 = 32;
const TABLE_BYTES_MAX: u64 = 8 << 20;
const TABLE_BYTES_MIN: u64 = 128 << 10;
/// Tables are merged into the level below when there are so many: each merge goes over all that lies there, so fewer write less.
/// What they hold twice is room that nobody gets, so there are more only where the reserve is [`ROOMY_RESERVE_BYTES`] at least.
const FRESH_TABLES: u8 = 4;
const FRESH_TABLES_ROOMY: u8 = 8;
const ROOMY_RESERVE_BYTES: u64 = 512 << 20;
/// A merge of levels takes one table and what it overlaps below: ten times as much, and a table begun at either end.
const LEVEL_MERGE_TABLES: u64 = 13;
/// What a row takes in a table beside its key and its value ...
const ROW_BYTES: u64 = 16;
/// ... and one part in so many is the table's index and its filter.
const TABLE_PARTS: u64 = 16;
/// The same tables are looked at again when so large a part more is free.
const MORE_ROOM_PART: u64 = 8;
/// Merges for want of room that are made one after another.
const STEPS_MAX: usize = 1024;
const CACHE_BYTES: u64 = 16 << 20;
/// One may be at a long compaction; only another then makes tables of what is in memory.
const WORKERS: usize = 2;
const ROWS: &str = "rows";

/// How large the store lets things grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Of a table, and of rows in memory before they become one: each takes as much of the journal, too.
    pub table_bytes: u64,
    /// Fresh tables that are merged. The first level holds so many tables as well: were it larger than what is put into it at a time by
    /// much, each of these merges would write the whole of it for little.
    pub fresh_tables: u8,
}

impl Shape {
    /// What a reserve has room for. The largest merge takes all fresh tables, two that came meanwhile, and the first level with what
    /// was merged into it last: `3 * fresh + 2` tables, 14 of 32 parts of the reserve, or 208 MiB of 512.
    pub(super) fn of(reserve_bytes: u64) -> Self {
        let table_bytes = (reserve_bytes / TABLES_PER_RESERVE).clamp(TABLE_BYTES_MIN, TABLE_BYTES_MAX);
        let roomy = reserve_bytes >= ROOMY_RESERVE_BYTES;
        Self { table_bytes, fresh_tables: if roomy { FRESH_TABLES_ROOMY } else { FRESH_TABLES } }
    }

    fn levels(self, fresh_tables: u8) -> Leveled {
        Leveled::default().with_l0_threshold(fresh_tables).with_table_target_size(self.table_bytes)
    }
}

/// A Fjall database with one keyspace.
pub(crate) struct FjallStore {
    db: Database,
    rows: Keyspace,
    shape: Shape,
    dir: PathBuf,
    /// Held shared by whoever reads at one moment of the store, alone by who lets moments go.
    moments: RwLock<()>,
    /// The tables that merging for want of room left, and what was free when it began.
    merged: Mutex<Option<(u64, u64)>>,
}

fn failed(cause: &::fjall::Error) -> StoreError {
    StoreError { file: STATE_DIR.to_owned(), cause: cause.to_string() }
}

/// As the trees say it.
fn lsm(e: ::fjall::Error) -> LsmError {
    match e {
        ::fjall::Error::Storage(e) => e,
        ::fjall::Error::Io(e) => LsmError::Io(e),
        other => LsmError::Io(std::io::Error::other(other)),
    }
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
        let shape = Shape::of(reserve_bytes);
        let options = KeyspaceCreateOptions::default().max_memtable_size(shape.table_bytes);
        let options = || options.compaction_strategy(Arc::new(shape.levels(shape.fresh_tables)));
        let rows = db.keyspace(ROWS, options).map_err(|e| failed(&e))?;
        Ok(Self { db, rows, shape, dir, moments: RwLock::default(), merged: Mutex::default() })
    }

    fn moment(&self) -> RwLockReadGuard<'_, ()> {
        self.moments.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the disk have what merges replaced. Fjall keeps it until the next rows become a table, which never happens once there is no
    /// room for rows. Not while somebody reads at one moment: then the next call does.
    fn let_go(&self) -> Result<(), StoreError> {
        if self.rows.tree.version_free_list_len() == 0 {
            return Ok(());
        }
        let Ok(_alone) = self.moments.try_write() else { return Ok(()) };
        let mut versions = self.rows.tree.get_version_history_lock();
        // No moment before this one is asked for any more.
        let now = self.db.visible_seqno();
        versions.maintenance(self.rows.path(), now).map_err(|e| failed(&e.into()))
    }

    /// Whether what lives fits into so many bytes of tables. What is in memory counts too, as it is merged with the rest later.
    fn fits(&self, bytes: u64) -> Result<bool, LsmError> {
        let mut left = bytes / TABLE_PARTS * (TABLE_PARTS - 1);
        for row in self.rows.iter() {
            let (key, value) = row.into_inner().map_err(lsm)?;
            let row_bytes = len64(key.len() + value.len()) + ROW_BYTES;
            let Some(less) = left.checked_sub(row_bytes) else { return Ok(false) };
            left = less;
        }
        Ok(true)
    }

    /// Merges all tables if that has room, else step by step as far as each step has.
    fn merge_within(&self, free_bytes: u64) -> Result<(), LsmError> {
        let (tree, step) = (&self.rows.tree, Arc::new(self.shape.levels(1)));
        let seen_by_all = self.db.supervisor.snapshot_tracker.get_seqno_safe_to_gc();
        let mut first = true;
        for _ in 0..STEPS_MAX {
            let before = self.version();
            if tree.disk_space() <= free_bytes || first && self.fits(free_bytes)? {
                return tree.major_compact(self.shape.table_bytes, seen_by_all);
            }
            first = false;
            if self.next_merge_bytes() > free_bytes {
                break;
            }
            tree.compact(Arc::<Leveled>::clone(&step), seen_by_all)?;
            if self.version() == before || self.let_go().is_err() {
                break;
            }
        }
        Ok(())
    }

    /// What the tables are now: it changes whenever one comes or goes.
    fn version(&self) -> u64 {
        self.rows.tree.current_version().id()
    }

    /// Bytes that the next merge writes at most before it gives any back.
    fn next_merge_bytes(&self) -> u64 {
        let version = self.rows.tree.current_version();
        let fresh = version.l0().size();
        let first = version
            .iter_levels()
            .skip(1)
            .find_map(|level| (level.size() > 0).then(|| level.size()))
            .unwrap_or(0);
        let largest = version.iter_tables().map(|table| table.metadata.file_size).max().unwrap_or(0);
        let lower = (largest * LEVEL_MERGE_TABLES).min(self.rows.tree.disk_space());
        (fresh + first).max(lower)
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
        let _moment = self.moment();
        // Without an end the store would look through all that was removed behind the prefix, for one row that is left.
        let end = after(prefix);
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range::<&[u8], _>((Bound::Included(from), end)).take(max).map(pair).collect()
    }

    fn at_or_below(&self, prefix: &[u8], at: &[u8]) -> Result<Option<Pair>, StoreError> {
        if at < prefix {
            return Ok(None);
        }
        let _moment = self.moment();
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(prefix), Bound::Included(at));
        let row = self.rows.range::<&[u8], _>(range).next_back().map(pair).transpose()?;
        Ok(row.filter(|(key, _)| key.starts_with(prefix)))
    }

    fn around(&self, prefix: &[u8], at: &[u8], max: usize) -> Result<Vec<Pair>, StoreError> {
        let _moment = self.moment();
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

    fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let batch = OwnedWriteBatch::with_capacity(self.db.clone(), changes.len());
        let mut batch = batch.durability(Some(PersistMode::SyncAll));
        // One after another they leave the memory that they came in.
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.rows, key, value),
                None => batch.remove(&self.rows, key),
            }
        }
        batch.commit().map_err(|e| failed(&e))?;
        // Left to its workers, a memtable grows until one of them is done with what it is at.
        if self.rows.tree.active_memtable().size() > self.shape.table_bytes {
            self.rows.rotate_memtable().map_err(|e| failed(&e))?;
        }
        self.let_go()
    }

    fn is_behind(&self) -> bool {
        self.rows.tree.sealed_memtable_count() > 0
    }

    fn merge_bytes(&self) -> u64 {
        self.next_merge_bytes() + self.rows.tree.version_memtable_size_sum()
    }

    fn make_room(&self, free_bytes: u64) -> Result<bool, StoreError> {
        let held = || self.rows.tree.version_free_list_len();
        let before = held();
        self.let_go()?;
        if held() < before {
            return Ok(true);
        }
        let from = self.version();
        let mut merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
        // What is in memory becomes tables first, by itself.
        let tried =
            merged.is_some_and(|(tables, free)| tables == from && free_bytes <= free + free / MORE_ROOM_PART);
        if self.is_behind() || tried {
            return Ok(false);
        }
        match self.merge_within(free_bytes) {
            // Another program was faster. What was half written goes with the next opening.
            Err(LsmError::Io(e)) if e.kind() == ErrorKind::StorageFull => {}
            other => other.map_err(|e| failed(&e.into()))?,
        }
        self.let_go()?;
        let to = self.version();
        *merged = Some((to, free_bytes));
        Ok(to != from)
    }

    fn owed_bytes(&self) -> u64 {
        let files = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let journals = files.filter(|f| f.path().extension().is_some_and(|e| e == JOURNAL_ENDING));
        // Journals are sparse files.
        let held = |f: &DirEntry| f.metadata().map_or(0, |m| m.blocks() * DISK_BLOCK_BYTES);
        JOURNAL_BYTES_MAX.saturating_sub(journals.map(|f| held(&f)).sum())
    }
}
