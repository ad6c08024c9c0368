//! What a log in memory consists of.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_types::{ConnId, Epoch, LogId, Lsn};

use crate::{Budget, Entry, EntryHead, Gate, LogConfig, Lost, Marks, Op, Permit, Replay, RowBatch};

/// An operation that owns its bytes.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Append(LogId, Entry),
    /// Never read again; here they may as well stay.
    Retire,
    Trim(LogId, u64),
    Delete(LogId),
    Effect(Vec<u8>, Vec<u8>),
}

impl Kept {
    pub(super) fn replay(&self, lsn: Lsn, to: &mut dyn Replay) {
        match self {
            Self::Append(log, e) => to.append(
                lsn,
                EntryHead {
                    log: *log,
                    pos: e.pos,
                    count: e.count,
                    max_ts_ms: e.max_ts_ms,
                    attrs: &e.attrs,
                    body_len: u32::try_from(e.body.len()).unwrap_or(u32::MAX),
                },
            ),
            Self::Retire => {}
            Self::Trim(log, before) => to.trim(lsn, *log, *before),
            Self::Delete(log) => to.delete(lsn, *log),
            Self::Effect(key, bytes) => to.effect(lsn, key, bytes),
        }
    }
}

/// One ordered log.
#[derive(Debug, Default)]
pub(super) struct OneLog {
    pub(super) start: u64,
    pub(super) next: u64,
    deleted: Option<Lsn>,
    pub(super) entries: BTreeMap<u64, (Lsn, Entry)>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) open: bool,
    pub(super) unclean: bool,
    used: bool,
    pub(super) epoch: Epoch,
    pub(super) marks: Marks,
    pub(super) turn_end: Lsn,
    pub(super) lost: Option<Lost>,
    pub(super) logs: BTreeMap<LogId, OneLog>,
    records: VecDeque<(Lsn, Vec<Kept>)>,
    /// Trims and deletions that are not yet durable: they show when they are.
    removals: VecDeque<(Lsn, Kept)>,
    floor: Lsn,
    permits: VecDeque<(Lsn, Permit, Option<ConnId>)>,
    gate: Option<Arc<Gate>>,
    flush_records: u64,
    // Rows: flushed, and offered but not yet durable.
    pub(super) rows: BTreeMap<Vec<u8>, (Lsn, Vec<u8>)>,
    pub(super) offered: VecDeque<(u64, RowBatch)>,
    pub(super) next_batch: u64,
    pub(super) flushed: u64,
    pub(super) wanted: Option<Budget>,
    since_flush: u64,
}

impl State {
    /// Whether publishing is stopped for want of room.
    pub(super) fn set_full(&self, full: bool) {
        if let Some(gate) = &self.gate {
            gate.set_full(full);
        }
    }

    pub(super) fn begin(&mut self, cfg: &LogConfig, gate: &Arc<Gate>) {
        self.open = true;
        self.unclean = std::mem::replace(&mut self.used, true);
        self.epoch = Epoch(self.epoch.0 + 1);
        self.lost = None;
        self.gate = Some(Arc::clone(gate));
        self.flush_records = cfg.replay_records;
        self.turn_end = self.marks.sequenced;
        self.since_flush = self.records.len() as u64;
    }

    /// Whether the opening of this epoch is the one that is open.
    pub(super) fn serves(&self, epoch: Epoch) -> bool {
        self.open && self.epoch == epoch
    }

    pub(super) fn replayable(&self) -> Vec<(Lsn, Vec<Kept>)> {
        self.records.iter().filter(|(lsn, _)| *lsn >= self.floor).cloned().collect()
    }

    pub(super) fn sequence(&mut self, permit: Permit, record: &[Op<'_>], waiter: Option<ConnId>) -> Lsn {
        let lsn = self.marks.sequenced.next();
        let mut kept = Vec::with_capacity(record.len());
        for op in record {
            keep(op, &mut kept);
        }
        for op in &kept {
            self.apply(lsn, op);
        }
        self.records.push_back((lsn, kept));
        self.permits.push_back((lsn, permit, waiter));
        self.marks.sequenced = lsn;
        self.since_flush += 1;
        if self.since_flush >= self.flush_records && self.wanted.is_none() {
            self.wanted = Some(super::sink::ALL);
        }
        lsn
    }

    fn apply(&mut self, lsn: Lsn, op: &Kept) {
        match op {
            Kept::Append(log, e) => {
                let l = self.logs.entry(*log).or_default();
                assert!(l.deleted.is_none(), "append to a deleted log");
                assert!(e.pos >= l.next && e.count > 0, "positions must grow");
                l.next = e.pos + u64::from(e.count);
                l.entries.insert(e.pos, (lsn, e.clone()));
            }
            Kept::Retire | Kept::Effect(..) => {}
            Kept::Trim(..) => self.removals.push_back((lsn, op.clone())),
            Kept::Delete(log) => {
                self.logs.entry(*log).or_default().deleted = Some(lsn);
                self.removals.push_back((lsn, op.clone()));
            }
        }
    }

    /// Moves `written` and `durable`; returns who waits for it.
    pub(super) fn commit(&mut self, lsn: Lsn) -> Vec<ConnId> {
        self.marks.written = self.marks.written.max(lsn);
        self.marks.durable = lsn;
        while self.removals.front().is_some_and(|(at, _)| *at <= lsn) {
            match self.removals.pop_front() {
                Some((_, Kept::Trim(log, before))) => self.remove_below(log, before),
                Some((_, Kept::Delete(log))) => self.remove_below(log, u64::MAX),
                _ => {}
            }
        }
        self.settle_rows();
        self.release(lsn)
    }

    fn remove_below(&mut self, log: LogId, before: u64) {
        let l = self.logs.entry(log).or_default();
        l.start = l.start.max(before);
        let start = l.start;
        l.next = l.next.max(start);
        l.entries.retain(|_, (_, e)| e.pos + u64::from(e.count) > start);
    }

    /// Gives back the room of what became durable; returns who waits for it.
    fn release(&mut self, durable: Lsn) -> Vec<ConnId> {
        let mut waiters = Vec::new();
        while self.permits.front().is_some_and(|(lsn, ..)| *lsn <= durable) {
            if let Some((_, permit, waiter)) = self.permits.pop_front() {
                drop(permit);
                waiters.extend(waiter);
            }
        }
        waiters
    }

    /// Commits the offered slices whose rows are all durable, and moves the floor.
    pub(super) fn settle_rows(&mut self) {
        while let Some((id, batch)) = self.offered.front() {
            if batch.rows.iter().any(|r| r.row_lsn > self.marks.durable) {
                break;
            }
            let id = *id;
            if let Some((_, batch)) = self.offered.pop_front() {
                for row in batch.rows {
                    match row.value {
                        Some(v) => drop(self.rows.insert(row.key, (row.row_lsn, v))),
                        None => drop(self.rows.remove(&row.key)),
                    }
                }
                let clean = batch.oldest_dirty.unwrap_or(batch.applied.next());
                self.floor = self.floor.max(clean.min(self.marks.durable.next()));
                self.flushed = id;
            }
        }
        while self.records.front().is_some_and(|(lsn, _)| *lsn < self.floor) {
            self.records.pop_front();
            self.since_flush = self.records.len() as u64;
        }
    }

    pub(super) fn crash(&mut self) {
        let durable = self.marks.durable;
        self.removals.clear();
        self.records.retain(|(lsn, _)| *lsn <= durable);
        self.offered.clear();
        self.permits.clear();
        self.wanted = None;
        self.open = false;
        self.marks = Marks { sequenced: durable, written: durable, durable };
        if let Some(gate) = self.gate.take() {
            gate.close();
        }
        // Entries of records that are gone; a deletion that was lost with its record never was.
        for log in self.logs.values_mut() {
            log.entries.retain(|_, (lsn, _)| *lsn <= durable);
            log.deleted = log.deleted.filter(|lsn| *lsn <= durable);
            let last = log.entries.values().next_back();
            log.next = last.map_or(log.start, |(_, e)| e.pos + u64::from(e.count)).max(log.start);
        }
    }

    /// The right to commit is gone: nothing is admitted any more.
    pub(super) fn lose(&mut self, lost: Lost) {
        self.lost = Some(lost);
        if let Some(gate) = &self.gate {
            gate.close();
        }
    }

    /// The end of an opening. After a loss nobody knows what became of the rest: here it is gone.
    pub(super) fn close(&mut self) {
        if self.lost.is_some() {
            return self.crash();
        }
        self.used = false;
        self.settle_rows();
        self.open = false;
        self.permits.clear();
        if let Some(gate) = self.gate.take() {
            gate.close();
        }
    }
}

fn keep(op: &Op<'_>, out: &mut Vec<Kept>) {
    let entry = |pos, count, max_ts_ms, attrs: &[u8], body: &[Bytes]| {
        let mut all = BytesMut::with_capacity(body.iter().map(Bytes::len).sum());
        for part in body {
            all.extend_from_slice(part);
        }
        Entry { pos, count, max_ts_ms, attrs: Bytes::copy_from_slice(attrs), body: all.freeze() }
    };
    match *op {
        Op::Append { log, pos, count, max_ts_ms, attrs, body } => {
            out.push(Kept::Append(log, entry(pos, count, max_ts_ms, attrs, body)));
        }
        Op::FanOut { to, max_ts_ms, attrs, body } => {
            let shared = entry(0, 1, max_ts_ms, attrs, body);
            out.extend(to.iter().map(|(log, pos)| Kept::Append(*log, Entry { pos: *pos, ..shared.clone() })));
        }
        Op::Retire { .. } => out.push(Kept::Retire),
        Op::Trim { log, before } => out.push(Kept::Trim(log, before)),
        Op::Delete { log } => out.push(Kept::Delete(log)),
        Op::Effect { object, bytes } => out.push(Kept::Effect(object.to_vec(), bytes.to_vec())),
    }
}
