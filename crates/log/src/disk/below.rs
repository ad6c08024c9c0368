//! Reads of what lies below the index in memory: in adopted files. On reader threads only.

use std::sync::Arc;

use millstream_types::LogId;

use super::cold::Cold;
use super::reader::{DiskReader, Here, Hit, batch, fill, head};
use super::tail::Tail;
use crate::api::{Extent, Head, Level, Limits, ReadBatch, ReadError};
use crate::format::rows::ExtentRow;

/// Files may be freed while they are looked up, or have rows and not yet a place on the shelf; then the rows are asked again, so
/// often at most.
const LOOKUPS_MAX: usize = 10_000;
/// Extents looked up at once.
const EXTENTS: usize = 16;
/// Entries read at once when their timestamps are looked for.
const PROBED: usize = 64;

/// Positions that lie no further apart are looked for together, and those between them are left out afterwards.
const NEAR: u64 = 8;

/// The first of ascending positions, and one past the last of those that follow it closely.
fn near(positions: &[u64]) -> Option<(u64, u64)> {
    let group = positions.chunk_by(|a, b| *b <= a.saturating_add(NEAR)).next()?;
    Some((*group.first()?, group.last()?.saturating_add(1)))
}

/// Goes through extents of a log from a position on.
struct Walk<'c> {
    cold: &'c Cold,
    log: LogId,
    at: u64,
    lookups: usize,
}

impl Walk<'_> {
    /// Calls `f` with each entry at or past the position, until it says no. Whether it did.
    fn entries(
        &mut self,
        wanted: impl Fn(&ExtentRow) -> bool,
        mut f: impl FnMut(Hit) -> bool,
    ) -> Result<bool, ReadError> {
        loop {
            let page = self.cold.extents(self.log, self.at, EXTENTS)?;
            if page.is_empty() {
                return Ok(false);
            }
            let mut there = true;
            for x in page {
                let (mut at, mut stopped) = (self.at, false);
                there = !wanted(&x)
                    || self.cold.entries(self.log, &x, at, |found| {
                        let end = found.e.end();
                        let hit = Hit { e: found.e, use_no: x.lap, bytes: None, file: found.file };
                        stopped = !f(hit);
                        at = if stopped { at } else { end };
                        !stopped
                    })?;
                self.at = at;
                if stopped {
                    return Ok(true);
                }
                if !there {
                    break;
                }
                self.at = at.max(x.end);
            }
            if !there {
                self.lookups += 1;
                if self.lookups > LOOKUPS_MAX {
                    return Err(ReadError::Overloaded);
                }
                std::thread::yield_now();
            }
        }
    }
}

/// One past a log's last position, as far as it can be told without I/O: if it cannot, as far as can be.
fn end(cold: &Cold, tail: &Tail, log: LogId) -> u64 {
    match tail.log(log) {
        Some(l) if l.ends => l.next,
        // Its row is read once: then a reader that waits at the end of an idle log costs no thread.
        l => cold.log_at_hand(log).map_or(u64::MAX, |row| row.next.max(l.map_or(0, |l| l.next))),
    }
}

impl DiskReader {
    /// Whether a position lies below the index in memory, so that files have to be asked.
    pub(super) fn is_below(&self, tail: &Tail, log: LogId, from: u64) -> Option<Arc<Cold>> {
        let cold = self.cold.as_ref()?;
        let (l, end) = (tail.log(log), end(cold, tail, log));
        let below = l.map_or(from < end, |l| from >= l.start && l.lacks(from, end));
        below.then(|| Arc::clone(cold))
    }

    /// As `is_below`, for questions about all that follows the position.
    pub(super) fn reaches_below(&self, tail: &Tail, log: LogId, from: u64) -> Option<Arc<Cold>> {
        let cold = self.cold.as_ref()?;
        let (l, end) = (tail.log(log), end(cold, tail, log));
        let below = l.map_or(from < end, |l| l.lacks_any(from.max(l.start), end));
        below.then(|| Arc::clone(cold))
    }

    fn start(&self, cold: &Cold, log: LogId) -> Result<u64, ReadError> {
        let start = self.core.tail().log(log).map_or(0, |l| l.start);
        Ok(start.max(cold.log(log)?.start))
    }

    /// The entries that `lim` and `level` allow: in files, or if none of them lies there, in memory.
    fn find_below(
        &self,
        cold: &Cold,
        log: LogId,
        from: u64,
        lim: &Limits,
        level: Level,
    ) -> Result<Vec<Hit>, ReadError> {
        loop {
            let start = self.start(cold, log)?;
            if from < start {
                return Err(ReadError::Trimmed { start });
            }
            let left = self.core.tail().left();
            let mut walk = Walk { cold, log, at: from, lookups: 0 };
            let (mut hits, mut bytes): (Vec<Hit>, usize) = (Vec::new(), 0);
            let walked = walk.entries(
                |_| true,
                |hit| {
                    let more = hit.e.content();
                    let full =
                        hits.len() >= lim.max_entries || (!hits.is_empty() && bytes + more > lim.max_bytes);
                    if full || hit.e.pos >= lim.end_pos {
                        return false;
                    }
                    bytes += more;
                    hits.push(hit);
                    true
                },
            );
            match walked {
                // What was found before the damage is given; the next read finds the damage first.
                Err(e) if hits.is_empty() => return Err(e),
                Ok(false) if hits.is_empty() => {
                    if let Here::Found(hits) = self.find_here(log, walk.at.max(from), lim, level, left)? {
                        return Ok(hits);
                    }
                    // Files left the memory while their rows were not yet looked at.
                }
                _ => return Ok(hits),
            }
        }
    }

    pub(super) fn read_below(
        &self,
        cold: &Cold,
        log: LogId,
        from: u64,
        lim: &Limits,
        level: Level,
    ) -> Result<ReadBatch, ReadError> {
        let mut hits = self.find_below(cold, log, from, lim, level)?;
        if let Err(e) = fill(&self.core.chunks, log, &mut hits) {
            let ReadError::Damaged { first, .. } = e else { return Err(e) };
            hits.retain(|h| h.e.pos < first);
            if hits.is_empty() {
                return Err(e);
            }
        }
        batch(log, from, &hits)
    }

    pub(super) fn get_below(
        &self,
        cold: &Cold,
        log: LogId,
        positions: &[u64],
    ) -> Result<ReadBatch, ReadError> {
        let mut hits: Vec<Hit> = Vec::new();
        let mut rest = positions;
        while let Some((first, end_pos)) = near(rest) {
            // To look for each on its own would ask rows and footers anew each time.
            let lim = Limits { max_bytes: usize::MAX, max_entries: usize::MAX, end_pos };
            let done = match self.find_below(cold, log, first, &lim, Level::Sequenced) {
                Ok(found) => {
                    let done = found.last().map_or(end_pos, |h| h.e.end());
                    let wanted = |h: &Hit| rest.get(rest.partition_point(|p| *p < h.e.pos));
                    hits.extend(found.into_iter().filter(|h| wanted(h).is_some_and(|p| *p < h.e.end())));
                    done
                }
                // They do not exist, or no longer.
                Err(ReadError::Trimmed { start }) => start,
                Err(e) => return Err(e),
            };
            rest = rest.get(rest.partition_point(|p| *p < done)..).unwrap_or_default();
        }
        fill(&self.core.chunks, log, &mut hits)?;
        batch(log, 0, &hits)
    }

    pub(super) fn by_time_below(
        &self,
        cold: &Cold,
        log: LogId,
        from: u64,
        ts_ms: i64,
        level: Level,
    ) -> Result<Option<Head>, ReadError> {
        let from = from.max(self.start(cold, log)?);
        let mut left = self.core.tail().left();
        let mut walk = Walk { cold, log, at: from, lookups: 0 };
        loop {
            let mut hits: Vec<Hit> = Vec::new();
            let more = walk.entries(
                |x| x.max_ts_ms >= ts_ms,
                |hit| {
                    // The timestamp in the index is the largest of 64 entries.
                    let room = hits.len() < PROBED;
                    if room && hit.e.max_ts_ms >= ts_ms {
                        hits.push(hit);
                    }
                    room
                },
            )?;
            fill(&self.core.chunks, log, &mut hits)?;
            let entries = batch(log, from, &hits)?.entries;
            if let Some(e) = entries.into_iter().find(|e| e.max_ts_ms >= ts_ms) {
                return Ok(Some(head(e)));
            }
            if !more {
                match self.time_here(log, walk.at.max(from), ts_ms, level, left)? {
                    Here::Found(found) => return Ok(found),
                    Here::Moved => left = self.core.tail().left(),
                }
            }
        }
    }

    /// Extents of adopted files, and behind them those in memory.
    pub(super) fn extents_below(
        &self,
        cold: &Cold,
        log: LogId,
        from: u64,
        max: usize,
    ) -> Result<Vec<Extent>, ReadError> {
        // The memory first: what leaves it meanwhile has rows by then.
        let here = Self::extents_here(&self.core.tail(), log, from, max);
        let from = from.max(self.start(cold, log)?);
        let known = |x: &ExtentRow| here.iter().any(|h| h.first <= x.first && x.first < h.end);
        let rows = cold.extents(log, from, max)?.into_iter().filter(|x| !known(x));
        let below =
            rows.map(|x| Extent { first: x.first, end: x.end, bytes: x.bytes, max_ts_ms: x.max_ts_ms });
        let mut all: Vec<Extent> = below.chain(here.iter().copied()).collect();
        all.sort_unstable_by_key(|e| e.first);
        all.truncate(max);
        Ok(all)
    }
}
