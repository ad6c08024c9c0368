//! The index in memory: where the entries of files lie that have no index on disk yet, and the frames still in memory.
//!
//! It does no I/O and knows nothing of threads: [`Tail`] lies behind a lock that nobody holds over I/O.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use millstream_types::LogId;

use super::entries::Entries;
use super::events::FileId;
use super::file::SegFile;
use super::frames::{Frames, Spot};
use crate::format::bytes::{len64, size};
use crate::format::op::ENTRY_HEADER_BYTES;
use crate::format::rows::LogRow;

/// Where one entry lies in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// First position.
    pub pos: u64,
    /// Largest timestamp, -1 = none.
    pub max_ts_ms: i64,
    /// Positions covered.
    pub count: u32,
    /// Offset in the file.
    pub offset: u32,
    /// Length in bytes, header included.
    pub len: u32,
    /// Its record's LSN minus that of the run's first.
    lsn_delta: u32,
}

impl IndexEntry {
    /// An entry at (offset, length).
    pub(crate) fn new(pos: u64, count: u32, max_ts_ms: i64, (offset, len): (u32, u32)) -> Self {
        Self { pos, max_ts_ms, count, offset, len, lsn_delta: 0 }
    }

    /// Bytes of attrs and body; of a fan-out also those of its references, which are few.
    pub(crate) fn content(&self) -> usize {
        size(u64::from(self.len)).saturating_sub(ENTRY_HEADER_BYTES)
    }

    /// One past the last position.
    pub(crate) fn end(&self) -> u64 {
        self.pos.saturating_add(u64::from(self.count))
    }
}

/// The entries of one log in one file.
#[derive(Debug)]
pub(crate) struct Run {
    /// The file's place in the order of use.
    pub use_no: u64,
    first_lsn: u64,
    /// Ascending by position.
    pub entries: Entries,
    /// Bytes of the entries.
    pub bytes: u64,
    /// Largest timestamp.
    pub max_ts_ms: i64,
}

impl Run {
    pub(crate) fn lsn(&self, e: &IndexEntry) -> u64 {
        self.first_lsn + u64::from(e.lsn_delta)
    }

    /// One past the last position.
    pub(crate) fn end(&self) -> u64 {
        self.entries.last().map_or(0, IndexEntry::end)
    }

    /// First position.
    pub(crate) fn first(&self) -> u64 {
        self.entries.first().map_or(0, |e| e.pos)
    }

    /// Index of the first entry that ends after `pos`.
    pub(crate) fn seek(&self, pos: u64) -> usize {
        self.entries.seek(pos)
    }
}

/// One log.
#[derive(Debug)]
pub(crate) struct LogTail {
    /// First position that may be read (durable trims).
    pub start: u64,
    /// One past the last position sequenced.
    pub next: u64,
    /// Whether `next` is where the log ends: an append said so, or its row was looked at. A trim alone says nothing of the end.
    pub ends: bool,
    /// Largest timestamp seen, -1 = none.
    pub max_ts_ms: i64,
    /// One run per file, ascending.
    pub runs: VecDeque<Run>,
}

impl LogTail {
    /// Index of the first run that ends after `pos`.
    pub(crate) fn seek(&self, pos: u64) -> usize {
        self.runs.partition_point(|r| r.end() <= pos)
    }

    /// Whether what follows `pos` in a log that ends at `end` may lie in a file that left: no run covers it. (A file in which
    /// nothing lives stays here while younger ones leave, so such a place can lie between runs.)
    pub(crate) fn lacks(&self, pos: u64, end: u64) -> bool {
        self.runs.get(self.seek(pos)).map_or(pos < end, |run| pos < run.first())
    }

    /// Whether any position from `pos` on may lie in a file that left.
    pub(crate) fn lacks_any(&self, pos: u64, end: u64) -> bool {
        let mut at = pos;
        self.runs.iter().skip(self.seek(pos)).any(|r| r.first() > std::mem::replace(&mut at, r.end()))
            || at < end
    }
}

struct FileUse {
    file: Arc<SegFile>,
    /// Those that have a run here.
    logs: Vec<LogId>,
    /// In all runs.
    entries: usize,
}

/// A table of which less than one part in so many is used is made smaller when the log rests.
const SPARE_PARTS: usize = 4;
/// Bytes that a log and its run take, roughly: places in tables, and memory of their own.
const RUN_BYTES: usize = 240;

/// The index and the frames.
#[derive(Default)]
pub(crate) struct Tail {
    logs: HashMap<LogId, LogTail, foldhash::fast::RandomState>,
    /// By use number, which is given in the order of use.
    files: HashMap<u64, FileUse>,
    frames: Frames,
    /// Grows whenever runs or logs leave: whoever looked below before that must look again.
    left: u64,
}

impl Tail {
    /// How often anything has left the index.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// A file comes into use.
    pub(crate) fn add_file(&mut self, use_no: u64, file: Arc<SegFile>) {
        self.files.insert(use_no, FileUse { file, logs: Vec::new(), entries: 0 });
    }

    pub(crate) fn file(&self, use_no: u64) -> Option<&Arc<SegFile>> {
        self.files.get(&use_no).map(|f| &f.file)
    }

    pub(crate) fn log(&self, log: LogId) -> Option<&LogTail> {
        self.logs.get(&log)
    }

    /// Every log, in no order.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (LogId, &LogTail)> {
        self.logs.iter().map(|(id, l)| (*id, l))
    }

    fn log_mut(&mut self, log: LogId) -> &mut LogTail {
        self.logs.entry(log).or_insert_with(|| LogTail {
            start: 0,
            next: 0,
            ends: false,
            max_ts_ms: -1,
            // Most logs of many have one: a million of them are in memory at a time.
            runs: VecDeque::with_capacity(1),
        })
    }

    /// Adds an entry behind all others of its log. Whether its position is behind theirs, as far as they are here.
    pub(crate) fn push(&mut self, log: LogId, use_no: u64, lsn: u64, mut e: IndexEntry) -> bool {
        let l = self.log_mut(log);
        let follows = l.runs.back().is_none_or(|r| r.end() <= e.pos);
        (l.next, l.ends) = (e.end(), true);
        l.max_ts_ms = l.max_ts_ms.max(e.max_ts_ms);
        let fresh = l.runs.back().is_none_or(|r| r.use_no != use_no);
        if fresh {
            let entries = Entries::default();
            l.runs.push_back(Run { use_no, first_lsn: lsn, entries, bytes: 0, max_ts_ms: -1 });
        }
        if let Some(run) = l.runs.back_mut() {
            e.lsn_delta = u32::try_from(lsn - run.first_lsn).expect("a file holds fewer than 2^32 records");
            run.bytes += u64::from(e.len);
            run.max_ts_ms = run.max_ts_ms.max(e.max_ts_ms);
            run.entries.push(e);
        }
        if let Some(f) = self.files.get_mut(&use_no) {
            f.entries += 1;
            if fresh {
                f.logs.push(log);
            }
        }
        follows
    }

    /// A trim became durable.
    pub(crate) fn trim(&mut self, log: LogId, before: u64) {
        let l = self.log_mut(log);
        l.start = l.start.max(before);
        if before != u64::MAX {
            l.next = l.next.max(before);
        }
    }

    /// Keeps a frame in memory; frames come in the order of the log.
    pub(crate) fn add_frame(&mut self, use_no: u64, offset: u64, data: Bytes) {
        self.frames.add(use_no, offset, data);
    }

    /// The frames in memory.
    pub(crate) fn frames_mut(&mut self) -> &mut Frames {
        &mut self.frames
    }

    /// Gives back the memory of places in tables that were needed once and are not now.
    pub(crate) fn shrink(&mut self) {
        if self.logs.len() < self.logs.capacity() / SPARE_PARTS {
            self.logs.shrink_to_fit();
        }
    }

    /// The bytes of an entry, if its frame is in memory.
    pub(crate) fn in_memory(&self, use_no: u64, e: &IndexEntry) -> Option<Bytes> {
        let file_bytes = self.file(use_no).map_or(0, |f| f.bytes);
        self.frames.find(Spot { use_no, file_bytes, offset: e.offset, len: e.len })
    }

    /// The logs that have a run in a file, ascending.
    pub(crate) fn logs_in(&self, file: FileId, lap: u64) -> Vec<LogId> {
        let mut logs = self.find(file, lap).map_or_else(Vec::new, |(_, f)| f.logs.clone());
        logs.sort_unstable();
        logs
    }

    /// The runs of logs in a file: the source of its footer.
    pub(crate) fn runs(&self, file: FileId, lap: u64, logs: &[LogId]) -> Vec<(LogId, Vec<IndexEntry>)> {
        let Some((use_no, _)) = self.find(file, lap) else { return Vec::new() };
        let run = |log: &LogId| self.logs.get(log)?.runs.iter().find(|r| r.use_no == use_no);
        logs.iter().filter_map(|log| Some((*log, run(log)?.entries.to_vec()))).collect()
    }

    /// What the state store knows of a log.
    pub(crate) fn raise(&mut self, log: LogId, start: u64, next: u64, max_ts_ms: i64) {
        let l = self.log_mut(log);
        l.start = l.start.max(start);
        (l.next, l.ends) = (l.next.max(next), true);
        l.max_ts_ms = l.max_ts_ms.max(max_ts_ms);
    }

    /// The handle of a file that has an index here; it lives as long as a reader has it.
    pub(crate) fn handle(&self, file: FileId, lap: u64) -> Weak<SegFile> {
        self.find(file, lap).map_or_else(Weak::new, |(_, f)| Arc::downgrade(&f.file))
    }

    /// The file has an index on disk now, or nothing in it lives: the runs of at most `max` logs go, and after the last the file.
    /// Gives those of the logs that have no run left; `None` if the file is gone.
    pub(crate) fn leave(&mut self, file: FileId, lap: u64, max: usize) -> Option<Vec<LogId>> {
        let (use_no, _) = self.find(file, lap)?;
        let f = self.files.get_mut(&use_no)?;
        self.left += 1;
        let logs = f.logs.split_off(f.logs.len().saturating_sub(max));
        let mut bare = Vec::new();
        for log in logs {
            if let Some(l) = self.logs.get_mut(&log) {
                l.runs.retain(|r| r.use_no != use_no);
                if l.runs.is_empty() {
                    bare.push(log);
                }
            }
        }
        if f.logs.is_empty() {
            self.files.remove(&use_no);
        }
        Some(bare)
    }

    /// Whether nothing of a log is here but where it starts and ends.
    pub(crate) fn is_bare(&self, log: LogId) -> bool {
        self.logs.get(&log).is_some_and(|l| l.runs.is_empty())
    }

    /// Forgets logs of which the durable rows say no less than is known here; rows of logs that are gone are `None`.
    pub(crate) fn forget(&mut self, rows: &[(LogId, Option<LogRow>)]) {
        for (log, row) in rows {
            let Some(l) = self.logs.get(log) else { continue };
            let known = row
                .is_none_or(|row| l.start <= row.start && l.next <= row.next && l.max_ts_ms <= row.max_ts_ms);
            if known && l.runs.is_empty() {
                self.logs.remove(log);
                self.left += 1;
            }
        }
    }

    fn find(&self, file: FileId, lap: u64) -> Option<(u64, &FileUse)> {
        self.files.iter().find(|(_, f)| (f.file.id, f.file.lap) == (file, lap)).map(|(n, f)| (*n, f))
    }

    /// Bytes that the index takes, roughly.
    pub(crate) fn index_bytes(&self) -> u64 {
        let of = |f: &FileUse| f.logs.len() * RUN_BYTES + f.entries * size_of::<IndexEntry>();
        self.files.values().map(|f| len64(of(f))).sum()
    }
}
