//! [`MarkSet`]: how far records have come, and who waits for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use millstream_types::{ConnId, Lsn};
use tokio::sync::oneshot;

use crate::api::{BoxFuture, Level, Lost, Marks, OnDurable, Watermarks};

type Reached = oneshot::Sender<Result<(), Lost>>;

/// The three marks, the callback, and the waiting futures.
#[derive(Default)]
pub(crate) struct MarkSet {
    sequenced: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
    lost: OnceLock<Lost>,
    waiting: Mutex<Waiting>,
    callback: RwLock<Option<OnDurable>>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    by_lsn: BTreeMap<(u64, u64), Reached>,
}

impl MarkSet {
    /// All three at what recovery found.
    pub(crate) fn at(lsn: u64) -> Self {
        Self {
            sequenced: AtomicU64::new(lsn),
            written: AtomicU64::new(lsn),
            durable: AtomicU64::new(lsn),
            ..Self::default()
        }
    }

    pub(crate) fn level(&self, level: Level) -> u64 {
        match level {
            Level::Sequenced => &self.sequenced,
            Level::Written => &self.written,
            Level::Durable => &self.durable,
        }
        .load(Ordering::Acquire)
    }

    pub(crate) fn set_sequenced(&self, lsn: u64) {
        self.sequenced.store(lsn, Ordering::Release);
    }

    pub(crate) fn set_written(&self, lsn: u64) {
        self.written.store(lsn, Ordering::Release);
    }

    /// Moves `durable`. Readers see it at once; [`MarkSet::wake`] tells the waiters.
    pub(crate) fn set_durable(&self, lsn: u64) {
        self.durable.store(lsn, Ordering::Release);
    }

    /// Tells each waiter once, then says that the write is over.
    pub(crate) fn wake(&self, waiters: &[ConnId]) {
        let durable = self.level(Level::Durable);
        let reached = {
            let mut w = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let later = w.by_lsn.split_off(&(durable.saturating_add(1), 0));
            std::mem::replace(&mut w.by_lsn, later)
        };
        for (_, tx) in reached {
            let _ = tx.send(Ok(()));
        }
        let callback = self.callback.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(f) = callback {
            for conn in waiters {
                f(Some(*conn), Lsn(durable));
            }
            f(None, Lsn(durable));
        }
    }

    /// The log is lost for good; the first cause stays. Everyone who waits is told.
    pub(crate) fn lose(&self, cause: String) {
        let lost = Lost { cause };
        if self.lost.set(lost.clone()).is_err() {
            return;
        }
        let waiting = {
            let mut w = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut w.by_lsn)
        };
        for (_, tx) in waiting {
            let _ = tx.send(Err(lost.clone()));
        }
        let callback = self.callback.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(f) = callback {
            f(None, Lsn(self.level(Level::Durable)));
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.get().is_some()
    }
}

impl Watermarks for MarkSet {
    fn get(&self) -> Marks {
        // Read from the lowest up, so that the order of the three holds in what is given.
        let durable = Lsn(self.level(Level::Durable));
        let written = Lsn(self.level(Level::Written));
        Marks { sequenced: Lsn(self.level(Level::Sequenced)), written, durable }
    }

    fn reached(&self, lsn: Lsn) -> BoxFuture<Result<(), Lost>> {
        let mut w = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock: who moves the mark takes the lock after it.
        if self.level(Level::Durable) >= lsn.0 {
            return Box::pin(async { Ok(()) });
        }
        if let Some(lost) = self.lost.get().cloned() {
            return Box::pin(async { Err(lost) });
        }
        let (tx, rx) = oneshot::channel();
        w.next += 1;
        let key = (lsn.0, w.next);
        w.by_lsn.insert(key, tx);
        drop(w);
        Box::pin(async { rx.await.unwrap_or_else(|_| Err(Lost { cause: "the log was closed".to_owned() })) })
    }

    fn on_durable(&self, f: OnDurable) {
        *self.callback.write().unwrap_or_else(PoisonError::into_inner) = Some(f);
    }

    fn lost(&self) -> Option<Lost> {
        self.lost.get().cloned()
    }
}
