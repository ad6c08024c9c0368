//! What sessions see of a partition while the engine owns it.
//!
//! Start at [`PartitionView`]. Waiting for more to read is [`PartitionView::register`]: one [`Waiter`] may stand at any number of
//! partitions and is woken once.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use millstream_types::LogId;

/// Shared by the engine (which writes) and sessions (which read, without a lock). An end moves only when what is below it has
/// reached its durability, and always as a prefix.
#[derive(Debug)]
pub struct PartitionView {
    /// The partition's log.
    pub log: LogId,
    start: AtomicU64,
    visible_end: AtomicU64,
    leader_epoch: AtomicU32,
    gone: AtomicBool,
    waiting: AtomicBool,
    waiters: Mutex<Vec<Arc<Waiter>>>,
    epochs: Mutex<Vec<(u32, u64)>>,
}

/// Something that waits at partitions. Woken at most once.
#[derive(Debug)]
pub struct Waiter {
    woken: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Waiter {
    /// A waiter that wakes `waker`.
    #[must_use]
    pub fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { woken: AtomicBool::new(false), waker: Mutex::new(Some(waker)) })
    }
    /// Whether something happened.
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }
    /// Whom to wake from now on.
    pub fn set_waker(&self, waker: &Waker) {
        let mut slot = lock(&self.waker);
        if !slot.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
    /// Wakes it, the first time.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            let waker = lock(&self.waker).take();
            if let Some(w) = waker {
                w.wake();
            }
        }
    }
}

impl PartitionView {
    /// A view with its ends.
    #[must_use]
    pub fn new(log: LogId, start: u64, visible_end: u64, leader_epoch: u32) -> Self {
        Self {
            log,
            start: AtomicU64::new(start),
            visible_end: AtomicU64::new(visible_end),
            leader_epoch: AtomicU32::new(leader_epoch),
            gone: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            waiters: Mutex::new(Vec::new()),
            epochs: Mutex::new(Vec::new()),
        }
    }
    /// First retained offset.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start.load(Ordering::Acquire)
    }
    /// One past the last visible offset (the high watermark).
    #[must_use]
    pub fn visible_end(&self) -> u64 {
        self.visible_end.load(Ordering::Acquire)
    }
    /// One past the last offset that no open transaction can still take back. Equal to `visible_end` while there are no transactions.
    #[must_use]
    pub fn stable_end(&self) -> u64 {
        self.visible_end()
    }
    /// The leader epoch in force: never goes down.
    #[must_use]
    pub fn leader_epoch(&self) -> u32 {
        self.leader_epoch.load(Ordering::Acquire)
    }
    /// Where a leader epoch ended: the newest epoch that wrote here and is not newer than `epoch`, and one past its last visible
    /// offset. For the epoch in force that is the visible end. For an epoch before all that are known: itself, ended at the
    /// first known one's first offset. `None`: the epoch is newer than the one in force, or nothing is known.
    #[must_use]
    pub fn epoch_end(&self, epoch: u32) -> Option<(u32, u64)> {
        let (current, end) = (self.leader_epoch(), self.visible_end());
        if epoch >= current {
            return (epoch == current).then_some((current, end));
        }
        let epochs = lock(&self.epochs);
        let later = epochs.partition_point(|e| e.0 <= epoch);
        let until = epochs.get(later).map(|e| e.1.min(end));
        match later.checked_sub(1).and_then(|i| epochs.get(i)) {
            Some(found) => Some((found.0, until.unwrap_or(end))),
            None => until.map(|first| (epoch, first)),
        }
    }
    /// The leader epoch that the retained offset `offset` was written in.
    #[must_use]
    pub fn epoch_of(&self, offset: u64) -> Option<u32> {
        let epochs = lock(&self.epochs);
        let later = epochs.partition_point(|e| e.1 <= offset);
        later.checked_sub(1).and_then(|i| epochs.get(i)).map(|e| e.0)
    }
    /// Lends what is known of leader epochs, as (epoch, first offset), ascending.
    pub(crate) fn with_epochs(&self, f: impl FnOnce(&mut Vec<(u32, u64)>)) {
        f(&mut lock(&self.epochs));
    }
    /// Whether the topic was deleted.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
    /// For the engine: moves the start up.
    pub fn set_start(&self, start: u64) {
        self.start.fetch_max(start, Ordering::AcqRel);
    }
    /// For the engine: moves the visible end up. Who waited here is put into `to_wake`, to be woken once all that became visible
    /// together can be seen.
    pub fn set_visible_end(&self, end: u64, to_wake: &mut Vec<Arc<Waiter>>) {
        if self.visible_end.fetch_max(end, Ordering::SeqCst) < end {
            self.take_waiters(to_wake);
        }
    }
    /// For the engine: the partition is gone. As with [`PartitionView::set_visible_end`], who waited here is to be woken.
    pub fn set_gone(&self, to_wake: &mut Vec<Arc<Waiter>>) {
        self.gone.store(true, Ordering::SeqCst);
        self.take_waiters(to_wake);
    }
    fn take_waiters(&self, into: &mut Vec<Arc<Waiter>>) {
        if self.waiting.swap(false, Ordering::SeqCst) {
            into.append(&mut lock(&self.waiters));
        }
    }
    /// Has `waiter` woken by the next move. Look at the ends again after registering: what moved before is not told.
    pub fn register(&self, waiter: &Arc<Waiter>) {
        lock(&self.waiters).push(Arc::clone(waiter));
        self.waiting.store(true, Ordering::SeqCst);
    }
    /// Takes `waiter` back; harmless if it is not there.
    pub fn unregister(&self, waiter: &Arc<Waiter>) {
        lock(&self.waiters).retain(|w| !Arc::ptr_eq(w, waiter));
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}
