//! The engine's rules, one by one, with numbers one can check by hand.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use millstream_engine::attrs::{self, Attrs};
use millstream_engine::catalogue::{CatalogueError, Change, TopicDef};
use millstream_engine::op::{
    AppendError, AppendItem, AppendKind, Appended, BatchMeta, Effects, Now, Op, Reply, Transact,
    TransactError,
};
use millstream_engine::partition::{PartitionView, Waiter};
use millstream_engine::{Engine, EngineConfig};
use millstream_types::{LogId, Lsn, Namespace};
use support::{FakeLog, FakeStore, Logged, ask, body, open};

struct Bench {
    engine: Engine,
    log: FakeLog,
    store: FakeStore,
    now: Now,
    epoch: u64,
}

impl Bench {
    fn new() -> Self {
        let (log, store) = (FakeLog::default(), FakeStore::default());
        let now = Now { wall_ms: 1_000_000, mono_ms: 50 };
        let engine = open(EngineConfig::default(), &store, &log, 1, 1, now);
        Self { engine, log, store, now, epoch: 1 }
    }
    fn ask(&mut self, op: Op) -> Reply {
        ask(&mut self.engine, &mut self.log, self.now, op).reply
    }
    fn durable(&mut self) {
        self.engine.durable(self.log.last());
    }
    fn reopen(&mut self) {
        self.epoch += 1;
        self.engine = open(EngineConfig::default(), &self.store, &self.log, 1, self.epoch, self.now);
    }
    fn change(&mut self, changes: Vec<Change>) -> Result<Vec<TopicDef>, CatalogueError> {
        match self.ask(Op::Catalogue(changes)) {
            Reply::Catalogue(r) => r,
            other => panic!("{other:?}"),
        }
    }
    fn topic(&mut self, name: &str, n: u8, partitions: u32) -> LogId {
        let def = self.change(vec![create(name, n, partitions)]).unwrap().remove(0);
        def.log(0).unwrap()
    }
    fn append(&mut self, items: Vec<AppendItem>) -> Vec<Result<Appended, AppendError>> {
        match self.ask(Op::Append(items)) {
            Reply::Append(r) => r,
            other => panic!("{other:?}"),
        }
    }
    fn one(&mut self, item: AppendItem) -> Result<(u64, bool), AppendError> {
        self.append(vec![item]).remove(0).map(|a| (a.base, a.duplicate))
    }
    fn view(&self, log: LogId) -> Arc<PartitionView> {
        let (topic, i) = self.engine.snapshot().by_log[&log].clone();
        Arc::clone(&topic.partitions[i as usize])
    }
}

fn create(name: &str, n: u8, partitions: u32) -> Change {
    let (ns, name) = (Namespace::DEFAULT, name.to_owned());
    Change::CreateTopic { ns, name, uuid: [n; 16], partitions, settings: BTreeMap::new() }
}

fn batch(part: LogId, producer: i64, epoch: i16, first_seq: i32, records: u32) -> AppendItem {
    let meta = BatchMeta { producer, epoch, first_seq, records, flags: 3 };
    AppendItem { part, kind: AppendKind::Batch(meta), count: records, max_ts_ms: 77, body: body(1) }
}

fn single(part: LogId) -> AppendItem {
    let kind = AppendKind::Single { envelope_len: 2 };
    AppendItem { part, kind, count: 1, max_ts_ms: -1, body: body(2) }
}

#[test]
fn an_append_says_all_that_replay_needs() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    assert_eq!(b.one(batch(p, 9, 2, 0, 5)), Ok((0, false)));
    let record = b.log.records.last().unwrap();
    let Logged::Append { log, pos: 0, count: 5, max_ts_ms: 77, attrs, body } = &record[1] else {
        panic!("{record:?}")
    };
    assert_eq!((log, body.as_slice()), (&p, &b"\x01\x01\x01!"[..]));
    let meta = BatchMeta { producer: 9, epoch: 2, first_seq: 0, records: 5, flags: 3 };
    assert_eq!(attrs::decode(attrs).unwrap(), Attrs::Batch { meta, leader_epoch: 1, append_ms: 1_000_000 });
    // The first append of an opening says in which epoch the offsets begin; the others need not.
    assert!(matches!(&record[0], Logged::Effect { .. }));
    b.one(single(p)).unwrap();
    assert_eq!(b.log.records.last().unwrap().len(), 1);
}

#[test]
fn one_of_the_last_five_batches_is_answered_with_its_first_offset() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    for i in 0..6_i32 {
        assert_eq!(b.one(batch(p, 1, 0, i * 2, 2)), Ok((i as u64 * 2, false)));
    }
    let records = b.log.records.len();
    assert_eq!(b.one(batch(p, 1, 0, 2, 2)), Ok((2, true)));
    assert_eq!(b.one(batch(p, 1, 0, 10, 2)), Ok((10, true)));
    // The sixth last is no longer known, and another extent is not the same batch.
    assert_eq!(b.one(batch(p, 1, 0, 0, 2)), Err(AppendError::OutOfSequence { expected: 12, got: 0 }));
    assert_eq!(b.one(batch(p, 1, 0, 10, 1)), Err(AppendError::OutOfSequence { expected: 12, got: 10 }));
    assert_eq!(b.log.records.len(), records);
}

#[test]
fn a_duplicate_waits_for_the_record_last_sequenced() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    b.one(batch(p, 1, 0, 0, 1)).unwrap();
    b.one(single(p)).unwrap();
    let again = ask(&mut b.engine, &mut b.log, b.now, Op::Append(vec![batch(p, 1, 0, 0, 1)]));
    assert_eq!(again.wait, Lsn(3));
}

#[test]
fn sequences_wrap_and_gaps_are_refused() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    // What is known of a producer may have expired: any number begins.
    assert_eq!(b.one(batch(p, 1, 0, i32::MAX - 1, 3)), Ok((0, false)));
    assert_eq!(b.one(batch(p, 1, 0, 2, 1)), Err(AppendError::OutOfSequence { expected: 1, got: 2 }));
    assert_eq!(b.one(batch(p, 1, 0, 1, 1)), Ok((3, false)));
    assert_eq!(b.one(batch(p, 1, 0, i32::MAX - 1, 3)), Ok((0, true)));
    assert_eq!(b.one(batch(p, 2, 0, i32::MAX, 1)), Ok((4, false)));
    assert_eq!(b.one(batch(p, 2, 0, 0, 1)), Ok((5, false)));
}

#[test]
fn a_newer_epoch_fences_and_begins_at_zero() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    b.one(batch(p, 1, 3, 0, 1)).unwrap();
    assert_eq!(b.one(batch(p, 1, 2, 1, 1)), Err(AppendError::Fenced { current: 3, got: 2 }));
    assert_eq!(b.one(batch(p, 1, 4, 1, 1)), Err(AppendError::OutOfSequence { expected: 0, got: 1 }));
    assert_eq!(b.one(batch(p, 1, 4, 0, 1)), Ok((1, false)));
    assert_eq!(b.one(batch(p, 1, 3, 0, 1)), Err(AppendError::Fenced { current: 4, got: 3 }));
}

#[test]
fn appends_of_one_record_see_those_before_them() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    let items = vec![
        batch(p, 1, 0, 0, 2),
        batch(LogId(4), 1, 0, 0, 2),
        batch(p, 1, 0, 2, 1),
        batch(p, 1, 0, 0, 2),
        batch(p, 1, 0, 9, 1),
        single(p),
    ];
    let got: Vec<_> = b.append(items).into_iter().map(|r| r.map(|a| (a.base, a.duplicate))).collect();
    let gap = Err(AppendError::OutOfSequence { expected: 3, got: 9 });
    assert_eq!(
        got,
        [Ok((0, false)), Err(AppendError::Gone), Ok((2, false)), Ok((0, true)), gap, Ok((3, false))]
    );
    assert_eq!(b.log.records.len(), 2);
}

#[test]
fn a_transaction_with_one_refusal_does_nothing() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    let tx = Transact { appends: vec![single(p), single(LogId(1))], ..Transact::default() };
    let Reply::Transact(got) = b.ask(Op::Transact(Box::new(tx))) else { panic!() };
    assert_eq!(got, Err(TransactError::Append { index: 1, error: AppendError::Gone }));
    assert_eq!((b.log.records.len(), b.one(single(p))), (1, Ok((0, false))));
}

#[test]
fn changes_of_the_catalogue_are_all_or_nothing() {
    let mut b = Bench::new();
    b.topic("a", 1, 2);
    let version = b.engine.snapshot().version;
    let both = vec![create("b", 2, 1), create("a", 3, 1)];
    assert_eq!(b.change(both), Err(CatalogueError::Exists { name: "a".to_owned() }));
    assert_eq!((b.engine.snapshot().version, b.log.records.len()), (version, 1));
    let add = |total| Change::AddPartitions { uuid: [1; 16], total };
    assert_eq!(b.change(vec![add(2)]), Err(CatalogueError::NotMore { current: 2 }));
    assert_eq!(b.change(vec![add(70_000)]), Err(CatalogueError::TooMany { max: 65_536 }));
    assert_eq!(b.change(vec![create("", 4, 1)]), Err(CatalogueError::InvalidName));
    let alter = Change::AlterTopic { uuid: [1; 16], expect: 7, settings: BTreeMap::new() };
    assert_eq!(b.change(vec![alter]), Err(CatalogueError::Version { current: 1 }));
    let first = b.view(b.engine.snapshot().by_uuid[&[1; 16]].def.log(0).unwrap());
    assert_eq!(b.change(vec![add(3)]).unwrap()[0].partitions.len(), 3);
    let topic = Arc::clone(&b.engine.snapshot().by_uuid[&[1; 16]]);
    assert!(Arc::ptr_eq(&topic.partitions[0], &first), "what was there is shared");
}

#[test]
fn a_topic_made_again_under_the_same_name_begins_empty() {
    let mut b = Bench::new();
    let old = b.topic("a", 1, 1);
    b.one(batch(old, 1, 0, 0, 4)).unwrap();
    b.durable();
    let view = b.view(old);
    b.change(vec![Change::DeleteTopic { uuid: [1; 16] }, create("a", 2, 1)]).unwrap();
    assert!(view.is_gone());
    assert_eq!(b.one(single(old)), Err(AppendError::Gone));
    let new = b.engine.snapshot().by_uuid[&[2; 16]].def.log(0).unwrap();
    assert_ne!(old, new);
    assert_eq!(b.one(batch(new, 1, 0, 0, 1)), Ok((0, false)));
    b.durable();
    b.reopen();
    assert_eq!(b.engine.snapshot().by_log.keys().collect::<Vec<_>>(), [&new]);
    assert_eq!(b.view(new).visible_end(), 1);
}

struct Count(AtomicUsize);
impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn what_is_appended_shows_when_it_is_durable_and_wakes_who_waits() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waiter = Waiter::new(Waker::from(Arc::clone(&count)));
    let view = b.view(p);
    view.register(&waiter);
    b.one(batch(p, -1, -1, -1, 3)).unwrap();
    b.one(single(p)).unwrap();
    assert_eq!((view.visible_end(), waiter.is_woken()), (0, false));
    b.engine.durable(Lsn(2));
    assert_eq!((view.visible_end(), count.0.load(Ordering::SeqCst)), (3, 1));
    b.engine.durable(Lsn(3));
    assert_eq!((view.visible_end(), count.0.load(Ordering::SeqCst)), (4, 1));
}

#[test]
fn a_trim_stays_below_the_visible_end_and_shows_when_durable() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    b.one(batch(p, -1, -1, -1, 5)).unwrap();
    let trim = |before| Op::Trim { part: p, before };
    assert!(matches!(b.ask(trim(1)), Reply::Trim(Err(AppendError::PastEnd { end: 0 }))));
    b.durable();
    assert!(matches!(b.ask(trim(6)), Reply::Trim(Err(AppendError::PastEnd { end: 5 }))));
    assert!(matches!(b.ask(trim(4)), Reply::Trim(Ok(4))));
    let records = b.log.records.len();
    assert!(matches!(b.ask(trim(3)), Reply::Trim(Ok(4))));
    assert_eq!((b.log.records.len(), b.view(p).start()), (records, 0));
    b.durable();
    assert_eq!(b.view(p).start(), 4);
}

#[test]
fn leader_epochs_end_where_the_next_one_began() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    b.one(batch(p, -1, -1, -1, 5)).unwrap();
    b.durable();
    assert_eq!(b.view(p).epoch_end(1), Some((1, 5)));
    assert_eq!(b.view(p).epoch_end(2), None);
    b.reopen();
    b.reopen();
    assert_eq!((b.view(p).leader_epoch(), b.view(p).epoch_end(3)), (3, Some((3, 5))));
    assert_eq!(b.view(p).epoch_end(1), Some((1, 5)));
    b.one(single(p)).unwrap();
    b.durable();
    assert_eq!(b.view(p).epoch_end(3), Some((3, 6)));
    assert_eq!(
        b.view(p).epoch_end(2),
        Some((1, 5)),
        "an epoch that wrote nothing ends where the one before it did"
    );
    assert_eq!((b.view(p).epoch_of(4), b.view(p).epoch_of(5)), (Some(1), Some(3)));
    b.ask(Op::Trim { part: p, before: 5 });
    b.durable();
    assert_eq!(b.view(p).epoch_end(1), Some((1, 5)), "before all that is known: up to the first known one");
}

#[test]
fn producer_ids_are_never_given_twice() {
    let mut b = Bench::new();
    let mut ids = Vec::new();
    for _ in 0..2 {
        for _ in 0..2 {
            let Reply::Producer { id, epoch: 0 } = b.ask(Op::InitProducer) else { panic!() };
            ids.push(id);
        }
        b.reopen();
    }
    assert_eq!(ids, [0, 1, 2, 3]);
}

#[test]
fn an_idle_producer_is_forgotten_once_there_is_room_for_the_record() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    b.one(batch(p, 1, 0, 0, 1)).unwrap();
    let day = 24 * 3_600_000;
    assert_eq!(b.engine.next_timer(), Some(b.now.mono_ms + day));
    b.now = Now { wall_ms: b.now.wall_ms + day / 2, mono_ms: b.now.mono_ms + day / 2 };
    b.one(batch(p, 1, 0, 1, 1)).unwrap();
    let tick = |b: &mut Bench, ms: u64| {
        b.now = Now { wall_ms: b.now.wall_ms + ms, mono_ms: b.now.mono_ms + ms };
        let before = b.log.records.len();
        b.engine.tick(b.now, &mut b.log, &mut Effects::default());
        b.log.records.len() - before
    };
    assert_eq!(tick(&mut b, day / 2), 0, "it appended meanwhile");
    b.log.room = false;
    assert_eq!(tick(&mut b, day / 2), 0, "no room");
    assert!(b.engine.next_timer().unwrap() > b.now.mono_ms);
    b.log.room = true;
    assert_eq!(tick(&mut b, 10), 1);
    assert_eq!(b.engine.next_timer(), None);
    assert_eq!(b.one(batch(p, 1, 0, 7, 1)), Ok((2, false)));
}

#[test]
fn a_clock_that_was_set_back_keeps_a_producer_no_longer_than_its_span() {
    let mut b = Bench::new();
    let p = b.topic("a", 1, 1);
    b.one(batch(p, 1, 0, 0, 1)).unwrap();
    b.now.wall_ms = 1_000;
    b.reopen();
    let day = 24 * 3_600_000;
    b.now = Now { wall_ms: b.now.wall_ms + day, mono_ms: b.now.mono_ms + day };
    b.engine.tick(b.now, &mut b.log, &mut Effects::default());
    let Reply::Producers(Ok(left)) = b.ask(Op::DescribeProducers(p)) else { panic!() };
    assert_eq!(left, []);
}

#[test]
fn rows_that_cannot_be_read_are_an_error_and_nothing_is_served() {
    use millstream_log::Replay;
    let store = FakeStore::default();
    for (object, bytes) in
        [(&[0x10_u8, 1][..], &[1_u8][..]), (&[0x77], &[1]), (&[], &[]), (&[0x01, 1], &[9; 9])]
    {
        let mut e = Engine::new(EngineConfig::default());
        e.begin(store.reader(), millstream_types::Epoch(1));
        e.effect(Lsn(1), object, bytes);
        e.record_end(Lsn(1));
        assert!(e.serve(Now::default()).is_err());
    }
}

#[test]
fn ten_thousand_partitions_keep_the_catalogue_shared() {
    let mut b = Bench::new();
    b.topic("big", 1, 10_000);
    let before = b.engine.snapshot();
    b.topic("small", 2, 1);
    let after = b.engine.snapshot();
    assert!(Arc::ptr_eq(&before.by_uuid[&[1; 16]], &after.by_uuid[&[1; 16]]));
    assert_eq!((before.by_log.len(), after.by_log.len()), (10_000, 10_001));
    // Consecutive ids are written as runs.
    let written: usize = b.log.records[0]
        .iter()
        .map(|op| match op {
            Logged::Effect { object, bytes } => object.len() + bytes.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert!(written < 200, "{written}");
}
