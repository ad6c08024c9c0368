//! The log as a target of the load: appends to so many logs in turn, with the rows that an engine would keep. Start at [`Logs`].

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use millstream_env::Env;
use millstream_log::{
    Class, DiskLog, EntryHead, LogConfig, LogStore, Op, OpenReport, Opened, Replay, Row, RowBatch,
    StateReader,
};
use millstream_types::{Epoch, LogId, Lsn};

use crate::count::{Counted, Counts};
use crate::turns::{Signal, Target};

/// Header of an entry, of its record part, and padding.
const OVERHEAD_BYTES: usize = 72;

/// Replay that counts.
#[derive(Default)]
pub struct Replayed {
    pub appends: u64,
}

impl Replay for Replayed {
    fn begin(&mut self, _: Arc<dyn StateReader>, _: Epoch) {}
    fn effect(&mut self, _: Lsn, _: &[u8], _: &[u8]) {}
    fn append(&mut self, _: Lsn, _: EntryHead<'_>) {
        self.appends += 1;
    }
    fn trim(&mut self, _: Lsn, _: LogId, _: u64) {}
    fn delete(&mut self, _: Lsn, _: LogId) {}
    fn record_end(&mut self, _: Lsn) {}
}

/// One log's side of the engine.
#[derive(Clone, Default)]
struct State {
    next: u64,
    /// The record that made its row dirty first, 0 = it is clean.
    dirty: u64,
    last: u64,
}

/// An open log under load.
pub struct Logs {
    pub opened: Opened,
    pub counts: Arc<Counts>,
    states: Vec<State>,
    /// Logs with a dirty row, oldest first.
    dirty: VecDeque<usize>,
    body: [Bytes; 1],
    turn: usize,
    last: u64,
    /// Trim what is older than so many entries; 0 = keep all.
    keep: u64,
    untrimmed: u64,
    signal: Arc<Signal>,
}

/// Opens the log in a directory; gives also how many appends were replayed.
pub fn open(dir: &Path, cfg: &LogConfig) -> (Opened, Arc<Counts>, u64) {
    let env = Env::os(dir);
    let counts = Arc::new(Counts::default());
    let disk = Counted { disk: Arc::clone(&env.disk), counts: Arc::clone(&counts) };
    let mut replayed = Replayed::default();
    let opened = DiskLog::new(env.with_disk(Arc::new(disk))).open(cfg, &mut replayed).unwrap();
    (opened, counts, replayed.appends)
}

impl Logs {
    /// A new log in an empty directory. `keep_bytes`: of each log, 0 = all.
    pub fn new(dir: &Path, cfg: &LogConfig, logs: u64, record_bytes: usize, keep_bytes: u64) -> Self {
        let (opened, counts, _) = open(dir, cfg);
        let signal = Arc::new(Signal::default());
        let to = Arc::clone(&signal);
        opened.marks.on_durable(Arc::new(move |conn, lsn| {
            if conn.is_none() {
                to.set(lsn.0);
            }
        }));
        let body: Vec<u8> = (0..record_bytes).map(|i| (i * 7 % 251) as u8).collect();
        Self {
            opened,
            counts,
            states: vec![State::default(); logs as usize],
            dirty: VecDeque::new(),
            body: [body.into()],
            turn: 0,
            last: 0,
            keep: keep_bytes / record_bytes as u64,
            untrimmed: 0,
            signal,
        }
    }

    pub fn report(&self) -> &OpenReport {
        &self.opened.report
    }

    /// Entries appended so far.
    pub fn appended(&self) -> u64 {
        self.states.iter().map(|s| s.next).sum()
    }

    /// Gives the log the rows it asks for.
    fn flush(&mut self) {
        let Some(budget) = self.opened.sink.wanted() else { return };
        let mut batch = RowBatch { applied: Lsn(self.last), ..RowBatch::default() };
        let rows_max = budget.rows_max.min(budget.bytes_max / 64).max(1);
        while batch.rows.len() < rows_max
            && let Some(at) = self.dirty.pop_front()
        {
            let s = &mut self.states[at];
            s.dirty = 0;
            let value = [s.next.to_le_bytes(), s.last.to_le_bytes(), [0; 8], [0; 8]].concat();
            let key = [&b"log/"[..], &(at as u64).to_be_bytes()].concat();
            batch.rows.push(Row { key, row_lsn: Lsn(s.last), value: Some(value) });
        }
        batch.oldest_dirty = self.dirty.front().map(|at| Lsn(self.states[*at].dirty));
        self.opened.sink.offer(batch);
    }

    /// Gives the log every row, wanted or not: the load ends.
    pub fn flush_all(&mut self) {
        self.dirty.clear();
        self.opened.sink.offer(RowBatch { applied: Lsn(self.last), ..RowBatch::default() });
    }

    fn trim(&mut self) {
        if self.keep == 0 || self.untrimmed < self.keep / 4 {
            return;
        }
        let Ok(permit) = self.opened.gate.try_admit(Class::Reclaim, 1 << 10) else { return };
        self.untrimmed = 0;
        let before = self.states[0].next.saturating_sub(self.keep);
        self.last = self.opened.sequencer.sequence(permit, &[Op::Trim { log: LogId(1), before }], None).0;
    }
}

impl Target for Logs {
    fn submit(&mut self) -> Option<u64> {
        let bytes = self.body[0].len() + OVERHEAD_BYTES;
        let permit = self.opened.gate.try_admit(Class::Publish, bytes).ok()?;
        let at = self.turn;
        self.turn = (at + 1) % self.states.len();
        let s = &mut self.states[at];
        let log = LogId(at as u64 + 1);
        let op = Op::Append { log, pos: s.next, count: 1, max_ts_ms: 7, attrs: &[], body: &self.body };
        self.last = self.opened.sequencer.sequence(permit, &[op], None).0;
        (s.next, s.last) = (s.next + 1, self.last);
        if s.dirty == 0 {
            s.dirty = self.last;
            self.dirty.push_back(at);
        }
        self.untrimmed += 1;
        Some(self.last)
    }

    fn end_turn(&mut self) {
        self.trim();
        self.flush();
        self.opened.sequencer.end_turn();
    }

    fn signal(&self) -> Arc<Signal> {
        Arc::clone(&self.signal)
    }
}
