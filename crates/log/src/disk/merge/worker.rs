//! The merger: a thread that copies what lives in some files into a pack. It reads rows and never writes any; what it made is
//! installed by the keeper. Start at [`Merger::run`].

use std::cell::Cell;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use millstream_env::{Clock, Disk};

use super::copy::write;
use super::plan::Plan;
use crate::api::StoreError;
use crate::bugs::Bug;
use crate::disk::cold::Cold;
use crate::disk::core::Core;
use crate::disk::events::FileId;
use crate::disk::file::path;
use crate::format::bytes::len64;
use crate::space::Packed;

/// How long a merge that failed holds back the next.
const RETRY: Duration = Duration::from_millis(250);
/// What a slow disk held up is caught up with no further than this.
const LATE_NS_MAX: u64 = 100_000_000;

/// Files to be merged.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub id: FileId,
    pub files: Vec<(FileId, u64)>,
    pub live_permille_max: u64,
    /// Reads and writes as fast as can be: there is no room.
    pub hurry: bool,
}

/// What became of a job.
pub(super) struct Outcome {
    /// The pack, and its bytes; `None` if nothing was to be copied.
    pub made: Result<Option<(Packed, u64)>, Fault>,
    /// Of each file looked at closely: positions that lived then, and bytes that its live entries take.
    pub weighed: Vec<((FileId, u64), u64, u64)>,
}

/// Why there is no pack.
#[derive(Debug)]
pub(super) enum Fault {
    /// The log closes.
    Stopped,
    /// No room for the pack.
    NoRoom,
    /// A file cannot be read.
    Source((FileId, u64), String),
    /// The pack cannot be written.
    Pack(String),
    /// The state store failed.
    Store(StoreError),
}

impl Fault {
    pub(super) fn pack(e: &io::Error) -> Self {
        if e.kind() == io::ErrorKind::StorageFull { Self::NoRoom } else { Self::Pack(e.to_string()) }
    }
}

/// Stops the merger.
#[derive(Default)]
pub(super) struct Brake {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Brake {
    pub(super) fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits so long, or until it is stopped; whether it is.
    fn wait(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if *stopped || time.is_zero() {
            return *stopped;
        }
        *self.changed.wait_timeout_while(stopped, time, |s| !*s).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Keeps the merger slow.
pub(super) struct Pace {
    brake: Arc<Brake>,
    clock: Arc<dyn Clock>,
    /// Read and written together; 0 = no limit.
    bytes_per_s: u64,
    /// When what was read and written so far should have been.
    due_ns: Cell<u64>,
}

impl Pace {
    pub(super) fn new(brake: Arc<Brake>, clock: Arc<dyn Clock>, bytes_per_s: u64) -> Self {
        let due_ns = Cell::new(clock.mono_ns());
        Self { brake, clock, bytes_per_s, due_ns }
    }

    /// After so many bytes were read or written: waits for what is left of the time that they may take.
    pub(super) fn wait(&self, bytes: usize) -> Result<(), Fault> {
        let cost_ns = (len64(bytes) * 1_000_000_000).checked_div(self.bytes_per_s).unwrap_or(0);
        let now_ns = self.clock.mono_ns();
        let due_ns = self.due_ns.get().max(now_ns.saturating_sub(LATE_NS_MAX)) + cost_ns;
        self.due_ns.set(due_ns);
        let left_ns = due_ns.saturating_sub(now_ns).min(cost_ns);
        if self.brake.wait(Duration::from_nanos(left_ns)) { Err(Fault::Stopped) } else { Ok(()) }
    }
}

/// The thread's own state.
pub(super) struct Merger {
    pub core: Arc<Core>,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub cold: Arc<Cold>,
    pub brake: Arc<Brake>,
    pub bytes_per_s: u64,
}

impl Merger {
    /// Merges until nobody gives jobs any more.
    pub(super) fn run(self, jobs: &Receiver<Job>, outcomes: &SyncSender<Outcome>) {
        while let Ok(job) = jobs.recv() {
            let mut weighed = Vec::new();
            let made = self.merge(&job, &mut weighed);
            if made.is_err() {
                // Nothing leads to it. If it stays, the next opening removes it.
                let _ = self.disk.remove(&path(job.id));
                self.brake.wait(RETRY);
            }
            if outcomes.send(Outcome { made, weighed }).is_err() {
                return;
            }
        }
    }

    fn merge(
        &self,
        job: &Job,
        weighed: &mut Vec<((FileId, u64), u64, u64)>,
    ) -> Result<Option<(Packed, u64)>, Fault> {
        let mut plan = Plan::make(&self.cold, &job.files, job.live_permille_max)?;
        *weighed = std::mem::take(&mut plan.weighed);
        if plan.is_empty() {
            return Ok(None);
        }
        if self.core.bugs.has(Bug::LosesWhatItMerges) {
            plan.own.iter_mut().for_each(|(_, items)| items.truncate(items.len().saturating_sub(1)));
        }
        let room = self.core.pool.may_merge(plan.pack_bytes(), job.hurry);
        if !room.map_err(|e| Fault::pack(&e))? {
            return Err(Fault::NoRoom);
        }
        let bytes_per_s = if job.hurry { 0 } else { self.bytes_per_s };
        let pace = Pace::new(Arc::clone(&self.brake), Arc::clone(&self.clock), bytes_per_s);
        let written = write(&self.disk, &self.core.store, job.id, &plan, &pace)?;
        let packed = Packed {
            id: job.id,
            footer_off: written.footer_off,
            footer_len: written.footer_len,
            stored: written.stored,
            sources: plan.sources.iter().map(|f| (f.id, f.lap)).collect(),
            logs: plan.logs,
        };
        Ok(Some((packed, written.bytes)))
    }
}
