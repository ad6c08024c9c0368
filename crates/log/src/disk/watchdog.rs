//! [`Watch`]: notices a state store that does not come back, while the disk beneath it does. Such a hang holds no commit up at first;
//! but no file comes back, and the log to be replayed grows without end. A restart clears it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_env::Clock;

/// A batch may take so long.
const BATCH_NS_MAX: u64 = 30_000_000_000;
/// A sync that takes longer is told.
const SLOW_SYNC_NS: u64 = 1_000_000_000;
/// Syncs that must be quick again before slow ones are news.
const QUICK_SYNCS: u64 = 100;

/// Times of what is going on; 0 = nothing is.
pub(crate) struct Watch {
    clock: Arc<dyn Clock>,
    batch_since_ns: AtomicU64,
    sync_since_ns: AtomicU64,
    synced_ns: AtomicU64,
    /// Quick syncs in a row.
    quick: AtomicU64,
}

impl Watch {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            clock,
            batch_since_ns: zero(),
            sync_since_ns: zero(),
            synced_ns: zero(),
            quick: AtomicU64::new(QUICK_SYNCS),
        }
    }

    /// Never 0.
    fn now(&self) -> u64 {
        self.clock.mono_ns().saturating_add(1)
    }

    /// Does what the store is asked for, under watch.
    pub(crate) fn batch<T>(&self, write: impl FnOnce() -> T) -> T {
        self.batch_since_ns.store(self.now(), Ordering::Release);
        let done = write();
        self.batch_since_ns.store(0, Ordering::Release);
        done
    }

    /// Does a write and a sync of the committer. The first that is slow after many that were not is told, with its milliseconds.
    pub(crate) fn sync<T>(&self, sync: impl FnOnce() -> T) -> (T, Option<u64>) {
        let from = self.now();
        self.sync_since_ns.store(from, Ordering::Release);
        let done = sync();
        let to = self.now();
        self.sync_since_ns.store(0, Ordering::Release);
        self.synced_ns.store(to, Ordering::Release);
        let took = to.saturating_sub(from);
        if took <= SLOW_SYNC_NS {
            self.quick.fetch_add(1, Ordering::Relaxed);
            return (done, None);
        }
        let news = self.quick.swap(0, Ordering::Relaxed) >= QUICK_SYNCS;
        (done, news.then_some(took / 1_000_000))
    }

    /// Says so if a batch takes too long although the committer's syncs return.
    pub(crate) fn store_hangs(&self) -> Option<String> {
        let since = self.batch_since_ns.load(Ordering::Acquire);
        if since == 0 {
            return None;
        }
        let (now, syncing) = (self.now(), self.sync_since_ns.load(Ordering::Acquire));
        let took = now.saturating_sub(since);
        let stuck = syncing != 0 && now.saturating_sub(syncing) > BATCH_NS_MAX;
        let returned = self.synced_ns.load(Ordering::Acquire) > since;
        (took > BATCH_NS_MAX && returned && !stuck).then(|| {
            let seconds = took / 1_000_000_000;
            format!("the state store has not finished a batch in {seconds} s, while the log's syncs return; a restart clears it")
        })
    }
}

#[cfg(test)]
mod tests {
    use millstream_env::sim::SimClock;
    use std::time::Duration;

    use super::*;

    fn watch() -> (Watch, Arc<SimClock>) {
        let clock = Arc::new(SimClock::new());
        (Watch::new(Arc::<SimClock>::clone(&clock)), clock)
    }

    #[test]
    fn a_batch_that_hangs_is_told_only_while_syncs_return() {
        let (w, clock) = watch();
        w.batch(|| {
            clock.advance(Duration::from_secs(31));
            assert_eq!(w.store_hangs(), None, "nothing shows that the disk is well");
            w.sync(|| ());
            assert!(w.store_hangs().unwrap().contains("31 s"));
            w.sync(|| {
                clock.advance(Duration::from_secs(31));
                assert_eq!(w.store_hangs(), None, "the disk hangs, not the store");
            });
        });
        assert_eq!(w.store_hangs(), None);
        w.batch(|| {
            clock.advance(Duration::from_secs(29));
            w.sync(|| ());
            assert_eq!(w.store_hangs(), None);
        });
    }

    #[test]
    fn slow_syncs_are_told_once_until_many_were_quick() {
        let (w, clock) = watch();
        let slow = || w.sync(|| clock.advance(Duration::from_millis(1_500))).1;
        assert_eq!(slow(), Some(1_500));
        assert_eq!(slow(), None);
        for _ in 0..QUICK_SYNCS {
            assert_eq!(w.sync(|| ()).1, None);
        }
        assert_eq!(slow(), Some(1_500));
    }
}
