//! [`Sink`]: where the engine's rows wait until they may be written, and are seen meanwhile. Start at [`Sink::take_ready`], the
//! flusher's end.

use std::borrow::Borrow;
use std::cmp::Ordering as Order;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use millstream_types::Lsn;

use crate::api::{BatchId, Budget, Row, RowBatch, StateReader, StateSink, StoreError};
use crate::format::bytes::len64;
use crate::format::rows::{OBJECT_HEAD_BYTES, OBJECTS, decode_object, object_key, object_lsn};
use crate::store::{Pair, STATE_DIR, StateStore};

/// A slice: what the engine encodes in about 200 microseconds.
const SLICE: Budget = Budget { rows_max: 1024, bytes_max: 256 << 10 };
/// Memory of rows that wait; above, no more is wanted.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// What a row takes in memory beside its key and its value, with its places in a table and in a batch, roughly.
const WAITING_ROW_BYTES: usize = 160;
/// Rows written at once: small ones take much more memory on their way than they have bytes.
const WRITTEN_ROWS_MAX: usize = 16 << 10;
/// What a row takes beside its key and its value, in the journal and in a table.
const ROW_BYTES: usize = 32;

/// Rows between the engine and the store.
pub(crate) struct Sink {
    /// `None` once the log is closed, whoever still has this.
    store: RwLock<Option<Arc<dyn StateStore>>>,
    /// Bytes written at once, unless one slice has more: on their way into the store they are in memory several times.
    written_bytes_max: usize,
    state: Mutex<Waiting>,
    wanted: AtomicBool,
    flushed: AtomicU64,
    on_wanted: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

/// Rows that are written in one batch.
pub(crate) struct Slice {
    pub id: u64,
    pub rows: Vec<Arc<Row>>,
    /// Of the rows' keys and values.
    pub bytes: usize,
    /// As in [`RowBatch`].
    pub oldest_dirty: Option<Lsn>,
    pub applied: Lsn,
}

impl Slice {
    fn memory(&self) -> usize {
        self.bytes + self.rows.len() * WAITING_ROW_BYTES
    }

    fn is_ready(&self, durable: u64) -> bool {
        self.rows.iter().all(|r| r.row_lsn.0 <= durable)
    }
}

/// A row by its key, with its batch.
struct Newest {
    id: u64,
    row: Arc<Row>,
}

impl Borrow<[u8]> for Newest {
    fn borrow(&self) -> &[u8] {
        &self.row.key
    }
}

impl Ord for Newest {
    fn cmp(&self, other: &Self) -> Order {
        self.row.key.cmp(&other.row.key)
    }
}

impl PartialOrd for Newest {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Newest {
    fn eq(&self, other: &Self) -> bool {
        self.row.key == other.row.key
    }
}

impl Eq for Newest {}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Slice>,
    /// The newest waiting row of each object.
    rows: BTreeSet<Newest>,
    /// Memory of them.
    bytes: usize,
    next: u64,
    /// Rows are wanted until nothing up to this LSN is dirty.
    target: u64,
}

impl Sink {
    pub(crate) fn new(store: Arc<dyn StateStore>, written_bytes_max: u64) -> Self {
        let (wanted, flushed) = (AtomicBool::new(false), AtomicU64::new(0));
        let store = RwLock::new(Some(store));
        let written_bytes_max = usize::try_from(written_bytes_max).unwrap_or(usize::MAX);
        let state = Mutex::default();
        Self { store, written_bytes_max, state, wanted, flushed, on_wanted: Mutex::new(None) }
    }

    /// Lets go of the store, so that the next opening finds it free.
    pub(crate) fn close(&self) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn store(&self) -> Result<Arc<dyn StateStore>, StoreError> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner).clone();
        store.ok_or_else(|| StoreError { file: STATE_DIR.to_owned(), cause: "the log is closed".to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for rows until nothing up to `target` is dirty.
    pub(crate) fn want(&self, target: u64) {
        self.lock().target = target;
        if !self.wanted.swap(true, Ordering::AcqRel) {
            self.nudge();
        }
    }

    fn nudge(&self) {
        let f = self.on_wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(f) = f {
            f();
        }
    }

    /// Bytes that the next rows take in the store, at most.
    pub(crate) fn next_bytes(&self) -> u64 {
        let s = self.lock();
        let batches = s.batches.iter().take(self.written_at_once(&s));
        len64(batches.map(|slice| slice.bytes + ROW_BYTES * slice.rows.len()).sum())
    }

    /// How many of the batches that wait are written at once.
    fn written_at_once(&self, s: &Waiting) -> usize {
        let (mut bytes, mut rows) = (0, 0);
        let within = |slice: &&Slice| {
            let within = bytes < self.written_bytes_max && rows < WRITTEN_ROWS_MAX;
            (bytes, rows) = (bytes + slice.bytes, rows + slice.rows.len());
            within
        };
        s.batches.iter().take_while(within).count()
    }

    /// Whether [`Sink::take_ready`] would find any.
    pub(crate) fn has_ready(&self, durable: u64) -> bool {
        self.lock().batches.front().is_some_and(|slice| slice.is_ready(durable))
    }

    /// The first batches in which every row includes durable records only, as many as are written at once. They are still seen by
    /// readers.
    pub(crate) fn take_ready(&self, durable: u64) -> Vec<Slice> {
        let mut s = self.lock();
        let most = s.batches.iter().take(self.written_at_once(&s));
        let n = most.take_while(|slice| slice.is_ready(durable)).count();
        s.batches.drain(..n).collect()
    }

    /// These, and everything before them, are durable in the store.
    pub(crate) fn set_flushed(&self, written: &[Slice]) {
        let Some(id) = written.last().map(|slice| slice.id) else { return };
        let full = {
            let mut s = self.lock();
            let full = s.bytes >= WAITING_BYTES_MAX;
            for slice in written {
                s.bytes = s.bytes.saturating_sub(slice.memory());
                for row in &slice.rows {
                    if s.rows.get(row.key.as_slice()).is_some_and(|newest| newest.id <= id) {
                        s.rows.remove(row.key.as_slice());
                    }
                }
            }
            full && s.bytes < WAITING_BYTES_MAX
        };
        self.flushed.store(id, Ordering::Release);
        if full && self.wanted.load(Ordering::Acquire) {
            self.nudge();
        }
    }
}

impl StateSink for Sink {
    fn wanted(&self) -> Option<Budget> {
        let wanted = self.wanted.load(Ordering::Acquire) && self.lock().bytes < WAITING_BYTES_MAX;
        wanted.then_some(SLICE)
    }

    fn offer(&self, batch: RowBatch) -> BatchId {
        let mut s = self.lock();
        s.next += 1;
        let id = s.next;
        if batch.rows.is_empty() || batch.oldest_dirty.is_none_or(|l| l.0 > s.target) {
            self.wanted.store(false, Ordering::Release);
        }
        let RowBatch { rows, oldest_dirty, applied } = batch;
        let rows: Vec<_> = rows.into_iter().map(Arc::new).collect();
        for row in &rows {
            s.rows.replace(Newest { id, row: Arc::clone(row) });
        }
        let bytes = rows.iter().map(|r| r.key.len() + r.value.as_ref().map_or(0, Vec::len)).sum();
        let slice = Slice { id, rows, bytes, oldest_dirty, applied };
        s.bytes += slice.memory();
        s.batches.push_back(slice);
        BatchId(id)
    }

    fn flushed(&self) -> BatchId {
        BatchId(self.flushed.load(Ordering::Acquire))
    }

    fn on_wanted(&self, f: Arc<dyn Fn() + Send + Sync>) {
        *self.on_wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(f);
    }
}

/// A row as it lies in the store.
fn row((mut key, mut value): Pair) -> Result<Row, StoreError> {
    let row_lsn = Lsn(object_lsn(&value)?);
    key.drain(..OBJECTS.len());
    value.drain(..OBJECT_HEAD_BYTES);
    Ok(Row { key, row_lsn, value: Some(value) })
}

impl StateReader for Sink {
    fn get(&self, key: &[u8]) -> Result<Option<(Lsn, Vec<u8>)>, StoreError> {
        if let Some(Newest { row, .. }) = self.lock().rows.get(key) {
            return Ok(row.value.clone().map(|v| (row.row_lsn, v)));
        }
        let row = self.store()?.get(&object_key(key))?;
        row.map(|v| decode_object(&v)).transpose().map(|r| r.map(|(lsn, v)| (Lsn(lsn), v)))
    }

    fn scan(&self, prefix: &[u8], from: &[u8], max: usize) -> Result<Vec<Row>, StoreError> {
        let mut from = from.max(prefix).to_vec();
        // Looked at before the store: what leaves here meanwhile is found there.
        let waiting: Vec<Arc<Row>> = {
            let s = self.lock();
            let from = (Bound::Included(from.as_slice()), Bound::Unbounded);
            let rows = s.rows.range::<[u8], _>(from).map(|newest| &newest.row);
            rows.take_while(|row| row.key.starts_with(prefix)).map(Arc::clone).collect()
        };
        let store = self.store()?;
        if waiting.is_empty() {
            // An opening reads millions of rows so.
            return store.scan(&object_key(prefix), &object_key(&from), max)?.into_iter().map(row).collect();
        }
        let mut found = Vec::new();
        loop {
            let page = store.scan(&object_key(prefix), &object_key(&from), max)?;
            let until =
                if page.len() < max { None } else { page.last().and_then(|(k, _)| k.get(OBJECTS.len()..)) };
            let mut merged = BTreeMap::new();
            for (key, value) in &page {
                let (lsn, value) = decode_object(value)?;
                merged.insert(key.get(OBJECTS.len()..).unwrap_or_default().to_vec(), (Lsn(lsn), Some(value)));
            }
            let within = |r: &&Arc<Row>| r.key >= from && until.is_none_or(|u| r.key.as_slice() <= u);
            for row in waiting.iter().filter(within) {
                merged.insert(row.key.clone(), (row.row_lsn, row.value.clone()));
            }
            let rows = merged.into_iter().filter(|(_, (_, v))| v.is_some());
            found.extend(
                rows.map(|(key, (row_lsn, value))| Row { key, row_lsn, value }).take(max - found.len()),
            );
            match until {
                Some(last) if found.len() < max => from = [last, &[0]].concat(),
                _ => return Ok(found),
            }
        }
    }
}
