//! What a queue engine would say to the log and keep beside it: settlements as effects, rows that the log asks for, trims and retires.
//! Start at [`Engine`].

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use millstream_env::{Disk, Env};
use millstream_log::{
    Class, DiskLog, EntryHead, LogConfig, LogStore, Op, Opened, Permit, Replay, Row, RowBatch, StateReader,
};
use millstream_types::{Epoch, LogId, Lsn};

use crate::turns::Signal;

/// Header of an entry, of its record part, and padding.
pub const OVERHEAD_BYTES: usize = 72;
/// Effects of a lease and an acknowledgement: of one message, and of a run of them.
pub const SETTLE_ONE_BYTES: usize = 30;
pub const SETTLE_RUN_BYTES: usize = 48;
/// Room for a record of settlements and a trim, and for one of so many runs that are retired.
pub const SETTLE_RECORD_BYTES: usize = 4 << 10;
pub const RETIRE_RECORD_BYTES: usize = 32 << 10;

/// Replay that counts.
#[derive(Default)]
struct Replayed(u64);

impl Replay for Replayed {
    fn begin(&mut self, _: Arc<dyn StateReader>, _: Epoch) {}
    fn effect(&mut self, _: Lsn, _: &[u8], _: &[u8]) {}
    fn append(&mut self, _: Lsn, _: EntryHead<'_>) {
        self.0 += 1;
    }
    fn trim(&mut self, _: Lsn, _: LogId, _: u64) {}
    fn delete(&mut self, _: Lsn, _: LogId) {}
    fn record_end(&mut self, _: Lsn) {}
}

/// Dirty rows of queues, oldest first.
#[derive(Default)]
struct Rows {
    dirty: VecDeque<(u64, Lsn)>,
    /// By queue: the last record that changed a dirty row; 0 = it is clean.
    last: Vec<u64>,
}

/// An open log and the rows of the queues over it.
pub struct Engine {
    pub opened: Opened,
    pub signal: Arc<Signal>,
    pub last: Lsn,
    rows: Rows,
    effects: Vec<u8>,
}

impl Engine {
    /// Opens the log in a directory.
    pub fn open(dir: &Path, cfg: &LogConfig, wrap: impl FnOnce(Arc<dyn Disk>) -> Arc<dyn Disk>) -> Self {
        let env = Env::os(dir);
        let disk = wrap(Arc::clone(&env.disk));
        let mut replayed = Replayed::default();
        let opened = DiskLog::new(env.with_disk(disk)).open(cfg, &mut replayed).unwrap();
        let signal = Arc::new(Signal::default());
        let to = Arc::clone(&signal);
        opened.marks.on_durable(Arc::new(move |conn, lsn| {
            if conn.is_none() {
                to.set(lsn.0);
            }
        }));
        let last = opened.marks.get().durable;
        signal.set(last.0);
        Self { opened, signal, last, rows: Rows::default(), effects: vec![7; 1 << 16] }
    }

    /// Room for settlements.
    pub fn settle_room(&self, bytes: usize) -> Option<Permit> {
        self.opened.gate.try_admit(Class::Settle, bytes).ok()
    }

    /// As `settle_room`, and waits for it; `None` if the log is lost.
    pub fn wait_for_room(&mut self, bytes: usize) -> Option<Permit> {
        loop {
            let seen = self.signal.get();
            if let Some(permit) = self.settle_room(bytes) {
                return Some(permit);
            }
            if self.opened.marks.lost().is_some() {
                return None;
            }
            self.end_turn();
            if self.last.0 > seen {
                self.signal.past(seen);
            }
        }
    }

    /// One record; the rows of these queues change by it.
    pub fn record(&mut self, permit: Permit, ops: &[Op<'_>], queues: impl IntoIterator<Item = LogId>) -> Lsn {
        self.last = self.opened.sequencer.sequence(permit, ops, None);
        for LogId(queue) in queues {
            let at = queue as usize;
            if at >= self.rows.last.len() {
                self.rows.last.resize((at + 1).next_power_of_two(), 0);
            }
            if std::mem::replace(&mut self.rows.last[at], self.last.0) == 0 {
                self.rows.dirty.push_back((queue, self.last));
            }
        }
        self.last
    }

    /// Publishes one message.
    pub fn publish(&mut self, permit: Permit, log: LogId, pos: u64, body: &[Bytes]) -> Lsn {
        self.record(permit, &[Op::Append { log, pos, count: 1, max_ts_ms: 7, attrs: &[0; 16], body }], [log])
    }

    /// One record in which messages of a queue are leased and settled, with what may be forgotten now.
    pub fn settle(&mut self, permit: Permit, log: LogId, effect_bytes: usize, forget: &[Op<'_>]) -> Lsn {
        let effects = std::mem::take(&mut self.effects);
        let key = log.0.to_be_bytes();
        let effect = Op::Effect { object: &key, bytes: &effects[..effect_bytes] };
        let lsn = self.record(permit, &[&[effect], forget].concat(), [log]);
        self.effects = effects;
        lsn
    }

    /// The end of a turn: gives the log the rows it asks for.
    pub fn end_turn(&mut self) {
        if let Some(budget) = self.opened.sink.wanted() {
            let mut batch = RowBatch { applied: self.last, ..RowBatch::default() };
            let rows_max = budget.rows_max.min(budget.bytes_max / 200).max(1);
            while batch.rows.len() < rows_max
                && let Some((queue, _)) = self.rows.dirty.pop_front()
            {
                let row_lsn = Lsn(std::mem::take(&mut self.rows.last[queue as usize]));
                let key = [&b"queue/"[..], &queue.to_be_bytes()].concat();
                batch.rows.push(Row { key, row_lsn, value: Some(vec![9; 150]) });
            }
            batch.oldest_dirty = self.rows.dirty.front().map(|(_, lsn)| *lsn);
            self.opened.sink.offer(batch);
        }
        self.opened.sequencer.end_turn();
    }
}

/// A body of so many bytes that does not compress to nothing.
pub fn body(bytes: usize) -> Bytes {
    (0..bytes).map(|i| (i * 7 % 251) as u8).collect::<Vec<_>>().into()
}

/// A seed's sequence (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}
