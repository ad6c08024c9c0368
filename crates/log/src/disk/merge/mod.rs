//! Merges: what still lives in mostly dead files goes into a pack, and the files come free. [`Merging`] is the keeper's half: it
//! decides what is merged ([`policy`]), hands it to a thread of its own ([`worker`], which looks at what lives in [`plan`] and
//! writes in [`copy`]), and installs what comes back. Start at [`Merging::finish`] and [`Merging::begin`].

mod copy;
mod plan;
mod policy;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use millstream_env::{Clock, Disk};

use self::policy::{Candidate, Wants, choose, is_mostly_dead};
use self::worker::{Brake, Fault, Job, Merger, Outcome};
use super::adopt::held_bytes;
use super::cold::Cold;
use super::core::Core;
use super::events::FileId;
use super::file::{PACK_DIR, path};
use crate::api::{LogConfig, LogStats, OpenError, StoreError};
use crate::format::bytes::len64;
use crate::format::header::BLOCK_BYTES;
use crate::format::rows::FileRow;
use crate::space::Account;

/// Files that something is remembered of before those that are gone are forgotten.
const REMEMBERED_MAX: usize = 1024;
/// Unused budget that is saved.
const BUDGET_BYTES_MAX: u64 = 1 << 30;
/// A pack smaller than one part in so many of a segment file is small.
const SMALL_PARTS: u64 = 8;
/// The longest time between two looks for files to merge, if nothing asks for one.
const LOOK_NS: u64 = 250_000_000;
/// How far back it is looked how fast a file dies.
const PAST_NS: u64 = 10_000_000_000;
/// A file dies ever more slowly if it dies at less than so many eighths of the pace that it had since it was first looked at.
const SLOWER_EIGHTHS: u128 = 7;

/// What a close look at a file found: positions that lived then, and bytes that its live entries took.
type Weighed = (u64, u64);

/// What is remembered of a file.
#[derive(Clone, Copy)]
struct Past {
    /// Positions that lived when the present time began.
    live: u64,
    /// Positions that lived when it was first looked at, and when that was.
    first: (u64, u64),
}

impl Past {
    fn new(live: u64, now_ns: u64) -> Self {
        Self { live, first: (live, now_ns) }
    }

    /// Whether it dies ever more slowly: so many live now, and the present time began so long ago.
    fn slows_down(&self, live: u64, now_ns: u64, since_ns: u64) -> bool {
        let (first, first_ns) = self.first;
        let all_ns = now_ns.saturating_sub(first_ns);
        let pace = |died: u64, ns: u64| u128::from(died) * u128::from(ns);
        // Each side is a number of positions divided by the other side's time.
        let (now, ever) =
            (pace(self.live.saturating_sub(live), all_ns), pace(first.saturating_sub(live), since_ns));
        all_ns > since_ns && now * 8 < ever * SLOWER_EIGHTHS
    }
}

/// The keeper's half of merging.
pub(crate) struct Merging {
    disk: Arc<dyn Disk>,
    stats: Arc<LogStats>,
    segment_bytes: u64,
    budget_percent: u64,
    gain_bytes_min: u64,
    look_ns: u64,
    budget: u64,
    /// Hundredths of a byte.
    saved: u64,
    next: u64,
    looked_ns: u64,
    /// A merge is under way, and asked the budget.
    busy: Option<bool>,
    cramped: bool,
    weighed: HashMap<(FileId, u64), Weighed>,
    /// Files that could not be read: they stay as they are.
    unreadable: HashSet<(FileId, u64)>,
    spare_ns: u64,
    /// Until when files are spared that would be dead by then at the pace they had: once each, and only while the pace holds. Random
    /// settlement makes them die ever more slowly.
    spared: HashMap<(FileId, u64), u64>,
    /// What lived some time ago.
    past: HashMap<(FileId, u64), Past>,
    past_ns: u64,
    brake: Arc<Brake>,
    jobs: Option<SyncSender<Job>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.brake.stop();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Merging {
    /// Starts the thread. `next` is a number that no pack has.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(crate) fn start(
        core: &Arc<Core>,
        disk: Arc<dyn Disk>,
        cfg: &LogConfig,
        cold: Arc<Cold>,
        stats: Arc<LogStats>,
        next: u64,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let now_ns = clock.mono_ns();
        let brake = Arc::new(Brake::default());
        let (jobs, inbox) = sync_channel(1);
        let (outbox, outcomes) = sync_channel(1);
        let merger = Merger {
            core: Arc::clone(core),
            disk: Arc::clone(&disk),
            clock,
            cold,
            brake: Arc::clone(&brake),
            bytes_per_s: cfg.merge_bytes_per_s,
        };
        let thread = super::spawn("log-merger", core, move || merger.run(&inbox, &outbox))?;
        Ok(Self {
            disk,
            stats,
            segment_bytes: cfg.segment_bytes,
            budget_percent: u64::from(cfg.merge_budget_percent),
            gain_bytes_min: cfg.merge_gain_bytes_min,
            look_ns: cfg.flush_interval_ms.saturating_mul(1_000_000).min(LOOK_NS),
            budget: 0,
            saved: 0,
            next,
            looked_ns: now_ns,
            busy: None,
            cramped: false,
            weighed: HashMap::new(),
            unreadable: HashSet::new(),
            spare_ns: cfg.merge_spare_ms.saturating_mul(1_000_000),
            spared: HashMap::new(),
            past: HashMap::new(),
            past_ns: now_ns,
            brake,
            jobs: Some(jobs),
            outcomes,
            thread: Some(thread),
        })
    }

    /// Bytes were appended: a share of them may be written by merges.
    pub(crate) fn appended(&mut self, bytes: u64) {
        self.saved += bytes.saturating_mul(self.budget_percent);
        self.set_budget((self.budget + self.saved / 100).min(BUDGET_BYTES_MAX));
        self.saved %= 100;
    }

    fn set_budget(&mut self, bytes: u64) {
        self.budget = bytes;
        self.stats.merge_budget_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Installs a pack that was made: its rows are the account's from now on, and it is on the shelf before any row leads to it.
    /// Whether there are rows to write.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) fn finish(&mut self, account: &mut Account, cold: &Cold) -> Result<bool, StoreError> {
        let Ok(outcome) = self.outcomes.try_recv() else { return Ok(false) };
        let asked = self.busy.take().unwrap_or_default();
        self.looked_ns = 0;
        self.weighed.extend(outcome.weighed.into_iter().map(|(file, live, bytes)| (file, (live, bytes))));
        let (packed, bytes) = match outcome.made {
            Ok(Some(made)) => made,
            Ok(None) | Err(Fault::Stopped) => return Ok(false),
            Err(Fault::NoRoom) => {
                self.cramped = true;
                return Ok(false);
            }
            Err(Fault::Source(file, cause)) => {
                tracing::warn!(
                    file = path(file.0),
                    cause,
                    "a file is damaged and cannot be merged; it stays as it is"
                );
                self.stats.merge_failures.fetch_add(1, Ordering::Relaxed);
                self.unreadable.insert(file);
                return Ok(false);
            }
            Err(Fault::Pack(cause)) => {
                tracing::warn!(cause, "a pack cannot be written; nothing is lost by it");
                self.stats.merge_failures.fetch_add(1, Ordering::Relaxed);
                return Ok(false);
            }
            Err(Fault::Store(e)) => return Err(e),
        };
        if asked {
            self.set_budget(self.budget.saturating_sub(bytes));
        }
        self.stats.merges.fetch_add(1, Ordering::Relaxed);
        self.stats.merged_bytes.fetch_add(bytes, Ordering::Relaxed);
        let row = account.install(&packed)?;
        match row {
            Some(row) => cold.add(packed.id, row, Weak::new()),
            // All of it went meanwhile.
            None => self.remove(packed.id),
        }
        Ok(row.is_some())
    }

    /// Begins the next merge, if there is something to merge. Rows that lead to files must be durable; what lives less may come later.
    pub(crate) fn begin(&mut self, account: &Account, now_ns: u64, short: bool) {
        self.cramped &= short;
        if now_ns.saturating_sub(self.looked_ns) < self.look_ns {
            return;
        }
        self.looked_ns = now_ns;
        let files = self.candidates(account, now_ns);
        self.tell(account, &files);
        if self.busy.is_some() {
            return;
        }
        let wants = Wants {
            budget: self.budget,
            gain_min: self.gain_bytes_min,
            small: self.segment_bytes / SMALL_PARTS,
            short,
            cramped: self.cramped,
        };
        let Some(choice) = choose(&files, &wants) else { return };
        let id = FileId::pack(self.next);
        let job = Job { id, files: choice.files, live_permille_max: choice.live_permille_max, hurry: short };
        if self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok()) {
            self.next += 1;
            self.busy = Some(!short);
        }
    }

    /// Says what the files hold.
    fn tell(&self, account: &Account, files: &[Candidate]) {
        let sum = |of: fn(&Candidate) -> u64| files.iter().map(of).sum::<u64>();
        let (unindexed, leaving) = account.open_files();
        for (to, bytes) in [
            (&self.stats.live_bytes, sum(|c| c.live)),
            (&self.stats.dead_bytes, sum(|c| c.size.saturating_sub(c.live))),
            (&self.stats.spared_bytes, sum(|c| if c.dying { c.size.saturating_sub(c.live) } else { 0 })),
            (&self.stats.unindexed_bytes, len64(unindexed) * self.segment_bytes),
            (&self.stats.leaving_bytes, len64(leaving) * self.segment_bytes),
        ] {
            to.store(bytes, Ordering::Relaxed);
        }
    }

    fn candidates(&mut self, account: &Account, now_ns: u64) -> Vec<Candidate> {
        let files = || account.adopted_files().filter(|(_, row)| row.live > 0);
        if self.weighed.len() > REMEMBERED_MAX {
            let there: HashSet<_> = files().map(|(id, row)| (id, row.lap)).collect();
            self.weighed.retain(|file, _| there.contains(file));
        }
        if self.spared.len() > REMEMBERED_MAX {
            let there: HashSet<_> = files().map(|(id, row)| (id, row.lap)).collect();
            self.spared.retain(|file, _| there.contains(file));
        }
        let since_ns = now_ns.saturating_sub(self.past_ns);
        let mut candidate = |(id, row): (FileId, &FileRow)| {
            let file = (id, row.lap);
            let live = match self.weighed.get(&file) {
                // As much of it as of the positions.
                Some((live, bytes)) => {
                    let now = u128::from(*bytes) * u128::from(row.live) / u128::from((*live).max(1));
                    u64::try_from(now).unwrap_or(u64::MAX)
                }
                None => row.live_stored(),
            };
            let size = if id.is_pack() {
                row.footer_off + row.footer_len + len64(BLOCK_BYTES)
            } else {
                held_bytes(row, self.segment_bytes)
            };
            let past = self.past.get(&file).copied().unwrap_or_else(|| Past::new(row.live, now_ns));
            let died = past.live.saturating_sub(row.live);
            // In no time at all nothing has a pace.
            let left_ns = u128::from(row.live) * u128::from(since_ns) / u128::from(died.max(1));
            let soon = died > 0
                && since_ns > 0
                && left_ns <= u128::from(self.spare_ns)
                && !past.slows_down(row.live, now_ns, since_ns);
            let dying = soon && is_mostly_dead(live, size) && {
                let left_ns = u64::try_from(left_ns).unwrap_or(u64::MAX);
                now_ns < *self.spared.entry(file).or_insert(now_ns.saturating_add(left_ns))
            };
            let age = account.applied().saturating_sub(row.last_lsn) + 1;
            Candidate { file, size, live, age, dying }
        };
        let all = files().map(&mut candidate).filter(|c| !self.unreadable.contains(&c.file)).collect();
        if since_ns >= PAST_NS || self.past.is_empty() {
            let before = std::mem::take(&mut self.past);
            let next = |(id, row): (FileId, &FileRow)| {
                let file = (id, row.lap);
                let again = |past: &Past| Past { live: row.live, ..*past };
                (file, before.get(&file).map_or_else(|| Past::new(row.live, now_ns), again))
            };
            self.past = files().map(next).collect();
            self.past_ns = now_ns;
        }
        all
    }

    /// A file was freed.
    pub(crate) fn freed(&self) {
        self.stats.freed_files.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes a pack to which nothing leads and that nobody reads. If it stays, the next opening removes it.
    pub(crate) fn remove(&self, id: FileId) {
        let _ = self.disk.remove(&path(id));
    }
}

/// Removes packs to which no row leads: a crash came between a pack and its rows. Gives a number that no pack has.
///
/// # Errors
/// If the disk fails.
pub(crate) fn clean(disk: &dyn Disk, account: &Account) -> Result<u64, OpenError> {
    let failed = |file: String| move |source| OpenError::Io { file, source };
    let mut next =
        account.adopted_files().filter(|(id, _)| id.is_pack()).map(|(id, _)| id.number() + 1).max();
    let names = match disk.list(PACK_DIR) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(failed(PACK_DIR.to_owned())(e)),
    };
    for name in names {
        let Ok(number) = u64::from_str_radix(&name, 16) else { continue };
        let id = FileId::pack(number);
        if path(id) != format!("{PACK_DIR}/{name}") {
            continue;
        }
        next = next.max(Some(id.number() + 1));
        if !account.is_adopted(id, 0) {
            disk.remove(&path(id)).map_err(failed(path(id)))?;
        }
    }
    Ok(next.unwrap_or(0))
}
