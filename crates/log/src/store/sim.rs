//! [`SimStore`]: a state store in memory that outlives the log that has it open, as a disk would, and crashes when a test says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Change, Pair, STATE_DIR, StateStore};
use crate::api::StoreError;

/// Rows in memory. Clones share them; [`SimStore::crash`] makes the store that the next boot finds.
#[derive(Clone, Default)]
pub struct SimStore {
    state: Arc<Mutex<State>>,
    hung: Arc<Condvar>,
}

/// A hang of a store's writes; over when this is dropped, so that a test that fails leaves no thread stuck.
#[must_use = "the store hangs until this is dropped"]
pub struct Hang(SimStore);

impl Hang {
    /// Blocks until a batch hangs.
    pub fn wait_for_a_batch(&self) {
        let mut s = self.0.lock();
        while !s.waits {
            s = self.0.hung.wait(s).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        self.0.lock().hangs = false;
        self.0.hung.notify_all();
    }
}

type Hook = Arc<dyn Fn(&[u8]) + Send + Sync>;

#[derive(Default)]
struct State {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// A batch whose sync failed: the next boot finds it, or not.
    in_doubt: Vec<Change>,
    batches: u64,
    batches_max: Option<u64>,
    off: bool,
    after_looks: Option<Hook>,
    on_make_room: Option<Arc<dyn Fn(u64) -> bool + Send + Sync>>,
    /// Writes wait.
    hangs: bool,
    /// One does.
    waits: bool,
}

impl State {
    fn apply(&mut self, changes: Vec<Change>) {
        for (key, value) in changes {
            match value {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
        }
    }
}

impl SimStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power: the store as the next boot finds it, with every batch whose write returned, and the one in doubt if
    /// `keep_in_doubt`. This one fails every call from now on.
    #[must_use]
    pub fn crash(&self, keep_in_doubt: bool) -> Self {
        let mut old = self.lock();
        old.off = true;
        let mut new = State { rows: old.rows.clone(), ..State::default() };
        if keep_in_doubt {
            new.apply(old.in_doubt.clone());
        }
        Self { state: Arc::new(Mutex::new(new)), hung: Arc::default() }
    }

    /// Lets `n` more batches be written; the next one fails and is in doubt, and from it on every call fails.
    pub fn fail_after(&self, n: u64) {
        let mut s = self.lock();
        s.batches_max = Some(s.batches + n);
    }

    /// Calls `f` with the key whenever rows around one were looked up, before the one who asked learns of them: so a test holds a
    /// reader between the rows and what follows.
    pub fn after_looks(&self, f: impl Fn(&[u8]) + Send + Sync + 'static) {
        self.lock().after_looks = Some(Arc::new(f));
    }

    /// Calls `f` with what is free whenever the store is to make room; it says whether it did.
    pub fn on_make_room(&self, f: impl Fn(u64) -> bool + Send + Sync + 'static) {
        self.lock().on_make_room = Some(Arc::new(f));
    }

    /// Makes every write wait from now on; reads go on.
    pub fn hang(&self) -> Hang {
        self.lock().hangs = true;
        Hang(self.clone())
    }

    /// Batches written so far.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.lock().batches
    }

    /// Whether every call fails.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// All rows, ascending.
    #[must_use]
    pub fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.lock().rows.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    fn on(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let s = self.lock();
        if s.off {
            return Err(StoreError { file: STATE_DIR.to_owned(), cause: "the power is off".to_owned() });
        }
        Ok(s)
    }
}

impl StateStore for SimStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.on()?.rows.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], from: &[u8], max: usize) -> Result<Vec<Pair>, StoreError> {
        let s = self.on()?;
        let rows = s.rows.range(from.max(prefix).to_vec()..).take_while(|(k, _)| k.starts_with(prefix));
        Ok(rows.take(max).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn at_or_below(&self, prefix: &[u8], at: &[u8]) -> Result<Option<Pair>, StoreError> {
        let s = self.on()?;
        let row = s.rows.range(..=at.to_vec()).next_back().filter(|(k, _)| k.starts_with(prefix));
        Ok(row.map(|(k, v)| (k.clone(), v.clone())))
    }

    fn around(&self, prefix: &[u8], at: &[u8], max: usize) -> Result<Vec<Pair>, StoreError> {
        let s = self.on()?;
        let before = s.rows.range(..=at.to_vec()).next_back().filter(|(k, _)| k.starts_with(prefix));
        let max = max.saturating_add(usize::from(before.is_some()));
        let from = before.map_or_else(|| at.max(prefix).to_vec(), |(k, _)| k.clone());
        let rows = s.rows.range(from..).take_while(|(k, _)| k.starts_with(prefix));
        let found = rows.take(max).map(|(k, v)| (k.clone(), v.clone())).collect();
        let hook = s.after_looks.clone();
        drop(s);
        if let Some(hook) = hook {
            hook(at);
        }
        Ok(found)
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut s = self.on()?;
        while s.hangs {
            s.waits = true;
            self.hung.notify_all();
            s = self.hung.wait(s).unwrap_or_else(PoisonError::into_inner);
        }
        if s.batches_max.is_some_and(|max| s.batches >= max) {
            s.off = true;
            s.in_doubt = changes;
            return Err(StoreError { file: STATE_DIR.to_owned(), cause: "the power went off".to_owned() });
        }
        s.batches += 1;
        s.apply(changes);
        Ok(())
    }

    fn make_room(&self, free_bytes: u64) -> Result<bool, StoreError> {
        let hook = self.on()?.on_make_room.clone();
        Ok(hook.is_some_and(|hook| hook(free_bytes)))
    }
}
