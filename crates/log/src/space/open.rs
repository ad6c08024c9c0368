//! [`OpenFile`]: what lives in a file that has no index on disk yet. Kept in memory and rebuilt from the log's appends.

use std::collections::HashMap;

use millstream_types::LogId;

use crate::disk::events::{Addr, FileId};
use crate::format::bytes::{align8, len64, size};

/// Bytes that a log takes here beside its stretches, roughly.
const LOG_BYTES: usize = 64;

/// Appended positions of a log in a file, without holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub first: u64,
    /// One past the last position.
    pub end: u64,
    pub retired: u64,
    pub bytes: u64,
    pub max_ts_ms: i64,
    /// Positions it had before trims took some.
    pub whole: u64,
    /// All retired, or below the log's start.
    pub dead: bool,
}

impl Stretch {
    pub(crate) fn live(&self) -> u64 {
        if self.dead { 0 } else { self.end - self.first - self.retired }
    }

    /// Takes off what lies below `start`.
    pub(crate) fn clip<E>(
        &mut self,
        start: u64,
        retired: impl Fn(u64, u64) -> Result<u64, E>,
    ) -> Result<(), E> {
        if self.first < start && start < self.end {
            self.retired -= retired(self.first, start)?.min(self.retired);
            self.first = start;
        }
        self.dead |= self.end <= start || self.retired == self.end - self.first;
        Ok(())
    }
}

/// A file in use, or full and not adopted.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub id: FileId,
    pub lap: u64,
    /// First LSN of which a part lies in it, or may come to lie in it.
    pub first_lsn: u64,
    /// The first record that appended to it; the largest u64 = none did.
    pub first_append: u64,
    /// Last LSN of which a part lies in it; 0 until it is sealed.
    pub last_lsn: u64,
    pub sealed: bool,
    /// The heads of its logs are in the rows: it no longer holds the floor.
    pub heads_saved: bool,
    pub logs: HashMap<LogId, Vec<Stretch>, foldhash::fast::RandomState>,
    /// Of all logs.
    stretches: usize,
    /// Positions neither retired nor trimmed.
    pub live: u64,
    /// Bytes that its entries take, and as extents count them.
    pub stored: u64,
    pub content: u64,
    /// Where the entry lies that was appended last.
    last_at: Option<u32>,
}

impl OpenFile {
    pub(crate) fn new(id: FileId, lap: u64, first_lsn: u64) -> Self {
        let logs = HashMap::default();
        let first_append = u64::MAX;
        Self {
            id,
            lap,
            first_lsn,
            first_append,
            last_lsn: 0,
            sealed: false,
            heads_saved: false,
            logs,
            stretches: 0,
            live: 0,
            stored: 0,
            content: 0,
            last_at: None,
        }
    }

    /// Nothing in it will be read again. Its last record may end in a later file, so it must have been applied.
    pub(crate) fn is_dead(&self, applied: u64) -> bool {
        self.sealed && self.live == 0 && self.last_lsn <= applied
    }

    pub(crate) fn append(&mut self, log: LogId, pos: u64, count: u32, bytes: u32, max_ts_ms: i64, at: &Addr) {
        let (count, bytes) = (u64::from(count), u64::from(bytes));
        self.content += bytes;
        // The references of a fan-out come one after another, and are one entry.
        if self.last_at.replace(at.offset) != Some(at.offset) {
            self.stored += len64(align8(size(u64::from(at.len))));
        }
        // Most logs of many have one stretch here.
        let stretches = self.logs.entry(log).or_insert_with(|| Vec::with_capacity(1));
        self.live += count;
        if let Some(last) = stretches.last_mut()
            && last.end == pos
            && !last.dead
        {
            last.end += count;
            last.bytes += bytes;
            last.whole += count;
            last.max_ts_ms = last.max_ts_ms.max(max_ts_ms);
            return;
        }
        let end = pos.saturating_add(count);
        let whole = end - pos;
        self.stretches += 1;
        stretches.push(Stretch { first: pos, end, retired: 0, bytes, max_ts_ms, whole, dead: false });
    }

    /// Stretches of a log that reach into `[first, end)`.
    pub(crate) fn overlapping(&mut self, log: LogId, first: u64, end: u64) -> &mut [Stretch] {
        let Some(all) = self.logs.get_mut(&log) else { return &mut [] };
        let from = all.partition_point(|s| s.end <= first);
        let to = all.partition_point(|s| s.first < end).max(from);
        all.get_mut(from..to).unwrap_or_default()
    }

    /// The log starts at `before`: what lies below is gone. `retired` counts the retired positions of a range.
    pub(crate) fn trim<E>(
        &mut self,
        log: LogId,
        before: u64,
        retired: impl Fn(u64, u64) -> Result<u64, E>,
    ) -> Result<(), E> {
        let mut gone = 0;
        for s in self.overlapping(log, 0, before).iter_mut().filter(|s| !s.dead) {
            gone += s.live();
            s.clip(before, &retired)?;
            gone -= s.live();
        }
        self.live -= gone;
        Ok(())
    }

    /// Bytes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.logs.len() * LOG_BYTES + self.stretches * size_of::<Stretch>() + size_of::<Self>()
    }
}
