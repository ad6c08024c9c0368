//! Reading a log in memory: everything is in the tail.

use std::sync::Arc;

use millstream_types::{LogId, Lsn};

use crate::{
    Bounds, BoxFuture, Entry, Extent, Head, Level, Limits, ReadBatch, ReadError, ReadOutcome, Reader,
};

use super::Shared;
use super::state::{OneLog, State};

pub(super) struct MemReader {
    pub(super) shared: Arc<Shared>,
}

fn reached(s: &State, level: Level) -> Lsn {
    match level {
        Level::Sequenced => s.marks.sequenced,
        Level::Written => s.marks.written,
        Level::Durable => s.marks.durable,
    }
}

/// Entries that end past `from` and begin before `lim.end_pos`, as far as their level allows.
fn visible(log: &OneLog, from: u64, end_pos: u64, upto: Lsn) -> impl Iterator<Item = &Entry> {
    let first = log
        .entries
        .range(..=from)
        .next_back()
        .filter(|(_, (_, e))| e.pos + u64::from(e.count) > from)
        .map_or(from, |(pos, _)| *pos);
    log.entries
        .range(first..)
        .map(|(_, e)| e)
        .take_while(move |(lsn, e)| *lsn <= upto && e.pos < end_pos)
        .map(|(_, e)| e)
}

fn within(entries: impl Iterator<Item = Entry>, lim: Limits) -> Vec<Entry> {
    let (mut out, mut bytes) = (Vec::new(), 0usize);
    for e in entries.take(lim.max_entries.max(1)) {
        bytes = bytes.saturating_add(e.attrs.len() + e.body.len());
        if bytes > lim.max_bytes && !out.is_empty() {
            break;
        }
        out.push(e);
    }
    out
}

impl MemReader {
    fn entries(&self, log: LogId, from: u64, lim: Limits, level: Level) -> Result<Vec<Entry>, ReadError> {
        let s = self.shared.lock();
        let upto = reached(&s, level);
        let Some(l) = s.logs.get(&log) else { return Ok(Vec::new()) };
        if from < l.start {
            return Err(ReadError::Trimmed { start: l.start });
        }
        Ok(within(visible(l, from, lim.end_pos, upto).cloned(), lim))
    }
}

fn head(e: &Entry) -> Head {
    Head {
        pos: e.pos,
        count: e.count,
        max_ts_ms: e.max_ts_ms,
        attrs: e.attrs.clone(),
        body_len: u32::try_from(e.body.len()).unwrap_or(u32::MAX),
    }
}

fn next(entries: &[Entry], from: u64) -> u64 {
    entries.last().map_or(from, |e| e.pos + u64::from(e.count))
}

impl Reader for MemReader {
    fn read(&self, log: LogId, from: u64, lim: Limits, level: Level) -> ReadOutcome {
        ReadOutcome::Ready(self.entries(log, from, lim, level).map(|entries| {
            let next = next(&entries, from);
            ReadBatch { entries, next }
        }))
    }

    fn get(&self, log: LogId, positions: &[u64]) -> ReadOutcome {
        let s = self.shared.lock();
        let Some(l) = s.logs.get(&log) else { return ReadOutcome::Ready(Ok(ReadBatch::default())) };
        let mut entries: Vec<Entry> = Vec::new();
        for p in positions.iter().filter(|p| **p >= l.start) {
            if let Some(e) = visible(l, *p, p.saturating_add(1), s.marks.sequenced).next()
                && entries.last().is_none_or(|last| last.pos != e.pos)
            {
                entries.push(e.clone());
            }
        }
        let next = next(&entries, 0);
        ReadOutcome::Ready(Ok(ReadBatch { entries, next }))
    }

    fn heads(
        &self,
        log: LogId,
        from: u64,
        lim: Limits,
        level: Level,
    ) -> BoxFuture<Result<Vec<Head>, ReadError>> {
        let heads = self.entries(log, from, lim, level).map(|es| es.iter().map(head).collect());
        Box::pin(std::future::ready(heads))
    }

    fn by_time(
        &self,
        log: LogId,
        from: u64,
        ts_ms: i64,
        level: Level,
    ) -> BoxFuture<Result<Option<Head>, ReadError>> {
        let s = self.shared.lock();
        let upto = reached(&s, level);
        let found = s.logs.get(&log).and_then(|l| {
            visible(l, from.max(l.start), u64::MAX, upto).find(|e| e.max_ts_ms >= ts_ms).map(head)
        });
        Box::pin(std::future::ready(Ok(found)))
    }

    fn bounds(&self, log: LogId) -> Bounds {
        let s = self.shared.lock();
        let Some(l) = s.logs.get(&log) else { return Bounds { max_ts_ms: -1, ..Bounds::default() } };
        Bounds {
            start: l.start,
            next: l.next,
            bytes: l.entries.values().map(|(_, e)| (e.attrs.len() + e.body.len()) as u64).sum(),
            max_ts_ms: l.entries.values().map(|(_, e)| e.max_ts_ms).max().unwrap_or(-1),
        }
    }

    fn extents(&self, log: LogId, from: u64, max: usize) -> BoxFuture<Result<Vec<Extent>, ReadError>> {
        let s = self.shared.lock();
        let mut out = Vec::new();
        if let Some(l) = s.logs.get(&log)
            && max > 0
        {
            let whole: Vec<&Entry> = l.entries.values().map(|(_, e)| e).collect();
            if let (Some(first), Some(last)) = (whole.first(), whole.last())
                && last.pos + u64::from(last.count) > from
            {
                out.push(Extent {
                    first: first.pos,
                    end: last.pos + u64::from(last.count),
                    bytes: whole.iter().map(|e| (e.attrs.len() + e.body.len()) as u64).sum(),
                    max_ts_ms: whole.iter().map(|e| e.max_ts_ms).max().unwrap_or(-1),
                });
            }
        }
        Box::pin(std::future::ready(Ok(out)))
    }

    fn close(&self) {}
}
