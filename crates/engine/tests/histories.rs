//! Random histories with crashes: the engine answers and shows the same as a naive model, whatever was flushed and lost.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod support;

use std::collections::BTreeMap;

use millstream_engine::catalogue::Change;
use millstream_engine::op::{
    AppendError, AppendItem, AppendKind, BatchMeta, Effects, Now, Op, Reply, Transact, TransactError,
};
use millstream_engine::{Engine, EngineConfig};
use millstream_types::{LogId, Lsn, Namespace};
use proptest::collection::vec;
use proptest::prelude::*;
use support::model::Model;
use support::{FakeLog, FakeStore, ask, body, open};

const IDLE_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
enum Seq {
    Next,
    Retry(u8),
    Raw(i32),
}

#[derive(Clone, Copy, Debug)]
struct Item {
    topic: u8,
    part: u8,
    count: u32,
    /// Producer, epoch, sequence; none: one message.
    batch: Option<(i64, i16, Seq)>,
}

#[derive(Clone, Debug)]
enum Do {
    Change(Vec<(u8, u8, u8)>),
    Append(Vec<Item>),
    Transact(Vec<Item>),
    Trim { topic: u8, part: u8, to: u8 },
    InitProducer,
    Describe { topic: u8, part: u8 },
    Tick { ms: u64, room: bool },
    Durable(u8),
    Offer(usize),
    Flush(usize),
    Crash { keep: u8, floor: u8, flush: usize },
}

fn seq() -> impl Strategy<Value = Seq> {
    prop_oneof![
        6 => Just(Seq::Next),
        3 => (0..7u8).prop_map(Seq::Retry),
        2 => prop_oneof![Just(0), Just(1), Just(i32::MAX - 1), Just(i32::MAX)].prop_map(Seq::Raw),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let batch = prop_oneof![
        1 => Just(None),
        5 => (-1..3i64, prop_oneof![8 => Just(0i16), 1 => Just(1)], seq()).prop_map(Some),
    ];
    (0..2u8, 0..2u8, 1..4u32, batch).prop_map(|(topic, part, count, batch)| Item {
        topic,
        part,
        count,
        batch,
    })
}

fn step() -> impl Strategy<Value = Do> {
    prop_oneof![
        3 => vec((0..4u8, 0..3u8, 1..4u8), 1..3).prop_map(Do::Change),
        14 => vec(item(), 1..4).prop_map(Do::Append),
        2 => vec(item(), 0..3).prop_map(Do::Transact),
        2 => (0..2u8, 0..2u8, any::<u8>()).prop_map(|(topic, part, to)| Do::Trim { topic, part, to }),
        1 => Just(Do::InitProducer),
        2 => (0..2u8, 0..2u8).prop_map(|(topic, part)| Do::Describe { topic, part }),
        2 => (0..700u64, any::<bool>()).prop_map(|(ms, room)| Do::Tick { ms, room }),
        4 => any::<u8>().prop_map(Do::Durable),
        3 => (1..6usize).prop_map(Do::Offer),
        3 => (1..4usize).prop_map(Do::Flush),
        2 => (any::<u8>(), any::<u8>(), 0..3usize).prop_map(|(keep, floor, flush)| Do::Crash { keep, floor, flush }),
    ]
}

struct Run {
    cfg: EngineConfig,
    engine: Engine,
    log: FakeLog,
    store: FakeStore,
    /// After each LSN.
    models: Vec<Model>,
    durable: Lsn,
    now: Now,
    epoch: u64,
    uuids: u8,
}

/// A number from 0 to `max` inclusive.
fn part_of(part: u8, max: u64) -> u64 {
    u64::from(part) * (max + 1) / 256
}

impl Run {
    fn new() -> Self {
        let cfg = EngineConfig { producer_expiry_ms: IDLE_MS, ..EngineConfig::default() };
        let (log, store, now) =
            (FakeLog::default(), FakeStore::default(), Now { wall_ms: 5_000, mono_ms: 10 });
        let engine = open(cfg, &store, &log, 1, 1, now);
        let models = vec![Model { leader_epoch: 1, ..Model::default() }];
        Self { cfg, engine, log, store, models, durable: Lsn(0), now, epoch: 1, uuids: 0 }
    }

    fn model(&self) -> Model {
        self.models.last().unwrap().clone()
    }

    fn log_of(&self, topic: u8, part: u8) -> LogId {
        let model = self.models.last().unwrap();
        let topic = model.topics.iter().find(|t| t.name == format!("t{topic}"));
        topic.and_then(|t| t.log(u32::from(part))).unwrap_or(LogId(part.into()))
    }

    /// The engine's answer is the model's, and waits for what it must. `written`: whether a record was made.
    fn ask(&mut self, op: Op, model: Model, written: bool) -> Reply {
        let before = self.log.last();
        let answer = ask(&mut self.engine, &mut self.log, self.now, op);
        self.wrote(before, model, written);
        assert_eq!(answer.wait.max(self.durable), self.log.last().max(self.durable));
        answer.reply
    }

    fn wrote(&mut self, before: Lsn, model: Model, written: bool) {
        assert_eq!(self.log.last().0 - before.0, u64::from(written), "records made");
        if written {
            self.models.push(model);
        } else {
            assert_eq!(&model, self.models.last().unwrap());
        }
    }

    fn item(&self, model: &Model, i: Item) -> AppendItem {
        let part = self.log_of(i.topic, i.part);
        let (kind, count) = match i.batch {
            None => (AppendKind::Single { envelope_len: 2 }, 1),
            Some((producer, epoch, seq)) => {
                let mut records = i.count;
                let first_seq = match seq {
                    Seq::Raw(n) => n,
                    Seq::Next => model.expected(part, producer),
                    Seq::Retry(n) => {
                        let known = model.parts.get(&part).and_then(|p| p.producers.get(&producer));
                        let batches = known.map_or(&[][..], |p| &p.batches);
                        match batches.iter().rev().nth(n.into()) {
                            None => 0,
                            Some(b) => {
                                records = (i64::from(b.1) - i64::from(b.0)).rem_euclid(1 << 31) as u32 + 1;
                                b.0
                            }
                        }
                    }
                };
                (AppendKind::Batch(BatchMeta { producer, epoch, first_seq, records, flags: 0 }), records)
            }
        };
        AppendItem { part, kind, count, max_ts_ms: -1, body: body(i.topic) }
    }

    fn start(&self, log: LogId) -> u64 {
        self.models[self.durable.0 as usize].parts.get(&log).map_or(0, |p| p.start)
    }

    fn changes(&mut self, wanted: &[(u8, u8, u8)]) -> Vec<Change> {
        let model = self.model();
        wanted
            .iter()
            .map(|&(what, topic, n)| {
                let name = format!("t{topic}");
                let known = model.topics.iter().find(|t| t.name == name);
                let uuid = known.map_or([255; 16], |t| t.uuid);
                match what {
                    0 => {
                        self.uuids += 1;
                        let (ns, uuid) = (Namespace::DEFAULT, [self.uuids; 16]);
                        Change::CreateTopic {
                            ns,
                            name,
                            uuid,
                            partitions: n.into(),
                            settings: BTreeMap::new(),
                        }
                    }
                    1 => Change::DeleteTopic { uuid },
                    2 => Change::AddPartitions { uuid, total: n.into() },
                    _ => {
                        let settings = BTreeMap::from([("retention.ms".to_owned(), n.to_string())]);
                        let expect = known.map_or(0, |t| t.version) + u32::from(n == 1);
                        Change::AlterTopic { uuid, expect, settings }
                    }
                }
            })
            .collect()
    }

    fn step(&mut self, what: &Do) {
        self.now = Now { wall_ms: self.now.wall_ms + 1, mono_ms: self.now.mono_ms + 1 };
        let mut model = self.model();
        let ms = self.now.wall_ms;
        match what {
            Do::Change(wanted) => {
                let changes = self.changes(wanted);
                let expected = model.change(&changes, ms);
                let Reply::Catalogue(got) = self.ask(Op::Catalogue(changes), model, expected.is_ok()) else {
                    panic!("another reply")
                };
                assert_eq!(got, expected);
            }
            Do::Append(items) => {
                let mut all = Vec::new();
                let mut expected = Vec::new();
                for i in items {
                    let item = self.item(&model, *i);
                    expected.push(model.append(&item, ms, self.start(item.part)));
                    all.push(item);
                }
                let written = expected.iter().any(|r| r.as_ref().is_ok_and(|a| !a.duplicate));
                let Reply::Append(got) = self.ask(Op::Append(all), model, written) else {
                    panic!("another reply")
                };
                assert_eq!(got, expected);
            }
            Do::Transact(items) => {
                let mut tx = Transact::default();
                let mut expected = Ok(Vec::new());
                for (index, i) in items.iter().enumerate() {
                    let item = self.item(&model, *i);
                    let result = model.append(&item, ms, self.start(item.part));
                    tx.appends.push(item);
                    match (&mut expected, result) {
                        (Ok(all), Ok(a)) => all.push(a),
                        (Ok(_), Err(error)) => expected = Err(TransactError::Append { index, error }),
                        (Err(_), _) => {}
                    }
                }
                let written = expected.as_ref().is_ok_and(|all| all.iter().any(|a| !a.duplicate));
                let model = if written { model } else { self.model() };
                let Reply::Transact(got) = self.ask(Op::Transact(Box::new(tx)), model, written) else {
                    panic!("another reply")
                };
                assert_eq!(
                    got.map(|done| done.appended),
                    expected.map(|all| all.into_iter().map(Ok).collect())
                );
            }
            Do::Trim { topic, part, to } => {
                let part = self.log_of(*topic, *part);
                let end = self.models[self.durable.0 as usize].parts.get(&part).map_or(0, |p| p.next);
                let before = part_of(*to, end + 1);
                let (expected, written) = match model.parts.get_mut(&part) {
                    None => (Err(AppendError::Gone), false),
                    Some(_) if before > end => (Err(AppendError::PastEnd { end }), false),
                    Some(p) => {
                        let written = before > p.start;
                        p.start = p.start.max(before);
                        (Ok(p.start), written)
                    }
                };
                let Reply::Trim(got) = self.ask(Op::Trim { part, before }, model, written) else {
                    panic!("another reply")
                };
                assert_eq!(got, expected);
            }
            Do::InitProducer => {
                let expected = model.producers;
                model.producers += 1;
                let reply = self.ask(Op::InitProducer, model, true);
                assert!(matches!(reply, Reply::Producer { id, epoch: 0 } if id == expected), "{reply:?}");
            }
            Do::Describe { topic, part } => self.describe(self.log_of(*topic, *part)),
            Do::Tick { ms, room } => {
                self.now = Now { wall_ms: self.now.wall_ms + ms, mono_ms: self.now.mono_ms + ms };
                self.log.room = *room;
                let forgot = model.forget(self.now.wall_ms, IDLE_MS) && *room;
                let before = self.log.last();
                let due = self.engine.next_timer().is_some_and(|t| t <= self.now.mono_ms);
                self.engine.tick(self.now, &mut self.log, &mut Effects::default());
                let did = self.log.last() > before;
                assert!(!did || forgot, "somebody was forgotten who was not idle");
                assert!(due || !did, "a timer came unannounced");
                let model = if did { model } else { self.model() };
                self.wrote(before, model, did);
            }
            Do::Durable(n) => {
                self.durable.0 += part_of(*n, self.log.last().0 - self.durable.0);
                self.engine.durable(self.durable);
            }
            Do::Offer(n) => drop(self.store.offer(&mut self.engine, *n)),
            Do::Flush(n) => {
                let id = self.store.commit(self.durable, *n);
                self.engine.flushed(id);
            }
            Do::Crash { keep, floor, flush } => self.crash(*keep, *floor, *flush),
        }
        self.check();
    }

    fn describe(&mut self, log: LogId) {
        let model = self.model();
        let expected = model.describe(log);
        let Reply::Producers(got) = self.ask(Op::DescribeProducers(log), model, false) else {
            panic!("another reply")
        };
        assert_eq!(got, expected);
    }

    fn crash(&mut self, keep: u8, floor: u8, flush: usize) {
        self.durable.0 += part_of(keep, self.log.last().0 - self.durable.0);
        self.store.commit(self.durable, flush);
        self.store.crash();
        self.log.cut(self.durable);
        self.models.truncate(self.durable.0 as usize + 1);
        self.epoch += 1;
        for model in &mut self.models {
            model.leader_epoch = self.epoch as u32;
        }
        // The floor in the store, or any below it.
        let floor = part_of(floor, self.store.floor);
        self.engine = open(self.cfg, &self.store, &self.log, floor, self.epoch, self.now);
        // Rows and the records since are as good as all records.
        let again = |store: &FakeStore, floor| {
            let engine = open(self.cfg, store, &self.log, floor, self.epoch, self.now);
            store.clone().all(engine, self.durable)
        };
        assert_eq!(again(&self.store, floor), again(&FakeStore::default(), 1));
        for log in self.model().parts.keys() {
            self.describe(*log);
        }
    }

    /// What sessions see is the model: the catalogue as applied, the partitions as durable.
    fn check(&self) {
        let (model, durable) = (self.models.last().unwrap(), &self.models[self.durable.0 as usize]);
        let snapshot = self.engine.snapshot();
        let mut defs: Vec<_> = model.topics.clone();
        defs.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(snapshot.by_name.values().map(|t| t.def.clone()).collect::<Vec<_>>(), defs);
        assert_eq!((snapshot.by_uuid.len(), snapshot.by_log.len()), (defs.len(), model.parts.len()));
        for topic in snapshot.by_name.values() {
            assert_eq!(snapshot.by_uuid[&topic.def.uuid].def, topic.def);
            for (i, view) in topic.partitions.iter().enumerate() {
                assert_eq!(Some(view.log), topic.def.log(i as u32));
                assert_eq!(snapshot.by_log[&view.log].1 as usize, i);
                let part = durable.parts.get(&view.log).cloned().unwrap_or_default();
                assert_eq!((view.start(), view.visible_end()), (part.start, part.next));
                assert!(!view.is_gone());
                assert_eq!(view.leader_epoch(), model.leader_epoch);
                for offset in part.start..part.next {
                    assert_eq!(view.epoch_of(offset), Some(part.epochs[offset as usize]));
                }
                for epoch in part.epochs[part.start as usize..].iter().copied() {
                    let end = part.epochs.iter().rposition(|e| *e == epoch).unwrap() as u64 + 1;
                    assert_eq!(view.epoch_end(epoch), Some((epoch, end)));
                }
            }
        }
    }

    /// Once all is flushed, the store has no row of anything removed, and gives everything back without a log.
    fn end(mut self) {
        self.durable = self.log.last();
        self.engine.durable(self.durable);
        while self.store.offer(&mut self.engine, 3) > 0 {}
        self.store.commit(self.durable, usize::MAX);
        assert_eq!(self.store.floor, self.durable.0 + 1);
        let model = self.model();
        for key in self.store.keys().filter(|k| matches!(k[0], 0x10 | 0x11)) {
            let log = LogId(u64::from_be_bytes(key[1..9].try_into().unwrap()));
            assert!(model.parts.contains_key(&log), "a row of a partition that is gone");
        }
        self.epoch += 1;
        for model in &mut self.models {
            model.leader_epoch = self.epoch as u32;
        }
        self.engine = open(self.cfg, &self.store, &self.log, self.store.floor, self.epoch, self.now);
        for log in model.parts.keys() {
            self.describe(*log);
        }
        self.check();
    }
}

fn begin() -> Do {
    Do::Change(vec![(0, 0, 2), (0, 1, 1)])
}

proptest! {
    #[test]
    fn a_history_with_crashes_is_the_models(steps in vec(step(), 1..70)) {
        let mut run = Run::new();
        run.step(&begin());
        for s in &steps {
            run.step(s);
        }
        run.end();
    }

    #[test]
    fn the_same_inputs_make_the_same_records(steps in vec(step(), 1..40)) {
        let go = || {
            let mut run = Run::new();
            run.step(&begin());
            steps.iter().for_each(|s| run.step(s));
            run.log.records
        };
        prop_assert_eq!(go(), go());
    }
}
