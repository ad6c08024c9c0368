//! [`DiskReader`]: finds entries in the index and takes their bytes from frames in memory, else from the file on a reader thread.
//! Every entry read from a file is checked. No lock is held over I/O.

use std::sync::Arc;

use bytes::Bytes;
use millstream_types::LogId;

use super::chunks::Chunks;
use super::cold::Cold;
use super::core::Core;
use super::file::{SegFile, path};
use super::pieces::{self, Piece};
use super::tail::{IndexEntry, LogTail, Run, Tail};
use crate::api::{
    Bounds, BoxFuture, Entry, Extent, Head, Level, Limits, ReadBatch, ReadError, ReadOutcome, Reader,
};
use crate::format::bytes::{len32, size};
use crate::format::op::{entry, entry_is_sound};

/// Entries closer than this are fetched with one read.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// Most bytes of one read, unless one entry has more.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Reads an open log.
#[derive(Clone)]
pub(crate) struct DiskReader {
    /// Files that left the index in memory, if there is a state store. Dropped before the lock on the directory is.
    pub(crate) cold: Option<Arc<Cold>>,
    pub(crate) core: Arc<Core>,
}

/// An entry that was found.
pub(super) struct Hit {
    pub e: IndexEntry,
    pub use_no: u64,
    pub bytes: Option<Bytes>,
    pub file: Arc<SegFile>,
}

/// What the index in memory says.
pub(super) enum Here<T> {
    /// This.
    Found(T),
    /// Nothing: files left it meanwhile, and what lies below may have rows now.
    Moved,
}

impl DiskReader {
    /// The entries that `lim` and `level` allow.
    fn find(
        &self,
        tail: &Tail,
        log: LogId,
        from: u64,
        lim: &Limits,
        level: Level,
    ) -> Result<Vec<Hit>, ReadError> {
        let mark = self.mark(level);
        let Some(l) = tail.log(log) else { return Ok(Vec::new()) };
        if from < l.start {
            return Err(ReadError::Trimmed { start: l.start });
        }
        let mut hits = Vec::new();
        let mut bytes = 0;
        for (run, e) in entries_from(l, from) {
            let size = e.content();
            let full = hits.len() >= lim.max_entries || (!hits.is_empty() && bytes + size > lim.max_bytes);
            // What lies between may be in a file that left.
            let gap = self.cold.is_some()
                && hits.last().is_some_and(|h: &Hit| h.use_no != run.use_no && h.e.end() < e.pos);
            if full || gap || e.pos >= lim.end_pos || run.lsn(e) > mark {
                break;
            }
            bytes += size;
            hits.extend(hit(tail, run, e));
        }
        Ok(hits)
    }

    /// Entries of hits: at once if all are in memory, else later.
    fn fetch(&self, log: LogId, from: u64, mut hits: Vec<Hit>) -> ReadOutcome {
        for h in hits.iter_mut().filter(|h| h.bytes.is_none()) {
            h.bytes = self.core.recent(h.use_no, &h.e);
        }
        if hits.iter().all(|h| h.bytes.is_some()) {
            return ReadOutcome::Ready(batch(log, from, &hits));
        }
        let chunks = Arc::clone(&self.core.chunks);
        ReadOutcome::Cold(self.core.readers.run(move || read_all(&chunks, log, from, &mut hits)))
    }

    /// As `find`, with bytes where they are in memory, unless files left the index since it was at `left`.
    pub(super) fn find_here(
        &self,
        log: LogId,
        from: u64,
        lim: &Limits,
        level: Level,
        left: u64,
    ) -> Result<Here<Vec<Hit>>, ReadError> {
        let mut hits = {
            let tail = self.core.tail();
            if tail.left() != left {
                return Ok(Here::Moved);
            }
            self.find(&tail, log, from, lim, level)?
        };
        for h in hits.iter_mut().filter(|h| h.bytes.is_none()) {
            h.bytes = self.core.recent(h.use_no, &h.e);
        }
        Ok(Here::Found(hits))
    }

    /// The first entry in the index in memory at or past `from` whose largest timestamp is at least `ts_ms`.
    fn find_time(&self, tail: &Tail, log: LogId, from: u64, ts_ms: i64, level: Level) -> Option<Hit> {
        let mark = self.mark(level);
        let l = tail.log(log)?;
        let from = from.max(l.start);
        let runs = l.runs.iter().skip(l.seek(from)).filter(|r| r.max_ts_ms >= ts_ms);
        let mut entries = runs.flat_map(|r| r.entries.iter_from(r.seek(from)).map(move |e| (r, e)));
        let (run, e) = entries.find(|(_, e)| e.max_ts_ms >= ts_ms)?;
        if run.lsn(e) > mark { None } else { hit(tail, run, e) }
    }

    /// As `by_time`, in the index in memory, waiting for the disk, likewise.
    pub(super) fn time_here(
        &self,
        log: LogId,
        from: u64,
        ts_ms: i64,
        level: Level,
        left: u64,
    ) -> Result<Here<Option<Head>>, ReadError> {
        let found = {
            let tail = self.core.tail();
            if tail.left() != left {
                return Ok(Here::Moved);
            }
            self.find_time(&tail, log, from, ts_ms, level)
        };
        let Some(mut found) = found else { return Ok(Here::Found(None)) };
        found.bytes = found.bytes.or_else(|| self.core.recent(found.use_no, &found.e));
        let read = read_all(&self.core.chunks, log, from, &mut [found])?;
        Ok(Here::Found(read.entries.into_iter().next().map(head)))
    }

    /// Extents in the index in memory.
    pub(super) fn extents_here(tail: &Tail, log: LogId, from: u64, max: usize) -> Vec<Extent> {
        let Some(l) = tail.log(log) else { return Vec::new() };
        let runs = l.runs.iter().skip(l.seek(from.max(l.start))).take(max);
        let extent =
            |r: &Run| Extent { first: r.first(), end: r.end(), bytes: r.bytes, max_ts_ms: r.max_ts_ms };
        runs.map(extent).collect()
    }

    /// The mark up to which records show. Of a lost log only what is durable does: the rest may never be.
    fn mark(&self, level: Level) -> u64 {
        let level = if self.core.marks.is_lost() { Level::Durable } else { level };
        self.core.marks.level(level)
    }

    async fn finish(outcome: ReadOutcome) -> Result<ReadBatch, ReadError> {
        match outcome {
            ReadOutcome::Ready(done) => done,
            ReadOutcome::Cold(later) => later.await,
        }
    }
}

/// Entries of a log that end after `pos`, with their runs.
fn entries_from(l: &LogTail, pos: u64) -> impl Iterator<Item = (&Run, &IndexEntry)> {
    l.runs
        .iter()
        .skip(l.seek(pos))
        .flat_map(move |run| run.entries.iter_from(run.seek(pos)).map(move |e| (run, e)))
}

fn hit(tail: &Tail, run: &Run, e: &IndexEntry) -> Option<Hit> {
    let file = Arc::clone(tail.file(run.use_no)?);
    Some(Hit { e: *e, use_no: run.use_no, bytes: tail.in_memory(run.use_no, e), file })
}

fn damaged(log: LogId, h: &Hit) -> ReadError {
    ReadError::Damaged {
        first: h.e.pos,
        end: h.e.end(),
        file: format!("{} (log {})", path(h.file.id), log.0),
    }
}

fn read_all(chunks: &Arc<Chunks>, log: LogId, from: u64, hits: &mut [Hit]) -> Result<ReadBatch, ReadError> {
    fill(chunks, log, hits)?;
    batch(log, from, hits)
}

/// Reads the bytes of those hits that have none.
pub(super) fn fill(chunks: &Arc<Chunks>, log: LogId, hits: &mut [Hit]) -> Result<(), ReadError> {
    for cold in hits.chunk_by_mut(|a, b| a.bytes.is_some() == b.bytes.is_some()) {
        if cold.iter().any(|h| h.bytes.is_none()) {
            read_cold(chunks, log, cold)?;
        }
    }
    Ok(())
}

/// What to read for hits, neighbours together, and how many hits lie in each piece.
fn join(hits: &[Hit]) -> (Vec<Piece>, Vec<usize>) {
    let (mut pieces, mut counts) = (Vec::new(), Vec::new());
    let mut rest = hits;
    while let Some(first) = rest.first() {
        let start = u64::from(first.e.offset);
        let mut end = start + u64::from(first.e.len);
        let mut n = 1;
        for h in rest.iter().skip(1) {
            let (at, to) = (u64::from(h.e.offset), u64::from(h.e.offset) + u64::from(h.e.len));
            // In a pack what follows may lie before.
            if (h.file.id, h.file.lap) != (first.file.id, first.file.lap)
                || at < end
                || at > end + GAP_BYTES_MAX
                || to - start > READ_BYTES_MAX
            {
                break;
            }
            (end, n) = (to, n + 1);
        }
        pieces.push(Piece { file: Arc::clone(&first.file), offset: start, len: size(end - start) });
        counts.push(n);
        rest = rest.get(n..).unwrap_or_default();
    }
    (pieces, counts)
}

/// Reads the bytes of hits from their files, neighbours together, and checks them.
fn read_cold(chunks: &Arc<Chunks>, log: LogId, hits: &mut [Hit]) -> Result<(), ReadError> {
    let (pieces, counts) = join(hits);
    let mut hits = hits.iter_mut();
    for ((piece, bytes), n) in pieces.iter().zip(pieces::read(chunks, &pieces)?).zip(counts) {
        for h in hits.by_ref().take(n) {
            let at = size(u64::from(h.e.offset) - piece.offset);
            let found = bytes.slice(at..at + size(u64::from(h.e.len)));
            let sound = entry_is_sound(&found) && entry(&found).is_ok_and(|e| e.to.holds(log, h.e.pos));
            if !sound {
                return Err(damaged(log, h));
            }
            h.bytes = Some(found);
        }
    }
    Ok(())
}

pub(super) fn batch(log: LogId, from: u64, hits: &[Hit]) -> Result<ReadBatch, ReadError> {
    let mut entries = Vec::with_capacity(hits.len());
    for h in hits {
        let bytes = h.bytes.as_ref().ok_or(ReadError::Closed)?;
        let view = entry(bytes).map_err(|_| damaged(log, h))?;
        let body_at = view.attrs_at + view.attrs.len();
        entries.push(Entry {
            pos: h.e.pos,
            count: h.e.count,
            max_ts_ms: view.max_ts_ms,
            attrs: bytes.slice(view.attrs_at..body_at),
            body: bytes.slice(body_at..),
        });
    }
    let next = hits.last().map_or(from, |h| h.e.end());
    Ok(ReadBatch { entries, next })
}

pub(super) fn head(e: Entry) -> Head {
    Head { pos: e.pos, count: e.count, max_ts_ms: e.max_ts_ms, attrs: e.attrs, body_len: len32(e.body.len()) }
}

impl Reader for DiskReader {
    fn read(&self, log: LogId, from: u64, lim: Limits, level: Level) -> ReadOutcome {
        // One lock for both questions: between them a file could leave the memory.
        let found = {
            let tail = self.core.tail();
            if let Some(cold) = self.is_below(&tail, log, from) {
                let me = self.clone();
                return ReadOutcome::Cold(
                    self.core.readers.run(move || me.read_below(&cold, log, from, &lim, level)),
                );
            }
            self.find(&tail, log, from, &lim, level)
        };
        match found {
            Ok(hits) => self.fetch(log, from, hits),
            Err(e) => ReadOutcome::Ready(Err(e)),
        }
    }

    fn get(&self, log: LogId, positions: &[u64]) -> ReadOutcome {
        let mark = self.mark(Level::Sequenced);
        let mut hits: Vec<Hit> = Vec::new();
        {
            let tail = self.core.tail();
            if let Some(cold) = positions.iter().find_map(|pos| self.is_below(&tail, log, *pos)) {
                let (me, positions) = (self.clone(), positions.to_vec());
                return ReadOutcome::Cold(
                    self.core.readers.run(move || me.get_below(&cold, log, &positions)),
                );
            }
            let Some(l) = tail.log(log) else { return ReadOutcome::Ready(Ok(ReadBatch::default())) };
            for pos in positions {
                let found = entries_from(l, *pos).next().filter(|(_, e)| e.pos <= *pos && *pos >= l.start);
                if let Some((run, e)) = found
                    && run.lsn(e) <= mark
                    && hits.last().is_none_or(|h| h.e.pos != e.pos)
                {
                    hits.extend(hit(&tail, run, e));
                }
            }
        }
        self.fetch(log, 0, hits)
    }

    fn heads(
        &self,
        log: LogId,
        from: u64,
        lim: Limits,
        level: Level,
    ) -> BoxFuture<Result<Vec<Head>, ReadError>> {
        let outcome = self.read(log, from, lim, level);
        Box::pin(async { Ok(Self::finish(outcome).await?.entries.into_iter().map(head).collect()) })
    }

    fn by_time(
        &self,
        log: LogId,
        from: u64,
        ts_ms: i64,
        level: Level,
    ) -> BoxFuture<Result<Option<Head>, ReadError>> {
        let found = {
            let tail = self.core.tail();
            let start = tail.log(log).map_or(0, |l| l.start);
            if let Some(cold) = self.reaches_below(&tail, log, from.max(start)) {
                let me = self.clone();
                return self.core.readers.run(move || me.by_time_below(&cold, log, from, ts_ms, level));
            }
            self.find_time(&tail, log, from, ts_ms, level)
        };
        let Some(found) = found else { return Box::pin(async { Ok(None) }) };
        let outcome = self.fetch(log, from, vec![found]);
        Box::pin(async { Ok(Self::finish(outcome).await?.entries.into_iter().next().map(head)) })
    }

    fn bounds(&self, log: LogId) -> Bounds {
        // What files without an index in memory say; a store that fails ends the log elsewhere.
        let row = || self.cold.as_ref().and_then(|cold| cold.log(log).ok()).unwrap_or_default();
        let (row, tail) = loop {
            let left = self.core.tail().left();
            let row = row();
            let tail = self.core.tail();
            // Between the two looks it may have gone from here to there.
            if tail.left() == left {
                break (row, tail);
            }
        };
        let Some(l) = tail.log(log) else {
            return Bounds { start: row.start, next: row.next, bytes: row.bytes, max_ts_ms: row.max_ts_ms };
        };
        let bytes: u64 = l.runs.iter().filter(|r| r.end() > l.start).map(|r| r.bytes).sum();
        Bounds {
            start: l.start.max(row.start),
            next: l.next.max(row.next),
            bytes: bytes + row.bytes,
            max_ts_ms: l.max_ts_ms.max(row.max_ts_ms),
        }
    }

    fn extents(&self, log: LogId, from: u64, max: usize) -> BoxFuture<Result<Vec<Extent>, ReadError>> {
        let extents = {
            let tail = self.core.tail();
            let start = tail.log(log).map_or(0, |l| l.start);
            if let Some(cold) = self.reaches_below(&tail, log, from.max(start)) {
                let me = self.clone();
                return self.core.readers.run(move || me.extents_below(&cold, log, from, max));
            }
            Self::extents_here(&tail, log, from, max)
        };
        Box::pin(async { Ok(extents) })
    }

    fn close(&self) {
        self.core.readers.drain();
    }
}
