//! [`Watch`]: notices a state store that does not come back, while the disk beneath it does. Such a hang holds no commit up at first;
//! but no file comes back, and the log to be replayed grows without end. A restart clears it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_env::Clock;

/// A batch may take so long, not counting time in which nothing shows that the disk is well.
const BATCH_NS_MAX: u64 = 30_000_000_000;
/// A sync of the committer that is not slow shows it of so much time before its end: a disk that stands still, stands still for it too.
/// Where commits are rare a hang is noticed later; but there the log grows slowly as well.
const SHOWN_NS_MAX: u64 = SLOW_SYNC_NS;
/// A sync that takes longer is told.
const SLOW_SYNC_NS: u64 = 1_000_000_000;
/// Syncs that must be quick again before slow ones are news.
const QUICK_SYNCS: u64 = 100;

/// Times of what is going on; 0 = nothing is.
pub(crate) struct Watch {
    clock: Arc<dyn Clock>,
    batch_since_ns: AtomicU64,
    /// Of the batch, time in which the disk was seen to be well.
    well_ns: AtomicU64,
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
            well_ns: zero(),
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
        self.well_ns.store(0, Ordering::Relaxed);
        self.batch_since_ns.store(self.now(), Ordering::Release);
        let done = write();
        self.batch_since_ns.store(0, Ordering::Release);
        done
    }

    /// Does a write and a sync of the committer. The first that is slow after many that were not is told, with its milliseconds.
    pub(crate) fn sync<T>(&self, sync: impl FnOnce() -> T) -> (T, Option<u64>) {
        let from = self.now();
        let done = sync();
        let to = self.now();
        let took = to.saturating_sub(from);
        let before = self.synced_ns.swap(to, Ordering::Relaxed);
        let since = self.batch_since_ns.load(Ordering::Acquire);
        if since != 0 && took <= SLOW_SYNC_NS {
            let shown = to.saturating_sub(before.max(since)).min(SHOWN_NS_MAX);
            self.well_ns.fetch_add(shown, Ordering::Release);
        }
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
        (self.well_ns.load(Ordering::Acquire) > BATCH_NS_MAX).then(|| {
            let seconds = self.now().saturating_sub(since) / 1_000_000_000;
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
        // As often as most logs that are used.
        let commits = |seconds: u64| {
            for _ in 0..seconds * 10 {
                w.sync(|| clock.advance(Duration::from_millis(100)));
            }
        };
        w.batch(|| {
            clock.advance(Duration::from_mins(5));
            assert_eq!(w.store_hangs(), None, "nothing shows that the disk is well");
            commits(29);
            assert_eq!(w.store_hangs(), None);
            commits(2);
            assert!(w.store_hangs().unwrap().contains("331 s"));
        });
        assert_eq!(w.store_hangs(), None);
        commits(100);
        w.batch(|| {
            commits(29);
            assert_eq!(w.store_hangs(), None, "what was before the batch does not count");
        });
    }

    #[test]
    fn time_in_which_the_whole_disk_stands_still_is_not_the_stores() {
        let (w, clock) = watch();
        let still = Duration::from_secs(49);
        w.batch(|| {
            w.sync(|| ());
            w.sync(|| clock.advance(still));
            assert_eq!(w.store_hangs(), None, "the commits stood still, too");
            // The disk stands still while nobody commits, and the first commit afterwards is done before the batch is.
            clock.advance(still);
            w.sync(|| ());
            assert_eq!(w.store_hangs(), None, "one commit does not speak for all of that time");
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
