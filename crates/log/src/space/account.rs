//! [`Account`]: applies durable operations to the space rows and says which files hold nothing that lives.
//!
//! Only files that are adopted have rows (`F`, and `X` for their stretches of logs). Those that are not are kept in memory and are
//! rebuilt from the log, of which everything from the oldest of them on is replayed. A stretch has no holes, so that counting
//! positions is enough: a position is retired at most once, because retired sets are sets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_types::{LogId, Lsn};

use super::open::{OpenFile, Stretch};
use super::overlay::Overlay;
use super::settle::Todo;
use crate::api::StoreError;
use crate::bugs::Bugs;
use crate::disk::events::{FileId, SealedFile, SpaceOp};
use crate::format::rows::{
    ExtentRow, FILES, FileRow, LogRow, PACKS, TODOS, decode, extent_key, file_key, file_of, last_number,
    log_key,
};
use crate::store::{Change, StateStore};

/// Where the footer of an adopted file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdoptedAt {
    pub footer_off: u64,
    pub footer_len: u64,
}

/// Whether nothing lives in a file and no opening will walk it. Packs are never walked.
fn is_free(id: FileId, row: &FileRow, floor_lap: u64) -> bool {
    row.live == 0 && (id.is_pack() || row.lap < floor_lap)
}

/// The state machine. Its rows are consistent between calls.
pub(crate) struct Account {
    pub(super) rows: Overlay,
    /// Adopted files.
    pub(super) files: BTreeMap<FileId, FileRow>,
    pub(super) changed_files: BTreeSet<FileId>,
    /// Files that are not adopted, in the order of use.
    pub(super) open: VecDeque<OpenFile>,
    /// Trims still to finish: first position that stays.
    pub(super) todos: BTreeMap<LogId, Todo>,
    /// Logs deleted while replaying, whose rows may be dropped at its end.
    pub(super) deleted: Vec<LogId>,
    /// Last LSN applied.
    pub(super) applied: u64,
    pub(super) replaying: bool,
    pub(crate) bugs: Bugs,
}

impl Account {
    /// From the rows, which include everything up to `space_lsn`. To be followed by the log from the floor on and
    /// [`Account::finish_replay`].
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) fn load(store: Arc<dyn StateStore>, space_lsn: u64) -> Result<Self, StoreError> {
        let rows = Overlay::new(store);
        let (mut files, mut todos) = (BTreeMap::new(), BTreeMap::new());
        for prefix in [FILES, PACKS] {
            for (key, value) in rows.scan(prefix, prefix, usize::MAX)? {
                files.insert(file_of(&key), FileRow::decode(&value)?);
            }
        }
        for (key, value) in rows.scan(TODOS, TODOS, usize::MAX)? {
            let [before] = decode(&value)?;
            todos.insert(LogId(last_number(&key).unwrap_or_default()), Todo { before, from: 0 });
        }
        let (changed_files, open) = (BTreeSet::new(), VecDeque::new());
        let (deleted, bugs) = (Vec::new(), Bugs::default());
        let (applied, replaying) = (space_lsn, true);
        let mut account = Self { rows, files, changed_files, open, todos, deleted, applied, replaying, bugs };
        account.measure()?;
        Ok(account)
    }

    /// Rows include every record up to this one.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// All records up to `upto` were applied; the last may have had no operation on space.
    pub(crate) fn applied_to(&mut self, upto: Lsn) {
        self.applied = self.applied.max(upto.0);
    }

    /// Whether a file has an index on disk.
    pub(crate) fn is_adopted(&self, id: FileId, lap: u64) -> bool {
        self.files.get(&id).is_some_and(|f| f.lap == lap)
    }

    /// Adopted files and packs.
    pub(crate) fn adopted_files(&self) -> impl Iterator<Item = (FileId, &FileRow)> {
        self.files.iter().map(|(id, row)| (*id, row))
    }

    /// The row of an adopted file or a pack.
    pub(crate) fn file(&self, id: FileId) -> Option<&FileRow> {
        self.files.get(&id)
    }

    /// A lap comes into use; `first_lsn` is the first LSN of which a part may lie in it.
    pub(crate) fn begin(&mut self, id: FileId, lap: u64, first_lsn: u64) {
        if !self.is_adopted(id, lap) {
            self.open.push_back(OpenFile::new(id, lap, first_lsn));
        }
    }

    /// Forgets a lap that turned out to hold nothing.
    pub(crate) fn forget(&mut self, id: FileId, lap: u64) {
        self.open.retain(|f| (f.id, f.lap) != (id, lap));
    }

    /// A file is full and durable to its end.
    pub(crate) fn seal(&mut self, sealed: &SealedFile) {
        if let Some(f) = self.open.iter_mut().find(|f| (f.id, f.lap) == (sealed.file, sealed.lap)) {
            f.sealed = true;
            if sealed.first_lsn.0 != 0 {
                f.first_lsn = f.first_lsn.min(sealed.first_lsn.0);
            }
            // A file without records ends where it began.
            f.last_lsn = sealed.last_lsn.0.max(f.first_lsn.saturating_sub(1));
        }
    }

    /// Applies an operation of record `lsn`. Those the rows include already change nothing, but for appends to files without rows.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) fn apply(&mut self, lsn: Lsn, op: &SpaceOp) -> Result<(), StoreError> {
        let known = self.replaying && lsn.0 <= self.applied;
        match op {
            SpaceOp::Append { log, pos, count, max_ts_ms, bytes, at } => {
                let of = self.open.iter_mut().rev().find(|f| (f.id, f.lap) == (at.file, at.lap));
                if let Some(f) = of {
                    f.first_append = f.first_append.min(lsn.0);
                    f.append(*log, *pos, *count, *bytes, *max_ts_ms, at);
                }
                Ok(())
            }
            _ if known => Ok(()),
            SpaceOp::Retire { log, runs } => self.retire(*log, runs),
            SpaceOp::Trim { log, before } => self.trim(*log, *before),
            SpaceOp::Delete { log } => self.trim(*log, u64::MAX),
        }
    }

    /// The log was replayed to its end: counts what lives in the files without rows, from what the rows say is retired.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) fn finish_replay(&mut self) -> Result<(), StoreError> {
        self.replaying = false;
        let mut open = std::mem::take(&mut self.open);
        let known = self.starts(&open)?;
        for f in &mut open {
            f.live = 0;
            for (log, stretches) in &mut f.logs {
                let (start, any) = known.get(log).copied().unwrap_or_default();
                for s in stretches {
                    if s.end > start {
                        s.first = s.first.max(start);
                        s.retired = if any { self.count_retired(*log, s.first, s.end)? } else { 0 };
                    }
                    s.dead = s.end <= start || s.retired == s.end - s.first;
                    f.live += s.live();
                }
            }
        }
        self.open = open;
        for log in std::mem::take(&mut self.deleted) {
            self.forget_deleted(log)?;
        }
        Ok(())
    }

    /// Files that may be given an index: full, all of their records applied, and something lives in them. Oldest first.
    pub(crate) fn to_adopt(&self) -> impl Iterator<Item = (FileId, u64)> {
        let whole = self.open.iter().take_while(|f| f.sealed && f.last_lsn <= self.applied);
        whole.filter(|f| f.live > 0).map(|f| (f.id, f.lap))
    }

    /// Whether a full file will be among [`Account::to_adopt`] once more is applied.
    pub(crate) fn awaits_adoption(&self) -> bool {
        self.open.iter().any(|f| f.sealed && f.live > 0 && f.last_lsn > self.applied)
    }

    /// A file has an index on disk, synced: its rows take over from memory.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) fn adopt(&mut self, id: FileId, lap: u64, at: AdoptedAt) -> Result<(), StoreError> {
        let Some(i) = self.open.iter().position(|f| (f.id, f.lap) == (id, lap)) else { return Ok(()) };
        let Some(f) = self.open.remove(i) else { return Ok(()) };
        let AdoptedAt { footer_off, footer_len } = at;
        let (first_lsn, last_lsn, live, live_bytes) = (f.first_lsn, f.last_lsn, f.live, 0);
        // What is not known must not be taken for unknown.
        let (stored, content) = (f.stored.max(1), f.content);
        let mut file =
            FileRow { lap, first_lsn, last_lsn, footer_off, footer_len, live, stored, content, live_bytes };
        for (log, mut row, stretches) in self.rows_of(&f)? {
            row.take_head(stretches);
            for s in stretches.iter().filter(|s| !s.dead) {
                row.bytes += s.bytes;
                let Stretch { first, end, retired, bytes, max_ts_ms, whole, .. } = *s;
                let x = ExtentRow { file: id, lap, first, end, retired, bytes, max_ts_ms, whole };
                file.live_bytes += x.live_bytes();
                self.rows.put(extent_key(log, s.first), x.encode());
            }
            self.rows.put(log_key(log), row.encode());
        }
        self.files.insert(id, file);
        self.changed_files.insert(id);
        self.forget_dead(&f)
    }

    /// Whether [`Account::take_dead`] would find any.
    pub(crate) fn has_dead(&self, floor: u64) -> bool {
        let floor_lap = self.floor_lap(floor);
        self.files.iter().any(|(id, f)| is_free(*id, f, floor_lap))
            || self.open.iter().any(|f| f.is_dead(self.applied) && f.lap < floor_lap)
    }

    /// Files that hold nothing alive and lie wholly below `floor`. They leave the rows now; they may be written again when the
    /// changes are durable, together with a floor lap beyond them.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) fn take_dead(&mut self, floor: u64) -> Result<Vec<(FileId, u64)>, StoreError> {
        self.save_heads_of_dead()?;
        let mut free = Vec::new();
        // From the floor lap on the laps are a chain that the next opening walks.
        let floor_lap = self.floor_lap(floor);
        let adopted = self.files.iter().filter(|(id, f)| is_free(**id, f, floor_lap));
        for id in adopted.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(row) = self.files.remove(&id) {
                free.push((id, row.lap));
                self.changed_files.remove(&id);
                self.rows.remove(file_key(id));
            }
        }
        let mut i = 0;
        while let Some(f) = self.open.get(i) {
            if f.is_dead(self.applied) && f.lap < floor_lap {
                let Some(f) = self.open.remove(i) else { break };
                free.push((f.id, f.lap));
                self.forget_dead(&f)?;
            } else {
                i += 1;
            }
        }
        Ok(free)
    }

    /// The floor may not pass this LSN: what must be rebuilt of a file without rows begins with it. A dead file lets it pass, as
    /// [`Account::take_dead`] puts what only it says of its logs' ends into their rows. So does one to which nothing was appended: a
    /// record of effects that goes over its beginning must not hold the file before it, or on a full disk none would come back.
    pub(crate) fn floor_max(&self) -> u64 {
        let holding = self.open.iter().filter(|f| !f.is_dead(self.applied)).map(|f| f.first_append);
        holding.min().unwrap_or(u64::MAX)
    }

    /// The lap in which reading the log begins, for this floor: the last, if all lies below.
    pub(crate) fn floor_lap(&self, floor: u64) -> u64 {
        let adopted = self.files.iter().filter(|(id, f)| !id.is_pack() && f.last_lsn >= floor);
        let adopted = adopted.map(|(_, f)| f.lap);
        let open = self.open.iter().filter(|f| !f.sealed || f.last_lsn >= floor).map(|f| f.lap);
        let laps = self.files.values().map(|f| f.lap).chain(self.open.iter().map(|f| f.lap));
        adopted.chain(open).min().or_else(|| laps.max()).unwrap_or(0)
    }

    /// Rows changed and not written.
    pub(crate) fn dirty(&self) -> usize {
        self.rows.dirty() + self.changed_files.len()
    }

    /// All changes, for one batch that says `space_lsn` = [`Account::applied`] and is written before anything else is asked here.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        for id in std::mem::take(&mut self.changed_files) {
            if let Some(row) = self.files.get(&id) {
                self.rows.put(file_key(id), row.encode());
            }
        }
        self.rows.take().collect()
    }

    /// What extents say of files, by file: positions that live, and bytes.
    #[cfg(test)]
    pub(crate) fn counted(&self) -> BTreeMap<FileId, (u64, u64)> {
        let mut counted = BTreeMap::new();
        for (key, value) in self.rows.scan(b"X", b"X", usize::MAX).unwrap() {
            let x = ExtentRow::decode(&key, &value).unwrap();
            let of: &mut (u64, u64) = counted.entry(x.file).or_default();
            (of.0, of.1) = (of.0 + x.live(), of.1 + x.live_bytes());
        }
        counted
    }

    /// Positions that live, by file.
    #[cfg(test)]
    pub(crate) fn live(&self) -> BTreeMap<(FileId, u64), u64> {
        let adopted = self.files.iter().map(|(id, f)| ((*id, f.lap), f.live));
        adopted.chain(self.open.iter().map(|f| ((f.id, f.lap), f.live))).collect()
    }

    /// Files without rows: those in use or full, and those in which nothing lives.
    pub(crate) fn open_files(&self) -> (usize, usize) {
        let dead = self.open.iter().filter(|f| f.is_dead(self.applied)).count();
        (self.open.len() - dead, dead)
    }

    /// Bytes of files without rows in memory, roughly.
    pub(crate) fn open_bytes(&self) -> usize {
        self.open.iter().map(OpenFile::bytes).sum()
    }

    /// A log's row.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) fn log(&self, log: LogId) -> Result<LogRow, StoreError> {
        self.rows.get(&log_key(log))?.map_or(Ok(LogRow::default()), |v| LogRow::decode(&v))
    }
}
