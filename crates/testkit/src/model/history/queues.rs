//! The queue-shaped half of a history: messages large enough to fill files are published, fanned out, settled mostly in order,
//! dead-lettered, and their logs trimmed behind them or deleted. Now and then everything is settled, and the room must come back.

use std::collections::BTreeMap;

use millstream_log::{Row, RowBatch};
use millstream_types::LogId;

use super::History;
use crate::block_on::comes;
use crate::model::past::{Kept, Operation};

/// Queues at a time; a deleted one is followed by another.
pub(super) const QUEUES: usize = 4;
/// What may be settled next: the oldest so many.
const SETTLE_AHEAD: usize = 8;
/// How often everything is settled, as crashes may take it back.
const DRAINS_MAX: usize = 5;
/// Segment files when nothing lives: free ones kept for use again, those ready, the active one, and one in which a record begins that
/// ends in the active one.
const FILES_MAX: usize = 16 + 4 + 1 + 1;
/// Rows of files when nothing lives: one may hold the beginning of a record that ends in the active file.
const FILE_ROWS_MAX: u64 = 2;

/// Positions as runs: adjacent entries in one.
fn runs(whole: impl Iterator<Item = (u64, u32)>) -> Vec<(u64, u32)> {
    let mut runs: Vec<(u64, u32)> = Vec::new();
    for (pos, count) in whole {
        match runs.last_mut() {
            Some((first, n)) if *first + u64::from(*n) == pos => *n += count,
            _ => runs.push((pos, count)),
        }
    }
    runs
}

fn object(log: LogId) -> Vec<u8> {
    format!("queue/{:x}", log.0).into_bytes()
}

impl History<'_> {
    pub(super) fn queue(&mut self) -> LogId {
        let n = usize::try_from(self.dice.below(QUEUES as u64)).unwrap();
        self.queue_at(n)
    }

    fn queue_at(&self, n: usize) -> LogId {
        LogId(0x2000_0000_0000_0000 | (self.generations[n] * QUEUES as u64 + n as u64) << 16)
    }

    /// Entries of a log that nobody settled, and those somebody did that are still counted.
    fn unsettled(&self, log: LogId, settled: bool) -> Vec<(u64, u32)> {
        let Some(one) = self.model.logs.get(&log) else { return Vec::new() };
        let there = one.entries.values().filter(|h| h.gone.is_none() && h.retired == settled);
        there.map(|h| (h.entry.pos, h.entry.count)).collect()
    }

    fn message(&mut self, log: LogId) -> Kept {
        let len = match self.dice.below(10) {
            0 => self.dice.below(100),
            1 => self.dice.below(5_000),
            _ => 30_000 + self.dice.below(120_000),
        };
        let from = usize::try_from(self.dice.below(self.noise.len() as u64 - len)).unwrap();
        let body = self.noise.slice(from..from + usize::try_from(len).unwrap());
        let attrs = self.dice.below(20);
        let next = self.model.logs.get(&log).map_or(0, |l| l.next);
        let hole = if self.dice.once_in(10) { self.dice.below(9) } else { 0 };
        Kept {
            pos: next + hole,
            count: 1,
            max_ts_ms: i64::try_from(self.dice.below(1_000)).unwrap(),
            attrs: self.dice.bytes(attrs),
            body: vec![body],
        }
    }

    fn effect(&mut self, log: LogId) -> Operation {
        let len = 1 + self.dice.below(20);
        Operation::Effect(object(log), self.dice.bytes(len))
    }

    pub(super) fn queue_record(&mut self) -> Vec<Operation> {
        let log = self.queue();
        match self.dice.below(40) {
            0..=15 => {
                let entry = self.message(log);
                vec![Operation::Append { log, entry }, self.effect(log)]
            }
            16..=19 => self.fan_out(),
            20..=31 => self.settle(log),
            32..=33 => self.dead_letter(log),
            34..=37 => {
                let next = self.model.logs.get(&log).map_or(0, |l| l.next);
                let before = self.unsettled(log, false).first().map_or(next, |(pos, _)| *pos);
                vec![Operation::Trim(log, before)]
            }
            38 => {
                let all = runs(self.unsettled(log, false).into_iter());
                vec![Operation::Retire(log, all), self.effect(log)]
            }
            _ if self.model.logs.contains_key(&log) => {
                let n = (0..self.generations.len()).find(|n| self.queue_at(*n) == log).unwrap();
                self.generations[n] += 1;
                vec![Operation::Delete(log), self.effect(log)]
            }
            _ => Vec::new(),
        }
    }

    fn fan_out(&mut self) -> Vec<Operation> {
        let mut to: Vec<LogId> = (0..2 + self.dice.below(3)).map(|_| self.queue()).collect();
        to.sort_unstable();
        to.dedup();
        if to.len() < 2 {
            return Vec::new();
        }
        let entries: Vec<Kept> = to.iter().map(|log| self.message(*log)).collect();
        let at = to.iter().zip(&entries).map(|(log, e)| (*log, e.pos)).collect();
        let mut record = vec![Operation::FanOut { to: at, entry: entries[0].clone() }];
        for log in to {
            record.push(self.effect(log));
        }
        record
    }

    /// Some of the oldest, and now and then some again that were settled before.
    fn settle(&mut self, log: LogId) -> Vec<Operation> {
        let mut some = self.unsettled(log, false);
        some.truncate(SETTLE_AHEAD);
        some.retain(|_| !self.dice.once_in(4));
        if self.dice.once_in(3) {
            let before = self.unsettled(log, true);
            some.extend(before.into_iter().filter(|_| self.dice.once_in(2)));
            some.sort_unstable();
        }
        vec![Operation::Retire(log, runs(some.into_iter())), self.effect(log)]
    }

    /// The oldest message goes to another queue, in one record.
    fn dead_letter(&mut self, log: LogId) -> Vec<Operation> {
        let to = self.queue();
        let Some((pos, count)) = self.unsettled(log, false).first().copied().filter(|_| to != log) else {
            return Vec::new();
        };
        let old = self.model.logs[&log].entries[&pos].entry.clone();
        let entry = Kept { body: old.body, attrs: old.attrs, ..self.message(to) };
        let retire = Operation::Retire(log, vec![(pos, count)]);
        vec![retire, self.effect(log), Operation::Append { log: to, entry }, self.effect(to)]
    }

    /// Settles or trims everything there is.
    fn settle_all(&mut self) {
        // All of the model's: a crash may have taken back a deletion, and then the queue has two.
        let logs: Vec<LogId> = self.model.logs.keys().copied().collect();
        for log in logs {
            let all = runs(self.unsettled(log, false).into_iter());
            let Some(next) = self.model.logs.get(&log).filter(|l| !l.deleted).map(|l| l.next) else {
                continue;
            };
            if self.dice.once_in(2) {
                self.put(vec![Operation::Trim(log, next)]);
            } else if !all.is_empty() {
                self.put(vec![Operation::Retire(log, all)]);
            }
        }
        self.wait();
    }

    fn anything_lives(&self) -> bool {
        self.model.logs.keys().any(|log| !self.unsettled(*log, false).is_empty())
    }

    /// Settles everything, writes every row, and waits until what the log holds is no more than it needs for nothing.
    pub(super) fn drain(&mut self) {
        for _ in 0..DRAINS_MAX {
            self.settle_all();
            // A crash on the way may have taken it back.
            if !self.anything_lives() {
                break;
            }
        }
        if self.anything_lives() || self.under.space_held().is_none() {
            return;
        }
        let rows = std::mem::take(&mut self.dirty).into_keys().map(|key| {
            let (row_lsn, state) = self.model.objects[&key];
            Row { key, row_lsn, value: Some(state.to_le_bytes().to_vec()) }
        });
        let batch = RowBatch { rows: rows.collect(), oldest_dirty: None, applied: self.model.last() };
        self.opened().sink.offer(batch);
        let room_is_back =
            comes(|| self.troubled() || self.under.space_held().is_none_or(|held| held.is_of_nothing()));
        assert!(room_is_back, "nothing lives, and this is held: {:?}", self.under.space_held());
        self.tally.drained += u64::from(!self.troubled());
        self.notice_loss();
    }
}

/// What a machine's disk and state store hold of a log's.
#[derive(Clone, Debug, Default)]
pub struct SpaceHeld {
    /// Segment files, free ones too.
    pub files: usize,
    /// Rows by the first letter of their keys.
    pub rows: BTreeMap<u8, u64>,
}

impl SpaceHeld {
    fn is_of_nothing(&self) -> bool {
        self.files <= FILES_MAX && self.rows(b'F') <= FILE_ROWS_MAX && self.rows(b'X') == 0
    }

    fn rows(&self, letter: u8) -> u64 {
        self.rows.get(&letter).copied().unwrap_or(0)
    }
}
