//! A log in memory: the contract without a disk. For tests, and for programs that want none of it kept.
//!
//! Start at [`MemLog`]. When `durable` moves is the maker's choice ([`Commit`]); [`MemLog::crash`] forgets what was not durable, and
//! the same `MemLog` can then be opened again.

mod reader;
mod sink;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_types::{ConnId, Epoch, Lsn};

use crate::{
    BoxFuture, Gate, LogConfig, LogStore, Lost, Marks, OnDurable, Op, OpenError, OpenReport, Opened, Permit,
    Replay, Sequence, Watermarks,
};

use crate::api::Desk;
use reader::MemReader;
use sink::MemSink;
use state::State;

/// When records become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// At the end of the turn.
    AtOnce,
    /// So long after the end of the turn, by a thread of its own; what comes meanwhile goes with the next round.
    After(Duration),
    /// When the test says [`MemLog::commit_to`].
    ByHand,
}

/// A log in memory. Clones share it.
#[derive(Clone)]
pub struct MemLog {
    shared: Arc<Shared>,
    commit: Commit,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    moved: Condvar,
    durable_moved: tokio::sync::Notify,
    on_durable: Mutex<Option<OnDurable>>,
    on_wanted: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl Shared {
    fn lose(&self, cause: &str) {
        self.lock().lose(Lost { cause: cause.to_owned() });
        self.moved.notify_all();
        self.tell(Vec::new(), Lsn(0));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves `written` and `durable`, and tells.
    fn commit_to(&self, lsn: Lsn) {
        let (lsn, waiters) = {
            let mut s = self.lock();
            if s.lost.is_some() {
                return;
            }
            let lsn = lsn.min(s.marks.sequenced);
            if lsn <= s.marks.durable {
                return;
            }
            (lsn, s.commit(lsn))
        };
        self.tell(waiters, lsn);
    }

    fn tell(&self, mut waiters: Vec<ConnId>, lsn: Lsn) {
        self.durable_moved.notify_waiters();
        let f = self.on_durable.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(f) = f {
            waiters.sort_unstable();
            waiters.dedup();
            for conn in waiters {
                f(Some(conn), lsn);
            }
            f(None, lsn);
        }
        self.nudge_wanted();
    }

    fn nudge_wanted(&self) {
        if self.lock().wanted.is_some() {
            let f = self.on_wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(f) = f {
                f();
            }
        }
    }
}

impl MemLog {
    /// A new, empty log.
    #[must_use]
    pub fn new(commit: Commit) -> Self {
        let shared = Shared {
            state: Mutex::new(State::default()),
            moved: Condvar::new(),
            durable_moved: tokio::sync::Notify::new(),
            on_durable: Mutex::new(None),
            on_wanted: Mutex::new(None),
        };
        Self { shared: Arc::new(shared), commit }
    }

    /// The same log, whose records become durable in another way from its next opening on.
    #[must_use]
    pub fn with_commit(&self, commit: Commit) -> Self {
        Self { shared: Arc::clone(&self.shared), commit }
    }

    /// Makes everything up to `lsn` durable (at most what is sequenced).
    pub fn commit_to(&self, lsn: Lsn) {
        self.shared.commit_to(lsn);
    }

    /// Asks for all changed rows at the engine's next turn.
    pub fn want_rows(&self) {
        self.shared.lock().wanted = Some(sink::ALL);
        self.shared.nudge_wanted();
    }

    /// Has the opening say that there is no room for publishing, or that there is again.
    pub fn set_full(&self, full: bool) {
        self.shared.lock().set_full(full);
    }

    /// The right to commit is lost: `durable` stays where it is.
    pub fn lose(&self, cause: &str) {
        self.shared.lose(cause);
    }

    /// A power cut: what was not durable is gone, and so is the opening. The log can be opened again.
    pub fn crash(&self) {
        let mut s = self.shared.lock();
        s.crash();
        s.lost = Some(Lost { cause: "the power was cut".to_owned() });
        drop(s);
        self.shared.moved.notify_all();
        self.shared.durable_moved.notify_waiters();
    }
}

impl LogStore for MemLog {
    fn open(&self, cfg: &LogConfig, replay: &mut dyn Replay) -> Result<Opened, OpenError> {
        let gate = Arc::new(Gate::new(cfg.inflight_bytes));
        let (epoch, last, records, unclean) = {
            let mut s = self.shared.lock();
            if s.open {
                return Err(OpenError::Locked { file: "memory".to_owned() });
            }
            s.begin(cfg, &gate);
            (s.epoch, s.marks.sequenced, s.replayable(), s.unclean)
        };
        let rows = Arc::new(MemSink { shared: Arc::clone(&self.shared) });
        replay.begin(Arc::clone(&rows) as Arc<dyn crate::StateReader>, epoch);
        for (lsn, ops) in &records {
            for op in ops {
                op.replay(*lsn, replay);
            }
            replay.record_end(*lsn);
        }
        if let Commit::After(delay) = self.commit {
            let shared = Arc::clone(&self.shared);
            std::thread::Builder::new()
                .name("memlog-committer".to_owned())
                .spawn(move || commit_later(&shared, epoch.0, delay))
                .map_err(|source| OpenError::Io { file: "a thread".to_owned(), source })?;
        }
        Ok(Opened {
            epoch,
            sequencer: Box::new(MemSequence {
                shared: Arc::clone(&self.shared),
                commit: self.commit,
                epoch,
                last,
            }),
            gate,
            reader: Arc::new(Desk::new(MemReader { shared: Arc::clone(&self.shared) })),
            marks: Arc::new(MemMarks { shared: Arc::clone(&self.shared), epoch }),
            sink: Arc::clone(&rows) as Arc<dyn crate::StateSink>,
            rows,
            report: OpenReport { replayed_records: records.len() as u64, unclean, ..OpenReport::default() },
            stats: Arc::default(),
        })
    }
}

/// Commits round by round, each `delay` after it began.
fn commit_later(shared: &Shared, epoch: u64, delay: Duration) {
    loop {
        let target = {
            let mut s = shared.lock();
            loop {
                if s.epoch.0 != epoch || s.lost.is_some() || (!s.open && s.marks.durable == s.marks.sequenced)
                {
                    return;
                }
                if s.turn_end > s.marks.durable {
                    break s.turn_end;
                }
                s = shared.moved.wait(s).unwrap_or_else(PoisonError::into_inner);
            }
        };
        std::thread::sleep(delay); // tidy: pacing
        shared.commit_to(target);
    }
}

struct MemSequence {
    shared: Arc<Shared>,
    commit: Commit,
    epoch: Epoch,
    last: Lsn,
}

impl Sequence for MemSequence {
    fn sequence(&mut self, permit: Permit, record: &[Op<'_>], waiter: Option<ConnId>) -> Lsn {
        let mut s = self.shared.lock();
        // After a crash a sequencer that lives on writes nowhere.
        self.last = if s.serves(self.epoch) { s.sequence(permit, record, waiter) } else { self.last.next() };
        self.last
    }

    fn end_turn(&mut self) {
        let lsn = {
            let mut s = self.shared.lock();
            if !s.serves(self.epoch) {
                return;
            }
            s.turn_end = s.marks.sequenced;
            s.turn_end
        };
        match self.commit {
            Commit::AtOnce => self.shared.commit_to(lsn),
            Commit::After(_) => self.shared.moved.notify_all(),
            Commit::ByHand => {}
        }
    }
}

impl Drop for MemSequence {
    fn drop(&mut self) {
        if std::thread::panicking() && self.shared.lock().serves(self.epoch) {
            self.shared.lose("the thread that puts records in order ended by a panic");
            self.shared.lock().close();
            return;
        }
        self.end_turn();
        let lsn = {
            let s = self.shared.lock();
            if !s.serves(self.epoch) {
                return;
            }
            s.marks.sequenced
        };
        self.shared.commit_to(lsn);
        self.shared.lock().close();
        self.shared.moved.notify_all();
    }
}

struct MemMarks {
    shared: Arc<Shared>,
    epoch: Epoch,
}

impl MemMarks {
    fn lost_in(&self, s: &State) -> Option<Lost> {
        let later = || Lost { cause: format!("epoch {} took over", s.epoch.0) };
        if s.epoch == self.epoch { s.lost.clone() } else { Some(later()) }
    }
}

impl Watermarks for MemMarks {
    fn get(&self) -> Marks {
        self.shared.lock().marks
    }

    fn reached(&self, lsn: Lsn) -> BoxFuture<Result<(), Lost>> {
        let marks = Self { shared: Arc::clone(&self.shared), epoch: self.epoch };
        Box::pin(async move {
            loop {
                let moved = marks.shared.durable_moved.notified();
                let mut moved = std::pin::pin!(moved);
                moved.as_mut().enable();
                {
                    let s = marks.shared.lock();
                    if s.epoch == marks.epoch && s.marks.durable >= lsn {
                        return Ok(());
                    }
                    if let Some(lost) = marks.lost_in(&s) {
                        return Err(lost);
                    }
                }
                moved.await;
            }
        })
    }

    fn on_durable(&self, f: OnDurable) {
        *self.shared.on_durable.lock().unwrap_or_else(PoisonError::into_inner) = Some(f);
    }

    fn lost(&self) -> Option<Lost> {
        self.lost_in(&self.shared.lock())
    }
}
