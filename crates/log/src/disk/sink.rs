//! [`Sink`]: where the engine's rows wait until they may be written, and are seen meanwhile. Start at [`Sink::take_ready`], the
//! flusher's end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use millstream_types::Lsn;

use crate::api::{BatchId, Budget, Row, RowBatch, StateReader, StateSink, StoreError};
use crate::format::bytes::len64;
use crate::format::rows::{OBJECTS, decode_object, object_key};
use crate::store::{STATE_DIR, StateStore};

/// A slice: what the engine encodes in about 200 microseconds.
const SLICE: Budget = Budget { rows_max: 1024, bytes_max: 256 << 10 };
/// Bytes that wait; above, no more is wanted. They are in memory twice, with places in a table.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Bytes written at once, unless one slice has more: on their way into the store they are in memory several times.
const WRITTEN_BYTES_MAX: usize = 4 << 20;

/// Rows between the engine and the store.
pub(crate) struct Sink {
    /// `None` once the log is closed, whoever still has this.
    store: RwLock<Option<Arc<dyn StateStore>>>,
    state: Mutex<Waiting>,
    wanted: AtomicBool,
    flushed: AtomicU64,
    on_wanted: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

/// Its batch, its LSN, its value.
type Newest = (u64, Lsn, Option<Vec<u8>>);

#[derive(Default)]
struct Waiting {
    batches: VecDeque<(u64, RowBatch)>,
    /// The newest waiting row of each object, with its batch.
    rows: BTreeMap<Vec<u8>, Newest>,
    bytes: usize,
    next: u64,
    /// Rows are wanted until nothing up to this LSN is dirty.
    target: u64,
}

/// Bytes of a batch's rows.
pub(crate) fn bytes_of(batch: &RowBatch) -> usize {
    batch.rows.iter().map(|r| r.key.len() + r.value.as_ref().map_or(0, Vec::len)).sum()
}

impl Sink {
    pub(crate) fn new(store: Arc<dyn StateStore>) -> Self {
        let (wanted, flushed) = (AtomicBool::new(false), AtomicU64::new(0));
        let store = RwLock::new(Some(store));
        Self { store, state: Mutex::default(), wanted, flushed, on_wanted: Mutex::new(None) }
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

    /// Bytes of rows that wait.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        len64(self.lock().bytes)
    }

    /// Whether [`Sink::take_ready`] would find any.
    pub(crate) fn has_ready(&self, durable: u64) -> bool {
        self.lock().batches.front().is_some_and(|(_, b)| b.rows.iter().all(|r| r.row_lsn.0 <= durable))
    }

    /// The first batches in which every row includes durable records only, as many as are written at once. They are still seen by
    /// readers.
    pub(crate) fn take_ready(&self, durable: u64) -> Vec<(u64, RowBatch)> {
        let mut s = self.lock();
        let mut bytes = 0;
        let ready = |(_, b): &&(u64, RowBatch)| {
            let within = bytes < WRITTEN_BYTES_MAX;
            bytes += bytes_of(b);
            within && b.rows.iter().all(|r| r.row_lsn.0 <= durable)
        };
        let n = s.batches.iter().take_while(ready).count();
        s.batches.drain(..n).collect()
    }

    /// Everything up to this batch is durable in the store.
    pub(crate) fn set_flushed(&self, id: u64, written: &[(u64, RowBatch)]) {
        let full = {
            let mut s = self.lock();
            let full = s.bytes >= WAITING_BYTES_MAX;
            for (_, batch) in written {
                s.bytes = s.bytes.saturating_sub(bytes_of(batch));
                for row in &batch.rows {
                    if s.rows.get(&row.key).is_some_and(|(newest, _, _)| *newest <= id) {
                        s.rows.remove(&row.key);
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
        s.bytes += bytes_of(&batch);
        for row in &batch.rows {
            s.rows.insert(row.key.clone(), (id, row.row_lsn, row.value.clone()));
        }
        s.batches.push_back((id, batch));
        BatchId(id)
    }

    fn flushed(&self) -> BatchId {
        BatchId(self.flushed.load(Ordering::Acquire))
    }

    fn on_wanted(&self, f: Arc<dyn Fn() + Send + Sync>) {
        *self.on_wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(f);
    }
}

impl StateReader for Sink {
    fn get(&self, key: &[u8]) -> Result<Option<(Lsn, Vec<u8>)>, StoreError> {
        if let Some((_, lsn, value)) = self.lock().rows.get(key) {
            return Ok(value.clone().map(|v| (*lsn, v)));
        }
        let row = self.store()?.get(&object_key(key))?;
        row.map(|v| decode_object(&v)).transpose().map(|r| r.map(|(lsn, v)| (Lsn(lsn), v)))
    }

    fn scan(&self, prefix: &[u8], from: &[u8], max: usize) -> Result<Vec<Row>, StoreError> {
        let mut from = from.max(prefix).to_vec();
        // Looked at before the store: what leaves here meanwhile is found there.
        let waiting: Vec<Row> = {
            let s = self.lock();
            let rows = s.rows.range(from.clone()..).take_while(|(k, _)| k.starts_with(prefix));
            rows.map(|(k, (_, lsn, v))| Row { key: k.clone(), row_lsn: *lsn, value: v.clone() }).collect()
        };
        let store = self.store()?;
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
            let within = |r: &&Row| r.key >= from && until.is_none_or(|u| r.key.as_slice() <= u);
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
