//! The account's arithmetic: trimming, and clearing up behind it and behind retiring.

use millstream_types::LogId;

use super::account::Account;
use super::open::{OpenFile, Stretch};
use super::overlay::Overlay;
use crate::api::StoreError;
use crate::format::retired::{CHUNK_POSITIONS, Retired};
use crate::format::rows::{
    ExtentRow, LogRow, encode, extent_key, extents, last_number, log_key, retired, retired_key, todo_key,
};
use crate::store::Pair;

/// Rows that one step of a trim removes at most.
const SLICE_ROWS: usize = 10_000;
/// Rows looked at first: most trims remove none, or a few.
const FIRST_PAGE_ROWS: usize = 2;
/// Rows looked at together where all that overlap are wanted.
const PAGE_ROWS: usize = 64;

/// A trim to finish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Todo {
    /// First position that stays.
    pub before: u64,
    /// Nothing is left below: rows removed there before are not looked through again.
    pub from: u64,
}

/// Rows of a step, in pages that grow.
struct Slice {
    at: Vec<u8>,
    page_rows: usize,
    left: usize,
    is_all: bool,
}

impl Slice {
    fn new(at: Vec<u8>) -> Self {
        Self { at, page_rows: FIRST_PAGE_ROWS, left: SLICE_ROWS, is_all: false }
    }

    /// The next page; `None` after the last, or when the step is long enough.
    fn next(&mut self, rows: &Overlay, prefix: &[u8]) -> Result<Option<Vec<Pair>>, StoreError> {
        if self.is_all || self.left == 0 {
            return Ok(None);
        }
        let max = self.page_rows.min(self.left);
        let page = rows.scan(prefix, &self.at, max)?;
        self.is_all = page.len() < max;
        self.left -= page.len();
        self.page_rows *= 4;
        if let Some((last, _)) = page.last() {
            self.at = [last, &[0][..]].concat();
        }
        Ok(Some(page))
    }
}

impl LogRow {
    /// Includes what a file says of the log's end.
    pub(super) fn take_head(&mut self, stretches: &[Stretch]) {
        for s in stretches {
            self.next = self.next.max(s.end);
            self.max_ts_ms = self.max_ts_ms.max(s.max_ts_ms);
        }
    }
}

/// Rows of retired sets that reach into `[first, end)` at most.
fn chunks_max(first: u64, end: u64) -> usize {
    let last = end.saturating_sub(1) / CHUNK_POSITIONS;
    usize::try_from(last.saturating_sub(first / CHUNK_POSITIONS)).unwrap_or(usize::MAX).saturating_add(1)
}

impl Account {
    pub(super) fn retired_set(&self, log: LogId, chunk: u64) -> Result<Retired, StoreError> {
        self.rows.get(&retired_key(log, chunk))?.map_or(Ok(Retired::default()), |v| Retired::decode(&v))
    }

    pub(super) fn put_set(&mut self, log: LogId, chunk: u64, set: &Retired) {
        let key = retired_key(log, chunk);
        if set.is_empty() { self.rows.remove(key) } else { self.rows.put(key, set.encode()) }
    }

    pub(super) fn count_retired(&self, log: LogId, first: u64, end: u64) -> Result<u64, StoreError> {
        let mut n = 0;
        let from = retired_key(log, first / CHUNK_POSITIONS);
        for (key, value) in self.rows.scan(&retired(log), &from, chunks_max(first, end))? {
            let base = last_number(&key).unwrap_or_default() * CHUNK_POSITIONS;
            if base >= end {
                break;
            }
            let within = |at: u64| at.saturating_sub(base).min(CHUNK_POSITIONS);
            n += Retired::decode(&value)?.count(within(first), within(end));
        }
        Ok(n)
    }

    pub(super) fn any_retired(&self, log: LogId) -> Result<bool, StoreError> {
        let start = self.log(log)?.start;
        Ok(!self.rows.scan(&retired(log), &retired_key(log, start / CHUNK_POSITIONS), 1)?.is_empty())
    }

    /// Takes positions out of the retired sets: nothing will ever ask for them.
    pub(super) fn clear_retired(&mut self, log: LogId, first: u64, end: u64) -> Result<(), StoreError> {
        let from = retired_key(log, first / CHUNK_POSITIONS);
        for (key, value) in self.rows.scan(&retired(log), &from, chunks_max(first, end))? {
            let chunk = last_number(&key).unwrap_or_default();
            let base = chunk * CHUNK_POSITIONS;
            if base >= end {
                break;
            }
            let within = |at: u64| at.saturating_sub(base).min(CHUNK_POSITIONS);
            let mut set = Retired::decode(&value)?;
            set.remove(within(first), within(end));
            self.put_set(log, chunk, &set);
        }
        Ok(())
    }

    /// An extent became less, or is gone.
    pub(super) fn drop_live(&mut self, before: &ExtentRow, after: Option<&ExtentRow>) {
        if let Some(row) = self.files.get_mut(&before.file).filter(|f| f.lap == before.lap) {
            let (live, live_bytes) = after.map_or((0, 0), |x| (x.live(), x.live_bytes()));
            row.live = row.live.saturating_sub(before.live().saturating_sub(live));
            row.live_bytes = row.live_bytes.saturating_sub(before.live_bytes().saturating_sub(live_bytes));
            self.changed_files.insert(before.file);
        }
    }

    /// Extents of a log in adopted files that reach into `[first, end)`.
    pub(super) fn overlapping(&self, log: LogId, first: u64, end: u64) -> Result<Vec<ExtentRow>, StoreError> {
        let prefix = extents(log);
        let mut found = Vec::new();
        if let Some((key, value)) = self.rows.at_or_below(&prefix, &extent_key(log, first))? {
            found.push(ExtentRow::decode(&key, &value)?);
        }
        let mut from = first.checked_add(1);
        while let Some(at) = from.filter(|at| *at < end) {
            let page = self.rows.scan(&prefix, &extent_key(log, at), PAGE_ROWS)?;
            from = None;
            for (key, value) in &page {
                let x = ExtentRow::decode(key, value)?;
                from = x.first.checked_add(1);
                if x.first >= end {
                    from = None;
                    break;
                }
                found.push(x);
            }
            if page.len() < PAGE_ROWS {
                break;
            }
        }
        found.retain(|x| x.end > first && x.first < end);
        Ok(found)
    }

    pub(super) fn remove_extent(&mut self, log: LogId, x: &ExtentRow) -> Result<(), StoreError> {
        self.rows.remove(extent_key(log, x.first));
        let mut row = self.log(log)?;
        row.bytes = row.bytes.saturating_sub(x.bytes);
        self.rows.put(log_key(log), row.encode());
        Ok(())
    }

    /// The part of an extent below the log's start goes.
    fn clip_extent(&mut self, log: LogId, x: &mut ExtentRow, before: u64) -> Result<(), StoreError> {
        let retired = self.count_retired(log, x.first, before)?.min(x.retired);
        self.rows.remove(extent_key(log, x.first));
        let uncut = *x;
        (x.first, x.retired) = (before, x.retired - retired);
        self.drop_live(&uncut, Some(x));
        if x.retired == x.len() {
            self.remove_extent(log, x)?;
            return self.clear_retired(log, x.first, x.end);
        }
        self.rows.put(extent_key(log, x.first), x.encode());
        Ok(())
    }

    pub(super) fn trim(&mut self, log: LogId, before: u64) -> Result<(), StoreError> {
        let mut row = self.log(log)?;
        if before <= row.start {
            return Ok(());
        }
        let from = std::mem::replace(&mut row.start, before);
        if before != u64::MAX {
            row.next = row.next.max(before);
        }
        self.rows.put(log_key(log), row.encode());
        if !self.replaying {
            let mut open = std::mem::take(&mut self.open);
            let done =
                open.iter_mut().try_for_each(|f| f.trim(log, before, |a, b| self.count_retired(log, a, b)));
            self.open = open;
            done?;
        }
        self.todos.entry(log).or_insert(Todo { before, from }).before = before;
        self.work_on(log)
    }

    /// Whether trims wait to be finished.
    pub(crate) fn has_work(&self) -> bool {
        !self.todos.is_empty()
    }

    /// Does a slice of the trims that wait.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) fn work(&mut self) -> Result<(), StoreError> {
        match self.todos.keys().next().copied() {
            Some(log) => self.work_on(log),
            None => Ok(()),
        }
    }

    /// Removes a slice of what the extents of a log have below `before`; says whether that was all. None lies below `from`.
    fn remove_extents(&mut self, log: LogId, from: u64, before: u64) -> Result<bool, StoreError> {
        let mut slice = Slice::new(extent_key(log, from));
        while let Some(page) = slice.next(&self.rows, &extents(log))? {
            for (key, value) in &page {
                let mut x = ExtentRow::decode(key, value)?;
                if x.end > before {
                    if x.first < before {
                        self.clip_extent(log, &mut x, before)?;
                    }
                    return Ok(true);
                }
                self.drop_live(&x, None);
                self.remove_extent(log, &x)?;
            }
        }
        Ok(slice.is_all)
    }

    /// Removes a slice of the retired sets of chunks `from..before`; says whether there is any from `from` on, and whether that was all.
    fn remove_sets(&mut self, log: LogId, from: u64, before: u64) -> Result<(bool, bool), StoreError> {
        let mut slice = Slice::new(retired_key(log, from));
        let mut any = false;
        while let Some(page) = slice.next(&self.rows, &retired(log))? {
            any |= !page.is_empty();
            for (key, _) in page {
                if last_number(&key).is_none_or(|chunk| chunk >= before) {
                    return Ok((any, true));
                }
                self.rows.remove(key);
            }
        }
        Ok((any, slice.is_all))
    }

    fn work_on(&mut self, log: LogId) -> Result<(), StoreError> {
        let Some(Todo { before, from }) = self.todos.get(&log).copied() else { return Ok(()) };
        let mut done = self.remove_extents(log, from, before)?;
        let (sets, all) = self.remove_sets(log, from / CHUNK_POSITIONS, before / CHUNK_POSITIONS)?;
        done &= all;
        if !done {
            self.rows.put(todo_key(log), encode([before]));
            return Ok(());
        }
        self.todos.remove(&log);
        if before == u64::MAX {
            return self.forget_deleted(log);
        }
        if self.rows.get(&todo_key(log))?.is_some() {
            self.rows.remove(todo_key(log));
        }
        let chunk = before / CHUNK_POSITIONS * CHUNK_POSITIONS;
        if chunk < before && sets {
            self.clear_retired(log, chunk, before)?;
        }
        Ok(())
    }

    /// Drops the row of a deleted log once no file without rows could bring its entries back. Until then a todo stays as a reminder:
    /// the next opening may see less of such a file.
    pub(super) fn forget_deleted(&mut self, log: LogId) -> Result<(), StoreError> {
        let held = self.replaying || self.open.iter().any(|f| f.logs.contains_key(&log));
        if held || self.todos.contains_key(&log) {
            if self.replaying {
                self.deleted.push(log);
            }
            self.rows.put(todo_key(log), encode([u64::MAX]));
            return Ok(());
        }
        let prefix = retired(log);
        for (key, _) in self.rows.scan(&prefix, &prefix, SLICE_ROWS)? {
            self.rows.remove(key);
        }
        self.rows.remove(todo_key(log));
        self.rows.remove(log_key(log));
        Ok(())
    }

    /// A dead file lets the floor pass: what only it says of its logs' ends goes into their rows.
    pub(super) fn save_heads_of_dead(&mut self) -> Result<(), StoreError> {
        let (mut open, applied) = (std::mem::take(&mut self.open), self.applied);
        let mut done = Ok(());
        for f in open.iter_mut().filter(|f| f.is_dead(applied) && !f.heads_saved) {
            match self.rows_of(f) {
                Ok(rows) => {
                    for (log, mut row, stretches) in rows {
                        row.take_head(stretches);
                        self.rows.put(log_key(log), row.encode());
                    }
                }
                Err(e) => done = Err(e),
            }
            f.heads_saved = true;
        }
        self.open = open;
        done
    }

    /// A file without rows is gone from memory: clears what was kept for its replay.
    pub(super) fn forget_dead(&mut self, f: &OpenFile) -> Result<(), StoreError> {
        for (log, stretches) in &f.logs {
            if stretches.iter().any(|s| s.dead) && self.any_retired(*log)? {
                for s in stretches.iter().filter(|s| s.dead) {
                    self.clear_retired(*log, s.first, s.end)?;
                }
            }
            if self.log(*log)?.start == u64::MAX {
                self.forget_deleted(*log)?;
            }
        }
        Ok(())
    }
}
