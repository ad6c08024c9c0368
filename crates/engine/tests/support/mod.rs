//! A log and a state store in memory, as far as the engine needs them.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]
#![allow(dead_code, clippy::too_many_arguments)]

pub mod model;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::op::{Answer, Commits, Draft, Effects, Now, Op, Reply, Ticket};
use millstream_engine::{Engine, EngineConfig};
use millstream_log::{
    BatchId, Budget, Class, EntryHead, Gate, Head, Op as LogOp, Permit, Replay, Row, RowBatch, StateReader,
    StoreError,
};
use millstream_types::{ConnId, Epoch, LogId, Lsn, ObjectId};

/// An operation of a record, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    Append { log: LogId, pos: u64, count: u32, max_ts_ms: i64, attrs: Vec<u8>, body: Vec<u8> },
    Retire { log: LogId, runs: Vec<(u64, u32)> },
    Trim { log: LogId, before: u64 },
    Delete { log: LogId },
    Effect { object: Vec<u8>, bytes: Vec<u8> },
}

/// All records; the LSN is the index plus one.
pub struct FakeLog {
    pub records: Vec<Vec<Logged>>,
    pub gate: Gate,
    /// Whether records of the engine's own making get room.
    pub room: bool,
    nexts: BTreeMap<LogId, u64>,
    /// What readers find: nothing that was trimmed or retired.
    heads: BTreeMap<LogId, BTreeMap<u64, Head>>,
    /// What is in no record, since the last crash.
    pub kept: Vec<Logged>,
}

impl Default for FakeLog {
    fn default() -> Self {
        let (nexts, heads, kept) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { records: Vec::new(), gate: Gate::new(16 << 20), room: true, nexts, heads, kept }
    }
}

impl FakeLog {
    pub fn last(&self) -> Lsn {
        Lsn(self.records.len() as u64)
    }
    pub fn permit(&self) -> Permit {
        self.gate.try_admit(Class::Settle, 1 << 16).unwrap()
    }
    fn append(
        &mut self,
        record: &mut Vec<Logged>,
        log: LogId,
        pos: u64,
        count: u32,
        max_ts_ms: i64,
        attrs: &[u8],
        body: Vec<u8>,
    ) {
        let next = self.nexts.entry(log).or_insert(0);
        assert!(pos >= *next && count > 0, "positions must grow");
        *next = pos + u64::from(count);
        record.push(Logged::Append { log, pos, count, max_ts_ms, attrs: attrs.to_vec(), body });
    }
    /// Heads as a reader gives them.
    pub fn heads(&self, log: LogId, from: u64, end: u64, max: usize) -> Vec<Head> {
        let all = self.heads.get(&log).into_iter().flat_map(|l| l.range(from..end));
        all.take(max).map(|(_, h)| h.clone()).collect()
    }
    /// Entries as (position, count, when they were appended), below `end`.
    pub fn entries(&self, log: LogId, end: u64) -> Vec<(u64, u32, u64)> {
        let all = self.heads.get(&log).into_iter().flat_map(|l| l.range(..end));
        let when = |h: &Head| match millstream_engine::attrs::decode(&h.attrs).unwrap() {
            millstream_engine::attrs::Attrs::Single(a) => a.enqueued_ms,
            millstream_engine::attrs::Attrs::Batch { append_ms, .. } => append_ms,
        };
        all.map(|(_, h)| (h.pos, h.count, when(h))).collect()
    }
    fn follow(&mut self, record: &[Logged]) {
        for op in record {
            match op {
                Logged::Append { log, pos, count, max_ts_ms, attrs, body } => {
                    let (attrs, body_len) = (Bytes::copy_from_slice(attrs), body.len() as u32);
                    let head = Head { pos: *pos, count: *count, max_ts_ms: *max_ts_ms, attrs, body_len };
                    self.heads.entry(*log).or_default().insert(*pos, head);
                }
                Logged::Trim { log, before } => {
                    let all = self.heads.entry(*log).or_default();
                    // An entry that reaches over it stays.
                    all.retain(|_, h| h.pos + u64::from(h.count) > *before);
                }
                Logged::Retire { log, runs } => {
                    let all = self.heads.entry(*log).or_default();
                    for pos in runs.iter().flat_map(|r| r.0..r.0 + u64::from(r.1)) {
                        all.remove(&pos);
                    }
                }
                Logged::Delete { log } => drop(self.heads.remove(log)),
                Logged::Effect { .. } => {}
            }
        }
    }
    /// What a stop leaves: nothing of transient queues.
    pub fn stop(&mut self) {
        self.nexts.retain(|log, _| !log.object().is_transient());
        self.heads.retain(|log, _| !log.object().is_transient());
        self.kept.clear();
    }
    /// What a crash leaves.
    pub fn cut(&mut self, durable: Lsn) {
        self.records.truncate(durable.0 as usize);
        self.nexts.clear();
        for op in self.records.iter().flatten() {
            if let Logged::Append { log, pos, count, .. } = op {
                self.nexts.insert(*log, pos + u64::from(*count));
            }
        }
        self.heads.clear();
        self.kept.clear();
        let records = std::mem::take(&mut self.records);
        records.iter().for_each(|r| self.follow(r));
        self.records = records;
    }
}

impl FakeLog {
    fn own(&mut self, ops: &[LogOp<'_>]) -> Vec<Logged> {
        let mut record = Vec::new();
        for op in ops {
            match *op {
                LogOp::Append { log, pos, count, max_ts_ms, attrs, body } => {
                    self.append(&mut record, log, pos, count, max_ts_ms, attrs, body.concat());
                }
                LogOp::FanOut { to, max_ts_ms, attrs, body } => {
                    assert!((2..=256).contains(&to.len()) && to.is_sorted());
                    for &(log, pos) in to {
                        self.append(&mut record, log, pos, 1, max_ts_ms, attrs, body.concat());
                    }
                }
                LogOp::Retire { log, runs } => record.push(Logged::Retire { log, runs: runs.to_vec() }),
                LogOp::Trim { log, before } => record.push(Logged::Trim { log, before }),
                LogOp::Delete { log } => record.push(Logged::Delete { log }),
                LogOp::Effect { object, bytes } => {
                    record.push(Logged::Effect { object: object.to_vec(), bytes: bytes.to_vec() });
                }
            }
        }
        self.follow(&record);
        record
    }
}

/// The object that an operation is about, where its name tells.
fn object_of(op: &Logged) -> Option<ObjectId> {
    match op {
        Logged::Append { log, .. }
        | Logged::Retire { log, .. }
        | Logged::Trim { log, .. }
        | Logged::Delete { log } => Some(log.object()),
        Logged::Effect { object, .. } if matches!(object[0], 0x30..=0x33) => {
            Some(ObjectId(u64::from_be_bytes(object[1..9].try_into().unwrap())))
        }
        Logged::Effect { .. } => None,
    }
}

impl Commits for FakeLog {
    fn commit(&mut self, _permit: Permit, ops: &[LogOp<'_>], _waiter: Option<ConnId>) -> Lsn {
        assert!(!ops.is_empty(), "an empty record");
        let record = self.own(ops);
        let transient = record.iter().find(|op| object_of(op).is_some_and(ObjectId::is_transient));
        assert_eq!(transient, None, "a transient queue is in the log");
        self.records.push(record);
        self.last()
    }
    fn keep(&mut self, ops: &[LogOp<'_>]) {
        let kept = self.own(ops);
        assert!(kept.iter().all(|op| object_of(op).is_none_or(ObjectId::is_transient)), "{kept:?}");
        self.kept.extend(kept);
    }
    fn spare(&mut self, bytes: usize) -> Option<Permit> {
        self.room.then(|| self.gate.try_admit(Class::Settle, bytes).unwrap())
    }
}

/// Rows as flushed, and batches on their way.
#[derive(Clone, Default)]
pub struct FakeStore {
    rows: BTreeMap<Vec<u8>, (Lsn, Vec<u8>)>,
    waiting: Vec<(BatchId, RowBatch)>,
    last_id: u64,
    pub floor: u64,
}

struct Rows(BTreeMap<Vec<u8>, (Lsn, Vec<u8>)>);

impl StateReader for Rows {
    fn get(&self, key: &[u8]) -> Result<Option<(Lsn, Vec<u8>)>, StoreError> {
        Ok(self.0.get(key).cloned())
    }
    fn scan(&self, prefix: &[u8], from: &[u8], max: usize) -> Result<Vec<Row>, StoreError> {
        let rows = self.0.range(from.to_vec()..).take_while(|(k, _)| k.starts_with(prefix)).take(max);
        Ok(rows.map(|(k, (l, v))| Row { key: k.clone(), row_lsn: *l, value: Some(v.clone()) }).collect())
    }
}

impl FakeStore {
    /// An empty one: replay begins at the first record.
    pub fn new() -> Self {
        Self { floor: 1, ..Self::default() }
    }
    pub fn offer(&mut self, engine: &mut Engine, rows_max: usize) -> usize {
        let batch = engine.next_dirty(Budget { rows_max, bytes_max: 1 << 20 });
        assert!(batch.rows.iter().all(|r| r.row_lsn <= batch.applied));
        let n = batch.rows.len();
        self.last_id += 1;
        let id = BatchId(self.last_id);
        engine.offered(id);
        self.waiting.push((id, batch));
        n
    }
    /// Commits at most `max` batches that may be, in order.
    pub fn commit(&mut self, durable: Lsn, max: usize) -> BatchId {
        let mut last = BatchId(0);
        for _ in 0..max {
            let Some((id, batch)) = self.waiting.first() else { break };
            if batch.rows.iter().any(|r| r.row_lsn > durable) {
                break;
            }
            self.floor = batch.oldest_dirty.map_or(batch.applied.0 + 1, |l| l.0).min(durable.0 + 1);
            last = *id;
            let (_, batch) = self.waiting.remove(0);
            for row in batch.rows {
                match row.value {
                    Some(v) => drop(self.rows.insert(row.key, (row.row_lsn, v))),
                    None => drop(self.rows.remove(&row.key)),
                }
            }
        }
        last
    }
    pub fn crash(&mut self) {
        self.waiting.clear();
    }
    /// All rows as they are once `engine` has given everything.
    pub fn all(mut self, mut engine: Engine, durable: Lsn) -> BTreeMap<Vec<u8>, (Lsn, Vec<u8>)> {
        while self.offer(&mut engine, 7) > 0 {}
        self.commit(durable, usize::MAX);
        self.rows
    }
    /// Puts a row there that no record made.
    pub fn seed(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.rows.insert(key, (Lsn(0), value));
    }
    pub fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.rows.keys()
    }
    pub fn reader(&self) -> Arc<dyn StateReader> {
        Arc::new(Rows(self.rows.clone()))
    }
}

/// Replays everything from `floor` into a new engine.
pub fn open(cfg: EngineConfig, store: &FakeStore, log: &FakeLog, floor: u64, epoch: u64, now: Now) -> Engine {
    open_with(cfg, store, log, floor, epoch, now, false, None)
}

/// As [`open`], perhaps with two lies: that the last stop was clean, and that one effect in so many was never there.
pub fn open_with(
    cfg: EngineConfig,
    store: &FakeStore,
    log: &FakeLog,
    floor: u64,
    epoch: u64,
    now: Now,
    clean: bool,
    forgets: Option<u64>,
) -> Engine {
    let mut effects = 0_u64;
    let mut e = Engine::new(cfg);
    e.begin(store.reader(), Epoch(epoch));
    for (i, record) in log.records.iter().enumerate() {
        let lsn = Lsn(i as u64 + 1);
        if lsn.0 < floor {
            continue;
        }
        for op in record {
            match op {
                Logged::Append { log, pos, count, max_ts_ms, attrs, body } => {
                    let body_len = body.len() as u32;
                    let (log, pos, count, max_ts_ms) = (*log, *pos, *count, *max_ts_ms);
                    e.append(lsn, EntryHead { log, pos, count, max_ts_ms, attrs, body_len });
                }
                Logged::Retire { .. } => {}
                Logged::Trim { log, before } => e.trim(lsn, *log, *before),
                Logged::Delete { log } => e.delete(lsn, *log),
                Logged::Effect { object, bytes } => {
                    effects += 1;
                    if forgets.is_none_or(|n| !effects.is_multiple_of(n)) {
                        e.effect(lsn, object, bytes);
                    }
                }
            }
        }
        e.record_end(lsn);
    }
    if clean {
        e.stopped_cleanly();
    }
    e.serve(now).unwrap();
    e.durable(log.last());
    e
}

/// As [`open`], after a clean stop.
pub fn open_clean(cfg: EngineConfig, store: &FakeStore, log: &FakeLog, epoch: u64, now: Now) -> Engine {
    let mut e = Engine::new(cfg);
    e.begin(store.reader(), Epoch(epoch));
    assert_eq!(store.floor, log.last().0 + 1, "everything was flushed");
    e.stopped_cleanly();
    e.serve(now).unwrap();
    e.durable(log.last());
    e
}

/// Gives one operation and takes its answer.
pub fn ask(engine: &mut Engine, log: &mut FakeLog, now: Now, op: Op) -> Answer {
    let mut out = Effects::default();
    let reads = matches!(op, Op::DescribeProducers(_));
    let permit = (!reads).then(|| log.permit());
    engine.input(now, Draft { session: ConnId(7), ticket: Ticket(3), op, permit }, log, &mut out);
    assert_eq!(out.answers.len(), 1);
    let answer = out.answers.pop().unwrap();
    assert_eq!((answer.session, answer.ticket), (ConnId(7), Ticket(3)));
    assert_eq!(out.catalogue.is_some(), matches!(&answer.reply, Reply::Catalogue(Ok(d)) if !d.is_empty()));
    answer
}

pub fn body(n: u8) -> Vec<Bytes> {
    vec![Bytes::from(vec![n; 3]), Bytes::from_static(b"!")]
}
